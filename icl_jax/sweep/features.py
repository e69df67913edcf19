"""Learned features that a sweep reads: runs whose encoder is applied to their bank, made before planning.

def get_features(scale):
    return {"in_context": encoder_config(p_bursty=1.0), "in_weights": encoder_config(p_bursty=0.0)}

grid.named("features", {"in context": {"bank.name": "embeddings", "bank.path": "features:in_context"}})
"""

import pathlib
from collections.abc import Callable

from icl_jax import api, transfer
from icl_jax.names import suggest
from icl_jax.paths import absolute
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.grid import Grid, Point
from icl_jax.sweep.sheet import Sheet

PREFIX = "features:"


def features_file(folder: Folder, name: str) -> pathlib.Path:
    """Returns where the features of a name lie."""
    return folder.directory / "features" / f"{name}.npz"


def missing_features(sheet: Sheet, folder: Folder) -> list[str]:
    """Returns the names of features that are not made yet."""
    return [name for name in sheet.features if not features_file(folder, name).is_file()]


def make_features(sheet: Sheet, folder: Folder, say: Callable[[str], None], progress: bool = True) -> bool:
    """Trains the runs that features come from, resuming, and embeds their banks. False: a signal stopped it.

    Of several workers one makes a feature file; the others wait for it.
    """
    for name in missing_features(sheet, folder):
        with folder.claim(f"features-{name}", wait=True):
            if features_file(folder, name).is_file():
                continue
            config, directory = sheet.features[name], folder.directory / "features" / name
            say(f"learned features {name!r}: training their encoder")
            run = api.train(config, directory, progress=progress)
            if run.step < config.train.num_steps:
                return False
            transfer.embed(run, features_file(folder, name))
    return True


def with_feature_files(sheet: Sheet, folder: Folder, points: Grid) -> Grid:
    """Returns the points with `features:NAME` replaced by the file. ValueError for a name the sheet lacks."""
    return [Point({p: _file(sheet, folder, v) for p, v in point.changes.items()}, point.labels) for point in points]


def _file(sheet: Sheet, folder: Folder, value):
    if not (isinstance(value, str) and value.startswith(PREFIX)):
        return value
    name = value.removeprefix(PREFIX)
    if name not in sheet.features:
        raise ValueError(f"{sheet.source}: get_features() has no {name!r}{suggest(name, list(sheet.features))}")
    return str(absolute(features_file(folder, name)))
