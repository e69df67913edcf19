"""What a sweep will cost, said before it starts: programs, members, steps, disk and, measured, time."""

import dataclasses
import time

import jax

from icl_jax.runs.experiment import Experiment, prepare_experiment
from icl_jax.storage.arrays import MOST, size_of
from icl_jax.storage.checkpoint import keep_policy
from icl_jax.storage.columns import REDUCTIONS
from icl_jax.sweep.job import Job
from icl_jax.sweep.plan import Planned
from icl_jax.training.population import compiled_chunk, num_parameters, state_bytes

_ROW = 12  # bytes of a row of metrics on disk, measured
_NUMBER = 4  # bytes of a number in an array file
_METRICS = 11  # rows per suite, member and evaluation


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one population. parameters: of a member; disk: bytes at its end; seconds: measured, or None."""

    planned: Planned
    steps: int
    batch_size: int
    parameters: int
    disk: int
    seconds: float | None


def cost_of(job: Job, measure: bool = False) -> Cost:
    """Returns what a population costs from its first step on. measure: compile it and time a chunk."""
    experiment = prepare_experiment(job.config, members=list(job.planned.members), known=True, planning=True)
    seconds = _measure(experiment) if measure else None
    parameters = num_parameters(experiment.population())
    return Cost(job.planned, job.steps, job.config.train.batch_size, parameters, _disk(experiment), seconds)


def _disk(experiment: Experiment) -> int:
    """Checkpoints that stay (and the one being written), and metrics."""
    plan, members = experiment.plan, len(experiment.members)
    kept, steps, save = plan.keep, plan.spec.train.num_steps, plan.intervals.save
    keep = keep_policy(kept.steps, kept.every, kept.log, interval=save)
    saves = 1 + kept.last + sum(keep(step) for step in range(save, steps + 1, save))
    looks = steps // plan.intervals.evaluate + 1
    rows = looks * len(plan.spec.evals.suites) * _METRICS + 5 * steps // experiment.chunk
    more, arrays = dict(plan.spec.evals.more), 0
    for e in (e for e in experiment.evals if e.name in more):
        sizes = [size_of({axis: e.coords[axis] for axis in axes}) for axes in e.axes.values()]
        times = steps // (more[e.name].every or plan.intervals.evaluate) + 1
        rows += times * sum(size if size <= MOST else len(REDUCTIONS) for size in sizes)
        arrays += times * sum(size for size in sizes if size > MOST) * _NUMBER
    return saves * state_bytes(experiment.population()) + members * (rows * _ROW + arrays)


def _measure(experiment: Experiment) -> float:
    """Seconds of the population's chunks and evaluations, compilation apart: one of each is timed."""
    population, plan = experiment.population(), experiment.plan
    state, fixed = population.fresh()
    steps, evals = plan.spec.train.num_steps, 0.0
    for due in population.evaluations:
        jax.block_until_ready(due.evaluate(state, fixed, *population.rest))
        start = time.perf_counter()
        jax.block_until_ready(due.evaluate(state, fixed, *population.rest))
        evals += (time.perf_counter() - start) * (steps // (due.every or plan.intervals.evaluate) + 1)
    if not steps:
        return evals
    fed = population.feed(0)
    chunk = compiled_chunk(population, state, fixed, fed)
    state, _ = jax.block_until_ready(chunk(state, fed))
    start = time.perf_counter()
    jax.block_until_ready(chunk(state, fed))
    return (time.perf_counter() - start) * steps / experiment.chunk + evals
