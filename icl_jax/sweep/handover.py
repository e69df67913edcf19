"""What a population takes from earlier stages of its sweep before it trains: parameters and learned features."""

import dataclasses
import itertools
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from icl_jax.data.features import SOURCE as BANK
from icl_jax.data.features import file_name
from icl_jax.data.vectors import load_embeddings
from icl_jax.members import Member
from icl_jax.runs.api import load_run
from icl_jax.runs.initial import STAGE, keeps_seed, parts_of, taken_over
from icl_jax.runs.runplan import Start
from icl_jax.runs.transfer import embed
from icl_jax.spec import BankSpec
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.storage.paths import children
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

    @property
    def keeps_seed(self) -> bool:
        return keeps_seed(self.how.leaves)

    def apply(self, fresh: MemberState) -> MemberState:
        """See `Origin`."""
        found = self._found([_cell_and_step(member.sources[START]) for member in self.members])
        parts = [parts_of(state, self.how.optimiser) for state in found]
        alike: dict[str, list[int]] = {}  # members whose parts have the same shapes
        for index, part in enumerate(parts):
            alike.setdefault(str(jax.tree.map(np.shape, part)), []).append(index)
        states, order = [], []
        for mine in alike.values():
            theirs = jax.tree.map(lambda *x: np.stack(x), *(parts[index] for index in mine))
            some = jax.tree.map(lambda x, mine=mine: _of_members(x, mine), fresh)
            states.append(taken_over(some, theirs, self.how.leaves, f"stage {self.folder.name!r}"))
            order += mine
        if isinstance(fresh.diverged, jax.ShapeDtypeStruct):
            return fresh
        state = jax.tree.map(lambda *x: np.concatenate(x)[np.argsort(order)], *states)
        diverged = np.stack([state["diverged"] for state in found])
        kept = np.where(diverged == RUNNING, np.asarray(fresh.diverged), 0).astype(np.int32)
        return dataclasses.replace(state, diverged=kept)

    def _found(self, cells: list[tuple[str, int]]) -> list[dict]:
        """The states of the cells, in their order; each population's checkpoint is read once."""
        where = _places(self.folder)
        places = [_place(self.folder, where, cell) for cell, _ in cells]
        wanted = [(run, index, step) for (run, index), (_, step) in zip(places, cells, strict=True)]
        read = {at: self._restored(*at) for at in dict.fromkeys((run, step) for run, _, step in wanted)}
        return [jax.tree.map(lambda x, index=index: x[index], read[run, step]) for run, index, step in wanted]

    def _restored(self, run: str, step: int) -> dict:
        """The state of a population at a step. A damaged checkpoint is set aside: the stage then lacks it, and makes it
        again when the sweep is run next."""
        checkpoints = Checkpoints(self.folder.run_directory(run) / "checkpoints")
        try:
            return checkpoints.restore(step=step)[1]
        except DamagedCheckpoint as fault:
            with self.folder.claim(run) as claimed:
                if claimed:
                    checkpoints.set_aside_damaged()
            raise ValueError(
                f"stage {self.folder.name!r}, population {run}: {fault}; that is set aside, and the same command makes "
                "it again"
            ) from None


def _of_members(leaf, members: list[int]):
    """An array, or a shape, of some members."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(members), *leaf.shape[1:]), leaf.dtype)
    return np.asarray(leaf)[members]


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
    good: set[pathlib.Path] = set()
    with GracefulStop() as stop:
        while missing := [file for file in files if not _is_good(file, good)]:
            if stop.requested:
                return False
            with stage.claim(f"features-{missing[0].stem}") as claimed:
                if claimed and not _is_good(missing[0], good):
                    cell, step = files[missing[0]]
                    run, index = _place(stage, _places(stage), cell)
                    embed(load_run(stage.run_directory(run)), missing[0], member=index, step=step)
            if not claimed:
                time.sleep(POLL_S)
    return True


def _is_good(file: pathlib.Path, good: set[pathlib.Path]) -> bool:
    """Whether a file of features is there and reads. good: those that did, which are not read again."""
    if file.is_file() and file not in good:
        try:
            load_embeddings(BankSpec(path=str(file)), file)
            good.add(file)
        except ValueError as fault:
            warnings.warn(f"{fault}: it is made again", stacklevel=3)
            return False
    return file in good


def taken_steps(stage: Folder) -> dict[str, dict[int, bool]]:
    """Returns the steps at which later stages take a stage's cells, by cell, as far as they are planned, and whether
    the checkpoint is needed still: by a population that is not done, for more than features that are made."""
    taken: dict[str, dict[int, bool]] = {}
    for later in map(Folder, [stage.whole, *children(stage.whole / "stages")]):
        for planned in later.plan():
            is_open = not later.done_file(planned.id).is_file()
            for what, source in itertools.chain.from_iterable(m.sources.items() for m in planned.members):
                cell, step = _cell_and_step(source)
                is_made = what == BANK and (stage.directory / FEATURES / file_name(source)).is_file()
                steps = taken.setdefault(cell, {})
                steps[step] = steps.get(step, False) or (is_open and not is_made)
    return taken


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
