"""Dissects a run: its newest checkpoint under the analyses that are asked for, and a page of what was found."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
from icl_jax.runs import api, rundir
from icl_jax.runs.controls import untrained_copies
from icl_jax.runs.experiment import Experiment
from icl_jax.storage.arrays import Labelled
from icl_jax.storage.paths import as_path, as_run_path, children
from icl_jax.storage.weights import read_facts
from icl_jax.training.rows import labelled

FOLDER, SUFFIX = "dissection", "-dissected"
WITH_UNTRAINED = ("flow", "edges", "readout")  # of attention, which an untrained network has too
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
    run: api.Run | Mapping[int, api.Run],
    evals: Mapping[str, Mapping[str, Any]],
    out: str | pathlib.Path | None = None,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    untrained: int = 3,
    over_checkpoints: bool = False,
    progress: bool = True,
) -> list[pathlib.Path]:
    """Measures analyses on a run and writes a page with figures; returns the paths, the page first.

    run: or those of a language model over its training, by step. evals: name -> fields, as in `config.evals.more`. Of a
    language model a run of its own is made in `out` (default: NAME-dissected beside it), with a member for each seed,
    for which demonstrations and questions are drawn. A grown run is measured at its newest checkpoint;
    over_checkpoints: at all that were kept, into its own table. untrained: how many untrained copies are measured too,
    as a control in the figures (of analyses of attention). The page is written before them, and again with them.
    ValueError for analyses that it cannot have.

    >>> from icl_jax.runs.dissection import dissect
    >>> pages = dissect(run, {"readout": {"num_prompts": 32}}, untrained=2, progress=False)
    >>> [path.name for path in pages]
    ['index.html', 'readout.svg', 'readout.png']
    """
    runs = dict(run) if isinstance(run, Mapping) else {0: run}
    if not runs:
        raise ValueError("no checkpoint to dissect: give at least one run")
    if untrained < 0:
        raise ValueError(f"untrained {untrained}: a number of copies, 0 for none")
    last = runs[max(runs)]
    config = last.config.copy_and_resolve_references()
    with config.unlocked():
        config.evals.more = {name: ConfigDict(dict(fields)) for name, fields in evals.items()}
    is_language = bool(config.model.weights)
    if is_language:
        beside = last.directory.parent if len(runs) > 1 else last.directory
        own, directory, by_step = _of_language(runs, config, as_run_path(out or f"{beside}{SUFFIX}"), seeds, progress)
    elif len(runs) > 1:
        raise ValueError(f"{last.directory} is a grown run, whose checkpoints are its own; give it alone")
    else:
        directory = as_run_path(out or last.directory / FOLDER)
        own, by_step = _of_grown(last, config, tuple(evals), over_checkpoints, progress)
    arrays = by_step[max(by_step)]
    about = _about(own, evals, seeds if is_language else ())
    drawn = {"prompt": _prompt(own, arrays), "over": _over(by_step), "uses": _uses(evals)}
    pages = write_dissection(directory, arrays, about, **drawn)
    attention = {name: fields for name, fields in evals.items() if fields.get("use", name) in WITH_UNTRAINED}
    if not untrained or not attention:
        return pages
    with config.unlocked():
        config.evals.more = {name: config.evals.more[name] for name in attention}
    copies = untrained_copies(config, directory / "untrained", untrained, seeds, progress)
    return write_dissection(
        directory, arrays, about, **drawn, untrained=_joined([_arrays_of(copy, attention) for copy in copies])
    )


def checkpoints_in(directory: str | pathlib.Path) -> dict[int, api.Run]:
    """Returns the imported models in a directory by the step in their names, such as step1000. ValueError where there
    is none, or a name without a number."""
    found = {}
    for child in children(as_path(directory)):
        if not (child / rundir.FILE).exists():
            continue
        number = re.search(r"(\d+)$", child.name)
        if not number:
            raise ValueError(f"{child}: a checkpoint's name ends in its step, such as step1000; rename it")
        found[int(number[1])] = api.load_run(child)
    if not found:
        raise ValueError(f"{directory} holds no imported models; make them with `icl import hf DIR --to=.../step1000`")
    return dict(sorted(found.items()))


def _of_language(
    runs: Mapping[int, api.Run], config: ConfigDict, out: pathlib.Path, seeds: tuple[int, ...], progress: bool
) -> tuple[api.Run, pathlib.Path, dict[int, Arrays]]:
    """The newest run that was made, where the page goes, and what was measured by step."""
    found, own = {}, None
    for step, run in sorted(runs.items()):
        directory = out / f"step{step}" if len(runs) > 1 else out
        with config.unlocked():
            config.name, config.seeds.eval, config.model.weights = directory.name, seeds, str(run.directory)
        own = api.train(config, directory, progress=progress)
        found[step] = _arrays_of(own, config.evals.more)
    assert own is not None
    return own, out / FOLDER, found


def _of_grown(
    run: api.Run, config: ConfigDict, names: tuple[str, ...], over_checkpoints: bool, progress: bool
) -> tuple[api.Run, dict[int, Arrays]]:
    """The run, and what was measured by step: of the newest checkpoint it is kept nowhere."""
    if not over_checkpoints:
        scores = api.score(dataclasses.replace(run, config=config), names)
        chosen = [e for e in scores.evals if e.name in names]
        found = {(e.name, m): labelled(e, m, values) for e in chosen for m, values in scores.results[e.name].items()}
        return run, {run.step: found}
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.evals.more = {**run.config.evals.more, **config.evals.more}
    own = api.train(config, run.directory, progress=progress)
    return own, {step: _arrays_of(own, names, step) for step in _steps(own, names)}


def _steps(run: api.Run, evals: Iterable[str]) -> list[int]:
    """The steps at which all evals were measured."""
    at = [set(pc.unique(run.table.filter(pc.field("suite") == name)["step"]).to_pylist()) for name in evals]
    return sorted(set.intersection(*at))


def _arrays_of(run: api.Run, evals: Iterable[str], step: int | None = None) -> Arrays:
    metrics = lambda name: run.table.filter(pc.field("suite") == name)["metric"].unique().to_pylist()
    return {(name, metric): run.array(name, metric, step) for name in evals for metric in metrics(name)}


def _joined(found: Sequence[Arrays]) -> Arrays:
    """The members of several runs side by side."""
    join = lambda key: np.concatenate([arrays[key].values for arrays in found])
    return {key: dataclasses.replace(one, values=join(key)) for key, one in found[0].items()}


def _over(by_step: Mapping[int, Arrays]) -> Arrays:
    """The same with an axis of steps before the others; nothing of a single one."""
    steps = tuple(sorted(by_step))
    if len(steps) < 2:
        return {}
    stack = lambda key: np.stack([by_step[step][key].values for step in steps], 1)
    return {
        key: Labelled(stack(key), ("step", *one.axes), {"step": steps, **one.coords})
        for key, one in by_step[steps[0]].items()
    }


def _uses(evals: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Which analysis an eval is, by its name."""
    return {name: str(fields.get("use", name)) for name, fields in evals.items()}


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
