"""Sequences: the laws they obey, and the distributions of the 2022 release."""

import collections
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icl_jax.data import classes as cl
from icl_jax.data.arrangement import copy_exemplar, draw_exemplars
from icl_jax.data.banks import load_bank
from icl_jax.data.draws import below, distinct_below, permutation
from icl_jax.data.sequences import sample, sample_suite, statistics
from icl_jax.data.source import exemplar_source
from icl_jax.data.types import DISTRACTOR, QUERY, REMAINDER, SUPPORT
from icl_jax.data.vocab import make_vocab
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import BankSpec, RunSpec, SuiteSpec, TaskSpec, hyper_defaults

NUM_CLASSES = 200
NUM_RARE, NUM_TRAIN = 180, 190
EXPONENTS = (0.0, 1.0, 2.0)
RELEASE = TaskSpec(num_common=10, num_holdout=10, distinct_ways=False)
TRACES = collections.Counter()  # how often the program of a task was traced
LAWS = TaskSpec(num_common=10, num_holdout=10, max_ways=4, num_labels=16)


def draw_many(task, hypers, count, suite=None, seed=0, num_exemplars=20):
    """Draws `count` sequences per member. hypers: {name: number or one number per member}."""
    vocab = make_vocab(task, NUM_CLASSES, 5)
    order = cl.class_order(NUM_CLASSES, 1, 1337)
    num_members = max(np.size(v) for v in hypers.values())
    h = {n: jnp.broadcast_to(jnp.asarray(v, jnp.float32), (num_members,)) for n, v in hypers.items()}
    return _program(task, vocab, count, suite, num_exemplars)(order, h, jnp.uint32(seed))


@functools.cache
def _program(task, vocab, count, suite, num_exemplars):
    groups = np.arange(NUM_CLASSES, dtype=np.int32) % 5

    def member(order, h, seed):
        TRACES[task] += 1
        h = hyper_defaults() | h
        tables = cl.prepare(task, vocab, order, groups, h)
        if suite is None:
            one = lambda key: sample(task, vocab, tables, h, key, num_exemplars)
        else:
            one = lambda key: sample_suite(task, suite, vocab, tables, h, key, num_exemplars, num_exemplars - 5)
        return jax.vmap(one)(fold_each(stream_key(seed, "train"), 0, count)), tables

    return jax.jit(jax.vmap(member, in_axes=(None, 0, None)))


def member(tree, i):
    return jax.tree.map(lambda x: np.asarray(x[i]), tree)


def same_distribution(ours, theirs):
    """p value that two samples of category ids have one distribution (categories under 20 are pooled)."""
    _, ids = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    table = np.stack([np.bincount(part, minlength=ids.max() + 1) for part in np.split(ids, [len(ours)])])
    small = table.sum(0) < 20
    table = np.concatenate([table[:, ~small], table[:, small].sum(1, keepdims=True)], axis=1)
    table = table[:, table.sum(0) > 0]
    return 1.0 if table.shape[1] < 2 else stats.chi2_contingency(table)[1]


# The distributions of the 2022 release

TRAINING = {  # setting: (task, hypers)
    **{f"bursty_p{p}_zipfian_core": (RELEASE, {"p_bursty": float(p)}) for p in ("0", "0.5", "0.9", "1")},
    # The release shuffles its groups away: what it draws is what we draw without `grouped`.
    "bursty_p1_grouped": (RELEASE, {"p_bursty": 1.0, "shots": 4.0}),
    "bursty_p0.9_rare_core": (
        dataclasses.replace(RELEASE, core_labels="dynamic", non_bursty="common_uniform"),
        {"p_bursty": 0.9, "p_bursty_zipfian": 0.0},
    ),
    "bursty_p0.9_half_common_core": (
        dataclasses.replace(RELEASE, non_bursty="common_no_support"),
        {"p_bursty": 0.9, "p_bursty_zipfian": 0.0, "p_bursty_common": 0.5},
    ),
    "bursty_p0.9_multiplicity5": (
        dataclasses.replace(RELEASE, max_multiplicity=5, multiplicity_by="slot"),
        {"p_bursty": 0.9, "multiplicity": 5.0},
    ),
}
TRAINED = ("rare", "common", "zipfian")
FEWSHOT = SuiteSpec(labels="first", distinct_ways=False)
SUITES = {
    **{f"fewshot_{c}": dataclasses.replace(FEWSHOT, classes=c) for c in ("rare", "common", "zipfian", "holdout")},
    **{f"no_support_{c}": SuiteSpec(kind="no_support", classes=c) for c in ("rare", "common", "zipfian")},
    "no_support_zipfian_all_unique": SuiteSpec(kind="no_support", classes="zipfian", unique=True),
}


