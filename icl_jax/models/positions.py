"""Positions of tokens: sines and cosines, rotations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

ROTARY_BASE = 10_000.0  # Su et al. 2021


def sinusoid(num_tokens: int, width: int, scale: float) -> Float32[np.ndarray, "{num_tokens} {width}"]:
    """(num_tokens, width) sines then cosines of t * scale^(-2i / width) (Chan et al. 2022, released code)."""
    frequency = scale ** (-np.arange(0, width, 2) / width)
    angle = np.arange(num_tokens)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021): which pairs of a head's components turn, and how fast.

    dims: components that turn, the first of a head (0: all). base: pair i of n turns by position * base^(-i / n).
    pairs: 'halves' turns (i, i + dims / 2), as in GPT-NeoX and Llama, 'neighbours' (2i, 2i + 1), as in GPT-J.
    """

    dims: int = 0
    base: float = ROTARY_BASE
    pairs: str = "halves"

    def __call__(self, x: Float[Array, "B N H Dh"], first: int | Int[Array, "_"] = 0) -> Float[Array, "B N H Dh"]:
        """Returns x turned. first: position of token 0, of all sequences or, as int32 (B or 1,), of each."""
        dims = self.dims or x.shape[-1]
        turned = self._turn(x[..., :dims], first) if dims < x.shape[-1] else self._turn(x, first)
        return jnp.concatenate([turned, x[..., dims:]], axis=-1) if dims < x.shape[-1] else turned

    def _turn(self, x: jax.Array, first) -> jax.Array:
        half = x.shape[-1] // 2
        cos, sin = self._angles(x, half, first)
        if self.pairs == "neighbours":
            a, b = x[..., ::2], x[..., 1::2]
            return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def _angles(self, x: jax.Array, half: int, first) -> tuple[jax.Array, jax.Array]:
        """Cosines and sines, (B or 1, N, 1, half)."""
        frequency = self.base ** (-np.arange(half) / half)
        if isinstance(first, int):
            angle = (first + np.arange(x.shape[1]))[:, None] * frequency
            cos, sin = (jnp.asarray(f(angle), x.dtype)[None, :, None] for f in (np.cos, np.sin))
            return cos, sin
        position = (first[:, None] + jnp.arange(x.shape[1])[None]).astype(jnp.float32)
        angle = position[:, :, None, None] * frequency.astype(np.float32)[None, None, None]
        return jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
