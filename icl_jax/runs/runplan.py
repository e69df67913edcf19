"""The frozen plan of a run: what a config comes to on this machine, resolved once.

What trains, stores and describes a run sees the plan and no config; sweeps make configs, which `api.train` resolves.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from icl_jax import plugins
from icl_jax.evals import named
from icl_jax.evals.suites import resolve_suites
from icl_jax.headlines import DEFAULTS, Headline, check_named, headlines_of
from icl_jax.members import Member
from icl_jax.registry import check_option, find, load
from icl_jax.runs import config as cfg
from icl_jax.sections import OTHER_SECTIONS
from icl_jax.spec import EvalSpec, RunSpec, SuiteSpec, hyper_defaults, options_of


@dataclasses.dataclass(frozen=True)
class Intervals:
    """In steps. chunk: at most so many between two looks from the host."""

    evaluate: int
    save: int
    chunk: int


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the last ones, those at these steps, each n-th step, so many per factor of ten."""

    last: int
    steps: tuple[int, ...]
    every: int
    log: int


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Where and how it runs; 0 devices: all, 0 shards: chosen. Two runs that differ in this alone are the same run,
    but for batch statistics per device."""

    devices: int
    batch_shards: int
    accumulate: int
    tensorboard: bool
    figures: bool


@dataclasses.dataclass(frozen=True)
class Start:
    """The checkpoint of another run that it starts from ("": none; step -1: the newest), and by which rules its
    parameters are taken over ("PATTERN=RULE")."""

    run: str
    step: int
    optimiser: bool
    leaves: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class RunPlan:
    """What is to be done. headlines: what is shown of it; config: it as plain JSON values, for run.json."""

    name: str
    spec: RunSpec
    members: tuple[Member, ...]
    intervals: Intervals
    keep: Keep
    runtime: Runtime
    start: Start
    headlines: tuple[Headline, ...]
    config: dict[str, Any]

    @property
    def source(self) -> Any:
        """The component of its source."""
        return find("source", self.spec.parts.source)

    def data_digest(self) -> str:
        """Returns the digest of the data it stands on, which may be loaded for that."""
        return load(self.source.digest)(self.spec)

    def identity(self, data_digest: str, origin: str = "", schema: int = cfg.SCHEMA) -> str:
        """Returns the identity of the run: a hash of its members' ids (see `config.cell_id`)."""
        about = {"shards": self.runtime.batch_shards, "schema": schema}
        return cfg.identity(cfg.cell_id(self.spec, m, data_digest, origin, **about) for m in self.members)

    def chunk(self, started: Iterable[int] = ()) -> int:
        """Returns the steps of one chunk, see `config.chunk_steps`."""
        every = self.intervals
        return cfg.chunk_steps(self.spec.train.num_steps, every.evaluate, every.save, every.chunk, started)


def plan_of(config: ConfigDict, members: list[Member] | None = None) -> RunPlan:
    """Returns the plan of a config. ValueError for names, fields and intervals that cannot be.

    members: instead of the product of the config's hypers and seeds.
    """
    config = concrete(config)
    defaults = hyper_defaults()  # a component that came later may have declared more
    members = [dataclasses.replace(m, hypers=defaults | m.hypers) for m in members or cfg.members_of(config)]
    config = cfg.with_room(config, members)
    kept, runtime = config.checkpoint, config.runtime
    spec = cfg.run_spec(config, suites_of(config))
    plan = RunPlan(
        name=config.name,
        spec=spec,
        members=tuple(members),
        intervals=Intervals(config.evals.every, kept.every, runtime.chunk_steps),
        keep=Keep(kept.keep_last, tuple(kept.keep_steps), kept.keep_every, kept.keep_log),
        runtime=Runtime(
            runtime.devices, runtime.batch_shards, runtime.accumulate, runtime.tensorboard, runtime.figures
        ),
        start=start_of(config),
        headlines=_headlines(config, spec),
        config=config_to_json(config),
    )
    plan.chunk()
    _check_keep(plan.keep, plan.intervals.save)
    named.check(plan.spec, plan.intervals.evaluate)
    for section in ("checkpoint", "runtime", "init_from"):
        for name, known in options_of(OTHER_SECTIONS[section]).items():
            check_option(f"{section}.{name}", config[section][name], known)
    return plan


def start_of(config: ConfigDict) -> Start:
    """Returns what a config names in init_from."""
    return Start(**config.init_from.to_dict())


def concrete(config: ConfigDict) -> ConfigDict:
    """Returns a copy in which defaults that depend on the machine (which bank) are concrete."""
    config = config.copy_and_resolve_references()
    spec = cfg.run_spec(config)
    if resolve := find("source", spec.parts.source).resolve:
        with config.unlocked():
            config.bank.update(dataclasses.asdict(load(resolve)(spec).bank))
    return config


