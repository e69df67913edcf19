"""Config files: ml_collections configs to (spec, members) and back.

A config file defines `get_config()`, which starts from `default_config()` and changes fields. Fields
of `bank`, `task`, `model` and `train` are those of the dataclasses in `icl_jax.spec`. A hyper may be
a tuple: the population then has one setting per entry (the product over such hypers), each repeated
for every seed.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import itertools
import json
import math
import pathlib
import traceback
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax import patches
from icl_jax.evals import named
from icl_jax.members import Member
from icl_jax.names import suggest
from icl_jax.plugins import digests, foreign_hypers, load_all, require
from icl_jax.registry import FIELDS, components, find, has_batch_stats, option_value, unread_hypers
from icl_jax.sections import OTHER_SECTIONS
from icl_jax.spec import (
    HYPERS,
    SECTIONS,
    SEEDS,
    EvalSpec,
    MoreEval,
    PartsSpec,
    PatchNumbers,
    PatchSpec,
    RunSpec,
    SuiteSpec,
)

MOST_MEMBERS = 100_000  # of a population
SCHEMA = 2  # version of the identity below: raise it when the same fields come to mean another run


class Settings(ConfigDict):
    """A section in which every field is a tuple, so that --set hypers.NAME=A,B works whatever a file set."""

    def __setitem__(self, key, value):
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        super().__setitem__(key, tuple(value) if isinstance(value, tuple | list | range) else (value,))


def default_config(plugins: Iterable[str | pathlib.Path] = ()) -> ConfigDict:
    """Returns the config every file starts from; unknown fields are refused.

    plugins: files that register components of one's own, run here so that the config has their hypers too. A config
    file names one beside itself by `pathlib.Path(__file__).with_name("mine.py")`.

    >>> config = icl_jax.default_config()
    >>> config.model.num_layers, config.hypers.p_bursty  # a hyper has a value per setting of the population
    (2, (0.9,))
    >>> config.model.num_layer = 4
    Traceback (most recent call last):
        ...
    AttributeError: 'Key "num_layer" does not exist ...Did you mean "num_layers" instead of "num_layer"?'
    """
    return defaults_with(load_all(plugins))


def defaults_with(entries: tuple) -> ConfigDict:
    """Returns the default config of plugins that are registered. entries: as a config has them."""
    foreign = foreign_hypers(entries)
    config = ConfigDict()
    config.name = "run"
    config.out = ""  # directory of the run ("": runs/<name>)
    config.plugins = entries  # path and digest of each
    for section, cls in {**SECTIONS, "parts": PartsSpec}.items():
        config[section] = ConfigDict(dataclasses.asdict(cls()))
    config.options = ConfigDict({}, type_safe=False)  # role -> fields of the options of a component's own
    config.patches = ConfigDict({}, type_safe=False)  # name -> fields of PatchSpec and PatchNumbers
    config.hypers = Settings({n: (float(h.default),) for n, h in HYPERS.items() if n not in foreign}, type_safe=False)
    config.seeds = Settings({n: (0,) for n in SEEDS}, type_safe=False)
    for section, cls in OTHER_SECTIONS.items():
        named = {name: ConfigDict({}, type_safe=False) for name in ("custom", "more") if section == "evals"}
        config[section] = ConfigDict(dataclasses.asdict(cls()) | named)
    config.lock()
    config.evals.custom.unlock()  # suites of your own: any name
    config.evals.more.unlock()
    config.options.unlock()
    config.patches.unlock()
    return config


def load_config(path: str | pathlib.Path) -> ConfigDict:
    """Returns `get_config()` of a config file, FILE or FILE:SCALE. ValueError when the file has none.

    >>> config = icl_jax.load_config("configs/quickstart.py")
    >>> config.hypers.p_bursty
    (0.0, 0.5, 0.9, 1.0)
    >>> icl_jax.load_config("configs/chan2022/fig2.py:paper").model.num_layers
    12
    """
    module, scale = load_module(path)
    return call_hook(module, "get_config", scale)


def load_module(path: str | pathlib.Path) -> tuple[types.ModuleType, str | None]:
    """Returns the module of a config file and the scale asked for (FILE:SCALE), or None."""
    name, _, scale = str(path).partition(":")
    path = pathlib.Path(name)
    if path.is_dir():
        raise ValueError(f"{path} is a directory, of a run or a sweep perhaps; name the config file it came from")
    if not path.is_file():
        raise ValueError(f"no config file {path}")
    module_spec = importlib.util.spec_from_file_location(f"icl_config_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise ValueError(f"{path} is no Python file: a config file ends in .py and defines get_config()")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(_fault(path, error)) from error
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
        found = function() if scale is None else function(scale)
    except Exception as error:  # ml_collections refuses a field or a type in several ways
        raise ValueError(_fault(pathlib.Path(str(module.__file__)), error)) from error
    if name == "get_config" and not isinstance(found, ConfigDict):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise ValueError(f"{module.__file__}: get_config() returns {kind}; return what default_config() gave, changed")
    return found


def _fault(path: pathlib.Path, error: Exception) -> str:
    """What went wrong in a config file, and in which line of it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"{path}, line {line}" if line else f"{path}"
    known = isinstance(error, AttributeError | KeyError | TypeError | ValueError)
    return f"{where}: {error}" if known else f"{where}: {type(error).__name__}: {error}"


