"""One population of a sweep, from its config to its entry in the ledger."""

import dataclasses
import functools
import json
import pathlib
import warnings

import jax
import pyarrow as pa
import pyarrow.parquet as pq
from ml_collections import ConfigDict

from icl_jax import api, rundir
from icl_jax.experiment import suite_digests
from icl_jax.files import remove_tree, replacing
from icl_jax.sweep.cells import Cell
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.plan import Planned, planned_from_json
from icl_jax.sweep.rescore import add_suites
from icl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.training.store import last_rows, read_metrics

_KEY = b"icl_jax"  # of the ledger's facts in a parquet file's metadata


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A population of the plan and the config it is to be trained with now."""

    planned: Planned
    config: ConfigDict

    @property
    def id(self) -> str:
        return self.planned.id

    @property
    def steps(self) -> int:
        return self.config.train.num_steps

    @functools.cached_property
    def suites(self) -> dict[str, str]:
        """Digests of what its suites mean, by name."""
        return suite_digests(self.config)

    def to_json(self) -> dict:
        """Returns plain JSON values, from which another process can run it."""
        return {"planned": self.planned.to_json(), "config": rundir.config_to_json(self.config)}


def job_from_json(fields: dict) -> Job:
    """Returns the job of `Job.to_json`."""
    return Job(planned_from_json(fields["planned"]), rundir.config_from_json(fields["config"]))


def make_jobs(folder: Folder, cells: list[Cell]) -> list[Job]:
    """Returns the planned populations that hold any of the cells, with their configs of today."""
    by_id = {cell.id: cell for cell in cells}
    jobs = []
    for planned in folder.plan():
        wanted = [by_id[id_] for id_ in planned.cells if id_ in by_id]
        if wanted:
            jobs.append(Job(planned, config_for(max(wanted, key=lambda cell: cell.steps), planned)))
    return jobs


def config_for(cell: Cell, planned: Planned) -> ConfigDict:
    """Returns the config of a population, of which the cell is one: in the planned layout where this machine
    has the devices for it, else as fits here."""
    config = cell.group.config.copy_and_resolve_references()
    if jax.device_count() >= planned.devices:
        config.runtime.devices, config.runtime.batch_shards = planned.devices, planned.batch_shards
    return config


def done_facts(folder: Folder, id_: str) -> dict | None:
    """Returns {"steps", "suites": name -> digest} of a population's entry in the ledger, None when it has none.

    ValueError when the file is damaged.
    """
    path = folder.done_file(id_)
    try:
        with path.open("rb") as file:  # of a bucket's, this fetches the end alone
            return json.loads(pq.read_schema(file).metadata[_KEY])
    except FileNotFoundError:
        return None
    except (pa.ArrowException, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); `icl sweep run` makes it again") from None


def is_done(folder: Folder, job: Job) -> bool:
    """Returns whether the ledger has all the steps and suites, as they are defined now, that the job asks for.

    A damaged entry counts as none, with a warning: it is made again from the run's checkpoints.
    """
    try:
        facts = done_facts(folder, job.id)
    except ValueError as error:
        warnings.warn(str(error), stacklevel=2)
        return False
    return bool(facts) and facts["steps"] >= job.steps and facts["suites"].items() >= job.suites.items()


def run_job(folder: Folder, job: Job, *, progress: bool = True) -> bool:
    """Trains a population, or goes on with it, and enters it in the ledger. Returns False when a signal
    stopped it before its last step."""
    directory = folder.run_directory(job.id)
    _forget_changed_suites(directory, job)
    if reached(directory) < job.steps:
        _train(job, directory, progress)
        if reached(directory) < job.steps:
            return False
    try:
        add_suites(api.load_run(directory), job.config)
    except DamagedCheckpoint:  # the newest: training goes on from the one before and writes it again
        _train(job, directory, progress)
        add_suites(api.load_run(directory), job.config)
    _enter(folder, job)
    return True


def _forget_changed_suites(directory: pathlib.Path, job: Job) -> None:
    """Drops what was measured on suites that now mean something else: they are scored anew where checkpoints are."""
    if (directory / rundir.FILE).is_file() and (changed := rundir.record_evals(directory, job.config)):
        names = ", ".join(changed)
        warnings.warn(f"{job.id}: {names} changed and is scored anew, on the checkpoints that were kept", stacklevel=2)


def _train(job: Job, directory: pathlib.Path, progress: bool) -> None:
    """Trains; a population none of whose checkpoints is good starts anew, to the same results."""
    members = list(job.planned.members)
    train = lambda: api.train(job.config, directory, progress=progress, members=members, identity=job.id)
    try:
        train()
    except DamagedCheckpoint as fault:
        aside = directory / "checkpoints.damaged"
        warnings.warn(f"{fault}; moved to {aside.name}, and the population starts anew", stacklevel=2)
        remove_tree(aside)
        (directory / "checkpoints").rename(aside)
        train()


def reached(directory: pathlib.Path) -> int:
    """Returns the step of a run's newest checkpoint, -1 when it has none."""
    return max(Checkpoints(directory / "checkpoints").steps(), default=-1)


def _enter(folder: Folder, job: Job) -> None:
    directory = folder.run_directory(job.id)
    table = last_rows(read_metrics(directory / "metrics"))  # twice there, where two workers had it without a lock
    facts = {"steps": reached(directory), "suites": job.suites}
    table = with_cells(table, job.planned).replace_schema_metadata({_KEY: json.dumps(facts).encode()})
    with replacing(folder.done_file(job.id)) as temporary:
        pq.write_table(table, temporary)


def with_cells(table: pa.Table, planned: Planned) -> pa.Table:
    """Returns a population's table with a column `cell` in the place of `member`."""
    cells = pa.array(planned.cells).take(table["member"].combine_chunks())
    return table.drop_columns(["member"]).add_column(0, "cell", cells)
