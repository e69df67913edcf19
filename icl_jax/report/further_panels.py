"""Figures and tables of evals beside the suites."""

import functools
import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from icl_jax.claims.statistics import interval
from icl_jax.report.further import Further, reduced
from icl_jax.report.html import Markup, table
from icl_jax.report.panels import BOTTOM, LEFT, Panel, Plate, rows_of
from icl_jax.report.phase import heat_map
from icl_jax.report.places import Places
from icl_jax.report.style import DASHES, MUTED, accuracy_axis, scale_steps, value_axis
from icl_jax.report.view import MOST_LINES, Column, Spot, View
from icl_jax.storage.columns import REDUCTION, REDUCTIONS

MOST_MAPS = 6  # settings whose heat maps are drawn


def further_plates(found: list[Further], view: View) -> list[Plate]:
    """Returns the figures of each eval: values over training or along an axis, and heat maps over two axes."""
    made = []
    for name in dict.fromkeys(one.name for one in found):
        mine = [one for one in found if one.name == name and not one.is_reduced and one.final]
        if flat := [one for one in mine if len(one.axes) < 2]:
            made.append(_lines_plate(name, flat, view))
        made += [_maps_plate(one, view) for one in mine if len(one.axes) == 2]
    return made


def _lines_plate(name: str, found: list[Further], view: View) -> Plate:
    if len(view.columns) > 1:
        rows = [[_line_panel(one, view, column) for column in view.shown_columns] for one in found]
    else:
        rows = rows_of([_line_panel(one, view, view.columns[0]) for one in found])
    along = any(one.axes for one in found)
    runs = max(len(values) for one in found for values in one.final.values())
    parts = [f"{'Lines: mean' if along else 'Bold: mean'} over {view.seeds}." if runs > 1 else "One run each."]
    parts += ["At the last step of each run that came to its end."] if along else []
    parts += ["Band or bar: 95 % interval (Student's t over seeds)."] if runs > 1 else []
    parts += ["Dashed: the untrained model, mean over all runs."] if along else []
    places = [Places(_as_values(labels)) for one in found for labels in one.axes.values()]
    below = max((where.margins[1] for where in places), default=0.0)
    margins: dict[str, Any] = {"left": LEFT + 0.1, "bottom": BOTTOM + below}
    return Plate(_file_name(f"further-{name}"), f"Further eval: {name}", " ".join(parts), rows, **margins)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _line_panel(one: Further, view: View, column: Column) -> Panel:
    title = one.metric if len(view.columns) == 1 else view.place(column, "\n")
    over = next(iter(one.axes), "training steps")
    spots = {value: spot for value in view.values if (spot := view.best.get((value, column))) in one.final}
    means = {view.name(value, column) or "all": interval(one.final[spot])[0] for value, spot in spots.items()}
    shown = "; ".join(f"{name}: {', '.join(f'{x:.3g}' for x in np.ravel(mean)[:12])}" for name, mean in means.items())
    alt = f"{one.metric} of {one.name} against {over}, mean over seeds at the end. {shown}."
    draw = _draw_nothing if not spots else _draw_along if one.axes else _draw_over
    return Panel(title, f"{one.metric}, {one.name}", lambda axes: draw(axes, one, view, spots), alt)


def _draw_nothing(axes: Axes, one: Further, view: View, spots: dict) -> None:
    value_axis(axes)
    axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=MUTED)


def _draw_along(axes: Axes, one: Further, view: View, spots: dict) -> None:
    """Final values along the axis, a line for each setting."""
    ((axis, labels),) = one.axes.items()
    where = Places(_as_values(labels))
    accuracy_axis(axes) if one.is_share else value_axis(axes)
    where.scale(axes, axis)
    xs = [where[value] for value in where.values]
    if one.untrained is not None:
        axes.plot(xs, one.untrained, color=MUTED, linewidth=1.1, linestyle=DASHES, zorder=2)
    for value, spot in spots.items():
        mean, low, high = interval(one.final[spot])
        colour = view.colours[value]
        if where.numeric:
            axes.plot(xs, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, zorder=4)
            if len(spots) <= MOST_LINES:
                axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0, zorder=3)
        else:
            axes.plot(xs, mean, "o", color=colour, markersize=5, zorder=4)
            axes.vlines(xs, low, high, color=colour, linewidth=1.6, alpha=0.7, zorder=3)