def parse_changes(texts: list[str]) -> dict:
    """Returns {"train.num_steps": 100} of ["train.num_steps=100"], what a user typed for fields that hold a text as
    it stands. ValueError for a text without '='."""
    changes, defaults = {}, default_config()
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: give FIELD=VALUE, such as --set train.num_steps=1000")
        changes[path] = _value(value)
        if _holds_text(defaults, path) and not isinstance(changes[path], str | None):
            changes[path] = value  # 2e3 is a name too
    return changes


def _holds_text(defaults: ConfigDict, path: str) -> bool:
    """Whether a field, of a run or of a stage of a sweep (stages.NAME.FIELD), is a text by default."""
    if path.startswith(("stages.", "features.")):
        path = path.split(".", 2)[-1]
    section, _, leaf = path.rpartition(".")
    node = defaults.get(section) if section else defaults
    return isinstance(node, ConfigDict) and isinstance(node.get(leaf), str)


def _value(text: str) -> Any:
    """What a user typed: a number, a tuple, True, ... or, where it is none of these, a text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def config_of(path: str | pathlib.Path, changes: list[str]) -> ConfigDict:
    """Returns the config of a file, FILE or FILE:SCALE, with fields changed: texts such as "train.num_steps=100"."""
    return override(load_config(path), parse_changes(changes))


def load_variant(config_file: str, other: str) -> ConfigDict:
    """Returns the config of `other` (FILE or FILE:SCALE), named relative to `config_file`: for variants.

    >>> config = icl_jax.load_variant("configs/chan2022/fig2.py", "../quickstart.py")  # the first, in a file: __file__
    >>> config.name
    'quickstart'
    """
    return load_config(pathlib.Path(config_file).parent / other)


def override(config: ConfigDict, changes: dict) -> ConfigDict:
    """Returns a copy with dotted fields changed, e.g. {"hypers.p_bursty": 0.5}.

    >>> changed = icl_jax.override(config, {"hypers.p_bursty": 0.5, "model.width": 32})
    >>> changed.hypers.p_bursty, changed.model.width, config.model.width
    ((0.5,), 32, 16)
    >>> icl_jax.override(config, {"model.widht": 32})
    Traceback (most recent call last):
        ...
    ValueError: unknown field 'widht' in model; did you mean 'width'?
    """
    config = config.copy_and_resolve_references()
    for path, value in changes.items():
        *sections, leaf = check_field(config, path, new_suites=True)
        section = config
        for name in sections:
            if any(section is free for free in _free(config)) and name not in section:
                section[name] = ConfigDict({}, type_safe=False)
            if not isinstance(section := section[name], ConfigDict):
                raise ValueError(f"{path}: {name} is {section!r}, which has no fields; give them alone")
        old = section.get(leaf)  # a suite or an option of your own may be new
        if isinstance(old, ConfigDict) and not isinstance(value, ConfigDict | Mapping):
            raise ValueError(f"{path} = {value!r}: give its fields, such as {path}.NAME = VALUE")
        if value is None:
            raise ValueError(f"{path} = None: give a value" + (f", such as {old!r}" if old is not None else ""))
        if isinstance(old, tuple) and not isinstance(value, tuple | list):
            value = (value,)
        if isinstance(old, str) and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # a name of digits alone
        try:
            section[leaf] = tuple(value) if isinstance(value, list) else value
        except TypeError:
            raise ValueError(f"{path} = {value!r} is no {type(old).__name__}, as {old!r} is; give one") from None
    return config


def _free(config: ConfigDict) -> tuple[ConfigDict, ...]:
    """The sections in which any name may be new."""
    return config.options, config.patches, config.evals.more


def check_field(config: ConfigDict, path: str, new_suites: bool = False) -> list[str]:
    """Returns the parts of a dotted field. ValueError naming the nearest field when it is unknown.

    new_suites: evals.custom may get a suite that it does not hold yet. options.ROLE and options.ROLE.FIELD may be new:
    the component that is chosen says what it has. So may patches.NAME and evals.more.NAME, and their fields.
    """
    parts, node = path.split("."), config
    if parts[:2] == ["evals", "more"] and len(parts) in (3, 4):
        return parts
    if parts[0] in ("options", "patches") and len(parts) in (2, 3):
        if parts[0] == "patches" and len(parts) == 3 and parts[2] not in patches.FIELDS:
            raise ValueError(f"unknown field {parts[2]!r} in {'.'.join(parts[:2])}{suggest(parts[2], patches.FIELDS)}")
        return parts
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


def members_of(config: ConfigDict, hypers: Mapping | None = None, seeds: Mapping | None = None) -> list[Member]:
    """Returns the population: product of the hypers' entries, times the seeds (zipped).

    hypers, seeds: values that take the place of the config's.
    """
    numbers = {name: own for name, (_, own) in patches_of(config).items()}
    hypers, seeds = {**config.hypers, **(hypers or {})}, {**config.seeds, **(seeds or {})}
    unknown = set(hypers) - set(HYPERS)
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(f"unknown hyper {name!r}{suggest(name, HYPERS)}")
    columns = {n: hy.entries(n, hypers.get(n, h.default)) for n, h in HYPERS.items()}
    rows = _seed_rows(seeds)
    if (count := math.prod(map(len, columns.values())) * len(rows)) > MOST_MEMBERS:
        several = {n: len(column) for n, column in columns.items() if len(column) > 1} | {"seeds": len(rows)}
        raise ValueError(
            f"{count:,} members ({', '.join(f'{n} {size:,}' for n, size in several.items())}) are more than a "
            f"population has ({MOST_MEMBERS:,}); vary fewer here, or run several"
        )
    settings = [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]
    return [Member(setting, row, numbers) for setting in settings for row in rows]


def patches_of(config: ConfigDict) -> dict[str, tuple[PatchSpec, PatchNumbers]]:
    """Returns the interventions of a config, by name, in the order of their names."""
    return {name: patches.parse(name, config.patches[name]) for name in sorted(config.patches)}


def more_of(config: ConfigDict) -> tuple[tuple[str, MoreEval], ...]:
    """Returns the evals of a config beside its suites, by name, in the order of their names."""
    return tuple((name, named.parse(name, config.evals.more[name])) for name in sorted(config.evals.more))


def _seed_rows(seeds: Mapping) -> list[dict[str, int]]:
    columns = {n: (s,) if isinstance(s := seeds[n], int) else tuple(s) for n in SEEDS}
    lengths = {len(c) for c in columns.values()} - {1}
    if len(lengths) > 1 or 0 in lengths:
        sizes = {n: len(c) for n, c in columns.items()}
        raise ValueError(f"seeds {sizes}: give each stream one seed or the same number of seeds")
    for name, column in columns.items():
        if not all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in column):
            raise ValueError(f"seeds.{name} = {column}: seeds are integers from 0 to 2**32 - 1")
    rows = max(lengths, default=1)
    return [{n: c[r % len(c)] for n, c in columns.items()} for r in range(rows)]


def check_read(spec: RunSpec, members: list[Member]) -> None:
    """Raises ValueError for a hyper that is set, or varied, though nothing in this spec reads it."""
    values = {name: {m.hypers[name] for m in members} for name in HYPERS}
    changed = [name for name, found in values.items() if found != {float(HYPERS[name].default)}]
    for name, needs in unread_hypers(spec, changed).items():
        found = sorted(map(str, values[name]))
        raise ValueError(f"hypers.{name} = {found} is read by nothing here: it needs {needs}")


def run_spec(config: ConfigDict, suites: Iterable[tuple[str, SuiteSpec]] = ()) -> RunSpec:
    """Returns the static spec of a config. ValueError for a field that does not exist.

    suites: those of its evals, by name.
    """
    require(config.plugins)
    sections = {name: _section(config, name, cls) for name, cls in {**SECTIONS, "parts": PartsSpec}.items()}
    evals = EvalSpec(tuple(suites), config.evals.num_sequences, config.evals.batch_size, more_of(config))
    static = tuple((name, patch) for name, (patch, _) in patches_of(config).items())
    own = {"options": _own_options(config, RunSpec(**sections)), "plugins": digests(config.plugins)}
    return RunSpec(evals=evals, patches=static, **own, **sections)


def _section(config: ConfigDict, name: str, cls: type):
    section, fields = config[name], {f.name for f in dataclasses.fields(cls)}
    for field in section:
        if field not in fields:
            raise ValueError(f"unknown field {field!r} in {name}{suggest(field, fields)}")
    return cls(**section.to_dict())


def _own_options(config: ConfigDict, spec: RunSpec) -> tuple:
    """The options of components' own that were set to other values than their defaults."""
    changed = {}
    for role, fields in config.options.items():
        if role not in FIELDS:
            raise ValueError(f"options.{role}: there is no such role{suggest(role, FIELDS)}")
        if not isinstance(fields, ConfigDict | dict):
            raise ValueError(f"options.{role} = {fields!r}: give its fields, such as options.{role}.NAME = VALUE")
        section, field = FIELDS[role]
        component = components(role).get(getattr(getattr(spec, section), field))
        known = component.options if component else {}
        values = {n: option_value(f"options.{role}.{n}", v, known[n]) for n, v in fields.items() if n in known}
        unknown = {n: repr(v) for n, v in fields.items() if n not in known}  # refused when the spec is checked
        changed[role] = tuple(sorted((n, v) for n, v in values.items() if v != known[n].default))
        changed[role] += tuple(sorted(unknown.items()))
    return tuple(sorted((role, values) for role, values in changed.items() if values))


