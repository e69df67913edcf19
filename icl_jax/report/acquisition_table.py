"""How each setting acquired an ability, as a table."""

import math
from collections.abc import Sequence

import numpy as np

from icl_jax.claims.statistics import Acquisition, interval, summarise
from icl_jax.report.html import Markup, render, table, tag
from icl_jax.report.inline import colour
from icl_jax.report.style import DARK, short_number
from icl_jax.report.view import Shown, View, text

HEAD = (
    "runs",
    "onset in",
    "onset, step",
    "abruptness",
    "peak",
    "at step",
    "decay in",
    "half-decay",
    "final",
    "bimodality",
)
LEGEND = (
    "Runs: those that came to the last step; the others are counted beside them and enter no number. Onset: first "
    "sustained crossing of half way from floor to ceiling; its mean counts a run without one as its last step (≥). "
    "Abruptness: steps from 25 % to 75 % of the way, median. Peak: mean over seeds, biased up as the largest of noisy "
    "values, with the median step. Decay: runs that fell half way from peak to floor, of those with an onset, and the "
    "median step (transience). Final: mean with its 95 % interval. Bimodality: Sarle's coefficient of the final "
    "values, from 5 runs on; above 0.56 there may be two modes."
)


def acquisition_table(view: View, suite: Shown, labels: Sequence[str]) -> Markup:
    """Returns a row per setting."""
    groups: dict[tuple, list[Acquisition]] = {}
    for run in suite.acquired:
        groups.setdefault(tuple(run.labels.get(name) for name in labels), []).append(run)
    order = sorted(groups, key=lambda setting: _rank(view, labels, setting))
    rows = [[*_setting(view, labels, setting), *_numbers(groups[setting], view.end)] for setting in order]
    names = labels or [""]
    return table(
        [*names, *HEAD],
        rows,
        numbers=range(len(names), len(names) + len(HEAD)),
        caption=f"{suite.heading} ({suite.name})",
    )


def _rank(view: View, labels: Sequence[str], setting: tuple) -> list:
    """Settings in the order of the figures; then by what is left, the draws."""
    known = dict(zip(labels, setting, strict=True))
    column = tuple(known[name] for name in view.others)
    rest = [known[name] for name in labels if name not in (view.primary, *view.others)]
    numbers = [-math.inf if v is None else v for v in rest if not isinstance(v, str)]
    return [view.values.index(known.get(view.primary)), view.columns.index(column), *numbers]


def _setting(view: View, labels: Sequence[str], setting: tuple) -> list:
    if not labels:
        return ["all runs"]
    cells = []
    for name, value in zip(labels, setting, strict=True):
        style = f"background:{colour(view.colours[value], DARK | view.dark)}" if name == view.primary else None
        swatch = tag("span", class_="swatch", style=style) if style else None
        cells.append(tag("span", swatch, text(value), class_="label"))
    return cells


def _numbers(runs: list[Acquisition], end: float) -> list:
    (summary,) = summarise(runs, end)
    done = [run for run in runs if not run.diverged and run.is_complete(end)]
    acquired = sum(not run.censored for run in done)
    decayed = sum(math.isfinite(run.half_decay) for run in done)
    mean, low, high = interval(np.array([run.final for run in done]))
    spread = tag("span", f" ({low:.2f} to {high:.2f})", class_="aside") if math.isfinite(low) else None
    return [
        _runs(summary),
        f"{acquired} of {len(done)}" if done else "-",
        ("≥ " if acquired < len(done) else "") + _step(summary.onset_mean),
        _step(summary.abruptness_median),
        _score(summary.peak_mean),
        _step(summary.peak_step_median),
        f"{decayed} of {acquired}" if acquired else "-",
        _step(summary.half_decay_median),
        render(_score(mean), spread),
        _score(summary.bimodality),
    ]


def _runs(summary) -> Markup:
    kinds = ("diverged", "unfinished", "unmeasured")
    left = [f"{n} {kind}" for kind in kinds if (n := getattr(summary, kind))]
    return render(summary.runs, tag("span", f" + {', '.join(left)}", class_="aside") if left else None)


def _step(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{value:,.0f}" if value < 1e6 else short_number(float(f"{value:.4g}"))


def _score(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"
