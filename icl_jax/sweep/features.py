"""Learned features that an earlier version made for a sweep, as files of its own beside the plan.

What read them has ids that hang on their content, so a sweep that has them goes on with them.
"""

import dataclasses
import pathlib

from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import run_identity
from icl_jax.runs.initial import STAGE
from icl_jax.storage.paths import absolute
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.grid import Point
from icl_jax.sweep.sheet import Sheet


def with_former_features(sheet: Sheet, folder: Folder) -> Sheet:
    """Returns the sheet with files in the place of stages whose features are there since an earlier version."""
    files = {name: file for name, stage in sheet.stages.items() if (file := _former(stage, folder))}
    if not files:
        return sheet

    def file_of(changes: dict) -> dict:
        name = str(changes.get("bank.path", "")).removeprefix(STAGE)
        return {**changes, "bank.name": "embeddings", "bank.path": str(absolute(files[name]))} if name in files else {}

    return dataclasses.replace(
        sheet,
        config=cfg.override(sheet.config, file_of({"bank.path": sheet.config.bank.path})),
        points=[Point({**p.changes, **file_of(dict(p.changes))}, p.labels) for p in sheet.points],
        stages={name: stage for name, stage in sheet.stages.items() if name not in files},
    )


def _former(stage: Sheet, folder: Folder) -> pathlib.Path | None:
    """The file of a stage's features, where there is one: they had a single run."""
    directory = folder.directory / "features"
    if not list(directory.glob(f"{stage.name}-*.npz")):
        return None
    runs = [run_identity(stage.config, "", schema) for schema in (cfg.SCHEMA, 1)]
    files = [directory / f"{stage.name}-{run}-{stage.config.train.num_steps}.npz" for run in runs]
    return next((file for file in files if file.is_file()), None)
