"""Config files: ml_collections configs to (spec, members) and back.

A config file defines `get_config()`, which starts from `default_config()` and changes fields. Fields
of `bank`, `task`, `model` and `train` are those of the dataclasses in `icl_jax.spec`. A hyper may be
a tuple: the population then has one setting per entry (the product over such hypers), each repeated
for every seed.
"""

import dataclasses
import hashlib
import importlib.util
import inspect
import itertools
import json
import math
import pathlib
import types
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax.names import suggest
from icl_jax.spec import HYPERS, SEEDS, BankSpec, EvalSpec, ModelSpec, RunSpec, TaskSpec, TrainSpec

SCHEMA = 2  # version of the identity below: raise it when the same fields come to mean another run
ROOMS = {"bank": BankSpec, "task": TaskSpec, "model": ModelSpec, "train": TrainSpec}


class Settings(ConfigDict):
    """A section in which every field is a tuple, so that --config.hypers.NAME=A,B works whatever a file set."""

    def __setitem__(self, key, value):
        super().__setitem__(key, tuple(value) if isinstance(value, tuple | list) else (value,))


def default_config() -> ConfigDict:
    """Returns the config every file starts from; unknown fields are refused."""
    config = ConfigDict()
    config.name = "run"
    config.out = ""  # directory of the run ("": runs/<name>)
    for room, cls in ROOMS.items():
        config[room] = ConfigDict(dataclasses.asdict(cls()))
    config.hypers = Settings({n: (float(h.default),) for n, h in HYPERS.items()}, type_safe=False)
    config.seeds = Settings({n: (0,) for n in SEEDS}, type_safe=False)
    config.evals = ConfigDict(
        {
            "suites": ("fewshot_holdout", "no_support_zipfian"),  # named suites
            "custom": {},  # name -> fields of SuiteSpec, for suites of your own
            "icl": "fewshot_holdout",  # the suite shown as ICL
            "iwl": "no_support_zipfian",  # the suite shown as IWL
            "every": 250,  # steps between evaluations
            "num_sequences": 512,  # per suite and member
            "batch_size": 128,
        }
    )
    config.evals.custom = ConfigDict({}, type_safe=False)
    config.checkpoint = ConfigDict(
        {
            "every": 1000,  # steps between checkpoints
            "keep_last": 2,
            "keep_steps": (),  # steps to keep for good
            "keep_every": 0,  # keep each n-th step for good (0: none)
            "keep_log": 0,  # keep this many log-spaced steps per factor of ten (0: none)
        }
    )
    config.runtime = ConfigDict(
        {
            "devices": 0,  # 0: all
            "batch_shards": 0,  # devices that share one member's batch (0: chosen)
            "chunk_steps": 100,  # at most so many steps between looks from the host
            "tensorboard": True,
            "figures": True,
        }
    )
    config.init_from = ConfigDict({"run": "", "step": -1, "optimiser": False})
    config.lock()
    config.evals.custom.unlock()  # suites of your own: any name
    return config


def load_config(path: str | pathlib.Path) -> ConfigDict:
    """Returns `get_config()` of a config file, FILE or FILE:SCALE. ValueError when the file has none."""
    module, scale = load_module(path)
    return call_hook(module, "get_config", scale)


def load_module(path: str | pathlib.Path) -> tuple[types.ModuleType, str | None]:
    """Returns the module of a config file and the scale asked for (FILE:SCALE), or None."""
    name, _, scale = str(path).partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        raise ValueError(f"no config file {path}")
    module_spec = importlib.util.spec_from_file_location(f"icl_config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} does not define get_config()")
    return module, scale or None


