"""From a config to everything a run needs, checked before anything is compiled or written."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from icl_jax import config as cfg
from icl_jax import hypers as hy
from icl_jax.data.banks import Bank, load_bank, resolve_bank
from icl_jax.data.classes import class_order
from icl_jax.data.source import make_source
from icl_jax.data.validate import validate_task
from icl_jax.data.vocab import make_vocab
from icl_jax.evals.evaluate import suites_eval
from icl_jax.evals.suites import resolve_suites, validate_suites
from icl_jax.models.build import ItemShape, build, validate_model
from icl_jax.spec import BankSpec, SuiteSpec
from icl_jax.training import optim
from icl_jax.training.parallel import choose_layout
from icl_jax.training.population import Population
from icl_jax.training.population import build as build_population
from icl_jax.training.step import Program


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A checked run: `config` has its defaults resolved, `orders` is (members, classes).

    identity: a hash of its members' ids; former: the same by schema 1 (see `config.cell_id`).
    """

    config: ConfigDict
    bank: Bank
    members: list[cfg.Member]
    program: Program
    evals: tuple
    orders: np.ndarray
    chunk: int
    identity: str
    former: str

    def is_known_as(self, identity: str, batch_shards: int) -> bool:
        """Returns whether a run of this identity, trained with so many batch shards, is this run."""
        shards = cfg.counted_shards(self.config)
        return identity == self.identity or (identity == self.former and shards in (0, batch_shards))

    def population(self, patches=()) -> Population:
        """Returns the compiled programs' handles; the bank goes to the devices here."""
        return build_population(
            self.program, self.evals, self.members, self.orders, self.bank.arrays, self.chunk, patches
        )


def prepare_experiment(
    config: ConfigDict, evals: tuple = (), origin: str = "", members: list[cfg.Member] | None = None
) -> Experiment:
    """Returns the experiment of a config. ValueError names value, limit and way out of what is wrong.

    evals: more evals (see `training.population.EvalLike`) beside the suites; origin: identity of what comes
    from outside the config (see `config.cell_id`); members: instead of the product of the config's hypers
    and seeds.
    """
    config = resolved(config)
    members = members or cfg.members_of(config)
    config = cfg.with_capacity(config, members)
    suites = suites_of(config)
    spec = cfg.run_spec(config, suites)
    chunk = cfg.chunk_steps(config)
    optim.validate_train(spec.train)
    cfg.check_read(spec, members, optim.OPTIMISERS[spec.train.optimiser][1])
    _check_headline(config, [name for name, _ in suites])
    layout = choose_layout(
        len(members),
        spec.train.batch_size,
        config.runtime.devices,
        config.runtime.batch_shards,
        may_split=spec.model.sync_batch_stats or spec.model.encoder != "resnet",
    )
    bank = load_bank(spec.bank)
    _check_recorded_holdout(bank, spec.task.num_holdout)
    for member in members:
        for values in hy.knots(member.hypers):
            validate_task(spec.task, bank, values)
    items = ItemShape(bank.item_kind, bank.item_shape, bank.num_classes)
    vocab = make_vocab(spec.task, bank.num_classes, len(bank.group_names))
    fewest_ways = int(min(hy.last(m.hypers["ways"]) for m in members))
    validate_suites(suites, spec.task, bank, _fewest_classes(members), fewest_ways=fewest_ways)
    validate_model(spec.model, items, spec.task.context_len, spec.task.loss, spec.task.task_token)
    source = make_source(spec, bank, vocab)
    model = build(spec.model, items, vocab.size, spec.task.context_len, spec.task.task_token)
    program = Program(spec, model, source, layout, _decays(members), _table_schedule(members))
    evals = (suites_eval(spec.evals, source), *evals)
    orders = np.stack([_order(bank, m.seeds["split"]) for m in members])
    identity, former = (_identity(config, members, bank, origin, schema) for schema in (cfg.SCHEMA, 1))
    return Experiment(config, bank, members, program, evals, orders, chunk, identity, former)


def suite_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the suites that run: evals.suites (commas split them too), then one's own."""
    named = [part.strip() for name in config.evals.suites for part in str(name).split(",")]
    return tuple(dict.fromkeys([*named, *config.evals.custom]))


