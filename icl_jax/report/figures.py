"""The figure of a run: its headlines over training, and the first two one against the other."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from icl_jax.headlines import Headline
from icl_jax.report.bounds import draw_bound
from icl_jax.report.curves import Curves, Setting, curves, has_bounds, has_plane, headline_curves
from icl_jax.report.style import (
    MUTED,
    STYLE,
    accuracy_axis,
    along,
    draw_path,
    head,
    marks_of,
    plane_axes,
    save,
    scale_steps,
    sequential,
    value_axis,
)
from icl_jax.storage.paths import as_path

_LEFT, _RIGHT = 0.045, 0.88  # of the panels, as a share of the figure's width
MOST_PANELS = 4  # headlines
_MOST_NAMED = 18  # settings in the legend


def learning_figure(
    table: pa.Table,
    out: str | pathlib.Path,
    *,
    title: str,
    headlines: Sequence[Headline],
    group_by: Sequence[str] = (),
) -> list[pathlib.Path]:
    """Writes out.png and out.svg and returns their paths.

    A panel for each headline (at most MOST_PANELS) over steps, one colour per setting of the hypers `group_by`, a thin
    line per seed and their mean in bold; of the accuracy of a suite floor and ceiling dashed. Where the first two are
    such accuracies, on the right one against the other, from the open ring to the dot. NaN (a member that diverged)
    ends a line.
    """
    shown = list(headlines[:MOST_PANELS])
    data = [headline_curves(table, headline, group_by) for headline in shown]
    colours = _colours(sorted({setting for curve in data for setting in curve.values}))
    ratios = [1.0] * len(shown) + [0.8] * has_plane(shown)
    wide = max(sum(ratios), 1.8) / 2.8  # in figures of two panels and a plane
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11 * wide, 4.5), facecolor="white")
        FigureCanvasAgg(figure)
        place = {"left": _LEFT / wide, "right": 1 - (1 - _RIGHT) / wide, "bottom": 0.125, "top": 0.725}
        grid = figure.add_gridspec(1, len(ratios), **place, wspace=0.33, width_ratios=ratios)
        panels = [figure.add_subplot(cell) for cell in grid]
        marks = marks_of(colours)
        for axes, headline, curve in zip(panels, shown, data, strict=False):
            head(axes, f"{headline.long} learning" if headline.is_default else headline.title, headline.measure)
            accuracy_axis(axes) if headline.is_accuracy else value_axis(axes)
            _draw_curves(axes, curve, colours, marks)
            if has_bounds(table, headline):
                _draw_bounds(axes, table, headline.suite, group_by, colours)
        if has_plane(shown):
            first, second = shown[:2]
            head(panels[-1], "One against the other", first.subject)
            accuracy_axis(panels[-1])
            _draw_plane(panels[-1], data[0], data[1], colours, marks, second.subject)
        _draw_title(figure, title, next(filter(None, data), data[0]), _LEFT / wide)
        _draw_legend(figure, colours, marks, group_by, 1 - (1 - _RIGHT - 0.022) / wide)
        return [save(figure, as_path(f"{out}{suffix}")) for suffix in (".png", ".svg")]


def _colours(settings: list[Setting]) -> dict[Setting, tuple]:
    """One colour per setting, in order."""
    return dict(zip(settings, map(to_rgb, sequential(len(settings))), strict=True))


def _draw_curves(axes: Axes, data: Curves, colours: dict, marks: dict) -> None:
    if not data:
        axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=MUTED)
        return
    scale_steps(axes, data.steps)
    for setting, values in data.values.items():
        style = {"color": colours[setting], "solid_capstyle": "round", "solid_joinstyle": "round"}
        marker = "o" if len(data.steps) == 1 else None
        if len(values) > 1:
            axes.plot(data.steps, values.T, linewidth=0.8, alpha=0.45, zorder=3, marker=marker, **style)
        mark = along(marks[setting] if setting else "", len(data.steps), list(colours).index(setting))
        mark = mark if mark["marker"] else {"marker": marker}
        axes.plot(data.steps, data.mean(setting), linewidth=2.3, zorder=4, **mark, **style)


def _draw_bounds(axes: Axes, table: pa.Table, suite: str, group_by: Sequence[str], colours: dict) -> None:
    for name in ("floor", "ceiling"):
        data = curves(table, suite, name, group_by)
        levels = {s: _level(values) for s, values in data.values.items() if np.isfinite(values).any()}
        draw_bound(axes, name, levels, colours)


def _level(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)]))


def _draw_plane(axes: Axes, up: Curves, across: Curves, colours: dict, marks: dict, subject: str) -> None:
    """subject: what is measured along x."""
    plane_axes(axes)
    axes.set_xlabel(subject)
    steps, at_across, at_up = np.intersect1d(across.steps, up.steps, return_indices=True)
    for setting in (s for s in up.values if s in across.values and len(steps)):
        path = np.stack([across.mean(setting)[at_across], up.mean(setting)[at_up]])
        path = path[:, np.isfinite(path).all(0)]
        if path.shape[1]:
            draw_path(axes, path, colours[setting], mark=marks[setting] if setting and marks[setting] else "o")


def _draw_title(figure: Figure, title: str, data: Curves, left: float) -> None:
    figure.text(left, 0.97, title, fontsize=14, fontweight="bold", va="top")
    seeds = [len(values) for values in data.values.values()]
    if not seeds:
        return
    count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    text = f"{_plural(len(seeds), 'setting')}, {count} seed{'s' if max(seeds) > 1 else ''}"
    text += " each" if len(seeds) > 1 else ""
    text += "; bold: mean, thin: each seed" if max(seeds) > 1 else ""
    figure.text(left, 0.902, text, fontsize=9.5, color=MUTED, va="top")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _draw_legend(figure: Figure, colours: dict, marks: dict, group_by: Sequence[str], left: float) -> None:
    """Settings from high to low beside the panels, under the names of their hypers."""
    settings = [setting for setting in reversed(colours) if setting]
    settings = settings[:: -(-len(settings) // _MOST_NAMED) or 1]  # too many: every second, third, ...
    if not settings:
        return
    handles = [Line2D([], [], color=colours[s], linewidth=2.6, **along(marks[s], 1)) for s in settings]
    size = 9.5 if len(settings) <= 10 else 8
    figure.legend(
        handles,
        [" / ".join(f"{value:g}" for value in setting) for setting in settings],
        title=" /\n".join(group_by),
        loc="upper left",
        bbox_to_anchor=(left, 0.79),
        fontsize=size,
        title_fontsize=size,
        alignment="left",
        handlelength=1.3,
        labelspacing=0.45,
        borderaxespad=0,
        borderpad=0,
    )
