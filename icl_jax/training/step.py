"""One training step of one member on one device: a pure function of state and member.

    draw batch -> loss -> gradient -> update

The step index, the member's seeds and hypers decide everything; no state of the data is carried.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from icl_jax import hypers as hy
from icl_jax.models.taps import at_step
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import RunSpec
from icl_jax.training import optim
from icl_jax.training.parallel import DeviceLayout, local_batch
from icl_jax.training.protocols import Batch, Model, Objective, Source

RUNNING = -1


@flax.struct.dataclass
class MemberState:
    """Training state of a member: all that a checkpoint holds.

    step: int32 updates done; diverged: int32 step of the first non-finite update, RUNNING before.
    """

    step: jax.Array
    diverged: jax.Array
    params: Any
    stats: Any
    opt_state: Any


@flax.struct.dataclass
class MemberInputs:
    """What makes a member this member. hypers: name -> knots; seeds: name -> uint32; own: the source's, of it."""

    hypers: dict
    seeds: dict
    own: Any


@flax.struct.dataclass
class Shared:
    """What every device has one copy of: of the source, of the model (frozen weights), of each eval by name."""

    source: Any
    model: Any
    evals: dict


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything static that the compiled step is made of."""

    spec: RunSpec
    model: Model
    source: Source
    objective: Objective
    layout: DeviceLayout
    decays: bool  # some member has weight decay
    table_schedule: bool  # a hyper behind the tables is scheduled: they are prepared in every step
    accumulate: int = 1  # parts of a device's batch, one after another


def init_member(program: Program, inputs: MemberInputs) -> MemberState:
    """Returns the state before the first step."""
    variables = program.model.init(stream_key(inputs.seeds["init"], "init"))
    opt_state = optim.init(program.spec.train, hy.at(inputs.hypers, 0), variables["params"])
    return MemberState(jnp.int32(0), jnp.int32(RUNNING), variables["params"], variables["stats"], opt_state)


def train_step(program: Program, shared: Shared, inputs: MemberInputs, tables, patches, state: MemberState, fed=None):
    """Returns (next state, metrics of the step as scalars: loss, the objective's, grad_norm, learning_rate; with
    patches that act in training also `changed`, the share of its site that each of them changed, in their order).

    fed: what the source's feed gives for this step, this device's part of the batch in front.
    """
    spec, layout = program.spec, program.layout
    h = hy.at(inputs.hypers, state.step)
    if program.table_schedule:
        tables = program.source.prepare(inputs.own, h)
    count = local_batch(layout, spec.train.batch_size)
    first, patches = layout.shard_index() * count, at_step(patches, state.step, "training")

    def part(stats, first, count: int, fed) -> _Part:
        batch = program.source.draw(tables, shared.source, h, inputs.seeds["data"], state.step, first, count, fed)
        if batch.targets.shape[0] != count:
            raise ValueError(f"the source drew {batch.targets.shape[0]} sequences where {count} were asked for")
        keys = fold_each(stream_key(inputs.seeds["data"], "model", state.step), first, count)
        loss_fn = lambda p: _loss(program, shared, p, stats, batch, h, keys, patches)
        (loss, (metrics, weights, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return _Part({"loss": loss, **metrics}, weights, grads, stats)

    found = _accumulated(part, program.accumulate, state.stats, first, count, fed)
    values, grads, stats = _over_devices(layout, found)
    groups = program.model.decay_groups(state.params)
    params, opt_state = optim.update(
        spec.train, h, state.step, grads, state.opt_state, state.params, groups, program.decays
    )
    norm = optax.tree.norm(grads)
    new = dataclasses.replace(state, params=params, stats=stats, opt_state=opt_state)
    metrics = {**values, "grad_norm": norm}
    metrics["learning_rate"] = optim.learning_rate(spec.train, h, state.step)
    return _advance(state, new, jnp.isfinite(values["loss"]) & jnp.isfinite(norm)), metrics


@flax.struct.dataclass
class _Part:
    """Of a part of the batch. values: loss and metrics, means where their weight is a number, else sums, which
    `weights` has by name; grads: of the loss."""

    values: dict
    weights: dict
    grads: Any
    stats: Any


def _loss(program: Program, shared: Shared, params, stats, batch: Batch, h, keys, patches):
    """(loss, (metrics, weights, batch statistics)), see `_Part`."""
    output = program.model.apply(
        {"params": params, "stats": stats},
        batch.inputs,
        key=keys,
        train=True,
        logits_at=program.objective.logits_at,
        mean=program.layout.mean if program.spec.model.sync_batch_stats else None,
        patches=patches,
        shared=shared.model,
    )
    total, weight, metrics = program.objective.loss(output, batch, params, h)
    if patches:
        metrics |= {"changed": (jnp.stack([output.changed[p.name] for p in patches]), 1.0)}
    sums = {"loss": (total, weight), **metrics}
    values = {name: s / w if isinstance(w, int | float) else s for name, (s, w) in sums.items()}
    weights = {name: w for name, (_, w) in sums.items() if not isinstance(w, int | float)}
    return values.pop("loss"), (values, weights, output.stats)


def _accumulated(part, parts: int, stats, first, count: int, fed) -> _Part:
    """The whole of a device's batch, its parts one after another: means of means, sums of sums."""
    if parts == 1:
        return part(stats, first, count, fed)
    size = count // parts
    fed = jax.tree.map(lambda x: x.reshape(parts, size, *x.shape[1:]), fed)
    firsts = first + size * jnp.arange(parts)

    def step(stats, xs):
        found = part(stats, xs[0], size, xs[1])
        return found.stats, dataclasses.replace(found, stats=None)

    stats, found = jax.lax.scan(step, stats, (firsts, fed))
    over = lambda name, x: x.sum(0) if name in found.weights else x.mean(0)
    return _Part(
        values={name: over(name, x) for name, x in found.values.items()},
        weights=jax.tree.map(lambda x: x.sum(0), found.weights),
        grads=jax.tree.map(lambda x: over("loss", x), found.grads),
        stats=stats,
    )


def _over_devices(layout: DeviceLayout, found: _Part):
    """(values, gradients, statistics) of a member's whole batch: over the devices that share it, sums divided by their
    weights, means averaged."""
    summed = {name: found.values[name] for name in found.weights}
    means = {name: value for name, value in found.values.items() if name not in summed}
    if "loss" not in found.weights:
        means, grads, stats = layout.mean((means, found.grads, found.stats))
    else:
        means, stats = layout.mean((means, found.stats))
        grads = layout.sum(found.grads)
    weights, summed = layout.sum((found.weights, summed)) if summed else ({}, {})
    if (loss_weight := weights.get("loss")) is not None:
        grads = jax.tree.map(lambda g: _share(g, loss_weight), grads)
    values = {name: means[name] if name in means else _share(summed[name], weights[name]) for name in found.values}
    return values, grads, stats


def _share(total: jax.Array, weight: jax.Array) -> jax.Array:
    """The sum over the weight; 0 where there is neither, so that a batch in which nothing counts has no loss."""
    return jnp.where((weight == 0) & (total == 0), 0, total / jnp.where(weight == 0, 1, weight))


def _advance(old: MemberState, new: MemberState, finite: jax.Array) -> MemberState:
    """Takes the new state, or freezes the member where this or an earlier update was not finite."""
    running = (old.diverged == RUNNING) & finite
    kept = jax.tree.map(lambda n, o: jnp.where(running, n, o), new, old)
    diverged = jnp.where((old.diverged == RUNNING) & ~finite, old.step, old.diverged)
    return dataclasses.replace(kept, step=old.step + 1, diverged=diverged)
