"""Heads: from hidden states to logits."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from icl_jax.models.layers import Dense, along_last
from icl_jax.spec import ModelSpec


class Readout(nnx.Module):
    """Linear layer, MLP (ReLU hidden layers), or product with the label table, to float32 logits."""

    def __init__(self, spec: ModelSpec, width: int, vocab_size: int, num_hidden: int, has_bias: bool):
        self.num_hidden = num_hidden
        for i in range(num_hidden):
            setattr(self, f"hidden_{i}", Dense(width, width, spec.dtype))
        self.out = None if spec.tied else Dense(width, vocab_size, spec.dtype, has_bias=has_bias)

    def __call__(self, x: Float[Array, "*b width"], table: Float[Array, "_ _"]) -> Float32[Array, "*b vocab"]:
        """x: (..., width); table: (vocab, width), read only if tied."""
        for i in range(self.num_hidden):
            x = jax.nn.relu(getattr(self, f"hidden_{i}")(x))
        kernel = self.out.kernel[...] if self.out else table.T
        logits = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return logits + along_last(self.out.bias[...], logits) if self.out and self.out.bias else logits


def linear(spec: ModelSpec, width: int, vocab_size: int, options: dict) -> Readout:
    return Readout(spec, width, vocab_size, 0, options["bias"])


def mlp(spec: ModelSpec, width: int, vocab_size: int, options: dict) -> Readout:
    if spec.readout_layers < 1:
        raise ValueError(f"model.readout_layers {spec.readout_layers}: at least 1, or readout 'linear'")
    return Readout(spec, width, vocab_size, spec.readout_layers, options["bias"])
