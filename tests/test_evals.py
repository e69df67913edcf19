"""Laws of suites, metrics and oracles: what each suite measures, checked with oracles as the models."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_jax.data.banks import load_bank
from icl_jax.data.source import Exemplars
from icl_jax.data.types import Sequence
from icl_jax.data.vocab import make_vocab
from icl_jax.evals import evaluate, metrics, oracles
from icl_jax.evals.suites import SUITES, describe, resolve_suites, validate_suites
from icl_jax.spec import BankSpec, EvalSpec, SuiteSpec, TaskSpec, hyper_defaults
from icl_jax.training.protocols import EvalContext

NUM = 256
NO_SUPPORT = {"kind": "no_support", "classes": "zipfian", "labels": "fixed", "answers": "all"}
BANK = BankSpec(name="gaussian", num_classes=70, num_exemplars=20, holdout_exemplars=5)
TASK = TaskSpec(context_len=8, num_common=10, num_holdout=10, max_multiplicity=2, fresh=True, num_symbols=4)
FACTS = {"name": "gaussian", "num_classes": 70, "num_exemplars": 20, "num_train_exemplars": 15}
VOCAB = make_vocab(TASK, 70)
NAMES = tuple(SUITES)
SPEC = EvalSpec(resolve_suites(NAMES), num_sequences=NUM, batch_size=64)
SOURCE = Exemplars(BANK, TASK, VOCAB, 20, 15, (0,) * 70, True)


def hypers(**changes):
    values = hyper_defaults() | {"zipf_exponent": 1.0} | changes
    return {name: jnp.float32(value) for name, value in values.items()}


def eval_set(spec, h, seed=0):
    tables = SOURCE.prepare(jnp.arange(70, dtype=jnp.int32), h)
    return evaluate.make_set(spec, SOURCE, tables, h, jnp.uint32(seed))


@pytest.fixture(scope="module")
def members():
    """Eval sets of two members, multiplicity 1 and 2, as one program."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), hypers(), hypers(multiplicity=2))
    return jax.jit(jax.vmap(lambda h: eval_set(SPEC, h)))(stacked)


@pytest.fixture(scope="module")
def accuracy(members):
    """Expected headline accuracy: oracle -> suite -> of the two members."""
    table = np.asarray(members.oracles)
    return {o: {s: table[:, i, j] for i, s in enumerate(NAMES)} for j, o in enumerate(oracles.ORACLES)}


def sequences_of(members, name, member=0):
    flat = jax.tree.map(lambda x: np.asarray(x[member]).reshape(len(NAMES), NUM, *x.shape[3:]), members.sequences)
    return jax.tree.map(lambda x: x[NAMES.index(name)], flat)


def sequence(classes, labels, own_label=-1, own_count=1):
    size = len(classes)
    return Sequence(
        classes=jnp.asarray(classes, jnp.int32),
        exemplars=jnp.zeros(size, jnp.int32),
        labels=jnp.asarray(labels, jnp.int32),
        own_label=jnp.int32(own_label),
        own_count=jnp.int32(own_count),
        roles=jnp.zeros(size, jnp.int8),
        task=jnp.int32(-1),
        key=jnp.zeros(2, jnp.uint32),
    )


def facts(size=8, active=6, prior=None, unseen=False):
    index = jnp.arange(size)
    labels = metrics.Labels(index < active, index < active - 2, (index >= active - 2) & (index < active))
    prior = jnp.ones(size) / size if prior is None else jnp.asarray(prior)
    return oracles.Facts(labels, index < active, prior, jnp.bool_(unseen))


# Metrics ---------------------------------------------------------------------------------------------


def test_inactive_labels_are_never_predicted_and_not_in_the_loss():
    logits = jnp.asarray([0.0, 1.0, 2.0, 0.5, 0.0, 0.0, 50.0, 50.0])
    scores = metrics.score_one(logits, sequence([4, 5, 4], [2, 1, 2]), facts().labels, jnp.int32(2), True)
    assert scores["accuracy_all"] == 1
    expected = np.log(np.exp(np.asarray(logits[:6])).sum()) - 2.0
    np.testing.assert_allclose(scores["loss"], expected, rtol=1e-6)


