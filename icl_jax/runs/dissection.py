"""Dissects a run: its newest checkpoint under the analyses that are asked for, and a page of what was found."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc
from ml_collections import ConfigDict

from icl_jax.data.text.source import Texts
from icl_jax.data.text.tasks import find_task
from icl_jax.dissect.diagnose import LEAST_CLASSES
from icl_jax.dissect.prompt import LABEL, QUERY
from icl_jax.models.frontends.layout import token_layout
from icl_jax.registry import components
from icl_jax.report.dissection.arcs import Prompt
from icl_jax.report.dissection.write import write_dissection
from icl_jax.runs import api
from icl_jax.runs.experiment import Experiment
from icl_jax.storage.arrays import Labelled
from icl_jax.storage.paths import as_run_path
from icl_jax.storage.weights import read_facts
from icl_jax.training.rows import labelled

FOLDER, SUFFIX = "dissection", "-dissected"
Arrays = dict[tuple[str, str], Labelled]


def default_evals(run: api.Run, task: str = "", num_prompts: int = 64) -> dict[str, dict[str, Any]]:
    """Returns all analyses that a run can have. task: of texts, for a language model; num_prompts: of each, of flow,
    whose gradients take longest, at most 24."""
    layers = run.config.model.num_layers
    few = (f"first {max(layers // 6, 1)}", f"last {max(layers // 6, 1)}")
    found: dict[str, dict[str, Any]] = {
        "answers": {},
        "flow": {"num_prompts": min(num_prompts, 24)},
        "prompt": {},
        "edges": {"edges": ("earlier -> label",), "layers": few if layers > 4 else ("each", "all")},
        "readout": {},
        "compress": {},
        "reweight": {},
    }
    if task and len(find_task(task).labels) >= LEAST_CLASSES:
        found["diagnose"] = {}
    of_all = {"task": task} if task else {}
    of_many = {"num_prompts": num_prompts}
    return {name: {**of_all, **(of_many if name != "prompt" else {}), **own} for name, own in found.items()}


def analyses_of(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns the analyses among a config's evals.more. ValueError where there is none."""
    known = {name for name, eval_ in components("eval").items() if str(eval_.build).startswith("icl_jax.dissect.")}
    more = {name: dict(fields) for name, fields in config.evals.more.items()}
    found = {name: fields for name, fields in more.items() if fields.get("use", name) in known}
    if not found:
        raise ValueError(f"the config's evals.more has no analysis: {', '.join(sorted(known))}; add some")
    return found


def dissect(
    run: api.Run,
    evals: Mapping[str, Mapping[str, Any]],
    out: str | pathlib.Path | None = None,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    over_checkpoints: bool = False,
    progress: bool = True,
) -> list[pathlib.Path]:
    """Measures analyses on a run and writes a page with figures; returns the paths, the page first.

    evals: name -> fields, as in `config.evals.more`. Of a language model a run of its own is made in `out` (default:
    NAME-dissected beside it), with a member for each seed, for which demonstrations and questions are drawn. A grown
    run is measured at its newest checkpoint; over_checkpoints: at all that were kept, into its own table. ValueError
    for analyses that it cannot have.

    >>> from icl_jax.runs.dissection import dissect
    >>> pages = dissect(run, {"readout": {"num_prompts": 32}})
    >>> [path.name for path in pages]
    ['index.html', 'readout.svg', 'readout.png']
    """
    config = run.config.copy_and_resolve_references()
    with config.unlocked():
        config.evals.more = {name: ConfigDict(dict(fields)) for name, fields in evals.items()}
    is_language = bool(run.config.model.weights)
    directory = as_run_path(out or (f"{run.directory}{SUFFIX}" if is_language else run.directory / FOLDER))
    if is_language:
        config.name, config.seeds.eval = directory.name, seeds
        own = api.train(config, directory, progress=progress)
        arrays, directory = _arrays_of(own, evals), directory / FOLDER
    elif over_checkpoints:
        with config.unlocked():
            config.evals.more = {**run.config.evals.more, **config.evals.more}
        own = api.train(config, run.directory, progress=progress)
        arrays = _arrays_of(own, evals)
    else:
        own = run
        arrays = _measured(run, config, tuple(evals))
    prompt = _prompt(own, arrays)
    return write_dissection(directory, arrays, _about(own, evals, seeds if is_language else ()), prompt)


def _arrays_of(run: api.Run, evals: Mapping[str, Any]) -> Arrays:
    metrics = lambda name: run.table.filter(pc.field("suite") == name)["metric"].unique().to_pylist()
    return {(name, metric): run.array(name, metric) for name in evals for metric in metrics(name)}


def _measured(run: api.Run, config: ConfigDict, names: tuple[str, ...]) -> Arrays:
    """What evals give at the newest checkpoint, kept nowhere."""
    scores = api.score(dataclasses.replace(run, config=config), names)
    chosen = [e for e in scores.evals if e.name in names]
    return {(e.name, m): labelled(e, m, values) for e in chosen for m, values in scores.results[e.name].items()}


def _prompt(run: api.Run, arrays: Arrays) -> Prompt | None:
    """The prompt of the first member, to be drawn: saliency of the first and of the last third of the layers."""
    if ("prompt", "saliency") not in arrays:
        return None
    role = arrays["prompt", "role"].values[0]
    count = int(np.isfinite(role).sum())
    found = arrays["prompt", "saliency"]  # the table has its axes in the order of their names
    order = [found.axes.index(axis) for axis in ("layer", "query", "key")]
    saliency = found.values[0].transpose(order)[:, :count, :count]
    ids = arrays["prompt", "token"].values[0][:count].astype(int)
    layers = len(saliency)
    third = max(layers // 3, 1)
    title = lambda first, last: f"layers {first} to {last}" if last > first else f"layer {first}"
    blocks = {title(0, third - 1): saliency[:third], title(layers - third, layers - 1): saliency[-third:]}
    names = {LABEL: "label", QUERY: "query"}
    tokens = _tokens(run._experiment, ids)
    roles = tuple(names.get(int(own), "other") for own in role[:count])
    return Prompt(tokens, roles, {title: own.mean(0) for title, own in blocks.items()})


def _tokens(experiment: Experiment, ids: np.ndarray) -> tuple[str, ...]:
    """The texts of tokens; of grown models what they are, and the class of a label."""
    program = experiment.program
    if isinstance(program.source, Texts):
        return tuple(program.source.tokenizer.token(int(index)) for index in ids)
    task = program.spec.task
    kinds = token_layout(program.spec.model, task.context_len, task.task_token).tokens
    return tuple(kind if own < 0 else f"{kind} {own}" for kind, own in zip(kinds, ids, strict=True))


def _about(run: api.Run, evals: Mapping[str, Mapping[str, Any]], seeds: tuple[int, ...]) -> dict[str, object]:
    """What the page says of what was looked at."""
    model = run.config.model
    about: dict[str, object] = {
        "title": f"{run.config.name.removesuffix(SUFFIX)}, dissected",
        "layers": model.num_layers,
    }
    about |= {"heads": model.num_heads, "width": model.width}
    if not model.weights:
        return about | {"step": f"{run.step:,}", "members": len(run.members)}
    tasks = dict.fromkeys(str(fields.get("task", "")) for fields in evals.values())
    name = read_facts(model.weights).get("source", {}).get("name", "")
    return about | {"model": name, "task": ", ".join(filter(None, tasks)), "seeds": ", ".join(map(str, seeds))}
