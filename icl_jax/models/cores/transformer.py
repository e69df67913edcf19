"""Causal transformer: pre-norm (or norm-free) blocks, attention only or with an MLP.

By default as in Chan et al. 2022 (released code): x += Attention(LN x); x += MLP(LN x); biases everywhere; GELU in its
tanh form; a final layer norm: a GPT-2. Its options make a GPT-J, a GPT-NeoX or a Llama of it. Parameters of all blocks
are stacked along a leading layer axis.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from icl_jax.models.cache import Cache
from icl_jax.models.cores.attention import Attention, Heads
from icl_jax.models.layers import Dense, LayerNorm, RMSNorm, stacked
from icl_jax.models.positions import Rotary
from icl_jax.models.taps import Tap, run_layers, take_layer
from icl_jax.spec import ModelSpec

_GATED = "swiglu"
ACTIVATIONS = {
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    _GATED: jax.nn.silu,
}
NORMS = {"layer": LayerNorm, "rms": RMSNorm}


class MLP(nnx.Module):
    """Dense, activation, dense; swiglu: the activation of a gate multiplies the hidden units (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, kind: str, has_bias: bool, dtype: str):
        self.hidden = Dense(width, hidden, dtype, has_bias=has_bias)
        self.gate = Dense(width, hidden, dtype, has_bias=has_bias) if kind == _GATED else None
        self.out = Dense(hidden, width, dtype, has_bias=has_bias)
        self.kind = kind

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        act = ACTIVATIONS[self.kind]
        return self.out(act(self.gate(x)) * self.hidden(x) if self.gate else act(self.hidden(x)))


@dataclasses.dataclass(frozen=True)
class BlockShape:
    """What a block is made of. hidden: units of the MLP, 0 for none; the others as the component's options say."""

    width: int
    heads: Heads
    hidden: int
    norm: str
    eps: float
    rotary: Rotary | None
    mlp_kind: str
    blocks: str
    biases: str
    dtype: str

    def new_norm(self) -> LayerNorm | RMSNorm | None:
        """Returns a norm, None for a network without."""
        return NORMS[self.norm](self.width, self.eps) if self.norm else None


class Block(nnx.Module):
    """One transformer block."""

    def __init__(self, shape: BlockShape):
        one_norm = shape.blocks == "parallel_one_norm" or not shape.hidden
        self.norm_attention = shape.new_norm()
        self.attention = Attention(shape.width, shape.heads, shape.rotary, shape.biases == "all", shape.dtype)
        self.norm_mlp = None if one_norm else shape.new_norm()
        mlp = (shape.width, shape.hidden, shape.mlp_kind, shape.biases != "none", shape.dtype)
        self.mlp = MLP(*mlp) if shape.hidden else None
        self.blocks = shape.blocks

    def __call__(
        self, x: Float[Array, "B N D"], tap: Tap, query_only: bool = False, cache: Cache | None = None
    ) -> Float[Array, "B Q D"]:
        """x: (B, N, D). query_only: only the last token's row is computed, (B, 1, D). cache: of this layer."""
        h = self.norm_attention(x) if self.norm_attention else x
        x = x[:, -1:] if query_only else x
        attention = tap("attn_out", self.attention(h, tap, query_only, cache))
        before, x = x, x + attention
        if self.mlp:
            x = x + tap("mlp_out", self.mlp(self._read(before, h, x)))
        return tap("resid", x)

    def _read(self, before: jax.Array, normed: jax.Array, after: jax.Array) -> jax.Array:
        """What the MLP reads. before, after: attention; normed: what attention read."""
        if self.blocks == "parallel_one_norm":
            return normed[:, -after.shape[1] :]
        x = before if self.blocks == "parallel" else after
        return self.norm_mlp(x) if self.norm_mlp else x


class Transformer(nnx.Module):
    """A stack of blocks and a final norm."""

    def __init__(self, num_layers: int, shape: BlockShape):
        self.layers = stacked(Block(shape), num_layers)
        self.norm = shape.new_norm()
        self.num_layers = num_layers

    def __call__(
        self, x: Float[Array, "B N D"], logits_at, tap: Tap, cache: Cache | None = None
    ) -> Float[Array, "B Q D"]:
        """Returns hidden states (B, N, D), or (B, 1, D) of the last token where logits are wanted there only."""
        definition, params = nnx.split(self.layers)
        block = lambda p, x, tap, query_only=False: nnx.merge(definition, p)(x, tap, query_only)
        last_only = isinstance(logits_at, str) and logits_at == "last"
        if cache is not None:
            of_layer = lambda keys, values: dataclasses.replace(cache, keys=keys, values=values)
            after = lambda p, x, tap: nnx.merge(definition, p[0])(x, tap, cache=of_layer(*p[1:]))
            x = run_layers(after, (params, cache.keys, cache.values), x, self.num_layers, tap)
        elif last_only and not tap.is_used("layer"):
            first = jax.tree.map(lambda leaf: leaf[:-1], params)
            x = run_layers(block, first, x, self.num_layers - 1, tap)
            x = block(take_layer(params, -1), x, Tap(), query_only=True)
        else:
            x = run_layers(block, params, x, self.num_layers, tap)
        x = x[:, -1:] if last_only else x
        return self.norm(x) if self.norm else x


def transformer(spec: ModelSpec, width: int, options: dict[str, Any]) -> Transformer:
    """Returns the core; ValueError where the heads do not fit the width."""
    heads = _heads(spec, width, options)
    return Transformer(
        spec.num_layers,
        BlockShape(
            width=width,
            heads=heads,
            hidden=options["mlp_width"] or spec.mlp_ratio * width,
            norm=options["norm_kind"] if spec.norm == "pre" else "",
            eps=options["norm_eps"],
            rotary=_rotary(spec, heads, options) if spec.positions == "rotary" else None,
            mlp_kind=options["mlp_kind"],
            blocks=options["blocks"],
            biases=options["biases"],
            dtype=spec.dtype,
        ),
    )


def _heads(spec: ModelSpec, width: int, options: dict[str, Any]) -> Heads:
    if not options["head_width"] and width % spec.num_heads:
        fits = [h for h in range(1, width + 1) if width % h == 0]
        raise ValueError(f"model.num_heads {spec.num_heads} does not divide the core width {width}; use one of {fits}")
    heads = Heads(
        spec.num_heads, options["kv_heads"] or spec.num_heads, options["head_width"] or width // spec.num_heads
    )
    if heads.num % heads.kv:
        fits = [h for h in range(1, heads.num + 1) if heads.num % h == 0]
        raise ValueError(f"options.core.kv_heads {heads.kv} does not divide {heads.num} heads; use one of {fits}")
    return heads


def _rotary(spec: ModelSpec, heads: Heads, options: dict[str, Any]) -> Rotary:
    dims = options["rotary_dims"] or heads.width
    if not options["rotary_dims"] and heads.width % 2:
        size = f"{spec.num_heads * heads.width} / {spec.num_heads} = {heads.width}"
        raise ValueError(f"rotary positions need an even head size, not {size}; change num_heads")
    if dims % 2 or dims > heads.width:
        raise ValueError(
            f"options.core.rotary_dims {dims}: an even number of a head's {heads.width} components turns; lower it"
        )
    return Rotary(dims if dims < heads.width else 0, options["rotary_base"], options["rotary_pairs"])
