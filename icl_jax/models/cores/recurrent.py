"""Recurrent cores: LSTM, GRU and vanilla RNN, stacked without residual connections.

LSTM and RNN as in Chan et al. 2022 (released code): one dense layer on [input, hidden] gives the LSTM's
gates in the order input, candidate, forget, output, with 1 added to the forget gate; the RNN is
ReLU(dense(input) + dense(hidden)). The products with the inputs are taken for all tokens at once,
outside the loop over time.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from icl_jax.models.layers import Dense, along_last, stacked
from icl_jax.models.taps import Tap, run_layers
from icl_jax.spec import ModelSpec

FORGET_BIAS = 1.0


class LSTMCell(nnx.Module):
    """kernel: (2 D, 4 D), inputs first; carry: (hidden, cell)."""

    num_carries = 2

    def __init__(self, width: int, dtype: str):
        self.gates = Dense(2 * width, 4 * width, dtype, corrected=False)

    def read(self, x: Float[Array, "B N D"]) -> Float[Array, "B N gates"]:
        return _read(self.gates, x)

    def step(self, carry, read: Float[Array, "B gates"], tap: Tap):
        hidden, cell = carry
        i, g, f, o = jnp.split(read + _recur(self.gates, hidden), 4, axis=-1)
        cell = tap("cell", jax.nn.sigmoid(f + FORGET_BIAS) * cell + jax.nn.sigmoid(i) * jnp.tanh(g))
        return tap("state", jax.nn.sigmoid(o) * jnp.tanh(cell)), cell


class GRUCell(nnx.Module):
    """kernel: (2 D, 3 D): update, reset, candidate (Cho et al. 2014: the reset acts before the product)."""

    num_carries = 1

    def __init__(self, width: int, dtype: str):
        self.gates = Dense(2 * width, 3 * width, dtype, corrected=False)

    def read(self, x: Float[Array, "B N D"]) -> Float[Array, "B N gates"]:
        return _read(self.gates, x)

    def step(self, carry, read: Float[Array, "B gates"], tap: Tap):
        (hidden,), width = carry, carry[0].shape[-1]
        gates = read[:, : 2 * width] + _recur(self.gates, hidden, slice(2 * width))
        update, reset = jnp.split(jax.nn.sigmoid(gates), 2, axis=-1)
        candidate = read[:, 2 * width :] + _recur(self.gates, reset * hidden, slice(2 * width, None))
        return (tap("state", (1 - update) * hidden + update * jnp.tanh(candidate)),)


class RNNCell(nnx.Module):
    """ReLU(dense(input) + dense(hidden))."""

    num_carries = 1

    def __init__(self, width: int, dtype: str):
        self.input = Dense(width, width, dtype, corrected=False)
        self.hidden = Dense(width, width, dtype, corrected=False)

    def read(self, x: Float[Array, "B N D"]) -> Float[Array, "B N gates"]:
        return self.input(x)

    def step(self, carry, read: Float[Array, "B gates"], tap: Tap):
        return (tap("state", jax.nn.relu(read + self.hidden(carry[0]))),)


class Recurrent(nnx.Module):
    """A stack of recurrent layers of one kind."""

    def __init__(self, cell: nnx.Module, num_layers: int):
        self.layers = stacked(cell, num_layers)
        self.num_layers = num_layers

    def __call__(self, x: Float[Array, "B N D"], logits_at, tap: Tap) -> Float[Array, "B N D"]:
        """Returns hidden states of the last layer (B, N, D)."""
        definition, params = nnx.split(self.layers)
        layer = lambda p, x, tap: _over_time(nnx.merge(definition, p), x, tap)
        return run_layers(layer, params, x, self.num_layers, tap)


def lstm(spec: ModelSpec, width: int, options: dict) -> Recurrent:
    return Recurrent(LSTMCell(width, spec.dtype), spec.num_layers)


def gru(spec: ModelSpec, width: int, options: dict) -> Recurrent:
    return Recurrent(GRUCell(width, spec.dtype), spec.num_layers)


def rnn(spec: ModelSpec, width: int, options: dict) -> Recurrent:
    return Recurrent(RNNCell(width, spec.dtype), spec.num_layers)


def _over_time(cell, x: jax.Array, tap: Tap) -> jax.Array:
    """Hidden states (B, N, D) of one layer; a patched state is what the next token and layer read."""
    num_tokens = x.shape[1]
    carry = (jnp.zeros((x.shape[0], x.shape[2]), x.dtype),) * cell.num_carries

    tap_of, patches = tap.along("token", num_tokens, tuple(tap.sites))

    def step(carry, xs):
        now = tap_of(xs[1])
        carry = cell.step(carry, xs[0], now)
        return carry, (carry[0], now.found)

    _, (hidden, found) = jax.lax.scan(step, carry, (cell.read(x).swapaxes(0, 1), patches))
    tap.gather(found, axis=1)
    return hidden.swapaxes(0, 1)


def _read(gates: Dense, x: jax.Array) -> jax.Array:
    """The input's share of the gates, for all tokens."""
    kernel = gates.kernel[: x.shape[-1]].astype(gates.dtype)
    out = x.astype(gates.dtype) @ kernel
    assert gates.bias is not None
    return out + along_last(gates.bias[...], out)


def _recur(gates: Dense, hidden: jax.Array, columns: slice = slice(None)) -> jax.Array:
    """The hidden state's share of the gates."""
    return hidden @ gates.kernel[hidden.shape[-1] :, columns].astype(hidden.dtype)
