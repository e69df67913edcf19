"""Causal multi-head self-attention, with the sites of its parts, over tokens and over what was read before them."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from icl_jax.models.cache import Cache
from icl_jax.models.layers import Dense
from icl_jax.models.positions import Rotary
from icl_jax.models.taps import Tap


@dataclasses.dataclass(frozen=True)
class Heads:
    """num: of queries; kv: of keys and values, each shared by num / kv query heads in turn (Ainslie et al. 2023);
    width: components of a head."""

    num: int
    kv: int
    width: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Widths of all queries, keys and values."""
        return self.num * self.width, self.kv * self.width, self.kv * self.width


def attend(
    q: Float[Array, "B Q H Dh"],
    k: Float[Array, "B N Hkv Dh"],
    v: Float[Array, "B N Hkv Dh"],
    tap: Tap,
    cache: Cache | None = None,
) -> Float[Array, "B H Q Dh"]:
    """Returns each head's mixture of values, (B, H, Q, Dh).

    q: (B, Q, H, Dh), all tokens or the last alone (then nothing is tapped); k, v: (B, N, Hkv, Dh). cache: of one layer,
    keys in front of these. Scores and softmax are in float32.
    """
    num_queries, num_tokens = q.shape[1], k.shape[1]
    k, v = _for_each_query_head(k, q), _for_each_query_head(v, q)
    if num_queries < num_tokens and cache is None:
        return _attend_last(q, k, v)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    allowed = jnp.tril(jnp.ones((num_tokens, num_tokens), bool))[None, None]
    if cache is not None:
        before = _cached_scores(q, _for_each_query_head(cache.keys, q))
        scores, allowed = jnp.concatenate([before, scores], axis=-1), _with_cached(allowed, cache.valid)
    scores = jnp.where(allowed, scores * q.shape[-1] ** -0.5, -jnp.inf)
    probs = jax.nn.softmax(tap("attn_scores", scores, allowed=allowed), axis=-1)
    probs = tap("attn_probs", probs, allowed=allowed).astype(v.dtype)
    if cache is None:
        return jnp.einsum("bhqk,bkhd->bhqd", probs, v)
    values = _for_each_query_head(cache.values, q)
    mixed = _cached_mixture(probs[..., : values.shape[1]], values)
    return mixed + jnp.einsum("bhqk,bkhd->bhqd", probs[..., values.shape[1] :], v)


def _for_each_query_head(x: jax.Array, q: jax.Array) -> jax.Array:
    return x if x.shape[2] == q.shape[2] else jnp.repeat(x, q.shape[2] // x.shape[2], axis=2)


def _cached_scores(q: jax.Array, keys: jax.Array) -> jax.Array:
    """Of queries with cached keys (B or 1, S, H, Dh): (B, H, Q, S). One cache of all sequences is not copied."""
    if keys.shape[0] == 1:
        return jnp.einsum("bqhd,khd->bhqk", q, keys[0], preferred_element_type=jnp.float32)
    return jnp.einsum("bqhd,bkhd->bhqk", q, keys, preferred_element_type=jnp.float32)


def _cached_mixture(probs: jax.Array, values: jax.Array) -> jax.Array:
    if values.shape[0] == 1:
        return jnp.einsum("bhqk,khd->bhqd", probs, values[0])
    return jnp.einsum("bhqk,bkhd->bhqd", probs, values)


def _with_cached(causal: jax.Array, valid: Bool[Array, "_ S"]) -> jax.Array:
    """Which keys queries may read, (B or 1, 1, N, S + N): valid ones of the cache, and no later ones."""
    before = jnp.broadcast_to(valid[:, None, None, :], (valid.shape[0], 1, causal.shape[2], valid.shape[1]))
    own = jnp.broadcast_to(causal, (valid.shape[0], *causal.shape[1:]))
    return jnp.concatenate([before, own], axis=-1)


def _attend_last(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The last token's mixture, by products of whole rows: one query makes a batched product of slivers."""
    num_heads, head = q.shape[2:]
    same_head = jnp.repeat(jnp.eye(num_heads), head, axis=0)
    rows = lambda t: t.reshape(*t.shape[:2], -1)
    pairs = rows(k).astype(jnp.float32) * rows(q).astype(jnp.float32)
    scores = pairs @ (same_head * head**-0.5)
    probs = jax.nn.softmax(scores, axis=1)
    mixed = ((probs @ same_head.T).astype(v.dtype) * rows(v)).sum(1)
    return mixed.reshape(-1, num_heads, 1, head)


class Attention(nnx.Module):
    """Multi-head causal self-attention; `qkv` holds queries, keys and values side by side."""

    def __init__(self, width: int, heads: Heads, rotary: Rotary | None, has_bias: bool, dtype: str):
        self.qkv = Dense(width, sum(heads.sizes), dtype, has_bias=has_bias)
        self.out = Dense(heads.num * heads.width, width, dtype, has_bias=has_bias)
        self.heads = heads
        self.rotary = rotary

    def __call__(
        self, x: Float[Array, "B N D"], tap: Tap, query_only: bool = False, cache: Cache | None = None
    ) -> Float[Array, "B Q D"]:
        """x: (B, N, D). query_only: only the last token's row is computed, (B, 1, D). cache: of this layer."""
        q, k, v = (tap(site, self._heads(t)) for site, t in zip("qkv", self._project(x, query_only), strict=True))
        if self.rotary:
            first = 0 if cache is None else cache.first
            q = self.rotary(q, first if cache is not None else x.shape[1] - q.shape[1])
            q, k = tap("q_rot", q), tap("k_rot", self.rotary(k, first))
        heads = tap("head_out", attend(q, k, v, tap, cache))
        return self.out(heads.swapaxes(1, 2).reshape(*q.shape[:2], -1))

    def _project(self, x: jax.Array, query_only: bool):
        queries, keys, _ = self.heads.sizes
        if not query_only:
            return jnp.split(self.qkv(x), [queries, queries + keys], axis=-1)
        keys, values = jnp.split(self.qkv(x, slice(queries, None)), 2, axis=-1)
        return self.qkv(x[:, -1:], slice(queries)), keys, values

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], -1, self.heads.width)
