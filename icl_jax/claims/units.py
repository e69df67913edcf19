"""Which runs a setting picks out of a sweep, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icl_jax.names import label_of, suggest

Value = float | str | None
Setting = Mapping[str, Value]
Unit = tuple[tuple[str, int | None], ...]


class Undecidable(ValueError):
    """A claim cannot be judged on these runs; says what is missing and the way out."""


@dataclass(frozen=True)
class LabelledRun:
    """A run as settings see it. last: its last step with results, -1 before; end: where it ends, -1 if not known."""

    labels: Mapping[str, Value]
    seeds: Mapping[str, int]
    last: int = -1
    end: int = -1


PlannedRuns = Mapping[str, tuple[Mapping[str, Value], Mapping[str, int], int]]


def planned_cells(planned: PlannedRuns) -> dict[str, LabelledRun]:
    """Returns planned cells, {cell: (labels, seeds, steps)}, as a results table has them: each with every label."""
    names = dict.fromkeys(name for labels, *_ in planned.values() for name in labels)
    full = lambda labels: normalised({name: labels.get(name) for name in names})
    return {cell: LabelledRun(full(labels), seeds, end=steps) for cell, (labels, seeds, steps) in planned.items()}


def normalised(setting: Setting) -> dict[str, Value]:
    """Returns a setting with its values as labels have them: numbers as float, other things as text.

    None picks the runs that have no such label (a chain of grids).
    """
    if not isinstance(setting, Mapping):
        raise ValueError(f"setting {setting!r} is no dict of labels; write it as {{label: value}}")
    return {name: value if value is None else label_of(value) for name, value in setting.items()}


def show(setting: Setting) -> str:
    """Returns "p_bursty 0.9, classes 100"; "" for the setting that picks every run."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in setting.items())


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _matches(labels: Mapping[str, Value], setting: Setting) -> bool:
    return all(same_label(labels.get(name), value) for name, value in setting.items())


def same_label(a: Value, b: Value) -> bool:
    """Returns whether two labels are equal, numbers to 1e-9, so that 0.1 * 3 is 0.3. Where one value of a quantity has
    a name, its numbers are texts too."""
    if a is None or b is None:
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return _shown(a) == _shown(b)
    return math.isclose(a, b, rel_tol=1e-9)


def streams(cells: Mapping[str, LabelledRun]) -> tuple[str, ...]:
    """Returns the seeds that vary: together they make the unit of replication."""
    names = dict.fromkeys(name for cell in cells.values() for name in cell.seeds)
    return tuple(n for n in names if len({cell.seeds.get(n) for cell in cells.values()}) > 1)


def matching(cells: Mapping[str, LabelledRun], setting: Setting, also: Sequence[str] = ()) -> dict[str, LabelledRun]:
    """Returns the runs of a setting. Undecidable where there are none, or for a label, here or in `also`,
    that no run has."""
    if not cells:
        raise Undecidable("no run has results yet")
    known = {name for cell in cells.values() for name in cell.labels}
    for name in (*setting, *also):
        if name not in known:
            hint = suggest(name, known) if known else "; the sweep has no labels"
            raise Undecidable(f"no label {name!r}{hint}")
    found = {name: cell for name, cell in cells.items() if _matches(cell.labels, setting)}
    if not found:
        raise Undecidable(_absent(setting, cells))
    return found


def pick(cells: Mapping[str, LabelledRun], setting: Setting, best: str | None = None) -> dict[Unit, dict[Value, str]]:
    """Returns the run of a setting by unit, as {value of the label `best`: cell}; one, under None, without `best`.

    Undecidable where no run matches, or where several of one unit match that differ in more than `best`.
    """
    found = matching(cells, setting, [best] if best else [])
    varying = streams(cells)
    units: dict[Unit, dict[str, LabelledRun]] = {}
    for name, cell in found.items():
        units.setdefault(tuple((n, cell.seeds.get(n)) for n in varying), {})[name] = cell
    for unit, mine in units.items():
        _check_one(setting, unit, list(mine.values()), best)
    return {u: {c.labels[best] if best else None: name for name, c in mine.items()} for u, mine in units.items()}


def show_units(units: Sequence[Unit]) -> str:
    """Returns "seeds 3, 4", or "seeds init 0 data 3, ..." where the streams of a unit have different seeds."""
    return ("seed " if len(units) == 1 else "seeds ") + ", ".join(_show_unit(unit) for unit in units)


def _show_unit(unit: Unit) -> str:
    if len({seed for _, seed in unit}) == 1:
        return str(unit[0][1])
    return " ".join(f"{name} {seed}" for name, seed in unit) or "(the only one)"


def _check_one(setting: Setting, unit: Unit, cells: list[LabelledRun], best: str | None) -> None:
    varied = lambda name: list(dict.fromkeys(cell.labels.get(name) for cell in cells))
    where = f"{show(setting) or 'the empty setting'} picks {len(cells)} runs of {show_units([unit])}"
    if differ := [n for n in cells[0].labels if n != best and len(varied(n)) > 1]:
        listed = " and in ".join(f"{n!r} ({', '.join(map(_shown, varied(n)))})" for n in differ)
        way_out = f"name {differ[0]!r} in the setting, or reduce it with .best_of({differ[0]!r}, select=...)"
        raise Undecidable(f"{where}, which differ in {listed}; {way_out}")
    if len(cells) > (len(varied(best)) if best else 1):
        raise Undecidable(f"{where} with the same labels; give what differs between them a label")


def _absent(setting: Setting, cells: Mapping[str, LabelledRun]) -> str:
    """Why no run has a setting."""
    for name, value in setting.items():
        known = list(dict.fromkeys(cell.labels.get(name) for cell in cells.values()))
        if not any(same_label(value, v) for v in known):
            texts = [_shown(v) for v in known]
            hint = suggest(value, texts) if isinstance(value, str) else f"; there are {', '.join(texts)}"
            return f"no run has {show({name: value})}{hint}"
    return f"no run has {show(setting)} together; change the setting, or add it to the grid"
