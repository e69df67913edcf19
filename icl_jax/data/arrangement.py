"""The parts training and eval sequences share: which way, class and exemplar stands at which position."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Int32, UInt32

from icl_jax.data.classes import Pool, Tables
from icl_jax.data.draws import below, permutation, unrank
from icl_jax.data.labels import earlier_same, group_labels, own_labels
from icl_jax.data.types import DISTRACTOR, QUERY, REMAINDER, SUPPORT, Sequence
from icl_jax.data.vocab import Vocab
from icl_jax.spec import TaskSpec


@flax.struct.dataclass
class SequencePlan:
    """The kind of one sequence, as traced scalars.

    core, other: pools of the ways and of everything else. has_core, is_fresh: bool.
    exclude_query: bool, the query's class is kept out of what is drawn from `other`.
    num_ways: int32. num_slots: int32, context positions that the core fills (way w: w, w + ways, ...).
    """

    core: Pool
    other: Pool
    has_core: jax.Array
    is_fresh: jax.Array
    exclude_query: jax.Array
    num_ways: jax.Array
    num_slots: jax.Array


@flax.struct.dataclass
class Arrangement:
    """way: int32 (n+1,) way at each position, -1 outside the core. classes: int32 (n+1,).
    ways: int32 (m,) class of each way."""

    way: jax.Array
    classes: jax.Array
    ways: jax.Array


def arrange(
    plan: SequencePlan, ways: Int[Array, "m"], others: Int[Array, "items"], words: dict, grouped: bool
) -> Arrangement:
    """Returns the shuffled context and the query, last.

    ways: int32 (m,) classes of the ways; others: int32 (n+1,) classes for positions outside the core.
    words: `shuffle` (n,) and `query_way` (). grouped: shuffle within each `ways` positions only.
    """
    index = jnp.arange(others.shape[0] - 1)
    slot = permutation(words["shuffle"], index // plan.num_ways if grouped else jnp.zeros_like(index))
    context = jnp.where(slot < plan.num_slots, slot % plan.num_ways, -1)
    query = jnp.where(plan.has_core, below(words["query_way"], plan.num_ways), -1)
    way = jnp.concatenate([context, query[None]])
    return Arrangement(way, jnp.where(way >= 0, ways[way], others), ways)


def pick_words(
    layout: Arrangement, words: dict, by: str
) -> tuple[UInt32[Array, "items"], UInt32[Array, "m"]] | tuple[None, None]:
    """Returns the words that pick among a class's labels, for positions (n+1,) and ways (m,).

    by "class": equal for all positions of one class. by "slot": one per way and one per position
    outside the core, as in the 2022 release. (None, None) without multiplicity.
    """
    if "picks" not in words:
        return None, None
    picks, way_picks = words["picks"], words["way_picks"]
    if by == "slot":
        return jnp.where(layout.way >= 0, way_picks[layout.way], picks), way_picks
    first = lambda classes: jnp.argmax(classes[:, None] == layout.classes[None, :], axis=1)
    return picks[first(layout.classes)], picks[first(layout.ways)]


def draw_exemplars(classes: Int[Array, "n"], num_exemplars: int, words: UInt32[Array, "n"]) -> Int32[Array, "n"]:
    """Returns an exemplar in [0, num_exemplars) for each position, int32 like `classes` (n+1,).

    Positions of one class draw without replacement, and start again when all have been used.
    """
    same = earlier_same(classes)
    rank = same.sum(1, dtype=jnp.int32)
    if classes.shape[0] <= num_exemplars:
        return unrank(below(words, num_exemplars - rank), same)
    turn = rank // num_exemplars
    together = same & (turn[:, None] == turn[None, :])
    return unrank(below(words, num_exemplars - rank % num_exemplars), together)


def copy_exemplar(classes: Int[Array, "n"], exemplars: Int[Array, "n"], copy: Bool[Array, ""]) -> Int[Array, "n"]:
    """Lets the query repeat the first exemplar of its class in the context if `copy` and if there is one."""
    index = jnp.arange(classes.shape[0])
    first = jnp.where(classes == classes[-1], index, index.shape[0]).min()  # the query itself if none is shown
    copied = jnp.where(index == first, exemplars, 0).sum(dtype=jnp.int32)
    return jnp.where(copy & (index == index[-1]), copied, exemplars)


def finish(
    task: TaskSpec,
    vocab: Vocab,
    tables: Tables,
    layout: Arrangement,
    labels: Int[Array, "n"],
    exemplars: Int[Array, "n"],
    ask_group: Bool[Array, ""],
    key_words: UInt32[Array, "2"],
) -> Sequence:
    """Returns the Sequence: adds roles, the query's own label, and group labels where those are asked."""
    classes = layout.classes
    own, count = own_labels(vocab, tables, classes[-1])
    task_label = jnp.int32(-1)
    if task.task_token:
        grouped = group_labels(vocab, tables, classes)
        labels = jnp.where(ask_group, grouped, labels)
        own, count = jnp.where(ask_group, grouped[-1], own), jnp.where(ask_group, 1, count)
        task_label = jnp.int32(vocab.tasks) + ask_group
    if task.kind == "fewshot" and task.core_labels != "fixed" and not task.task_token:
        own, count = jnp.int32(-1), jnp.int32(0)  # no class keeps a label in training
    return Sequence(classes, exemplars, labels, own, count, _roles(layout), task_label, key_words)


def _roles(layout: Arrangement) -> jax.Array:
    core = jnp.where(layout.classes == layout.classes[-1], SUPPORT, DISTRACTOR)
    roles = jnp.where(layout.way >= 0, core, REMAINDER).at[-1].set(QUERY)
    return roles.astype(jnp.int8)
