"""What a population takes from earlier stages of its sweep before it trains: parameters and learned features."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from icl_jax.data.features import SOURCE as BANK
from icl_jax.data.features import file_name
from icl_jax.members import Member
from icl_jax.runs.api import load_run
from icl_jax.runs.initial import STAGE, parts_of, taken_over
from icl_jax.runs.runplan import Start
from icl_jax.runs.transfer import embed
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.stages import FEATURES, START
from icl_jax.training.signals import GracefulStop
from icl_jax.training.step import RUNNING, MemberState

POLL_S = 1.0  # between looks at features that another worker makes


@dataclasses.dataclass(frozen=True)
class OfStage:
    """The start of a population whose members each begin as a cell of an earlier stage (`icl_jax.runs.initial.Origin`).

    A member whose cell had diverged has diverged before its first step. folder: of the stage; how: what
    config.init_from says. Nothing of it is in `text`, as it stands in the members' sources.
    """

    folder: Folder
    members: Sequence[Member]
    how: Start
    text: str = ""

    def apply(self, fresh: MemberState) -> MemberState:
        cells = [_cell_and_step(member.sources[START]) for member in self.members]
        parts, diverged = self._gathered(cells)
        state = taken_over(fresh, parts, self.how.leaves, f"stage {self.folder.name!r}")
        if isinstance(fresh.diverged, jax.ShapeDtypeStruct):
            return state
        kept = np.where(diverged == RUNNING, np.asarray(fresh.diverged), 0).astype(np.int32)
        return dataclasses.replace(state, diverged=kept)

    def _gathered(self, cells: list[tuple[str, int]]) -> tuple[dict, np.ndarray]:
        """The parts that are taken over and the step of divergence, of the cells in their order; each population's
        checkpoint is read once."""
        where = _places(self.folder)
        places = [_place(self.folder, where, cell) for cell, _ in cells]
        read: dict[tuple[str, int], dict] = {}
        for (run, _), (_, step) in zip(places, cells, strict=True):
            if (run, step) not in read:
                read[run, step] = Checkpoints(self.folder.run_directory(run) / "checkpoints").restore(step=step)[1]
        one = lambda run, index, step: jax.tree.map(lambda x: x[index], read[run, step])
        found = [one(*place, step) for place, (_, step) in zip(places, cells, strict=True)]
        parts = [parts_of(state, self.how.optimiser) for state in found]
        return jax.tree.map(lambda *x: np.stack(x), *parts), np.stack([state["diverged"] for state in found])


def origin_of(folder: Folder, members: Sequence[Member], how: Start) -> OfStage | None:
    """Returns where the members of a population of a sweep start, None where no earlier stage says."""
    if not any(START in member.sources for member in members):
        return None
    return OfStage(folder.stage(how.run.removeprefix(STAGE)), members, how)


def waits_for(folder: Folder, members: Sequence[Member], how: Start, features: str) -> list[str]:
    """Returns the populations of earlier stages, as STAGE/ID, that lack what the members take and may yet come: those
    that have failed, and that nobody works on, do not count."""
    needed: dict[tuple[Folder, str], set[int]] = {}  # (stage, population) -> steps
    where: dict[Folder, dict[str, tuple[str, int]]] = {}
    for stage, cell, step in _taken(folder, members, how, features):
        if stage not in where:
            where[stage] = _places(stage)
        needed.setdefault((stage, where[stage].get(cell, ("not planned", 0))[0]), set()).add(step)
    missing = [
        (stage, run)
        for (stage, run), steps in needed.items()
        if not steps <= set(Checkpoints(stage.run_directory(run) / "checkpoints").steps())
    ]
    return [f"{stage.name}/{run}" for stage, run in missing if stage.claimed(run) or stage.failure(run) is None]


def make_features(folder: Folder, members: Sequence[Member], features: str) -> bool:
    """Makes the learned features that the members read and that are not there, of the stage of that name. Of several
    workers one makes a file; the others wait for it. Returns False when a signal stopped it."""
    sources = dict.fromkeys(member.sources[BANK] for member in members if BANK in member.sources)
    stage = folder.stage(features)
    files = {stage.directory / FEATURES / file_name(source): _cell_and_step(source) for source in sources}
    where = _places(stage) if any(not file.is_file() for file in files) else {}
    with GracefulStop() as stop:
        while missing := [file for file in files if not file.is_file()]:
            if stop.requested:
                return False
            with stage.claim(f"features-{missing[0].stem}") as claimed:
                if claimed and not missing[0].is_file():
                    cell, step = files[missing[0]]
                    run, index = _place(stage, where, cell)
                    embed(load_run(stage.run_directory(run)), missing[0], member=index, step=step)
            if not claimed:
                time.sleep(POLL_S)
    return True


def _taken(folder: Folder, members: Sequence[Member], how: Start, features: str):
    """(stage, cell, step) of all that the members take."""
    stages = {START: how.run.removeprefix(STAGE), BANK: features}
    for member in members:
        for what, source in member.sources.items():
            yield folder.stage(stages[what]), *_cell_and_step(source)


def _cell_and_step(source: str) -> tuple[str, int]:
    cell, step, *_ = source.split()
    return cell, int(step)


def _places(stage: Folder) -> dict[str, tuple[str, int]]:
    """The population of each cell that is planned, and its place there."""
    return {cell: (planned.id, i) for planned in stage.plan() for i, cell in enumerate(planned.cells)}


def _place(stage: Folder, where: Mapping[str, tuple[str, int]], cell: str) -> tuple[str, int]:
    """The population that has a cell, and its place there. ValueError where there is none, or it has failed."""
    if cell not in where:
        raise ValueError(f"stage {stage.name!r} has no run {cell}: `icl sweep run` trains it first")
    run, index = where[cell]
    if failure := stage.failure(run):
        raise ValueError(f"stage {stage.name!r}: population {run} failed, {failure['error']}")
    return run, index
