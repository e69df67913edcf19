"""Final and peak scores against the swept quantity."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation, Transform

from icl_jax.claims.statistics import interval
from icl_jax.report.bounds import SAME, draw_bound
from icl_jax.report.panels import Panel
from icl_jax.report.places import Places
from icl_jax.report.style import DASHES, FAINT, MUTED, PAPER, accuracy_axis, value_axis
from icl_jax.report.sweep_curves import MOST_SEEDS
from icl_jax.report.view import MOST_LINES, Column, Runs, Shown, Value, View, text

MOST_PEAKS = 6  # lines whose peaks are drawn too


def final_panel(view: View, suite: Shown) -> Panel:
    """Returns the final value, and of an accuracy the peak, against the primary label or, with columns, these."""
    means = [(v, c, interval(suite.runs[s].final)[0]) for (v, c), s in view.best.items() if s in suite.runs]
    known = "; ".join(f"{view.name(v, c)}: {mean:.2f}" for v, c, mean in means if math.isfinite(mean))
    what = "Final and peak" if suite.headline.is_accuracy else "Final"
    alt = f"{what} {suite.headline.subject} against {across(view)}. Final, mean over seeds: {known}."
    draw = _draw_by_value if len(view.columns) == 1 else _draw_by_column
    title = (
        f"{suite.title}: final and peak"
        if suite.headline.is_accuracy and shows_peaks(view)
        else f"{suite.title}: final"
    )
    return Panel(title, suite.headline.measure, lambda axes: draw(axes, view, suite), alt)


def across(view: View) -> str:
    """Returns what is on the x axis."""
    return view.primary if len(view.columns) == 1 else ", ".join(view.others)


def places(view: View) -> Places:
    """Returns where the values on the x axis stand."""
    return Places(view.values if len(view.columns) == 1 else [_key(view, c) for c in view.columns])


def shows_peaks(view: View) -> bool:
    """Returns whether peaks are drawn: not with columns and many lines, where they hide one another."""
    return len(view.columns) == 1 or len(view.values) <= MOST_PEAKS


def _has_rings(view: View, suite: Shown) -> bool:
    return suite.headline.is_accuracy and shows_peaks(view)


def _key(view: View, column: Column) -> Value:
    return column[0] if len(column) == 1 else ", ".join(map(text, column))


def _draw_by_value(axes: Axes, view: View, suite: Shown) -> None:
    """One label: a point per value."""
    runs = {v: suite.runs[s] for v in view.values if (s := view.best.get((v, view.columns[0]))) in suite.runs}
    where = places(view)
    accuracy_axis(axes) if suite.headline.is_accuracy else value_axis(axes)
    where.scale(axes, across(view))
    if where.numeric:
        _draw_line(axes, [(where[v], r) for v, r in runs.items()], axes.transData, color=FAINT, linewidth=1.0, zorder=2)
    for value, found in runs.items():
        size = 6 if len(runs) <= MOST_LINES else 4
        _draw_point(
            axes, where[value], found, view.colours[value], axes.transData, size, ring=suite.headline.is_accuracy
        )
    for name in ("floor", "ceiling"):
        _draw_level(axes, where, name, {v: getattr(r, name) for v, r in runs.items()})


def _draw_by_column(axes: Axes, view: View, suite: Shown) -> None:
    """Several labels: columns along x, a line per value of the coloured label, points moved apart."""
    where = places(view)
    accuracy_axis(axes) if suite.headline.is_accuracy else value_axis(axes)
    where.scale(axes, across(view))
    for rank, value in enumerate(view.values):
        spots = {c: s for c in view.columns if (s := view.best.get((value, c))) in suite.runs}
        points = [(where[_key(view, c)], suite.runs[s]) for c, s in spots.items()]
        aside = min(5, 16 / len(view.values)) * (rank - (len(view.values) - 1) / 2)  # points of type
        moved = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
        if where.numeric:
            _draw_line(axes, points, moved, color=view.colours[value], linewidth=1.4, zorder=3)
        for x, runs in points:
            _draw_point(
                axes, x, runs, view.colours[value], moved, 4.5, ring=suite.headline.is_accuracy and shows_peaks(view)
            )
    for name in ("floor", "ceiling"):
        levels: dict[Value, list[float]] = {}
        for (_, column), spot in view.best.items():
            if spot in suite.runs:
                levels.setdefault(_key(view, column), []).append(getattr(suite.runs[spot], name))
        _draw_level(axes, where, name, {key: float(np.mean(levels[key])) for key in where.values if key in levels})


def _draw_line(axes: Axes, points: list[tuple[float, Runs]], transform: Transform, **style) -> None:
    means = [(x, interval(runs.final)[0]) for x, runs in points if len(runs.final)]
    if means:
        axes.plot(*zip(*means, strict=True), transform=transform, **style)


def _draw_point(axes: Axes, x: float, runs: Runs, colour: str, transform: Transform, size: float, ring: bool) -> None:
    """Final: dot with its interval, and each seed; peak: ring with a thin interval."""
    if not len(runs.final):
        return
    style = {"color": colour, "transform": transform}
    final, *bounds = interval(runs.final)
    if np.isfinite(bounds[0]):
        axes.plot([x, x], bounds, linewidth=0.36 * size, alpha=0.75, zorder=4, solid_capstyle="butt", **style)
    if 1 < len(runs.final) <= MOST_SEEDS:
        seeds = np.full(len(runs.final), x)
        axes.plot(seeds, runs.final, ".", markersize=3, alpha=0.5, zorder=3, **style)
    axes.plot([x], [final], "o", markersize=size, markeredgecolor=PAPER, markeredgewidth=size / 6, zorder=6, **style)
    if ring:
        peak, *spread = interval(runs.peak)
        empty = {"markerfacecolor": "none", "markeredgewidth": size / 6}
        axes.plot([x, x], spread, linewidth=0.9, alpha=0.6, zorder=3, solid_capstyle="butt", **style)
        axes.plot([x], [peak], "o", markersize=size + 2.5, zorder=5, **empty, **style)


def _draw_level(axes: Axes, where: Places, name: str, levels: dict[Value, float]) -> None:
    """Floor or ceiling: one line where the places hardly differ, else a dash at each."""
    known = {v: level for v, level in levels.items() if math.isfinite(level)}
    if not known:
        return
    xs, ys = [where[v] for v in known], list(known.values())
    if np.ptp(ys) < SAME:
        draw_bound(axes, name, {"all": float(np.mean(ys))}, {})
        return
    if where.numeric:
        axes.plot(xs, ys, color=MUTED, linewidth=1.1, linestyle=DASHES, zorder=2)
    else:
        axes.hlines(ys, np.subtract(xs, 0.35), np.add(xs, 0.35), color=MUTED, linewidth=1.1, linestyle=DASHES)
    axes.text(1.015, ys[-1], name, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)
