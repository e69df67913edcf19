"""The look of every figure: colours for light and dark paper, axes of accuracies and of steps, writing."""

import pathlib
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from icl_jax.storage.files import replacing

PAPER, INK, MUTED, FAINT, GRID = "#ffffff", "#1f2933", "#6b7280", "#9ca3af", "#e5e7eb"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
    "axes.edgecolor": FAINT,
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
DASHES = (0, (4, 3))  # floors and ceilings
# Shapes of settings, so that they are told apart without colour: matplotlib's, and the same as text.
MARKS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
_MARKS_A_LINE = 4
# Names: on white, and the same on dark paper; apart for colour-blind readers too (OKLab, simulated).
NAMED = {
    "#3a5fd9": "#5f86ff",
    "#c98a12": "#e8a838",
    "#0f9f8f": "#35c4ac",
    "#75100a": "#be3e30",
    "#a682f6": "#c4aefa",
    "#625f07": "#9a965a",
    "#9c3687": "#c24d9a",
    "#2e0353": "#8849cd",
}
DARK = {PAPER: "#14171c", INK: "#e6e9ee", MUTED: "#9aa3af", FAINT: "#6b7280", GRID: "#2c323b", **NAMED}


def sequential(count: int) -> list[str]:
    """Returns colours for an ordered quantity: viridis short of its yellow, which is too light on white."""
    points = [0.3] if count == 1 else np.linspace(0.0, 0.82, count)
    return [to_hex(matplotlib.colormaps["viridis"](p)) for p in points]


def sequential_dark(count: int) -> list[str]:
    """Returns the same for dark paper: viridis short of its purple."""
    points = [0.6] if count == 1 else np.linspace(0.36, 1.0, count)
    return [to_hex(matplotlib.colormaps["viridis"](p)) for p in points]


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
    """Writes a figure, whole or not at all, with nothing in it that differs from day to day."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=180, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def head(axes: Axes, name: str, explanation: str, size: float = 11.5) -> None:
    """Titles a panel."""
    axes.set_title(name, loc="left", fontsize=size, fontweight="bold", color=INK, pad=22 * size / 11.5)
    place = {"xycoords": "axes fraction", "xytext": (0, 6.5 * size / 11.5), "textcoords": "offset points"}
    axes.annotate(explanation, (0, 1), fontsize=9 * size / 11.5, color=MUTED, va="bottom", **place)


def accuracy_axis(axes: Axes) -> None:
    """Makes y an accuracy: 0 to 1, with lines across."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.spines["left"].set_visible(False)


def value_axis(axes: Axes, ticks: int = 5) -> None:
    """Makes y a number of any size, with lines across."""
    axes.yaxis.set_major_locator(MaxNLocator(ticks))
    axes.margins(y=0.06)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.spines["left"].set_visible(False)


def scale_steps(axes: Axes, steps: np.ndarray, ticks: int = 5) -> None:
    """Labels steps as 500, 2k, 1.5M; a logarithmic axis where the steps are spaced that way."""
    axes.set_xlabel("training steps")
    positive = steps[steps > 0]
    if log_spaced(positive):
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.3)
        axes.set_xlim(steps[0], steps[-1])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], integer=True))
        span = max(float(np.ptp(steps)), 1.0)
        axes.set_xlim(steps[0] - 0.01 * span, steps[-1] + 0.02 * span)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_number(step)))


def log_spaced(steps: np.ndarray) -> bool:
    """Whether steps belong on a logarithmic axis: many of them, far apart, and straighter there."""
    return len(steps) >= 5 and steps[-1] >= 30 * steps[0] and straighter_in_log(steps)


def straighter_in_log(values: np.ndarray) -> bool:
    """Whether values lie straighter over their index on a logarithmic axis than on a linear one."""
    index = np.arange(len(values))
    return np.corrcoef(index, np.log(values))[0, 1] > np.corrcoef(index, values)[0, 1]


def short_number(value: float) -> str:
    """Returns 1500 as "1.5k", 2000000 as "2M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def marks_of(settings: Iterable) -> dict:
    """Returns a shape (of MARKS) for each setting, in order; none ("") where there are more settings than shapes."""
    settings, shapes = list(settings), list(MARKS)
    return dict(zip(settings, shapes if len(settings) <= len(shapes) else [""] * len(settings), strict=False))


def along(mark: str, points: int, place: int = 0) -> dict:
    """Returns how a line of so many points is drawn with its shape: at a few of them, those of the line number `place`
    beside those of the others, so that lines that lie on one another are all seen."""
    every = max(points // _MARKS_A_LINE, 1)
    about = {"marker": mark or None, "markersize": 5, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
    return about | {"markevery": (place * max(every // len(MARKS), 1) % every, every)}


def draw_path(axes: Axes, path: np.ndarray, colour, scale: float = 1.0, mark: str = "o") -> None:
    """Draws a trajectory (2, S): open ring, line with an arrowhead half way, the setting's shape."""
    axes.plot(*path, color=colour, linewidth=1.8 * scale, alpha=0.9, zorder=3, solid_joinstyle="round")
    axes.plot(*path[:, 0], marker="o", markersize=5 * scale, markerfacecolor=PAPER, markeredgecolor=colour, zorder=4)
    axes.plot(*path[:, -1], marker=mark, markersize=8 * scale, color=colour, markeredgecolor=PAPER, zorder=5)
    lengths = np.hypot(*np.diff(path))
    if lengths.sum() < 0.15:  # too short for an arrow
        return
    way = np.concatenate([[0], np.cumsum(lengths)])
    tail, tip = (np.array([np.interp(s * way[-1], way, c) for c in path]) for s in (0.50, 0.53))
    shape = {"arrowstyle": "-|>", "linewidth": 0, "mutation_scale": 13 * scale, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tuple(tip), xytext=tuple(tail), arrowprops={"color": colour, **shape}, zorder=4)


def plane_axes(axes: Axes) -> None:
    """Makes x an accuracy too, beside `accuracy_axis`."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
