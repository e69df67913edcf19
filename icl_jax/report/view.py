"""How the settings of a sweep are laid out: which label is colour, which are columns, what is left out."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from icl_jax.report.data import SweepData
from icl_jax.report.series import Series, series
from icl_jax.report.statistics import Acquisition, acquisitions
from icl_jax.report.style import FAINT, MUTED, NAMED, sequential, sequential_dark

DRAW = "draw"  # the label of random draws (icl_jax.sweep.grid.random)
MOST_COLUMNS = 6
MOST_LINES = 12  # settings in a panel that have their intervals and seeds drawn

Value = float | str | None
Column = tuple[Value, ...]
Place = tuple[Value, Column]  # in the figures


@dataclasses.dataclass(frozen=True)
class Spot:
    """A setting: value of the coloured label, of the labels that make columns, and of the draw."""

    value: Value
    column: Column
    draw: Value


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs of one setting, which differ in seeds, in one suite.

    steps: (S,); values: (runs, S), NaN where there is none; floor, ceiling: means over runs and steps.
    final, peak: of the runs that came to the sweep's last step. diverged: (runs,).
    """

    steps: np.ndarray
    values: np.ndarray
    floor: float
    ceiling: float
    final: np.ndarray
    peak: np.ndarray
    diverged: np.ndarray


@dataclasses.dataclass(frozen=True)
class Suite:
    """A headline suite: what it measures ("In-context", "ICL"), and its runs by setting."""

    name: str
    title: str
    short: str
    runs: dict[Spot, Runs]
    acquired: list[Acquisition]


@dataclasses.dataclass(frozen=True)
class View:
    """A sweep as its figures show it.

    primary: the label that is colour ("": nothing is swept); values: its values, in order.
    others: the labels that make columns; columns: their values, in order, all of them.
    colours: by value, on white; dark: colour on dark paper by colour on white.
    best: by place (value, column) the setting to show: the only one or, of several draws, the one of highest
    final ICL; draws: by place, all of them. end: the sweep's last step.
    """

    primary: str
    values: list[Value]
    others: tuple[str, ...]
    columns: list[Column]
    colours: dict[Value, str]
    dark: dict[str, str]
    icl: Suite
    iwl: Suite
    best: dict[Place, Spot]
    draws: dict[Place, list[Spot]]
    end: float

    @property
    def suites(self) -> tuple[Suite, Suite]:
        return self.icl, self.iwl

    @property
    def shown_columns(self) -> list[Column]:
        """Columns that have panels: all, or as many as fit, evenly spread."""
        if len(self.columns) <= MOST_COLUMNS:
            return self.columns
        return [self.columns[i] for i in np.linspace(0, len(self.columns) - 1, MOST_COLUMNS).round().astype(int)]

    @property
    def small(self) -> bool:
        """Whether there are so many columns that their panels are small."""
        return len(self.shown_columns) > 3

    @property
    def seeds(self) -> str:
        """Runs of a setting: "5 seeds", "3 to 5 seeds"."""
        counts = [len(s.runs[spot].values) for s in self.suites for spot in self.best.values() if spot in s.runs]
        number = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        return f"{number} seed{'' if number == '1' else 's'}"

    @property
    def drawn(self) -> bool:
        """Whether settings were drawn at random, several for each place in the figures."""
        return any(len(spots) > 1 for spots in self.draws.values())

    @property
    def coloured(self) -> list[Value]:
        """Values with a colour of their own."""
        return [value for value in self.values if self.colours[value] != FAINT]

    def name(self, value: Value, column: Column) -> str:
        """Returns "p_bursty 0.9, layers 2"."""
        first = [f"{self.primary} {text(value)}"] if self.primary else []
        return ", ".join([*first, *([self.place(column)] if column else [])])

    def place(self, column: Column, separator: str = ", ") -> str:
        """Returns "layers 2, noise 0.1"."""
        return separator.join(f"{name} {text(value)}" for name, value in zip(self.others, column, strict=True))