def _check_keep(keep: Keep, save: int) -> None:
    """Steps to keep for good must be steps at which a checkpoint is made."""
    for step in (*keep.steps, keep.every):
        if not isinstance(step, int) or isinstance(step, bool):
            raise ValueError(f"checkpoint.keep_steps {step!r}: steps are whole numbers")
        if step % save:
            fits = max(1, round(step / save)) * save
            raise ValueError(
                f"checkpoint: step {step} is to be kept, but checkpoints are made every {save} steps; "
                f"keep {fits}, or make them more often"
            )
    if keep.last < 1:
        raise ValueError(f"checkpoint.keep_last {keep.last}: the newest must be kept; use 1 or more")


def _headlines(config: ConfigDict, spec: RunSpec) -> tuple[Headline, ...]:
    suites, more = ([name for name, _ in named] for named in (spec.evals.suites, spec.evals.more))
    headlines = headlines_of(config.evals, suites)
    check_named(headlines, config.evals, [*suites, *more])
    titles = {headline.title.lower(): headline for headline in headlines}
    for name in (*suites, *more):
        if (other := titles.get(name.lower())) and other.suite != name:
            raise ValueError(f"evals: {name!r} is also the title of a headline, which shows {other.suite!r}; rename it")
    defaults = cfg.default_config().evals
    for field in DEFAULTS if config.evals.headlines else ():
        if config.evals[field] not in ("", defaults[field]):
            raise ValueError(
                f"evals.{field} = {config.evals[field]!r} is shown nowhere where evals.headlines says what is; name it "
                "there, or leave one of the two out"
            )
    return headlines


def suite_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the suites that run: evals.suites (commas split them too), then one's own."""
    named = [part.strip() for name in config.evals.suites for part in str(name).split(",")]
    return tuple(dict.fromkeys([*named, *config.evals.custom]))


def suites_of(config: ConfigDict) -> tuple[tuple[str, SuiteSpec], ...]:
    """Returns the suites that run, by name. ValueError for a name or a field that does not exist, for no eval at all
    where the source has suites, and for any suite where it has not."""
    names, source = suite_names(config), config.parts.source
    if not names and config.evals.more:
        return ()
    if find("source", source).suites:
        return resolve_suites(names, config.evals.custom.to_dict())
    if names:
        raise ValueError(
            f"evals.suites {names}: suites are drawn from classes, which source {source!r} has not; set evals.suites, "
            "evals.icl and evals.iwl to () and ''"
        )
    return ()


def eval_spec(config: ConfigDict) -> EvalSpec:
    """Returns the suites of a config, their size and the evals beside them."""
    return EvalSpec(suites_of(config), config.evals.num_sequences, config.evals.batch_size, cfg.more_of(config))


def eval_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of all that is evaluated: suites, then the evals beside them."""
    return (*suite_names(config), *sorted(config.evals.more))


def eval_digests(evals: EvalSpec) -> dict[str, str]:
    """Returns what decides the numbers of each suite beside the run, a digest of its size and of its fields, as
    far as they differ from the defaults; and that of each eval beside them, of its options and of what its component
    says of itself."""
    defaults = dataclasses.asdict(SuiteSpec())
    changed = lambda suite: {n: v for n, v in dataclasses.asdict(suite).items() if v != defaults[n]}
    digests = {name: _digest([changed(suite), evals.num_sequences]) for name, suite in evals.suites}
    stands_on = lambda more: [digests.get(suite, "") for suite in named.suites_of(more)]
    return digests | {
        name: _digest([more.use, more.options, stands_on(more), named.data_digest(more)]) for name, more in evals.more
    }


def _digest(fields: list) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def config_to_json(config: ConfigDict) -> dict:
    """Returns the config as plain JSON values (tuples become lists, as do arrays)."""
    plain = lambda value: value.tolist() if hasattr(value, "tolist") else list(value)
    return json.loads(json.dumps(config.to_dict(), default=plain))


def config_from_json(fields: dict) -> ConfigDict:
    """Returns the config of `config_to_json`, with its plugins registered. ValueError for a field this version does not
    know, and for plugins that are not found."""
    entries = tuple(fields.get("plugins", ()))
    plugins.require(entries)
    config = cfg.defaults_with(entries)
    _update(config, fields, "")
    return config


def _update(node: ConfigDict, fields: dict, path: str) -> None:
    for name, value in fields.items():
        where = f"{path}{name}"
        if where.startswith(("evals.custom.", "evals.more.", "options.", "patches.")):
            node[name] = tuples(value)
        elif name not in node:
            raise ValueError(f"the run was written by another version: it has a field {where} that this one lacks")
        elif isinstance(node[name], ConfigDict):
            _update(node[name], value, f"{where}.")
        else:
            node[name] = tuples(value)


def tuples(value: Any) -> Any:
    """Returns JSON's lists as tuples, all the way down."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value


def tuples_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields with JSON's lists as tuples."""
    return {name: tuples(value) for name, value in fields.items()}