def suites_of(config: ConfigDict) -> tuple[tuple[str, SuiteSpec], ...]:
    """Returns the suites that run, by name. ValueError for a name or a field that does not exist."""
    return resolve_suites(suite_names(config), config.evals.custom.to_dict())


def suite_digests(config: ConfigDict) -> dict[str, str]:
    """Returns what decides the numbers of each suite beside the run: a digest of its size and of its fields, as
    far as they differ from the defaults."""
    defaults = dataclasses.asdict(SuiteSpec())
    changed = lambda suite: {n: v for n, v in dataclasses.asdict(suite).items() if v != defaults[n]}
    text = lambda suite: json.dumps([changed(suite), config.evals.num_sequences], sort_keys=True)
    return {name: hashlib.sha256(text(suite).encode()).hexdigest()[:16] for name, suite in suites_of(config)}


def run_identity(config: ConfigDict, origin: str = "", schema: int = cfg.SCHEMA) -> str:
    """Returns the identity of the run of a config, without a look at the devices. See `config.cell_id`."""
    config = resolved(config)
    members = cfg.members_of(config)
    bank = load_bank(cfg.build_room(config, "bank"))
    return _identity(cfg.with_capacity(config, members), members, bank, origin, schema)


def _identity(config: ConfigDict, members: list[cfg.Member], bank: Bank, origin: str, schema: int) -> str:
    return cfg.identity(cfg.cell_id(config, member, bank.digest, origin, schema) for member in members)


def resolved(config: ConfigDict) -> ConfigDict:
    """Returns a copy in which defaults that depend on the machine (which bank) are concrete."""
    config = config.copy_and_resolve_references()
    bank = resolve_bank(BankSpec(**config.bank.to_dict()))
    with config.unlocked():
        config.bank.update(dataclasses.asdict(bank))
    return config


def _check_headline(config: ConfigDict, names: list[str]) -> None:
    for role in ("icl", "iwl"):
        if config.evals[role] not in names:
            raise ValueError(f"evals.{role} = {config.evals[role]!r} is not among evals.suites {names}; add it there")


def _order(bank: Bank, seed: int) -> np.ndarray:
    """Class order of a split seed; a bank that records its own order (embeddings) keeps it."""
    if bank.class_order is not None:
        return bank.class_order
    return class_order(bank.num_classes, bank.block, seed)


def _check_recorded_holdout(bank: Bank, num_holdout: int) -> None:
    """Classes that the encoder of an embeddings bank was trained on cannot be held out afterwards."""
    if bank.num_holdout is not None and num_holdout > bank.num_holdout:
        raise ValueError(
            f"task.num_holdout {num_holdout} > {bank.num_holdout} classes held out from the run that made the "
            f"embeddings ({bank.origin}); lower it to {bank.num_holdout}"
        )


def _fewest_classes(members: list[cfg.Member]) -> int:
    """Smallest number of training classes that a member names, 0 where none does."""
    return int(
        min((hy.last(m.hypers["num_classes"]) for m in members if hy.last(m.hypers["num_classes"]) > 0), default=0)
    )


def _decays(members: list[cfg.Member]) -> bool:
    return any(hy.largest(m.hypers[f"decay_{module}"]) > 0 for m in members for module in optim.MODULES)


def _table_schedule(members: list[cfg.Member]) -> bool:
    return any(not isinstance(m.hypers[n], float) for m in members for n in hy.TABLE_HYPERS)


def describe(experiment: Experiment) -> str:
    """Returns one line that says what will run on what."""
    layout, spec = experiment.program.layout, experiment.program.spec
    shards = f", {layout.batch_shards} devices per batch" if layout.batch_shards > 1 else ""
    return (
        f"{len(experiment.members)} members on {layout.num_devices} {jax.default_backend()} device(s){shards}: "
        f"bank {experiment.bank.name}, {spec.model.num_layers}-layer {spec.model.core}, "
        f"{spec.train.num_steps:,} steps of {spec.train.batch_size} sequences"
    )


def member_label(member: cfg.Member, names: Iterable[str]) -> str:
    """Returns a short label: the varied hypers, then the init seed."""
    hypers = [f"{n}={hy.last(member.hypers[n]):g}" for n in names]
    return " ".join([*hypers, f"seed={member.seeds['init']}"])
