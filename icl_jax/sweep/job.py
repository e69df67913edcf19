"""One population of a sweep, from its config to its entry in the ledger."""

import contextlib
import dataclasses
import functools
import pathlib
import warnings

import jax
import pyarrow as pa
from ml_collections import ConfigDict

from icl_jax import plugins
from icl_jax.runs import api, rundir
from icl_jax.runs.initial import Origin
from icl_jax.runs.rescore import add_evals
from icl_jax.runs.runplan import Start, config_from_json, config_to_json, eval_digests, eval_spec, plan_of, start_of
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.storage.files import remove_tree, stamp
from icl_jax.storage.metrics import damage_of, last_rows, read_metrics
from icl_jax.storage.sealed import DamagedFile, read_table, write_table
from icl_jax.sweep.cells import Cell
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.handover import make_features, origin_of, taken_steps
from icl_jax.sweep.plan import Planned, planned_from_json
from icl_jax.sweep.stages import FEATURES


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A population of the plan and the config it is to be trained with now. keeps: steps at which later stages will
    take its cells."""

    planned: Planned
    config: ConfigDict
    keeps: frozenset[int] = frozenset()

    @property
    def id(self) -> str:
        return self.planned.id

    @property
    def steps(self) -> int:
        return self.config.train.num_steps

    @functools.cached_property
    def suites(self) -> dict[str, str]:
        """Digests of what its suites mean, by name."""
        return eval_digests(eval_spec(self.config))

    @property
    def start(self) -> Start:
        """What its config says of its start."""
        return start_of(self.config)

    @property
    def features(self) -> str:
        """The stage whose learned features it reads, "" for none."""
        return pathlib.PurePath(self.config.bank.path).parent.name if self.config.bank.name == FEATURES else ""

    def to_json(self) -> dict:
        """Returns plain JSON values, from which another process can run it."""
        texts = plugins.texts(self.config.plugins)
        about = {"planned": self.planned.to_json(), "config": config_to_json(self.config), "plugins": texts}
        return {**about, "keeps": sorted(self.keeps)}


def job_from_json(fields: dict) -> Job:
    """Returns the job of `Job.to_json`."""
    plugins.accept(fields["config"].get("plugins", ()), fields.get("plugins", {}))
    keeps = frozenset(fields.get("keeps", ()))
    return Job(planned_from_json(fields["planned"]), config_from_json(fields["config"]), keeps)


def make_jobs(folder: Folder, cells: list[Cell]) -> list[Job]:
    """Returns the planned populations that hold any of the cells, with their configs of today. Checkpoints of a stage
    that later ones take are kept for good."""
    by_id = {cell.id: cell for cell in cells}
    taken = taken_steps(folder) if folder.is_stage else {}
    jobs = []
    for planned in folder.plan():
        wanted = [by_id[id_] for id_ in planned.cells if id_ in by_id]
        if wanted:
            config = config_for(max(wanted, key=lambda cell: cell.steps), planned)
            kept, steps = config.checkpoint, [at for cell in planned.cells for at in taken.get(cell, {}).items()]
            kept.keep_steps = (*kept.keep_steps, *sorted({step for step, _ in steps if step % kept.every == 0}))
            needed = frozenset(step for step, is_needed in steps if is_needed and step <= config.train.num_steps)
            jobs.append(Job(planned, config, needed))
    return jobs


def config_for(cell: Cell, planned: Planned) -> ConfigDict:
    """Returns the config of a population, of which the cell is one: in the planned layout where this machine
    has the devices for it, else as fits here."""
    config = cell.group.config.copy_and_resolve_references()
    if jax.device_count() >= planned.devices:
        config.runtime.devices, config.runtime.batch_shards = planned.devices, planned.batch_shards
    return config


def read_entry(folder: Folder, id_: str) -> tuple[pa.Table, dict] | None:
    """Returns (rows, {"steps", "suites": name -> digest, "eval_seeds"}) of a population's entry in the ledger, None
    when it has none. DamagedFile when the file is damaged."""
    path = folder.done_file(id_)
    try:
        table, facts = read_table(path)
    except FileNotFoundError:
        return None
    except DamagedFile as fault:
        raise DamagedFile(f"{fault}; `icl sweep run` makes it again") from None
    if not facts.keys() >= {"steps", "suites"}:
        raise DamagedFile(f"{path} is damaged (it has no facts); `icl sweep run` makes it again")
    return table, facts


@functools.lru_cache(maxsize=4096)
def _checked_facts(folder: Folder, id_: str, stamp) -> dict | None:
    """The facts of an entry all of whose rows are good: looked at again when the file is another one."""
    found = read_entry(folder, id_)
    return found and found[1]


def done_facts(folder: Folder, id_: str) -> dict | None:
    """Returns the facts of `read_entry`, None when there is no entry. DamagedFile when it is damaged."""
    return _checked_facts(folder, id_, stamp(folder.done_file(id_)))


def is_done(folder: Folder, job: Job) -> bool:
    """Returns whether the ledger has all the steps and suites, as they are defined now, that the job asks for.

    A damaged entry counts as none, with a warning: it is made again from the run's checkpoints.
    """
    try:
        facts = done_facts(folder, job.id)
    except DamagedFile as fault:
        warnings.warn(str(fault), stacklevel=2)
        return False
    return (
        bool(facts)
        and facts["steps"] >= job.steps
        and facts["suites"].items() >= job.suites.items()
        and same_eval_seeds(facts, job.planned)
        and not _lost(folder, job)
    )


def _lost(folder: Folder, job: Job) -> frozenset[int]:
    """The steps at which later stages take its cells, and of which there is no checkpoint."""
    if not job.keeps:
        return frozenset()
    return job.keeps - set(Checkpoints(folder.run_directory(job.id) / "checkpoints").steps())


def same_eval_seeds(facts: dict, planned: Planned) -> bool:
    """Returns whether facts are of evaluations under the eval seeds of a planned population."""
    seeds = [member.seeds["eval"] for member in planned.members]
    return facts.get("eval_seeds", seeds) == seeds


def run_job(folder: Folder, job: Job, *, progress: bool = True) -> bool:
    """Trains a population, or goes on with it, and enters it in the ledger. Returns False when a signal
    stopped it before its last step."""
    directory = folder.run_directory(job.id)
    if not make_features(folder, job.planned.members, job.features):
        return False
    _forget_changed_suites(directory, job)
    start = origin_of(folder, job.planned.members, job.start)
    if not is_whole(directory, job.steps):
        _train(job, directory, progress, start)
        if not is_whole(directory, job.steps):
            return False
    if lost := _lost(folder, job):
        raise ValueError(
            f"no checkpoint of step {min(lost)}, which a later stage takes, and the run is beyond it: move {directory} "
            "away, and the population is trained again, to the same results"
        )
    try:
        add_evals(api.load_run(directory), job.config)
    except DamagedCheckpoint:  # the newest: training goes on from the one before and writes it again
        _train(job, directory, progress, start)
        add_evals(api.load_run(directory), job.config)
    _enter(folder, job)
    return True


def is_whole(directory: pathlib.Path, steps: int) -> bool:
    """Returns whether a run has come to so many steps and lacks nothing up to there: a run whose rows have a gap is
    not done."""
    try:
        rundir.read(directory)
    except ValueError:
        return False
    end = reached(directory)
    return end >= steps and not damage_of(directory / "metrics", end)


def _forget_changed_suites(directory: pathlib.Path, job: Job) -> None:
    """Drops what was measured on suites that now mean something else: they are scored anew where checkpoints are."""
    changed = []
    with contextlib.suppress(DamagedFile):  # training writes it anew
        if (directory / rundir.FILE).is_file():
            changed = rundir.record_evals(directory, plan_of(job.config), list(job.planned.members))
    if changed:
        names = ", ".join(changed)
        warnings.warn(f"{job.id}: {names} changed and is scored anew, on the checkpoints that were kept", stacklevel=2)


def _train(job: Job, directory: pathlib.Path, progress: bool, start: Origin | None) -> None:
    """Trains; a population none of whose checkpoints is good starts anew, to the same results."""
    members = list(job.planned.members)
    about = {"members": members, "identity": job.id, "start": start}
    train = lambda: api.train(job.config, directory, progress=progress, **about)
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
    steps = reached(directory)
    table = last_rows(read_metrics(directory / "metrics", steps))  # twice there, if two workers had it without a lock
    seeds = [member.seeds["eval"] for member in job.planned.members]
    facts = {"steps": steps, "suites": job.suites, "eval_seeds": seeds}
    write_table(with_cells(table, job.planned), folder.done_file(job.id), facts)


def with_cells(table: pa.Table, planned: Planned) -> pa.Table:
    """Returns a population's table with a column `cell` in the place of `member`."""
    cells = pa.array(planned.cells).take(table["member"].combine_chunks())
    return table.drop_columns(["member"]).add_column(0, "cell", cells)
