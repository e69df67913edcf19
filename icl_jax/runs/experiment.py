"""From a config to everything a run needs, checked before anything is compiled or written."""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32
from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax import registry
from icl_jax.evals.built import axes_of, build_evals, check_evals
from icl_jax.evals.evaluate import suites_eval
from icl_jax.evals.suites import validate_suites
from icl_jax.headlines import check_measured
from icl_jax.members import Member
from icl_jax.models import taps
from icl_jax.models.build import Model
from icl_jax.models.taps import Patch
from icl_jax.patches import check_patches
from icl_jax.runs import config as cfg
from icl_jax.runs.runplan import RunPlan, plan_of
from icl_jax.spec import PatchNumbers, RunSpec, SuiteSpec, TaskSpec
from icl_jax.storage.arrays import MOST
from icl_jax.training.parallel import choose_layout, local_batch
from icl_jax.training.population import Population
from icl_jax.training.population import build as build_population
from icl_jax.training.protocols import Eval
from icl_jax.training.step import Program


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A checked run. identity: a hash of its members' ids; former: the same by schema 1 (see `config.cell_id`);
    patches: those of the config and those that were given, arrays with a leading member axis."""

    plan: RunPlan
    members: list[Member]
    program: Program
    evals: tuple[Eval, ...]
    chunk: int
    identity: str
    former: str
    patches: tuple[Patch, ...] = ()

    def is_known_as(self, identity: str, batch_shards: int) -> bool:
        """Returns whether a run of this identity, trained with so many batch shards, is this run."""
        shards = (self.plan.runtime.batch_shards or 1) if cfg.counts_shards(self.plan.spec) else 0
        return identity == self.identity or (identity == self.former and shards in (0, batch_shards))

    def population(self) -> Population:
        """Returns the compiled programs' handles; the data go to the devices here."""
        often = self.plan.intervals.evaluate
        every = {name: more.every for name, more in self.plan.spec.evals.more if more.every not in (0, often)}
        return build_population(self.program, self.evals, self.members, self.chunk, self.patches, every)

    @property
    def model(self) -> Model:
        """The network of its program, with all that it can do beside being trained."""
        assert isinstance(self.program.model, Model)
        return self.program.model

    @property
    def data(self) -> dict[str, str]:
        """Name and digest of the data it stands on."""
        spec = self.plan.spec
        name = spec.bank.name if "bank" in self.plan.source.parts else spec.parts.source
        return {"name": name, "digest": self.program.source.digest}

    @property
    def orders(self) -> Int32[np.ndarray, "members classes"]:
        """Class order of each member, (members, classes)."""
        return self.program.source.own(self.members)


def prepare_experiment(
    config: ConfigDict,
    evals: tuple[Eval, ...] = (),
    origin: str = "",
    members: list[Member] | None = None,
    *,
    known: bool = False,
    patches: tuple[Patch, ...] = (),
    planning: bool = False,
) -> Experiment:
    """Returns the experiment of a config. ValueError names value, limit and way out of what is wrong.

    evals: more evals beside the suites; origin: identity of what comes from outside the config (see
    `config.cell_id`); members: instead of the product of the config's hypers and seeds; known: the run exists or
    is planned, so that a hyper that nothing reads, which an earlier version took, is no fault; patches: more
    interventions beside the config's, arrays with a leading member axis; planning: nothing will be trained or measured,
    so that data which an earlier stage is to make may be missing.
    """
    plan = plan_of(config, members)
    spec, members = plan.spec, list(plan.members)
    registry.check_chosen(spec)
    if not known:
        if not planning:  # a sweep looks at all its specs together
            registry.check_fields(spec)
        cfg.check_read(spec, members)
        _note_long_warm_up(spec, members)
    trains, alone = spec.train.num_steps > 0, jax.process_count() == 1
    layout = choose_layout(
        len(members),
        spec.train.batch_size,
        # An eval is not shared: what only looks leaves devices idle rather than have them do the same again.
        plan.runtime.devices or (0 if trains or not alone else min(len(members), jax.device_count())),
        plan.runtime.batch_shards,
        may_split=trains and (spec.model.sync_batch_stats or not registry.has_batch_stats(spec)),
    )
    found = registry.chosen(spec)
    source = found["source"].builder()(spec, members)
    if not planning and (missing := getattr(getattr(source, "loaded", None), "missing", ())):
        raise ValueError(f"{missing[0]} is not made yet: `icl sweep run` makes it, in the stage that comes before")
    model = Model(spec.model, source.facts, spec.parts.frontend, spec.options)
    patches = taps.named((*patches_of(spec, [m.patches for m in members], model), *patches))
    if spec.evals.suites:
        check_suites(spec.evals.suites, spec.task, source.loaded, members)
        seen = tuple(p.name for p in patches if p.during != "training")
        evals = (suites_eval(spec.evals, source, seen), *evals)
    evals = (*evals, *build_evals(spec, source))
    check_evals(evals)
    check_measured(plan.headlines, axes_of(evals), MOST)
    objective = found["objective"].builder()(spec)
    model.check(objective.logits_at)
    parts = _checked_parts(plan, local_batch(layout, spec.train.batch_size))
    tables = found["source"].tables
    flags = _decays(members), _is_scheduled(members, tables)
    program = Program(spec, model, source, objective, layout, *flags, parts)  # pyright: ignore[reportArgumentType] (sites)
    identity, former = (plan.identity(source.digest, origin, schema) for schema in (cfg.SCHEMA, 1))
    return Experiment(plan, members, program, evals, plan.chunk(), identity, former, patches)


