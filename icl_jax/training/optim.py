"""Optimisers by name from optax, with traced hypers; schedules and weight decay are ours.

optax's warm-up schedules fail on traced steps and peaks, so the learning rate is computed here in
plain jnp and handed to the optimiser as a number.
"""

import inspect

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from icl_jax.registry import find
from icl_jax.spec import TrainSpec


def learning_rate(spec: TrainSpec, h: dict, step: Num[ArrayLike, ""]) -> Float[Array, ""]:
    """Returns the learning rate of update `step` (0-based), scalar float32.

    With t = step + 1 and w = max(warmup_steps, 1) every schedule starts with peak * t / w. Then
    rsqrt: peak * sqrt(w / t) (Chan et al. 2022, appendix A); cosine and linear: down to
    final_lr_fraction * peak at the last step; constant: peak.
    """
    w = jnp.maximum(h["warmup_steps"], 1.0)
    t = jnp.asarray(step, jnp.float32) + 1.0
    return find("schedule", spec.schedule).builder()(spec, h, t, w)


def constant(spec: TrainSpec, h: dict, t: Float[Array, ""], w: Float[Array, ""]) -> Float[Array, ""]:
    return h["learning_rate"] * jnp.minimum(t / w, 1.0)


def rsqrt(spec: TrainSpec, h: dict, t: Float[Array, ""], w: Float[Array, ""]) -> Float[Array, ""]:
    return h["learning_rate"] * jnp.minimum(t / w, jnp.sqrt(w / t))


def cosine(spec: TrainSpec, h: dict, t: Float[Array, ""], w: Float[Array, ""]) -> Float[Array, ""]:
    return _falling(h, t, w, 0.5 * (1 + jnp.cos(jnp.pi * _part(spec, t, w))))


def linear(spec: TrainSpec, h: dict, t: Float[Array, ""], w: Float[Array, ""]) -> Float[Array, ""]:
    return _falling(h, t, w, 1.0 - _part(spec, t, w))


def _part(spec: TrainSpec, t: jax.Array, w: jax.Array) -> jax.Array:
    """How much of the way from the end of the warm-up to the last step is done."""
    return jnp.clip((t - w) / jnp.maximum(spec.num_steps - w, 1.0), 0.0, 1.0)


def _falling(h: dict, t: jax.Array, w: jax.Array, shape: jax.Array) -> jax.Array:
    warm = jnp.minimum(t / w, 1.0)
    return h["learning_rate"] * warm * (h["final_lr_fraction"] + (1 - h["final_lr_fraction"]) * shape)


def optimiser(spec: TrainSpec, h: dict, rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Returns the optax optimiser with this step's numbers; its state does not depend on them."""
    component = find("optimiser", spec.optimiser)
    build = getattr(optax, component.optax_name)
    kwargs = {argument: h[name] for name, argument in component.arguments.items()}
    if "weight_decay" in inspect.signature(build).parameters:
        kwargs["weight_decay"] = 0.0  # ours is by module
    chain = [optax.clip_by_global_norm(h["clip_norm"])] if spec.clip else []
    return optax.chain(*chain, build(learning_rate=rate, **kwargs))


def update(spec: TrainSpec, h: dict, step, grads, opt_state, params, groups, decays: bool):
    """Returns (new params, new optimiser state). groups: each leaf's group of weight decay, "" for none.

    decays is static: without it no weight decay is in the program.
    """
    rate = learning_rate(spec, h, step)
    if decays and spec.weight_decay == "l2":
        grads = jax.tree.map(lambda g, p, group: g + _decay(h, group) * p, grads, params, groups)
    updates, opt_state = optimiser(spec, h, rate).update(grads, opt_state, params)
    if decays and spec.weight_decay == "decoupled":
        updates = jax.tree.map(lambda u, p, group: u - rate * _decay(h, group) * p, updates, params, groups)
    return optax.apply_updates(params, updates), opt_state


def _decay(h: dict, group: str):
    return h[f"decay_{group}"] if group else 0.0


def init(spec: TrainSpec, h: dict, params):
    """Returns the optimiser's state for `params`."""
    return optimiser(spec, h, jnp.float32(0.0)).init(params)
