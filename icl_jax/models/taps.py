"""Taps: arrays inside the model that can be recorded, replaced or added to, at named sites.

A site is recorded by naming it in `record`; a `Patch` changes it. Both are plain arguments of
`Model.apply`, work under jit, vmap and grad, and add nothing to the program when unused. The gradient
with respect to the value of an additive patch of zeros is the gradient of the loss at that site.

A model's components say which sites there are, and their axes: (B sequences, N tokens, D core width, H heads,
L layers). A site within the layers has a leading axis "layer".
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.names import suggest

Sites = Mapping[str, tuple[str, ...]]  # site -> its axes
MODES = ("replace", "add")
FOREVER = np.iinfo(np.int32).max
UNROLLED_LAYERS = 4  # up to this many layers are unrolled; more are scanned, for the compile time


@flax.struct.dataclass
class Patch:
    """One intervention, active in training steps start <= step < stop.

    site: where. mode: 'replace' the site's entries by `value` where `mask`, or 'add' `value` there.
    mask (bool) and value (float) broadcast to the site's shape, layer axis included; fewer axes mean
    the same for every layer. A patch never opens the future: entries that causality forbids stay.
    """

    site: str = flax.struct.field(pytree_node=False)
    mode: str = flax.struct.field(pytree_node=False)
    mask: Any
    value: Any
    start: Any = 0
    stop: Any = FOREVER


def at_step(patches: tuple[Patch, ...], step: jax.Array | int) -> tuple[Patch, ...]:
    """Returns the patches with masks emptied where `step` (updates done) is outside [start, stop)."""
    active = lambda p: (p.start <= step) & (step < p.stop)
    return tuple(p.replace(mask=jnp.asarray(p.mask, bool) & active(p)) for p in patches)


def check(record: tuple[str, ...], patches: tuple[Patch, ...], sites: Sites) -> None:
    """Raises ValueError for a site that this model lacks, an unknown mode or too many axes."""
    for name in (*record, *(p.site for p in patches)):
        if name not in sites:
            close = suggest(name, sites)
            hint = close if "did you mean" in close else ""
            raise ValueError(f"no site {name!r} among this model's: {', '.join(sites)}{hint}")
    for p in patches:
        if p.mode not in MODES:
            raise ValueError(f"unknown mode {p.mode!r} of a patch at {p.site!r}; use 'replace' or 'add'")
        rank, axes = max(jnp.ndim(p.mask), jnp.ndim(p.value)), sites[p.site]
        if rank > len(axes):
            raise ValueError(f"patch at {p.site!r}: mask or value has {rank} axes > {len(axes)} of the site")


class Tap:
    """Collects and patches sites; `tap(site, x)` returns x, patched if asked.

    sites: axes of each site, as far as they are handed in whole: a site within the layers has no axis "layer" in the
    tap that a layer gets (`run_layers`). Masks and values of the patches have all axes of their site.
    """

    def __init__(self, record: tuple[str, ...] = (), patches: tuple[Patch, ...] = (), sites: Sites | None = None):
        self.record, self.patches, self.sites = record, patches, sites or {}
        self.recorded: dict[str, jax.Array] = {}

    def __call__(self, site: str, x: jax.Array, allowed: jax.Array | None = None) -> jax.Array:
        """allowed: bool, same rank as x; entries outside it keep their own value."""
        clean = x
        for patch in self.patches:
            if patch.site == site:
                x = _patched(patch, x)
        if allowed is not None and x is not clean:
            x = jnp.where(allowed, x, clean)
        self.keep(site, x)
        return x

    def keep(self, site: str, x: jax.Array) -> None:
        """Records x if asked."""
        if site in self.record:
            self.recorded[site] = x

    def is_used(self, axis: str) -> bool:
        """Returns whether a site with this leading axis is recorded or patched."""
        return bool(self._record(axis) or self._patches(axis))

    def _record(self, axis: str) -> tuple[str, ...]:
        return tuple(site for site in self.record if self.sites[site][0] == axis)

    def _patches(self, axis: str) -> tuple[Patch, ...]:
        return tuple(patch for patch in self.patches if self.sites[patch.site][0] == axis)

    def along(self, axis: str, length: int) -> tuple[Callable[[tuple[Patch, ...]], "Tap"], tuple[Patch, ...]]:
        """Returns what a loop over an axis needs: a function from one step's patches to its tap, and the patches of
        all steps, with that axis in front."""
        record = self._record(axis)
        sites = {site: axes[1:] for site, axes in self.sites.items() if axes[0] == axis}
        return lambda patches: Tap(record, patches, sites), tuple(_spread(p, length) for p in self._patches(axis))


def run_layers(layer: Callable, params, x: jax.Array, num_layers: int, tap: Tap) -> jax.Array:
    """Returns x after all layers; the tap gets what was recorded in them, with a leading layer axis.

    layer(params of one layer, x, its tap) -> x; params: leaves with a leading layer axis.
    """
    tap_of, patches = tap.along("layer", num_layers)

    def step(x, xs):
        own = tap_of(xs[1])
        return layer(xs[0], x, own), own.recorded

    xs = (params, patches)
    if num_layers > UNROLLED_LAYERS:
        x, recorded = jax.lax.scan(step, x, xs)
        tap.recorded.update(recorded)
        return x
    steps = []
    for i in range(num_layers):
        x, recorded = step(x, take_layer(xs, i))
        steps.append(recorded)
    if steps:
        tap.recorded.update(jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps))
    return x


def take_layer(params, i: int):
    """Returns layer i of leaves with a leading layer axis."""
    return jax.tree.map(lambda leaf: leaf[i], params)


def _spread(patch: Patch, length: int) -> Patch:
    """The patch with a full leading axis, so that it can be scanned; start and stop are spent."""
    full = lambda array: jnp.broadcast_to(array, (length, *array.shape[1:]))
    spent = jnp.zeros((length,), jnp.int32)
    return patch.replace(mask=full(patch.mask), value=full(patch.value), start=spent, stop=spent)


def _patched(patch: Patch, x: jax.Array) -> jax.Array:
    value = jnp.asarray(patch.value, x.dtype)
    changed = value if patch.mode == "replace" else x + value
    return jnp.where(patch.mask, changed, x)


def whole(patches: tuple[Patch, ...], sites: Sites) -> tuple[Patch, ...]:
    """Returns the patches with masks and values of as many axes as their site has; those left out stand first."""

    def full(array: jax.Array, rank: int) -> jax.Array:
        return array.reshape((1,) * (rank - array.ndim) + array.shape)

    return tuple(
        p.replace(
            mask=full(jnp.asarray(p.mask, bool), len(sites[p.site])),
            value=full(jnp.asarray(p.value), len(sites[p.site])),
        )
        for p in patches
    )
