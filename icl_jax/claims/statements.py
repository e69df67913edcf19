"""Claims: what a figure must show, as data that a config states and a report judges.

    def get_claims(scale):
        return [
            claims.larger(
                "Burstiness makes in-context learning",
                claims.final("icl"), at={"p_bursty": 1}, than={"p_bursty": 0}, by=0.2,
            )
        ]

A setting is a dict of labels, as `icl_jax.grid` gives them; it must pick one run per seed.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from icl_jax.claims.judge import Bound, Verdict, check_claims, judge
from icl_jax.claims.measure import Best, Statistic, at, decay, final, onset, peak, reaches
from icl_jax.claims.records import fields_of, make
from icl_jax.claims.units import LabelledRun, Setting, Undecidable, matching, normalised, show
from icl_jax.names import suggest

__all__ = [
    "Claim",
    "Statistic",
    "Verdict",
    "at",
    "check_claims",
    "claims_from_json",
    "claims_to_json",
    "decay",
    "final",
    "judge",
    "larger",
    "onset",
    "peak",
    "reaches",
    "same",
    "trend",
    "within",
]


@dataclasses.dataclass(frozen=True)
class Larger:
    """Per seed: `of` at a setting minus `of` at another is more than `by`.

    than: a setting, or several: then the largest of them, seed by seed, which favours them.

    >>> others = [{"p_bursty": 0}, {"p_bursty": 0.5}]
    >>> claim = claims.larger("More bursts, more ICL", claims.final("icl"), at={"p_bursty": 1}, than=others)
    >>> found = claims.judge([claim], results, headlines)[0]
    >>> found.verdict, found.bound, found.effect_text
    ('holds', '> 0', '0.310 (0.300 to 0.320)')
    """

    by_rank: ClassVar[bool] = False
    name: str
    of: Statistic
    at: Setting
    than: Setting | Sequence[Setting]
    by: float = 0.0

    def __post_init__(self):
        _check_types(self, "by")
        than = normalised(self.than) if isinstance(self.than, Mapping) else tuple(normalised(s) for s in self.than)
        if than == ():
            raise ValueError(f"claim {self.name!r}: than names no setting; name at least one")
        if not math.isfinite(self.by):
            raise ValueError(f"claim {self.name!r}: by {self.by} must be finite; give the least difference")
        _prepare(self, at=normalised(self.at), than=than)

    def settings(self, cells: Mapping[str, LabelledRun]) -> list[Setting]:
        return [self.at, *self._others()]

    def _others(self) -> Sequence[Setting]:
        return [self.than] if isinstance(self.than, Mapping) else self.than

    def effect(self, values: Float[np.ndarray, "settings U"], settings: list[Setting]) -> Float[np.ndarray, "U"]:
        return values[0] - values[1:].max(0)

    def compared(self) -> str:
        others = [show(setting) for setting in self._others()]
        than = others[0] if len(others) == 1 else f"the largest of ({'; '.join(others)})"
        return f"{show(self.at)} minus {than}"

    def bound(self) -> Bound:
        return Bound(self.by, math.inf, f"> {self.by:g}", strict=True)


@dataclasses.dataclass(frozen=True)
class Within:
    """Per seed: `of` at a setting is between low and high.

    >>> claim = claims.within("No bursts, no ICL", claims.final("icl"), at={"p_bursty": 0}, low=0.45, high=0.55)
    >>> found = claims.judge([claim], results, headlines)[0]
    >>> found.verdict, found.bound, found.effect_text
    ('holds', '0.45 to 0.55', '0.500 (0.500 to 0.500)')
    """

    by_rank: ClassVar[bool] = False
    name: str
    of: Statistic
    at: Setting
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        _check_types(self, "low", "high")
        if not self.low <= self.high or self.low == -math.inf == -self.high:
            bounds = f"between {self.low} and {self.high}"
            raise ValueError(f"claim {self.name!r}: {bounds}; give low, high or both, in order")
        _prepare(self, at=normalised(self.at))

    def settings(self, cells: Mapping[str, LabelledRun]) -> list[Setting]:
        return [self.at]

    def effect(self, values: Float[np.ndarray, "settings U"], settings: list[Setting]) -> Float[np.ndarray, "U"]:
        return values[0]

    def compared(self) -> str:
        return show(self.at)

    def bound(self) -> Bound:
        if math.isinf(self.high):
            return Bound(self.low, self.high, f"at least {self.low:g}")
        if math.isinf(self.low):
            return Bound(self.low, self.high, f"at most {self.high:g}")
        return Bound(self.low, self.high, f"{self.low:g} to {self.high:g}")


@dataclasses.dataclass(frozen=True)
class Same:
    """Equivalence: the interval of `of` at a setting minus `of` at another, per seed, lies within ±margin.

    A wide interval never makes it hold: no difference found is not no difference.

    >>> claim = claims.same("Alike", claims.final("iwl"), at={"p_bursty": 0}, as_={"p_bursty": 0.5}, margin=0.1)
    >>> found = claims.judge([claim], results, headlines)[0]
    >>> found.verdict, found.bound, found.effect_text
    ('fails', 'within ±0.1', '0.400 (0.400 to 0.400)')
    """

    by_rank: ClassVar[bool] = False
    name: str
    of: Statistic
    at: Setting
    as_: Setting
    margin: float

    def __post_init__(self):
        _check_types(self, "margin")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"claim {self.name!r}: margin {self.margin} must be above 0; say what counts as the same")
        _prepare(self, at=normalised(self.at), as_=normalised(self.as_))

    def settings(self, cells: Mapping[str, LabelledRun]) -> list[Setting]:
        return [self.at, self.as_]

    def effect(self, values: Float[np.ndarray, "settings U"], settings: list[Setting]) -> Float[np.ndarray, "U"]:
        return values[0] - values[1]

    def compared(self) -> str:
        return f"{show(self.at)} minus {show(self.as_)}"

    def bound(self) -> Bound:
        return Bound(-self.margin, self.margin, f"within ±{self.margin:g}")


@dataclasses.dataclass(frozen=True)
class Trend:
    """Per seed: the rank correlation (Spearman, ties averaged) of `of` with the label `over` is above 0,
    or below it with rising=False. at: fixes the other labels. A constant statistic has correlation 0.

    >>> claim = claims.trend("IWL falls with burstiness", claims.final("iwl"), over="p_bursty", rising=False)
    >>> found = claims.judge([claim], results, headlines)[0]
    >>> found.verdict, found.bound, found.effect_text  # of rank correlations
    ('holds', '< 0', '-1.000 (-1.000 to -1.000)')
    """

    by_rank: ClassVar[bool] = True
    name: str
    of: Statistic
    over: str
    rising: bool = True
    at: Setting = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _check_types(self)
        if not isinstance(self.over, str):
            raise ValueError(f"claim {self.name!r}: over {self.over!r} is no label; give its name")
        if self.over in self.at:
            raise ValueError(f"claim {self.name!r}: over and at both name {self.over!r}; leave it out of at")
        if self.of.best and self.of.best.label == self.over:
            raise ValueError(f"claim {self.name!r}: over and best_of both name {self.over!r}; choose one")
        _prepare(self, at=normalised(self.at))

    def settings(self, cells: Mapping[str, LabelledRun]) -> list[Setting]:
        """Returns a setting per value of the label.

        >>> from icl_jax.claims.units import LabelledRun
        >>> cells = {str(p): LabelledRun({"p_bursty": p, "layers": 2.0}, {"init": 0}) for p in (0.0, 0.5, 1.0)}
        >>> claims.trend("Rises", claims.final("icl"), over="p_bursty", at={"layers": 2}).settings(cells)
        [{'layers': 2.0, 'p_bursty': 0.0}, {'layers': 2.0, 'p_bursty': 0.5}, {'layers': 2.0, 'p_bursty': 1.0}]
        """
        found = matching(cells, self.at, [self.over]).values()
        mine = {cell.labels[self.over] for cell in found} - {None}
        if texts := sorted(value for value in mine if isinstance(value, str)):
            raise Undecidable(f"label {self.over!r} is text ({', '.join(texts)}), which has no order; use larger")
        if len(mine) < 2:
            raise Undecidable(f"{len(mine)} value(s) of {self.over!r} among the runs; a trend takes at least 2")
        numbers = sorted(value for value in mine if isinstance(value, int | float))
        return [{**self.at, self.over: value} for value in numbers]

    def effect(self, values: Float[np.ndarray, "settings U"], settings: list[Setting]) -> Float[np.ndarray, "U"]:
        levels = np.array([setting[self.over] for setting in settings])
        return _rank_correlations(levels, values)

    def compared(self) -> str:
        return f"rank correlation with {self.over}" + (f" at {show(self.at)}" if self.at else "")

    def bound(self) -> Bound:
        low, high = (0.0, math.inf) if self.rising else (-math.inf, 0.0)
        return Bound(low, high, "> 0" if self.rising else "< 0", strict=True)


Claim = Larger | Within | Same | Trend
larger, within, same, trend = Larger, Within, Same, Trend  # as configs write them
KINDS = {"larger": Larger, "within": Within, "same": Same, "trend": Trend}


def _rank_correlations(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation of levels (S,), distinct, with each column of values (S, U); NaN where one is."""
    from scipy.stats import rankdata  # here: slow to import, and only reports need it

    ranks = rankdata(values, axis=0, nan_policy="propagate") - (len(levels) + 1) / 2
    places = rankdata(levels) - (len(levels) + 1) / 2
    sizes = np.sqrt((places**2).sum() * (ranks**2).sum(0))
    return np.where(sizes == 0, 0.0, (places[:, None] * ranks).sum(0) / np.where(sizes == 0, 1, sizes))


