"""Taps: arrays inside the model that can be recorded, replaced, added to or multiplied, at named sites.

A site is recorded by naming it in `record`; a `Patch` changes it. Both are plain arguments of
`Model.apply`, work under jit, vmap and grad, and add nothing to the program when unused. The gradient
with respect to the value of an additive patch of zeros is the gradient of the loss at that site.

A model's components say which sites there are, and their axes: (B sequences, N tokens, D core width, H heads,
L layers). A site within the layers has a leading axis "layer".
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Num

from icl_jax.inputs import Roles
from icl_jax.patches import ALL, EARLIER, canonical, check_static, edge
from icl_jax.registry import Axes
from icl_jax.spec import PatchNumbers, PatchSpec

Sites = Mapping[str, Axes]
FOREVER = np.iinfo(np.int32).max
UNROLLED_LAYERS = 4  # up to this many layers are unrolled; more are scanned, for the compile time


def _static(default: str = "") -> Any:
    return flax.struct.field(pytree_node=False, default=default)


@flax.struct.dataclass
class Patch:
    """One intervention, active in training steps start <= step < stop.

    site: where. mode: 'replace' the site's entries by `value`, 'add' `value` there or 'multiply' by it. Which entries:
    those of `mask` (bool), of `layers` (bool (L,) or ()), of `heads` (bool (H,) or ()) and of `tokens`, all of them:
    a set of tokens, or at attention sites an edge "a -> b" (keys in a, queries in b) `within` the same, another or any
    demonstration, as the model tells them from its inputs (`Model.token_sets`). mask and value (float) broadcast to
    the site's shape, layer axis included; fewer axes mean the same for every layer. on: bool (), whether it acts at
    all; during: 'training', 'evals' or 'both'. name: of what it changed in `Output.changed`, its number by default. A
    patch never opens the future: entries that causality forbids stay.

    >>> from icl_jax.models.taps import Patch
    >>> silent = Patch("head_out", "replace", value=0.0, heads=numpy.array([True, False]))
    >>> run.apply(run.batch(2), patches=[silent]).changed  # the first of two heads, in each layer
    {'0': array(0.5, dtype=float32)}
    """

    site: str = flax.struct.field(pytree_node=False)
    mode: str = flax.struct.field(pytree_node=False)
    mask: Any = True
    value: Any = 0.0
    start: Any = 0
    stop: Any = FOREVER
    layers: Any = True
    heads: Any = True
    on: Any = True
    tokens: str = _static()
    within: str = _static("any")
    during: str = _static("both")
    name: str = _static()


def from_config(
    name: str, spec: PatchSpec, members: Sequence[PatchNumbers], axes: Axes, layers: int, heads: int
) -> Patch:
    """Returns the patch of a config, its arrays with a leading member axis. axes: of its site; layers, heads: how
    many the model has.

    >>> from icl_jax.models.taps import from_config
    >>> from icl_jax.patches import parse
    >>> spec, numbers = parse("cut", {"site": "attn_probs", "mode": "multiply", "layers": 0})
    >>> patch = from_config("cut", spec, [numbers], run.model.sites["attn_probs"], layers=2, heads=2)
    >>> patch.layers, patch.heads
    (array([[ True, False]]), array([[ True,  True]]))
    """
    chosen = lambda field, count: np.asarray(
        [[not getattr(m, field) or i in getattr(m, field) for i in range(count)] for m in members]
    )
    of = lambda field, kind: np.asarray([getattr(m, field) for m in members], kind)
    return Patch(
        spec.site,
        spec.mode,
        mask=np.ones(len(members), bool),
        value=of("value", np.float32),
        start=of("start", np.int32),
        stop=np.asarray([m.stop or FOREVER for m in members], np.int32),
        layers=chosen("layers", layers) if "layer" in axes else np.ones(len(members), bool),
        heads=chosen("heads", heads) if "head" in axes else np.ones(len(members), bool),
        on=of("on", bool),
        tokens=spec.tokens,
        within=spec.within,
        during=spec.during,
        name=name,
    )


def named(patches: Sequence[Patch]) -> tuple[Patch, ...]:
    """Returns the patches, each with a name (its number by default). ValueError for two of one name."""
    found = tuple(p if p.name else dataclasses.replace(p, name=str(i)) for i, p in enumerate(patches))
    names = [p.name for p in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two patches are named {twice[0]!r}; give each a name of its own")
    return found


def at_step(patches: tuple[Patch, ...], step: Num[ArrayLike, ""], during: str = "both") -> tuple[Patch, ...]:
    """Returns the patches that act in 'training' or in 'evals' (both: all), off where `step` (updates done) is
    outside [start, stop)."""
    gate = lambda p: jnp.asarray(p.on, bool) & (p.start <= step) & (step < p.stop)
    chosen = (p for p in patches if "both" in (during, p.during) or p.during == during)
    return tuple(dataclasses.replace(p, on=gate(p), start=0, stop=FOREVER) for p in chosen)


def check(record: Sequence[str], patches: tuple[Patch, ...], sites: Sites, sets: Sequence[str] = (ALL,)) -> None:
    """Raises ValueError for a site, a mode, tokens or axes that this model lacks."""
    for name in record:
        check_static("record", PatchSpec(canonical(name)), sites, sets)
    for patch in patches:
        where, site = f"patch {patch.name!r}", canonical(patch.site)
        check_static(where, dataclasses.replace(patch, site=site), sites, sets)
        axes = sites[site]
        if (rank := max(jnp.ndim(patch.mask), jnp.ndim(patch.value))) > len(axes):
            raise ValueError(f"{where} at {site!r}: mask or value has {rank} axes > {len(axes)} of the site")
        for field, axis in (("layers", "layer"), ("heads", "head")):
            chosen = getattr(patch, field)
            if jnp.ndim(chosen) > 1 or (jnp.ndim(chosen) and axis not in axes):
                raise ValueError(
                    f"{where} at {site!r}: {field} has {jnp.ndim(chosen)} axes, and the site's are {', '.join(axes)}; "
                    f"give one bool per {axis} where the site has that axis"
                )


@flax.struct.dataclass
class Placed:
    """A patch whose arrays all have as many axes as its site. It acts where all masks are True."""

    name: str = flax.struct.field(pytree_node=False)
    site: str = flax.struct.field(pytree_node=False)
    mode: str = flax.struct.field(pytree_node=False)
    masks: tuple
    value: Any

    def __call__(
        self, x: Float[Array, "*s"], allowed: Bool[Array, "..."] | None
    ) -> tuple[Float[Array, "*s"], Float32[Array, ""]]:
        """Returns (x changed, the share of its allowed entries that differ now)."""
        value, where = jnp.asarray(self.value, x.dtype), allowed
        changed = {"replace": lambda: value, "add": lambda: x + value, "multiply": lambda: x * value}[self.mode]()
        for mask in self.masks:
            where = mask if where is None else where & mask
        changed = changed if where is None else jnp.where(where, changed, x)
        differs = jnp.mean(changed != x, dtype=jnp.float32)
        return changed, differs if allowed is None else differs / jnp.mean(allowed, dtype=jnp.float32)


def place(
    patches: tuple[Patch, ...], sites: Sites, roles: Callable[[], Roles], before: Roles | None = None
) -> tuple[Placed, ...]:
    """Returns the patches at their sites. roles: gives those of the tokens, asked only where a patch names tokens;
    before: of tokens that were read before and whose keys are in front of theirs."""
    if not patches:
        return ()
    found = roles() if any(p.tokens for p in patches) else None
    return tuple(_placed(dataclasses.replace(p, site=canonical(p.site)), sites, found, before) for p in patches)


def _placed(patch: Patch, sites: Sites, roles: Roles | None, before: Roles | None) -> Placed:
    axes = sites[patch.site]
    gate = jnp.asarray(patch.on, bool) & jnp.asarray(patch.layers, bool)
    masks = [_along(gate, ("layer",), axes)]
    if patch.heads is not True:
        masks.append(_along(jnp.asarray(patch.heads, bool), ("head",), axes))
    if patch.mask is not True:
        masks.append(_along(jnp.asarray(patch.mask, bool), axes, axes))
    if patch.tokens and roles is not None:
        masks.append(_of_tokens(patch, roles, axes, before))
    return Placed(patch.name, patch.site, patch.mode, tuple(masks), _along(jnp.asarray(patch.value), axes, axes))


def _along(array: jax.Array, named: Axes, axes: Axes) -> jax.Array:
    """The array with all the axes of a site. named: those that it may have, the last ones if they are fewer."""
    own = dict(zip(named[len(named) - array.ndim :], array.shape, strict=True))
    return array.reshape([own.get(axis, 1) for axis in axes])


def _of_tokens(patch: Patch, roles: Roles, axes: Axes, before: Roles | None) -> jax.Array:
    """Where the tokens that a patch names are, with all the axes of a site."""
    begin, end = edge(patch.tokens)
    if not begin:
        return _along(_token_set(roles, end), ("sequence", "token"), axes)
    read = roles if before is None else roles.after(before)
    num_queries, num_keys = roles.demonstration.shape[1], read.demonstration.shape[1]
    earlier = jnp.tril(jnp.ones((num_queries, num_keys), bool), num_keys - num_queries - 1)[None]
    keys = earlier if begin == EARLIER else _token_set(read, begin)[:, None, :]
    edges = keys & _token_set(roles, end)[:, :, None]
    if patch.within != "any":
        of_query, of_key = roles.demonstration[:, :, None], read.demonstration[:, None, :]
        equal = of_query == of_key
        edges &= (equal if patch.within == "same" else ~equal) & (of_query >= 0) & (of_key >= 0)
    return _along(edges, ("sequence", "query", "key"), axes)


def _token_set(roles: Roles, name: str) -> jax.Array:
    """The set (B, N)."""
    if name == ALL:
        return jnp.ones_like(roles.demonstration, bool)
    if name not in roles.sets:
        raise ValueError(f"the frontend declares a set of tokens {name!r} and gives {', '.join(roles.sets)}")
    return roles.sets[name]


class Tap:
    """Collects and patches sites; `tap(site, x)` returns x, patched if asked.

    sites: axes of each site, as far as they are handed in whole: a site within the layers has no axis "layer" in the
    tap that a layer gets (`run_layers`). recorded: site -> array; changed: name of a patch -> share of its site.
    """

    def __init__(self, record: tuple[str, ...] = (), patches: tuple[Placed, ...] = (), sites: Sites | None = None):
        self.record, self.patches, self.sites = record, patches, sites or {}
        self.recorded: dict[str, jax.Array] = {}
        self.changed: dict[str, jax.Array] = {}

    def __call__(
        self, site: str, x: Float[Array, "*s"], allowed: Bool[Array, "..."] | None = None
    ) -> Float[Array, "*s"]:
        """allowed: bool, same rank as x; entries outside it keep their own value."""
        for patch in self.patches:
            if patch.site == site:
                x, self.changed[patch.name] = patch(x, allowed)
        if site in self.record:
            self.recorded[site] = x
        return x

    def is_used(self, axis: str) -> bool:
        """Returns whether a site with this leading axis is recorded or patched."""
        return any(self.sites[site][0] == axis for site in (*self.record, *(p.site for p in self.patches)))

    def touches(self, site: str) -> bool:
        """Returns whether a site is recorded or patched."""
        return site in self.record or any(p.site == site for p in self.patches)

    @property
    def found(self) -> tuple[dict, dict]:
        """What a step of a loop hands out, for `gather`."""
        return self.recorded, self.changed

    def gather(self, found: tuple[dict, dict], axis: int = 0) -> None:
        """Takes what the steps of a loop found, stacked in front; `axis` is where theirs belongs in the recorded."""
        recorded, changed = found
        self.recorded |= {site: jnp.moveaxis(x, 0, axis) for site, x in recorded.items()}
        self.changed |= {name: share.mean(0) for name, share in changed.items()}

    def along(self, axis: str, length: int, sites: Sequence[str] | None = None) -> tuple[Callable, tuple]:
        """Returns what a loop over an axis of some sites needs (default: of those where that axis leads): a function
        from one step of the second thing returned to that step's tap, and arrays with the loop's axis in front."""
        chosen = [s for s, axes in self.sites.items() if axes[0] == axis] if sites is None else list(sites)
        inner = {s: tuple(a for a in self.sites[s] if a != axis) for s in chosen}
        places = {s: self.sites[s].index(axis) for s in chosen}
        record = tuple(s for s in self.record if s in inner)
        patches = tuple(p for p in self.patches if p.site in inner)
        scanned = tuple(jax.tree.map(lambda x, p=p: _scanned(x, places[p.site], length), p) for p in patches)
        closed = tuple(jax.tree.map(lambda x, p=p: _closed(x, places[p.site], length), p) for p in patches)

        def tap_of(step: tuple) -> "Tap":
            both = (
                jax.tree.map(_either, one, other, is_leaf=_is_none) for one, other in zip(step, closed, strict=True)
            )
            return Tap(record, tuple(both), inner)

        return tap_of, scanned


def _scanned(x: jax.Array, place: int, length: int) -> jax.Array | None:
    """An array that differs along a loop, its axis in front; None for one that does not."""
    return jnp.moveaxis(x, place, 0) if x.shape[place] == length else None


def _closed(x: jax.Array, place: int, length: int) -> jax.Array | None:
    """An array that is the same all along a loop, without its axis; None for one that is not."""
    if x.shape[place] == length:
        return None
    if x.shape[place] != 1:
        raise ValueError(f"a patch's array {x.shape} has {x.shape[place]} entries along an axis of {length}")
    return jnp.squeeze(x, place)


def _is_none(x) -> bool:
    return x is None


def _either(one, other):
    return other if one is None else one


def run_layers(layer: Callable, params, x: Float[Array, "B N D"], num_layers: int, tap: Tap) -> Float[Array, "B Q D"]:
    """Returns x after all layers; the tap gets what was recorded in them, with a leading layer axis.

    layer(params of one layer, x, its tap) -> x; params: leaves with a leading layer axis.
    """
    tap_of, patches = tap.along("layer", num_layers)

    def step(x, xs):
        own = tap_of(xs[1])
        return layer(xs[0], x, own), own.found

    xs = (params, patches)
    if num_layers > UNROLLED_LAYERS:
        x, found = jax.lax.scan(step, x, xs)
        tap.gather(found)
        return x
    steps = []
    for i in range(num_layers):
        x, found = step(x, take_layer(xs, i))
        steps.append(found)
    if steps:
        tap.gather(jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps))
    return x


def take_layer(params, i: int):
    """Returns layer i of leaves with a leading layer axis."""
    return jax.tree.map(lambda leaf: leaf[i], params)


def identity_text(patches: Sequence[Patch]) -> str:
    """Returns what decides the effect of patches, as a text for the id of a run: the same that earlier versions made
    of the fields that they had."""
    if not patches:
        return ""
    texts, kinds = [], []
    for patch in patches:
        kinds.append(f"CustomNode(Patch[({patch.site!r}, {patch.mode!r})], [*, *, *, *])")
        for leaf in (patch.mask, patch.value, patch.start, patch.stop):
            texts.append(hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest())
    tree = f"PyTreeDef(({', '.join(kinds)}{',' if len(kinds) == 1 else ''}))"
    return " ".join([*texts, tree, *filter(None, map(_later_fields, patches))])


def _later_fields(patch: Patch) -> str:
    plain = Patch(patch.site, patch.mode)
    said = [
        (field, getattr(patch, field))
        for field in ("tokens", "within", "during")
        if getattr(patch, field) != getattr(plain, field)
    ]
    said += [
        (field, np.asarray(getattr(patch, field)).astype(int).tolist())
        for field in ("layers", "heads", "on")
        if not np.all(getattr(patch, field))
    ]
    return repr(said) if said else ""
