"""The figure of a run: in-context and in-weights learning over training, and one against the other."""

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

from icl_jax.paths import as_path
from icl_jax.report.bounds import draw_bound
from icl_jax.report.curves import Curves, Setting, curves
from icl_jax.report.style import (
    MUTED,
    STYLE,
    accuracy_axis,
    draw_path,
    head,
    plane_axes,
    save,
    scale_steps,
    sequential,
)

_LEFT, _RIGHT = 0.045, 0.88  # of the panels, as a share of the figure's width
_MOST_NAMED = 18  # settings in the legend


def learning_figure(
    table: pa.Table,
    out: str | pathlib.Path,
    *,
    title: str,
    icl_suite: str,
    iwl_suite: str,
    group_by: Sequence[str] = (),
) -> list[pathlib.Path]:
    """Writes out.png and out.svg and returns their paths.

    Left and middle: the headline accuracy of the two suites over steps, one colour per setting of the
    hypers `group_by`, a thin line per seed and their mean in bold, floor and ceiling dashed. Right:
    one against the other, from the open ring to the dot. NaN (a member that diverged) ends a line.
    """
    icl, iwl = (curves(table, suite, "accuracy", group_by) for suite in (icl_suite, iwl_suite))
    colours = _colours(sorted({*icl.values, *iwl.values}))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.5), facecolor="white")
        FigureCanvasAgg(figure)
        place = {"left": _LEFT, "right": _RIGHT, "bottom": 0.125, "top": 0.725}
        grid = figure.add_gridspec(1, 3, **place, wspace=0.33, width_ratios=(1, 1, 0.8))
        left, middle, right = (figure.add_subplot(cell) for cell in grid)
        for axes, data, suite, name in (
            (left, icl, icl_suite, "In-context learning"),
            (middle, iwl, iwl_suite, "In-weights learning"),
        ):
            head(axes, name, f"accuracy, {suite}")
            accuracy_axis(axes)
            _draw_curves(axes, data, colours)
            _draw_bounds(axes, table, suite, group_by, colours)
        head(right, "One against the other", "in-context accuracy")
        accuracy_axis(right)
        _draw_plane(right, icl, iwl, colours)
        _draw_title(figure, title, icl if icl else iwl)
        _draw_legend(figure, colours, group_by)
        return [save(figure, as_path(f"{out}{suffix}")) for suffix in (".png", ".svg")]


def _colours(settings: list[Setting]) -> dict[Setting, tuple]:
    """One colour per setting, in order."""
    return dict(zip(settings, map(to_rgb, sequential(len(settings))), strict=True))


def _draw_curves(axes: Axes, data: Curves, colours: dict) -> None:
    if not data:
        axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=MUTED)
        return
    scale_steps(axes, data.steps)
    for setting, values in data.values.items():
        style = {"color": colours[setting], "solid_capstyle": "round", "solid_joinstyle": "round"}
        marker = "o" if len(data.steps) == 1 else None
        if len(values) > 1:
            axes.plot(data.steps, values.T, linewidth=0.8, alpha=0.45, zorder=3, marker=marker, **style)
        axes.plot(data.steps, data.mean(setting), linewidth=2.3, zorder=4, marker=marker, **style)


def _draw_bounds(axes: Axes, table: pa.Table, suite: str, group_by: Sequence[str], colours: dict) -> None:
    for name in ("floor", "ceiling"):
        data = curves(table, suite, name, group_by)
        levels = {s: _level(values) for s, values in data.values.items() if np.isfinite(values).any()}
        draw_bound(axes, name, levels, colours)


def _level(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)]))


def _draw_plane(axes: Axes, icl: Curves, iwl: Curves, colours: dict) -> None:
    plane_axes(axes)
    axes.set_xlabel("in-weights accuracy")
    steps, at_iwl, at_icl = np.intersect1d(iwl.steps, icl.steps, return_indices=True)
    for setting in (s for s in icl.values if s in iwl.values and len(steps)):
        path = np.stack([iwl.mean(setting)[at_iwl], icl.mean(setting)[at_icl]])
        path = path[:, np.isfinite(path).all(0)]
        if path.shape[1]:
            draw_path(axes, path, colours[setting])


def _draw_title(figure: Figure, title: str, data: Curves) -> None:
    figure.text(_LEFT, 0.97, title, fontsize=14, fontweight="bold", va="top")
    seeds = [len(values) for values in data.values.values()]
    if not seeds:
        return
    count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    text = f"{_plural(len(seeds), 'setting')}, {count} seed{'s' if max(seeds) > 1 else ''}"
    text += " each" if len(seeds) > 1 else ""
    text += "; bold: mean, thin: each seed" if max(seeds) > 1 else ""
    figure.text(_LEFT, 0.902, text, fontsize=9.5, color=MUTED, va="top")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _draw_legend(figure: Figure, colours: dict, group_by: Sequence[str]) -> None:
    """Settings from high to low beside the panels, under the names of their hypers."""
    settings = [setting for setting in reversed(colours) if setting]
    settings = settings[:: -(-len(settings) // _MOST_NAMED) or 1]  # too many: every second, third, ...
    if not settings:
        return
    handles = [Line2D([], [], color=colours[setting], linewidth=2.6) for setting in settings]
    size = 9.5 if len(settings) <= 10 else 8
    figure.legend(
        handles,
        [" / ".join(f"{value:g}" for value in setting) for setting in settings],
        title=" /\n".join(group_by),
        loc="upper left",
        bbox_to_anchor=(_RIGHT + 0.022, 0.79),
        fontsize=size,
        title_fontsize=size,
        alignment="left",
        handlelength=1.3,
        labelspacing=0.45,
        borderaxespad=0,
        borderpad=0,
    )
