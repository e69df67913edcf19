"""From a ModelSpec to a pure pair of functions, `init` and `apply`.

Layers are Flax NNX modules; they are used functionally: a module is split once into its definition and
a plain nested dict of arrays, and merged again inside every traced call.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from flax import nnx

from icl_jax.models import embed, recurrent, transformer
from icl_jax.models.encoders import encoder
from icl_jax.models.layers import Dense, along_last
from icl_jax.models.resnet import BatchStat
from icl_jax.models.taps import Tap, check
from icl_jax.models.validate import ItemShape, validate_model
from icl_jax.spec import ModelSpec


@flax.struct.dataclass
class Output:
    """logits: float32 (B, vocab) at the query, or (B, n+1, vocab) at all items. taps: site -> array."""

    logits: jax.Array
    taps: dict[str, jax.Array]


class Readout(nnx.Module):
    """Linear layer, MLP (ReLU hidden layers), or product with the label table, to float32 logits."""

    def __init__(self, spec: ModelSpec, width: int, vocab_size: int):
        self.num_hidden = spec.readout_layers if spec.readout == "mlp" else 0
        for i in range(self.num_hidden):
            setattr(self, f"hidden_{i}", Dense(width, width, spec.dtype))
        self.out = None if spec.tied else Dense(width, vocab_size, spec.dtype)

    def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
        """x: (..., width); table: (vocab, width), read only if tied."""
        for i in range(self.num_hidden):
            x = jax.nn.relu(getattr(self, f"hidden_{i}")(x))
        kernel = self.out.kernel[...] if self.out else table.T
        logits = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return logits + along_last(self.out.bias[...], logits) if self.out else logits


class Network(nnx.Module):
    """Encoder, embedder, core and readout."""

    def __init__(self, spec: ModelSpec, items: ItemShape, vocab_size: int, place: embed.Layout):
        self.encoder = encoder(spec, items.shape, items.num_classes, place.content)
        self.embedder = embed.Embedder(spec, place, vocab_size)
        self.core = _core(spec, place.core)
        self.readout = Readout(spec, place.core, vocab_size)
        self.place = place

    def __call__(self, items, labels, task, key, train, positions, mean, record, patches) -> Output:
        """See `Model.apply`."""
        flat = items.reshape(-1, *items.shape[2:])
        features = self.encoder(flat, train, mean).reshape(*items.shape[:2], -1)
        tap = Tap(record, patches)
        tokens = tap("embed", self.embedder(features, labels, task, key))
        inner = tuple(site for site in record if site != "embed")
        x, taps = self.core(tokens, positions == "query", inner, tuple(p for p in patches if p.site != "embed"))
        x = x[:, 0] if positions == "query" else x[:, self.place.first_item :: self.place.item_stride]
        return Output(self.readout(x, self.embedder.table[...]), {**tap.recorded, **taps})


def _core(spec: ModelSpec, width: int) -> nnx.Module:
    if spec.core in recurrent.CELLS:
        return recurrent.Recurrent(spec.core, spec.num_layers, width, spec.dtype)
    norm, rotary = spec.norm == "pre", spec.positions == "rotary"
    return transformer.Transformer(spec.num_layers, width, spec.num_heads, spec.mlp_ratio, norm, rotary, spec.dtype)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; hashable, and equal to any other built from the same facts."""

    spec: ModelSpec
    items: ItemShape
    vocab_size: int
    context_len: int
    task_token: bool

    def init(self, key: jax.Array) -> dict:
        """Returns {"params": ..., "stats": ...}: nested dicts of float32 arrays. jit and vmap over keys.

        All parameters come from one draw, cut into pieces: separate draws would each be compiled.
        """
        _, params, stats = _template(self)
        leaves = [(v, v.get_value()) for v in jax.tree.leaves(params, is_leaf=_is_variable)]
        total = sum(leaf.size for variable, leaf in leaves if variable.get_metadata("sd"))
        noise = jax.random.truncated_normal(key, -2.0, 2.0, (total,))
        first, values = 0, []
        for variable, leaf in leaves:
            sd = variable.get_metadata("sd")
            if sd:
                values.append(noise[first : first + leaf.size].reshape(leaf.shape) * sd)
                first += leaf.size
            else:
                values.append(jnp.asarray(leaf))
        params = jax.tree.unflatten(jax.tree.structure(params, is_leaf=_is_variable), values)
        return {"params": nnx.to_pure_dict(params), "stats": jax.tree.map(jnp.asarray, nnx.to_pure_dict(stats))}

    def apply(
        self,
        variables: dict,
        items: jax.Array,
        labels: jax.Array,
        task: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
        positions: str = "query",
        mean: Callable | None = None,
        record: tuple[str, ...] = (),
        patches: tuple = (),
    ) -> tuple[Output, dict]:
        """Returns (Output, new batch statistics).

        items: (B, n+1, *item_shape); labels: int32 (B, n+1), the last is never read; task: int32 (B,).
        key: (B,), a key per sequence, for models that draw (one-hot positions shifted at random; None: no
        shift): so a sequence is read alike however the batch is split.
        train: batch moments instead of moving averages, which are then updated.
        positions: 'query', or 'items' for the logits at every item (interleaved labels only).
        mean: averages a pytree over the devices that share this batch (None: one device).
        record: sites to return; patches: `taps.Patch`es with masks resolved by `taps.at_step`.
        """
        self._check(positions, record, patches)
        network = self._network(variables)
        with jax.default_matmul_precision(self.spec.precision):
            output = network(items, labels, task, key, train, positions, mean, tuple(record), tuple(patches))
        return output, nnx.to_pure_dict(nnx.state(network, BatchStat))

    def encode(self, variables: dict, items: jax.Array) -> jax.Array:
        """Returns the item encoder's outputs (..., width) for items (..., *item_shape), in eval mode."""
        lead = items.shape[: items.ndim - len(self.items.shape)]
        network = self._network(variables)
        with jax.default_matmul_precision(self.spec.precision):
            features = network.encoder(items.reshape(-1, *self.items.shape), False, None)
        return features.reshape(*lead, -1)

    def _network(self, variables: dict) -> Network:
        definition, params, stats = _template(self)
        return nnx.merge(definition, _filled(params, variables["params"]), _filled(stats, variables["stats"]))

    def _check(self, positions: str, record, patches) -> None:
        if positions not in ("query", "items"):
            raise ValueError(f"positions {positions!r}: use 'query' or 'items'")
        if positions == "items" and self.spec.labels == "concatenated":
            raise ValueError("positions 'items' needs interleaved labels: a concatenated token holds its own label")
        check(record, patches, self.sites)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that exist, see `taps`."""
        if self.spec.core in recurrent.CELLS:
            return ("embed", *recurrent.CELLS[self.spec.core].sites)
        return ("embed", *(s for s in transformer.SITES if s != "mlp_out" or self.spec.mlp_ratio))

    def modules(self, params: dict) -> dict:
        """Returns the params' tree with the module of each leaf, for weight decay.

        'attention' (recurrent cores: all of the core), 'mlp' (with the readout), 'encoder',
        'embeddings' (label table, its mixing layer, learned positions), or 'other' (biases and norms).
        """
        return jax.tree_util.tree_map_with_path(lambda path, _: _module([p.key for p in path]), params)


def _module(path: list[str]) -> str:
    if path[-1] in ("bias", "scale"):
        return "other"
    if path[0] == "core":
        return "mlp" if "mlp" in path else "attention"
    return {"readout": "mlp", "encoder": "encoder", "embedder": "embeddings"}[path[0]]


def build(spec: ModelSpec, items: ItemShape, vocab_size: int, context_len: int, task_token: bool) -> Model:
    """Returns the model; raises ValueError for what cannot be built (see `validate_model`).

    vocab_size: labels, symbols and task tokens; context_len: pairs before the query.
    """
    validate_model(spec, items, context_len, "query", task_token)
    return Model(spec, items, vocab_size, context_len, bool(task_token))


def num_params(params: dict) -> int:
    """Returns how many numbers the params hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@functools.lru_cache(maxsize=64)
def _template(model: Model):
    """(definition, parameters, statistics) of the network, with the initial values that are constant."""
    place = embed.layout(model.spec, model.context_len, model.task_token)
    network = Network(model.spec, model.items, model.vocab_size, place)
    return nnx.split(network, nnx.Param, BatchStat)


def _filled(state: nnx.State, values: dict) -> nnx.State:
    """The template's state holding the values of a nested dict."""
    state = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(state, values)
    return state


def _is_variable(x) -> bool:
    return isinstance(x, nnx.Variable)
