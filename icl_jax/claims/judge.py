"""Verdicts on claims: one statistic per seed, Student's t interval over the seeds, a bound."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from icl_jax.claims.measure import Best, Measured, Results, Statistic, resolved
from icl_jax.claims.statistics import FEWEST_SEEDS, interval
from icl_jax.claims.units import (
    LabelledRun,
    PlannedRuns,
    Setting,
    Undecidable,
    Unit,
    pick,
    planned_cells,
    show,
    show_units,
)
from icl_jax.headlines import Headline
from icl_jax.names import suggest

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
_LATER = 1e9  # steps by which an onset that was not seen may come later
_MOST_CHOICES = 200_000  # ways in which the diverged runs of one seed may have come out that are looked at
_FAR = 1e9  # what stands for a limit that is none among values that are ranked
_ORDER = {FAILS: 0, UNDECIDED: 1, HOLDS: 2}


@dataclasses.dataclass(frozen=True)
class Bound:
    """Where an effect is claimed to lie: between low and high, the ends included unless strict."""

    low: float
    high: float
    text: str
    strict: bool = False

    def verdict(self, low: float, high: float) -> str:
        """Returns "holds" for an interval inside the bound, "fails" for one outside it, else "undecided"."""
        if self.strict:
            inside, outside = self.low < low and high < self.high, high <= self.low or low >= self.high
        else:
            inside, outside = self.low <= low and high <= self.high, high < self.low or low > self.high
        return HOLDS if inside else FAILS if outside else UNDECIDED

    def stands(self, verdict: str, low: float, up: bool, down: bool) -> bool:
        """Returns whether a verdict on an interval that begins at low stays what it is when the effect may be larger
        (up) or smaller (down) by any amount."""
        if verdict == HOLDS:
            return not ((up and self.high < np.inf) or (down and self.low > -np.inf))
        if verdict == FAILS:
            return not (down if low >= self.high else up)  # above the bound, or below it
        return True


class Claim(Protocol):
    """A number per seed, out of the statistic at some settings, and a bound on its mean."""

    name: str
    of: Statistic
    by_rank: ClassVar[bool]  # whether the effect depends on the order of the values alone

    def settings(self, cells: Mapping[str, LabelledRun]) -> list[Setting]:
        """Returns the settings compared. Undecidable where the runs have none."""
        ...

    def effect(self, values: Float[np.ndarray, "settings U"], settings: list[Setting]) -> Float[np.ndarray, "U"]:
        """Returns a number per seed (U,) from values (settings, U); NaN where a value is."""
        ...

    def compared(self) -> str:
        """Returns the settings in words; "" for all runs."""
        ...

    def bound(self) -> Bound:
        """Returns where the mean effect is claimed to lie."""
        ...


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judged claim. effect: mean over n seeds; low, high: its 95 % interval; verdict: holds, fails or
    undecided; reason: why, and which runs did not count.

    >>> claim = claims.larger("Bursts", claims.final("icl"), at={"p_bursty": 1}, than={"p_bursty": 0}, by=0.2)
    >>> (verdict,) = claims.judge([claim], results, headlines)
    >>> verdict.statistic, verdict.bound, verdict.n
    ('final ICL: p_bursty 1 minus p_bursty 0', '> 0.2', 5)
    >>> verdict.verdict, verdict.reason
    ('holds', 'the whole interval is inside the bound')
    """

    name: str
    statistic: str
    bound: str
    effect: float
    low: float
    high: float
    n: int
    verdict: str
    reason: str

    @property
    def effect_text(self) -> str:
        """ "0.312 (0.280 to 0.344)", "-" for no effect.

        >>> claim = claims.larger("Bursts", claims.final("icl"), at={"p_bursty": 1}, than={"p_bursty": 0}, by=0.2)
        >>> claims.judge([claim], results, headlines)[0].effect_text
        '0.420 (0.400 to 0.440)'
        """
        if np.isnan(self.effect):
            return "-"
        return _number(self.effect) + ("" if np.isnan(self.low) else f" ({_number(self.low)} to {_number(self.high)})")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def judge(
    claims: Iterable[Claim],
    table: pa.Table,
    headlines: Iterable[Headline],
    num_steps: int | None = None,
    planned: PlannedRuns | None = None,
) -> list[Verdict]:
    """Returns a verdict per claim on the results table of a sweep.

    headlines: of the sweep, which statistics may name. planned: cell -> (labels, seeds, steps) of the whole sweep, so
    that runs without results count as unfinished. num_steps: where runs end that are not planned; default: the table's
    largest step.
    The unit is the seed: the tuple of the seeds that vary. A unit counts when every run it takes is done. A run that
    diverged counts too: with what was measured before, and for what was not with the value least favourable to the
    claim, of those that the metric can have; where it can have any, there is no verdict. An onset that was not seen
    counts as the run's last step, and a verdict that a later one could overturn is none. Fewer than 5 units,
    unfinished runs, a metric without a value (NaN), or a claim that does not fit the table: undecided, with the
    reason. No correction for the number of claims.

    >>> icl = claims.final("icl")
    >>> bursts = claims.larger("Bursts grow ICL", icl, at={"p_bursty": 1}, than={"p_bursty": 0}, by=0.2)
    >>> steady = claims.same("Half the bursts do as well", icl, at={"p_bursty": 1}, as_={"p_bursty": 0.5}, margin=0.1)
    >>> for found in claims.judge([bursts, steady], results, headlines):
    ...     print(f"{found.name}: {found.verdict}, {found.effect_text}")
    Bursts grow ICL: holds, 0.420 (0.400 to 0.440)
    Half the bursts do as well: fails, 0.310 (0.300 to 0.320)
    """
    results = Results(table, headlines, num_steps, planned)
    return [_judge(claim, results) for claim in claims]


