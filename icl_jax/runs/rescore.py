"""Suites and other evals that a run gets after it was trained: scored on the checkpoints that were kept."""

import dataclasses
import warnings

from ml_collections import ConfigDict

from icl_jax.runs import api
from icl_jax.runs.runplan import eval_digests, eval_names, eval_spec
from icl_jax.storage.arrays import MOST
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.storage.locks import sole_writer
from icl_jax.storage.metrics import MetricsWriter


def add_evals(run: api.Run, config: ConfigDict, patches: tuple = ()) -> None:
    """Makes the metrics of a trained run hold what the evals of a config ask for, as far as checkpoints were kept.

    Of the checkpoints those count that lie on a step at which the eval runs, and the newest. A damaged one is passed
    over with a warning, but for the newest: DamagedCheckpoint. patches: those from Python of its training.
    """
    run = dataclasses.replace(run, config=config)
    writer = MetricsWriter(run.directory / "metrics", eval_digests(eval_spec(config)))
    newest = Checkpoints(run.directory / "checkpoints").steps()[-1]
    with sole_writer(run.directory):
        for step, names in missing_evals(run).items():
            try:
                scores = api.score(run, names, step=step, patches=patches)
            except DamagedCheckpoint as fault:
                if step == newest:
                    raise
                warnings.warn(f"step {step} is not scored on {', '.join(names)}: {fault}", stacklevel=2)
                continue
            scores.write_arrays(writer)
            writer.append_table(scores.table(MOST))
            writer.flush(step)


def missing_evals(run: api.Run) -> dict[int, list[str]]:
    """Returns the suites and other evals that the run's metrics lack, by step of a checkpoint."""
    if not eval_names(run.config):  # as of an imported model, which has no table
        return {}
    rows = run.table.group_by(["step", "suite"]).aggregate([]).to_pylist()
    there = {(row["step"], row["suite"]) for row in rows}
    kept = Checkpoints(run.directory / "checkpoints").steps()
    every = {name: more.every for name, more in eval_spec(run.config).more}
    lacks: dict[int, list[str]] = {}
    for step in kept:
        for name in eval_names(run.config):
            is_due = step % (every.get(name) or run.config.evals.every) == 0 or step == kept[-1]
            if is_due and (step, name) not in there:
                lacks.setdefault(step, []).append(name)
    return lacks
