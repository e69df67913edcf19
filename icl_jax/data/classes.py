"""Classes: their order, their frequencies, and exact draws from them.

A class is named by its position in the member's class order. A `Pool` is a distribution over
positions, uniform on an interval or Zipfian, measured in integer units so that drawing without
replacement is exact: a draw falls on what is left and is then moved past what was removed.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float32, Int, Int32, Num, UInt32

from icl_jax.data.draws import below, first_true
from icl_jax.data.validate import validate_task
from icl_jax.data.vocab import Vocab, max_train_classes
from icl_jax.spec import TaskSpec

__all__ = [
    "POOLS",
    "Pool",
    "Tables",
    "choose",
    "class_order",
    "draw_distinct",
    "draw_iid",
    "draw_without",
    "prepare",
    "validate_task",
]

ZIPF_UNITS = 2**30  # units shared out over the classes of the Zipfian pool; every class has at least one


@flax.struct.dataclass
class Tables:
    """What one member's generator needs to know; made once, outside the scan.

    order:  int32 (C,) bank class of each position.
    groups: int32 (C,) group of each bank class.
    cdf:    float32 (K,) share of the training classes up to and including each position.
    units:  int32 (K,) the same in integer units; the last active class and all after it: ZIPF_UNITS.
    num_*:  int32 scalars. Positions [0, num_rare) are rare, [num_rare, num_train) common, the last
            num_holdout of num_classes held out. num_labels: class labels in use.
    multiplicity: int32 scalar, labels per rare class.
    """

    order: jax.Array
    groups: jax.Array
    cdf: jax.Array
    units: jax.Array
    num_rare: jax.Array
    num_common: jax.Array
    num_train: jax.Array
    num_holdout: jax.Array
    num_classes: jax.Array
    num_labels: jax.Array
    multiplicity: jax.Array


@flax.struct.dataclass
class Pool:
    """A distribution over positions: uniform on [low, low + size), or the Zipfian of the tables."""

    low: jax.Array
    size: jax.Array
    zipf: jax.Array


def class_order(num_classes: int, block: int, seed: int) -> Int32[np.ndarray, "{num_classes}"]:
    """Returns the bank class of each position, int32 (num_classes,); runs on the host.

    Blocks of `block` consecutive classes (8 with augmentation, else 1) stay together, so that a
    rotated twin of a training class is not held out, except where a split cuts a block.

    Raises:
      ValueError: `block` does not divide `num_classes`.
    """
    if num_classes % block:
        raise ValueError(f"blocks of {block} do not divide {num_classes} classes; use a multiple of {block}")
    count = num_classes // block
    blocks = np.random.default_rng(seed).choice(count, count, replace=False)
    return (blocks[:, None] * block + np.arange(block)).reshape(-1).astype(np.int32)


def prepare(
    task: TaskSpec, vocab: Vocab, order: Int[Array | np.ndarray, "C"], groups: Int[Array | np.ndarray, "G"], h: dict
) -> Tables:
    """Returns a member's tables. order: int32 (C,), groups: int32, of all bank classes (see Tables); reads the hypers
    num_classes, multiplicity and zipf_exponent."""
    num_classes = order.shape[0]
    limit = max_train_classes(task, num_classes)
    asked = jnp.asarray(h["num_classes"], jnp.int32)
    num_train = jnp.clip(jnp.where(asked > 0, asked, limit), task.num_common, limit)
    num_rare = num_train - task.num_common
    multiplicity = jnp.clip(jnp.asarray(h["multiplicity"], jnp.int32), 1, task.max_multiplicity)
    cdf = zipf_cdf(limit, num_train, h["zipf_exponent"])
    return Tables(
        order=jnp.asarray(order, jnp.int32),
        groups=jnp.asarray(groups, jnp.int32),
        cdf=cdf,
        units=_units(cdf, num_train),
        num_rare=num_rare,
        num_common=jnp.int32(task.num_common),
        num_train=num_train,
        num_holdout=jnp.int32(task.num_holdout),
        num_classes=jnp.int32(num_classes),
        num_labels=jnp.minimum(num_rare * multiplicity + task.num_common, vocab.num_class_labels),
        multiplicity=multiplicity,
    )


def zipf_cdf(limit: int, num_train: Int[Array, ""], exponent: Num[ArrayLike, ""]) -> Float32[Array, "{limit}"]:
    """Returns the cumulative class frequencies, float32 (limit,): position i of n has weight
    (n - i)^-exponent, so the last ones are the frequent ones (Chan et al. 2022, released code)."""
    rank = num_train - jnp.arange(limit)
    weight = jnp.where(rank > 0, jnp.maximum(rank, 1).astype(jnp.float32) ** -jnp.float32(exponent), 0.0)
    cumulative = jnp.cumsum(weight)
    return jnp.minimum(cumulative / cumulative[-1], 1.0)


def _units(cdf: jax.Array, num_train: jax.Array) -> jax.Array:
    """Returns the cdf in integer units, one unit guaranteed to each active class."""
    index = jnp.arange(cdf.shape[0])
    left = num_train - 1 - index  # active classes after this one
    units = (cdf * (ZIPF_UNITS - num_train).astype(jnp.float32)).astype(jnp.int32) + index + 1
    return jnp.where(left > 0, jnp.minimum(units, ZIPF_UNITS - left), ZIPF_UNITS)


def rare_pool(tables: Tables) -> Pool:
    return Pool(jnp.int32(0), tables.num_rare, jnp.bool_(False))


def common_pool(tables: Tables) -> Pool:
    return Pool(tables.num_rare, tables.num_common, jnp.bool_(False))


def holdout_pool(tables: Tables) -> Pool:
    return Pool(tables.num_classes - tables.num_holdout, tables.num_holdout, jnp.bool_(False))


def zipf_pool(tables: Tables) -> Pool:
    return Pool(jnp.int32(0), tables.num_train, jnp.bool_(True))


POOLS = {"rare": rare_pool, "common": common_pool, "holdout": holdout_pool, "zipfian": zipf_pool}


def choose(condition: Bool[Array, ""], yes: Pool, no: Pool) -> Pool:
    """Returns one of two pools by a traced condition."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def total(pool: Pool) -> Int[Array, ""]:
    """Returns how many units a pool has: one per class, or ZIPF_UNITS."""
    return jnp.where(pool.zipf, ZIPF_UNITS, pool.size)


