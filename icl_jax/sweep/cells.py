"""The runs of a sweep: each point of a grid as a cell with a stable id, grouped by spec."""

import dataclasses
import json

from ml_collections import ConfigDict

from icl_jax import config as cfg
from icl_jax import hypers as hy
from icl_jax.data.banks import load_bank
from icl_jax.experiment import resolved
from icl_jax.initial import read_origin
from icl_jax.sweep.grid import Grid, Point

SWEPT = (*cfg.ROOMS, "hypers", "seeds", "init_from")  # rooms of the config that points may change
MEMBER = ("hypers", "seeds")  # of these, what differs between the members of one population


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Cells that share a spec. config: resolved; key: what distinguishes it; origin: see `config.cell_id`."""

    key: str
    config: ConfigDict
    bank_digest: str
    origin: str


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One run. id: 16 hex digits, the same in every sweep that has this run."""

    id: str
    labels: dict[str, float | str]
    member: cfg.Member
    group: Group


def expand(config: ConfigDict, points: Grid) -> list[Cell]:
    """Returns the cells of a grid, in its order.

    A config whose hypers are tuples or that has several seeds multiplies every point by its own product.
    ValueError for unknown fields, for a field that a sweep cannot vary, and for two points that are one run.
    """
    if not points:
        raise ValueError("the sweep has no point: get_sweep() must return at least one, such as grid.Point()")
    groups: dict[str, Group] = {}
    cells = [cell for point in points for cell in _cells(config, point, groups)]
    _check_distinct(cells)
    return cells


def _cells(config: ConfigDict, point: Point, groups: dict[str, Group]) -> list[Cell]:
    fields = _by_room(config, point)
    static = {path: value for path, value in point.changes.items() if path.partition(".")[0] not in MEMBER}
    key = json.dumps(static, sort_keys=True, default=str)
    if key not in groups:
        groups[key] = _group(key, cfg.override(config, static))
    group = groups[key]
    members = cfg.members_of(group.config, fields["hypers"], fields["seeds"])
    varied = cfg.varied(members)
    found = []
    for member in members:
        own = {name: float(hy.last(member.hypers[name])) for name in varied}
        id_ = cfg.cell_id(group.config, member, group.bank_digest, group.origin)
        found.append(Cell(id_, {**own, **point.labels}, member, group))
    return found


def _by_room(config: ConfigDict, point: Point) -> dict[str, dict]:
    """A point's changes by room of the config, each field checked."""
    rooms: dict[str, dict] = {room: {} for room in SWEPT}
    for path, value in point.changes.items():
        room, *rest = cfg.check_field(config, path)
        if room not in rooms or len(rest) != 1:
            raise ValueError(f"a sweep cannot vary {path!r}: it can vary fields of {', '.join(SWEPT)}")
        rooms[room][rest[0]] = value
    for name, value in rooms["hypers"].items():
        if len(hy.entries(name, value)) > 1:
            raise ValueError(f"a point sets hypers.{name} = {value}: one value (or schedule) a point; use grid.over")
    return rooms


def _group(key: str, config: ConfigDict) -> Group:
    config = resolved(config)
    start = read_origin(config)
    return Group(key, config, load_bank(cfg.build_room(config, "bank")).digest, start.text if start else "")


def _check_distinct(cells: list[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in seen:
            raise ValueError(
                f"two points of the sweep are the same run: {describe_cell(seen[cell.id])} and {describe_cell(cell)}; "
                "leave one out, or give them different seeds"
            )
        seen[cell.id] = cell


def describe_cell(cell: Cell) -> str:
    """Returns a cell's labels and seed as a short text."""
    labels = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in cell.labels.items()
    )
    return f"{labels or 'all'} (seed {cell.member.seeds['init']})"