@pytest.fixture(scope="module", params=["sequences", "large/sequences"])
def golden(request, chan2022):
    return np.load(chan2022(request.param))


def golden_draws(golden, setting):
    """Returns (classes as positions in the order, labels) of a setting."""
    position = np.argsort(golden["zipf0/class_order"])
    return position[golden[f"{setting}/class_id"]], golden[f"{setting}/label"].astype(int)


def position_bins(classes):
    """Bins in which each of the frequent last classes is one."""
    edges = np.concatenate([np.arange(0, 170, 17), [170, 176, 180, 182, 184, 186, 187, 188, 189, 190, 193, 196]])
    return np.searchsorted(edges, classes, side="right")


def class_features(classes):
    """Category ids of each sequence, by name, from classes (N, n+1)."""
    context, query = classes[:, :-1], classes[:, -1:]
    ordered = np.sort(context, axis=1)
    return {
        "query position": position_bins(query[:, 0]),
        "first position": position_bins(context[:, 0]),
        "last context position": position_bins(context[:, -1]),
        "query's class in context": (context == query).sum(1),
        "context classes": 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1),
        "most of one class": np.max([(context == context[:, [i]]).sum(1) for i in range(context.shape[1])], axis=0),
        "equal neighbours": (context[:, 1:] == context[:, :-1]).sum(1),
        "rare items": (classes < NUM_RARE).sum(1),
        "held-out items": (classes >= NUM_TRAIN).sum(1),
    }


def label_features(classes, labels):
    context, target = labels[:, :-1], labels[:, -1:]
    ordered = np.sort(context, axis=1)
    return {
        "own labels": (labels == classes).sum(1),
        "target shown": (context == target).sum(1),
        "labels shown": 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1),
        "target": position_bins(target[:, 0]),
        "first label": position_bins(context[:, 0]),
    }


def check_features(ours, theirs):
    for name in theirs:
        p = same_distribution(ours[name], theirs[name])
        assert p > 1e-3, f"{name}: p = {p:.2g}"


def check_golden(golden, setting, draws, with_labels=True):
    for i, exponent in enumerate(EXPONENTS):
        ours = member(draws, i)
        classes, labels = golden_draws(golden, f"{setting}_zipf{exponent:.0f}")
        check_features(class_features(ours.classes), class_features(classes))
        if with_labels:
            check_features(label_features(ours.classes, ours.labels), label_features(classes, labels))


@pytest.mark.parametrize("setting", TRAINING)
def test_training_sequences_have_the_distribution_of_the_release(golden, setting):
    task, hypers = TRAINING[setting]
    draws, _ = draw_many(task, {**hypers, "zipf_exponent": EXPONENTS}, 6000)
    # The release gives common classes labels outside its own table when several labels belong to a class.
    check_golden(golden, setting, draws, with_labels=task.max_multiplicity == 1)


@pytest.mark.parametrize("setting", SUITES)
def test_eval_sequences_have_the_distribution_of_the_release(golden, setting):
    draws, _ = draw_many(RELEASE, {"zipf_exponent": EXPONENTS}, 6000, SUITES[setting])
    check_golden(golden, setting, draws)


