"""Optimisers by name from optax, with traced hypers; schedules and weight decay are ours.

optax's warm-up schedules fail on traced steps and peaks, so the learning rate is computed here in
plain jnp and handed to the optimiser as a number.
"""

import inspect

import jax
import jax.numpy as jnp
import optax

from icl_jax.names import suggest
from icl_jax.spec import TrainSpec

ADAM_HYPERS = ("b1", "b2", "eps")
# name -> (optax's own name, the hypers it reads beside the learning rate). The rest keep optax's defaults.
OPTIMISERS = {
    "adam": ("adam", ADAM_HYPERS),
    "adamw": ("adam", ADAM_HYPERS),  # adam with decoupled decay, which `update` below adds
    "nadam": ("nadam", ADAM_HYPERS),
    "radam": ("radam", ADAM_HYPERS),
    "amsgrad": ("amsgrad", ADAM_HYPERS),
    "adabelief": ("adabelief", ()),
    "adafactor": ("adafactor", ()),
    "adagrad": ("adagrad", ()),
    "lamb": ("lamb", ()),
    "lion": ("lion", ()),
    "rmsprop": ("rmsprop", ()),
    "sgd": ("sgd", ()),
    "momentum": ("sgd", ("b1",)),
    "yogi": ("yogi", ()),
}
SCHEDULES = ("constant", "rsqrt", "cosine", "linear")
MODULES = ("attention", "mlp", "encoder", "embeddings")


def validate_train(spec: TrainSpec) -> None:
    """Raises ValueError for an unknown optimiser, schedule or kind of decay, or an empty batch."""
    if spec.optimiser not in OPTIMISERS:
        raise ValueError(f"unknown optimiser {spec.optimiser!r}{suggest(spec.optimiser, OPTIMISERS)}")
    if spec.schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {spec.schedule!r}{suggest(spec.schedule, SCHEDULES)}")
    if spec.weight_decay not in ("decoupled", "l2"):
        raise ValueError(f"train.weight_decay {spec.weight_decay!r}: use 'decoupled' or 'l2'")
    if spec.batch_size < 1:
        raise ValueError(f"train.batch_size {spec.batch_size}: must be at least 1")


def learning_rate(spec: TrainSpec, h: dict, step: jax.Array) -> jax.Array:
    """Returns the learning rate of update `step` (0-based), scalar float32.

    With t = step + 1 and w = max(warmup_steps, 1) every schedule starts with peak * t / w. Then
    rsqrt: peak * sqrt(w / t) (Chan et al. 2022, appendix A); cosine and linear: down to
    final_lr_fraction * peak at the last step; constant: peak.
    """
    peak, w = h["learning_rate"], jnp.maximum(h["warmup_steps"], 1.0)
    t = jnp.asarray(step, jnp.float32) + 1.0
    warm = jnp.minimum(t / w, 1.0)
    if spec.schedule == "constant":
        return peak * warm
    if spec.schedule == "rsqrt":
        return peak * jnp.minimum(t / w, jnp.sqrt(w / t))
    part = jnp.clip((t - w) / jnp.maximum(spec.num_steps - w, 1.0), 0.0, 1.0)
    shape = 0.5 * (1 + jnp.cos(jnp.pi * part)) if spec.schedule == "cosine" else 1.0 - part
    return peak * warm * (h["final_lr_fraction"] + (1 - h["final_lr_fraction"]) * shape)


def optimiser(spec: TrainSpec, h: dict, rate: jax.Array) -> optax.GradientTransformation:
    """Returns the optax optimiser with this step's numbers; its state does not depend on them."""
    optax_name, reads = OPTIMISERS[spec.optimiser]
    build = getattr(optax, optax_name)
    kwargs = {"momentum" if optax_name == "sgd" else name: h[name] for name in reads}
    if "weight_decay" in inspect.signature(build).parameters:
        kwargs["weight_decay"] = 0.0  # ours is by module
    chain = [optax.clip_by_global_norm(h["clip_norm"])] if spec.clip else []
    return optax.chain(*chain, build(learning_rate=rate, **kwargs))


def update(spec: TrainSpec, h: dict, step, grads, opt_state, params, modules, decays: bool):
    """Returns (new params, new optimiser state). `modules` names the module of each leaf.

    decays is static: without it no weight decay is in the program.
    """
    rate = learning_rate(spec, h, step)
    if decays and spec.weight_decay == "l2":
        grads = jax.tree.map(lambda g, p, m: g + _decay(h, m) * p, grads, params, modules)
    updates, opt_state = optimiser(spec, h, rate).update(grads, opt_state, params)
    if decays and spec.weight_decay == "decoupled":
        updates = jax.tree.map(lambda u, p, m: u - rate * _decay(h, m) * p, updates, params, modules)
    return optax.apply_updates(params, updates), opt_state


def _decay(h: dict, module: str):
    return h[f"decay_{module}"] if module in MODULES else 0.0


def init(spec: TrainSpec, h: dict, params):
    """Returns the optimiser's state for `params`."""
    return optimiser(spec, h, jnp.float32(0.0)).init(params)
