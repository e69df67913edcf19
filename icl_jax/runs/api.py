"""Train, load and evaluate runs: the heart of the public Python interface."""

import contextlib
import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32
from ml_collections import ConfigDict

from icl_jax.data.text.tokenizers import Tokenizer
from icl_jax.devices import enable_compilation_cache
from icl_jax.evals import named
from icl_jax.evals.suites import SUITES
from icl_jax.headlines import shown_of
from icl_jax.inputs import Batch
from icl_jax.members import Member, same_run, varied
from icl_jax.models.build import Model, Output
from icl_jax.models.taps import Patch, identity_text
from icl_jax.names import check_file_name, few, suggest
from icl_jax.registry import components, option_value
from icl_jax.report.figures import learning_figure
from icl_jax.report.table import final_table
from icl_jax.report.unchanged import unchanged
from icl_jax.runs import config as cfg
from icl_jax.runs import inside, language, rundir
from icl_jax.runs.experiment import Experiment, describe, member_label, prepare_experiment
from icl_jax.runs.initial import Origin, read_origin
from icl_jax.runs.runplan import Start, config_from_json, eval_digests, eval_names, start_of, suites_of
from icl_jax.sections import OTHER_SECTIONS
from icl_jax.spec import RunSpec, options_of
from icl_jax.storage import weights
from icl_jax.storage.arrays import Labelled, from_table
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint, keep_policy
from icl_jax.storage.columns import REDUCTION, coordinates
from icl_jax.storage.files import write_text
from icl_jax.storage.locks import check_free, sole_writer
from icl_jax.storage.metrics import (
    Damage,
    MetricsWriter,
    TensorBoardWriter,
    array_files,
    damage_of,
    read_metrics,
)
from icl_jax.storage.paths import as_run_path
from icl_jax.training import loop
from icl_jax.training.display import Progress
from icl_jax.training.parallel import agree, barrier, primary
from icl_jax.training.population import Population, abstract_state
from icl_jax.training.rows import Scores, member_columns


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A run on disk: its tidy table, its figures and its parameters.

    members: hypers and seeds of each member; step: of the newest good checkpoint.

    >>> run = icl_jax.load_run(directory / "tiny")
    >>> run
    Run('.../tiny': transformer, 4 members, 20 steps)
    >>> [(member.hypers["p_bursty"], member.seeds["init"]) for member in run.members]
    [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]
    """

    directory: pathlib.Path
    config: ConfigDict
    members: list[Member]

    def __repr__(self) -> str:
        about = f"{len(self.members)} member{'s' * (len(self.members) != 1)}, {self.config.train.num_steps:,} steps"
        return f"Run({str(self.directory)!r}: {self.config.model.core}, {about})"

    @functools.cached_property
    def table(self) -> pa.Table:
        """All metrics, one row per (member, step, suite, metric). DamagedMetrics where some are damaged or missing.

        >>> import pyarrow.compute as pc
        >>> icl = run.table.filter((pc.field("suite") == "fewshot_holdout") & (pc.field("metric") == "accuracy"))
        >>> icl.select(["step", "member", "hyper/p_bursty", "value"]).slice(0, 2).to_pylist()
        [{'step': 0, 'member': 0, 'hyper/p_bursty': 0.0, 'value': 0...},
         {'step': 10, 'member': 0, 'hyper/p_bursty': 0.0, 'value': 0...}]
        """
        table = read_metrics(self.directory / "metrics", self._reached)
        _note_mixed_evals(self.directory, table)
        return table

    @property
    def _reached(self) -> int:
        """The newest step up to which there must be metrics."""
        return max(Checkpoints(self.directory / "checkpoints").steps(), default=-1)

    def damage(self) -> Damage:
        """Returns what is wrong with the metrics on disk; training the run again makes them whole.

        >>> import shutil
        >>> bool(run.damage())
        False
        >>> copy = icl_jax.load_run(shutil.copytree(run.directory, directory / "copy"))
        >>> sorted((copy.directory / "metrics").glob("*.parquet"))[-1].unlink()
        >>> print(copy.damage())
        the rows of steps 11 to 20 are missing
        """
        return damage_of(self.directory / "metrics", self._reached)

    @functools.cached_property
    def _newest(self):
        return Checkpoints(self.directory / "checkpoints").restore()

    @property
    def step(self) -> int:
        """Step of the newest good checkpoint.

        >>> run.step, run.config.train.num_steps  # the first is smaller where training was interrupted
        (20, 20)
        """
        return self._newest[0]

    def variables(self, member: int = 0, step: int | None = None) -> dict:
        """Returns {"params", "stats"} of one member at a checkpoint (default: the newest), as numpy arrays.

        >>> table = run.variables(member=3)["params"]["embedder"]["table"]
        >>> table.shape  # labels, width
        (8, 16)
        >>> float(abs(table - run.variables(3, step=10)["params"]["embedder"]["table"]).max()) > 0  # it learned since
        True
        """
        self._check_member(member)
        found = self._newest if step is None else Checkpoints(self.directory / "checkpoints").restore(step=step)
        return member_variables(found[1], member)

    def _check_member(self, member: int) -> None:
        if not 0 <= member < len(self.members):
            raise ValueError(f"member {member}: the run has members 0 to {len(self.members) - 1}")

    @functools.cached_property
    def _experiment(self) -> Experiment:
        return experiment_of(self)

    @property
    def model(self) -> Model:
        """The network as pure functions: its `sites`, their axes, `token_sets(inputs)`, `apply`.

        >>> run.model.sites["attn_probs"]
        ('layer', 'sequence', 'head', 'query', 'key')
        >>> sets = run.model.token_sets(run.batch(1).inputs)
        >>> sorted(sets)
        ['answer', 'forerunner', 'item', 'label', 'query']
        >>> print(sets["label"].astype(int))
        [[0 1 0 1 0 1 0 1 0]]
        """
        return self._experiment.model

    def batch(self, count: int = 32, *, suite: str = "", member: int = 0, step: int = 0) -> Batch:
        """Returns `count` sequences as the model reads them, as numpy arrays: the first of training batch `step` of a
        member or, with a suite (one of the run's or a named one), the first on which that member is evaluated.

        >>> batch = run.batch(4)
        >>> batch.inputs.items.shape, batch.inputs.labels.shape  # 4 pairs and the query; images of 8 x 8
        ((4, 5, 8, 8, 1), (4, 5))
        >>> run.batch(2, suite="flipped").inputs.labels.shape
        (2, 5)
        """
        self._check_member(member)
        if count < 1:
            raise ValueError(f"count {count}: ask for at least 1 sequence")
        if step < 0:
            raise ValueError(f"step {step}: batches are numbered from 0")
        if suite:
            return inside.suite_batch(self._experiment, member, suite, count)
        return inside.training_batch(self._experiment, member, step, count)

    def apply(
        self,
        batch: Batch,
        *,
        member: int = 0,
        step: int | None = None,
        record: Sequence[str] = (),
        patches: inside.Patches = (),
        logits_at: str | np.ndarray = "last",
    ) -> Output:
        """Returns what a member's network gives for a batch (`Output`: logits, stats, taps, changed), as numpy arrays.

        step: of a checkpoint that was kept (default: the newest); record: sites to return; patches: interventions, as
        name -> fields (those of `config.patches`) or as `icl_jax.models.taps.Patch`es, which act if they are on at
        that step, whatever they say of training and evals; the run's own do not act here, unless they are given:
        `patches=run.config.patches`. logits_at: as in `Model.apply`. A patch that acts and changes nothing is warned
        of. ValueError for sites, tokens or layers that the model lacks.

        >>> batch = run.batch(4)
        >>> output = run.apply(batch, record=("attn_probs",))
        >>> output.logits.shape, output.taps["attn_probs"].shape
        ((4, 8), (2, 4, 2, 9, 9))
        >>> cut = {"site": "attn_probs", "mode": "multiply", "tokens": "label -> query", "value": 0.0, "layers": (0,)}
        >>> float(run.apply(batch, patches={"cut": cut}).changed["cut"])  # 4 of the 45 edges, in 1 of 2 layers
        0.0444...
        """
        variables, step = self.variables(member, step), self.step if step is None else step
        how = {"record": record, "patches": patches, "step": step, "logits_at": logits_at}
        return inside.apply(self._experiment, variables, batch.inputs, **how)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of an imported language model. ValueError for another run.

        >>> language.tokenizer.encode("a b")
        [3, 1, 4]
        >>> run.tokenizer
        Traceback (most recent call last):
            ...
        ValueError: run.tokenizer takes a language model (parts.source 'text'); this is a Exemplars
        """
        return language.source_of(self._experiment, "run.tokenizer").tokenizer

    def tokens(self, texts: Sequence[str]) -> Batch:
        """Returns texts as an imported language model reads them, for `apply`; they may differ in length, and are
        padded at the end. ValueError for another run and for an empty text.

        >>> batch = language.tokens(["a b", "a longer text"])
        >>> batch.inputs.ids.shape, language.apply(batch).logits.shape
        ((2, 13), (2, 61))
        """
        return language.batch_of(self._experiment, texts)

    def generate(
        self, prompts: Sequence[str], num_tokens: int = 32, *, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Returns how an imported language model goes on with each prompt.

        temperature: 0 takes the likeliest token, above 0 tokens are drawn by seed. ValueError for another run and for
        more tokens than the model has positions.

        >>> [len(text) for text in language.generate(["a b", "the"], 4)]  # of a token a letter
        [4, 4]
        """
        return language.generate(self._experiment, prompts, num_tokens, temperature, seed)

    def log_probs(self, prompts: Sequence[str], continuations: Sequence[str]) -> Float32[np.ndarray, "texts"]:
        """Returns the log-probability, in nats, that an imported language model gives to each continuation after its
        prompt, summed over its tokens. ValueError as for `generate`.

        >>> language.log_probs(["a b", "the"], ["c", "re"]).shape
        (2,)
        """
        return language.log_probs(self._experiment, prompts, continuations)

    def array(self, name: str, metric: str, step: int | None = None) -> Labelled:
        """Returns what an eval (or a suite) measured at a step, over members and its axes, with the labels along them.

        step: at which it was measured (default: the newest). Results that are too large for the table are read from
        the files beside it. ValueError for what the table does not have, DamagedFile where the file is not whole.

        >>> loss = run.array("along", "loss")
        >>> loss.values.shape, loss.axes, loss.coords
        ((4, 5), ('position',), {'position': (0, 1, 2, 3, 4)})
        >>> run.array("fewshot_holdout", "accuracy", step=0).values.shape
        (4,)
        """
        rows = self.table.filter((pc.field("suite") == name) & (pc.field("metric") == metric))
        steps = sorted(pc.unique(rows["step"]).to_pylist())
        if not steps and (of_it := self.table.filter(pc.field("suite") == name)).num_rows:
            known = pc.unique(of_it["metric"]).to_pylist()
            raise ValueError(f"{self.directory}: {name!r} has no metric {metric!r}{suggest(metric, known)}")
        if not steps:
            known = pc.unique(self.table["suite"]).to_pylist()
            raise ValueError(f"{self.directory}: no {name!r} was measured{suggest(name, known)}")
        at: int = steps[-1] if step is None else step
        if at not in steps:
            raise ValueError(f"{self.directory}: {name} was not measured at step {at}, but at {steps}")
        rows = rows.filter(pc.field("step") == at)
        if REDUCTION in rows.column_names and rows[REDUCTION].null_count == 0:
            return array_files(self.directory / "metrics").read(name, metric, at)
        return from_table(rows, coordinates(rows.column_names))

    @property
    def figures(self) -> list[pathlib.Path]:
        """Figures written at the end of the run.

        >>> [path.name for path in run.figures]
        ['learning.png', 'learning.svg']
        """
        return sorted([*self.directory.glob("*.png"), *self.directory.glob("*.svg")])

    def summary(self) -> str:
        """Returns the short table of final headlines per setting and which patches changed nothing, as plain text.

        >>> print(run.summary())
        | p_bursty | ICL | of the way | IWL | peak ICL | at step | seeds | diverged |
        | -------- | ...
        | 0        | 0... (0...) | ...% (...) | 0... (0...) | 0... (0...) | ... | 2 | 0 |
        | 1        | 0... (0...) | ...% (...) | 0... (0...) | 0... (0...) | ... | 2 | 0 |
        """
        return "\n".join([final_table(self.table, **_headline(self)), *unchanged(self.table)])


def member_variables(state: dict, member: int) -> dict:
    """Returns {"params", "stats"} of one member of a restored state; empty parts are not stored."""
    return jax.tree.map(lambda x: x[member], {part: state.get(part, {}) for part in ("params", "stats")})


def _headline(run: Run) -> dict:
    return {"headlines": shown_of(run.config.evals), "group_by": varied(run.members)}


def train(
    config: ConfigDict,
    out: str | pathlib.Path | None = None,
    *,
    progress: bool = True,
    evals: tuple = (),
    patches: tuple = (),
    members: list[Member] | None = None,
    identity: str = "",
    start: Origin | None = None,
) -> Run:
    """Trains the population of a config, or resumes it, and returns the run.

    out: directory of the run (default config.out, else runs/<name>). A directory that holds the same
    run is continued; one that holds another is refused. members: instead of the product of the config's
    hypers and seeds (a population need not be a product). identity: of the run that this must be, as it was
    planned (`config.identity`); another one is refused. start: what it starts from instead of what config.init_from
    names, where its members' sources say so. evals: more evals beside the config's suites
    (`icl_jax.training.protocols.Eval`); patches: interventions during training and evaluation
    (`icl_jax.models.taps.Patch`, active in the steps they name; arrays with a leading member axis).

    Raises ValueError for a config that cannot run, before anything is compiled or written. SIGTERM and
    Ctrl-C save within a chunk and return: `Run.step` then falls short of config.train.num_steps.

    >>> run = icl_jax.train(config, directory / "tiny", progress=False)
    >>> run.step
    20
    >>> icl_jax.train(icl_jax.override(config, {"model.width": 32}), directory / "tiny")
    Traceback (most recent call last):
        ...
    ValueError: .../tiny holds another run ... They differ in: model.width (16 there, 32 here)
    """
    if not isinstance(config, ConfigDict):
        raise ValueError(f"train takes a config, not {config!r}; read one with icl_jax.load_config(FILE)")
    enable_compilation_cache()
    directory = as_run_path(out or config.out or f"runs/{config.name}")
    if not (directory / rundir.FILE).exists():  # an earlier version took any name
        check_file_name("config.name", config.name)
    agree(lambda: check_free(directory))
    about = (config, directory, evals, patches, members, identity, start)
    work = _prepare(*about)
    with _sole_writer(directory):
        if work.damage or work.started != Checkpoints(directory / "checkpoints").steps():
            # Another process may have trained or mended it meanwhile.
            work = _prepare(*about)
        _train_into(directory, work, progress and primary())
        barrier("trained")
        run = load_run(directory)
    _score_added(load_run(directory), patches, progress)  # a run keeps the table that it has read
    if primary() and work.experiment.plan.runtime.figures and not run.damage():
        write_report(run)
    return run


def _score_added(run: Run, patches: tuple, progress: bool) -> None:
    """Scores evals that a config got after its run was trained, on the checkpoints that were kept."""
    from icl_jax.runs.rescore import add_evals, missing_evals  # which scores with this module

    if run.step < run.config.train.num_steps or run.damage() or not (lacks := missing_evals(run)):
        return
    names = ", ".join(dict.fromkeys(name for mine in lacks.values() for name in mine))
    if jax.process_count() > 1:
        warnings.warn(f"{run.directory} is not scored on {names}: run the same in one process for that", stacklevel=3)
        return
    if progress:
        print(f"{names}: scored on the checkpoints of steps {few(list(lacks))}")
    add_evals(run, run.config, patches)


@contextlib.contextmanager
def _sole_writer(directory: pathlib.Path):
    """Of several processes the first holds the directory for all."""
    with contextlib.ExitStack() as held:
        agree(lambda: held.enter_context(sole_writer(directory)))
        yield


@dataclasses.dataclass(frozen=True)
class _Work:
    """A run that is about to be trained, checked against its directory; nothing is written yet.

    started: steps of the checkpoints there; found: what is known of the run there; origin: see `config.cell_id`;
    start: what origin says of init_from; initial: from the fresh state to the first one; damage: of the metrics.
    identity: the run keeps the one it has, or was planned with.
    """

    identity: str
    experiment: Experiment
    population: Population
    started: list[int]
    found: dict | None
    origin: str
    start: str
    initial: Callable | None
    damage: Damage


def _prepare(config, directory: pathlib.Path, evals, patches, members, planned: str, given: Origin | None) -> _Work:
    found = rundir.look(directory)
    started = Checkpoints(directory / "checkpoints").steps() if found else []
    asked = start_of(config)
    first = given or (None if started else read_origin(asked))
    start = rundir.starting_point(directory, found or {}, asked) if started else first.text if first else ""
    origin = _origin_id(start, patches)
    experiment = prepare_experiment(config, evals, origin, members, known=bool(found or planned), patches=patches)
    _check_planned(experiment, planned)
    if found:
        rundir.check_same(directory, found, experiment)
    elif same := _same_run(experiment.members, experiment.plan.spec, first is None or first.keeps_seed):
        raise ValueError(f"{same}: give each value of a hyper once, and each replicate seeds of its own")
    damage = damage_of(directory / "metrics", max(started)) if started else Damage()
    looked_at = [step for gap in damage.gaps for step in gap if step > 0]
    experiment = dataclasses.replace(experiment, chunk=experiment.plan.chunk([*started, *looked_at]))
    population = experiment.population()
    if first is not None and not started:
        first.apply(abstract_state(population))  # refuses what does not fit before anything is written
    initial = first.apply if first else functools.partial(_start_again, asked, start) if start else None
    identity = found["identity"] if found else planned or experiment.identity
    return _Work(identity, experiment, population, started, found, origin, start, initial, damage)


def _same_run(members: list[Member], spec: RunSpec, initialised: bool = True) -> str:
    """Which two members are the same run, "" for none."""
    seeds = cfg.decisive_seeds(spec, initialised)
    if not (same := same_run(members, seeds)):
        return ""
    label = member_label(members[same[0]], varied(members))
    silent = "seeds.eval alone makes no other"
    if "eval" in seeds:
        silent = "of an imported model only seeds.eval makes another"
    elif not initialised:
        silent = "neither seeds.eval makes another nor, as init_from gives all parameters, seeds.init"
    return f"members {same[0]} and {same[1]} are the same run ({label}; {silent})"


def _start_again(asked: Start, start: str, fresh):
    """The state that a run started from, for its first steps to be trained again."""
    origin = read_origin(asked)
    assert origin is not None, "a run that started from another says which"
    if origin.text != start:
        raise ValueError(
            f"the first steps cannot be trained again: the run started from {start!r}, and init_from names "
            f"{origin.text!r} now; bring that checkpoint back, or train into another directory"
        )
    return origin.apply(fresh)


def _check_planned(experiment: Experiment, planned: str) -> None:
    if planned and not experiment.is_known_as(planned, experiment.program.layout.batch_shards):
        data = experiment.data
        raise ValueError(
            f"{planned} was planned, and this would be run {experiment.identity}: bank {data['name']} (here "
            f"{data['digest']}), the run it starts from (init_from) or the version of icl_jax has changed; bring back "
            "what was there, or plan anew in another directory"
        )


def _origin_id(point: str, patches: tuple) -> str:
    """Identity of what a run takes from outside its config: another run's checkpoint, interventions."""
    return f"{point} {identity_text(patches)}".strip()


def _train_into(directory: pathlib.Path, work: _Work, progress: bool) -> None:
    experiment, plan = work.experiment, work.experiment.plan
    said = rundir.describe(experiment, work.found, work.identity, work.origin, work.start)
    writer = MetricsWriter(directory / "metrics", eval_digests(plan.spec.evals))
    agree(writer.seal)
    agree(lambda: rundir.write(directory, said))
    agree(lambda: rundir.keep_plugins(directory, plan.config["plugins"]))
    if _is_whole(directory, work):
        if progress:
            print(f"{describe(experiment)}: trained already")
        return
    if work.damage:
        warnings.warn(
            f"{directory}: {work.damage}: trained again from the last good checkpoint before that", stacklevel=3
        )
    course = loop.Course(
        plan.spec.train.num_steps,
        experiment.chunk,
        plan.intervals.evaluate,
        plan.intervals.save,
        plan.headlines,
    )
    labels = [member_label(m, varied(experiment.members)) for m in experiment.members]
    kept = plan.keep
    keep = keep_policy(kept.steps, kept.every, kept.log, interval=plan.intervals.save)
    shown = {"title": describe(experiment), "headlines": [headline.title for headline in plan.headlines]}
    bar = Progress(labels, course.num_steps, plan.spec.train.batch_size, **shown, enabled=progress)
    with (
        Checkpoints(directory / "checkpoints", keep_last=kept.last, keep_steps=keep) as checkpoints,
        _tensorboard(directory, labels, checkpoints, plan.runtime.tensorboard) as log,
        bar,
    ):
        loop.train_population(
            work.population,
            course,
            experiment.members,
            writer,
            checkpoints,
            bar,
            initial=work.initial,
            meta=rundir.facts(said),
            on_rows=log,
            gaps=work.damage.gaps,
        )


def _is_whole(directory: pathlib.Path, work: _Work) -> bool:
    """Returns whether there is nothing to train and nothing to mend, without compiling."""
    last = work.experiment.plan.spec.train.num_steps
    if work.damage or not work.started or work.started[-1] != last:
        return False
    try:
        Checkpoints(directory / "checkpoints").restore(step=last)
    except DamagedCheckpoint:
        return False
    return True


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


def _note_mixed_evals(directory: pathlib.Path, table: pa.Table) -> None:
    """An earlier version went on with a run under other eval seeds without a word."""
    if len(table) and "seed/eval" in table.column_names:
        pairs = table.filter(pc.field("suite") != "train").group_by(["member", "seed/eval"]).aggregate([])
        if len(pairs) > len(pc.unique(pairs["member"])):
            warnings.warn(
                f"{directory}: some members were evaluated with several eval seeds, one after another: "
                "their curves mix evaluations on different sequences",
                stacklevel=3,
            )


def load_run(directory: str | pathlib.Path) -> Run:
    """Returns the run in a directory. ValueError when it holds none, DamagedFile when its run.json is damaged.

    >>> icl_jax.load_run(directory / "tiny").config.bank.name
    'glyphs'
    >>> icl_jax.load_run(directory)
    Traceback (most recent call last):
        ...
    ValueError: ... holds no run: it has no run.json
    """
    directory = as_run_path(directory)
    fields = rundir.read(directory)
    config = config_from_json(fields["config"])
    if fields.get("identity_schema", 1) == 1 and cfg.counts_shards(cfg.run_spec(config)):
        warnings.warn(
            f"{directory}: its id {fields['identity']} is from before the number of batch shards was part of an id, "
            f"though its batch statistics depend on it (last trained with {rundir.batch_shards(fields)})",
            stacklevel=2,
        )
    members = rundir.members_from_json(fields["members"])
    if same := _same_run(members, cfg.run_spec(config)):
        warnings.warn(f"{directory}: {same}: they are no replicates", stacklevel=2)
    try:
        cfg.check_read(cfg.run_spec(config, suites_of(config)), members)
    except ValueError as fault:  # an earlier version took it, or a component of one's own is not registered here
        warnings.warn(f"{directory}: {fault} (opened as it is; a new run would be refused)", stacklevel=2)
    if config.bank.data_dir and not pathlib.Path(config.bank.data_dir).is_dir():
        config.bank.data_dir = ""  # made on another machine: look where this one keeps its data
    if (directory / weights.FOLDER).is_dir():
        config.model.weights = str(directory)  # wherever it is now
    return Run(directory, config, members)


def experiment_of(run: Run, config: ConfigDict | None = None, patches: tuple[Patch, ...] = ()) -> Experiment:
    """Returns the experiment of a run (or of its config with other evals). patches: as they were given to `train`.

    Raises ValueError when its bank is not what the run was trained on.
    """
    fields = rundir.read(run.directory)
    experiment = prepare_experiment(
        config or run.config, origin=fields.get("origin", ""), members=run.members, known=True, patches=patches
    )
    if not experiment.is_known_as(fields["identity"], rundir.batch_shards(fields)):
        found, here = fields["bank"], experiment.data
        if found["digest"] == here["digest"]:
            raise ValueError(f"{run.directory} was written by a version of icl_jax whose runs differ; use that version")
        raise ValueError(
            f"{run.directory} was trained on bank {found['name']} {found['digest']}, and here that bank is "
            f"{here['digest']}: make the same one available (bank.data_dir, bank.path)"
        )
    return experiment


def write_report(run: Run) -> list[pathlib.Path]:
    """Writes learning.png, learning.svg and summary.md into the run's directory; returns their paths."""
    title = f"{run.config.name}: {run.config.bank.name}"
    paths = learning_figure(run.table, run.directory / "learning", title=title, **_headline(run))
    write_text(run.directory / "summary.md", run.summary() + "\n")
    return [*paths, run.directory / "summary.md"]


def evaluate(
    run: Run,
    evals: Iterable[str] | str | None = None,
    *,
    step: int | None = None,
    num_sequences: int | None = None,
    patches: tuple[Patch, ...] = (),
) -> pa.Table:
    """Returns the tidy table of a checkpoint scored anew, fresh from its eval seeds: all numbers, one a row.

    evals: names of suites (`icl_jax.evals.suites.SUITES` or the run's own) and of other evals (the run's, or registered
    ones, with their defaults; the suites that they look at come with them); default: all of the run's. step: which
    checkpoint (default the newest); num_sequences: per suite. patches: those given to `train`, if any, as a run keeps
    those of its config alone. ValueError for unknown names and other patches, CheckpointError for a step of which there
    is no checkpoint.

    >>> import pyarrow.compute as pc
    >>> table = icl_jax.evaluate(run, "flipped", num_sequences=32)
    >>> table.filter(pc.field("metric") == "accuracy").select(["member", "step", "value"]).to_pydict()
    {'member': [0, 1, 2, 3], 'step': [20, 20, 20, 20], 'value': [0..., 0..., 0..., 0...]}
    """
    return score(run, evals, step=step, num_sequences=num_sequences, patches=patches).table()


def score(
    run: Run,
    evals: Iterable[str] | str | None = None,
    *,
    step: int | None = None,
    num_sequences: int | None = None,
    patches: tuple[Patch, ...] = (),
) -> Scores:
    """Returns what `evaluate` makes a table of."""
    if not isinstance(run, Run):
        raise ValueError(f"evaluate takes a run, not {run!r}; open it with icl_jax.load_run(DIRECTORY)")
    enable_compilation_cache()
    found = rundir.read(run.directory)
    if found.get("origin", "") != _origin_id(found["start"], patches):
        raise ValueError(
            f"{run.directory} was trained with other patches from Python, which act in evaluations too and which a run "
            "does not keep: give evaluate the same `patches` as train, or state them in config.patches"
        )
    given = evals if isinstance(evals, Iterable | None) else (evals,)
    names = (given,) if isinstance(given, str) else tuple(given or eval_names(run.config))
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"evaluate takes names of suites and other evals, not {wrong[0]!r}")
    config = _evaluating(run, names)
    if num_sequences is not None:
        known = options_of(OTHER_SECTIONS["evals"])["num_sequences"]
        config.evals.num_sequences = option_value("num_sequences", num_sequences, known)
    experiment = experiment_of(run, config, patches)
    population = experiment.population()
    layout = experiment.program.layout
    state, fixed = population.fresh()
    at, state, _ = Checkpoints(run.directory / "checkpoints").restore(layout.collect(state), step)
    results = population.measure(layout.spread(state), fixed)
    return Scores(at, population.evals, results, [member_columns(m) for m in experiment.members])


def _evaluating(run: Run, names: tuple[str, ...]) -> ConfigDict:
    """The config of a run, with these evals alone."""
    config = run.config.copy_and_resolve_references()
    names = tuple(dict.fromkeys(part.strip() for name in names for part in name.split(",")))
    own, known = config.evals.more, components("eval")
    if not names:
        raise ValueError(f"{run.directory} has no evals: name some, such as suites where its source can draw them")
    suites = tuple(n for n in names if n in config.evals.custom or (n not in own and (n in SUITES or n not in known)))
    more = {name: own.get(name, {}) for name in names if name not in suites}
    _check_known(suites, config.evals.custom, [*own, *known])
    looked_at = [suite for name in more for suite in named.suites_of(named.parse(name, more[name]))]
    suites = tuple(dict.fromkeys([*suites, *looked_at]))
    config.evals.suites, config.evals.icl, config.evals.iwl = suites, *(suites[:1] or ("",)) * 2
    with config.unlocked():
        config.evals.custom = {name: fields for name, fields in config.evals.custom.items() if name in suites}
        config.evals.more, config.evals.headlines = more, ()
    return config


def _check_known(suites: tuple[str, ...], custom: Iterable[str], evals: list[str]) -> None:
    for name in suites:
        if name not in SUITES and name not in custom:
            raise ValueError(f"unknown eval suite {name!r}{suggest(name, [*SUITES, *custom, *evals])}")
