"""Stages: a sweep whose runs take something from the runs of another grid, which are trained first.

def get_stages(scale):
    return {"grow": Stage(grow_config(), GROWN)}

A later config says what it takes: `config.init_from.run = "stage:grow"` starts each of its runs from the parameters of
one of that stage's, `config.bank.name, config.bank.path = "features", "stage:encoders"` reads what the encoder of one
makes of its bank. Which one: the run with the same labels and seeds, as far as the earlier stage varies them
(`grid.follow`). What it takes is part of a run's id, so that all stages are planned before one is trained.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from icl_jax.claims.units import same_label
from icl_jax.data.banks import load_bank
from icl_jax.data.features import SOURCE as BANK
from icl_jax.members import Member
from icl_jax.names import few, suggest
from icl_jax.registry import find
from icl_jax.runs.initial import STAGE, how, parse_rules
from icl_jax.runs.transfer import num_features
from icl_jax.storage.checkpoint import keep_policy

if TYPE_CHECKING:
    from icl_jax.sweep.cells import Cell

START = "start"  # of `config.Member.sources`: the checkpoint it starts from
FEATURES = "features"  # the bank


@dataclasses.dataclass(frozen=True, eq=False)
class Earlier:
    """The runs of an earlier stage, and the directory in which it lies as a sweep."""

    name: str
    cells: "list[Cell]"
    directory: pathlib.Path

    def cell_for(self, labels: Mapping[str, float | str], member: Member) -> "Cell":
        """Returns the run that one with these labels and seeds takes from: it has the same labels, as far as the stage
        varies them, and, as far as several are left, the same seeds. ValueError where there is none, or more than one.
        """
        left = self.cells
        for label in dict.fromkeys(name for cell in self.cells for name in cell.labels):
            there = {cell.labels.get(label) for cell in left}
            if len(there) > 1 and label in labels:
                left = [cell for cell in left if same_label(cell.labels.get(label), labels[label])]
                self._check_any(left, f"{label} {labels[label]}", there)
        for stream in ("init", "split", "data"):
            there = {cell.member.seeds[stream] for cell in left}
            if len(there) > 1:
                left = [cell for cell in left if cell.member.seeds[stream] == member.seeds[stream]]
                self._check_any(left, f"seeds.{stream} {member.seeds[stream]}", there)
        if len(left) > 1:
            names = [n for n in left[0].labels if len({cell.labels.get(n) for cell in left}) > 1]
            raise ValueError(
                f"stage {self.name!r}: {len(left)} of its runs could be the one that is meant, as they differ in "
                f"{', '.join(names) or 'seeds.eval alone'}; repeat that in the later grid, with grid.follow(...)"
            )
        return left[0]

    def _check_any(self, left: list, what: str, there: set) -> None:
        if not left:
            raise ValueError(f"stage {self.name!r} has no run with {what}, but {few(sorted(map(str, there)))}")


def stage_of(text: str, stages: Mapping[str, Earlier]) -> Earlier | None:
    """Returns the stage that a field names ("stage:NAME"), None where it names none. ValueError for an unknown one."""
    if not text.startswith(STAGE):
        return None
    name = text.removeprefix(STAGE)
    if name not in stages:
        known = suggest(name, stages) if stages else "; none does here: get_stages() of the config file states them"
        raise ValueError(f"{text!r}: no stage of that name comes before{known}")
    return stages[name]


def bank_fields(config: ConfigDict, stages: Mapping[str, Earlier]) -> dict[str, str | int]:
    """Returns the fields of section bank that a stage's features decide: where they will lie, and their sizes."""
    earlier = stage_of(config.bank.path, stages)
    if (config.bank.name == FEATURES) != (earlier is not None):
        raise ValueError(
            f"bank.name {config.bank.name!r} with bank.path {config.bank.path!r}: features come from an earlier stage; "
            'use bank.name "features" with bank.path "stage:NAME"'
        )
    if earlier is None:
        return {}
    specs = list(dict.fromkeys(cell.group.spec for cell in earlier.cells))
    banks = [load_bank(spec.bank) for spec in specs if "bank" in find("source", spec.parts.source).parts]
    if len(banks) < len(specs) or any(bank.item_kind != "image" for bank in banks):
        raise ValueError(f"stage {earlier.name!r}: only encoders of images are applied to their bank")
    sizes = {(b.num_classes, b.num_exemplars, num_features(s)) for b, s in zip(banks, specs, strict=True)}
    if len(sizes) > 1:
        raise ValueError(f"stage {earlier.name!r}: its features have several sizes, {few(sorted(map(str, sizes)))}")
    num_classes, num_exemplars, width = sizes.pop()
    where = str(earlier.directory / FEATURES)
    return {"path": where, "num_classes": num_classes, "num_exemplars": num_exemplars, "dim": width}


def sources_of(
    config: ConfigDict, labels: Mapping[str, float | str], member: Member, stages: Mapping[str, Earlier]
) -> dict[str, str]:
    """Returns what a run takes from earlier stages (`config.Member.sources`). config: as it was stated, with the
    stages' names."""
    sources = {}
    if earlier := stage_of(config.init_from.run, stages):
        cell = earlier.cell_for(labels, member)
        _check_split(earlier.name, cell, member)
        rules = tuple(config.init_from.leaves)
        parse_rules(rules)
        sources[START] = f"{cell.id} {_step(earlier.name, cell, config.init_from.step)}" + how(
            config.init_from.optimiser, rules
        )
    if earlier := stage_of(config.bank.path, stages):
        cell = earlier.cell_for(labels, member)
        sources[BANK] = f"{cell.id} {cell.steps}"
    return sources


def _step(name: str, cell: "Cell", asked: int) -> int:
    """The step that is taken, of a checkpoint that stays."""
    kept = cell.group.config.checkpoint
    keep = keep_policy(tuple(kept.keep_steps), kept.keep_every, kept.keep_log, interval=kept.every)
    if asked in (-1, cell.steps):
        return cell.steps
    if not (0 <= asked < cell.steps and asked % kept.every == 0 and keep(asked)):
        raise ValueError(
            f"init_from.step {asked}: stage {name!r} ends at step {cell.steps} and keeps no checkpoint of that one; "
            "name it in the stage's checkpoint.keep_steps"
        )
    return asked


def _check_split(name: str, cell: "Cell", member: Member) -> None:
    """Classes held out from the earlier run must not be trained on by the later one."""
    there, here = cell.member.seeds["split"], member.seeds["split"]
    if there != here:
        raise ValueError(
            f"seeds.split {here}, and {there} in the run of stage {name!r} that it starts from: other classes would be "
            "held out; use the same"
        )
