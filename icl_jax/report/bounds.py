"""Floors and ceilings in a figure."""

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.style import DASHES, MUTED

FEW = 4  # settings whose different floors are drawn one by one
SAME = 0.05  # floors (ceilings) of settings that differ by less are drawn as one line


def draw_bound(axes: Axes, name: str, levels: dict, colours: dict, named: bool = True) -> None:
    """Dashes at a bound, `named` in the margin. levels: by setting; colours: of (at least) these settings.

    Where settings differ in it: dashes in their colours, or for more than a few settings a band.
    """
    if not levels:
        return
    low, high, middle = min(levels.values()), max(levels.values()), float(np.mean(list(levels.values())))
    if high - low < SAME:
        lines = [(middle, MUTED)]
    elif len(levels) <= FEW:
        lines = [(level, colours[setting]) for setting, level in levels.items()]
    else:
        lines = [(low, MUTED), (high, MUTED)]
        axes.axhspan(low, high, color=MUTED, alpha=0.10, linewidth=0, zorder=1)
    for level, colour in lines:
        axes.axhline(level, color=colour, linewidth=1.1, linestyle=DASHES, zorder=2)
    if named:
        text = f"{middle:.2f}" if len(lines) == 1 else f"{low:.2f}-\n{high:.2f}"
        place = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "center", "linespacing": 1.1}
        axes.text(1.015, middle, f"{name}\n{text}", fontsize=7.5, color=MUTED, **place)