def _judge(claim: Claim, results: Results) -> Verdict:
    about = (claim.name, ": ".join(filter(None, (results.text(claim.of), claim.compared()))), claim.bound().text)
    try:
        settings = claim.settings(results.cells)
        readings = [_read(results, claim.of, setting) for setting in settings]
    except Undecidable as problem:
        return Verdict(*about, np.nan, np.nan, np.nan, 0, UNDECIDED, str(problem))
    units = sorted({unit for reading in readings for unit in reading.units})
    runs = {cell: run for reading in readings for cell, run in reading.runs.items()}.values()
    states = Counter(run.state for run in runs)
    try:
        cases = _cases(claim, settings, readings, units)
    except Undecidable as problem:
        return Verdict(*about, np.nan, np.nan, np.nan, 0, UNDECIDED, str(problem))
    weighed = [_weigh(claim, settings, readings, units, case, states) for case in cases]
    case, ends, verdict, reason = min(weighed, key=lambda one: _ORDER[one[2]])
    counted = np.isfinite(case.effects)
    notes = [reason, *_run_notes(states, case), *_unit_notes(readings, units, counted | case.boundless)]
    return Verdict(*about, *ends, int(counted.sum()), verdict, "; ".join(notes))


@dataclasses.dataclass(frozen=True)
class Case:
    """A way in which what diverged runs did not live to show may have come out.

    values: (settings, units); effects: (units,); taken: the values that stand for diverged runs.
    """

    values: np.ndarray
    effects: np.ndarray
    taken: tuple[float, ...]

    @property
    def boundless(self) -> Bool[np.ndarray, "U"]:
        """Units (U,) whose effect could be as far from the claim as one likes."""
        return np.isinf(self.effects)


def _cases(claim: Claim, settings: list, readings: list["Reading"], units: list) -> list[Case]:
    """The case in which the effect of every unit is the smallest it could be, and that in which it is the largest:
    a claim holds when it holds in both, as the interval may be wider in either."""
    ends = np.array([[reading.ends.get(unit, (np.nan, np.nan)) for unit in units] for reading in readings])
    low, high = ends.reshape(len(readings), len(units), 2).transpose(2, 0, 1)
    extremes = [_extremes(claim, settings, low[:, unit], high[:, unit]) for unit in range(len(units))]
    cases = []
    for side in (0, 1):
        values = np.array([found[side] for found in extremes]).reshape(len(units), len(readings)).T
        with np.errstate(invalid="ignore"):  # infinite ends
            cases.append(Case(values, claim.effect(values, settings), tuple(sorted({*values[low < high]}))))
    if not (low < high).any():
        return cases[:1]
    return cases if claim.bound().low > -np.inf else cases[::-1]  # of two with one verdict the first is shown