def test_where_predictions_fall():
    one = sequence([4, 5, 4], [2, 1, 2])
    score = lambda label: metrics.score_one(jax.nn.one_hot(label, 8), one, facts().labels, jnp.int32(2), True)
    kinds = ("pred_context", "pred_rare", "pred_common", "pred_first_ways")
    found = {label: [int(score(label)[k]) for k in kinds] for label in (0, 1, 2, 3, 5)}
    assert found == {0: [0, 1, 0, 1], 1: [1, 1, 0, 1], 2: [1, 1, 0, 0], 3: [0, 1, 0, 0], 5: [0, 0, 1, 0]}


def test_restricted_accuracy_looks_at_context_labels_only():
    logits = jnp.asarray([9.0, 1.0, 2.0, 9.0, 0.0, 0.0, 0.0, 0.0])
    one = sequence([4, 5, 4], [2, 1, 2])
    free, restricted = (metrics.score_one(logits, one, facts().labels, jnp.int32(2), r) for r in (False, True))
    assert free["accuracy"] == 0 and restricted["accuracy"] == 1
    hidden = metrics.score_one(logits, sequence([4, 5, 6], [2, 1, 0], 0), facts().labels, jnp.int32(2), True)
    assert np.isnan(hidden["accuracy_context"]) and hidden["accuracy_all"] == 1


def test_any_own_label_counts_only_where_the_class_is_not_shown():
    absent = sequence([4, 5, 6], [2, 1, 3], own_label=3, own_count=2)
    shown = sequence([6, 5, 6], [3, 1, 3], own_label=3, own_count=2)
    flipped = sequence([6, 5, 6], [1, 3, 1], own_label=3, own_count=2)
    right = lambda s: [int(x) for x in np.flatnonzero(metrics.is_right(s, jnp.arange(8)))]
    assert right(absent) == [3, 4] and right(shown) == [3] and right(flipped) == [1]


def test_expected_accuracy_of_a_sure_prediction_is_its_accuracy():
    key_logits, key_labels, key_classes = jax.random.split(jax.random.key(0), 3)
    logits = jax.random.normal(key_logits, (200, 8))
    labels = jax.random.randint(key_labels, (200, 5), 0, 6)
    classes = jax.random.randint(key_classes, (200, 5), 0, 4)

    def both(x, c, y):
        one = dataclasses.replace(sequence([0] * 5, [0] * 5, 2, 2), classes=c, labels=y)
        known = facts(active=8)
        scores = metrics.score_one(x, one, known.labels, jnp.int32(2), False)
        everywhere, _ = oracles.expected_accuracy(jax.nn.softmax(x * 1e3), one)
        best_shown = y[jnp.argmax(x[y[:-1]])]
        _, inside = oracles.expected_accuracy(jax.nn.one_hot(best_shown, 8), one)
        return scores["accuracy_all"], everywhere, scores["accuracy_context"], inside

    accuracy, everywhere, accuracy_context, inside = jax.vmap(both)(logits, classes, labels)
    np.testing.assert_allclose(everywhere, accuracy, atol=1e-5)
    np.testing.assert_array_equal(inside, accuracy_context)
    assert 0 < np.isnan(inside).mean() < 1