def call_hook(module: types.ModuleType, name: str, scale: str | None):
    """Returns what a function of a config file gives for a scale (None: its default).

    ValueError for a scale that is not among the file's SCALES, where it states them.
    """
    function = getattr(module, name)
    scales = getattr(module, "SCALES", ())
    if scale is not None and scales and scale not in scales:
        raise ValueError(f"{module.__file__} has no scale {scale!r}: choose {' or '.join(map(repr, scales))}")
    if scale is not None and not inspect.signature(function).parameters:
        raise ValueError(f"{module.__file__} has no scales, {scale!r} was asked for: leave out ':{scale}'")
    try:
        return function() if scale is None else function(scale)
    except (AttributeError, KeyError, TypeError) as error:  # how ml_collections refuses a field or a type
        raise ValueError(f"{module.__file__}: {error}") from error


def load_variant(config_file: str, other: str) -> ConfigDict:
    """Returns the config of `other` (FILE or FILE:SCALE), named relative to `config_file`: for variants."""
    return load_config(pathlib.Path(config_file).parent / other)


def override(config: ConfigDict, changes: dict) -> ConfigDict:
    """Returns a copy with dotted fields changed, e.g. {"hypers.p_bursty": 0.5}."""
    config = config.copy_and_resolve_references()
    for path, value in changes.items():
        *rooms, leaf = check_field(config, path, new_suites=True)
        room = config
        for name in rooms:
            room = room[name]
        old = room.get(leaf)  # a suite of your own may be new
        if isinstance(old, tuple) and not isinstance(value, tuple | list):
            value = (value,)
        room[leaf] = tuple(value) if isinstance(value, list) else value
    return config


