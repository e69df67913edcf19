"""A sweep as its config file states it: config, grid, claims, at one of its scales."""

import dataclasses
import inspect
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from icl_jax.claims.statements import KINDS as CLAIMS
from icl_jax.names import check_file_name, suggest
from icl_jax.runs import config as cfg
from icl_jax.runs.initial import STAGE
from icl_jax.sweep.grid import Grid, Point, Stage
from icl_jax.sweep.stages import FEATURES

KINDS = tuple(CLAIMS.values())

HOOKS = ("get_stages", "get_sweep", "get_claims", "get_features")
FORMER = "features:"  # earlier versions named the stage so, in bank.path of bank "embeddings"


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What a config file asks for.

    source: FILE or FILE:SCALE as given; doc: the file's docstring; points: the grid (one point where the
    file has no get_sweep: a config is a sweep of its own members); stages: what is trained first, by name, in order
    (`sweep.stages`); changes: what was changed over the file's config, "stages.NAME.FIELD" over that of a stage.
    """

    source: str
    doc: str
    config: ConfigDict
    points: Grid
    claims: list
    stages: "dict[str, Sheet]"
    changes: dict

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def title(self) -> str:
        return self.doc.strip().partition("\n")[0] or self.name


def load_sheet(source: str | pathlib.Path, changes: dict | None = None) -> Sheet:
    """Returns the sweep of a config file, FILE or FILE:SCALE.

    changes: dotted field -> value, over the file's config; stages.NAME.FIELD: over that of an earlier stage.
    ValueError for what the file gets wrong, and for a change of a field that the grid sets.
    """
    module, scale = cfg.load_module(source)
    config = cfg.call_hook(module, "get_config", scale)
    found: dict[str, Any] = {
        name: cfg.call_hook(module, name, _scale_of(module, name, scale)) for name in HOOKS if hasattr(module, name)
    }
    _check_hooks(found, module.__file__)
    doc, changes = inspect.getdoc(module) or "", changes or {}
    points: Grid = found.get("get_sweep", [Point()])
    stages = _stages(found)
    if FORMER in repr((config.bank.path, [point.changes for point in points])):
        config, points = _today(config), [Point(_today_of(point.changes), point.labels) for point in points]
    own = {path: value for path, value in changes.items() if not path.startswith(_PREFIXES)}
    _check_not_swept(own, points)
    if "out" in own:
        raise ValueError(f"--set out={own['out']}: of a sweep --out=DIR says where it lies; config.out is of one run")
    changed = _changes_by_stage(stages, changes)
    return Sheet(
        str(source),
        doc,
        cfg.override(config, own),
        points,
        found.get("get_claims", []),
        {name: _of_stage(name, stage, str(source), doc, changed[name]) for name, stage in stages.items()},
        changes,
    )


_PREFIXES = ("stages.", "features.")  # the second as earlier versions spelt it


def _stages(found: dict) -> dict[str, Stage]:
    """The stages of a file; a config alone is one of a single point."""
    stages = {**found.get("get_features", {}), **found.get("get_stages", {})}
    return {name: stage if isinstance(stage, Stage) else Stage(stage) for name, stage in stages.items()}


def _of_stage(name: str, stage: Stage, source: str, doc: str, changes: dict) -> Sheet:
    _check_not_swept(changes, stage.points)
    title = f"Stage {name}: {doc.strip().partition(chr(10))[0]}"
    config = cfg.override(stage.config, {**changes, "name": name})
    return Sheet(source, title, config, list(stage.points), list(stage.claims), {}, changes)


def _today(config: ConfigDict) -> ConfigDict:
    """A config that names learned features as earlier versions did."""
    return cfg.override(config, _today_of({"bank.path": config.bank.path}))


def _today_of(changes: Mapping) -> dict:
    path = changes.get("bank.path", "")
    if not (isinstance(path, str) and path.startswith(FORMER)):
        return dict(changes)
    return {**changes, "bank.name": FEATURES, "bank.path": STAGE + path.removeprefix(FORMER)}


def _check_hooks(found: dict, file: str | None) -> None:
    """Raises ValueError for a hook that returns something else than a list of its kind, or no configs."""
    for name, kind, way_out in (
        ("get_sweep", Point, "return what icl_jax.grid makes, such as grid.over(...)"),
        ("get_claims", KINDS, "return a list of claims, such as [claims.larger(...)]"),
    ):
        value = found.get(name, [])
        if not isinstance(value, list | tuple):
            raise ValueError(f"{file}: {name}() returns a {type(value).__name__}; {way_out}")
        if wrong := [item for item in value if not isinstance(item, kind)]:
            raise ValueError(f"{file}: {name}() has a {type(wrong[0]).__name__} in its list; {way_out}")
    for hook in ("get_stages", "get_features"):
        stages = found.get(hook, {})
        if not isinstance(stages, Mapping) or not all(isinstance(s, Stage | ConfigDict) for s in stages.values()):
            raise ValueError(f"{file}: {hook}() must return a dict, name -> Stage(config, points) or a config alone")
        for name, stage in stages.items():
            check_file_name(f"{file}: the name of a stage", name)
            if isinstance(stage, Stage):
                _check_lists({"points": stage.points, "claims": stage.claims}, f"{file}: stage {name!r}")


def _check_lists(found: Mapping, where: str) -> None:
    for name, kind in (("points", Point), ("claims", KINDS)):
        value = found[name]
        if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
            raise ValueError(f"{where}: its {name} are no list of what icl_jax.{_MAKERS[name]} makes")


_MAKERS = {"points": "grid", "claims": "claims"}


def _check_not_swept(changes: dict, points: Grid) -> None:
    """A change of a field that each point of the grid sets anew would do nothing."""
    for path in changes:
        if any(path in point.changes for point in points):
            raise ValueError(f"--set {path}: the grid of the sweep sets this field; change get_sweep() in the file")


def _changes_by_stage(stages: Mapping[str, Stage], changes: dict) -> dict[str, dict]:
    """The changes of stages.NAME.FIELD, by stage."""
    by_name: dict[str, dict] = {name: {} for name in stages}
    for path, value in changes.items():
        if path.startswith(_PREFIXES):
            name, _, field = path.partition(".")[2].partition(".")
            if field in ("name", "out"):
                raise ValueError(f"--set {path}: a stage is called as get_stages() says, and lies in its sweep")
            if name not in by_name:
                raise ValueError(f"--set {path}: the sweep has no stage {name!r}{suggest(name, by_name)}")
            by_name[name][field] = value
    return by_name


def _scale_of(module, name: str, scale: str | None) -> str | None:
    """The scale as a hook takes it: one without parameters is the same at every scale."""
    return scale if inspect.signature(getattr(module, name)).parameters else None
