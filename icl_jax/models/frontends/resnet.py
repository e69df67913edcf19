"""The image encoder of Chan et al. 2022: a small bottleneck ResNet v1 (released code).

7x7/2 convolution to 64, norm, ReLU, 3x3/2 max pool; four groups of two bottleneck blocks with 16, 32,
32 and `width` channels and strides 1, 2, 2, 2; mean over space (or flatten). Convolutions have no bias.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Num

from icl_jax.models.layers import BatchStat, along_last, fan_in_sd, param

STEM = 64
CHANNELS = (16, 32, 32)  # of the first three groups; the last has what the width asks for
STRIDES = (1, 2, 2, 2)
BLOCKS = 2
BOTTLENECK = 4
LARGE, PARTS = 2**23, 8  # stem activations of more numbers than this are pooled in this many parts
NORM_DECAY = 0.9
NORM_EPS = 1e-5


def conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C outputs"], stride: int
) -> Float[Array, "B H2 W2 outputs"]:
    """Convolution with SAME padding; x: (B, H, W, C), kernel: (k, k, C, outputs).

    By patches (strided slices side by side) and one matrix product: inside a scan or under vmap over
    members XLA's CPU convolution is 7 to 28 times slower, and a vmapped convolution is a grouped one on
    GPU and TPU. The barrier keeps XLA from recomputing the norm's gradient inside a transposed copy.
    """
    size, _, channels, outputs = kernel.shape
    columns = [s for rows in _slices(x, 1, size, stride, 0.0) for s in _slices(rows, 2, size, stride, 0.0)]
    patches = jnp.concatenate(columns, axis=-1)
    rows = patches.reshape(-1, size * size * channels)
    out = jax.lax.optimization_barrier(rows @ kernel.reshape(-1, outputs).astype(x.dtype))
    return out.reshape(*patches.shape[:3], outputs)


def max_pool(x: Float[Array, "B H W C"], size: int, stride: int) -> Float[Array, "B H2 W2 C"]:
    """Largest value of each window with SAME padding: rows, then columns, as maxima of strided slices.

    For CPU: reduce_window is slower there, and without the barriers so is the gradient, fused into one.
    """
    for axis in (1, 2):
        slices = _slices(x, axis, size, stride, -jnp.inf)
        x = jax.lax.optimization_barrier(functools.reduce(jnp.maximum, slices))
    return x


def _slices(x: jax.Array, axis: int, size: int, stride: int, fill: float) -> list[jax.Array]:
    """The strided slices along an axis that a window of `size` with SAME padding covers."""
    length = x.shape[axis]
    pads = [(0, 0)] * x.ndim
    pads[axis] = _same_padding(length, size, stride)
    padded = jnp.pad(x, pads, constant_values=fill)
    span = stride * (-(-length // stride) - 1) + 1
    return [jax.lax.slice_in_dim(padded, i, i + span, stride, axis) for i in range(size)]


def _same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


class BatchNorm(nnx.Module):
    """Batch norm over all axes but the last, moments in float32.

    Moving averages as in the release: hidden = d * hidden + (1 - d) * moment, average = hidden /
    (1 - d^counter). Before the first update the averages are 0 and 1, so that evaluating a fresh model
    normalises nothing.
    """

    def __init__(self, width: int, fill: float = 1.0):
        self.scale = param((width,), fill=fill)
        self.bias = param((width,))
        stat = lambda value: BatchStat(np.full((width,), value, np.float32))
        self.mean_hidden, self.mean_average = stat(0.0), stat(0.0)
        self.var_hidden, self.var_average = stat(0.0), stat(1.0)
        self.counter = BatchStat(np.zeros((), np.float32))

    def __call__(self, x: Float[Array, "*b C"], train: bool, mean) -> Float[Array, "*b C"]:
        """mean: averages a pytree over the devices that share the batch (None: one device)."""
        return normalise(x, *self.affine(x, train, mean))

    def affine(self, x: Float[Array, "*b C"], train: bool, mean) -> tuple[Float32[Array, "C"], ...]:
        """Returns what `normalise` takes: the moments' average, gain and bias, each (width,)."""
        y = x.astype(jnp.float32)
        average, variance = self._update(y, mean) if train else (self.mean_average[...], self.var_average[...])
        return average, jax.lax.rsqrt(variance + NORM_EPS) * self.scale[...], jnp.asarray(self.bias[...])

    def _update(self, y: jax.Array, mean):
        axes = tuple(range(y.ndim - 1))
        moments = (y.mean(axes), jnp.square(y).mean(axes))
        first, second = mean(moments) if mean else moments
        variance = second - jnp.square(first)
        counter = self.counter[...] + 1.0
        self.counter.set_value(counter)
        for name, value in (("mean", first), ("var", variance)):
            hidden = getattr(self, f"{name}_hidden")
            hidden.set_value(NORM_DECAY * hidden[...] + (1 - NORM_DECAY) * value)
            getattr(self, f"{name}_average").set_value(hidden[...] / (1 - NORM_DECAY**counter))
        return first, variance