def locate(tables: Tables, pool: Pool, unit: Int[Array, "*s"]) -> Int[Array, "*s"]:
    """Returns the position that owns each unit of a pool, int32."""
    position = jnp.where(pool.zipf, _search(tables.units, unit), pool.low + unit)
    return jnp.minimum(position, tables.order.shape[0] - 1)


def _search(table: jax.Array, values: jax.Array) -> jax.Array:
    """Returns how many entries of an ascending int32 table are <= each value, all below its last entry.

    On CPU a rolled loop: unrolled, XLA recomputes the draw in front of every one of its gathers, and
    the sequence costs twice as much. Elsewhere a loop's kernel launches would cost more.
    """
    method = "scan" if jax.default_backend() == "cpu" else "scan_unrolled"
    return jnp.searchsorted(table, values, side="right", method=method).astype(jnp.int32)


def interval(tables: Tables, pool: Pool, position: Int[Array, "*s"]) -> tuple[Int[Array, "*s"], Int[Array, "*s"]]:
    """Returns the first unit and the number of units of a position (0 outside the pool)."""
    inside = (position >= pool.low) & (position < pool.low + pool.size)
    index = jnp.clip(position, 0, tables.units.shape[0] - 1)
    start = jnp.where(index > 0, tables.units[jnp.maximum(index - 1, 0)], 0)
    width = jnp.where(pool.zipf, tables.units[index] - start, 1)
    return jnp.where(pool.zipf, start, position - pool.low), jnp.where(inside, width, 0)


def draw_iid(tables: Tables, pool: Pool, words: UInt32[Array, "*s"]) -> Int[Array, "*s"]:
    """Returns positions drawn with replacement, of the shape of `words`."""
    return locate(tables, pool, below(words, total(pool)))


def draw_without(
    tables: Tables, pool: Pool, words: UInt32[Array, "*#s"], excluded: Int[Array, "*#s"]
) -> Int[Array, "*s"]:
    """Returns positions drawn with replacement from a pool without one class, renormalised."""
    start, width = interval(tables, pool, excluded)
    unit = below(words, total(pool) - width)
    return locate(tables, pool, unit + jnp.where(unit >= start, width, 0))


def draw_distinct(tables: Tables, pool: Pool, words: UInt32[Array, "m r"], label_of=None) -> Int32[Array, "m"]:
    """Returns distinct positions, drawn one after another from what is left, int32 (m,).

    words: (m, r). label_of: positions -> labels; if given, labels are distinct too as far as one of
    r draws allows (r = 1 suffices without). Draws beyond the size of the pool are meaningless, and
    do not disturb those before them.
    """
    m = words.shape[0]

    def step(i, state):
        positions, starts, widths, labels = state
        unit = below(words[i], total(pool) - widths.sum())
        moved = jax.lax.fori_loop(0, m, lambda j, x: _undo(x, starts, widths, m - 1 - j), unit, unroll=m <= 8)
        candidates = locate(tables, pool, moved)
        label = candidates if label_of is None else label_of(candidates)
        fresh = ~(label[:, None] == labels[None, :]).any(1)
        pick = first_true(fresh) if label_of is not None else 0
        start, width = interval(tables, pool, candidates[pick])
        start = start - (moved[pick] - unit[pick])  # where the gap is among what was left
        return (
            positions.at[i].set(candidates[pick]),
            starts.at[i].set(start),
            widths.at[i].set(width),
            labels.at[i].set(label[pick]),
        )

    zeros = jnp.zeros(m, jnp.int32)
    return jax.lax.fori_loop(0, m, step, (zeros, zeros, zeros, zeros - 1), unroll=m <= 4)[0]


def _undo(unit: jax.Array, starts: jax.Array, widths: jax.Array, i: jax.Array) -> jax.Array:
    """Returns units among what was left before the i-th removal, from units among what was left after it."""
    return unit + jnp.where(unit >= starts[i], widths[i], 0)