def _note_long_warm_up(spec: RunSpec, members: list[Member]) -> None:
    """Says that the learning rate asked for will not be reached, as in a run that is cut short to try it."""
    longest, steps = max(hy.largest(m.hypers["warmup_steps"]) for m in members), spec.train.num_steps
    if longest > steps > 0:
        warnings.warn(
            f"hypers.warmup_steps {longest:g}: the run ends at step {steps}, before the learning rate is what it says",
            stacklevel=3,
        )


def patches_of(spec: RunSpec, numbers: list[dict[str, PatchNumbers]], model: Model) -> tuple[Patch, ...]:
    """Returns the patches of a spec, their arrays with a leading axis of those whose numbers these are. ValueError for
    one that the model cannot have."""
    check_patches(spec, numbers, model.sites, model.token_set_names)
    sizes = spec.model.num_layers, spec.model.num_heads
    return tuple(
        taps.from_config(name, patch, [own[name] for own in numbers], model.sites[patch.site], *sizes)
        for name, patch in spec.patches
    )


def _checked_parts(plan: RunPlan, count: int) -> int:
    """Parts of a device's batch of `count` sequences that are worked off one after another."""
    parts = plan.runtime.accumulate
    if parts < 1 or count % parts:
        fits = [n for n in range(1, count + 1) if count % n == 0]
        raise ValueError(f"runtime.accumulate {parts} does not divide a device's {count} sequences; use one of {fits}")
    if parts > 1 and registry.has_batch_stats(plan.spec):
        raise ValueError(
            f"runtime.accumulate {parts}: batch statistics, as of model.encoder {plan.spec.model.encoder!r}, are of a "
            "whole batch; use runtime.batch_shards, or accumulate 1"
        )
    return parts


def run_identity(config: ConfigDict, origin: str = "", schema: int = cfg.SCHEMA) -> str:
    """Returns the identity of the run of a config, without a look at the devices. See `config.cell_id`."""
    plan = plan_of(config)
    return plan.identity(plan.data_digest(), origin, schema)


def check_suites(suites: Sequence[tuple[str, SuiteSpec]], task: TaskSpec, bank: Any, members: list[Member]) -> None:
    """Raises ValueError for a suite that cannot be drawn for some of the members."""
    fewest_ways = int(min(hy.last(m.hypers["ways"]) for m in members))
    validate_suites(suites, task, bank, _fewest_classes(members), fewest_ways=fewest_ways)


def _fewest_classes(members: list[Member]) -> int:
    """Smallest number of training classes that a member names, 0 where none does."""
    return int(
        min((hy.last(m.hypers["num_classes"]) for m in members if hy.last(m.hypers["num_classes"]) > 0), default=0)
    )


def _decays(members: list[Member]) -> bool:
    return any(hy.largest(m.hypers[name]) > 0 for m in members for name in registry.decay_hypers())


def _is_scheduled(members: list[Member], names: Iterable[str]) -> bool:
    return any(not isinstance(m.hypers[n], float) for m in members for n in names)


def describe(experiment: Experiment) -> str:
    """Returns one line that says what will run on what."""
    layout, spec = experiment.program.layout, experiment.program.spec
    shards = f", {layout.batch_shards} devices per batch" if layout.batch_shards > 1 else ""
    data = f"bank {spec.bank.name}" if "bank" in experiment.plan.source.parts else f"source {spec.parts.source}"
    return (
        f"{len(experiment.members)} members on {layout.num_devices} {jax.default_backend()} device(s){shards}: "
        f"{data}, {spec.model.num_layers}-layer {spec.model.core}, "
        f"{spec.train.num_steps:,} steps of {spec.train.batch_size} sequences"
    )


def member_label(member: Member, names: Iterable[str]) -> str:
    """Returns a short label: the settings named (see `config.varied`), then the init seed."""
    values = member.settings()
    text = lambda value: value if isinstance(value, str) else f"{value:g}"
    return " ".join([*(f"{n}={text(values[n])}" for n in names), f"seed={member.seeds['init']}"])
