"""From a ModelSpec to a pure pair of functions, `init` and `apply`.

A model is a frontend (inputs -> tokens), a core (tokens -> hidden states) and a head (hidden states -> logits), each
built by its component. They are Flax NNX modules that are used functionally: the network is split once into its
definition and a plain nested dict of arrays, and merged again inside every traced call.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, Key, Num

from icl_jax import registry
from icl_jax.inputs import Roles
from icl_jax.models import taps
from icl_jax.models.cache import Cache
from icl_jax.models.frontends.layout import only_query
from icl_jax.models.layers import BatchStat
from icl_jax.models.taps import Tap
from icl_jax.patches import ALL, canonical, edge
from icl_jax.plugins import digest_of
from icl_jax.rng import stream_key
from icl_jax.spec import ModelSpec
from icl_jax.storage.weights import read_weights

LAST, ITEMS = "last", "items"


@flax.struct.dataclass
class Output:
    """What a model gives.

    logits: float32 (B, vocab) at the last token, (B, n, vocab) at the items, or (B, K, vocab) where K places were
    named. stats: the new batch statistics. taps: site, as it was asked for -> array. changed: name of a patch ->
    float32 share of the entries of its site, all layers and sequences, that it changed; entries that causality forbids
    count as none.
    """

    logits: jax.Array
    stats: Any
    taps: dict[str, jax.Array]
    changed: dict[str, jax.Array]


class Frontend(Protocol):
    """An NNX module from inputs to tokens. build(spec, facts of the inputs, options; those of its parts by role).

    width: of a token; vocab_size: of the logits; items: the tokens at which the labels of items are asked, None where
    only the logits of the last are scored; table: (vocab_size, width), for a head tied to it. Its attributes that hold
    parameters are their names in checkpoints. sets: names of the sets of tokens that `roles` tells apart; a frontend
    without them has neither. One whose sequences differ in length also says where the `last` token of each is, int32
    (B,), of its inputs. One whose tokens may follow others that were read before also takes `first`, int32
    (B or 1,): the position of its first token.
    """

    width: int
    vocab_size: int
    items: slice | None
    table: jax.Array
    sets: tuple[str, ...]

    def __call__(
        self, inputs, key: Key[Array, "B"] | None, train: bool, mean: Callable | None
    ) -> Float[Array, "B N width"]:
        """Returns tokens (B, N, width)."""
        ...

    def roles(self, inputs) -> Roles:
        """Returns the roles of the tokens."""
        ...


class Core(Protocol):
    """An NNX module from tokens to hidden states. build(spec, width, options). Where its component says that it is
    `cached`, it takes a `Cache` too, whose keys and values come before those of its tokens."""

    def __call__(self, x: Float[Array, "B N D"], logits_at, tap: Tap) -> Float[Array, "B Q D"]:
        """Returns hidden states (B, N, width); where logits_at is "last", (B, 1, width) of the last token will do.
        logits_at: as in `Model.apply`, or "all"."""
        ...


class Head(Protocol):
    """An NNX module from hidden states to logits. build(spec, width, vocab_size, options)."""

    def __call__(self, x: Float[Array, "*b width"], table: Float[Array, "_ _"]) -> Float32[Array, "*b vocab"]:
        """Returns float32 logits (..., vocab_size) of hidden states (..., width)."""
        ...


class Network(nnx.Module):
    """Frontend, core and readout (the head)."""

    def __init__(self, model: "Model"):
        spec, parts, options = model.spec, model.components, model.options_of
        own = options("frontend") | {role: options(role) for role in parts["frontend"].parts}
        self.frontend = parts["frontend"].builder()(spec, model.facts, own)
        for name in ("core", "readout"):
            if hasattr(self.frontend, name):
                raise ValueError(f"frontend {model.frontend!r} has an attribute {name!r}, a name of the network's own")
        self.core = parts["core"].builder()(spec, self.frontend.width, options("core"))
        self.readout = parts["head"].builder()(spec, self.frontend.width, self.frontend.vocab_size, options("head"))

    def __call__(
        self, inputs, key, train, mean, logits_at, tap: Tap, cache: Cache | None = None
    ) -> Float32[Array, "B *places vocab"]:
        """See `Model.apply`."""
        first, past = ({}, {}) if cache is None else ({"first": cache.first}, {"cache": cache})
        is_ragged = isinstance(logits_at, str) and logits_at == LAST and hasattr(self.frontend, "last")
        if is_ragged:
            logits_at = self.frontend.last(inputs)[:, None]
        tokens = tap("embed", self.frontend(inputs, key, train, mean, **first))
        hidden = tap("final", self.core(tokens, ALL if tap.touches("final") else logits_at, tap, **past))
        if not isinstance(logits_at, str):
            hidden = jnp.take_along_axis(hidden, logits_at[..., None], axis=1)
        elif logits_at == LAST:
            hidden = hidden[:, -1]
        else:
            hidden = hidden[:, self.frontend.items]
        logits = self.readout(hidden, self.frontend.table)
        return logits[:, 0] if is_ragged else logits


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions; hashable, and equal to any other built from the same facts.

    facts: of the inputs, as the frontend wants them. options: as in `RunSpec`. plugins: digests of those that its parts
    come from, by which an edited one is another model.
    """

    spec: ModelSpec
    facts: Hashable
    frontend: str = "pairs"
    options: tuple = ()
    plugins: tuple[str, ...] = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "plugins", tuple(digest_of(part) for part in self.components.values()))

    def options_of(self, role: str) -> dict[str, Any]:
        """Returns all options of the component of a role, with their defaults."""
        return registry.resolved_options(self.components[role], dict(self.options).get(role, ()))

    @functools.cached_property
    def components(self) -> dict[str, Any]:
        """The components of frontend, core and head, and of the parts of the frontend, by role."""
        names = {"frontend": self.frontend, "core": self.spec.core, "head": self.spec.readout}
        found = {role: registry.find(role, name) for role, name in names.items()}
        for role in found["frontend"].parts:
            found[role] = registry.find(role, getattr(self.spec, registry.FIELDS[role][1]))
        return found

    @property
    def is_frozen(self) -> bool:
        """Whether its parameters are weights that were imported (model.weights): no part of a member's state."""
        return bool(self.spec.weights)

    def shared(self) -> dict:
        """Returns frozen weights, one copy a device, that are no part of a member's state: the parameters of an
        imported model, or those drawn in their place (model.untrained); nothing else. ValueError where they are not
        those of this network."""
        return _frozen(self) if self.is_frozen else {}

    def init(self, key: Key[Array, ""]) -> dict:
        """Returns {"params": ..., "stats": ...}: nested dicts of float32 arrays. jit and vmap over keys.

        A parameter with a rule of its own has a key of its own. Frozen weights are not among them.
        """
        _, params, stats = _template(self)
        if self.is_frozen:
            return {"params": {}, "stats": jax.tree.map(jnp.asarray, _flat(nnx.to_pure_dict(stats)))}
        stats = jax.tree.map(jnp.asarray, _flat(nnx.to_pure_dict(stats)))
        return {"params": _drawn(params, key), "stats": stats}

    def apply(
        self,
        variables: dict,
        inputs: Any,
        *,
        key: Key[Array, "B"] | None = None,
        train: bool = False,
        logits_at: str | Int[Array, "B K"] = LAST,
        mean: Callable | None = None,
        record: tuple[str, ...] = (),
        patches: tuple = (),
        shared: Any = None,
        cache: Cache | None = None,
    ) -> Output:
        """Returns the `Output` of B sequences.

        inputs: what the frontend reads. key: (B,), a key per sequence, for models that draw (one-hot positions shifted
        at random; None: no shift): so a sequence is read alike however the batch is split.
        train: batch moments instead of moving averages, which are then updated.
        logits_at: 'last', 'items' for the logits at every item, before its label (interleaved labels, items first), or
        the tokens (B, K), int32.
        mean: averages a pytree over the devices that share this batch (None: one device).
        record: sites to return; patches: `taps.Patch`es that act (see `taps.at_step` for those of some steps).
        shared: what `shared()` gave, on the device. cache: of tokens that were read before and that these follow; the
        keys of attention are then its tokens and these, in edges of patches too.
        """
        patches = taps.named(patches)
        taps.check(record, patches, self.sites, self.token_set_names if patches else ())
        self._check_cache(cache, patches)
        network = self._network(variables, shared)
        self._check_places(network.frontend, logits_at)
        before = None if cache is None else cache.roles
        placed = taps.place(patches, self.sites, lambda: network.frontend.roles(inputs), before)
        tap = Tap(tuple(map(canonical, record)), placed, self.sites)
        with jax.default_matmul_precision(self.spec.precision):
            logits = network(inputs, key, train, mean, logits_at, tap, cache)
        stats = _flat(nnx.to_pure_dict(nnx.state(network, BatchStat)))
        return Output(logits, stats, {site: tap.recorded[canonical(site)] for site in record}, tap.changed)

    def token_sets(self, inputs: Any) -> dict[str, Bool[Array | np.ndarray, "B N"]]:
        """Returns which tokens of B sequences have a role: name of the set -> bool (B, N). inputs: as for `apply`."""
        return dict(self.roles(inputs).sets) if getattr(self._frontend, "sets", ()) else {}

    def roles(self, inputs: Any) -> Roles:
        """Returns the roles of the tokens of B sequences. ValueError where the frontend tells none apart."""
        if not getattr(self._frontend, "sets", ()):
            raise ValueError(f"frontend {self.frontend!r} tells no roles of tokens apart; give it `sets` and `roles`")
        return self._frontend.roles(inputs)

    @property
    def token_set_names(self) -> tuple[str, ...]:
        """Names of the sets of tokens that a patch may name."""
        return (ALL, *getattr(self._frontend, "sets", ()))

    @property
    def _frontend(self) -> Frontend:
        return nnx.merge(*_template(self)).frontend

    def _check_cache(self, cache: Cache | None, patches: Sequence[taps.Patch]) -> None:
        """Raises ValueError for a cache that the core cannot read, or in which patches cannot find their tokens."""
        if cache is None:
            return
        if not self.components["core"].cached:
            cached = [name for name, core in registry.components("core").items() if core.cached]
            raise ValueError(
                f"model.core {self.spec.core!r} keeps no keys and values of what it has read; cores with a cache: "
                f"{', '.join(cached)}"
            )
        if cache.roles is None and any(all(edge(patch.tokens)) for patch in patches):
            raise ValueError("a patch names an edge, and the cache does not say what its tokens are; give it roles")

    def encode(self, variables: dict, items: Num[Array, "*b_item"]) -> Float[Array, "*b width"]:
        """Returns the item encoder's outputs (..., width) for items (..., *item_shape), in eval mode; where an item is
        several tokens (model.item_tokens), those of all of its parts side by side."""
        with jax.default_matmul_precision(self.spec.precision):
            return self._network(variables).frontend.encode(items)

    def check(self, logits_at: str | Int[Array, "B K"]) -> None:
        """Raises ValueError for a model that cannot be built, has no logits at these places, or batch statistics that
        no component declares."""
        stats = _template(self)[2]
        self._check_places(self._frontend, logits_at)
        if jax.tree.leaves(stats) and not any(part.batch_stats for part in self.components.values()):
            names = ", ".join(f"{role} {part.name!r}" for role, part in self.components.items())
            raise ValueError(f"the network has batch statistics, and none of {names} declares batch_stats=True")

    def _check_places(self, frontend: Frontend, logits_at: str | jax.Array) -> None:
        if isinstance(logits_at, str) and logits_at not in (LAST, ITEMS):
            raise ValueError(f"logits_at {logits_at!r}: use 'last', 'items' or the tokens' indices (B, K)")
        if isinstance(logits_at, str) and logits_at == ITEMS and frontend.items is None:
            why = only_query(self.spec) or f"frontend {self.frontend!r} has none but the last token"
            raise ValueError(f"logits_at 'items' needs predictions at items: {why}; or use logits_at 'last'")

    def _network(self, variables: dict, shared: Any = None) -> Network:
        definition, params, stats = _template(self)
        if self.is_frozen and not shared:
            raise ValueError(f"the parameters are those of {self.spec.weights}: give apply shared=model.shared()")
        own = shared if self.is_frozen else variables["params"]
        return nnx.merge(definition, _filled(params, own), _filled(stats, variables["stats"]))

    @functools.cached_property
    def sites(self) -> Mapping[str, registry.Axes]:
        """The sites that exist, with their axes, see `taps`."""
        tokens = ("sequence", "token", "width")
        return {"embed": tokens, **self.components["core"].sites(self.spec, self.options_of("core")), "final": tokens}

    def decay_groups(self, params: dict) -> dict:
        """Returns the params' tree with each leaf's group of weight decay, "" for none (biases and norms).

        The components say their groups: 'attention' (recurrent cores: all of the core), 'mlp' (with the readout),
        'encoder', 'embeddings' (label table, separator, its mixing layer, learned positions).
        """
        of = {"readout" if role == "head" else role: part.decay for role, part in self.components.items()}
        return jax.tree_util.tree_map_with_path(
            lambda path, _: _group([p.key for p in path], of.get(path[0].key, of["frontend"])), params
        )


