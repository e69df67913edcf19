"""Random choices from one block of random words.

Every choice of a sequence is a function of 32-bit words drawn by one call (`draw_words`): a threefry
call costs compile time and run time, arithmetic on its words next to nothing.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float32, Int, Int32, Key, Num, UInt32


def draw_words(key: Key[Array, ""], shapes: dict[str, tuple[int, ...]]) -> dict[str, UInt32[Array, "..."]]:
    """Returns independent uniform uint32 words by name, each of the given shape. Consumes `key`."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    words = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    parts, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        parts[name] = words[start : start + size].reshape(shape)
        start += size
    return parts


def below(words: UInt32[Array, "*#s"], n: Int[ArrayLike, "*#s"]) -> Int32[Array, "*s"]:
    """Returns integers in [0, n), int32: the high word of words x n, so the bias is under n / 2**32.

    n: positive integers below 2**31, broadcast against `words`; n < 1 counts as 1.
    """
    n = jnp.maximum(n, 1).astype(jnp.uint32)
    high, low = words >> 16, words & 0xFFFF
    n_high, n_low = n >> 16, n & 0xFFFF
    middle = high * n_low + ((low * n_low) >> 16)  # at most 2**32 - 2**16: no overflow
    other = low * n_high + (middle & 0xFFFF)
    return (high * n_high + (middle >> 16) + (other >> 16)).astype(jnp.int32)


def unit(words: UInt32[Array, "*s"]) -> Float32[Array, "*s"]:
    """Returns float32 numbers in [0, 1) on the grid of 2**-24."""
    return (words >> 8).astype(jnp.float32) * 2.0**-24


def chance(words: UInt32[Array, "*#s"], p: Num[ArrayLike, "*#s"]) -> Bool[Array, "*s"]:
    """Returns True with probability p (exactly never for 0 and always for 1)."""
    return unit(words) < p


def unrank(digits: Int32[Array, "n"], together: Bool[Array, "n n"]) -> Int32[Array, "n"]:
    """Turns digits into draws without replacement, exactly (a Lehmer code).

    digits: int32 (n,), digits[t] uniform over what is left for t, that is in [0, pool - r) when r
    earlier positions draw from the same pool. together: bool (n, n), together[t, s] says that s < t
    and that both draw from one pool. Returns int32 (n,) in [0, pool): undoing the removals latest
    first turns a rank among what is left into a rank among all.
    """
    n = digits.shape[0]

    def undo(i, value):
        s = n - 1 - i
        return value + (together[:, s] & (value >= digits[s]))

    return jax.lax.fori_loop(0, n, undo, digits, unroll=n <= 32)


def distinct_below(words: UInt32[Array, "m"], n: Int[Array, ""]) -> Int32[Array, "m"]:
    """Returns distinct integers in [0, n), int32, of the shape (m,) of `words`; m may not exceed n."""
    m = words.shape[0]
    index = jnp.arange(m)
    return unrank(below(words, n - index), index[:, None] > index[None, :])


def permutation(words: UInt32[Array, "n"], blocks: Int[Array, "n"]) -> Int32[Array, "n"]:
    """Returns a uniform permutation of the positions within each block, int32 (n,).

    words: uint32 (n,); blocks: int32 (n,), ascending, the block of each position. Ranks by counting:
    for a few dozen positions cheaper than a sort, and the ranks of iid words are a permutation.
    """
    index = jnp.arange(words.shape[0])
    mine, theirs = words[:, None], words[None, :]
    smaller = (theirs < mine) | ((theirs == mine) & (index[None, :] < index[:, None]))
    block, other = blocks[:, None], blocks[None, :]
    return ((other < block) | ((other == block) & smaller)).sum(1, dtype=jnp.int32)


def first_true(mask: Bool[Array, "*s n"]) -> Int[Array, "*s"]:
    """Returns the index of the first True along the last axis (the last index where there is none)."""
    index = jnp.arange(mask.shape[-1])
    return jnp.where(mask, index, mask.shape[-1] - 1).min(-1)
