"""The directory of a run: what it is (run.json), its checkpoints, metrics and figures.

weights/       of an imported model, with its tokenizer
run.json       config, identity, members, layout, versions: written before the first step, with its digest
plugins/       texts of the plugins, as a record
checkpoints/   Orbax
metrics/       parquet part files
tensorboard/   one folder per member
learning.png, learning.svg, summary.md
"""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import warnings

import jax

from icl_jax import plugins
from icl_jax.members import Member
from icl_jax.runs import config as cfg
from icl_jax.runs.runplan import RunPlan, Start, config_to_json, eval_digests, tuples_of
from icl_jax.sections import StartSection
from icl_jax.spec import EvalSpec, PatchNumbers, hyper_defaults
from icl_jax.storage import weights
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.files import write_text
from icl_jax.storage.locks import sole_writer
from icl_jax.storage.metrics import MetricsWriter, measured_suites
from icl_jax.storage.paths import as_path, children
from icl_jax.storage.sealed import DamagedFile, read_record, write_record

FILE = "run.json"
_RESTORE = "the command that trains the run writes it anew where its checkpoints are good; else restore the file"
_REQUIRED = ("identity", "config", "members", "start", "plan", "bank", "environment")
PACKAGES = ("icl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def members_to_json(members: list[Member]) -> list[dict]:
    """Returns members as plain JSON values."""
    numbers = lambda m: {name: dataclasses.asdict(own) for name, own in m.patches.items()}
    more = lambda m: ({"patches": numbers(m)} if m.patches else {}) | ({"sources": m.sources} if m.sources else {})
    return json.loads(json.dumps([{"hypers": m.hypers, "seeds": m.seeds, **more(m)} for m in members]))


def members_from_json(found: list[dict]) -> list[Member]:
    """Returns the members of `members_to_json`; hypers that came later have their defaults."""
    defaults = hyper_defaults()
    numbers = lambda m: {name: PatchNumbers(**tuples_of(own)) for name, own in m.get("patches", {}).items()}
    return [Member(defaults | tuples_of(m["hypers"]), m["seeds"], numbers(m), m.get("sources", {})) for m in found]


def look(directory: pathlib.Path) -> dict | None:
    """Returns what is known of the run in a directory, None where there is none yet.

    That is run.json or, where it is damaged or gone, what the newest good checkpoint says of its run. ValueError
    where there is something else, DamagedFile where neither tells.
    """
    names = [child.name for child in children(directory)]
    if FILE in names:
        try:
            return read(directory)
        except DamagedFile as fault:
            return _recovered(directory, str(fault))
    if Checkpoints(directory / "checkpoints").steps():
        return _recovered(directory, f"{directory / FILE} is missing; {_RESTORE}")
    if any(not name.startswith(".") and name != weights.FOLDER for name in names):
        raise ValueError(f"{directory} is not empty and holds no run; choose another directory with --set out=DIR")
    return None


def _recovered(directory: pathlib.Path, fault: str) -> dict | None:
    """What a checkpoint says of its run (`facts`); None where nothing was trained yet."""
    checkpoints = Checkpoints(directory / "checkpoints")
    if not checkpoints.steps():
        return None
    facts = checkpoints.restore()[2]
    if "eval_seeds" not in facts:  # an earlier version's
        raise DamagedFile(fault)
    warnings.warn(f"{fault.partition('; ')[0]}: it is written anew from what the checkpoints say", stacklevel=3)
    return {**facts, "suites": measured_suites(directory / "metrics")}


def facts(found: dict) -> dict:
    """Returns what checkpoints say of their run, out of its run.json."""
    return {
        "identity": found["identity"],
        "origin": found.get("origin", ""),
        "start": found["start"],
        "eval_seeds": eval_seeds(found),
        "batch_shards": batch_shards(found),
    }


def eval_seeds(found: dict) -> list[int]:
    """Returns the eval seeds of a run's members, out of run.json or of `facts`."""
    return found["eval_seeds"] if "eval_seeds" in found else [m["seeds"]["eval"] for m in found["members"]]


def batch_shards(found: dict) -> int:
    """Returns the number of batch shards with which a run was last trained, out of run.json or of `facts`."""
    return found["batch_shards"] if "batch_shards" in found else found["plan"]["batch_shards"]


def describe(experiment, found: dict | None, identity: str, origin: str = "", start: str = "") -> dict:
    """Returns what run.json says of an experiment. found: what was known of the run (`look`)."""
    layout = experiment.program.layout
    measured = found.get("suites", {}) if found else {}
    return {
        "identity": identity,
        "identity_schema": cfg.SCHEMA if identity == experiment.identity else 1,
        "origin": origin,
        "start": start,
        "config": experiment.plan.config,
        "members": members_to_json(experiment.members),
        "suites": measured | eval_digests(experiment.plan.spec.evals),
        "bank": experiment.data,
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


def check_same(directory: pathlib.Path, found: dict, experiment) -> None:
    """Raises ValueError when a directory holds another run than the experiment, or measurements of a suite that now
    means something else."""
    there, here = batch_shards(found), experiment.program.layout.batch_shards
    if not experiment.is_known_as(found["identity"], there):
        differ = _differences(found, experiment)
        if found["identity"] == experiment.former:
            differ = f"runtime.batch_shards ({there} there, {here} here), as batch statistics are per device"
        raise ValueError(
            f"{directory} holds another run ({found['identity']}, not {experiment.identity}): choose another "
            f"directory with --set out=DIR, or delete {directory}. They differ in: {differ}"
        )
    seeds = [member.seeds["eval"] for member in experiment.members]
    if found.get("suites") and eval_seeds(found) != seeds:
        raise ValueError(
            f"{directory} has measurements with seeds.eval {_few(eval_seeds(found))}, not {_few(seeds)}: a suite on "
            "other sequences is another one; use those seeds, or choose another directory with --set out=DIR"
        )
    if changed := changed_suites(found, experiment.plan.spec.evals, experiment.members):
        raise ValueError(
            f"{directory} has measurements of {', '.join(changed)} with other fields or another evals.num_sequences: "
            "give the suite another name in evals.custom, or choose another directory with --set out=DIR"
        )


def _few(seeds: list[int]) -> str:
    distinct = list(dict.fromkeys(seeds))
    return ", ".join(map(str, distinct[:6])) + (", ..." if len(distinct) > 6 else "")


def write(directory: pathlib.Path, said: dict) -> None:
    """Writes run.json as `describe` gives it."""
    write_record(directory / FILE, said)


def keep_plugins(directory: pathlib.Path, entries: list[dict]) -> None:
    """Keeps the text of a run's plugins beside it, as a record."""
    for name, text in plugins.texts(entries).items():
        write_text(directory / "plugins" / f"{name}.py", text)


def record_evals(directory: pathlib.Path, plan: RunPlan, members: list[Member]) -> list[str]:
    """Makes run.json name the evals of a plan and their plugins, but for a damaged one, which training writes anew.
    Measurements of suites that now mean something else are dropped; returns their names."""
    with sole_writer(directory):
        found = look(directory)
        if not found:
            return []
        changed = changed_suites(found, plan.spec.evals, members)
        MetricsWriter(directory / "metrics").drop_suites(changed)
        if "config" not in found:
            return changed
        found["config"] |= {name: plan.config[name] for name in ("evals", "plugins")}
        found["members"] = members_to_json(members)
        found["suites"] = {n: d for n, d in found.get("suites", {}).items() if n not in changed}
        found["suites"] |= eval_digests(plan.spec.evals)
        write_record(directory / FILE, found)
        keep_plugins(directory, plan.config["plugins"])
    return changed


def changed_suites(found: dict, evals: EvalSpec, members: list[Member]) -> list[str]:
    """Returns the suites that have measurements and now mean something else: by their fields, or as the eval seeds
    are others."""
    measured, now = found.get("suites", {}), eval_digests(evals)
    if eval_seeds(found) != [member.seeds["eval"] for member in members]:
        return sorted(measured)
    return sorted(name for name in measured.keys() & now.keys() if measured[name] != now[name])


def starting_point(directory: pathlib.Path, found: dict, start: Start) -> str:
    """Returns what a run with checkpoints started from (init_from, resolved then), so that it can go on
    when that run has moved on or is gone. start: what the config names now; ValueError when that is another."""
    now = dataclasses.asdict(start)
    before = found["config"]["init_from"] if "config" in found else now
    before = dataclasses.asdict(StartSection()) | tuples_of(before)  # a field that came later had its default
    if before != now:
        raise ValueError(
            f"{directory} holds another run: it started from init_from {before}, the config says {now}; "
            "choose another directory with --set out=DIR"
        )
    return found["start"]


def _differences(found: dict, experiment) -> str:
    old, new = _flat(found.get("config", {})), _flat(experiment.plan.config)
    if old:  # a field that came later had its default
        old = _flat(config_to_json(cfg.default_config())) | old
    outside = ("out", "name", "evals.", "checkpoint.", "runtime.")
    names = [n for n in sorted(old.keys() | new.keys()) if old.get(n) != new.get(n) and not n.startswith(outside)]
    shown = [f"{n} ({_text(old.get(n))} there, {_text(new.get(n))} here)" for n in names[:6]] if old else []
    if names == ["train.num_steps"]:
        shown.append(f"a schedule {new['train.schedule']!r} ends with the run, so that a longer one is another")
    return "; ".join(shown) or "the bank's content, what init_from or patches bring in, or the version of icl_jax"


def _text(value) -> str:
    return repr(value) if value == "" else str(value)


def _flat(fields: dict, path: str = "") -> dict:
    flat = {}
    for name, value in fields.items():
        flat.update(_flat(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value})
    return flat


def read(directory: pathlib.Path) -> dict:
    """Returns run.json. ValueError when the directory holds no run, DamagedFile when the file is damaged."""
    try:
        return read_record(as_path(directory) / FILE, _RESTORE, _REQUIRED)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{directory} holds no run: it has no {FILE}") from None