def with_room(config: ConfigDict, members: Iterable[Member]) -> ConfigDict:
    """Returns a copy of the config whose task has room in the program for the members."""
    config, members = config.copy_and_resolve_references(), list(members)
    spec = run_spec(config)
    if room := find("source", spec.parts.source).room:
        most = {n: max(hy.largest(m.hypers[n]) for m in members) for n in HYPERS}
        config.task.update(room(spec, most))
    return config


def chunk_steps(total: int, every: int, save: int, limit: int, started: Iterable[int] = ()) -> int:
    """Returns the steps of one chunk, at most `limit`: it divides run length and intervals, and the steps in `started`
    (those of checkpoints from which the run may go on).

    total: steps of the run (0: it is evaluated as it starts); every: between evaluations; save: between checkpoints.
    """
    for name, value, least in (("train.num_steps", total, 0), ("evals.every", every, 1), ("checkpoint.every", save, 1)):
        if value < least:
            raise ValueError(f"{name} = {value}: must be at least {least}")
    if total % every:
        fits = max(every, round(total / every) * every)
        raise ValueError(f"train.num_steps {total} is not a multiple of evals.every {every}; use {fits} steps")
    if (common := math.gcd(total, every, save)) < min(10, every, save):
        fits = max(every, round(save / every) * every)
        raise ValueError(
            f"checkpoint.every {save} and evals.every {every} have no larger common divisor than {common}, the most "
            f"steps between two looks from the host; use checkpoint.every {fits}"
        )
    common = math.gcd(common, *started)
    if limit < 1:
        raise ValueError(f"runtime.chunk_steps {limit}: must be at least 1")
    return max(d for d in range(1, common + 1) if common % d == 0 and d <= limit)


