"""A sweep as its config file states it: config, grid, claims, at one of its scales."""

import dataclasses
import inspect
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from icl_jax import config as cfg
from icl_jax.names import suggest
from icl_jax.report.claims import KINDS as CLAIMS
from icl_jax.sweep.grid import Grid, Point

KINDS = tuple(CLAIMS.values())

HOOKS = ("get_sweep", "get_claims", "get_features")
FEATURES = "features."  # changes of the config of learned features are named features.NAME.FIELD


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What a config file asks for.

    source: FILE or FILE:SCALE as given; doc: the file's docstring; points: the grid (one point where the
    file has no get_sweep: a config is a sweep of its own members); features: learned features to make
    first, name -> config of the run whose encoder gives them; changes: what was changed over the file's config.
    """

    source: str
    doc: str
    config: ConfigDict
    points: Grid
    claims: list
    features: dict[str, ConfigDict]
    changes: dict

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def title(self) -> str:
        return self.doc.strip().partition("\n")[0] or self.name


def load_sheet(source: str | pathlib.Path, changes: dict | None = None) -> Sheet:
    """Returns the sweep of a config file, FILE or FILE:SCALE.

    changes: dotted field -> value, over the file's config; features.NAME.FIELD: over that of learned features.
    ValueError for what the file gets wrong, and for a change of a field that the grid sets.
    """
    module, scale = cfg.load_module(source)
    config = cfg.call_hook(module, "get_config", scale)
    found = {
        name: cfg.call_hook(module, name, _scale_of(module, name, scale)) for name in HOOKS if hasattr(module, name)
    }
    _check_hooks(found, module.__file__)
    changes = changes or {}
    points, features = found.get("get_sweep", [Point()]), found.get("get_features", {})
    own = {path: value for path, value in changes.items() if not path.startswith(FEATURES)}
    _check_not_swept(own, points)
    return Sheet(
        str(source),
        inspect.getdoc(module) or "",
        cfg.override(config, own),
        points,
        found.get("get_claims", []),
        _changed_features(features, changes),
        changes,
    )


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
    features = found.get("get_features", {})
    if not isinstance(features, Mapping) or not all(isinstance(c, ConfigDict) for c in features.values()):
        raise ValueError(f"{file}: get_features() must return a dict, name -> config of the run whose encoder it is")


def _check_not_swept(changes: dict, points: Grid) -> None:
    """A change of a field that each point of the grid sets anew would do nothing."""
    for path in changes:
        if any(path in point.changes for point in points):
            raise ValueError(f"--set {path}: the grid of the sweep sets this field; change get_sweep() in the file")


def _changed_features(features: dict[str, ConfigDict], changes: dict) -> dict[str, ConfigDict]:
    """The configs of learned features with the changes of features.NAME.FIELD."""
    by_name: dict[str, dict] = {name: {} for name in features}
    for path, value in changes.items():
        if path.startswith(FEATURES):
            name, _, field = path.removeprefix(FEATURES).partition(".")
            if name not in by_name:
                raise ValueError(f"--set {path}: the sweep has no learned features {name!r}{suggest(name, by_name)}")
            by_name[name][field] = value
    return {name: cfg.override(config, by_name[name]) for name, config in features.items()}


def _scale_of(module, name: str, scale: str | None) -> str | None:
    """The scale as a hook takes it: one without parameters is the same at every scale."""
    return scale if inspect.signature(getattr(module, name)).parameters else None
