"""Causal transformer: pre-norm (or norm-free) blocks, attention only or with an MLP.

As in Chan et al. 2022 (released code): x += Attention(LN x); x += MLP(LN x); biases everywhere; GELU
in its tanh form; a final layer norm. Parameters of all blocks are stacked along a leading layer axis.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from icl_jax.models.layers import Dense, LayerNorm, stacked
from icl_jax.models.positions import rotate
from icl_jax.models.taps import Tap, run_layers, take_layer
from icl_jax.spec import ModelSpec


def attend(
    q: Float[Array, "B Q H Dh"], k: Float[Array, "B N H Dh"], v: Float[Array, "B N H Dh"], tap: Tap
) -> Float[Array, "B H Q Dh"]:
    """Returns each head's mixture of values, (B, H, Q, Dh).

    q: (B, Q, H, Dh), all tokens or the last alone (then nothing is tapped); k, v: (B, N, H, Dh).
    Scores and softmax are in float32.
    """
    num_queries, num_tokens = q.shape[1], k.shape[1]
    if num_queries < num_tokens:
        return _attend_last(q, k, v)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    causal = jnp.tril(jnp.ones((num_tokens, num_tokens), bool))[None, None]
    scores = jnp.where(causal, scores * q.shape[-1] ** -0.5, -jnp.inf)
    probs = jax.nn.softmax(tap("attn_scores", scores, allowed=causal), axis=-1)
    probs = tap("attn_probs", probs, allowed=causal).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bhqd", probs, v)


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

    def __init__(self, width: int, num_heads: int, rotary: bool, dtype: str):
        self.qkv = Dense(width, 3 * width, dtype)
        self.out = Dense(width, width, dtype)
        self.num_heads = num_heads
        self.rotary = rotary

    def __call__(self, x: Float[Array, "B N D"], tap: Tap, query_only: bool) -> Float[Array, "B Q D"]:
        q, k, v = (tap(site, self._heads(t)) for site, t in zip("qkv", self._project(x, query_only), strict=True))
        if self.rotary:
            q, k = rotate(q, first=x.shape[1] - q.shape[1]), rotate(k)
            q, k = tap("q_rot", q), tap("k_rot", k)
        heads = tap("head_out", attend(q, k, v, tap))
        return self.out(heads.swapaxes(1, 2).reshape(*q.shape[:2], -1))

    def _project(self, x: jax.Array, query_only: bool):
        width = x.shape[-1]
        if not query_only:
            return jnp.split(self.qkv(x), 3, axis=-1)
        keys, values = jnp.split(self.qkv(x, slice(width, None)), 2, axis=-1)
        return self.qkv(x[:, -1:], slice(width)), keys, values

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.num_heads, -1)


class MLP(nnx.Module):
    """Dense, GELU, dense."""

    def __init__(self, width: int, hidden: int, dtype: str):
        self.hidden = Dense(width, hidden, dtype)
        self.out = Dense(hidden, width, dtype)

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        return self.out(jax.nn.gelu(self.hidden(x), approximate=True))


class Block(nnx.Module):
    """One transformer block."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: int, norm: bool, rotary: bool, dtype: str):
        self.norm_attention = LayerNorm(width) if norm else None
        self.attention = Attention(width, num_heads, rotary, dtype)
        self.norm_mlp = LayerNorm(width) if norm and mlp_ratio else None
        self.mlp = MLP(width, mlp_ratio * width, dtype) if mlp_ratio else None

    def __call__(self, x: Float[Array, "B N D"], tap: Tap, query_only: bool = False) -> Float[Array, "B Q D"]:
        """x: (B, N, D). query_only: only the last token's row is computed, (B, 1, D)."""
        h = self.norm_attention(x) if self.norm_attention else x
        x = x[:, -1:] if query_only else x
        x = x + tap("attn_out", self.attention(h, tap, query_only))
        if self.mlp:
            h = self.norm_mlp(x) if self.norm_mlp else x
            x = x + tap("mlp_out", self.mlp(h))
        return tap("resid", x)


class Transformer(nnx.Module):
    """A stack of blocks and a final norm."""

    def __init__(
        self, num_layers: int, width: int, num_heads: int, mlp_ratio: int, norm: bool, rotary: bool, dtype: str
    ):
        self.layers = stacked(Block(width, num_heads, mlp_ratio, norm, rotary, dtype), num_layers)
        self.norm = LayerNorm(width) if norm else None
        self.num_layers = num_layers

    def __call__(self, x: Float[Array, "B N D"], logits_at, tap: Tap) -> Float[Array, "B Q D"]:
        """Returns hidden states (B, N, D), or (B, 1, D) of the last token where logits are wanted there only."""
        definition, params = nnx.split(self.layers)
        block = lambda p, x, tap, query_only=False: nnx.merge(definition, p)(x, tap, query_only)
        if isinstance(logits_at, str) and logits_at == "last" and not tap.is_used("layer"):
            first = jax.tree.map(lambda leaf: leaf[:-1], params)
            x = run_layers(block, first, x, self.num_layers - 1, tap)
            x = block(take_layer(params, -1), x, Tap(), query_only=True)
        else:
            x = run_layers(block, params, x, self.num_layers, tap)
            x = x[:, -1:] if isinstance(logits_at, str) and logits_at == "last" else x
        return self.norm(x) if self.norm else x


def transformer(spec: ModelSpec, width: int, options: dict) -> Transformer:
    """Returns the core; ValueError where the heads do not fit the width."""
    if width % spec.num_heads:
        fits = [h for h in range(1, width + 1) if width % h == 0]
        raise ValueError(f"model.num_heads {spec.num_heads} does not divide the core width {width}; use one of {fits}")
    head, rotary = width // spec.num_heads, spec.positions == "rotary"
    if rotary and head % 2:
        raise ValueError(
            f"rotary positions need an even head size, not {width} / {spec.num_heads} = {head}; change num_heads"
        )
    norm = spec.norm == "pre"
    return Transformer(spec.num_layers, width, spec.num_heads, spec.mlp_ratio, norm, rotary, spec.dtype)
