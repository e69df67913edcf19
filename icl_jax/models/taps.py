"""Taps: arrays inside the model that can be recorded, replaced or added to, at named sites.

A site is recorded by naming it in `record`; a `Patch` changes it. Both are plain arguments of
`Model.apply`, work under jit, vmap and grad, and add nothing to the program when unused. The gradient
with respect to the value of an additive patch of zeros is the gradient of the loss at that site.

Site shapes (L layers, B sequences, N tokens, D core width, H heads, Dh = D / H):

    embed        (B, N, D)        tokens with positions, what the core reads
    attn_scores  (L, B, H, N, N)  before the softmax, -inf where causality forbids
    attn_probs   (L, B, H, N, N)
    head_out     (L, B, H, N, Dh) each head's sum of values, before the output projection
    attn_out     (L, B, N, D)     what attention adds to the residual stream
    mlp_out      (L, B, N, D)     what the MLP adds
    resid        (L, B, N, D)     residual stream after each block
    cell         (L, B, N, D)     LSTM: cell state after each token, from which its hidden state is taken
    state        (L, B, N, D)     recurrent cores: hidden state after each token
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.names import suggest

RANKS = {
    "embed": 3,
    "attn_scores": 5,
    "attn_probs": 5,
    "head_out": 5,
    "attn_out": 4,
    "mlp_out": 4,
    "resid": 4,
    "cell": 4,
    "state": 4,
}
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


def check(record: tuple[str, ...], patches: tuple[Patch, ...], sites: tuple[str, ...]) -> None:
    """Raises ValueError for a site that this model lacks, an unknown mode or too many axes."""
    for name in (*record, *(p.site for p in patches)):
        if name not in sites:
            close = suggest(name, sites)
            hint = close if "did you mean" in close else ""
            raise ValueError(f"no site {name!r} among this model's: {', '.join(sites)}{hint}")
    for p in patches:
        if p.mode not in MODES:
            raise ValueError(f"unknown mode {p.mode!r} of a patch at {p.site!r}; use 'replace' or 'add'")
        rank = max(jnp.ndim(p.mask), jnp.ndim(p.value))
        if rank > RANKS[p.site]:
            raise ValueError(f"patch at {p.site!r}: mask or value has {rank} axes > {RANKS[p.site]} of the site")


class Tap:
    """Collects and patches the sites of one layer; `tap(site, x)` returns x, patched if asked."""

    def __init__(self, record: tuple[str, ...], patches: tuple[Patch, ...]):
        self.record = record
        self.patches = patches
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


def run_layers(
    layer: Callable, params, x: jax.Array, num_layers: int, record: tuple[str, ...], patches: tuple[Patch, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (x after all layers, recorded sites with a leading layer axis).

    layer(params of one layer, x, tap) -> x; params: leaves with a leading layer axis.
    """
    xs = (params, tuple(_layered(p, num_layers) for p in patches if p.site != "embed"))

    def step(x, xs):
        tap = Tap(record, xs[1])
        return layer(xs[0], x, tap), tap.recorded

    if num_layers > UNROLLED_LAYERS:
        return jax.lax.scan(step, x, xs)
    recorded = []
    for i in range(num_layers):
        x, taps = step(x, take_layer(xs, i))
        recorded.append(taps)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *recorded) if recorded else {}


def take_layer(params, i: int):
    """Returns layer i of leaves with a leading layer axis."""
    return jax.tree.map(lambda leaf: leaf[i], params)


def _layered(patch: Patch, num_layers: int) -> Patch:
    """The patch with a full layer axis, so that it can be scanned; start and stop are spent."""

    def full(array):
        array = with_rank(jnp.asarray(array), RANKS[patch.site])
        return jnp.broadcast_to(array, (num_layers, *array.shape[1:]))

    spent = jnp.zeros((num_layers,), jnp.int32)
    return patch.replace(mask=full(patch.mask), value=full(patch.value), start=spent, stop=spent)


def _patched(patch: Patch, x: jax.Array) -> jax.Array:
    mask = with_rank(jnp.asarray(patch.mask, bool), x.ndim)
    value = with_rank(jnp.asarray(patch.value, x.dtype), x.ndim)
    changed = value if patch.mode == "replace" else x + value
    return jnp.where(mask, changed, x)


def with_rank(array: jax.Array, rank: int) -> jax.Array:
    """The array with leading axes of size 1 up to `rank` axes."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
