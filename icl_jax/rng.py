"""Named random streams.

Every draw of a run comes from `fold_in(fold_in(key(seed), stream), n)`; sequence i of batch n folds in
i once more. So no batch depends on what was asked before it, or on how a batch is split over devices.
The generator is threefry: rbg gives other numbers under vmap.
"""

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Integer, Key

STREAMS = {
    "init": 0,  # parameters
    "train": 1,  # training sequences
    "eval": 2,  # eval sets
    "model": 3,  # the model's own randomness in training (random position shifts)
    "bank": 4,  # items of made-up banks
    "eval_model": 5,  # the model's own randomness in evals
    "dissect": 6,  # what analyses draw: controls, random edges
}


def stream_key(seed: Integer[ArrayLike, ""], stream: str, n: Integer[ArrayLike, ""] = 0) -> Key[Array, ""]:
    """Returns the key of item n of a named stream. seed: uint32 scalar (may be traced)."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, STREAMS[stream]), n)


def fold_each(key: Key[Array, ""], first: Integer[ArrayLike, ""], count: int) -> Key[Array, "{count}"]:
    """Returns `count` keys, `key` folded with first, first + 1, ... shape (count,)."""
    index = first + jax.numpy.arange(count)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