def check_field(config: ConfigDict, path: str, new_suites: bool = False) -> list[str]:
    """Returns the parts of a dotted field. ValueError naming the nearest field when it is unknown.

    new_suites: evals.custom may get a suite that it does not hold yet.
    """
    parts, node = path.split("."), config
    for depth, name in enumerate(parts):
        if not isinstance(node, ConfigDict) or name not in node:
            where = ".".join(parts[:depth]) or "config"
            known = list(node) if isinstance(node, ConfigDict) else []
            if where == "evals.custom" and new_suites and depth == len(parts) - 1:
                return parts
            if where == "evals.custom":
                raise ValueError(f"no suite {name!r} in evals.custom; define it in the config file")
            raise ValueError(f"unknown field {name!r} in {where}{suggest(name, known)}")
        node = node[name]
    return parts


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a population: hypers (numbers or schedules) and seeds, by name."""

    hypers: dict[str, hy.Entry]
    seeds: dict[str, int]


def members_of(config: ConfigDict, hypers: Mapping | None = None, seeds: Mapping | None = None) -> list[Member]:
    """Returns the population: product of the hypers' entries, times the seeds (zipped).

    hypers, seeds: values that take the place of the config's.
    """
    hypers, seeds = {**config.hypers, **(hypers or {})}, {**config.seeds, **(seeds or {})}
    unknown = set(hypers) - set(HYPERS)
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(f"unknown hyper {name!r}{suggest(name, HYPERS)}")
    columns = {n: hy.entries(n, hypers[n]) for n in HYPERS}
    settings = [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]
    return [Member(setting, row) for setting in settings for row in _seed_rows(seeds)]


def same_run(members: list[Member]) -> tuple[int, int] | None:
    """Returns two members that are the same run, which are no replicates, or None. The eval seed alone makes no
    other run."""
    first: dict[tuple, int] = {}
    for index, member in enumerate(members):
        trained_by = {name: seed for name, seed in member.seeds.items() if name != "eval"}
        key = (*sorted(member.hypers.items()), *sorted(trained_by.items()))
        if (other := first.setdefault(key, index)) != index:
            return other, index
    return None


def _seed_rows(seeds: Mapping) -> list[dict[str, int]]:
    columns = {n: (s,) if isinstance(s := seeds[n], int) else tuple(s) for n in SEEDS}
    lengths = {len(c) for c in columns.values()} - {1}
    if len(lengths) > 1 or 0 in lengths:
        sizes = {n: len(c) for n, c in columns.items()}
        raise ValueError(f"seeds {sizes}: give each stream one seed or the same number of seeds")
    for name, column in columns.items():
        if not all(isinstance(s, int) and 0 <= s < 2**32 for s in column):
            raise ValueError(f"seeds.{name} = {column}: seeds are integers from 0 to 2**32 - 1")
    rows = max(lengths, default=1)
    return [{n: c[r % len(c)] for n, c in columns.items()} for r in range(rows)]


def check_read(spec: RunSpec, members: list[Member], optimiser_reads: Iterable[str]) -> None:
    """Raises ValueError for a hyper that is set, or varied, though nothing in this spec reads it."""
    task, train = spec.task, spec.train
    readers = {
        "p_bursty": (task.kind == "bursty", "task.kind 'bursty'"),
        "p_bursty_zipfian": (task.kind in ("bursty", "fewshot"), "task.kind 'bursty' or 'fewshot'"),
        "p_bursty_common": (task.kind in ("bursty", "fewshot"), "task.kind 'bursty' or 'fewshot'"),
        "p_fewshot": (task.kind == "mixed", "task.kind 'mixed'"),
        "p_group_task": (task.task_token, "task.task_token True"),
        "noise_scale": (spec.bank.name != "symbols", "a bank with noise (not symbols)"),
        "interim_weight": (task.loss == "interim", "task.loss 'interim'"),
        "clip_norm": (train.clip, "train.clip True"),
        "final_lr_fraction": (train.schedule in ("cosine", "linear"), "train.schedule 'cosine' or 'linear'"),
    }
    readers |= {n: (n in optimiser_reads, "another train.optimiser, such as 'adam'") for n in ("b1", "b2", "eps")}
    for name, (is_read, by) in readers.items():
        values = {m.hypers[name] for m in members}
        if not is_read and values != {float(HYPERS[name].default)}:
            raise ValueError(f"hypers.{name} = {sorted(map(str, values))} is read by nothing here: it needs {by}")


def varied(members: list[Member]) -> list[str]:
    """Returns the names of hypers that differ between members."""
    return [n for n in HYPERS if len({m.hypers[n] for m in members}) > 1]


def run_spec(config: ConfigDict, suites) -> RunSpec:
    """Returns the static spec of a config that has room for its members (`with_capacity`)."""
    rooms = {room: build_room(config, room) for room in ROOMS}
    evals = EvalSpec(tuple(suites), config.evals.num_sequences, config.evals.batch_size)
    return RunSpec(evals=evals, **rooms)


def build_room(config: ConfigDict, room: str):
    """Returns the spec of one room of a config. ValueError for a field that it does not have."""
    cls, section = ROOMS[room], config[room]
    fields = {f.name for f in dataclasses.fields(cls)}
    for name in section:
        if name not in fields:
            raise ValueError(f"unknown field {name!r} in {room}{suggest(name, fields)}")
    return cls(**section.to_dict())


def capacity(task: TaskSpec, bank: BankSpec, members: Iterable[Member]) -> dict[str, int | bool]:
    """Returns the fields of `task` that make room in the program, raised to what the members need.

    They decide the shapes of the random draws and the size of the vocabulary, so they are part of what a run is.
    """
    own_noise = bank.name == "gaussian"  # part of its items, whatever the task
    most = {n: max(hy.largest(m.hypers[n]) for m in members) for n in HYPERS}
    return {
        "max_ways": max(task.max_ways, int(most["ways"])),
        "max_multiplicity": max(task.max_multiplicity, int(most["multiplicity"])),
        "fresh": task.fresh or most["p_fresh"] > 0,
        "pixel_noise": task.pixel_noise or (most["noise_scale"] > 0 and not own_noise),
    }


def with_capacity(config: ConfigDict, members: Iterable[Member]) -> ConfigDict:
    """Returns a copy of the config whose task has room for the members."""
    config = config.copy_and_resolve_references()
    config.task.update(capacity(build_room(config, "task"), build_room(config, "bank"), members))
    return config


def chunk_steps(config: ConfigDict, started: Iterable[int] = ()) -> int:
    """Returns the steps of one chunk: it divides run length and intervals, and the steps in `started`
    (those of checkpoints from which the run may go on)."""
    total, every, save = config.train.num_steps, config.evals.every, config.checkpoint.every
    for name, value in (("train.num_steps", total), ("evals.every", every), ("checkpoint.every", save)):
        if value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1")
    if total % every:
        fits = max(every, round(total / every) * every)
        raise ValueError(f"train.num_steps {total} is not a multiple of evals.every {every}; use {fits} steps")
    if (common := math.gcd(total, every, save)) < min(10, every, save):
        fits = max(every, round(save / every) * every)
        raise ValueError(
            f"checkpoint.every {save} and evals.every {every} have no larger common divisor than {common}, the most "
            f"steps between two looks from the host; use checkpoint.every {fits}"
        )
    _check_kept(config.checkpoint)
    common = math.gcd(common, *started)
    if (limit := config.runtime.chunk_steps) < 1:
        raise ValueError(f"runtime.chunk_steps {limit}: must be at least 1")
    return max(d for d in range(1, common + 1) if common % d == 0 and d <= limit)


def _check_kept(checkpoint: ConfigDict) -> None:
    """Steps to keep for good must be steps at which a checkpoint is made."""
    for step in (*checkpoint.keep_steps, checkpoint.keep_every):
        if step % checkpoint.every:
            fits = max(1, round(step / checkpoint.every)) * checkpoint.every
            raise ValueError(
                f"checkpoint: step {step} is to be kept, but checkpoints are made every {checkpoint.every} steps; "
                f"keep {fits}, or make them more often"
            )
    if checkpoint.keep_last < 1:
        raise ValueError(f"checkpoint.keep_last {checkpoint.keep_last}: the newest must be kept; use 1 or more")


def cell_id(config: ConfigDict, member: Member, bank_digest: str, origin: str = "", schema: int = SCHEMA) -> str:
    """Returns the identity of one run (DESIGN, contract 6): a hash of what decides its training.

    Only what differs from the defaults counts, so that a field added later changes no identity. Outside
    stay run length (unless the schedule reads it), evals and their seed, checkpoints and paths. Bank names must
    be concrete, and the task must have the room that the run's program has (`with_capacity`): a vocabulary
    larger than a run alone needs makes it another run. origin: identity of what init_from and interventions
    bring in. schema: 1 leaves out the number of batch shards where it counts (`counted_shards`); elsewhere the
    two are equal.
    """
    fields = {room: _changed(config[room].to_dict(), dataclasses.asdict(cls())) for room, cls in ROOMS.items()}
    for path in ("data_dir", "path"):
        fields["bank"].pop(path, None)
    if config.train.schedule not in ("cosine", "linear"):
        fields["train"].pop("num_steps", None)
    fields["hypers"] = _changed(member.hypers, {n: float(h.default) for n, h in HYPERS.items()})
    fields["seeds"] = {n: member.seeds[n] for n in SEEDS if n != "eval"}
    fields["bank_digest"], fields["origin"], fields["schema"] = bank_digest, origin, 1
    if schema > 1 and (shards := counted_shards(config)):
        fields["runtime"], fields["schema"] = {"batch_shards": shards}, schema
    return _hash(fields)


def counted_shards(config: ConfigDict) -> int:
    """Returns the number of batch shards where training depends on it, as batch statistics are per device; else 0."""
    per_device = config.model.encoder == "resnet" and not config.model.sync_batch_stats
    return (config.runtime.batch_shards or 1) if per_device else 0


def identity(cell_ids: Iterable[str]) -> str:
    """Returns the identity of a population: a hash of its members' cell ids, in their order."""
    return _hash(list(cell_ids))


def _changed(fields: dict, defaults: dict) -> dict:
    return {name: value for name, value in fields.items() if value != defaults[name]}


def _hash(fields) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=list).encode()).hexdigest()[:16]