def _group(path: list[str], decay: Mapping[str, str]) -> str:
    if path[-1] in ("bias", "scale"):
        return ""
    return next((group for part, group in decay.items() if part in path), decay.get("*", ""))


def num_params(params: dict) -> int:
    """Returns how many numbers the params hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _drawn(params: nnx.State, key: Key[Array, ""]) -> dict:
    """Initial parameters. All normals come from one draw, cut into pieces: separate draws would each be compiled."""
    leaves, structure = jax.tree.flatten(_flat(params), is_leaf=_is_variable)
    sizes = [leaf.get_value().size if leaf.get_metadata("sd") else 0 for leaf in leaves]
    noise = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),))
    firsts = np.cumsum([0, *sizes])
    values = [
        _ruled(leaf, jax.random.fold_in(key, i))
        if leaf.get_metadata("rule")
        else _filled_or_drawn(leaf, noise[first : first + size])
        for i, (leaf, first, size) in enumerate(zip(leaves, firsts, sizes, strict=False))
    ]
    return jax.tree.unflatten(structure, values)


def _filled_or_drawn(variable: nnx.Param, noise: jax.Array) -> jax.Array:
    """The fill, and with an sd its share of the normals on it."""
    value, sd = variable.get_value(), variable.get_metadata("sd")
    if not sd:
        return jnp.asarray(value)
    drawn = noise.reshape(value.shape) * sd
    return drawn + value if np.any(value) else drawn


def _ruled(variable: nnx.Param, key: jax.Array) -> jax.Array:
    """What the parameter's own rule says, of each layer where layers are stacked."""
    shape, rule = variable.get_value().shape, variable.get_metadata("rule")
    if not variable.get_metadata("stacked"):
        return rule(key, shape)
    return jnp.stack([rule(k, shape[1:]) for k in jax.random.split(key, shape[0])])


