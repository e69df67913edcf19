"""The plan of a sweep: which cells train together. Written once, kept, added to; never changed.

A population's numbers hang on its members and its layout, so these are frozen. What may grow later (steps,
evals, checkpoints) comes from the config at hand.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from icl_jax.members import Member
from icl_jax.runs import config as cfg
from icl_jax.runs import rundir
from icl_jax.runs.experiment import Experiment, prepare_experiment
from icl_jax.runs.initial import parts_of, taken_over
from icl_jax.runs.runplan import start_of
from icl_jax.sweep.cells import Cell, Group
from icl_jax.sweep.memory import budget, fitting_width
from icl_jax.training.population import abstract_state


@dataclasses.dataclass(frozen=True)
class Planned:
    """One population of the plan. cells: ids, one per member; devices, batch_shards: the layout; bytes: needed on
    one device, by the compiler."""

    id: str
    cells: tuple[str, ...]
    members: tuple[Member, ...]
    devices: int
    batch_shards: int
    bytes: int

    def to_json(self) -> dict:
        """Returns plain JSON values."""
        return dataclasses.asdict(self) | {"members": rundir.members_to_json(list(self.members))}


def planned_from_json(fields: dict) -> Planned:
    """Returns the population of `Planned.to_json`."""
    members = tuple(rundir.members_from_json(fields["members"]))
    return Planned(**(fields | {"members": members, "cells": tuple(fields["cells"])}))


def group_cells(cells: Iterable[Cell]) -> list[tuple[Group, list[Cell]]]:
    """Returns the cells by group, in order."""
    by_group: dict[str, list[Cell]] = {}
    for cell in cells:
        by_group.setdefault(cell.group.key, []).append(cell)
    return [(found[0].group, found) for found in by_group.values()]


def make_plan(
    cells: list[Cell], most: int = 0, note: Callable[[str], None] = lambda text: None, compiles: bool = True
) -> list[Planned]:
    """Returns populations that hold the cells, each sized to the memory of a device.

    most: members of a population at most (0: as many as fit). note: is told what is being worked out. compiles: ask the
    compiler for the memory, not an estimate.
    ValueError when a cell cannot run, before anything is written.
    """
    groups = group_cells(cells)
    for group, mine in groups:
        _experiment(group, mine)  # all are checked before one is compiled
    return [planned for group, mine in groups for planned in _plan_group(group, mine, most, note, compiles)]


def _experiment(group: Group, cells: list[Cell]) -> Experiment:
    members = [cell.member for cell in cells]
    return prepare_experiment(group.config, origin=group.origin, members=members, planning=True)


def _plan_group(group: Group, cells: list[Cell], most: int, note, compiles: bool) -> list[Planned]:
    """most: as in `make_plan`; the widest population allowed is the one whose memory is looked up, in its layout."""
    widest = max(_even(len(cells), most or len(cells)))
    experiment = _experiment(group, cells[:widest])
    layout = experiment.program.layout
    note(f"memory of {widest} members of {experiment.program.spec.model.core}")
    width, needed = fitting_width(experiment, budget(layout.num_devices), compiles)
    sizes = _even(len(cells), min(width * layout.num_groups, widest))
    return [_planned(part, layout, needed) for part in _parts(cells, sizes)]


def check_start(cell: Cell, earlier: Cell) -> None:
    """Raises ValueError or CheckpointError where a run cannot start from the parameters of an earlier one."""
    fresh, found = (abstract_state(_experiment(c.group, [c]).population()) for c in (cell, earlier))
    zeros = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), found)
    how = start_of(cell.group.config)
    parts = {name: getattr(zeros, name) for name in parts_of({}, how.optimiser)}
    taken_over(fresh, parts, how.leaves, f"a run of {how.run!r}")


def _planned(cells: list[Cell], layout, needed: int) -> Planned:
    ids = tuple(cell.id for cell in cells)
    members = tuple(cell.member for cell in cells)
    return Planned(cfg.identity(ids), ids, members, layout.num_devices, layout.batch_shards, needed)


def _even(total: int, most: int) -> list[int]:
    """Sizes of the fewest parts of at most `most`, as equal as can be."""
    parts = -(-total // most)
    return [total // parts + (i < total % parts) for i in range(parts)]


def _parts(cells: list[Cell], sizes: list[int]) -> list[list[Cell]]:
    ends = list(itertools.accumulate(sizes))
    return [cells[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def halves(planned: Planned) -> list[Planned]:
    """Returns the two populations that take the place of one that ran out of memory.

    ValueError when it has a single member.
    """
    if len(planned.cells) < 2:
        raise ValueError("a single member runs out of memory: use a smaller model or batch, or another machine")
    middle = -(-len(planned.cells) // 2)
    parts = [slice(None, middle), slice(middle, None)]
    return [
        dataclasses.replace(
            planned,
            id=cfg.identity(planned.cells[part]),
            cells=planned.cells[part],
            members=planned.members[part],
            bytes=planned.bytes // 2,
        )
        for part in parts
    ]
