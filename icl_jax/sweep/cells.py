"""The runs of a sweep: each point of a grid as a cell with a stable id, grouped by spec."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax.members import Member, same_run, varied
from icl_jax.names import suggest
from icl_jax.patches import NUMBERS
from icl_jax.registry import fields_read, find, load, unread_fields
from icl_jax.runs import config as cfg
from icl_jax.runs.initial import STAGE, keeps_seed, read_origin
from icl_jax.runs.runplan import concrete, start_of
from icl_jax.spec import SECTIONS, RunSpec
from icl_jax.sweep import grid
from icl_jax.sweep.grid import Grid, Point
from icl_jax.sweep.stages import Earlier, bank_fields, sources_of

# sections of the config that points may change
SWEPT = (*SECTIONS, "parts", "options", "patches", "hypers", "seeds", "init_from")
_DEEP = ("options", "patches")  # of these, those whose fields are in sections of their own


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Cells that share a spec (without its suites). config: concrete; key: what distinguishes it; origin: see
    `config.cell_id`; is_seeded: whether their init seeds decide anything, as they do not where all parameters are
    taken from one place."""

    key: str
    config: ConfigDict
    spec: RunSpec
    data_digest: str
    origin: str
    is_seeded: bool

    @property
    def shards(self) -> int:
        """Devices that share a batch where they are part of what a run is, else 0."""
        return (self.config.runtime.batch_shards or 1) if cfg.counts_shards(self.spec) else 0


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One run. id: 16 hex digits, the same in every sweep that has this run; former: its id by schema 1 (see
    `config.cell_id`)."""

    id: str
    former: str
    labels: dict[str, float | str]
    member: Member
    group: Group

    @property
    def steps(self) -> int:
        return self.group.config.train.num_steps


def expand(config: ConfigDict, points: Grid, stages: Mapping[str, Earlier] | None = None) -> list[Cell]:
    """Returns the cells of a grid, in its order. stages: those that come before, from which they may take something.

    A config whose hypers are tuples or that has several seeds multiplies every point by its own product. Cells
    that share a spec get room in the program for all of them (ways, multiplicity), which is part of their ids.
    ValueError for unknown fields, for a field that a sweep cannot vary, and for two points that are one run.
    """
    if not points:
        raise ValueError("the sweep has no point: get_sweep() must return at least one, such as grid.Point()")
    runs = [run for point in points for run in _runs(config, point)]
    by_key: dict[str, list[_Run]] = {}
    for run, own in zip(runs, _agreeing([run.labels for run in runs]), strict=True):
        by_key.setdefault(run.key, []).append(dataclasses.replace(run, labels=own))
    made = {key: _cells(config, mine, stages or {}) for key, mine in by_key.items()}
    in_turn = {key: iter(cells) for key, cells in made.items()}
    cells = [next(in_turn[run.key]) for run in runs]
    _check_distinct(cells)
    _check_fields(list(dict.fromkeys(cell.group for cell in cells)))
    return cells


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """A cell on its way. static: changes that decide the group; key: these as a text."""

    key: str
    static: dict
    member: Member
    labels: dict[str, float | str]


def _runs(config: ConfigDict, point: Point) -> list[_Run]:
    point = Point({path: _plain(value) for path, value in point.changes.items()}, point.labels)
    fields = _by_section(config, point)
    _check_patches(config, fields["patches"])
    static = {path: value for path, value in point.changes.items() if not _is_of_member(path)}
    key = json.dumps(static, sort_keys=True, default=str)
    own = {f"patches.{path}": value for path, value in fields["patches"].items()}
    members = cfg.members_of(cfg.override(config, own), fields["hypers"], fields["seeds"])
    differ = varied(members)
    names = {name: _names([m.hypers[name] for m in members]) for name in differ}
    return [
        _Run(key, static, m, {**{name: names[name][m.hypers[name]] for name in differ}, **point.labels})
        for m in members
    ]


def _check_patches(config: ConfigDict, changes: dict) -> None:
    """A point must not give numbers to a patch that nowhere gets a site: without one there is no patch."""
    for name in dict.fromkeys(path.partition(".")[0] for path in changes):
        stated = config.patches.get(name, {})
        if not stated.get("site") and f"{name}.site" not in changes:
            known = suggest(name, config.patches) if config.patches else ""
            raise ValueError(f"patches.{name} has no site{known}: state the patch in the config, or vary its site too")


def _is_of_member(path: str) -> bool:
    """Whether members of one population may differ in a field."""
    section, *rest = path.split(".")
    return section in ("hypers", "seeds") or (section == "patches" and rest[-1] in NUMBERS)


def _plain(value):
    """Numpy's numbers as Python's, which configs take."""
    return value.item() if isinstance(value, np.generic) else value


def _names(entries: list[hy.Entry]) -> dict[hy.Entry, float | str]:
    """Labels of a hyper's values: a schedule is known by where it ends, unless another ends there too."""
    ends: dict[hy.Entry, float | str] = {entry: float(hy.last(entry)) for entry in entries}
    return ends if len(set(ends.values())) == len(ends) else {entry: grid.label_of(entry) for entry in entries}


