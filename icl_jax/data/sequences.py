"""Sequences: which classes, exemplars and labels stand at which position.

A sequence has a *core* of `ways` classes, or none; the other context positions are drawn from a
second pool; the query is last. `sample` makes one training sequence, `sample_suite` one eval sequence:
pure functions of (static spec, tables, hypers, key), batched by vmap over keys. A sequence costs what
its length costs, whatever the number of classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from icl_jax.data import classes as cl
from icl_jax.data import labels as lb
from icl_jax.data.arrangement import (
    Arrangement,
    SequencePlan,
    arrange,
    copy_exemplar,
    draw_exemplars,
    finish,
    pick_words,
)
from icl_jax.data.classes import Pool, Tables
from icl_jax.data.draws import below, chance, draw_words, first_true, permutation
from icl_jax.data.statistics import statistics
from icl_jax.data.types import Sequence
from icl_jax.data.vocab import Vocab
from icl_jax.spec import SuiteSpec, TaskSpec

__all__ = ["sample", "sample_suite", "statistics"]

REDRAWS = 32  # draws among which a class with an admissible label is looked for, where labels are shared


# Training


def sample(task: TaskSpec, vocab: Vocab, tables: Tables, h: dict, key: Key[Array, ""], num_exemplars) -> Sequence:
    """Returns one training sequence. key: consumed. num_exemplars: training exemplars per class."""
    words = draw_words(key, _training_words(task))
    plan = _training_plan(task, tables, h, words["kind"])
    layout = _training_layout(task, tables, plan, words)
    labels = _training_labels(task, vocab, tables, plan, layout, words)
    exemplars = draw_exemplars(layout.classes, num_exemplars, words["exemplars"])
    exemplars = copy_exemplar(layout.classes, exemplars, chance(words["kind"][3], h["p_copy"]))
    ask_group = jnp.bool_(False)
    if task.task_token:
        ask_group = chance(words["kind"][4], h["p_group_task"]) & ~plan.is_fresh
    sequence = finish(task, vocab, tables, layout, labels, exemplars, ask_group, words["key"])
    return dataclasses.replace(
        sequence, labels=lb.add_noise(vocab, tables, sequence.labels, h["label_noise"], words["noise"])
    )


def _training_words(task: TaskSpec) -> dict[str, tuple[int, ...]]:
    n, m = task.context_len, task.max_ways
    words = {"kind": (5,), "ways": (m, 1), "shuffle": (n,), "query_way": (), "others": (n + 1,)}
    words |= {"exemplars": (n + 1,), "noise": (2, n), "key": (2,)}
    if task.core_labels == "symbols" or _may_be_fresh(task):
        words |= {"way_labels": (m,)}
    if task.max_multiplicity > 1:
        words |= {"picks": (n + 1,), "way_picks": (m,)}
    return words


def _may_be_fresh(task: TaskSpec) -> bool:
    return task.fresh or task.core_classes == "fresh"


def _may_exclude(task: TaskSpec) -> bool:
    return task.kind == "no_support" or (task.kind == "bursty" and task.non_bursty == "common_no_support")


def _training_plan(task: TaskSpec, tables: Tables, h: dict, words: jax.Array) -> SequencePlan:
    """Returns the plan of a training sequence. words: uint32 (5,), of which the first three are used."""
    core, other = _core_pools(task, tables, h, words[1])
    has_core = jnp.bool_(True)
    if task.kind == "bursty":
        has_core = chance(words[0], h["p_bursty"])
        lone = cl.zipf_pool(tables) if task.non_bursty == "zipfian" else cl.common_pool(tables)
        other = cl.choose(has_core, other, lone)
    elif task.kind == "mixed":
        has_core = chance(words[0], h["p_fewshot"])
        core, other = cl.rare_pool(tables), cl.common_pool(tables)
    elif task.kind in ("iid", "no_support"):
        has_core, other = jnp.bool_(False), core
    exclude = ~has_core if _may_exclude(task) else jnp.bool_(False)
    fresh = jnp.bool_(task.core_classes == "fresh")
    if task.fresh:
        fresh = chance(words[2], h["p_fresh"])
    ways = jnp.clip(jnp.asarray(h["ways"], jnp.int32), 1, task.max_ways)
    slots = jnp.where(has_core, ways * jnp.asarray(h["shots"], jnp.int32), 0)
    slots = jnp.where(fresh, task.context_len, slots)
    return SequencePlan(core, other, has_core | fresh, fresh, exclude, ways, slots)


def _core_pools(task: TaskSpec, tables: Tables, h: dict, word: jax.Array) -> tuple[Pool, Pool]:
    """Returns the pools of the core and of the remainder."""
    zipf, rare, common = cl.zipf_pool(tables), cl.rare_pool(tables), cl.common_pool(tables)
    if task.core_classes not in ("mixture", "fresh"):
        return cl.POOLS[task.core_classes](tables), zipf
    if task.kind not in ("bursty", "fewshot"):
        return zipf, zipf
    is_zipf = chance(word, h["p_bursty_zipfian"])
    is_common = chance(word, h["p_bursty_zipfian"] + h["p_bursty_common"])
    core = cl.choose(is_zipf, zipf, cl.choose(is_common, common, rare))
    other = cl.choose(is_zipf, zipf, cl.choose(is_common, rare, common))
    return core, other


def _training_layout(task: TaskSpec, tables: Tables, plan: SequencePlan, words: dict) -> Arrangement:
    if task.distinct_ways:
        ways = cl.draw_distinct(tables, plan.core, words["ways"])
    else:
        ways = cl.draw_iid(tables, plan.core, words["ways"][:, 0])
    if _may_be_fresh(task):
        ways = jnp.where(plan.is_fresh, -1 - jnp.arange(task.max_ways), ways)
    if _may_exclude(task):
        query = cl.draw_iid(tables, plan.other, words["others"][-1:])
        excluded = jnp.where(plan.exclude_query, query, -1)
        context = cl.draw_without(tables, plan.other, words["others"][:-1], excluded)
        others = jnp.concatenate([context, query])
    else:
        others = cl.draw_iid(tables, plan.other, words["others"])
    return arrange(plan, ways, others, words, task.grouped)


def _training_labels(
    task: TaskSpec, vocab: Vocab, tables: Tables, plan: SequencePlan, layout: Arrangement, words: dict
) -> jax.Array:
    """Returns labels (n+1,): by the rule for cores in the core, own labels elsewhere."""
    picks, _ = pick_words(layout, words, task.multiplicity_by)
    labels = lb.pick_label(vocab, tables, layout.classes, picks)
    redraw = lambda rule: lb.way_labels(rule, vocab, tables, layout.ways, plan.num_ways, words.get("way_labels"))
    if task.core_labels != "fixed":
        labels = jnp.where(layout.way >= 0, redraw(task.core_labels)[layout.way], labels)
    if _may_be_fresh(task):
        labels = jnp.where(plan.is_fresh, redraw("any")[layout.way], labels)
    return labels


# Evaluation


def sample_suite(
    task: TaskSpec,
    suite: SuiteSpec,
    vocab: Vocab,
    tables: Tables,
    h: dict,
    key: Key[Array, ""],
    num_exemplars,
    num_train_exemplars,
) -> Sequence:
    """Returns one eval sequence of a suite.

    key: consumed. Of a class's `num_exemplars` the first `num_train_exemplars` are trained on; with
    `suite.exemplars` "heldout" the query is one of the others and the context of the former.
    """
    words = draw_words(key, _suite_words(task, suite, vocab))
    plan = _suite_plan(task, suite, tables, h)
    layout = _suite_layout(suite, vocab, tables, plan, words)
    labels = _suite_labels(suite, vocab, tables, plan, layout, words)
    count = num_exemplars if suite.exemplars == "all" else num_train_exemplars
    exemplars = draw_exemplars(layout.classes, count, words["exemplars"])
    if suite.exemplars == "heldout":
        new = below(words["exemplars"][-1], num_exemplars - num_train_exemplars)
        exemplars = exemplars.at[-1].set(num_train_exemplars + new)
    ask_group = jnp.bool_(task.task_token and suite.task == "group")
    return finish(task, vocab, tables, layout, labels, exemplars, ask_group, words["key"])


def _suite_words(task: TaskSpec, suite: SuiteSpec, vocab: Vocab) -> dict[str, tuple[int, ...]]:
    n, m = task.context_len, suite.ways or task.max_ways
    redraws = REDRAWS if vocab.shared_labels else 1
    drawn = n + 1 if suite.unique else m + 1 if suite.kind == "broken" else m
    words = {"ways": (drawn, redraws), "query": (), "others": (n, redraws)}
    words |= {"shuffle": (n,), "query_way": (), "exemplars": (n + 1,), "key": (2,), "way_labels": (m,)}
    if suite.unique:
        words |= {"order": (n + 1,)}
    if task.max_multiplicity > 1:
        words |= {"picks": (n + 1,), "way_picks": (m,)}
    return words


def _suite_plan(task: TaskSpec, suite: SuiteSpec, tables: Tables, h: dict) -> SequencePlan:
    fresh, has_ways = suite.classes == "fresh", suite.kind in ("fewshot", "bursty", "broken")
    pool = cl.zipf_pool(tables) if fresh else cl.POOLS[suite.classes](tables)
    ways = jnp.clip(jnp.asarray(suite.ways or h["ways"], jnp.int32), 1, suite.ways or task.max_ways)
    if not has_ways:
        slots = 0
    elif suite.shots or suite.kind == "bursty":
        slots = ways * jnp.asarray(suite.shots or h["shots"], jnp.int32)
    else:
        slots = task.context_len  # ways that do not divide it: the first ones are shown once more
    return SequencePlan(
        core=pool,
        other=cl.zipf_pool(tables) if has_ways else pool,
        has_core=jnp.bool_(suite.kind in ("fewshot", "bursty")),
        is_fresh=jnp.bool_(fresh),
        exclude_query=jnp.bool_(suite.kind in ("no_support", "broken")),
        num_ways=ways,
        num_slots=jnp.int32(slots),
    )


def _suite_layout(suite: SuiteSpec, vocab: Vocab, tables: Tables, plan: SequencePlan, words: dict) -> Arrangement:
    label_of = lambda positions: lb.own_labels(vocab, tables, positions)[0]
    own_shown = suite.kind == "broken" or suite.labels in ("fixed", "flipped", "shifted")
    label_of = label_of if vocab.shared_labels and own_shown else None
    if suite.unique:
        excludes = suite.kind == "no_support" and suite.exclude_label
        drawn = cl.draw_distinct(tables, plan.other, words["ways"], label_of if excludes else None)
        mixed = permutation(words["order"], jnp.zeros_like(drawn))  # whether drawn early or late
        return arrange(plan, drawn, drawn[mixed], words, grouped=False)
    query = cl.draw_iid(tables, plan.other, words["query"])
    if not suite.distinct_ways and suite.kind != "broken":
        ways = cl.draw_iid(tables, plan.core, words["ways"][:, 0])
    else:
        ways = cl.draw_distinct(tables, plan.core, words["ways"], label_of)
    if suite.kind == "broken":
        query, ways = ways[0], ways[1:]
    if suite.classes == "fresh":
        ways = -1 - jnp.arange(ways.shape[0])
    context = _suite_others(suite, vocab, tables, plan, query, words["others"])
    return arrange(plan, ways, jnp.append(context, query), words, grouped=False)


def _suite_others(
    suite: SuiteSpec, vocab: Vocab, tables: Tables, plan: SequencePlan, query: jax.Array, words: jax.Array
) -> jax.Array:
    """Returns classes (n,) for the context outside the core; words: uint32 (n, redraws)."""
    candidates = cl.draw_without(tables, plan.other, words, jnp.where(plan.exclude_query, query, -1))
    if not (vocab.shared_labels and suite.exclude_label and suite.kind in ("no_support", "broken")):
        return candidates[:, 0]
    label_of = lambda positions: lb.own_labels(vocab, tables, positions)[0]
    pick = first_true(label_of(candidates) != label_of(query))
    return jnp.take_along_axis(candidates, pick[:, None], axis=1)[:, 0]


def _suite_labels(
    suite: SuiteSpec, vocab: Vocab, tables: Tables, plan: SequencePlan, layout: Arrangement, words: dict
) -> jax.Array:
    """Returns labels (n+1,): by the suite's rule with the ways, own labels elsewhere."""
    picks, way_picks = pick_words(layout, words, "class")
    labels = lb.pick_label(vocab, tables, layout.classes, picks)
    if suite.kind in ("iid", "no_support"):
        return labels
    shown = lb.pick_label(vocab, tables, layout.ways, way_picks)
    if suite.kind == "broken":
        shown = shown.at[0].set(labels[-1])
    else:
        shown = lb.way_labels(suite.labels, vocab, tables, shown, plan.num_ways, words["way_labels"])
    return jnp.where(layout.way >= 0, shown[layout.way], labels)
