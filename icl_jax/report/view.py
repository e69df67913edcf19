"""How the settings of a sweep are laid out: which label is colour, which are columns, what is left out."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from icl_jax.claims.series import Series, series
from icl_jax.claims.statistics import Acquisition, acquisitions, endings
from icl_jax.headlines import Headline
from icl_jax.report.curves import has_bounds, has_plane
from icl_jax.report.data import SweepData
from icl_jax.report.style import FAINT, MUTED, NAMED, marks_of, sequential, sequential_dark

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
    """Runs of one setting, which differ in seeds, by one headline.

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
class Shown:
    """A headline and its runs by setting. bounded: it is the accuracy of a suite, which has floor and ceiling; runs of
    another have no onset (`statistics.endings`)."""

    headline: Headline
    bounded: bool
    runs: dict[Spot, Runs]
    acquired: list[Acquisition]

    @property
    def name(self) -> str:
        return self.headline.suite

    @property
    def title(self) -> str:
        """Returns "In-context", or the headline's own title."""
        return self.headline.long

    @property
    def heading(self) -> str:
        """Returns "In-context learning", or the headline's own title."""
        return f"{self.title} learning" if self.headline.is_default else self.title


@dataclasses.dataclass(frozen=True)
class View:
    """A sweep as its figures show it.

    primary: the label that is colour ("": nothing is swept); values: its values, in order.
    others: the labels that make columns; columns: their values, in order, all of them.
    colours: by value, on white; dark: colour on dark paper by colour on white.
    best: by place (value, column) the setting to show: the only one or, of several draws, the one of highest
    final `chosen_by`, a headline that is an accuracy; draws: by place, all of them. end: the sweep's last step.
    """

    primary: str
    values: list[Value]
    others: tuple[str, ...]
    columns: list[Column]
    colours: dict[Value, str]
    dark: dict[str, str]
    suites: tuple[Shown, ...]
    best: dict[Place, Spot]
    draws: dict[Place, list[Spot]]
    end: float

    @property
    def chosen_by(self) -> str:
        """Title of the headline by which draws and coloured names are chosen, "" where none is an accuracy."""
        return next((suite.headline.title for suite in self.suites if suite.headline.is_accuracy), "")

    @property
    def marks(self) -> dict[Value, str]:
        """Shapes of the coloured values, beside their colours; "" where there are more than shapes."""
        return marks_of(self.coloured)

    @property
    def plane(self) -> tuple[Shown, ...]:
        """The two headlines that are drawn one against the other: the first two, where they are accuracies."""
        return self.suites[:2] if has_plane([suite.headline for suite in self.suites]) else ()

    def spot(self, labels: Mapping[str, Value]) -> Spot:
        """Returns the setting of a run with these labels."""
        return _spot(self.primary, self.others, labels)

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
    bounded = {headline: has_bounds(sweep.table, headline) for headline in sweep.headlines}
    runs_of = lambda shown: acquisitions(sweep.table, shown.suite) if bounded[shown] else endings(sweep.table, shown)
    acquired = {headline: [ended(run) for run in runs_of(headline)] for headline in sweep.headlines}
    everything = [run for runs in acquired.values() for run in runs]
    varied = lambda name: len({run.labels.get(name) for run in everything}) > 1
    primary, *others = [name for name in sweep.labels if name != DRAW and varied(name)] or [""]
    end = max((run.last_step for run in everything if math.isfinite(run.last_step)), default=0.0)
    spot = lambda run: _spot(primary, others, run.labels)
    suites = tuple(
        Shown(headline, bounded[headline], _runs(sweep, headline, bounded[headline], runs, spot, end), runs)
        for headline, runs in acquired.items()
    )
    draws: dict[Place, list[Spot]] = {}
    for s in {s: None for suite in suites for s in suite.runs}:
        draws.setdefault((s.value, s.column), []).append(s)
    chosen = next((suite.runs for suite in suites if suite.headline.is_accuracy), {})
    score = lambda s: np.nan_to_num(_mean(chosen[s].final), nan=-1.0) if s in chosen else -1.0
    best = {place: max(spots, key=score) for place, spots in draws.items()}
    values = ordered(value for value, _ in best)
    top = {v: max(score(s) for (value, _), s in best.items() if value == v) for v in values}
    colours, dark = _colours(values, top)
    return View(primary, values, tuple(others), _columns(best), colours, dark, suites, best, draws, end)


def _spot(primary: str, others: Sequence[str], labels: Mapping[str, Value]) -> Spot:
    return Spot(labels.get(primary), tuple(labels.get(name) for name in others), labels.get(DRAW))


def _columns(places: Iterable[Place]) -> list[Column]:
    """Values of the labels that make columns, in order."""
    columns = list(dict.fromkeys(column for _, column in places))
    ranks = [{v: i for i, v in enumerate(ordered(c[k] for c in columns))} for k in range(len(columns[0]))]
    return sorted(columns, key=lambda column: [ranks[k][v] for k, v in enumerate(column)])


def _runs(
    sweep: SweepData, headline: Headline, bounded: bool, acquired: list[Acquisition], spot, end: float
) -> dict[Spot, Runs]:
    curves = series(sweep.table, headline.suite, headline.metric, headline.at)
    floors, ceilings = (series(sweep.table, headline.suite, name) if bounded else [] for name in ("floor", "ceiling"))
    groups: dict[Spot, list[int]] = {}
    for index, run in enumerate(curves):
        groups.setdefault(spot(run), []).append(index)
    found = {}
    for where, mine in groups.items():
        steps, values = aligned([curves[i] for i in mine])
        done = [acquired[i] for i in mine if not acquired[i].diverged and acquired[i].is_complete(end)]
        final, peak = (np.array([getattr(run, name) for run in done]) for name in ("final", "peak"))
        diverged = np.array([acquired[i].diverged for i in mine])
        found[where] = Runs(steps, values, _level(floors, mine), _level(ceilings, mine), final, peak, diverged)
    return found


def _level(bounds: list[Series], mine: list[int]) -> float:
    """Mean of a bound over some runs and all steps."""
    return _mean(np.concatenate([bounds[i].values for i in mine if bounds] or [[]]))


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
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
