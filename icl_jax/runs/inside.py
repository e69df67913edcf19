"""Look inside a run: batches as its model reads them, and the model applied to them with sites recorded or changed."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax import patches as language
from icl_jax.data.source import check_exemplars
from icl_jax.evals.evaluate import suite_sequences
from icl_jax.evals.suites import resolve_suites
from icl_jax.inputs import Batch
from icl_jax.members import Member
from icl_jax.models.build import Model, Output
from icl_jax.models.taps import Patch, at_step, named
from icl_jax.runs.experiment import Experiment, check_suites, patches_of

Patches = Sequence[Patch] | Mapping[str, Mapping[str, Any]]


def training_batch(experiment: Experiment, member: int, step: int, count: int) -> Batch:
    """Returns the first `count` sequences of batch `step` of a member, as numpy arrays."""
    source, chosen, size = experiment.program.source, experiment.members[member], experiment.plan.spec.train.batch_size
    if source.is_fed and count > size:
        raise ValueError(f"count {count} > {size} sequences that the host feeds a step (train.batch_size); lower it")
    fed = source.feed(chosen, step, step + 1) if source.is_fed else None

    @jax.jit
    def draw(own, hypers, shared, fed):
        h = hy.at(hypers, step)
        first = jax.tree.map(lambda x: x[0, :count], fed)
        return source.draw(source.prepare(own, h), shared, h, chosen.seeds["data"], step, 0, count, first)

    return jax.device_get(draw(*_given(experiment, member), source.shared(), fed))


def suite_batch(experiment: Experiment, member: int, suite: str, count: int) -> Batch:
    """Returns the first `count` sequences of a suite as a member is evaluated on them, as numpy arrays."""
    chosen = experiment.members[member]
    source = check_exemplars(experiment.program.source, f"suite {suite!r}")
    own = dict(experiment.plan.spec.evals.suites)
    spec = own.get(suite) or dict(resolve_suites((suite,), {}))[suite]
    check_suites([(suite, spec)], experiment.plan.spec.task, source.loaded, experiment.members)

    @jax.jit
    def draw(own, hypers, shared):
        h = {name: knots["values"][..., -1] for name, knots in hypers.items()}
        tables = source.prepare(own, h)
        seqs = suite_sequences(suite, spec, count, source, tables, h, jax.numpy.uint32(chosen.seeds["eval"]))
        return source.to_batch(tables, shared, h, seqs)

    return jax.device_get(draw(*_given(experiment, member), source.shared()))


def _given(experiment: Experiment, member: int) -> tuple[Any, dict]:
    """The source's own arrays of a member, and its hypers."""
    chosen: Member = experiment.members[member]
    own = jax.tree.map(lambda x: x[0], experiment.program.source.own([chosen]))
    return own, jax.tree.map(lambda x: x[0], hy.stack([chosen.hypers]))


def apply(
    experiment: Experiment,
    variables: dict,
    inputs: Any,
    *,
    record: Sequence[str],
    patches: Patches,
    step: int,
    logits_at,
) -> Output:
    """Returns the output of a run's model, as numpy arrays, with a warning for each patch that acts at `step` and
    changes nothing."""
    model = experiment.model
    given = [patches] if isinstance(patches, Patch) else patches
    record = (record,) if isinstance(record, str) else tuple(record)
    if isinstance(given, Mapping | ConfigDict):
        parsed = {name: language.parse(name, fields) for name, fields in sorted(given.items())}
        spec = dataclasses.replace(
            experiment.plan.spec, patches=tuple((name, static) for name, (static, _) in parsed.items())
        )
        own = patches_of(spec, [{name: numbers for name, (_, numbers) in parsed.items()}], model)
        given = jax.tree.map(lambda x: x[0], own)
    acting = at_step(named(given), step)
    where = {"logits_at": logits_at} if isinstance(logits_at, str) else {}
    where = where or {"places": _places(logits_at, model, variables, inputs)}
    output = jax.device_get(_applied(model, record, variables, inputs, acting, model.shared(), **where))
    for patch in acting:
        if patch.on and output.changed[patch.name] == 0:
            warnings.warn(f"patch {patch.name!r} changes nothing here", stacklevel=3)
    return output


def _places(logits_at: Any, model: Model, variables: dict, inputs: Any) -> np.ndarray:
    """The tokens, int32 (B, K), at which logits are wanted, checked."""
    places = np.asarray(logits_at)
    embedded = lambda v, i, shared: model.apply(v, i, record=("embed",), shared=shared).taps["embed"]
    tokens = jax.eval_shape(embedded, variables, inputs, model.shared()).shape
    if places.ndim != 2 or len(places) != tokens[0] or places.dtype.kind not in "iu":
        raise ValueError(
            f"logits_at of shape {places.shape} and type {places.dtype}: give whole numbers (B, K), tokens of each of "
            f"the {tokens[0]} sequences"
        )
    if places.size and not 0 <= places.min() <= places.max() < tokens[1]:
        raise ValueError(f"logits_at {places.min()} to {places.max()} is not among the {tokens[1]} tokens, from 0 on")
    return places.astype(np.int32)


@functools.partial(jax.jit, static_argnames=("model", "record", "logits_at"))
def _applied(model: Model, record, variables, inputs, patches, shared, logits_at="", places=None) -> Output:
    where: Any = logits_at or places
    return model.apply(variables, inputs, record=record, patches=patches, shared=shared, logits_at=where)