def test_mean_skips_what_is_not_defined_and_share_needs_a_span():
    values = jnp.asarray([[1.0, jnp.nan, 0.0], [jnp.nan, jnp.nan, jnp.nan]])
    found = metrics.mean(values, jnp.asarray([[3.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    assert found[0] == 0.75 and np.isnan(found[1])
    np.testing.assert_allclose(metrics.share(jnp.float32(0.75), jnp.float32(0.5), jnp.float32(1.0)), 0.5)
    assert np.isnan(metrics.share(jnp.float32(0.5), jnp.float32(0.5), jnp.float32(0.5)))


# Oracles on one sequence -----------------------------------------------------------------------------


def test_oracles_answer_as_designed():
    one = sequence([4, 4, 5, 6, 4], [2, 2, 1, 3, 2], own_label=5)
    found = {name: np.asarray(oracle(one, facts())) for name, oracle in oracles.ORACLES.items()}
    point = lambda *labels: np.isin(np.arange(8), labels) / len(labels)
    np.testing.assert_allclose(found["in_context"], point(2), atol=1e-6)
    np.testing.assert_allclose(found["in_weights"], point(5), atol=1e-6)
    np.testing.assert_allclose(found["guess_context"], point(1, 2, 3), atol=1e-6)
    np.testing.assert_allclose(found["majority"], point(2), atol=1e-6)
    np.testing.assert_allclose(found["chance"], point(*range(6)), atol=1e-6)


def test_oracles_without_their_knowledge():
    one = sequence([4, 7, 5, 6, 8], [2, 2, 1, 3, 0])
    point = lambda *labels: np.isin(np.arange(8), labels) / len(labels)
    np.testing.assert_allclose(oracles.in_context(one, facts()), point(1, 2, 3), atol=1e-6)
    np.testing.assert_allclose(oracles.in_weights(one, facts()), point(*range(6)), atol=1e-6)


def test_frequent_leaves_out_shown_labels_where_the_suite_does():
    prior = [0.1, 0.1, 0.5, 0.3, 0.0, 0.0, 0.0, 0.0]
    one = sequence([4, 5, 6], [2, 1, 3], own_label=3)
    assert int(oracles.frequent(one, facts(prior=prior)).argmax()) == 2
    assert int(oracles.frequent(one, facts(prior=prior, unseen=True)).argmax()) == 3


def test_oracles_do_not_read_the_target():
    one = sequence([4, 4, 5, 6, 4], [2, 2, 1, 3, 2], own_label=5)
    other = dataclasses.replace(one, labels=one.labels.at[-1].set(0))
    for oracle in oracles.ORACLES.values():
        np.testing.assert_array_equal(oracle(one, facts()), oracle(other, facts()))


# Oracles on the suites -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"fewshot_{c}" for c in ("holdout", "rare", "common", "zipfian")])
def test_fewshot_needs_the_context(accuracy, name):
    np.testing.assert_allclose(accuracy["in_context"][name], 1)
    np.testing.assert_allclose(accuracy["guess_context"][name], 0.5)
    np.testing.assert_allclose(accuracy["in_weights"][name], 0.5, atol=0.05)


def test_released_fewshot_has_the_ceiling_of_ways_drawn_with_replacement(accuracy):
    """Both ways are one of 10 held-out classes in a tenth of the sequences: ceiling 1 - 0.5 / 10."""
    sd = np.sqrt(0.1 * 0.9 / NUM) / 2
    np.testing.assert_allclose(accuracy["in_context"]["chan2022_fewshot_holdout"], 0.95, atol=4 * sd)


@pytest.mark.parametrize("prefix", ["", "chan2022_"])
@pytest.mark.parametrize("classes", ["rare", "common", "zipfian"])
def test_no_support_needs_the_weights(accuracy, prefix, classes):
    name = f"{prefix}no_support_{classes}"
    np.testing.assert_allclose(accuracy["in_weights"][name], 1)
    for oracle in ("in_context", "guess_context", "majority"):
        np.testing.assert_allclose(accuracy[oracle][name], 0, atol=0.01)


def test_conflict_suites_tell_the_mechanisms_apart(accuracy):
    np.testing.assert_allclose(accuracy["in_context"]["flipped"], 1)
    np.testing.assert_allclose(accuracy["in_weights"]["flipped"], 0, atol=1e-6)
    np.testing.assert_allclose(accuracy["in_weights"]["broken"], 1)
    np.testing.assert_allclose(accuracy["in_context"]["broken"], 0.5, atol=0.05)


def test_reddy_suites(accuracy):
    for name in ("reddy_fresh", "reddy_shifted"):
        np.testing.assert_allclose(accuracy["in_context"][name], 1)
        np.testing.assert_allclose(accuracy["guess_context"][name], 0.5)
    np.testing.assert_allclose(accuracy["in_weights"]["reddy_shifted"][0], 0, atol=0.02)  # of one label a class


def test_floors_lie_below_ceilings(members):
    assert np.all(members.floor < members.ceiling - 0.2)
    floor = dict(zip(NAMES, np.asarray(members.floor)[0], strict=True))
    assert floor["flipped"] == 0
    top = 1 / sum(1 / rank for rank in range(1, 61))  # share of the most frequent of 60 classes
    assert floor["no_support_zipfian"] > top


def test_query_drawings(members):
    for classes in ("rare", "common", "zipfian"):
        assert sequences_of(members, f"no_support_{classes}_heldout_drawings").exemplars[:, -1].min() >= 15
        assert sequences_of(members, f"no_support_{classes}").exemplars[:, -1].max() < 15


def test_a_suite_does_not_depend_on_its_neighbours_or_its_size(members):
    spec = EvalSpec(resolve_suites(("flipped",)), num_sequences=64, batch_size=64)
    alone = jax.jit(lambda h: eval_set(spec, h))(hypers())
    found = jax.tree.map(lambda x: np.asarray(x)[0], alone.sequences)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:64]), found, sequences_of(members, "flipped"))


def test_oracle_as_a_model_scores_its_row(members):
    lone = jax.tree.map(lambda x: x[1], members)
    found = jax.jit(lambda s: evaluate.evaluate_predictor(SPEC, oracles.in_weights, s))(lone)
    column = list(oracles.ORACLES).index("in_weights")
    np.testing.assert_allclose(found["accuracy"], lone.oracles[:, column], atol=1e-6)


def test_run_traces_the_model_once_and_scores_it(members):
    calls = []
    suites = evaluate.suites_eval(SPEC, SOURCE)

    def predict(seqs, key):
        calls.append(1)
        return jax.nn.one_hot(seqs.labels[:, -1], VOCAB.size) * 30.0, {}

    found = jax.jit(jax.vmap(lambda s: evaluate.score_set(SPEC, predict, s)))(members)
    assert len(calls) == 1
    assert set(found) == set(suites.axes) and suites.coords["suite"] == NAMES
    np.testing.assert_allclose(found["accuracy"], 1)
    np.testing.assert_allclose(found["loss"], 0, atol=1e-4)
    rare = NAMES.index("no_support_rare")
    np.testing.assert_allclose(found["pred_rare"][:, rare], 1)
    np.testing.assert_allclose(found["pred_common"][:, NAMES.index("no_support_common")], 1)
    np.testing.assert_allclose(found["pred_context"][:, rare], 0)


def test_a_nearest_neighbour_scores_as_the_in_context_oracle(members):
    """Items are rendered from the right classes: without noise, the query's class has the same item."""
    arrays = load_bank(dataclasses.replace(BANK, holdout_exemplars=0)).arrays

    def nearest(variables, inputs, *, key, logits_at, patches, shared):
        assert logits_at == "last"
        distance = jnp.abs(inputs.items[:, :-1] - inputs.items[:, -1:]).sum(-1)
        shown = inputs.labels[:, :-1]
        same = (distance < 1e-3)[..., None] * jax.nn.one_hot(shown, VOCAB.size)
        return SimpleNamespace(logits=same.sum(1))

    @jax.jit
    def run(found, h, arrays):
        tables = SOURCE.prepare(jnp.arange(69, -1, -1, dtype=jnp.int32), h)
        context = EvalContext(tables, arrays, None, h, (), None)
        return evaluate.suites_eval(SPEC, SOURCE).run(SimpleNamespace(apply=nearest), {}, found, context)

    found = run(jax.tree.map(lambda x: x[0], members), hypers(), arrays)
    scores = dict(zip(NAMES, np.asarray(found["accuracy"]), strict=True))
    for name in ("fewshot_holdout", "fewshot_zipfian", "flipped", "reddy_fresh", "reddy_shifted", "bursty"):
        assert scores[name] == 1, name
    assert scores["no_support_zipfian"] < 0.05
    np.testing.assert_allclose(scores["chan2022_fewshot_holdout"], 0.95, atol=4 * np.sqrt(0.05 * 0.95 / NUM))


# Names and validation --------------------------------------------------------------------------------


def test_every_suite_has_its_facts():
    roles = {name: suite.role for name, suite in SUITES.items()}
    assert roles["fewshot_holdout"] == "icl" and roles["no_support_rare"] == "iwl"
    assert roles["flipped"] == roles["broken"] == "conflict" and roles["iid"] == "both"
    for suite in SUITES.values():
        assert suite.context and suite.counts and suite.argmax
        assert set(suite.floor) | set(suite.ceiling) <= set(oracles.ORACLES)
        assert suite == describe(suite.spec)


def test_resolve_suites():
    own = {"four_ways": {"ways": 4, "shots": 2}}
    found = resolve_suites(["flipped", own, "four_ways"])
    assert found == (("flipped", SUITES["flipped"].spec), ("four_ways", SuiteSpec(ways=4, shots=2)))
    assert resolve_suites(["four_ways"], custom=own) == found[1:]
    for wrong, message in (
        (["fewshot_holdut"], "did you mean 'fewshot_holdout'"),
        ([{"mine": {"clases": "rare"}}], "did you mean 'classes'"),
        ([{"mine": {"classes": "rar"}}], "did you mean 'rare'"),
        ([{"flipped": {}}], "another name"),
        ([], "name at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve_suites(wrong)


@pytest.mark.parametrize(
    ("fields", "task", "bank", "message"),
    [
        ({"ways": 4, "shots": 3}, {}, {}, "ways 4 x shots 3 = 12 > context_len 8"),
        ({"classes": "fresh"}, {}, {"name": "glyphs"}, "bank 'gaussian'"),
        ({"exemplars": "heldout"}, {}, {"num_train_exemplars": 20}, "bank.holdout_exemplars"),
        ({"classes": "common"}, {"num_common": 0}, {}, "raise task.num_common"),
        ({"classes": "holdout"}, {"num_holdout": 1}, {}, "needs 2 holdout classes, there are 1"),
        ({"classes": "holdout", "labels": "flipped"}, {}, {}, "needs trained classes"),
        ({"kind": "no_support", "classes": "rare", "labels": "fixed"}, {}, {}, "use answers 'all'"),
        ({"labels": "symbols"}, {"num_symbols": 0}, {}, "raise it to 2"),
        ({"labels": "redrawn", "ways": 4}, {"num_labels": 3}, {}, "task.num_labels is 3"),
        ({"kind": "iid", "answers": "all", "unique": True}, {"context_len": 10}, {}, "needs 11 holdout"),
        ({"task": "group"}, {}, {}, "task.task_token"),
        ({"ways": -2}, {}, {}, "evals.custom.mine.ways -2 must be at least 0"),
        ({"classes": "rare", "labels": "flipped", "ways": 0}, {}, {}, "ways 1 .hyper `ways`. has nothing"),
        (NO_SUPPORT | {"unique": True}, {"num_labels": 8}, {}, "needs 9 labels .*num_labels is 8; .*unique"),
        (NO_SUPPORT, {"num_labels": 1}, {}, "needs 2 labels to keep the query's out of the context"),
        (NO_SUPPORT | {"kind": "broken"}, {"num_labels": 2}, {}, "needs 3 labels"),
    ],
)
def test_impossible_suites_are_refused(fields, task, bank, message):
    with pytest.raises(ValueError, match=message):
        suites = resolve_suites([{"mine": fields}])
        validate_suites(suites, dataclasses.replace(TASK, **task), SimpleNamespace(**FACTS | bank), fewest_ways=1)


def test_named_suites_are_possible_and_blocks_must_fit():
    validate_suites(SPEC.suites, TASK, SimpleNamespace(**FACTS))
    with pytest.raises(ValueError, match="use 384 sequences"):
        evaluate.suites_eval(dataclasses.replace(SPEC, num_sequences=300, batch_size=128), SOURCE)
