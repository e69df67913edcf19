"""Statistics of runs and of their repetitions over seeds: intervals, onset, peak, decay, bimodality."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from icl_jax.claims.series import Series, series
from icl_jax.headlines import Headline

FEWEST_SEEDS = 5  # below it no verdict and no bimodality: the estimates say too little
ONSET, EARLY, LATE = 0.5, 0.25, 0.75  # shares of the way from floor to ceiling


def interval(values, level: float = 0.95) -> tuple:
    """Returns (mean, low, high) over the leading axis, the seeds: Student's t interval of the mean.

    values: (n, ...); NaN (a run without a value) is left out. The bounds are NaN where fewer than two
    values remain, the mean where none does. Equal values give an interval of width 0.
    """
    from scipy.special import stdtrit  # here: scipy is slow to import, and most commands do without

    values = np.asarray(values, float)
    known = np.isfinite(values)
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(0) / n
        sd = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / (n - 1))
        half = np.where(n > 1, stdtrit(np.maximum(n - 1, 1), 0.5 + level / 2) * sd / np.sqrt(n), np.nan)
    return mean, mean - half, mean + half


def bimodality(values) -> float:
    """Returns Sarle's coefficient with its correction for small samples; NaN for n < 5 or equal values.

    (g² + 1) / (k + 3(n - 1)² / ((n - 2)(n - 3))), g and k the unbiased skewness and excess kurtosis
    (SAS/STAT, PROC CLUSTER; Pfister et al. 2013). A uniform distribution has 5/9; above it there may be
    two modes, or one mode and a long tail. A hint at so few values, no test.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    n = len(values)
    if n < FEWEST_SEEDS or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return float("nan")
    from scipy.stats import kurtosis, skew  # here: slow to import

    g, k = skew(values, bias=False), kurtosis(values, bias=False)
    return float((g**2 + 1) / (k + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))))


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How a run acquired an ability. Steps are those of evaluations; NaN where there is no such step.

    onset: first step of a sustained crossing of half way from floor to ceiling. half_decay: first step
    after the peak at which the accuracy is half way down from the peak to the floor, or below
    (transience); NaN without an onset, as the peak is then noise. abruptness: steps from 25 % to 75 %
    of the way at the onset, interpolated between evaluations. last_step: of the evaluations that count. end: where
    the run is to end, where that is known.
    """

    cell: str
    labels: dict[str, float | str | None]
    seeds: dict[str, int]
    onset: float
    peak: float
    peak_step: float
    half_decay: float
    abruptness: float
    final: float
    last_step: float
    diverged: bool
    end: float = float("inf")

    @property
    def censored(self) -> bool:
        """Whether there was no onset up to the last step."""
        return bool(np.isnan(self.onset))

    @property
    def restricted_onset(self) -> float:
        """The onset, or the last step of a run without one: its mean is the restricted mean."""
        return self.last_step if self.censored else self.onset

    def is_complete(self, end: float) -> bool:
        """Returns whether it has come to `end`, or to its own end where that is before."""
        return self.last_step >= min(end, self.end)


def acquisition(accuracy: Series, floor: Series, ceiling: Series) -> Acquisition:
    """Returns how one run acquired an ability, from its accuracy and that of the two oracles.

    Sustained: at or above half way at this evaluation and at the next one, if there was to be one. A suite
    whose ceiling is not above its floor has no onset. Values after a divergence, and NaN, do not count.
    The peak is the largest of noisy evaluations, and so biased up. ValueError for unequal steps.
    """
    for other in (floor, ceiling):
        if not np.array_equal(accuracy.steps, other.steps):
            raise ValueError(f"cell {accuracy.cell}: accuracy, floor and ceiling at different steps; evaluate together")
    known = accuracy.counts & np.isfinite(accuracy.values)
    steps, values, low, high = (a[known] for a in (accuracy.steps, accuracy.values, floor.values, ceiling.values))
    about = (accuracy.cell, accuracy.labels, accuracy.seeds)
    nan, diverged = float("nan"), not accuracy.counts.all()
    last_step = float(max(accuracy.steps[accuracy.counts], default=nan))
    if not len(steps):
        return Acquisition(*about, nan, nan, nan, nan, nan, nan, last_step, diverged)
    way = np.divide(values - low, high - low, where=high > low, out=np.full(len(low), -np.inf))
    onset, peak = _onset(way, at_end=not diverged), int(values.argmax())
    fallen = np.flatnonzero(values[peak + 1 :] <= (values[peak] + low[peak + 1 :]) / 2) + peak + 1
    return Acquisition(
        *about,
        onset=nan if onset is None else float(steps[onset]),
        peak=float(values[peak]),
        peak_step=float(steps[peak]),
        half_decay=float(steps[fallen[0]]) if onset is not None and len(fallen) else nan,
        abruptness=nan if onset is None else _abruptness(steps, way, onset),
        final=float(accuracy.values[-1]),
        last_step=last_step,
        diverged=diverged,
    )


def _onset(way: np.ndarray, at_end: bool) -> int | None:
    """at_end: whether a crossing at the last evaluation counts."""
    above = way >= ONSET
    sustained = np.flatnonzero(above & np.append(above[1:], at_end))
    return int(sustained[0]) if len(sustained) else None


def _abruptness(steps: np.ndarray, way: np.ndarray, onset: int) -> float:
    """NaN where the run was never seen below 25 % before the onset, or above 75 % from it on."""
    below = np.flatnonzero(way[:onset] <= EARLY)
    above = np.flatnonzero(way[onset:] >= LATE) + onset
    if not (len(below) and len(above)):
        return float("nan")
    crossing = lambda i, level: np.interp(level, way[i - 1 : i + 1], steps[i - 1 : i + 1])
    return float(crossing(above[0], LATE) - crossing(below[-1] + 1, EARLY))


def endings(table: pa.Table, headline: Headline) -> list[Acquisition]:
    """Returns, of a metric without floor and ceiling, where each run of a results table came: it has no onset."""
    found = series(table, headline.suite, headline.metric, headline.at)
    none = [dataclasses.replace(run, values=np.full(len(run.steps), np.nan)) for run in found]
    return [acquisition(run, bound, bound) for run, bound in zip(found, none, strict=True)]


def acquisitions(table: pa.Table, suite: str) -> list[Acquisition]:
    """Returns how each run of a results table acquired the ability of a suite, by its headline accuracy.

    ValueError for a suite without floor and ceiling.
    """
    floors, ceilings = ({s.cell: s for s in series(table, suite, metric)} for metric in ("floor", "ceiling"))
    found = []
    for accuracy in series(table, suite):
        if accuracy.cell not in floors or accuracy.cell not in ceilings:
            raise ValueError(f"suite {suite!r} has no floor and ceiling; name an evaluation suite that has")
        found.append(acquisition(accuracy, floors[accuracy.cell], ceilings[accuracy.cell]))
    return found


@dataclasses.dataclass(frozen=True)
class Summary:
    """The runs of one setting. Diverged, unfinished and unmeasured ones (without a value at the end) are counted and
    leave the other numbers.

    runs: those that are left. onset_share: of them with an onset. onset_mean: restricted mean, a run
    without an onset counts as its last step. onset_median: NaN where half or more have no onset.
    transient_share: of the runs with an onset, those with a half decay; the medians of half_decay and
    abruptness are over the runs that have one. bimodality: of the final values.
    """

    labels: dict[str, float | str | None]
    runs: int
    diverged: int
    unfinished: int
    unmeasured: int
    onset_share: float
    onset_mean: float
    onset_median: float
    abruptness_median: float
    peak_mean: float
    peak_median: float
    peak_step_median: float
    transient_share: float
    half_decay_median: float
    final_mean: float
    final_median: float
    bimodality: float


def summarise(runs: Sequence[Acquisition], end: float | None = None) -> list[Summary]:
    """Returns a summary per setting, in order of appearance.

    end: a run whose last step is before it (and before its own end) is unfinished; default: the largest last
    step of the runs.
    """
    end = max((r.last_step for r in runs if np.isfinite(r.last_step)), default=0.0) if end is None else end
    settings: dict[tuple, list[Acquisition]] = {}
    for run in runs:
        settings.setdefault(tuple(run.labels.items()), []).append(run)
    return [_summary(group, end) for group in settings.values()]


def _summary(runs: list[Acquisition], end: float) -> Summary:
    alive = [r for r in runs if not r.diverged]
    complete = [r for r in alive if r.is_complete(end)]
    done = [r for r in complete if np.isfinite(r.final)]
    with_onset = [r for r in done if not r.censored]
    get = lambda name, group=done: np.array([getattr(r, name) for r in group], float)
    late = np.where(np.isnan(get("onset")), np.inf, get("onset"))
    median = _of(np.median, late)
    return Summary(
        labels=runs[0].labels,
        runs=len(done),
        diverged=len(runs) - len(alive),
        unfinished=len(alive) - len(complete),
        unmeasured=len(complete) - len(done),
        onset_share=_of(np.mean, [not r.censored for r in done]),
        onset_mean=_of(np.mean, get("restricted_onset")),
        onset_median=median if np.isfinite(median) else float("nan"),
        abruptness_median=_of(np.median, _known(get("abruptness"))),
        peak_mean=_of(np.mean, get("peak")),
        peak_median=_of(np.median, get("peak")),
        peak_step_median=_of(np.median, get("peak_step")),
        transient_share=_of(np.mean, np.isfinite(get("half_decay", with_onset))),
        half_decay_median=_of(np.median, _known(get("half_decay"))),
        final_mean=_of(np.mean, get("final")),
        final_median=_of(np.median, get("final")),
        bimodality=bimodality(get("final")),
    )


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _of(function: Callable, values) -> float:
    """NaN for no values."""
    return float(function(values)) if len(values) else float("nan")
