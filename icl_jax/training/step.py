"""One training step of one member on one device: a pure function of state and member.

    sample batch -> loss -> gradient -> update

The step index, the member's seeds and hypers decide everything; no state of the data is carried.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from icl_jax import hypers as hy
from icl_jax.data.source import Source
from icl_jax.models.build import Model
from icl_jax.models.taps import at_step
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import RunSpec
from icl_jax.training import optim
from icl_jax.training.parallel import Layout, local_batch

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
    """What makes a member this member. hypers: name -> knots; seeds: name -> uint32; order: int32 (C,)."""

    hypers: dict
    seeds: dict
    order: jax.Array


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything static that the compiled step is made of."""

    spec: RunSpec
    model: Model
    source: Source
    layout: Layout
    decays: bool  # some member has weight decay
    table_schedule: bool  # a hyper behind the tables is scheduled: they are prepared in every step


def init_member(program: Program, inputs: MemberInputs) -> MemberState:
    """Returns the state before the first step."""
    variables = program.model.init(stream_key(inputs.seeds["init"], "init"))
    opt_state = optim.init(program.spec.train, hy.at(inputs.hypers, 0), variables["params"])
    return MemberState(jnp.int32(0), jnp.int32(RUNNING), variables["params"], variables["stats"], opt_state)


def train_step(program: Program, bank, inputs: MemberInputs, tables, patches, state: MemberState):
    """Returns (next state, metrics of the step as scalars: loss, accuracy, grad_norm, learning_rate)."""
    spec, layout = program.spec, program.layout
    h = hy.at(inputs.hypers, state.step)
    if program.table_schedule:
        tables = program.source.prepare(inputs.order, h)
    count = local_batch(layout, spec.train.batch_size)
    first = layout.shard_index() * count
    batch = program.source.batch(tables, bank, h, inputs.seeds["data"], state.step, first, count)
    active = program.source.active_labels(tables, h)
    keys_model = fold_each(stream_key(inputs.seeds["data"], "model", state.step), first, count)
    loss_fn = lambda p: _loss(program, p, state.stats, batch, active, keys_model, at_step(patches, state.step))
    (loss, (stats, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    loss, accuracy, grads, stats = layout.mean((loss, accuracy, grads, stats))
    modules = program.model.modules(state.params)
    params, opt_state = optim.update(
        spec.train, h, state.step, grads, state.opt_state, state.params, modules, program.decays
    )
    norm = optax.tree.norm(grads)
    new = state.replace(params=params, stats=stats, opt_state=opt_state)
    metrics = {"loss": loss, "accuracy": accuracy, "grad_norm": norm}
    metrics["learning_rate"] = optim.learning_rate(spec.train, h, state.step)
    return _advance(state, new, jnp.isfinite(loss) & jnp.isfinite(norm)), metrics


def _loss(program: Program, params, stats, batch, active, keys, patches):
    """Weighted cross-entropy over the active labels; aux: batch statistics, accuracy on the query."""
    where = "query" if program.spec.task.loss == "query" else "items"
    output, stats = program.model.apply(
        {"params": params, "stats": stats},
        batch.items,
        batch.labels,
        batch.task,
        key=keys,
        train=True,
        positions=where,
        mean=program.layout.mean if program.spec.model.sync_batch_stats else None,
        patches=patches,
    )
    logits = jnp.where(active, output.logits, -jnp.inf)
    labels = batch.labels[:, -1] if where == "query" else batch.labels
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    weighted = losses if where == "query" else (losses * batch.weights).sum(-1)
    query_logits = logits if where == "query" else logits[:, -1]
    accuracy = jnp.mean(query_logits.argmax(-1) == batch.labels[:, -1])
    return weighted.mean(), (stats, accuracy)


def _advance(old: MemberState, new: MemberState, finite: jax.Array) -> MemberState:
    """Takes the new state, or freezes the member where this or an earlier update was not finite."""
    running = (old.diverged == RUNNING) & finite
    kept = jax.tree.map(lambda n, o: jnp.where(running, n, o), new, old)
    diverged = jnp.where((old.diverged == RUNNING) & ~finite, old.step, old.diverged)
    return kept.replace(step=old.step + 1, diverged=diverged)
