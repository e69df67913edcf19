"""Labels: who owns which, what each rule shows, which positions are scored."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icl_jax.data import classes as cl
from icl_jax.data import labels as lb
from icl_jax.data.sequences import sample, sample_suite
from icl_jax.data.types import DISTRACTOR, SUPPORT
from icl_jax.data.vocab import Vocab, make_vocab
from icl_jax.evals.suites import never_shows_answer
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import SuiteSpec, TaskSpec, hyper_defaults

NUM_CLASSES, NUM_GROUPS = 120, 7
TASK = TaskSpec(num_common=10, num_holdout=20, max_ways=4)  # 90 rare, 10 common, a label each
SHARED = dataclasses.replace(TASK, num_labels=16)  # class i has label i modulo 16
MULTIPLE = dataclasses.replace(TASK, max_multiplicity=5)


def make_tables(task, hypers=None):
    vocab = make_vocab(task, NUM_CLASSES, NUM_GROUPS)
    h = hyper_defaults() | (hypers or {})
    groups = np.arange(NUM_CLASSES) % NUM_GROUPS
    return vocab, cl.prepare(task, vocab, cl.class_order(NUM_CLASSES, 1, 5), groups, h), h


@functools.cache
def _program(task, suite, count, num_exemplars, num_train_exemplars):
    @jax.jit
    def draw(hypers):
        vocab, tables, h = make_tables(task, hypers)
        if suite is None:
            one = lambda key: sample(task, vocab, tables, h, key, num_exemplars)
        else:
            one = lambda key: sample_suite(task, suite, vocab, tables, h, key, num_exemplars, num_train_exemplars)
        return jax.vmap(one)(fold_each(stream_key(7, "eval"), 0, count))

    return draw


def draw(task, suite=None, count=2000, num_exemplars=20, num_train_exemplars=15, **hypers):
    program = _program(task, suite, count, num_exemplars, num_train_exemplars)
    return jax.tree.map(np.asarray, program({name: jnp.float32(value) for name, value in hypers.items()}))


def uniform(values, size):
    return stats.chisquare(np.bincount(values, minlength=size))[1] > 1e-3


def own(task, classes, **hypers):
    first, count = _own_table(task, tuple(hypers.items()))
    return first[np.asarray(classes)], count[np.asarray(classes)]


@functools.cache
def _own_table(task, hypers):
    """Own labels of all classes, and at the end (index -1) of a fresh one."""
    vocab, tables, _ = make_tables(task, dict(hypers))
    return tuple(np.asarray(x) for x in lb.own_labels(vocab, tables, jnp.append(jnp.arange(NUM_CLASSES), -1)))


def shown_by_class(s):
    """Yields {class: set of labels shown with it} for each sequence."""
    for classes, labels in zip(s.classes, s.labels, strict=True):
        yield {c: set(labels[classes == c].tolist()) for c in set(classes.tolist())}


# Who owns which label


def test_the_vocabulary_has_the_sizes_of_the_release():
    base = TaskSpec(num_common=10, num_holdout=10)
    assert make_vocab(base, 1623).size == 1623
    assert make_vocab(dataclasses.replace(base, max_multiplicity=5), 1623).size == 1603 * 5 + 10
    augmented = TaskSpec(num_common=100, num_holdout=80, max_classes=12800)
    assert make_vocab(augmented, 1623 * 8).num_class_labels == 12880
    mixed = TaskSpec(num_labels=32, num_symbols=6, task_token=True)
    vocab = make_vocab(mixed, 200, 50)
    assert vocab == Vocab(32, 50, 6, 2, shared_labels=True)
    assert (vocab.groups, vocab.symbols, vocab.tasks, vocab.size) == (32, 82, 88, 90)


def test_own_labels_follow_the_class_order():
    first, count = own(TASK, [-1, 0, 89, 90, 99, 100, 119])
    np.testing.assert_array_equal(first, [-1, 0, 89, 90, 99, -1, -1])
    np.testing.assert_array_equal(count, [0, 1, 1, 1, 1, 0, 0])
    first, count = own(MULTIPLE, [0, 1, 89, 90, 99, 100], multiplicity=3)
    np.testing.assert_array_equal(first, [0, 3, 267, 270, 279, -1])
    np.testing.assert_array_equal(count, [3, 3, 3, 1, 1, 0])
    np.testing.assert_array_equal(own(SHARED, [3, 16, 90])[0], [3, 0, 10])
    np.testing.assert_array_equal(own(TASK, [29, 30, 39, 40], num_classes=40)[0], [29, 30, 39, -1])


@pytest.mark.parametrize(
    ("task", "hypers", "active"),
    [
        (TASK, {}, 100),
        (TASK, {"num_classes": 40}, 40),
        (SHARED, {}, 16),
        (MULTIPLE, {"multiplicity": 2}, 190),
    ],
)
def test_active_labels_are_those_of_active_classes(task, hypers, active):
    vocab, tables, h = make_tables(task, hypers)
    mask = np.asarray(lb.active_labels(vocab, tables, h))
    assert mask.shape == (vocab.size,) and mask[:active].all() and mask.sum() == active
    first, count = own(task, np.arange(int(tables.num_train)), **hypers)
    assert (first + count).max() == active


def test_symbols_and_groups_are_active_and_task_tokens_are_not():
    vocab, tables, h = make_tables(dataclasses.replace(SHARED, num_symbols=3, task_token=True))
    assert np.asarray(lb.active_labels(vocab, tables, h)).tolist() == [True] * (16 + 7 + 3) + [False] * 2


# Training


def test_fixed_labels_belong_to_their_classes():
    for task in (TASK, SHARED):
        s = draw(task, zipf_exponent=1.0)
        first, _ = own(task, s.classes)
        np.testing.assert_array_equal(s.labels, first)
        np.testing.assert_array_equal(s.own_label, s.labels[:, -1])
        assert (s.own_count == 1).all()


def test_a_class_shows_one_of_its_labels_per_sequence():
    s = draw(MULTIPLE, multiplicity=4.0, p_bursty_zipfian=0.5, p_bursty_common=0.25)
    first, count = own(MULTIPLE, s.classes, multiplicity=4.0)
    pick = s.labels - first
    assert ((pick >= 0) & (pick < count)).all()
    assert all(len(labels) == 1 for shown in shown_by_class(s) for labels in shown.values())
    assert uniform(pick[:, -1][s.own_count == 4], 4)
    np.testing.assert_array_equal(s.own_label, first[:, -1])
    np.testing.assert_array_equal(s.own_count, count[:, -1])


def test_dynamic_and_symbol_labels_are_shown_in_the_core_only():
    symbols = dataclasses.replace(TASK, core_labels="symbols", num_symbols=6)
    for task in (dataclasses.replace(TASK, core_labels="dynamic"), symbols):
        s = draw(task, ways=3.0, shots=2.0, p_bursty=0.7)
        core = ((s.roles == SUPPORT) | (s.roles == DISTRACTOR)).any(1)
        in_core = (s.roles == SUPPORT) | (s.roles == DISTRACTOR) | ((s.roles == 0) & core[:, None])
        np.testing.assert_array_equal(s.labels[~in_core], s.classes[~in_core])
        low, size = (0, 3) if task.core_labels == "dynamic" else (make_vocab(symbols, NUM_CLASSES).symbols, 6)
        shown = s.labels[in_core] - low
        assert shown.min() == 0 and shown.max() == size - 1
        assert uniform(s.labels[core, -1] - low, size)
        for row, labels, mask in zip(s.classes[core], s.labels[core], in_core[core], strict=True):
            assert len(set(zip(row[mask], labels[mask], strict=True))) == 3 == len(set(labels[mask]))


def test_label_noise_replaces_context_labels_only():
    clean, noisy = draw(SHARED, label_noise=0.0), draw(SHARED, label_noise=0.4)
    np.testing.assert_array_equal(clean.classes, noisy.classes)
    np.testing.assert_array_equal(clean.labels[:, -1], noisy.labels[:, -1])
    changed = (clean.labels != noisy.labels)[:, :-1]
    assert abs(changed.mean() - 0.4 * 15 / 16) < 0.02
    assert uniform((noisy.labels - clean.labels)[:, :-1][changed] % 16 - 1, 15)


def test_label_noise_keeps_the_kind_of_a_label():
    vocab, tables, _ = make_tables(dataclasses.replace(SHARED, num_symbols=5, task_token=True))
    labels = jnp.array([3, vocab.groups + 6, vocab.symbols, vocab.symbols + 4, 9])
    words = jax.random.bits(jax.random.key(4), (4000, 2, 4), jnp.uint32)
    noisy = np.asarray(jax.jit(jax.vmap(lambda w: lb.add_noise(vocab, tables, labels, 1.0, w)))(words))
    for i, (first, size) in enumerate([(0, 16), (vocab.groups, 7), (vocab.symbols, 5), (vocab.symbols, 5)]):
        assert uniform(noisy[:, i] - first, size)
    assert (noisy[:, -1] == 9).all()


def test_a_task_token_asks_for_classes_or_groups():
    task = dataclasses.replace(TASK, task_token=True)
    vocab, tables, _ = make_tables(task)
    s = draw(task, p_group_task=0.3)
    group = s.task == vocab.tasks + 1
    assert (s.task[~group] == vocab.tasks).all() and abs(group.mean() - 0.3) < 0.04
    np.testing.assert_array_equal(s.labels[~group], s.classes[~group])
    expected = vocab.groups + np.asarray(tables.order)[s.classes] % NUM_GROUPS
    np.testing.assert_array_equal(s.labels[group], expected[group])
    np.testing.assert_array_equal(s.own_label, s.labels[:, -1])
    asked = draw(task, SuiteSpec(kind="no_support", classes="zipfian", task="group"))
    assert (asked.task == vocab.tasks + 1).all()
    np.testing.assert_array_equal(asked.labels, vocab.groups + np.asarray(tables.order)[asked.classes] % NUM_GROUPS)


# Suites


def test_fewshot_suites_redraw_labels_from_the_trained_ones():
    s = draw(SHARED, SuiteSpec())
    assert s.classes.min() == 100 and uniform(s.classes[:, -1] - 100, 20)
    assert (s.own_label == -1).all() and (s.own_count == 0).all()
    assert ((s.roles == SUPPORT).sum(1) == 4).all() and ((s.roles == DISTRACTOR).sum(1) == 4).all()
    for shown in shown_by_class(s):
        assert len(shown) == 2 == len(set.union(*shown.values()))
    assert uniform(s.labels[:, -1], 16)


def test_suites_take_ways_from_the_hyper_and_fill_the_context():
    s = draw(TASK, SuiteSpec(ways=0, labels="first"), ways=3.0)
    for row, labels in zip(s.classes, s.labels, strict=True):
        _, counts = np.unique(row[:-1], return_counts=True)
        assert sorted(counts) == [2, 3, 3] and set(labels) == {0, 1, 2}
    assert uniform(s.labels[:, -1], 3)
    s = draw(TASK, SuiteSpec(ways=2, shots=1, labels="first"))
    assert ((s.roles == SUPPORT).sum(1) == 1).all() and ((s.roles == DISTRACTOR).sum(1) == 1).all()
    rest = s.roles == 3
    assert (s.classes[rest] < 100).all()
    np.testing.assert_array_equal(s.labels[rest], s.classes[rest])


@pytest.mark.parametrize("task", [TASK, SHARED, MULTIPLE])
def test_flipped_ways_exchange_their_labels(task):
    s = draw(task, SuiteSpec(classes="zipfian", labels="flipped"), multiplicity=4.0)
    first, count = own(task, s.classes, multiplicity=4.0)
    owns = lambda label, i, j: first[i, j] <= label < first[i, j] + count[i, j]
    for i in range(200):
        a, b = np.unique(s.classes[i, :-1], return_index=True)[1]
        assert s.classes[i, a] != s.classes[i, b] and s.labels[i, a] != s.labels[i, b]
        assert owns(s.labels[i, a], i, b) and owns(s.labels[i, b], i, a)
        same = a if s.classes[i, -1] == s.classes[i, a] else b
        assert s.labels[i, -1] == s.labels[i, same]
        assert not owns(s.labels[i, -1], i, -1) and s.own_label[i] == first[i, -1]


def test_shifted_ways_show_their_label_plus_one():
    s = draw(SHARED, SuiteSpec(classes="rare", labels="shifted"))
    np.testing.assert_array_equal(s.labels, (s.classes % 16 + 1) % 16)


def test_symbol_suites_show_distinct_symbols():
    task = dataclasses.replace(SHARED, num_symbols=5)
    s = draw(task, SuiteSpec(classes="rare", labels="symbols", ways=4))
    assert s.labels.min() == 16 and s.labels.max() == 20
    assert all(len(set.union(*shown.values())) == 4 for shown in shown_by_class(s))


@pytest.mark.parametrize("task", [TASK, SHARED])
def test_broken_suites_put_the_querys_label_on_another_class(task):
    s = draw(task, SuiteSpec(kind="broken", classes="zipfian", ways=3), zipf_exponent=1.0)
    first, _ = own(task, s.classes)
    assert not (s.classes[:, :-1] == s.classes[:, -1:]).any()
    np.testing.assert_array_equal(s.labels[:, -1], first[:, -1])
    np.testing.assert_array_equal(s.own_label, first[:, -1])
    for i in range(300):
        shown = {c: set(s.labels[i, :-1][s.classes[i, :-1] == c].tolist()) for c in s.classes[i, :-1].tolist()}
        wrong = [c for c, labels in shown.items() if labels != {int(own(task, c)[0])}]
        assert len(shown) == 3 and len(wrong) == 1 and shown[wrong[0]] == {int(s.own_label[i])}


def test_no_support_excludes_the_querys_class_and_label():
    for exclude, unique in ((True, False), (False, False), (True, True), (False, True)):
        suite = SuiteSpec("no_support", "zipfian", "fixed", "all", exclude_label=exclude, unique=unique)
        s = draw(SHARED, suite, zipf_exponent=1.0)
        first, _ = own(SHARED, s.classes)
        np.testing.assert_array_equal(s.labels, first)
        assert not (s.classes[:, :-1] == s.classes[:, -1:]).any()
        shown = (s.labels[:, :-1] == s.labels[:, -1:]).any()
        assert shown == (not exclude) == (not never_shows_answer(suite, shared_labels=True))
        assert never_shows_answer(suite, shared_labels=False)


def test_excluding_a_label_keeps_the_other_frequencies():
    s = draw(SHARED, SuiteSpec(kind="no_support", classes="common"), count=8000)
    query, context = s.classes[:, -1] - 90, s.classes[:, 0] - 90
    table = np.zeros((10, 10))
    np.add.at(table, (query, context), 1)
    assert uniform(query, 10) and (np.diag(table) == 0).all()
    off = table[~np.eye(10, dtype=bool)]
    assert stats.chisquare(off)[1] > 1e-3


def test_iid_bursty_and_fresh_suites():
    s = draw(SHARED, SuiteSpec(kind="iid", classes="rare"))
    assert s.classes.max() < 90 and uniform(s.classes[:, -1] // 10, 9)
    np.testing.assert_array_equal(s.labels, s.classes % 16)
    s = draw(SHARED, SuiteSpec(kind="bursty", classes="zipfian", labels="fixed"), shots=3.0)
    assert ((s.roles == SUPPORT).sum(1) == 3).all() and ((s.roles == 3).sum(1) == 2).all()
    s = draw(SHARED, SuiteSpec(classes="fresh", ways=4))
    np.testing.assert_array_equal(np.sort(s.classes[:, :-1], axis=1), [[-4, -4, -3, -3, -2, -2, -1, -1]] * 2000)
    assert all(len(set.union(*shown.values())) == 4 for shown in shown_by_class(s))


@pytest.mark.parametrize(("exemplars", "low", "high"), [("all", 0, 20), ("train", 0, 15), ("heldout", 15, 20)])
def test_suites_draw_their_exemplars(exemplars, low, high):
    s = draw(TASK, SuiteSpec(exemplars=exemplars))
    assert uniform(s.exemplars[:, -1] - low, high - low)
    context_high = 20 if exemplars == "all" else 15
    assert s.exemplars[:, :-1].max() == context_high - 1 and s.exemplars.min() == 0
    same = (s.classes[:, :-1] == s.classes[:, -1:]) & (s.exemplars[:, :-1] == s.exemplars[:, -1:])
    assert not same.any()


# Loss


def weights(loss, classes, **hypers):
    task = TaskSpec(context_len=len(classes) - 1, loss=loss)
    sequence = types.SimpleNamespace(classes=jnp.asarray(classes))
    return np.asarray(lb.loss_weights(task, sequence, hyper_defaults() | hypers))


def test_loss_weights():
    classes = [4, 7, 4, 4, 7]
    np.testing.assert_allclose(weights("query", classes), [0, 0, 0, 0, 1])
    np.testing.assert_allclose(weights("all", classes), [0.2] * 5, rtol=1e-6)
    np.testing.assert_allclose(weights("repeats", classes), [0, 0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(weights("repeats", [1, 2, 3, 4, 5]), [0] * 5)
    np.testing.assert_allclose(weights("interim", classes, interim_weight=0.2), [0.05] * 4 + [0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="unknown loss 'last'"):
        weights("last", classes)
