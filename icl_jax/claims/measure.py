"""One number per run: the statistics that claims are about."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.claims.series import Series, about, series, windowed
from icl_jax.claims.statistics import acquisition
from icl_jax.claims.units import LabelledRun, PlannedRuns, Undecidable, planned_cells
from icl_jax.headlines import DEFAULTS, Coords, Headline, check_place, coords_of, place
from icl_jax.names import suggest
from icl_jax.storage.columns import coordinates

KINDS = ("final", "peak", "decay", "onset", "at", "reaches")
TRAIN = "train"  # the suite of what is measured while training, as means over chunks
_NOT_BEST = ("decay", "onset", "reaches")  # more of them is not better
_SHARES = ("accuracy", "accuracy_all", "accuracy_context", "floor", "ceiling")
_SHARES += ("pred_context", "pred_rare", "pred_common", "pred_first_ways")
# what a metric can be at least and at most, whatever the run did
LIMITS = {name: (0.0, 1.0) for name in _SHARES} | {name: (0.0, np.inf) for name in ("loss", "grad_norm")}


@dataclasses.dataclass(frozen=True)
class Best:
    """Over the runs that differ in `label` only, the one whose own statistic on suite `select` is largest."""

    label: str
    select: str

    def __post_init__(self):
        for name in ("label", "select"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"best_of with {name} {value!r}: give its name")


@dataclasses.dataclass(frozen=True)
class Statistic:
    """What one run is reduced to; made by `final`, `peak`, `decay`, `onset`, `at` and `reaches`.

    suite, select: a suite or another eval, or the title of a headline of the config in any case (icl, iwl), which
    stands for its suite, its coordinates and, where no other is named, its metric; or "train". metric: None for that of
    the headline, else accuracy; also of what `select` and `best` choose by. coords: axis -> label of each axis of the
    metric (made a tuple of pairs). window: of "train", the steps that a value is the mean of. level: of "reaches", what
    is reached. less: another statistic of the same run, which is subtracted (`minus`).
    ValueError for a kind, a step, a window, a level or a `best` that makes no sense.

    >>> claims.final("icl")
    Statistic(kind='final', suite='icl', metric=None, select=None, step=None, best=None, window=None, coords=(),
              level=None, less=None)
    >>> str(claims.at("train", 1000, "loss", window=500))
    'loss on train at step 1000, mean of 500 steps'
    """

    kind: str
    suite: str
    metric: str | None = None
    select: str | None = None
    step: int | None = None
    best: Best | None = None
    window: int | None = None
    coords: Coords = ()
    level: float | None = None
    less: "Statistic | None" = None

    def __post_init__(self):
        object.__setattr__(self, "coords", coords_of(self.coords))  # of a claim that was stored: lists
        for name in ("suite", "metric", "select"):
            if not isinstance(value := getattr(self, name), str if name == "suite" else str | None):
                raise ValueError(f"statistic {self.kind!r} with {name} {value!r}: give its name")
        if self.kind not in KINDS:
            raise ValueError(f"unknown statistic {self.kind!r}{suggest(self.kind, KINDS)}")
        for name in ("step", "window"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer | None):
                raise ValueError(f"statistic {self.kind!r} with {name} {value!r}: give whole steps")
            object.__setattr__(self, name, value if value is None else int(value))
        if (self.step is None) == (self.kind == "at"):
            raise ValueError(f"statistic {self.kind!r} with step {self.step}: 'at' takes one, the others take none")
        if self.select is not None and self.kind not in ("peak", "decay"):
            raise ValueError(f"statistic {self.kind!r} with select {self.select!r}: only 'peak' and 'decay' take it")
        if self.kind == "onset" and self.metric not in (None, "accuracy"):
            raise ValueError(f"onset of metric {self.metric!r}: floor and ceiling are accuracies; leave metric out")
        if self.kind == "onset" and self.coords:
            raise ValueError(f"onset at {place(self.coords)}: floor and ceiling are of whole suites; leave coords out")
        if self.window is not None and (self.suite != TRAIN or self.window < 1):
            raise ValueError(
                f"statistic of {self.suite!r} with window {self.window}: a window is a number of training steps, for "
                f"suite {TRAIN!r} alone; leave it out elsewhere"
            )
        if (self.level is None) == (self.kind == "reaches") or (self.level is not None and not np.isfinite(self.level)):
            raise ValueError(
                f"statistic {self.kind!r} with level {self.level}: 'reaches' takes a number, the others take none"
            )
        if self.best is not None:
            self._check_best(self.best)
        if self.less is not None and (self.best or self.less.best or self.less.less):
            raise ValueError("a difference of statistics is of two plain ones: leave best_of and a second minus out")

    @property
    def parts(self) -> list["Statistic"]:
        """Returns the one, or the two of a difference.

        >>> claims.final("icl").minus(claims.final("iwl")).parts == [claims.final("icl"), claims.final("iwl")]
        True
        """
        return [dataclasses.replace(self, less=None), self.less] if self.less else [self]

    def minus(self, less: "Statistic") -> "Statistic":
        """Returns this statistic less another one of the same run, such as an effect beside its control. A run in which
        one of two steps (`onset`, `reaches`) was not come to has no difference.

        >>> at = lambda position: claims.final("along", "loss", coords={"position": position})
        >>> str(at(0).minus(at(3)))
        'final loss on along at position 0 minus final loss on along at position 3'
        """
        return dataclasses.replace(self, less=less)

    def check_window(self) -> None:
        """Raises Undecidable for a statistic of training without a window: chunks, of which its values are the means,
        have no length of their own.

        >>> claims.final("train", "loss", window=500).check_window()
        >>> claims.final("train", "loss").check_window()
        Traceback (most recent call last):
            ...
        icl_jax...Undecidable: final loss of suite 'train' states no window: ... say over how many ...
        """
        if self.suite == TRAIN and self.window is None and self.kind != "onset":
            raise Undecidable(
                f"{self.kind} {self.metric or 'accuracy'} of suite {TRAIN!r} states no window: it is a mean over some "
                "steps; say over how many with window=STEPS, a multiple of evals.every"
            )

    def best_of(self, label: str, select: str) -> "Statistic":
        """Returns this statistic of the best run over a label such as a random draw.

        Best: the largest value of the statistic on suite `select`, which is another one, as the largest
        of several noisy values is biased up. Diverged runs are passed over.

        >>> tuned = claims.final("icl").best_of("draw", select="flipped")
        >>> str(tuned)
        'final ICL of the best draw on flipped'
        """
        return dataclasses.replace(self, best=Best(label, select))

    def _check_best(self, best: Best) -> None:
        if best.select == self.suite:
            raise ValueError(f"best_of(select={best.select!r}) chooses on the suite it reports; name another suite")
        if self.kind in _NOT_BEST or self.metric == "loss":
            name = "loss" if self.metric == "loss" else self.kind
            raise ValueError(f"best_of takes the largest value, which is not the best {name}; use final, peak or at")

    def suites(self) -> list[str]:
        """Returns the suites it reads.

        >>> claims.peak("icl", select="flipped").suites()
        ['icl', 'flipped']
        """
        return [s for s in (self.suite, self.select, self.best and self.best.select) if s]

    def __str__(self) -> str:
        """Returns "final ICL", "peak accuracy on flipped", ..."""
        return self.text()

    def text(self, titles: Iterable[str] = ()) -> str:
        """Returns what it is in words. titles: of the headlines.

        >>> claims.decay("icl", select="flipped").text()
        'decay of ICL from its peak (peak chosen on flipped)'
        >>> claims.final("fluency").text(titles=["Fluency"])
        'final Fluency'
        """
        if self.less:
            return " minus ".join(part.text(titles) for part in self.parts)
        called = DEFAULTS | {title.lower(): title for title in titles}
        name = lambda suite: called.get(suite.lower()) or suite
        of = f"{self.metric or 'accuracy'} on {self.suite}"
        if self.suite.lower() in called:
            of = f"{name(self.suite)} {self.metric or ''}".rstrip()
        of += f" at {place(self.coords)}" if self.coords else ""
        text = {
            "final": f"final {of}",
            "peak": f"peak {of}",
            "decay": f"decay of {of} from its peak",
            "onset": f"onset of {of}",
            "at": f"{of} at step {self.step}",
            "reaches": f"step at which {of} reaches {self.level}",
        }[self.kind]
        text += f", mean of {self.window:,} steps" if self.window else ""
        text += f" (peak chosen on {name(self.select)})" if self.select else ""
        if self.best:
            text += f" of the best {self.best.label} on {name(self.best.select)}"
        return text


def final(
    suite: str, metric: str | None = None, window: int | None = None, coords: Mapping[str, Any] | None = None
) -> Statistic:
    """Returns the value at the last evaluation. Of suite "train": the mean over the last `window` steps. coords: of a
    metric with axes, the label on each of them, such as {"position": 3}.

    >>> claim = claims.within("Bursty data grow ICL", claims.final("icl"), at={"p_bursty": 1}, low=0.8)
    >>> claims.judge([claim], results, headlines)[0].effect_text
    '0.920 (0.900 to 0.940)'
    >>> str(claims.final("along", "loss", coords={"position": 3}))
    'final loss on along at position 3'
    """
    return Statistic("final", suite, metric, window=window, coords=coords_of(coords or {}))


def peak(
    suite: str,
    select: str | None = None,
    metric: str | None = None,
    window: int | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Statistic:
    """Returns the value at the step where `select`, another suite, is largest (the first such step).

    Without `select` the peak is chosen on the values it reports, the largest of many noisy ones: with
    1,000 sequences (standard error .016) and 30 evaluations of a flat curve it may lie .03 too high.
    Of suite "train": over the means of windows of `window` steps. coords: as in `final`, of both suites.

    >>> claim = claims.within("ICL comes", claims.peak("icl", select="flipped"), at={"p_bursty": 0.5}, low=0.6)
    >>> claims.judge([claim], results, headlines)[0].effect_text
    '0.710 (0.700 to 0.720)'
    """
    return Statistic("peak", suite, metric, select, window=window, coords=coords_of(coords or {}))


def decay(
    suite: str,
    select: str | None = None,
    metric: str | None = None,
    window: int | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Statistic:
    """Returns peak minus final: transience. Without `select` it is never below 0, as the peak is biased up:
    compare it between settings, or with a bound well above the noise. window, coords: as in `peak`.

    >>> claim = claims.within("ICL fades", claims.decay("icl", select="flipped"), at={"p_bursty": 0.5}, low=0.03)
    >>> claims.judge([claim], results, headlines)[0].effect_text
    '0.100 (0.100 to 0.100)'
    """
    return Statistic("decay", suite, metric, select, window=window, coords=coords_of(coords or {}))


def onset(suite: str) -> Statistic:
    """Returns the step of the onset (`statistics.Acquisition`); a run without one counts as its last step.

    >>> claim = claims.within("ICL comes early", claims.onset("icl"), at={"p_bursty": 1}, high=500)
    >>> claims.judge([claim], results, headlines)[0].effect_text  # steps
    '340 (272 to 408)'
    """
    return Statistic("onset", suite)


def at(
    suite: str,
    step: int,
    metric: str | None = None,
    window: int | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Statistic:
    """Returns the value at a step. Of suite "train": the mean over the `window` steps up to it. coords: as in
    `final`.

    >>> claim = claims.within("ICL is on its way", claims.at("icl", 200), at={"p_bursty": 1}, low=0.6)
    >>> claims.judge([claim], results, headlines)[0].effect_text
    '0.668 (0.660 to 0.676)'
    """
    return Statistic("at", suite, metric, step=step, window=window, coords=coords_of(coords or {}))


def reaches(suite: str, level: float, metric: str | None = None, coords: Mapping[str, Any] | None = None) -> Statistic:
    """Returns the first step at which the value, and that of the evaluation after it, is at least a level; a run that
    does not come to it counts as its last step. coords: as in `final`.

    >>> claim = claims.within("ICL comes early", claims.reaches("icl", 0.6), at={"p_bursty": 1}, high=500)
    >>> claims.judge([claim], results, headlines)[0].effect_text  # steps
    '200 (200 to 200)'
    """
    return Statistic("reaches", suite, metric, coords=coords_of(coords or {}), level=level)


def resolve(headlines: Iterable[Headline], suite: str, metric: str | None, at: Coords = ()) -> tuple[str, str, Coords]:
    """Returns (suite, metric, coordinates) in the table of what a statistic names, which may be a headline's title."""
    for headline in headlines:
        if headline.title.lower() == suite.lower():
            own = metric or headline.metric
            return headline.suite, own, coords_of(dict(headline.at if own == headline.metric else ()) | dict(at))
    return suite, metric or "accuracy", at


