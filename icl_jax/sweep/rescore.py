"""Suites that a run gets after it was trained: scored on the checkpoints that were kept."""

import dataclasses
import warnings

from ml_collections import ConfigDict

from icl_jax import api
from icl_jax.runplan import eval_spec, suite_digests, suite_names
from icl_jax.storage.locks import sole_writer
from icl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.training.store import MetricsWriter


def add_suites(run: api.Run, config: ConfigDict) -> None:
    """Makes the metrics of a trained run hold what the evals of a config ask for, as far as checkpoints were kept.

    Of the checkpoints those count that lie on a step of evals.every, and the newest. A damaged one is passed over
    with a warning, but for the newest: DamagedCheckpoint.
    """
    run = dataclasses.replace(run, config=config)
    writer = MetricsWriter(run.directory / "metrics", suite_digests(eval_spec(config)))
    newest = Checkpoints(run.directory / "checkpoints").steps()[-1]
    with sole_writer(run.directory):
        for step, suites in missing_suites(run).items():
            try:
                table = api.evaluate(run, suites, step=step)
            except DamagedCheckpoint as fault:
                if step == newest:
                    raise
                warnings.warn(f"step {step} is not scored on {', '.join(suites)}: {fault}", stacklevel=2)
                continue
            writer.append_table(table)
            writer.flush(step)


def missing_suites(run: api.Run) -> dict[int, list[str]]:
    """Returns the suites that the run's metrics lack, by step of a checkpoint."""
    rows = run.table.group_by(["step", "suite"]).aggregate([]).to_pylist()
    there = {(row["step"], row["suite"]) for row in rows}
    kept = Checkpoints(run.directory / "checkpoints").steps()
    due = [step for step in kept if step % run.config.evals.every == 0 or step == kept[-1]]
    lacks = {step: [name for name in suite_names(run.config) if (step, name) not in there] for step in due}
    return {step: names for step, names in lacks.items() if names}