@functools.lru_cache(maxsize=2)
def _frozen(model: Model) -> dict:
    """The weights that were imported, checked against the network's parameters, or others drawn in their place."""
    if number := model.spec.untrained:
        drawn = jax.jit(lambda key: _drawn(_template(model)[1], key))(stream_key(np.uint32(number), "init"))
        return jax.tree.map(lambda leaf: leaf.astype(model.spec.dtype), drawn)
    found, here = read_weights(model.spec.weights), _flat(nnx.to_pure_dict(_template(model)[1]))
    shapes = lambda tree: {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in tree}
    there, wanted = (shapes(jax.tree_util.tree_leaves_with_path(tree)) for tree in (found, here))
    if wrong := sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{model.spec.weights} are weights of another network: {name} is {there.get(name, 'missing')} there, "
            f"{wanted.get(name, 'nothing')} here; use the model's config as it was imported"
        )
    return found


@functools.lru_cache(maxsize=64)
def _template(model: Model):
    """(definition, parameters, statistics) of the network, with the initial values that are constant."""
    return nnx.split(Network(model), nnx.Param, BatchStat)


def _flat(tree: Mapping) -> dict:
    """The parts of the frontend beside core and readout, as checkpoints have them."""
    tree = dict(tree)
    return {**dict(tree.pop("frontend", {})), **tree}


def _filled(state: nnx.State, values: dict) -> nnx.State:
    """The template's state holding the values of a nested dict."""
    own = {name: value for name, value in values.items() if name in ("core", "readout")}
    frontend = {name: value for name, value in values.items() if name not in own}
    state = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(state, own | ({"frontend": frontend} if frontend else {}))
    return state


def _is_variable(x) -> bool:
    return isinstance(x, nnx.Variable)
