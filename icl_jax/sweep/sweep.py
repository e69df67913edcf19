"""A sweep: what a config file asks for, in a directory."""

import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Callable

from icl_jax.claims import statements as claims
from icl_jax.data.banks import AUTO
from icl_jax.evals.metrics import OF_SUITE
from icl_jax.headlines import headlines_of
from icl_jax.names import check_file_name
from icl_jax.runs.config import more_of
from icl_jax.runs.initial import STAGE
from icl_jax.runs.runplan import config_to_json, suite_names
from icl_jax.storage.paths import absolute, as_run_path
from icl_jax.storage.sealed import DamagedFile
from icl_jax.sweep.cells import Cell, describe_cell, expand
from icl_jax.sweep.features import with_former_features
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import Job, is_done, make_jobs
from icl_jax.sweep.plan import Planned, check_start, make_plan
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.stages import FEATURES, START, Earlier


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """The cells of a sheet and the directory that has them, or will. stages: those that come before, in order."""

    sheet: Sheet
    folder: Folder
    cells: list[Cell]
    stages: "tuple[Sweep, ...]" = ()

    @property
    def name(self) -> str:
        """As it is called on a terminal: SWEEP, or SWEEP/STAGE."""
        folder = self.folder
        return f"{folder.whole.name}/{folder.name}" if folder.is_stage else folder.name

    def in_order(self) -> "list[Sweep]":
        """Returns its stages and itself, in the order in which they are trained."""
        return [*self.stages, self]

    def unplanned(self) -> list[Cell]:
        """Returns the cells that no population of the plan holds."""
        planned = {id_ for population in self.folder.plan() for id_ in population.cells}
        return [cell for cell in self.cells if cell.id not in planned]

    def unused(self) -> int:
        """Returns how many cells of the plan the sheet does not ask for now."""
        asked = {cell.id for cell in self.cells}
        return sum(id_ not in asked for population in self.folder.plan() for id_ in population.cells)

    def proposed(
        self, most: int = 0, note: Callable[[str], None] = lambda text: None, compiles: bool = True
    ) -> list[Planned]:
        """Returns the populations that the cells not planned yet would form; writes nothing. See `make_plan`."""
        missing = self.unplanned()
        return make_plan(missing, most, note, compiles) if missing else []

    def fix(self, most: int = 0, note: Callable[[str], None] = lambda text: None) -> None:
        """Checks the sweep, writes sweep.json and plans what is not planned; several workers may do so at once."""
        self.check()
        while True:
            after = self.folder.plan_parts()
            populations = self.proposed(most, note)
            if not populations:
                break
            self.folder.describe(self.description())
            self.folder.add_to_plan(populations, after)
        self.folder.describe(self.description())

    def check(self) -> None:
        """Raises ValueError for claims about what the sweep does not have, for parameters that do not fit those of the
        stage they are taken from, and for eval seeds other than those of cells that are planned already."""
        evals = self.sheet.config.evals
        planned = {cell.id: (cell.labels, cell.member.seeds, cell.steps) for cell in self.cells}
        names = suite_names(self.sheet.config)
        is_patched = any(cell.group.spec.patches for cell in self.cells)
        metrics = (*OF_SUITE, "changed") if is_patched else OF_SUITE
        more = {name: each.every or evals.every for name, each in more_of(self.sheet.config)}
        claims.check_claims(self.sheet.claims, planned, names, metrics, evals.every, headlines_of(evals), more)
        self._check_eval_seeds()
        self._check_starts()

    def _check_starts(self) -> None:
        """One of each pair of specs is looked at."""
        earlier = {cell.id: cell for stage in self.stages for cell in stage.cells}
        pairs = {}
        for cell in self.cells:
            if START in cell.member.sources:
                start = earlier[cell.member.sources[START].split()[0]]
                pairs[cell.group.key, start.group.key] = (cell, start)
        for cell, start in pairs.values():
            check_start(cell, start)

    def _check_eval_seeds(self) -> None:
        """An id does not hold the eval seed; a population that is there goes on with its own."""
        there = {id_: m for p in self.folder.plan() for id_, m in zip(p.cells, p.members, strict=True)}
        for cell in self.cells:
            asked, found = cell.member.seeds["eval"], there.get(cell.id, cell.member).seeds["eval"]
            if asked != found:
                raise ValueError(
                    f"{self.folder.directory} has {describe_cell(cell)} with seeds.eval {found}, not {asked}: use that "
                    "one, or another directory with --out"
                )

    def is_done(self) -> bool:
        """Returns whether all its cells are planned and all populations done."""
        return not self.unplanned() and all(is_done(self.folder, job) for job in self.jobs())

    def jobs(self) -> list[Job]:
        """Returns the planned populations of these cells."""
        return make_jobs(self.folder, self.cells)

    def description(self) -> dict:
        """Returns what sweep.json says."""
        return {
            "name": self.sheet.name,
            "title": self.sheet.title,
            "doc": self.sheet.doc,
            "source": self.sheet.source,
            "changes": self.sheet.changes,
            "config": config_to_json(self.cells[0].group.config),
            "cells": [{"id": c.id, "labels": c.labels, "seeds": c.member.seeds, "steps": c.steps} for c in self.cells],
            "claims": claims.claims_to_json(self.sheet.claims),
            **({"stages": [stage.folder.name for stage in self.stages]} if self.stages else {}),
        }


