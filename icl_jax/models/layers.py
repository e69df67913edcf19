"""The small layers everything is made of: dense layers, layer norm, initial values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Num

TRUNCATION = 0.87962566103423978  # sd of a standard normal truncated to [-2, 2]
NORM_EPS = 1e-5


class BatchStat(nnx.Variable):
    """Moving averages of batch moments."""


Rule = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def param(shape: tuple[int, ...], sd: float = 0.0, fill: float = 0.0, rule: Rule | None = None) -> nnx.Param:
    """A float32 parameter that starts as `fill` + a normal of `sd` truncated at two sd, or as rule(key, shape) says.

    Only the rule is kept here: `build.Model.init` draws the normals of a model at once, because every separate draw
    costs compile time. shape: of one layer, also where layers are stacked; a rule is asked once a layer.
    """
    constant = np.broadcast_to(np.float32(fill), shape)  # takes no memory, however large a table is
    return nnx.Param(constant, sd=sd, rule=rule, stacked=False)


def fan_in_sd(fan_in: int, corrected: bool = True) -> float:
    """sd for unit variance scaling by fan-in; corrected: for what truncation takes away."""
    return fan_in**-0.5 / (TRUNCATION if corrected else 1.0)


def stacked(module: nnx.Module, num_layers: int) -> nnx.Module:
    """Returns the module with a leading layer axis on every parameter."""
    for _, leaf in nnx.iter_graph(module):
        if isinstance(leaf, nnx.Param):
            value = leaf.get_value()
            leaf.set_value(np.broadcast_to(value, (num_layers, *value.shape)))
            leaf.set_metadata("stacked", True)
    return module


def along_last(vector: Num[Array | np.ndarray, "D"], x: Num[Array, "..."]) -> Num[Array, "..."]:
    """The vector shaped to broadcast along the last axis of x."""
    return jnp.asarray(vector).reshape((1,) * (x.ndim - 1) + vector.shape).astype(x.dtype)


class Dense(nnx.Module):
    """x @ kernel + bias in `dtype`; kernel (inputs, outputs)."""

    def __init__(
        self, inputs: int, outputs: int, dtype: str = "float32", corrected: bool = True, has_bias: bool = True
    ):
        self.kernel = param((inputs, outputs), sd=fan_in_sd(inputs, corrected))
        self.bias = param((outputs,)) if has_bias else None
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b inputs"], columns: slice = slice(None)) -> Float[Array, "*b outputs"]:
        """x: (..., inputs). columns: which outputs to compute."""
        kernel, bias = self.kernel[:, columns], None if self.bias is None else self.bias[columns]
        return dense(x.astype(self.dtype), kernel, bias)


def dense(
    x: Float[Array, "*b inputs"],
    kernel: Float[Array | np.ndarray, "inputs outputs"],
    bias: Float[Array | np.ndarray, "outputs"] | None,
) -> Float[Array, "*b outputs"]:
    """x @ kernel + bias; rows are flattened, which spares the kernel's gradient a transposed copy."""
    rows = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    rows = rows if bias is None else rows + along_last(bias, rows)
    return rows.reshape(*x.shape[:-1], -1)


class LayerNorm(nnx.Module):
    """Layer norm over the last axis, moments in float32."""

    def __init__(self, width: int, eps: float = NORM_EPS):
        self.scale = param((width,), fill=1.0)
        self.bias = param((width,))
        self.eps = eps

    def __call__(self, x: Float[Array, "*b width"]) -> Float[Array, "*b width"]:
        y = x.astype(jnp.float32)
        centred = y - y.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.eps)
        return (y * along_last(self.scale[...], y) + along_last(self.bias[...], y)).astype(x.dtype)


class RMSNorm(nnx.Module):
    """x over its root mean square along the last axis (Zhang and Sennrich 2019), in float32."""

    def __init__(self, width: int, eps: float = NORM_EPS):
        self.scale = param((width,), fill=1.0)
        self.eps = eps

    def __call__(self, x: Float[Array, "*b width"]) -> Float[Array, "*b width"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * along_last(self.scale[...], y)).astype(x.dtype)
