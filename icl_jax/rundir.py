"""The directory of a run: what it is (run.json), its checkpoints, metrics and figures.

run.json       config, identity, members, layout, versions: written before the first step
checkpoints/   Orbax
metrics/       parquet part files
tensorboard/   one folder per member
learning.png, learning.svg, summary.md
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import tempfile

from ml_collections import ConfigDict

from icl_jax import config as cfg

FILE = "run.json"
PACKAGES = ("icl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def write_atomic(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def describe(experiment) -> dict:
    """Returns what run.json says of an experiment."""
    layout = experiment.program.layout
    return {
        "schema": cfg.SCHEMA,
        "identity": experiment.identity,
        "config": config_to_json(experiment.config),
        "members": [{"hypers": m.hypers, "seeds": m.seeds} for m in experiment.members],
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
        },
    }


def claim(directory: pathlib.Path, experiment) -> bool:
    """Makes the directory this run's own and returns whether there is something to resume.

    Raises ValueError when it holds another run.
    """
    path = directory / FILE
    if path.is_file():
        found = read(directory)
        if found["identity"] != experiment.identity:
            raise ValueError(
                f"{directory} holds another run ({found['identity']}, not {experiment.identity}): choose another "
                f"directory with --config.out=DIR, or delete {directory}. "
                f"They differ in: {_differences(found, experiment)}"
            )
        write_atomic(path, json.dumps(describe(experiment), indent=1))
        return True
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty and holds no run; choose another directory with --config.out=DIR")
    write_atomic(path, json.dumps(describe(experiment), indent=1))
    return False


def _differences(found: dict, experiment) -> str:
    old, new = _flat(found["config"]), _flat(config_to_json(experiment.config))
    outside = ("out", "name", "evals.", "checkpoint.", "runtime.")
    names = [n for n in sorted(old.keys() | new.keys()) if old.get(n) != new.get(n) and not n.startswith(outside)]
    shown = [f"{n} ({old.get(n)} there, {new.get(n)} here)" for n in names[:6]]
    return "; ".join(shown) or "the bank's content or the version of icl_jax"


def _flat(fields: dict, path: str = "") -> dict:
    flat = {}
    for name, value in fields.items():
        flat.update(_flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return flat


def read(directory: pathlib.Path) -> dict:
    """Returns run.json. ValueError when the directory holds no run or the file is damaged."""
    path = pathlib.Path(directory) / FILE
    if not path.is_file():
        raise ValueError(f"{directory} holds no run: it has no {FILE}")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or train into another directory") from error