def claims_to_json(claims: Sequence[Claim]) -> list[dict]:
    """Returns claims as JSON values; fields at their default are left out.

    >>> claims.claims_to_json([claims.larger("Bursts", claims.final("icl"), {"p_bursty": 1}, {"p_bursty": 0}, by=0.2)])
    [{'kind': 'larger', 'name': 'Bursts', 'of': {'kind': 'final', 'suite': 'icl'},
      'at': {'p_bursty': 1.0}, 'than': {'p_bursty': 0.0}, 'by': 0.2}]
    """
    return [{"kind": type(claim).__name__.lower(), **fields_of(claim)} for claim in claims]


def claims_from_json(rows: Sequence[Mapping]) -> list[Claim]:
    """Returns the claims of `claims_to_json`. ValueError names an unknown kind, an unknown or a missing field.

    >>> rows = claims.claims_to_json([claims.trend("ICL rises", claims.final("icl"), over="p_bursty")])
    >>> claims.claims_from_json(rows)[0].compared()
    'rank correlation with p_bursty'
    >>> claims.claims_from_json([{"kind": "larges"}])
    Traceback (most recent call last):
        ...
    ValueError: claim None of unknown kind 'larges'; did you mean 'larger'?
    """
    return [_claim(row) for row in rows]


def _claim(row: Mapping) -> Claim:
    row = dict(row)
    kind = row.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"claim {row.get('name')!r} of unknown kind {kind!r}{suggest(str(kind), KINDS)}")
    return make(KINDS[kind], row | ({"of": _statistic(row["of"])} if "of" in row else {}), f"claim {row.get('name')!r}")


def _statistic(row: Mapping) -> Statistic:
    best = {"best": make(Best, row["best"], "best")} if row.get("best") else {}
    less = {"less": _statistic(row["less"])} if row.get("less") else {}
    return make(Statistic, {**row, **best, **less}, f"statistic {row.get('kind')!r}")


def _check_types(claim: Claim, *numbers: str) -> None:
    if not isinstance(claim.name, str):
        raise ValueError(f"a claim is called {claim.name!r}: give its name, a sentence that says what is claimed")
    if not isinstance(claim.of, Statistic):
        raise ValueError(f"claim {claim.name!r}: of {claim.of!r} is no statistic; write final({claim.of!r}), ...")
    for name in numbers:
        value = getattr(claim, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ValueError(f"claim {claim.name!r}: {name} {value!r} is no number; give one")
        _prepare(claim, **{name: value.item() if isinstance(value, np.number) else value})


def _prepare(claim: Claim, **values) -> None:
    """Sets fields of a frozen claim while it is made."""
    for name, value in values.items():
        object.__setattr__(claim, name, value)