def resolved(headlines: Sequence[Headline], of: Statistic) -> Statistic:
    """Returns a statistic by what the table calls it. ValueError where that makes no sense: the guards of a statistic
    are also for what a headline stands for."""
    suite, metric, coords = resolve(headlines, of.suite, of.metric, of.coords)
    select = of.select and resolve(headlines, of.select, metric)[0]
    best = of.best and Best(of.best.label, resolve(headlines, of.best.select, metric)[0])
    less = of.less and resolved(headlines, of.less)
    return replace(of, suite=suite, metric=metric, coords=coords, select=select, best=best, less=less)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A statistic of one run. state: "", "censored" (no onset), "diverged", "unmeasured" or "unfinished".

    value: NaN in the last three. low, high: of a run that diverged before it was measured, what the statistic could
    have been, as far as that is known; else the value.
    """

    value: float
    state: str = ""
    low: float = np.nan
    high: float = np.nan


def _exact(value: float, state: str = "") -> Measured:
    return Measured(value, state, value, value)


def _difference(one: Measured, other: Measured) -> Measured:
    """One less the other. Steps that were not come to have no difference, as either may come much later."""
    states = {one.state, other.state}
    if worst := next((state for state in ("unfinished", "unmeasured") if state in states), ""):
        return Measured(np.nan, worst)
    if "censored" in states:
        return Measured(np.nan, "unmeasured")
    value = one.value - other.value
    return Measured(value, "diverged" if "diverged" in states else "", one.low - other.high, one.high - other.low)


def _reached(line: Series, level: float) -> Measured:
    """The first of two evaluations that follow one another with values at or above a level; the last one alone counts,
    where the run lived to its end."""
    steps, values = line.steps[line.counts], line.values[line.counts]
    if not len(steps):
        return _exact(0.0, "censored")
    above = values >= level
    kept = np.flatnonzero(above & np.append(above[1:], line.counts.all()))
    return _exact(float(steps[kept[0]])) if len(kept) else _exact(float(steps[-1]), "censored")


class Results:
    """The results table of a sweep, as claims ask for it.

    headlines: of the sweep. num_steps: where a run ends whose end `planned` does not know; default: the
    largest step of the table. planned: the cells of the whole sweep, of which the table may lack some.
    """

    def __init__(
        self,
        table: pa.Table,
        headlines: Iterable[Headline],
        num_steps: int | None = None,
        planned: PlannedRuns | None = None,
    ):
        self.table, self._headlines = table, tuple(headlines)
        cells = planned_cells(planned or {})
        cells |= _cells(table, {name: cell.end for name, cell in cells.items()})
        largest = max((cell.last for cell in cells.values()), default=0) if num_steps is None else num_steps
        self.cells = {name: cell if cell.end >= 0 else replace(cell, end=largest) for name, cell in cells.items()}
        self._series: dict[tuple[str, str, Coords], dict[str, Series]] = {}

    def measure(self, of: Statistic) -> dict[str, Measured]:
        """Returns the statistic of every run, by cell, without regard to `of.best`."""
        of = self.resolved(of)
        if of.less:
            one, other = (self.measure(part) for part in of.parts)
            return {cell: _difference(one[cell], other[cell]) for cell in self.cells}
        of.check_window()
        lines = self.series(of.suite, of.metric, of.coords)
        last = max(line.steps[-1] for line in lines.values())  # a suite may be evaluated more seldom than others
        return {cell: self._measured(of, cell, lines.get(cell), last) for cell in self.cells}

    def resolved(self, of: Statistic) -> Statistic:
        """Returns a statistic by what the table calls it. Undecidable where that makes no sense."""
        try:
            return resolved(self._headlines, of)
        except ValueError as problem:
            raise Undecidable(str(problem)) from None

    def series(self, suite: str, metric: str | None, at: Coords = ()) -> dict[str, Series]:
        """Returns the series of a suite, an eval or a headline by cell. Undecidable where no run has it, or not the
        metric, or not at these coordinates."""
        where = resolve(self._headlines, suite, metric, at)
        if where not in self._series:
            if not self.table.num_rows:
                raise Undecidable("no run has results yet")
            found = {s.cell: s for s in series(self.table, *where)}
            if not found:
                raise Undecidable(self._absent(*where))
            self._series[where] = found
        return self._series[where]

    def _line(self, suite: str, metric: str | None, cell: str, at: Coords = ()) -> Series:
        lines = self.series(suite, metric, at)
        if cell not in lines:
            raise Undecidable(f"run {cell} has no {metric} of suite {self.suite(suite)!r}; evaluate it there too")
        return lines[cell]

    def text(self, of: Statistic) -> str:
        """Returns what a statistic is in words."""
        return of.text(headline.title for headline in self._headlines)

    def suite(self, name: str) -> str:
        """Returns the name of a suite in the table."""
        return resolve(self._headlines, name, None)[0]

    def _absent(self, suite: str, metric: str, at: Coords) -> str:
        mine = self.table.filter((pc.field("suite") == suite) & (pc.field("metric") == metric))
        if mine.num_rows:
            axes = {
                name: pc.unique(mine[name]).to_pylist()
                for name in coordinates(mine.column_names)
                if mine[name].null_count < mine.num_rows
            }
            try:
                check_place(f"{metric} of {suite!r}", at, axes)
            except ValueError as problem:
                return str(problem)
        suites = set(pc.unique(self.table["suite"]).to_pylist())
        if suite not in suites:
            return f"no run has results of suite {suite!r}{suggest(suite, suites)}"
        metrics = set(pc.unique(self.table.filter(pc.field("suite") == suite)["metric"]).to_pylist())
        return f"suite {suite!r} has no metric {metric!r}{suggest(metric, metrics)}"

    def _measured(self, of: Statistic, cell: str, line: Series | None, last: int) -> Measured:
        run = self.cells[cell]
        if line is None or line.steps[-1] < min(last, run.end) or run.last < run.end:
            return Measured(np.nan, "unfinished")
        line = self._windows(of, line)
        if of.kind == "onset":
            return self._onset(of, line)
        if of.kind == "reaches":
            return _reached(line, of.level or 0.0)
        if of.kind in ("final", "at"):
            place = len(line.steps) - 1 if of.kind == "final" else self._place(of, line)
            if not line.counts[place]:
                return Measured(np.nan, "diverged", *self._limits(of, line))
            value = float(line.values[place])
            return _exact(value) if np.isfinite(value) else Measured(np.nan, "unmeasured")
        return self._peak(of, line)

    def _windows(self, of: Statistic, line: Series) -> Series:
        """The series that a statistic is of: means over its window, where it has one."""
        if of.window is None:
            return line
        end = int(line.steps[-1]) if of.step is None else of.step
        one = of.kind in ("at", "final")
        try:
            return windowed(
                line, of.window, np.array([end]) if one else np.arange(end, of.window - 1, -of.window)[::-1]
            )
        except ValueError as problem:
            raise Undecidable(str(problem)) from None

    def _peak(self, of: Statistic, line: Series) -> Measured:
        """The peak, or the decay from it. The peak of a run that diverged is at least what was measured before, but
        for one that is chosen on another suite: that may come later, where the value is smaller."""
        name = of.select or of.suite
        chosen_on = self._line(name, of.metric, line.cell, of.coords) if of.select else line
        if not np.array_equal(line.steps, chosen_on.steps):
            raise Undecidable(
                f"{of.suite!r} was evaluated at {len(line.steps)} steps and {name!r}, on which the peak is "
                f"chosen, at {len(chosen_on.steps)}: a suite added later is scored on the checkpoints kept"
            )
        values, by = line.values[line.counts], chosen_on.values[line.counts]
        if not np.isfinite(values).all() or not np.isfinite(by).all():
            return Measured(np.nan, "unmeasured")
        low, high = self._limits(of, line)
        if line.counts.all():
            top = float(values[by.argmax()])
            return _exact(top if of.kind == "peak" else top - float(values[-1]))
        if of.kind == "peak":
            return Measured(np.nan, "diverged", low if of.select else float(values.max(initial=low)), high)
        return Measured(np.nan, "diverged", low - high if of.select else 0.0, high - low)

    def _limits(self, of: Statistic, line: Series) -> tuple[float, float]:
        """What a metric can be at least and at most."""
        if of.metric != "share":
            return LIMITS.get(str(of.metric), (-np.inf, np.inf))
        floor, ceiling = (self._line(of.suite, name, line.cell).values for name in ("floor", "ceiling"))
        known = np.flatnonzero(np.isfinite(floor) & np.isfinite(ceiling) & (ceiling > floor))
        if not len(known):
            return -np.inf, np.inf
        floor, span = floor[known[-1]], ceiling[known[-1]] - floor[known[-1]]
        return float(-floor / span), float((1 - floor) / span)

    def _place(self, of: Statistic, line: Series) -> int:
        place = int(np.searchsorted(line.steps, of.step or 0))
        if place == len(line.steps) or line.steps[place] != of.step:
            near = ", ".join(str(step) for step in line.steps[max(place - 1, 0) : place + 1])
            raise Undecidable(f"no evaluation of {of.suite!r} at step {of.step}; the nearest: {near}")
        return place

    def _onset(self, of: Statistic, line: Series) -> Measured:
        bounds = [self._line(of.suite, metric, line.cell) for metric in ("floor", "ceiling")]
        try:
            run = acquisition(line, *bounds)
        except ValueError as problem:
            raise Undecidable(str(problem)) from None
        if not line.counts.any():  # it diverged before the first evaluation: no onset by then
            return _exact(0.0, "censored")
        if not all(np.isfinite(of_run.values[line.counts]).all() for of_run in (line, *bounds)):
            return Measured(np.nan, "unmeasured")
        return _exact(run.restricted_onset, "censored" if run.censored else "")


def _cells(table: pa.Table, ends: dict[str, int]) -> dict[str, LabelledRun]:
    if not table.num_rows:
        return {}
    rows = table.group_by("cell", use_threads=False).aggregate([("step", "max")]).to_pylist()
    last = {row["cell"]: row["step_max"] for row in rows}
    return {cell: LabelledRun(*of, last[cell], ends.get(cell, -1)) for cell, of in about(table).items()}
