"""What a sweep will cost, said before it starts: programs, members, steps, disk and, measured, time."""

import dataclasses
import time

import jax

from icl_jax.experiment import Experiment, prepare_experiment
from icl_jax.sweep.job import Job
from icl_jax.sweep.plan import Planned
from icl_jax.training.checkpoint import keep_policy
from icl_jax.training.population import compiled_chunk, num_parameters, state_bytes

_ROW = 12  # bytes of a row of metrics on disk, measured
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
    experiment = prepare_experiment(job.config, members=list(job.planned.members), known=True)
    seconds = _measure(experiment) if measure else None
    parameters = num_parameters(experiment.population())
    return Cost(job.planned, job.steps, job.config.train.batch_size, parameters, _disk(experiment), seconds)


def _disk(experiment: Experiment) -> int:
    """Checkpoints that stay (and the one being written), and metrics."""
    plan, members = experiment.plan, len(experiment.members)
    kept, steps, save = plan.keep, plan.spec.train.num_steps, plan.intervals.save
    keep = keep_policy(kept.steps, kept.every, kept.log, interval=save)
    saves = 1 + kept.last + sum(keep(step) for step in range(save, steps + 1, save))
    evals = steps // plan.intervals.evaluate + 1
    rows = (
        members * evals * len(experiment.program.spec.evals.suites) * _METRICS + 5 * members * steps // experiment.chunk
    )
    return saves * state_bytes(experiment.population()) + rows * _ROW


def _measure(experiment: Experiment) -> float:
    """Seconds of the population's chunks and evaluations, compilation apart: one of each is timed."""
    population, plan = experiment.population(), experiment.plan
    state, fixed = population.fresh()
    evaluate = lambda: population.evaluate(state, fixed, *population.rest)
    fed = population.feed(0)
    chunk = compiled_chunk(population, state, fixed, fed)
    jax.block_until_ready(evaluate())
    start = time.perf_counter()
    jax.block_until_ready(evaluate())
    each_eval = time.perf_counter() - start
    state, _ = jax.block_until_ready(chunk(state, fed))
    start = time.perf_counter()
    jax.block_until_ready(chunk(state, fed))
    each_chunk = time.perf_counter() - start
    steps = plan.spec.train.num_steps
    return each_chunk * steps / experiment.chunk + each_eval * (steps // plan.intervals.evaluate + 1)