def cell_id(
    spec: RunSpec, member: Member, data_digest: str, origin: str = "", *, shards: int = 1, schema: int = SCHEMA
) -> str:
    """Returns the identity of one run: a hash of what decides its training.

    Only what differs from the defaults counts, so that a field added later changes no identity. Outside
    stay run length (unless the schedule reads it), evals and their seed, checkpoints and paths. Bank names must
    be concrete, and the task must have the room that the run's program has (`with_room`): a vocabulary
    larger than a run alone needs makes it another run. origin: identity of what init_from and interventions
    bring in. shards: devices that share a batch (runtime.batch_shards), which count where `counts_shards` says so.
    schema: 1 leaves them out; elsewhere the two are equal.
    """
    fields: dict[str, Any] = {name: _changed(getattr(spec, name), cls) for name, cls in SECTIONS.items()}
    for section, path in (("bank", "data_dir"), ("bank", "path"), ("model", "weights")):
        fields[section].pop(path, None)
    if "final_lr_fraction" not in find("schedule", spec.train.schedule).hypers:  # it does not know the last step
        fields["train"].pop("num_steps", None)
    defaults = {n: float(h.default) for n, h in HYPERS.items()}
    fields["hypers"] = {name: value for name, value in member.hypers.items() if value != defaults.get(name, value)}
    fields["seeds"] = {n: member.seeds[n] for n in decisive_seeds(spec)}
    fields["bank_digest"], fields["origin"], fields["schema"] = data_digest, origin, 1
    if parts := _changed(spec.parts, PartsSpec):
        fields["parts"] = parts
    if spec.options:
        fields["options"] = spec.options
    if spec.plugins:
        fields["plugins"] = spec.plugins
    if member.sources:
        fields["sources"] = member.sources
    if spec.patches:
        fields["patches"] = {
            name: _changed(patch, PatchSpec) | _changed(member.patches[name], PatchNumbers)
            for name, patch in spec.patches
        }
    if schema > 1 and counts_shards(spec):
        fields["runtime"], fields["schema"] = {"batch_shards": shards or 1}, schema
    return _hash(fields)


def decisive_seeds(spec: RunSpec, initialised: bool = True) -> tuple[str, ...]:
    """Returns the names of the seeds that make another run: not the eval seed, nor the init seed of one all of whose
    parameters are taken from elsewhere; of an imported model, which is what it is, the eval seed, by which members look
    at other prompts. initialised: whether some parameters are a run's own."""
    if spec.model.weights:
        return ("eval",)
    return tuple(name for name in SEEDS if name != "eval" and (initialised or name != "init"))


def counts_shards(spec: RunSpec) -> bool:
    """Returns whether training depends on how many devices share a batch, as batch statistics are per device."""
    return has_batch_stats(spec) and not spec.model.sync_batch_stats


def identity(cell_ids: Iterable[str]) -> str:
    """Returns the identity of a population: a hash of its members' cell ids, in their order."""
    return _hash(list(cell_ids))


def _changed(section, cls: type) -> dict:
    defaults = dataclasses.asdict(cls())
    return {name: value for name, value in dataclasses.asdict(section).items() if value != defaults[name]}


def _hash(fields) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=list).encode()).hexdigest()[:16]