def _draw_over(axes: Axes, one: Further, view: View, spots: dict) -> None:
    """Values over training, a line for each setting."""
    accuracy_axis(axes) if one.is_share else value_axis(axes)
    drawn = {value: one.lines[spot] for value, spot in spots.items()}
    scale_steps(axes, np.unique(np.concatenate([steps for steps, _ in drawn.values()])), 3 if view.small else 5)
    for value, (steps, values) in drawn.items():
        mean, low, high = interval(values)
        axes.plot(steps, mean, color=view.colours[value], linewidth=1.8, zorder=4)
        if len(drawn) <= MOST_LINES:
            axes.fill_between(steps, low, high, color=view.colours[value], alpha=0.18, linewidth=0, zorder=2)


def _as_values(labels: list) -> list:
    """Labels as `Places` takes them: numbers are floats."""
    return [label if isinstance(label, str) else float(label) for label in labels]


def _maps_plate(one: Further, view: View) -> Plate:
    """A heat map for each setting, all with one scale of colours."""
    shown = [place for place, spot in view.best.items() if spot in one.final]
    kept = [shown[i] for i in np.linspace(0, len(shown) - 1, min(len(shown), MOST_MAPS)).round().astype(int)]
    means = {place: interval(one.final[view.best[place]])[0] for place in kept}
    known = np.concatenate([mean[np.isfinite(mean)] for mean in means.values()])
    limits = (0.0, 1.0) if one.is_share or not known.size else (float(known.min()), float(known.max()))
    limits = limits if limits[1] > limits[0] else (limits[0] - 0.5, limits[1] + 0.5)
    panels = [_map_panel(one, view.name(*place) or "all runs", mean, limits) for place, mean in means.items()]
    left_out = "" if len(kept) == len(shown) else f" {len(kept)} of {len(shown)} settings, evenly spread."
    (up, _), (across, _) = one.axes.items()
    caption = f"Mean over {view.seeds} at the last step, {up} against {across}; one scale of colours for all.{left_out}"
    title = f"Further eval: {one.name}, {one.metric}"
    return Plate(
        _file_name(f"further-{one.name}-{one.metric}"), title, caption, rows_of(panels), legend=False, left=0.62
    )


def _map_panel(one: Further, setting: str, mean: np.ndarray, limits: tuple[float, float]) -> Panel:
    up, across = one.axes.items()
    alt = (
        f"Heat map of {one.metric} of {one.name} at {setting}: {up[0]} ({len(up[1])}) against {across[0]} "
        f"({len(across[1])}), from {np.nanmin(mean):.3g} to {np.nanmax(mean):.3g}."
    )
    draw = functools.partial(heat_map, scores=mean, up=up, across=across, scale="viridis", limits=limits)
    return Panel(setting, f"{one.metric}, {one.name}", draw, alt)


def further_tables(found: list[Further], view: View) -> list[Markup]:
    """Returns the tables of results that are too many for the table of the sweep, or along three axes or more."""
    return [_table(one, view) for one in found if one.is_reduced and one.final]


def _table(one: Further, view: View) -> Markup:
    kinds = [str(label) for label in one.axes[REDUCTION]] if REDUCTION in one.axes else list(REDUCTIONS)
    rows = [
        [view.name(*place) or "all runs", len(one.final[spot]), *map(_number, _reductions(one, spot, kinds))]
        for place, spot in view.best.items()
        if spot in one.final
    ]
    if REDUCTION in one.axes:
        caption = f"{one.name}, {one.metric}: over all its numbers, which are in array files (icl_jax.Run.array)"
    else:
        caption = f"{one.name}, {one.metric}: over {', '.join(one.axes)}"
    return table(["setting", "runs", *kinds], rows, range(1, 2 + len(kinds)), f"{caption}; mean over runs at the end")


def _reductions(one: Further, spot: Spot, kinds: list[str]) -> list[float]:
    if REDUCTION in one.axes:
        return list(interval(one.final[spot])[0])
    values = reduced(one.final[spot])
    return [float(np.mean(values[kind])) for kind in kinds]


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "-"
