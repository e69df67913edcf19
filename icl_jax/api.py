"""Train, load and evaluate runs: the heart of the public Python interface."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterable

import jax
import numpy as np
import pyarrow as pa
from ml_collections import ConfigDict

from icl_jax import config as cfg
from icl_jax import rundir
from icl_jax.devices import enable_compilation_cache
from icl_jax.experiment import Experiment, describe, member_label, prepare_experiment, suite_names
from icl_jax.files import write_text
from icl_jax.initial import Origin, read_origin
from icl_jax.paths import as_run_path
from icl_jax.report.figures import learning_figure
from icl_jax.report.table import final_table
from icl_jax.training import loop
from icl_jax.training.checkpoint import Checkpoints, keep_policy
from icl_jax.training.display import Progress
from icl_jax.training.parallel import agree, barrier, primary
from icl_jax.training.population import Population, abstract_state
from icl_jax.training.store import MetricsWriter, TensorBoardWriter, read_metrics, to_table


@dataclasses.dataclass(frozen=True)
class Run:
    """A run on disk: its tidy table, its figures and its parameters.

    members: hypers and seeds of each member; step: of the newest checkpoint.
    """

    directory: pathlib.Path
    config: ConfigDict
    members: list[cfg.Member]

    @functools.cached_property
    def table(self) -> pa.Table:
        """All metrics, one row per (member, step, suite, metric)."""
        return read_metrics(self.directory / "metrics")

    @functools.cached_property
    def _newest(self):
        return Checkpoints(self.directory / "checkpoints").restore()

    @property
    def step(self) -> int:
        """Step of the newest good checkpoint."""
        return self._newest[0]

    def variables(self, member: int = 0) -> dict:
        """Returns {"params", "stats"} of one member at the newest checkpoint, as numpy arrays."""
        if not 0 <= member < len(self.members):
            raise ValueError(f"member {member}: the run has members 0 to {len(self.members) - 1}")
        return member_variables(self._newest[1], member)

    @property
    def figures(self) -> list[pathlib.Path]:
        """Figures written at the end of the run."""
        return sorted([*self.directory.glob("*.png"), *self.directory.glob("*.svg")])

    def summary(self) -> str:
        """Returns the short table of final ICL and IWL per setting, as plain text."""
        return final_table(self.table, **_headline(self))


def member_variables(state: dict, member: int) -> dict:
    """Returns {"params", "stats"} of one member of a restored state; empty parts are not stored."""
    return jax.tree.map(lambda x: x[member], {part: state.get(part, {}) for part in ("params", "stats")})


def _headline(run: Run) -> dict:
    return {
        "icl_suite": run.config.evals.icl,
        "iwl_suite": run.config.evals.iwl,
        "group_by": cfg.varied(run.members),
    }


def train(
    config: ConfigDict,
    out: str | pathlib.Path | None = None,
    *,
    progress: bool = True,
    evals: tuple = (),
    patches: tuple = (),
    members: list[cfg.Member] | None = None,
    identity: str = "",
) -> Run:
    """Trains the population of a config, or resumes it, and returns the run.

    out: directory of the run (default config.out, else runs/<name>). A directory that holds the same
    run is continued; one that holds another is refused. members: instead of the product of the config's
    hypers and seeds (a population need not be a product). identity: of the run that this must be, as it was
    planned (`config.identity`); another one is refused. evals: more evals beside the config's suites
    (`icl_jax.training.population.EvalLike`); patches: interventions during training and evaluation
    (`icl_jax.models.taps.Patch`, active in the steps they name; arrays with a leading member axis).

    Raises ValueError for a config that cannot run, before anything is compiled or written. SIGTERM and
    Ctrl-C save within a chunk and return: `Run.step` then falls short of config.train.num_steps.
    """
    enable_compilation_cache()
    directory = as_run_path(out or config.out or f"runs/{config.name}")
    started = Checkpoints(directory / "checkpoints").steps()
    start = None if started else read_origin(config)
    point = rundir.starting_point(directory, config) if started else start.text if start else ""
    origin = _origin_id(point, patches)
    experiment = prepare_experiment(config, evals, origin, members)
    _check_identity(experiment, identity or experiment.identity)
    experiment = dataclasses.replace(experiment, chunk=cfg.chunk_steps(experiment.config, started))
    population = experiment.population(patches)
    if start is not None:
        start.apply(abstract_state(population))  # refuses what does not fit before anything is written
    agree(lambda: rundir.claim(directory, experiment, origin, point))
    _train_into(directory, experiment, population, start, progress and primary())
    barrier("trained")
    run = load_run(directory)
    if primary() and experiment.config.runtime.figures:
        write_report(run)
    return run


def _check_identity(experiment: Experiment, planned: str) -> None:
    if experiment.identity != planned:
        bank = experiment.bank
        raise ValueError(
            f"{planned} was planned, and this would be run {experiment.identity}: bank {bank.name} (here "
            f"{bank.digest}), the run it starts from (init_from) or the version of icl_jax has changed; bring back "
            "what was there, or plan anew in another directory"
        )


def _origin_id(point: str, patches: tuple) -> str:
    """Identity of what a run takes from outside its config: another run's checkpoint, interventions."""
    texts = [point] if point else []
    for leaf in jax.tree.leaves(patches):
        texts.append(hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest())
    return " ".join([*texts, str(jax.tree.structure(patches)) if patches else ""]).strip()