def _agreeing(labels: list[dict[str, float | str]]) -> list[dict[str, float | str]]:
    """Labels in which a quantity is a number everywhere or, where it has a name anywhere, a text everywhere."""
    mixed = {name for own in labels for name, value in own.items() if isinstance(value, str)}
    text = lambda value: value if isinstance(value, str) else f"{value:g}"
    return [{n: text(v) if n in mixed else v for n, v in own.items()} for own in labels]


def _cells(config: ConfigDict, runs: list[_Run], stages: Mapping[str, Earlier]) -> list[Cell]:
    """The cells of runs that share a spec."""
    stated = cfg.override(config, runs[0].static)
    group = _group(runs[0].key, stated, [run.member for run in runs], bank_fields(stated, stages))
    cells = []
    for run in runs:
        member = dataclasses.replace(run.member, sources=sources_of(stated, run.labels, run.member, stages))
        about = (group.spec, member, group.data_digest, group.origin)
        id_, former = (cfg.cell_id(*about, shards=group.shards, schema=schema) for schema in (cfg.SCHEMA, 1))
        cells.append(Cell(id_, former, run.labels, member, group))
    seeds = cfg.decisive_seeds(group.spec, initialised=False)
    if not group.is_seeded and (same := same_run([cell.member for cell in cells], seeds)):
        one, other = (describe_cell(cells[index]) for index in same)
        raise ValueError(
            f"two points of the sweep are the same run: {one} and {other} take all their parameters from one place "
            "(init_from), and seeds.init decides nothing then; leave one out, or give them different data seeds"
        )
    return cells


def _by_section(config: ConfigDict, point: Point) -> dict[str, dict]:
    """A point's changes by section of the config, each field checked."""
    sections: dict[str, dict] = {name: {} for name in SWEPT}
    for path, value in point.changes.items():
        section, *rest = cfg.check_field(config, path)
        if section not in sections or len(rest) != (2 if section in _DEEP else 1):
            raise ValueError(f"a sweep cannot vary {path!r}: it can vary fields of {', '.join(SWEPT)}")
        sections[section][".".join(rest)] = value
    for name, value in sections["hypers"].items():
        if len(hy.entries(name, value)) > 1:
            raise ValueError(f"a point sets hypers.{name} = {value}: one value (or schedule) a point; use grid.over")
    return sections


def _group(key: str, config: ConfigDict, members: list[Member], bank: dict) -> Group:
    """bank: fields that an earlier stage decides."""
    config = config.copy_and_resolve_references()
    config.bank.update(bank)
    config = cfg.with_room(concrete(config), members)
    spec, start, is_seeded = cfg.run_spec(config), None, keeps_seed(tuple(config.init_from.leaves))
    if not config.init_from.run.startswith(STAGE):
        start = read_origin(start_of(config))
        is_seeded = start is None or start.keeps_seed
    if start:
        config.init_from.step = start.step  # the run may go on meanwhile, and the newest is another start then
    data_digest = load(find("source", spec.parts.source).digest)(spec)
    return Group(key, config, spec, data_digest, start.text if start else "", is_seeded)


def _check_distinct(cells: list[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in seen:
            raise ValueError(
                f"two points of the sweep are the same run: {describe_cell(seen[cell.id])} and {describe_cell(cell)}; "
                "leave one out, or give them different seeds (the eval seed alone makes no other run)"
            )
        seen[cell.id] = cell


def _check_fields(groups: list[Group]) -> None:
    """A field that is set must be read by some spec of the sweep: one that compares architectures states what each
    needs. And two specs must not differ in fields alone that neither reads: they would be one run."""
    unread = {group: unread_fields(group.spec) for group in groups}
    read = set().union(*(fields_read(group.spec) for group in groups))
    for name, why in {name: why for found in unread.values() for name, why in found.items()}.items():
        if not {name, name.partition(".")[0]} & read:
            raise ValueError(f"{name} is set, and nothing here reads it ({why}); leave it out")
    seen: dict[str, Group] = {}
    for group, silent in unread.items():
        changes = json.dumps({n: v for n, v in json.loads(group.key).items() if n not in silent}, sort_keys=True)
        if (other := seen.setdefault(changes, group)) is not group:
            fields = ", ".join(dict.fromkeys([*silent, *unread[other]]))
            raise ValueError(f"points that differ in {fields} alone are the same run: nothing reads that there")


def describe_cell(cell: Cell) -> str:
    """Returns a cell's labels and seed as a short text."""
    labels = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in cell.labels.items()
    )
    return f"{labels or 'all'} (seed {cell.member.seeds['init']})"