def view(sweep: SweepData) -> View:
    """Returns how a sweep is shown: colour by its first varied label, a column per value of the others."""
    ends = {cell: steps for cell, (*_, steps) in (sweep.planned or {}).items()}
    ended = lambda run: dataclasses.replace(run, end=ends.get(run.cell, run.end))
    acquired = {suite: [ended(run) for run in acquisitions(sweep.table, suite)] for suite in (sweep.icl, sweep.iwl)}
    everything = [run for runs in acquired.values() for run in runs]
    varied = lambda name: len({run.labels.get(name) for run in everything}) > 1
    primary, *others = [name for name in sweep.labels if name != DRAW and varied(name)] or [""]
    end = max((run.last_step for run in everything if math.isfinite(run.last_step)), default=0.0)
    spot = lambda run: Spot(run.labels.get(primary), tuple(run.labels.get(n) for n in others), run.labels.get(DRAW))
    icl, iwl = (
        Suite(name, title, short, _runs(sweep, name, acquired[name], spot, end), acquired[name])
        for name, title, short in ((sweep.icl, "In-context", "ICL"), (sweep.iwl, "In-weights", "IWL"))
    )
    draws: dict[Place, list[Spot]] = {}
    for s in {**icl.runs, **iwl.runs}:
        draws.setdefault((s.value, s.column), []).append(s)
    score = lambda s: np.nan_to_num(_mean(icl.runs[s].final), nan=-1.0) if s in icl.runs else -1.0
    best = {place: max(spots, key=score) for place, spots in draws.items()}
    values = ordered(value for value, _ in best)
    top = {v: max(score(s) for (value, _), s in best.items() if value == v) for v in values}
    colours, dark = _colours(values, top)
    return View(primary, values, tuple(others), _columns(best), colours, dark, icl, iwl, best, draws, end)


def _columns(places: Iterable[Place]) -> list[Column]:
    """Values of the labels that make columns, in order."""
    columns = list(dict.fromkeys(column for _, column in places))
    ranks = [{v: i for i, v in enumerate(ordered(c[k] for c in columns))} for k in range(len(columns[0]))]
    return sorted(columns, key=lambda column: [ranks[k][v] for k, v in enumerate(column)])


def _runs(sweep: SweepData, suite: str, acquired: list[Acquisition], spot, end: float) -> dict[Spot, Runs]:
    curves, floors, ceilings = (series(sweep.table, suite, metric) for metric in ("accuracy", "floor", "ceiling"))
    groups: dict[Spot, list[int]] = {}
    for index, run in enumerate(curves):
        groups.setdefault(spot(run), []).append(index)
    found = {}
    for where, mine in groups.items():
        steps, values = aligned([curves[i] for i in mine])
        done = [acquired[i] for i in mine if not acquired[i].diverged and acquired[i].is_complete(end)]
        level = lambda bounds, mine=mine: _mean(np.concatenate([bounds[i].values for i in mine]))
        final, peak = (np.array([getattr(run, name) for run in done]) for name in ("final", "peak"))
        diverged = np.array([acquired[i].diverged for i in mine])
        found[where] = Runs(steps, values, level(floors), level(ceilings), final, peak, diverged)
    return found


def aligned(runs: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all steps (S,) of some runs, and their values (runs, S), NaN where a run has none."""
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    values = np.full((len(runs), len(steps)), np.nan)
    for row, run in zip(values, runs, strict=True):
        row[np.searchsorted(steps, run.steps)] = run.values
    return steps, values


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def ordered(values: Iterable[Value]) -> list[Value]:
    """Returns distinct values: numbers by size, names as they came, None (label not set) last."""
    distinct = dict.fromkeys(values)
    known = [v for v in distinct if v is not None]
    if all(isinstance(v, float) for v in known):
        known.sort()
    return known + [None] * (None in distinct)


def _colours(values: list[Value], score: dict[Value, float]) -> tuple[dict[Value, str], dict[str, str]]:
    """Numbers along one scale; names in colours of their own, the best ones where there are more than colours."""
    if not any(isinstance(v, str) for v in values):
        numbers = [v for v in values if v is not None] or [None]
        light, dark = sequential(len(numbers)), sequential_dark(len(numbers))
        return {None: MUTED, **dict(zip(numbers, light, strict=True))}, dict(zip(light, dark, strict=True))
    chosen = sorted(values, key=lambda v: -score[v])[: len(NAMED)]
    free = iter(NAMED)
    return {v: next(free) if v in chosen else FAINT for v in values}, NAMED


def text(value: Value) -> str:
    """Returns 0.9 as "0.9", None as "none"."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else value