def _train_into(
    directory: pathlib.Path, experiment: Experiment, population: Population, start: Origin | None, progress: bool
) -> loop.Outcome:
    config = experiment.config
    plan = loop.Plan(
        config.train.num_steps,
        experiment.chunk,
        config.evals.every,
        config.checkpoint.every,
        config.evals.icl,
        config.evals.iwl,
    )
    labels = [member_label(m, cfg.varied(experiment.members)) for m in experiment.members]
    kept = config.checkpoint
    keep = keep_policy(kept.keep_steps, kept.keep_every, kept.keep_log, interval=kept.every)
    bar = Progress(labels, plan.num_steps, config.train.batch_size, title=describe(experiment), enabled=progress)
    with (
        Checkpoints(directory / "checkpoints", keep_last=kept.keep_last, keep_steps=keep) as checkpoints,
        _tensorboard(directory, labels, checkpoints, config.runtime.tensorboard) as log,
        bar,
    ):
        return loop.train_population(
            population,
            plan,
            experiment.members,
            MetricsWriter(directory / "metrics"),
            checkpoints,
            bar,
            initial=start.apply if start else None,
            meta={"identity": experiment.identity},
            on_rows=log,
        )


@contextlib.contextmanager
def _tensorboard(directory: pathlib.Path, labels: list[str], checkpoints: Checkpoints, wanted: bool):
    """Gives a function that logs tidy rows, or ignores them where nothing is to be logged."""
    if not wanted or not primary():
        yield lambda rows: None
        return
    writer = TensorBoardWriter(directory / "tensorboard", labels, max(checkpoints.steps(), default=0))
    try:
        yield writer.append
    finally:
        writer.close()


def load_run(directory: str | pathlib.Path) -> Run:
    """Returns the run in a directory. ValueError when it holds none."""
    directory = as_run_path(directory)
    fields = rundir.read(directory)
    config = rundir.config_from_json(fields["config"])
    if config.bank.data_dir and not pathlib.Path(config.bank.data_dir).is_dir():
        config.bank.data_dir = ""  # made on another machine: look where this one keeps its data
    return Run(directory, config, rundir.members_from_json(fields["members"]))


def experiment_of(run: Run, config: ConfigDict | None = None) -> Experiment:
    """Returns the experiment of a run (or of its config with other evals).

    Raises ValueError when its bank is not what the run was trained on.
    """
    fields = rundir.read(run.directory)
    experiment = prepare_experiment(config or run.config, origin=fields.get("origin", ""), members=run.members)
    if experiment.identity != fields["identity"]:
        found, here = fields["bank"], experiment.bank
        if found["digest"] == here.digest:
            raise ValueError(f"{run.directory} was written by a version of icl_jax whose runs differ; use that version")
        raise ValueError(
            f"{run.directory} was trained on bank {found['name']} {found['digest']}, and here that bank is "
            f"{here.digest}: make the same one available (bank.data_dir, bank.path)"
        )
    return experiment


def write_report(run: Run) -> list[pathlib.Path]:
    """Writes learning.png, learning.svg and summary.md into the run's directory; returns their paths."""
    title = f"{run.config.name}: {run.config.bank.name}"
    paths = learning_figure(run.table, run.directory / "learning", title=title, **_headline(run))
    write_text(run.directory / "summary.md", run.summary() + "\n")
    return [*paths, run.directory / "summary.md"]


def evaluate(
    run: Run, suites: Iterable[str] | None = None, *, step: int | None = None, num_sequences: int | None = None
) -> pa.Table:
    """Returns the tidy table of a checkpoint scored on named suites, fresh from its eval seeds.

    suites: names of `icl_jax.evals.suites.SUITES` or of the run's own (default: the run's);
    step: which checkpoint (default the newest). ValueError for unknown suites or steps.
    """
    enable_compilation_cache()
    config = run.config.copy_and_resolve_references()
    config.evals.suites = tuple(suites or suite_names(config))
    with config.unlocked():
        for name in set(config.evals.custom) - set(config.evals.suites):
            del config.evals.custom[name]
    config.evals.icl = config.evals.iwl = suite_names(config)[0]
    config.evals.num_sequences = num_sequences or config.evals.num_sequences
    experiment = experiment_of(run, config)
    population = experiment.population()
    layout = experiment.program.layout
    state, fixed = population.start(population.inputs)
    at, state, _ = Checkpoints(run.directory / "checkpoints").restore(layout.collect(state), step)
    results = layout.collect(
        population.evaluate(layout.spread(state), fixed, population.inputs, population.bank, population.patches)
    )
    columns = [loop.member_columns(m) for m in experiment.members]
    rows = [row for e in population.evals for row in loop.eval_rows(at, e, results[e.name])]
    return to_table([{**columns[row["member"]], **row} for row in rows])