def normalise(
    x: Float[Array, "*b C"],
    average: Float[Array, "C"],
    gain: Float[Array, "C"],
    bias: Float[Array, "C"],
) -> Float[Array, "*b C"]:
    """Returns (x - average) * gain + bias over the last axis, computed in float32, as x's type."""
    y = x.astype(jnp.float32)
    return ((y - along_last(average, y)) * along_last(gain, y) + along_last(bias, y)).astype(x.dtype)


def norm_and_pool(x: Float[Array, "B H W C"], *affine: Float[Array, "C"]) -> Float[Array, "B H2 W2 C"]:
    """Norm, ReLU and pooling of the stem, a part of the images at a time where they are large.

    Its activations are the largest of all and the backward pass needs several of them at once: in parts,
    and made again there instead of kept, they take a fifth less of a step's memory.
    """
    if x.size <= LARGE:
        return max_pool(jax.nn.relu(normalise(x, *affine)), 3, 2)
    parts = x.reshape(math.gcd(x.shape[0], PARTS), -1, *x.shape[1:])
    pooled = jax.lax.map(jax.checkpoint(lambda y: max_pool(jax.nn.relu(normalise(y, *affine)), 3, 2)), parts)
    return pooled.reshape(-1, *pooled.shape[2:])


class Conv(nnx.Module):
    """Convolution without bias."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, dtype: str):
        self.kernel = param((size, size, inputs, outputs), sd=fan_in_sd(size * size * inputs, corrected=False))
        self.stride, self.dtype = stride, dtype

    def __call__(self, x: Num[Array, "B H W C"]) -> Float[Array, "B H2 W2 outputs"]:
        return conv(x.astype(self.dtype), self.kernel[...], self.stride)


class Block(nnx.Module):
    """1x1 - 3x3 - 1x1 with norms, and a projected shortcut in the first block of a group."""

    conv_0: Conv
    conv_1: Conv
    conv_2: Conv
    norm_0: BatchNorm
    norm_1: BatchNorm
    norm_2: BatchNorm

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool, dtype: str):
        inner = outputs // BOTTLENECK
        shapes = ((inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1))
        for i, shape in enumerate(shapes):
            setattr(self, f"conv_{i}", Conv(*shape, dtype))
            setattr(self, f"norm_{i}", BatchNorm(shape[1], fill=0.0 if i == 2 else 1.0))
        self.shortcut_conv = Conv(inputs, outputs, 1, stride, dtype) if project else None
        self.shortcut_norm = BatchNorm(outputs) if project else None

    def __call__(self, x: Float[Array, "B H W C"], train: bool, mean) -> Float[Array, "B H2 W2 outputs"]:
        y = jax.nn.relu(self.norm_0(self.conv_0(x), train, mean))
        y = jax.nn.relu(self.norm_1(self.conv_1(y), train, mean))
        y = self.norm_2(self.conv_2(y), train, mean)
        if self.shortcut_conv and self.shortcut_norm:
            x = self.shortcut_norm(self.shortcut_conv(x), train, mean)
        return jax.nn.relu(x + y)


class ResNet(nnx.Module):
    """Images (B, H, W, C) to features (B, width)."""

    def __init__(self, shape: tuple[int, ...], width: int, flatten: bool, dtype: str):
        self.initial_conv = Conv(shape[-1], STEM, 7, 2, dtype)
        self.initial_norm = BatchNorm(STEM)
        inputs = STEM
        for g, outputs in enumerate((*CHANNELS, last_channels(shape, width, flatten))):
            for b in range(BLOCKS):
                stride = STRIDES[g] if b == 0 else 1
                setattr(self, block_name(g, b), Block(inputs, outputs, stride, b == 0, dtype))
                inputs = outputs
        self.flatten = flatten

    def __call__(self, x: Num[Array, "B H W C"], train: bool, mean) -> Float[Array, "B width"]:
        x = self.initial_conv(x)
        x = norm_and_pool(x, *self.initial_norm.affine(x, train, mean))
        for g in range(len(STRIDES)):
            for b in range(BLOCKS):
                x = getattr(self, block_name(g, b))(x, train, mean)
        return x.reshape(x.shape[0], -1) if self.flatten else x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)


def block_name(group: int, block: int) -> str:
    return f"group_{group}_block_{block}"


def last_channels(shape: tuple[int, ...], width: int, flatten: bool) -> int:
    """Channels of the last group, so that the features are `width` many.

    Raises ValueError where flattening cannot give that width, or a bottleneck would be empty.
    """
    area = 1
    for length in shape[:2]:
        for stride in (2, 2, *STRIDES):
            length = -(-length // stride)
        area *= length
    channels = width // area if flatten else width
    if channels < BOTTLENECK or channels * (area if flatten else 1) != width:
        raise ValueError(
            f"resnet: {area} positions x {channels} channels cannot give {width} features; "
            "use a width that is a multiple, at least 4 channels each, or encoder_flatten=False"
        )
    return channels
