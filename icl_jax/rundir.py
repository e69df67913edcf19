"""The directory of a run: what it is (run.json), its checkpoints, metrics and figures.

run.json       config, identity, members, layout, versions: written before the first step
checkpoints/   Orbax
metrics/       parquet part files
tensorboard/   one folder per member
learning.png, learning.svg, summary.md
"""

import importlib.metadata
import json
import pathlib
import platform

import jax
from ml_collections import ConfigDict

from icl_jax import config as cfg
from icl_jax.experiment import suite_digests
from icl_jax.files import read_text, write_text
from icl_jax.paths import as_path, children
from icl_jax.training.store import MetricsWriter

FILE = "run.json"
PACKAGES = ("icl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def config_to_json(config: ConfigDict) -> dict:
    """Returns the config as plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(config.to_dict(), default=list))


def config_from_json(fields: dict) -> ConfigDict:
    """Returns the config of `config_to_json`. ValueError for a field this version does not know."""
    config = cfg.default_config()
    _update(config, fields, "")
    return config


def _update(node: ConfigDict, fields: dict, path: str) -> None:
    for name, value in fields.items():
        where = f"{path}{name}"
        if where.startswith("evals.custom."):
            node[name] = _tuples(value)
        elif name not in node:
            raise ValueError(f"the run was written by another version: it has a field {where} that this one lacks")
        elif isinstance(node[name], ConfigDict):
            _update(node[name], value, f"{where}.")
        else:
            node[name] = _tuples(value)


def members_to_json(members: list[cfg.Member]) -> list[dict]:
    """Returns members as plain JSON values."""
    return json.loads(json.dumps([{"hypers": m.hypers, "seeds": m.seeds} for m in members]))


def members_from_json(found: list[dict]) -> list[cfg.Member]:
    """Returns the members of `members_to_json`."""
    return [cfg.Member({n: _tuples(v) for n, v in m["hypers"].items()}, m["seeds"]) for m in found]


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def describe(experiment, origin: str, start: str, measured: dict[str, str]) -> dict:
    """Returns what run.json says of an experiment. measured: digests of the suites that have measurements, by name."""
    layout = experiment.program.layout
    return {
        "schema": cfg.SCHEMA,
        "identity": experiment.identity,
        "origin": origin,
        "start": start,
        "config": config_to_json(experiment.config),
        "members": members_to_json(experiment.members),
        "suites": measured | suite_digests(experiment.config),
        "bank": {"name": experiment.bank.name, "digest": experiment.bank.digest},
        "plan": {
            "members": layout.num_members,
            "devices": layout.num_devices,
            "batch_shards": layout.batch_shards,
            "width": layout.width,
            "chunk": experiment.chunk,
        },
        "environment": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
            "devices": f"{layout.num_devices} x {jax.devices()[0].device_kind}",
        },
    }


def claim(directory: pathlib.Path, experiment, origin: str = "", start: str = "") -> None:
    """Makes the directory this run's own.

    Raises ValueError when it holds another run, or measurements of a suite that now means something else.
    """
    path, measured = directory / FILE, {}
    names = [child.name for child in children(directory)]
    if FILE in names:
        found = read(directory)
        if found["identity"] != experiment.identity:
            raise ValueError(
                f"{directory} holds another run ({found['identity']}, not {experiment.identity}): choose another "
                f"directory with --config.out=DIR, or delete {directory}. "
                f"They differ in: {_differences(found, experiment)}"
            )
        _check_suites(directory, found, experiment.config)
        measured = found.get("suites", {})
    elif any(not name.startswith(".") for name in names):
        raise ValueError(f"{directory} is not empty and holds no run; choose another directory with --config.out=DIR")
    write_text(path, json.dumps(describe(experiment, origin, start, measured), indent=1))


def record_evals(directory: pathlib.Path, config: ConfigDict) -> list[str]:
    """Makes run.json name the evals of a config. Measurements of suites that now mean something else are dropped;
    returns their names."""
    found = read(directory)
    changed = _changed_suites(found, config)
    MetricsWriter(directory / "metrics").drop_suites(changed)
    found["config"]["evals"] = config_to_json(config)["evals"]
    found["suites"] = found.get("suites", {}) | suite_digests(config)
    write_text(directory / FILE, json.dumps(found, indent=1))
    return changed


def _changed_suites(found: dict, config: ConfigDict) -> list[str]:
    measured, now = found.get("suites", {}), suite_digests(config)
    return sorted(name for name in measured.keys() & now.keys() if measured[name] != now[name])


def _check_suites(directory: pathlib.Path, found: dict, config: ConfigDict) -> None:
    if changed := _changed_suites(found, config):
        raise ValueError(
            f"{directory} has measurements of {', '.join(changed)} with other fields or another evals.num_sequences: "
            "give the suite another name in evals.custom, or choose another directory with --config.out=DIR"
        )


def starting_point(directory: pathlib.Path, config: ConfigDict) -> str:
    """Returns what a run with checkpoints started from (init_from, resolved then), so that it can go on
    when that run has moved on or is gone. ValueError when the config now names another start."""
    found = read(directory)
    before, now = found["config"]["init_from"], config.init_from.to_dict()
    if before != now:
        raise ValueError(
            f"{directory} holds another run: it started from init_from {before}, the config says {now}; "
            "choose another directory with --config.out=DIR"
        )
    return found["start"]


def _differences(found: dict, experiment) -> str:
    old, new = _flat(found["config"]), _flat(config_to_json(experiment.config))
    outside = ("out", "name", "evals.", "checkpoint.", "runtime.")
    names = [n for n in sorted(old.keys() | new.keys()) if old.get(n) != new.get(n) and not n.startswith(outside)]
    shown = [f"{n} ({old.get(n)} there, {new.get(n)} here)" for n in names[:6]]
    return "; ".join(shown) or "the bank's content, what init_from or patches bring in, or the version of icl_jax"


def _flat(fields: dict, path: str = "") -> dict:
    flat = {}
    for name, value in fields.items():
        flat.update(_flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return flat


def read(directory: pathlib.Path) -> dict:
    """Returns run.json. ValueError when the directory holds no run or the file is damaged."""
    path = as_path(directory) / FILE
    try:
        return json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{directory} holds no run: it has no {FILE}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or train into another directory") from error
