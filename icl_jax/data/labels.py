"""Labels: own labels of classes, labels redrawn per sequence, noise, and which positions are scored."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float32, Int, Num, UInt32

from icl_jax.data.classes import Tables
from icl_jax.data.draws import below, chance, distinct_below
from icl_jax.data.types import Sequence
from icl_jax.data.vocab import Vocab, make_vocab
from icl_jax.spec import TaskSpec

__all__ = [
    "Vocab",
    "active_labels",
    "add_noise",
    "earlier_same",
    "group_labels",
    "loss_weights",
    "make_vocab",
    "own_labels",
    "pick_label",
    "way_labels",
]


def own_labels(vocab: Vocab, tables: Tables, positions: Int[Array, "*s"]) -> tuple[Int[Array, "*s"], Int[Array, "*s"]]:
    """Returns the first label of each training class and how many it owns; (-1, 0) for other classes.

    Rare class i owns [i X, i X + X) for multiplicity X, common class j (from 0) the label
    num_rare X + j; with fewer labels than classes all are taken modulo their number.
    """
    rare = positions < tables.num_rare
    common = tables.num_rare * (tables.multiplicity - 1) + positions
    first = jnp.where(rare, positions * tables.multiplicity, common)
    if vocab.shared_labels:
        first = first % vocab.num_class_labels
    trained = (positions >= 0) & (positions < tables.num_train)
    count = jnp.where(rare, tables.multiplicity, 1)
    return jnp.where(trained, first, -1), jnp.where(trained, count, 0)


def pick_label(
    vocab: Vocab, tables: Tables, positions: Int[Array, "*s"], words: UInt32[Array, "*s"] | None
) -> Int[Array, "*s"]:
    """Returns one of each class's own labels. words: uint32 like positions, or None without multiplicity."""
    first, count = own_labels(vocab, tables, positions)
    return first if words is None else first + below(words, count)


def group_labels(vocab: Vocab, tables: Tables, positions: Int[Array, "*s"]) -> Int[Array, "*s"]:
    """Returns the label of each class's group."""
    return vocab.groups + tables.groups[tables.order[jnp.maximum(positions, 0)]]


def way_labels(
    rule: str,
    vocab: Vocab,
    tables: Tables,
    own: Int[Array, "m"],
    num_ways: Int[Array, ""],
    words: UInt32[Array, "m"] | None,
) -> Int[Array, "m"]:
    """Returns the label shown with each way, int32 (m,).

    own: int32 (m,) own label of each way, words: uint32 (m,), or None for rules that draw nothing; num_ways: how many
    of the m are in use.
      fixed            the way's own label
      first, dynamic   way w has label w
      redrawn          distinct ones of the labels in use
      symbols          distinct symbols of the pool
      flipped          way w has the own label of way w + 1, the last that of the first
      shifted          the own label plus 1, modulo the labels in use (Reddy 2023)
      any              labels in use, drawn with replacement (fresh classes in training, Reddy 2023)
    """
    index = jnp.arange(own.shape[0])
    if rule == "fixed":
        return own
    if rule in ("first", "dynamic"):
        return index
    if rule == "flipped":
        return own[jnp.where(index + 1 < num_ways, index + 1, 0)]
    if rule == "shifted":
        return jnp.where(own < 0, own, (own + 1) % tables.num_labels)
    if words is None and rule in ("redrawn", "symbols", "any"):
        raise ValueError(f"label rule {rule!r} draws labels, and there are no words to draw them from")
    if words is not None and rule == "redrawn":
        return distinct_below(words, tables.num_labels)
    if words is not None and rule == "symbols":
        return vocab.symbols + distinct_below(words, jnp.int32(vocab.num_symbols))
    if words is not None and rule == "any":
        return below(words, tables.num_labels)
    raise ValueError(f"unknown label rule {rule!r}; use fixed, first, redrawn, symbols, flipped or shifted")


def add_noise(
    vocab: Vocab, tables: Tables, labels: Int[Array, "items"], p: Num[ArrayLike, ""], words: UInt32[Array, "2 items-1"]
) -> Int[Array, "items"]:
    """Replaces context labels, each with chance p, by random ones of their kind: class, group or symbol.

    labels: int32 (n+1,), the target (last) stays. words: uint32 (2, n).
    """
    context = labels[:-1]
    first, count = jnp.int32(0), tables.num_labels
    kinds = ((vocab.groups, vocab.num_group_labels), (vocab.symbols, vocab.num_symbols))
    for offset, size in kinds:
        if size:
            first = jnp.where(context >= offset, offset, first)
            count = jnp.where(context >= offset, size, count)
    noisy = jnp.where(chance(words[0], p), first + below(words[1], count), context)
    return jnp.concatenate([noisy, labels[-1:]])


def active_labels(vocab: Vocab, tables: Tables, h: dict) -> Bool[Array, "vocab"]:
    """Returns which entries of the vocabulary may be answers, bool (vocab.size,).

    Class labels of the active training classes, group labels and symbols; not the labels of held-out
    classes (no example has them) and not the task tokens.
    """
    index = jnp.arange(vocab.size)
    return (index < tables.num_labels) | ((index >= vocab.groups) & (index < vocab.tasks))


def earlier_same(classes: Int[Array, "n"]) -> Bool[Array, "n n"]:
    """Returns bool (n, n): [t, s] says that s < t and both have one class. classes: int32 (n,)."""
    index = jnp.arange(classes.shape[0])
    return (classes[:, None] == classes[None, :]) & (index[:, None] > index[None, :])


def loss_weights(task: TaskSpec, sequence: Sequence, h: dict) -> Float32[Array, "items"]:
    """Returns the weight of each position in the loss of ONE sequence, float32 (n+1,).

    query: all on the query. all: equal. repeats: equal over positions whose class was shown before
    (all 0 if none was). interim: the hyper interim_weight spread over the context, the rest on the query.
    """
    n = task.context_len
    query = jnp.zeros(n + 1).at[-1].set(1.0)
    if task.loss == "query":
        return query
    if task.loss == "all":
        return jnp.full(n + 1, 1.0 / (n + 1))
    if task.loss == "repeats":
        shown = earlier_same(sequence.classes).any(1).astype(jnp.float32)
        return shown / jnp.maximum(shown.sum(), 1.0)
    if task.loss == "interim":
        w = jnp.asarray(h["interim_weight"], jnp.float32)
        return (1.0 - w) * query + w / n * (1.0 - query)
    raise ValueError(f"unknown loss {task.loss!r}; use query, all, repeats or interim")
