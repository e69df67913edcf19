"""Positions of tokens: sines and cosines, rotations."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

ROTARY_BASE = 10_000.0  # Su et al. 2021


def sinusoid(num_tokens: int, width: int, scale: float) -> Float32[np.ndarray, "{num_tokens} {width}"]:
    """(num_tokens, width) sines then cosines of t * scale^(-2i / width) (Chan et al. 2022, released code)."""
    frequency = scale ** (-np.arange(0, width, 2) / width)
    angle = np.arange(num_tokens)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def rotate(x: Float[Array, "B N H Dh"], first: int = 0) -> Float[Array, "B N H Dh"]:
    """Rotary positions (Su et al. 2021): turns pairs (i, i + Dh/2) of x (B, N, H, Dh), token 0 at `first`."""
    half = x.shape[-1] // 2
    frequency = ROTARY_BASE ** (-np.arange(half) / half)
    angle = (first + np.arange(x.shape[1]))[:, None] * frequency
    cos, sin = (jnp.asarray(f(angle), x.dtype)[None, :, None] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