def _extremes(claim: Claim, settings: list, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (settings,) between low and high at which the effect of a unit is smallest, and largest."""
    unsure = np.flatnonzero(low < high)
    if not len(unsure):
        return low, low
    choices = [_choices(claim, low, high, int(place), len(unsure)) for place in unsure]
    count = int(np.prod([len(choice) for choice in choices]))
    if count > _MOST_CHOICES:
        raise Undecidable(f"{len(unsure)} runs of one seed diverged, too many to weigh against one another")
    values = np.repeat(low[:, None], count, axis=1)
    values[unsure] = np.array(list(itertools.product(*choices))).T
    with np.errstate(invalid="ignore"):
        effects = claim.effect(values, settings)
    smallest = np.where(np.isnan(effects), np.inf, effects).argmin()
    largest = np.where(np.isnan(effects), -np.inf, effects).argmax()
    return values[:, smallest], values[:, largest]


def _choices(claim: Claim, low: np.ndarray, high: np.ndarray, place: int, many: int) -> np.ndarray:
    """What stands for the run at a place: its ends, between which an effect is monotone. One that goes by ranks is
    not: also what the other runs have, and `many` values between any two of them."""
    ends = np.array([low[place], high[place]])
    if not claim.by_rank:
        return ends
    others = np.concatenate([low, high])
    known = np.unique(others[(others > ends[0]) & (others < ends[1])])
    marks = np.clip(np.concatenate([ends[:1], known, ends[1:]]), -_FAR, _FAR)
    between = [np.linspace(a, b, many + 2)[1:-1] for a, b in itertools.pairwise(marks)]
    return np.unique(np.concatenate([ends, known, *between]))


def _weigh(
    claim: Claim, settings: list, readings: list["Reading"], units: list, case: Case, states: Counter
) -> tuple[Case, tuple[float, float, float], str, str]:
    """The interval of a case, and the verdict on it with its reason."""
    if case.boundless.any():
        return (
            case,
            (np.nan, np.nan, np.nan),
            UNDECIDED,
            f"runs diverged, and {claim.of.metric or 'the metric'} has no limit to count them with",
        )
    effect, low, high = (float(x) for x in interval(case.effects))
    if claim.by_rank:  # Student's t knows no ends, a correlation has some
        low, high = max(low, -1.0), min(high, 1.0)
    verdict, reason = _decide(claim.bound(), low, high, int(np.isfinite(case.effects).sum()), states)
    if not claim.bound().stands(verdict, low, *_may_move(claim, settings, readings, case.values, units)):
        verdict, reason = UNDECIDED, "onsets after the last step could overturn it: longer runs would tell"
    return case, (effect, low, high), verdict, reason


def _may_move(claim: Claim, settings: list, readings: list, values: np.ndarray, units: list) -> tuple[bool, bool]:
    """Whether the effect could be larger, and smaller, if the onsets that were not seen came later."""
    changes = []
    for place, reading in enumerate(readings):
        later = values.copy()
        later[place] += [_LATER * (unit in reading.censored) for unit in units]
        changes.append(claim.effect(later, settings) - claim.effect(values, settings))
    return bool(np.greater(changes, 0).any()), bool(np.less(changes, 0).any())


@dataclasses.dataclass(frozen=True)
class Reading:
    """A statistic at one setting: by unit its ends (`Measured.low`, `high`; NaN without a run that counts), the units
    that there are, those whose onset was not seen, and the runs it took."""

    setting: Setting
    ends: dict[Unit, tuple[float, float]]
    units: set[Unit]
    censored: set[Unit]
    runs: dict[str, Measured]


def _read(results: Results, of: Statistic, setting: Setting) -> Reading:
    """Reads a statistic; where it is one of the best, a unit needs all the runs that any unit has."""
    of = results.resolved(of)
    measured = results.measure(of)
    picked = pick(results.cells, setting, of.best and of.best.label)
    runs = {cell: measured[cell] for mine in picked.values() for cell in mine.values()}
    candidates = {key for mine in picked.values() for key in mine}
    complete = {unit: list(mine.values()) for unit, mine in picked.items() if candidates <= mine.keys()}
    if of.best is None:
        ends = {unit: (measured[cell].low, measured[cell].high) for unit, (cell,) in complete.items()}
        censored = {unit for unit, (cell,) in complete.items() if measured[cell].state == "censored"}
        return Reading(setting, ends, set(picked), censored, runs)
    judged = _judged(results, of, of.best)
    without = ("unfinished", "unmeasured")
    runs = {cell: judged[cell] if judged[cell].state in without else run for cell, run in runs.items()}
    return Reading(setting, _best(complete, runs, judged), set(picked), set(), runs)


def _judged(results: Results, of: Statistic, best: Best) -> dict[str, Measured]:
    """The statistic on the suite that the best run is chosen on, by cell."""
    return results.measure(dataclasses.replace(of, suite=best.select, best=None))


def _best(units: dict[Unit, list[str]], measured: dict[str, Measured], judged: dict[str, Measured]) -> dict:
    """The ends of the run that is best on the other suite, by unit: diverged ones are passed over, but for a unit
    that has no other."""
    ends = {}
    for unit, cells in units.items():
        unknown = any(measured[cell].state in ("unfinished", "unmeasured") for cell in cells)
        alive = [cell for cell in cells if np.isfinite(judged[cell].value)]
        if unknown:
            ends[unit] = (np.nan, np.nan)
        elif alive:
            best = measured[max(alive, key=lambda cell: judged[cell].value)]
            ends[unit] = (best.low, best.high)
        else:
            ends[unit] = (min(measured[cell].low for cell in cells), max(measured[cell].high for cell in cells))
    return ends


def _decide(bound: Bound, low: float, high: float, n: int, states: Counter) -> tuple[str, str]:
    runs = states.total()
    if states["unfinished"]:
        return UNDECIDED, f"{states['unfinished']} of {runs} runs unfinished"
    if states["unmeasured"]:
        return UNDECIDED, f"{states['unmeasured']} of {runs} runs have no value (NaN): the metric is not defined there"
    if n < FEWEST_SEEDS:
        return UNDECIDED, f"{n} seed{'' if n == 1 else 's'}, and a verdict takes at least {FEWEST_SEEDS}"
    verdict = bound.verdict(low, high)
    whole = {HOLDS: "the whole interval is inside", FAILS: "the whole interval is outside"}
    return verdict, f"{whole.get(verdict, 'the interval is partly inside')} the bound"


def _run_notes(states: Counter, case: Case) -> Iterable[str]:
    runs = states.total()
    if states["diverged"]:
        count = f"{states['diverged']} of {runs} runs diverged"
        values = " or ".join(f"{value:g}" for value in case.taken)
        yield f"{count} and count as {values}, the least favourable to the claim" if values else count
    if states["censored"]:
        yield f"{states['censored']} of {runs} runs had no onset and count as their last step"


def _unit_notes(readings: list[Reading], units: list[Unit], counted: np.ndarray) -> Iterable[str]:
    for reading in readings:
        if missing := [unit for unit in units if unit not in reading.ends]:
            yield f"runs missing at {show(reading.setting) or 'any setting'} with {show_units(missing)}"
    if left_out := [unit for unit, counts in zip(units, counted, strict=True) if not counts]:
        yield f"{show_units(left_out)} left out"


def check_claims(
    claims: Iterable[Claim],
    planned: PlannedRuns,
    suites: Collection[str],
    metrics: Sequence[str],
    every: int,
    headlines: Sequence[Headline] = (),
    more: Mapping[str, int] | None = None,
) -> None:
    """Raises ValueError for the first claim that could not be judged on the planned cells.

    planned: cell -> (labels, seeds, steps) of the whole sweep; suites: those that will be evaluated ("train"
    is always there), and their metrics, at each multiple of `every` steps; more: the steps between two runs of each
    eval beside the suites, whose metrics a run knows. Catches misspelt labels, values, suites and metrics, steps
    without an evaluation, settings that no cell has, and settings that pick several cells of one seed.

    >>> planned = {f"run {p}": ({"p_bursty": p}, {"init": 0}, 4000) for p in (0, 1)}
    >>> claim = claims.within("Floor", claims.final("fewshot_holdout"), at={"p_burst": 0}, high=0.6)
    >>> claims.check_claims([claim], planned, suites=["fewshot_holdout"], metrics=["accuracy"], every=100)
    Traceback (most recent call last):
        ...
    ValueError: claim 'Floor': no label 'p_burst'; did you mean 'p_bursty'?
    """
    cells, more = planned_cells(planned), more or {}
    known = {*suites, *more, "train"}
    end = max((cell.end for cell in cells.values()), default=0)
    claims = list(claims)
    names = [claim.name for claim in claims]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two claims are called {twice[0]!r}; give each a name of its own")
    for claim in claims:
        try:
            for part in claim.of.parts:
                _check_statistic(part, known, suites, metrics, more, every, end, headlines)
            for setting in claim.settings(cells):
                pick(cells, setting, claim.of.best and claim.of.best.label)
        except ValueError as problem:
            raise ValueError(f"claim {claim.name!r}: {problem}") from None


def _check_statistic(
    stated: Statistic,
    known: set[str],
    suites: Collection[str],
    metrics: Sequence[str],
    more: Mapping[str, int],
    every: int,
    end: int,
    headlines: Sequence[Headline],
) -> None:
    stated.check_window()
    _check_suites(stated, known, headlines)
    of = resolved(headlines, stated)
    if of.kind == "onset" and of.suite not in suites:
        raise ValueError(f"onset of {of.suite!r}: floor and ceiling are of suites; name one of them")
    for name in of.suites():  # those that it chooses by have the same metric at the same place
        if name not in more:
            _check_metric(of, name, metrics)
        elif of.suite not in more:
            raise ValueError(f"{of.metric} of {name!r} cannot choose for {of.suite!r}: its axes are others")
    _check_steps(of, more.get(of.suite, every), end)


def _check_metric(of: Statistic, suite: str, metrics: Sequence[str]) -> None:
    if suite == "train":
        return
    if of.metric not in metrics:
        raise ValueError(f"no metric {of.metric!r}{suggest(str(of.metric), metrics)}")
    axes = {"patch": ()} if of.metric == "changed" else {}
    if {axis for axis, _ in of.coords} != axes.keys():
        has = f"it has {', '.join(axes)}" if axes else "it has none"
        raise ValueError(f"coords {dict(of.coords)} of {of.metric} of {suite!r} are not its axes; {has}")


def _check_steps(of: Statistic, every: int, end: int) -> None:
    if of.window is not None and (of.window % every or of.window > (of.step or end)):
        fits = max(1, min(of.step or end, of.window) // every) * every
        raise ValueError(
            f"window {of.window} of {of.metric} on {of.suite!r} is not a multiple of evals.every {every} up to "
            f"{of.step or end} steps: use {fits}"
        )
    if of.step is not None and (of.step % every or not 0 <= of.step <= end):
        fits = min(end, round(of.step / every) * every)
        raise ValueError(f"no evaluation at step {of.step}: they come every {every} steps up to {end}; use {fits}")


def _check_suites(of: Statistic, known: set[str], headlines: Sequence[Headline]) -> None:
    titles = {headline.title.lower() for headline in headlines}
    for suite in of.suites():
        if suite not in known and suite.lower() not in titles:
            raise ValueError(f"no suite {suite!r}{suggest(suite, known | titles)}")
