"""Learned features that a sweep reads: runs whose encoder is applied to their bank, made before planning.

def get_features(scale):
    return {"in_context": encoder_config(p_bursty=1.0), "in_weights": encoder_config(p_bursty=0.0)}

grid.named("features", {"in context": {"bank.name": "embeddings", "bank.path": "features:in_context"}})
"""

import contextlib
import pathlib
import time
from collections.abc import Callable

from ml_collections import ConfigDict

from icl_jax import api, rundir, transfer
from icl_jax import config as cfg
from icl_jax.experiment import run_identity
from icl_jax.initial import read_origin
from icl_jax.names import check_file_name, suggest
from icl_jax.paths import absolute
from icl_jax.runplan import plan_of, start_of
from icl_jax.storage.sealed import DamagedFile
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.grid import Grid, Point
from icl_jax.sweep.job import is_whole, reached
from icl_jax.sweep.sheet import Sheet
from icl_jax.training.signals import GracefulStop

PREFIX = "features:"
POLL_S = 2.0  # between looks at features that another worker makes


def features_file(sheet: Sheet, folder: Folder, name: str) -> pathlib.Path:
    """Returns where the features of a name lie. Features of another run, or of another length, are another file."""
    config = sheet.features[name]
    start = read_origin(start_of(config))
    ids = [run_identity(config, start.text if start else "", schema) for schema in (cfg.SCHEMA, 1)]
    files = [folder.directory / "features" / f"{name}-{run}-{config.train.num_steps}.npz" for run in ids]
    if files[1].is_file() or files[1].with_suffix("").is_dir():
        return files[1]  # begun by an earlier version
    if not files[0].is_file():
        check_file_name("the name of learned features", name)
    return files[0]


def missing_features(sheet: Sheet, folder: Folder) -> list[str]:
    """Returns the names of features that are not made yet."""
    return [name for name in sheet.features if not features_file(sheet, folder, name).is_file()]


def say_features(sheet: Sheet, folder: Folder, names: list[str]) -> str:
    """Returns a line that says how far the encoders of features are."""
    runs = [(name, features_file(sheet, folder, name).with_suffix("")) for name in names]
    texts = [
        f"{name!r} at step {max(reached(run), 0):,} of {sheet.features[name].train.num_steps:,}" for name, run in runs
    ]
    return f"learned features come first: {', '.join(texts)}; what reads them is planned when they are there"


def make_features(sheet: Sheet, folder: Folder, say: Callable[[str], None], progress: bool = True) -> bool:
    """Trains the runs that features come from, resuming, and embeds their banks. False: a signal stopped it.

    Of several workers one makes a feature file; the others wait for it.
    """
    files = {name: features_file(sheet, folder, name) for name in missing_features(sheet, folder)}
    with GracefulStop() as stop:
        while missing := [name for name, file in files.items() if not file.is_file()]:
            if stop.requested:
                return False
            if not any(_make(folder, sheet.features[name], files[name], say, progress) for name in missing):
                time.sleep(POLL_S)
        return True


def _make(folder: Folder, config: ConfigDict, file: pathlib.Path, say: Callable[[str], None], progress: bool) -> bool:
    """Makes features, or goes on with them; returns False when another worker has them."""
    with folder.claim(f"features-{file.stem}") as claimed:
        if claimed and not file.is_file():
            say(f"learned features: training the encoder of {file.name}")
            if (file.with_suffix("") / rundir.FILE).is_file():
                with contextlib.suppress(DamagedFile):  # training writes it anew
                    plan = plan_of(config)
                    rundir.record_evals(file.with_suffix(""), plan, list(plan.members))  # may have changed
            run = api.train(config, file.with_suffix(""), progress=progress)
            if is_whole(file.with_suffix(""), config.train.num_steps):
                transfer.embed(run, file)
        return claimed


def with_feature_files(sheet: Sheet, folder: Folder, points: Grid) -> Grid:
    """Returns the points with `features:NAME` replaced by the file. ValueError for a name the sheet lacks."""
    files = {f"{PREFIX}{name}": str(absolute(features_file(sheet, folder, name))) for name in sheet.features}

    def file_of(value):
        if not (isinstance(value, str) and value.startswith(PREFIX)):
            return value
        if value not in files:
            name = value.removeprefix(PREFIX)
            raise ValueError(f"{sheet.source}: get_features() has no {name!r}{suggest(name, list(sheet.features))}")
        return files[value]

    return [Point({path: file_of(v) for path, v in point.changes.items()}, point.labels) for point in points]
