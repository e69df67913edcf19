"""Learning curves of a sweep, and in-context against in-weights learning."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from icl_jax.claims.statistics import interval
from icl_jax.report.bounds import draw_bound
from icl_jax.report.panels import Panel
from icl_jax.report.style import (
    DASHES,
    FAINT,
    MUTED,
    accuracy_axis,
    along,
    draw_path,
    plane_axes,
    scale_steps,
    value_axis,
)
from icl_jax.report.view import MOST_LINES, Column, Shown, View, text

MOST_SEEDS = 8  # drawn one by one


def curve_panel(view: View, suite: Shown, column: Column) -> Panel:
    """Returns the learning curves of the settings of a column by one headline."""
    one = len(view.columns) == 1
    title = suite.heading if one else view.place(column, "\n")
    subtitle = suite.headline.measure if one else suite.headline.subject
    runs = {v: r for v in view.values if (spot := view.best.get((v, column))) and (r := suite.runs.get(spot))}
    ends = ", ".join(f"{text(v)}: {_end(r.values):.2f}" for v, r in runs.items())
    where = "" if one else f" at {view.place(column)}"
    alt = (
        f"{_capital(suite.headline.subject)} over training steps{where}. Mean at the end by "
        f"{view.primary or 'setting'}: {ends}."
    )
    return Panel(title, subtitle, lambda axes: _draw_curves(axes, view, suite, column), alt)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _end(values: np.ndarray) -> float:
    means = interval(values)[0]
    known = means[np.isfinite(means)]
    return float(known[-1]) if len(known) else float("nan")


def _draw_curves(axes: Axes, view: View, suite: Shown, column: Column) -> None:
    accuracy_axis(axes) if suite.headline.is_accuracy else value_axis(axes)
    spots = {v: view.best[v, column] for v in view.values if view.best.get((v, column)) in suite.runs}
    if not spots:
        axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=MUTED)
        return
    if view.small and suite.headline.is_accuracy:
        axes.set_yticks([0, 0.5, 1])
    scale_steps(axes, np.unique(np.concatenate([suite.runs[s].steps for s in spots.values()])), 3 if view.small else 5)
    many = len(spots) > MOST_LINES
    places = {value: place for place, value in enumerate(view.coloured)}
    for value in sorted(spots, key=lambda v: view.colours[v] != FAINT):  # grey ones below
        spot, colour = spots[value], view.colours[value]
        for other in view.draws[value, column]:
            if other != spot and other in suite.runs:
                _draw_mean(axes, suite.runs[other], colour, 0.7, alpha=0.4)
        if not many and colour != FAINT:
            _draw_spread(axes, suite.runs[spot], colour, seeds=not view.drawn)
        mark = along(view.marks.get(value, ""), len(suite.runs[spot].steps), places.get(value, 0))
        _draw_mean(axes, suite.runs[spot], colour, 1.2 if many or colour == FAINT else 2.0, mark=mark)
        _draw_ends(axes, suite.runs[spot], colour)
    for name in ("floor", "ceiling"):
        levels = {v: getattr(suite.runs[s], name) for v, s in spots.items()}
        draw_bound(axes, name, {v: x for v, x in levels.items() if np.isfinite(x)}, view.colours, named=not view.small)


def _draw_mean(
    axes: Axes, runs, colour: str, width: float, alpha: float = 1.0, mark: Mapping[str, object] | None = None
) -> None:
    """mark: the shape of the setting along its line; without one, a line of a single point is a dot."""
    mean = interval(runs.values)[0]
    style = {"solid_capstyle": "round", "solid_joinstyle": "round", "zorder": 4 if alpha == 1 else 3}
    if not (mark and mark["marker"]):
        mark = {"marker": "o" if np.isfinite(mean).sum() == 1 else None, "markersize": 4}
    axes.plot(runs.steps, mean, color=colour, linewidth=width, alpha=alpha, **mark, **style)


def _draw_spread(axes: Axes, runs, colour: str, seeds: bool) -> None:
    """The interval of the mean as a band and, where they are few, each seed."""
    _, low, high = interval(runs.values)
    axes.fill_between(runs.steps, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    if seeds and 1 < len(runs.values) <= MOST_SEEDS:
        axes.plot(runs.steps, runs.values.T, color=colour, linewidth=0.6, alpha=0.45, zorder=3)


def _draw_ends(axes: Axes, runs, colour: str) -> None:
    """Crosses where runs diverged."""
    for values in runs.values[runs.diverged]:
        if (known := np.flatnonzero(np.isfinite(values))).size:
            axes.plot(runs.steps[known[-1]], values[known[-1]], "x", color=colour, markersize=6, zorder=6)


def plane_panel(view: View, column: Column) -> Panel:
    """Returns the first headline against the second, both accuracies, a path per setting of a column."""
    up, across = (suite.headline.subject for suite in view.plane)
    title = "Trade-off" if len(view.columns) == 1 else view.place(column, "\n")
    paths = {v: _path(view, v, column) for v in view.values if (v, column) in view.best}
    paths = {v: path for v, path in paths.items() if path.shape[1]}
    ends = ", ".join(f"{text(v)}: ({path[0, -1]:.2f}, {path[1, -1]:.2f})" for v, path in paths.items())
    where = f" at {view.place(column)}" if column else ""
    plane = f"{across.removesuffix(' accuracy')} and {up}" if up.endswith(" accuracy") else f"{across} and {up}"
    alt = f"Paths over training in the plane of {plane}{where}. Ends: {ends}."
    return Panel(title, up, lambda axes: _draw_plane(axes, view, paths, across), alt)


def _path(view: View, value, column: Column) -> np.ndarray:
    """Mean accuracies over training (2, S): along x the second headline, along y the first."""
    spot = view.best[value, column]
    if not all(spot in suite.runs for suite in view.plane):
        return np.empty((2, 0))
    up, across = (suite.runs[spot] for suite in view.plane)
    _, at_across, at_up = np.intersect1d(across.steps, up.steps, return_indices=True)
    path = np.stack([interval(across.values)[0][at_across], interval(up.values)[0][at_up]])
    return path[:, np.isfinite(path).all(0)]


def _draw_plane(axes: Axes, view: View, paths: dict, across: str) -> None:
    accuracy_axis(axes)
    plane_axes(axes)
    axes.set_xlabel(across)
    if view.small:
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
    floors = [np.nanmean([runs.floor for runs in suite.runs.values()]) for suite in view.plane if suite.runs]
    if len(floors) == 2:
        axes.axhline(float(floors[0]), color=FAINT, linewidth=0.9, linestyle=DASHES, zorder=1)
        axes.axvline(float(floors[1]), color=FAINT, linewidth=0.9, linestyle=DASHES, zorder=1)
    for value in sorted(paths, key=lambda v: view.colours[v] != FAINT):
        if len(paths) <= MOST_LINES and view.colours[value] != FAINT:
            mark = view.marks.get(value) or "o"
            draw_path(axes, paths[value], view.colours[value], scale=0.7 if view.small else 0.9, mark=mark)
        else:
            axes.plot(*paths[value], color=view.colours[value], linewidth=0.8, alpha=0.7, zorder=2)
            axes.plot(*paths[value][:, -1], "o", color=view.colours[value], markersize=4, zorder=3)
