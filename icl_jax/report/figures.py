"""The figure of a run: in-context and in-weights learning over training, and one against the other."""

import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from icl_jax.files import replacing
from icl_jax.report.curves import Curves, Setting, curves

INK, MUTED, GRID = "#1f2933", "#6b7280", "#e5e7eb"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.hashsalt": "icl_jax",  # the same figure gives the same file
}
_LEFT, _RIGHT = 0.045, 0.88  # of the panels, as a share of the figure's width
_FEW = 4  # settings whose different floors are drawn one by one
_MOST_NAMED = 18  # settings in the legend
_SAME = 0.05  # floors (ceilings) of settings that differ by less are drawn as one line


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
            _head(axes, name, f"accuracy, {suite}")
            _draw_curves(axes, data, colours)
            _draw_bounds(axes, table, suite, group_by, colours)
        _head(right, "One against the other", "in-context accuracy")
        _draw_plane(right, icl, iwl, colours)
        _draw_title(figure, title, icl if icl else iwl)
        _draw_legend(figure, colours, group_by)
        return [_save(figure, pathlib.Path(f"{out}{suffix}")) for suffix in (".png", ".svg")]


def _save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=180, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _colours(settings: list[Setting]) -> dict[Setting, tuple]:
    """One colour per setting, in order along viridis short of its yellow (too light on white)."""
    if len(settings) == 1:
        return {settings[0]: matplotlib.colormaps["viridis"](0.3)}
    points = np.linspace(0.0, 0.82, max(len(settings), 2))
    return {s: matplotlib.colormaps["viridis"](p) for s, p in zip(settings, points, strict=False)}


def _head(axes: Axes, name: str, explanation: str) -> None:
    axes.set_title(name, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=22)
    axes.text(0, 1.035, explanation, transform=axes.transAxes, fontsize=9, color=MUTED, va="bottom")
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.spines["left"].set_visible(False)


def _draw_curves(axes: Axes, data: Curves, colours: dict) -> None:
    if not data:
        axes.text(0.5, 0.5, "not evaluated", transform=axes.transAxes, ha="center", color=MUTED)
        return
    _scale_steps(axes, data.steps)
    for setting, values in data.values.items():
        style = {"color": colours[setting], "solid_capstyle": "round", "solid_joinstyle": "round"}
        marker = "o" if len(data.steps) == 1 else None
        if len(values) > 1:
            axes.plot(data.steps, values.T, linewidth=0.8, alpha=0.45, zorder=3, marker=marker, **style)
        axes.plot(data.steps, data.mean(setting), linewidth=2.3, zorder=4, marker=marker, **style)


def _scale_steps(axes: Axes, steps: np.ndarray) -> None:
    """Labels steps as 500, 2k, 1.5M; a logarithmic axis where the steps are spaced that way."""
    axes.set_xlabel("training steps")
    positive = steps[steps > 0]
    if _log_spaced(positive):
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.3)
        axes.set_xlim(steps[0], steps[-1])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
        span = max(float(np.ptp(steps)), 1.0)
        axes.set_xlim(steps[0] - 0.01 * span, steps[-1] + 0.02 * span)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_number(step)))


def _log_spaced(steps: np.ndarray) -> bool:
    """Whether steps lie straighter over their index on a logarithmic axis than on a linear one."""
    if len(steps) < 5 or steps[-1] < 30 * steps[0]:
        return False
    index = np.arange(len(steps))
    return np.corrcoef(index, np.log(steps))[0, 1] > np.corrcoef(index, steps)[0, 1]


def short_number(value: float) -> str:
    """Returns 1500 as "1.5k", 2000000 as "2M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _draw_bounds(axes: Axes, table: pa.Table, suite: str, group_by: Sequence[str], colours: dict) -> None:
    """Dashes at the suite's floor and ceiling, named in the margin.

    Where settings differ in them: dashes in their colours, or for more than a few settings a band.
    """
    for name in ("floor", "ceiling"):
        data = curves(table, suite, name, group_by)
        levels = {s: _level(values) for s, values in data.values.items() if np.isfinite(values).any()}
        if not levels:
            continue
        low, high, middle = min(levels.values()), max(levels.values()), float(np.mean(list(levels.values())))
        if high - low < _SAME:
            lines = [(middle, MUTED)]
        elif len(levels) <= _FEW:
            lines = [(level, colours[setting]) for setting, level in levels.items()]
        else:
            lines = [(low, MUTED), (high, MUTED)]
            axes.axhspan(low, high, color=MUTED, alpha=0.10, linewidth=0, zorder=1)
        for level, colour in lines:
            axes.axhline(level, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
        text = f"{middle:.2f}" if len(lines) == 1 else f"{low:.2f}-\n{high:.2f}"
        place = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "center", "linespacing": 1.1}
        axes.text(1.015, middle, f"{name}\n{text}", fontsize=7.5, color=MUTED, **place)


def _level(values: np.ndarray) -> float:
    return float(np.mean(values[np.isfinite(values)]))


def _draw_plane(axes: Axes, icl: Curves, iwl: Curves, colours: dict) -> None:
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("in-weights accuracy")
    steps, at_iwl, at_icl = np.intersect1d(iwl.steps, icl.steps, return_indices=True)
    for setting in (s for s in icl.values if s in iwl.values and len(steps)):
        path = np.stack([iwl.mean(setting)[at_iwl], icl.mean(setting)[at_icl]])
        path = path[:, np.isfinite(path).all(0)]
        if path.shape[1]:
            _draw_path(axes, path, colours[setting])


def _draw_path(axes: Axes, path: np.ndarray, colour) -> None:
    """A trajectory (2, S): open ring, line with an arrowhead half way, dot."""
    axes.plot(*path, color=colour, linewidth=1.8, alpha=0.9, zorder=3, solid_joinstyle="round")
    axes.plot(*path[:, 0], marker="o", markersize=5, markerfacecolor="white", markeredgecolor=colour, zorder=4)
    axes.plot(*path[:, -1], marker="o", markersize=8, color=colour, markeredgecolor="white", zorder=5)
    lengths = np.hypot(*np.diff(path))
    if lengths.sum() < 0.15:  # too short for an arrow
        return
    way = np.concatenate([[0], np.cumsum(lengths)])
    tail, tip = (np.array([np.interp(s * way[-1], way, c) for c in path]) for s in (0.50, 0.53))
    arrow = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 0,
        "mutation_scale": 13,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", tip, xytext=tail, arrowprops=arrow, zorder=4)


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