def test_mixed_sequences_have_the_distribution_of_the_release(golden):
    task = dataclasses.replace(RELEASE, kind="mixed", core_labels="dynamic")
    draws, _ = draw_many(task, {"p_fewshot": 0.3, "shots": 4.0}, 6000)
    ours, (classes, labels) = member(draws, 0), golden_draws(golden, "mixed_p0.3")
    check_features(class_features(ours.classes), class_features(classes))
    check_features(label_features(ours.classes, ours.labels), label_features(classes, labels))


def rare_multiples(classes, labels, multiplicity=5):
    """Of the bursty sequences: which of its labels a rare class shows, and how many it shows at once."""
    within = (labels // multiplicity == classes) & (classes < NUM_RARE)
    first = within[:, :-1] & (classes[:, :-1] == classes[:, [0]])
    picks = labels % multiplicity
    shown = np.stack([(first & (picks[:, :-1] == k)).any(1) for k in range(multiplicity)]).sum(0)
    return {
        "pick": picks[within][::9],
        "labels of one class": np.where(within[:, 0], 10 * first.sum(1) + shown, -1),
        "query agrees": np.where(within[:, -1], ((labels[:, :-1] == labels[:, -1:]) & within[:, :-1]).sum(1), -1),
    }


def test_rare_classes_show_their_labels_as_in_the_release(golden):
    task, hypers = TRAINING["bursty_p0.9_multiplicity5"]
    draws, _ = draw_many(task, {**hypers, "zipf_exponent": EXPONENTS}, 6000)
    for i, exponent in enumerate(EXPONENTS):
        ours = member(draws, i)
        classes, labels = golden_draws(golden, f"bursty_p0.9_multiplicity5_zipf{exponent:.0f}")
        bursty = (labels // 5 == classes).all(1)  # elsewhere the release knows no multiplicity
        theirs = rare_multiples(classes[bursty], labels[bursty])
        core = (ours.roles == SUPPORT).any(1)
        check_features(rare_multiples(ours.classes[core], ours.labels[core]), theirs)


def test_class_order_and_frequencies_are_those_of_the_release(golden):
    vocab, order = make_vocab(RELEASE, NUM_CLASSES), cl.class_order(NUM_CLASSES, 1, 1337)
    for exponent in EXPONENTS:
        np.testing.assert_array_equal(golden[f"zipf{exponent:.0f}/class_order"], order)
        h = hyper_defaults() | {"zipf_exponent": exponent}
        tables = cl.prepare(RELEASE, vocab, order, np.zeros(NUM_CLASSES, np.int32), h)
        weights = golden[f"zipf{exponent:.0f}/weights"]
        np.testing.assert_allclose(np.diff(tables.cdf, prepend=0), weights, atol=2e-7)
        np.testing.assert_allclose(np.diff(tables.units, prepend=0) / cl.ZIPF_UNITS, weights, atol=3e-7)


# Laws of single draws


@pytest.fixture(scope="module")
def laws():
    """Bursty sequences with 4 distinct ways at three settings of the traced numbers."""
    hypers = {
        "p_bursty": 0.8,
        "zipf_exponent": np.array([0.0, 1.0, 3.0]),
        "ways": np.array([2.0, 3.0, 4.0]),
        "shots": np.array([3.0, 2.0, 1.0]),
        "num_classes": np.array([0.0, 60.0, 24.0]),
    }
    return draw_many(LAWS, hypers, 3000), hypers


def test_below_is_the_high_word_of_the_exact_product():
    words = np.array([0, 1, 2**16 - 1, 2**16, 2**31 + 12345, 2**32 - 1], np.uint32)
    for n in (1, 2, 7, 2**16, 2**16 + 1, cl.ZIPF_UNITS - 13, 2**31 - 1):
        expected = [int(w) * n >> 32 for w in words]
        np.testing.assert_array_equal(below(jnp.asarray(words), jnp.int32(n)), expected)


def test_permutations_and_distinct_integers_are_uniform():
    words = jax.random.bits(jax.random.key(0), (12000, 8), jnp.uint32)
    perms = np.asarray(jax.vmap(lambda w: permutation(w, jnp.zeros(4, jnp.int32)))(words[:, :4]))
    drawn = np.asarray(jax.vmap(lambda w: distinct_below(w, jnp.int32(4)))(words[:, 4:7]))
    for rows, count in ((perms @ [64, 16, 4, 1], 24), (drawn @ [16, 4, 1], 24)):
        _, counts = np.unique(rows, return_counts=True)
        assert len(counts) == count
        assert stats.chisquare(counts)[1] > 1e-3


def test_blocks_stay_together_in_the_class_order():
    order = cl.class_order(160, 8, 3).reshape(20, 8)
    assert sorted(order.ravel()) == list(range(160))
    assert (order // 8 == order[:, :1] // 8).all()
    assert (np.diff(order, axis=1) == 1).all()
    with pytest.raises(ValueError, match="8 do not divide 12"):
        cl.class_order(12, 8, 0)


@pytest.fixture(scope="module")
def distinct_triples():
    """Three distinct ones of 6 classes, 20,000 times, by exponent."""
    task = TaskSpec(num_holdout=0, max_classes=6)
    words = jax.random.bits(jax.random.key(1), (20000, 3, 1), jnp.uint32)

    @jax.jit
    def draw(exponent):
        h = hyper_defaults() | {"zipf_exponent": exponent}
        tables = cl.prepare(task, make_vocab(task, 6), jnp.arange(6), jnp.zeros(6, jnp.int32), h)
        return jax.vmap(lambda w: cl.draw_distinct(tables, cl.zipf_pool(tables), w))(words)

    return lambda exponent: np.asarray(draw(exponent))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 4.0])
def test_distinct_draws_follow_the_renormalised_frequencies(distinct_triples, exponent):
    drawn = distinct_triples(exponent)
    weight = np.arange(6, 0, -1.0) ** -exponent
    weight /= weight.sum()
    triples = np.array([t for t in np.ndindex(6, 6, 6) if len(set(t)) == 3])
    a, b, c = weight[triples].T
    expected = 20000 * a * b / (1 - a) * c / (1 - a - b)
    counts = np.array([(drawn == t).all(1).sum() for t in triples])
    assert counts.sum() == 20000
    usual = expected > 5
    pooled = [np.append(x[usual], x[~usual].sum() + 1e-6) for x in (counts, expected)]
    assert stats.chisquare(*pooled)[1] > 1e-3


def test_distinct_draws_stay_distinct_when_one_class_has_all_the_mass(distinct_triples):
    drawn = np.sort(distinct_triples(40.0), axis=1)
    assert (np.diff(drawn, axis=1) > 0).all() and drawn.min() >= 0 and drawn.max() == 5


def test_ways_are_distinct_and_the_traced_numbers_hold(laws):
    (draws, tables), hypers = laws
    for i in range(3):
        s, num_train = member(draws, i), int(hypers["num_classes"][i]) or NUM_TRAIN
        ways, shots = int(hypers["ways"][i]), int(hypers["shots"][i])
        assert s.classes.min() >= 0 and s.classes.max() < num_train
        assert int(tables.num_train[i]) == num_train
        core = (s.roles == SUPPORT) | (s.roles == DISTRACTOR)
        bursty = core.any(1)
        assert abs(bursty.mean() - 0.8) < 0.03
        assert (core[bursty].sum(1) == ways * shots).all()
        for row, mask in zip(s.classes[bursty], core[bursty], strict=True):
            _, counts = np.unique(row[mask], return_counts=True)
            assert (counts == shots).all() and len(counts) == ways
        assert ((s.roles == SUPPORT).sum(1)[bursty] == shots).all()
        assert (s.roles[:, -1] == QUERY).all() and (s.roles[~bursty, :-1] == REMAINDER).all()


def test_one_trace_serves_all_traced_numbers(laws):
    _, hypers = laws
    before = TRACES[LAWS]
    others = {name: np.asarray(value) * 0.5 for name, value in hypers.items()}
    draw_many(LAWS, others, 3000)
    assert TRACES[LAWS] == before > 0


def test_a_population_draws_what_its_members_draw_alone(laws):
    (draws, _), hypers = laws
    for i in range(3):
        alone, _ = draw_many(LAWS, {n: np.atleast_1d(v)[i if np.size(v) > 1 else 0] for n, v in hypers.items()}, 3000)
        for ours, single in zip(jax.tree.leaves(member(draws, i)), jax.tree.leaves(member(alone, 0)), strict=True):
            np.testing.assert_array_equal(ours, single)


def test_splitting_a_batch_changes_nothing(laws):
    """What `fold_each` gives for a part of a batch is that part of the whole batch's keys."""
    key = stream_key(0, "train", 5)
    whole, part = fold_each(key, 0, 8), fold_each(key, 4, 4)
    np.testing.assert_array_equal(jax.random.key_data(whole)[4:], jax.random.key_data(part))


def test_exemplars_of_a_class_are_distinct_and_uniform(laws):
    (draws, _), _ = laws
    s = member(draws, 1)
    for classes, exemplars in zip(s.classes, s.exemplars, strict=True):
        pairs = set(zip(classes.tolist(), exemplars.tolist(), strict=True))
        assert len(pairs) == len(classes)
    for position in (0, 4, 8):
        assert stats.chisquare(np.bincount(s.exemplars[:, position], minlength=20))[1] > 1e-3


def test_exemplars_are_exact_draws_without_replacement_and_start_again():
    words = jax.random.bits(jax.random.key(2), (12000, 5), jnp.uint32)
    classes = jnp.array([7, 3, 7, 7, 7])
    drawn = np.asarray(jax.vmap(lambda w: draw_exemplars(classes, 3, w))(words))
    mine = drawn[:, [0, 2, 3]]
    assert (np.sort(mine, axis=1) == [0, 1, 2]).all()
    _, counts = np.unique(mine @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts)[1] > 1e-3
    table = stats.contingency.crosstab(drawn[:, 4], drawn[:, 1] * 3 + drawn[:, 0]).count
    assert stats.chi2_contingency(table)[1] > 1e-3  # the fourth drawing of the class starts a new round
    assert (np.asarray(draw_exemplars(classes, 1, words[0])) == 0).all()


def test_a_copied_query_repeats_an_exemplar_of_the_context():
    classes, exemplars = jnp.array([4, 9, 4, 9]), jnp.array([3, 5, 6, 7])
    np.testing.assert_array_equal(copy_exemplar(classes, exemplars, jnp.bool_(True)), [3, 5, 6, 5])
    np.testing.assert_array_equal(copy_exemplar(classes, exemplars, jnp.bool_(False)), [3, 5, 6, 7])
    alone = jnp.array([4, 9, 4, 1])
    np.testing.assert_array_equal(copy_exemplar(alone, exemplars, jnp.bool_(True)), [3, 5, 6, 7])


def test_a_copied_query_is_the_same_item_of_the_gaussian_bank():
    spec = RunSpec(BankSpec("gaussian", num_classes=24, dim=8), TaskSpec(num_holdout=8, max_classes=16))
    bank = load_bank(spec.bank)
    source = exemplar_source(spec, bank, make_vocab(spec.task, 24))

    @jax.jit
    def draw(p_copy):
        h = hyper_defaults() | {"noise_scale": 1.0, "p_copy": p_copy}
        tables = source.prepare(jnp.arange(24), h)
        seqs = source.sequences(tables, h, jnp.uint32(0), 0, 0, 500)
        return source.items(tables, bank.arrays, h, seqs), seqs.classes

    for p_copy in (0.0, 1.0):
        items, classes = (np.asarray(x) for x in draw(p_copy))
        shown = (classes[:, :-1] == classes[:, -1:]).any(1)
        copies = (items[:, :-1] == items[:, -1:]).all(2).sum(1)
        np.testing.assert_array_equal(copies, p_copy * shown)
        assert len(np.unique(items[:, :-1].reshape(-1, 8), axis=0)) == 4000  # everything else is drawn anew


def test_groups_hold_every_way_once():
    task = dataclasses.replace(LAWS, grouped=True)
    ways, shots = np.array([2, 3, 4]), np.array([3, 2, 2])
    draws, _ = draw_many(task, {"p_bursty": 1.0, "ways": ways, "shots": shots}, 2000)
    for i in range(3):
        groups = member(draws, i).classes[:, : ways[i] * shots[i]].reshape(2000, shots[i], ways[i])
        assert (np.diff(np.sort(groups, axis=2), axis=2) > 0).all()
        agree = (groups[:, 0] == groups[:, 1]).all(1).mean()
        assert abs(agree - 1 / {2: 2, 3: 6, 4: 24}[ways[i]]) < 0.045  # orders of groups are independent


def test_training_without_support_and_fresh_classes():
    task = dataclasses.replace(LAWS, kind="no_support")
    s = member(draw_many(task, {"zipf_exponent": 2.0}, 2000)[0], 0)
    assert not (s.classes[:, :-1] == s.classes[:, -1:]).any()
    task = dataclasses.replace(LAWS, fresh=True)
    s = member(draw_many(task, {"p_fresh": 0.5, "ways": 4.0, "shots": 2.0, "p_bursty": 1.0}, 3000)[0], 0)
    fresh = (s.classes < 0).all(1)
    assert abs(fresh.mean() - 0.5) < 0.04 and (s.classes[~fresh] >= 0).all()
    np.testing.assert_array_equal(
        np.sort(s.classes[fresh, :-1], axis=1), [[-4, -4, -3, -3, -2, -2, -1, -1]] * fresh.sum()
    )
    for row, labels in zip(s.classes[fresh][:300], s.labels[fresh], strict=False):
        assert len(set(zip(row.tolist(), labels.tolist(), strict=True))) == 4
    assert stats.chisquare(np.bincount(s.labels[fresh, -1], minlength=16))[1] > 1e-3
    assert (s.own_label[fresh] == -1).all()


def test_statistics_are_those_of_the_sequences(laws):
    (draws, tables), _ = laws
    found = statistics(LAWS, None, member(tables, 0), member(draws, 0))
    s = member(draws, 0)
    assert found["p_class_in_context"] == pytest.approx((s.classes[:, :-1] == s.classes[:, -1:]).any(1).mean())
    assert found["share_rare"] + found["share_common"] == pytest.approx(1.0)
    frequencies = np.sort(np.bincount(s.classes.ravel()) / s.classes.size)[::-1]
    np.testing.assert_allclose(found["top_class_shares"], frequencies[:10], atol=1e-6)
    assert found["class_entropy_bits"] == pytest.approx(stats.entropy(frequencies, base=2))
    assert found["p_support_in_core"] == pytest.approx(0.8, abs=0.03)
    assert 3.9 < found["label_entropy_bits"] <= found["max_label_entropy_bits"] == 4.0


# Refusals

SYMBOLS = types.SimpleNamespace(name="symbols", num_classes=NUM_CLASSES, item_kind="symbol")


@pytest.mark.parametrize(
    ("task", "hypers", "message"),
    [
        ({"max_classes": 180, "num_holdout": 100}, {}, r"180 .* \+ 100 held out = 280 > 200 .* lower"),
        ({"num_holdout": 200}, {}, "leaves none of the bank's 200"),
        ({}, {"num_classes": 150}, "num_classes 150 > 100"),
        ({"num_common": 30}, {"num_classes": 20}, "num_common 30 > 20"),
        ({}, {"ways": 3}, "ways 3 > task.max_ways 2"),
        ({}, {"shots": 5}, "ways 2 x shots 5 = 10 > context_len 8; lower ways or shots"),
        ({"core_classes": "common", "num_common": 1}, {}, "2 distinct ways cannot be drawn from 1 common"),
        ({"core_classes": "common"}, {}, "needs common classes"),
        ({}, {"p_bursty_zipfian": 0.5}, "remainder beside a core of rare classes needs common classes"),
        ({"num_common": 9}, {"p_bursty_zipfian": 0.8, "p_bursty_common": 0.4}, "0.8 .* 0.4 > 1"),
        ({"non_bursty": "common_uniform"}, {}, "common_uniform.* needs common"),
        ({}, {"multiplicity": 2}, "multiplicity 2 > task.max_multiplicity 1"),
        ({"max_multiplicity": 2, "num_labels": 32}, {}, "num_labels 32 < 200"),
        ({"core_labels": "symbols"}, {}, "num_symbols 0 < ways 2"),
        ({"core_labels": "dynamic", "num_labels": 1}, {}, "dynamic labels 0 to 1 need 2"),
        ({}, {"p_fresh": 0.5}, "p_fresh 0.5 needs task.fresh=True"),
        ({"fresh": True}, {"p_fresh": 0.5}, "fresh classes need bank 'gaussian', the bank is 'symbols'"),
        ({"random_rare": True}, {}, "random_rare needs a bank of images"),
        ({"kind": "burst"}, {}, "did you mean 'bursty'"),
        ({"loss": "last"}, {}, "unknown task.loss 'last'"),
        ({"context_len": 0}, {}, "task.context_len 0 must be at least 1"),
        ({"num_labels": -3}, {}, "task.num_labels -3 must be at least 0"),
        ({"num_symbols": -1}, {}, "task.num_symbols -1 must be at least 0"),
        ({"num_common": -1}, {}, "task.num_common -1 must be at least 0"),
        ({"num_holdout": -1}, {}, "task.num_holdout -1 must be at least 0"),
        ({"pixel_noise": True}, {}, "bank 'symbols' has symbols; set hypers.noise_scale to 0"),
        ({"core_classes": "holdout"}, {}, "'fixed': held-out classes have no label .* 'dynamic' or 'symbols'"),
        ({"core_classes": "holdout", "kind": "fewshot"}, {}, "'fixed': held-out classes have no label"),
        ({"core_classes": "holdout", "kind": "iid", "core_labels": "dynamic"}, {}, "'iid': held-out .* have no label"),
        ({"core_classes": "holdout", "kind": "no_support"}, {}, "'no_support': held-out classes have no label"),
    ],
)
def test_impossible_tasks_are_refused(task, hypers, message):
    with pytest.raises(ValueError, match=message):
        cl.validate_task(TaskSpec(**task), SYMBOLS, hypers)


def test_possible_tasks_are_accepted():
    cl.validate_task(TaskSpec(), SYMBOLS, hyper_defaults())
    for task, hypers in TRAINING.values():
        cl.validate_task(task, SYMBOLS, hypers)
    cl.validate_task(TaskSpec(), SYMBOLS, {"p_bursty": 0, "p_bursty_zipfian": 0})
    cl.validate_task(TaskSpec(kind="fewshot", core_classes="holdout", core_labels="dynamic"), SYMBOLS, {})


@pytest.mark.parametrize("name", ["gaussian", "embeddings"])
def test_vectors_may_be_noisy(name):
    vectors = types.SimpleNamespace(name=name, num_classes=NUM_CLASSES, item_kind="vector")
    cl.validate_task(TaskSpec(pixel_noise=True), vectors, {"noise_scale": 0.5})
