"""Item encoders: (items, *shape) -> (items, width)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from icl_jax.models.frontends.resnet import ResNet
from icl_jax.models.layers import Dense, param
from icl_jax.registry import find
from icl_jax.spec import ModelSpec


def flat(x: Num[Array, "B ..."], inputs: int, dtype: str) -> Num[Array, "B {inputs}"]:
    """Returns items (B, *shape) as vectors (B, inputs); symbols (B,) become one-hot."""
    return jax.nn.one_hot(x, inputs, dtype=dtype) if x.ndim == 1 else x.reshape(x.shape[0], -1)


class MLPEncoder(nnx.Module):
    """Flatten, dense, ReLU, dense."""

    def __init__(self, inputs: int, hidden: int, width: int, dtype: str):
        self.hidden = Dense(inputs, hidden, dtype)
        self.out = Dense(hidden, width, dtype)
        self.inputs, self.dtype = inputs, dtype

    def __call__(self, x: Num[Array, "B ..."], train: bool, mean) -> Float[Array, "B width"]:
        return self.out(jax.nn.relu(self.hidden(flat(x, self.inputs, self.dtype))))


class LinearEncoder(nnx.Module):
    """Flatten, one dense layer."""

    def __init__(self, inputs: int, width: int, dtype: str):
        self.out = Dense(inputs, width, dtype, corrected=False)
        self.inputs, self.dtype = inputs, dtype

    def __call__(self, x: Num[Array, "B ..."], train: bool, mean) -> Float[Array, "B width"]:
        return self.out(flat(x, self.inputs, self.dtype))


class EmbeddingEncoder(nnx.Module):
    """A row of a table per symbol."""

    def __init__(self, num_symbols: int, width: int, dtype: str):
        self.table = param((num_symbols, width), sd=1.0)
        self.dtype = dtype

    def __call__(self, x: Int[Array, "B"], train: bool, mean) -> Float[Array, "B width"]:
        return self.table[x].astype(self.dtype)


class IdentityEncoder(nnx.Module):
    """Vectors as they are, symbols one-hot."""

    def __init__(self, inputs: int, dtype: str):
        self.inputs, self.dtype = inputs, dtype

    def __call__(self, x: Num[Array, "B ..."], train: bool, mean) -> Float[Array, "B width"]:
        return jnp.asarray(flat(x, self.inputs, self.dtype), self.dtype)


def encoder(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    """Returns the spec's encoder of items of `shape` into `width` features.

    shape (): one of num_symbols symbols. options: of its own.
    """
    return find("encoder", spec.encoder).builder()(spec, shape, num_symbols, width, options)


def resnet(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    return ResNet(shape, width, spec.encoder_flatten, spec.dtype)


def embedding(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    return EmbeddingEncoder(num_symbols, width, spec.dtype)


def mlp(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    return MLPEncoder(_inputs(shape, num_symbols), spec.encoder_width, width, spec.dtype)


def linear(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    return LinearEncoder(_inputs(shape, num_symbols), width, spec.dtype)


def identity(spec: ModelSpec, shape: tuple[int, ...], num_symbols: int, width: int, options: dict) -> nnx.Module:
    return IdentityEncoder(_inputs(shape, num_symbols), spec.dtype)


def _inputs(shape: tuple[int, ...], num_symbols: int) -> int:
    return math.prod(shape) if shape else num_symbols