def folder_of(sheet: Sheet, out: str | pathlib.Path = "sweeps") -> Folder:
    """Returns the directory of a sheet's sweep, `out`/<name>. ValueError for a name that is no plain file name."""
    folder = Folder(as_run_path(out) / sheet.name)
    if not (folder.directory / "sweep.json").exists():  # an earlier version took any name
        check_file_name("the sweep's config.name", sheet.name)
    return folder


def open_sweep(sheet: Sheet, out: str | pathlib.Path = "sweeps") -> Sweep:
    """Returns the sweep of a sheet in the directory `out`/<name>, with its stages. Reads banks; writes nothing.

    ValueError for points that are no runs, and for what later stages cannot take from earlier ones.
    """
    folder = folder_of(sheet, out)
    sheet = with_former_features(sheet, folder)
    stages: dict[str, Earlier] = {}
    opened: list[Sweep] = []
    for name, earlier in sheet.stages.items():
        place = folder.stage(name)
        cells = _as_planned(expand(earlier.config, earlier.points, stages), place)
        opened.append(Sweep(earlier, place, cells, tuple(opened)))
        stages[name] = Earlier(name, cells, absolute(place.directory))
    cells = _as_planned(expand(sheet.config, sheet.points, stages), folder)
    sweep = Sweep(sheet, folder, cells, tuple(opened))
    _check_taken(sweep)
    for each in sweep.in_order():
        _check_bank(each)
    return sweep


def _check_bank(sweep: Sweep) -> None:
    """Which bank "auto" is hangs on the shell: a sweep must not become another one by that."""
    config = sweep.sheet.config
    if config.bank.name != AUTO or not (sweep.folder.directory / "sweep.json").exists():
        return
    with contextlib.suppress(DamagedFile):  # it is written anew
        there, here = sweep.folder.read()["config"]["bank"]["name"], sweep.cells[0].group.config.bank.name
        if there != here:
            raise ValueError(
                f"{sweep.folder.directory} was planned on bank {there!r}, and here bank.name 'auto' is {here!r}: set "
                f"TFDS_DATA_DIR (or bank.data_dir) as it was then, or --set bank.name={here} for runs on that one too"
            )


def _check_taken(sweep: Sweep) -> None:
    """Each stage must be there for something."""
    for name in sweep.sheet.stages:
        wanted = f"{STAGE}{name}"
        if not any(wanted in _taken_by(each) for each in sweep.in_order()):
            raise ValueError(
                f'stage {name!r}: nothing that comes after takes anything from it; set init_from.run to "{wanted}", or '
                f'bank.name to "{FEATURES}" and bank.path to "{wanted}", or leave the stage out'
            )


def _taken_by(sweep: Sweep) -> set[str]:
    """The stages that a sweep's config or points name."""
    fields = ("init_from.run", "bank.path")
    stated = {sweep.sheet.config.init_from.run, sweep.sheet.config.bank.path}
    return stated | {str(point.changes.get(field)) for point in sweep.sheet.points for field in fields}


def _as_planned(cells: list[Cell], folder: Folder) -> list[Cell]:
    """The cells under the ids they have in the plan: an earlier version's (`config.cell_id`) where a population of as
    many batch shards has them by that."""
    planned = {id_: population.batch_shards for population in folder.plan() for id_ in population.cells}
    former = [cell for cell in cells if cell.id not in planned and planned.get(cell.former) == cell.group.shards]
    if former:
        warnings.warn(
            f"{folder.directory}: {len(former)} cells have ids from before the number of batch shards was part of an "
            "id, though their batch statistics depend on it; they are taken for those of the shards they were planned "
            "with",
            stacklevel=3,
        )
    return [dataclasses.replace(cell, id=cell.former) if cell in former else cell for cell in cells]
