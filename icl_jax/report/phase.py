"""Phase diagrams: scores over two swept numbers."""

import functools

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.panels import Panel
from icl_jax.report.style import MUTED, short_number
from icl_jax.report.view import Place, Shown, View

_DARK, _LIGHT = "#10161d", "#fdfdfd"  # numbers on cells: the same on any paper

_MOST_SHAPES = 2_500  # cells that are drawn as shapes each; more become one picture


def has_phase(view: View) -> bool:
    """Returns whether exactly two labels are swept, both numbers of at least two values."""
    numbers = lambda values: len(values) > 1 and all(isinstance(v, float) for v in values)
    return len(view.others) == 1 and numbers(view.values) and numbers([c[0] for c in view.columns])


def phase_panels(view: View) -> list[Panel]:
    """Returns heat maps of each final headline and, where the first two are accuracies, of their difference; rows:
    primary label, columns: the other one."""
    grids = [_grid(view, suite) for suite in view.suites]
    made = [
        _panel(view, f"Final {suite.headline.title}", suite.headline.measure, scores, "viridis", _limits(suite, scores))
        for suite, scores in zip(view.suites, grids, strict=True)
    ]
    if not view.plane:
        return made
    between = " - ".join(f"final {suite.headline.title}" for suite in view.plane)
    return [*made, _panel(view, "Difference", between, grids[0] - grids[1], "PuOr_r", (-1, 1))]


def _limits(suite: Shown, scores: np.ndarray) -> tuple[float, float]:
    """Ends of the scale of colours: of an accuracy 0 and 1, else those of the values."""
    known = scores[np.isfinite(scores)]
    if suite.headline.is_accuracy or not len(known):
        return 0, 1
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _grid(view: View, suite: Shown) -> np.ndarray:
    """Mean final values (values, columns), NaN where there is none."""

    def mean(place: Place) -> float:
        best = view.best.get(place)
        found = suite.runs.get(best) if best else None
        return found.final.mean() if found and len(found.final) else np.nan

    return np.array([[mean((value, column)) for column in view.columns] for value in view.values])


def _panel(view: View, title: str, subtitle: str, scores: np.ndarray, scale: str, limits: tuple) -> Panel:
    rows = [
        f"{view.primary} {v:g}: " + ", ".join("none" if np.isnan(x) else f"{x:.2f}" for x in row)
        for v, row in zip(view.values, scores, strict=True)
    ]
    columns = ", ".join(f"{c[0]:g}" for c in view.columns)
    alt = f"Heat map, {title} ({subtitle}), mean over seeds; {view.others[0]} from left to right: {columns}. "
    names = {"up": (view.primary, view.values), "across": (view.others[0], [c[0] for c in view.columns])}
    draw = functools.partial(heat_map, scores=scores, **names, scale=scale, limits=limits)
    return Panel(title, subtitle, draw, alt + "; ".join(rows) + ".")


def heat_map(
    axes: Axes, scores: np.ndarray, up: tuple[str, list], across: tuple[str, list], scale: str, limits: tuple
) -> None:
    """Draws scores (labels up, labels across) as colours with, where they fit, their numbers, and the scale beside.

    up, across: (name, labels) of the axes; limits: ends of the scale.
    """
    rows, columns = scores.shape
    colours = matplotlib.colormaps[scale]
    mesh = axes.pcolormesh(np.ma.masked_invalid(scores), cmap=colours, vmin=limits[0], vmax=limits[1])
    mesh.set_edgecolor("face")  # no hairlines between cells
    mesh.set_rasterized(scores.size > _MOST_SHAPES)
    _ticks(axes.set_xticks, across[1], 11)
    _ticks(axes.set_yticks, up[1], 14)
    axes.set_xlabel(across[0])
    axes.set_ylabel(up[0], labelpad=6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    size = min(8.0, 47 / columns, 100 / rows)  # so that -0.00 fits a cell
    for r, c in np.ndindex(rows, columns) if size >= 5 else ():
        value = scores[r, c]
        shade = colours((value - limits[0]) / (limits[1] - limits[0]))[:3] if np.isfinite(value) else None
        ink = MUTED if shade is None else _DARK if np.dot(shade, (0.2126, 0.7152, 0.0722)) > 0.45 else _LIGHT
        shown = "-" if shade is None else f"{round(float(value), 2) + 0.0:.2f}"  # no -0.00
        axes.text(c + 0.5, r + 0.5, shown, ha="center", va="center", fontsize=size, color=ink)
    _bar(axes, scale, limits)


def _ticks(set_ticks, values: list, most: int) -> None:
    kept = range(0, len(values), -(-len(values) // most))
    names = [values[i] if isinstance(values[i], str) else short_number(values[i]) for i in kept]
    set_ticks([i + 0.5 for i in kept], names)


def _bar(axes: Axes, scale: str, limits: tuple[float, float]) -> None:
    """The scale of colours, beside the map; drawn as shapes, as matplotlib's own is a picture."""
    beside = axes.inset_axes((1.03, 0, 0.035, 1))
    edges = np.linspace(limits[0], limits[1], 61)
    bar = beside.pcolormesh([0, 1], edges, (edges[:-1, None] + edges[1:, None]) / 2, cmap=scale)
    bar.set_edgecolor("face")
    beside.spines[:].set_visible(False)
    beside.yaxis.tick_right()
    beside.set_yticks(np.linspace(limits[0], limits[1], 3))
    beside.set_xticks([])
    beside.tick_params(length=0, labelsize=7.5)
