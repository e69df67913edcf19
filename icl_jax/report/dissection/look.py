"""What the figures of a dissected run share: a colour and a mark for each thing, lines over layers, names at lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from icl_jax.report.dissection.numbers import Spread
from icl_jax.report.html import Markup, tag
from icl_jax.report.inline import colour as variable
from icl_jax.report.panels import ABOVE, FILE_STYLE, Plate, plate_figure
from icl_jax.report.style import DARK, DASHES, FAINT, INK, MARKS, MUTED, PAPER

BLUE, AMBER, TEAL, OLIVE, MAGENTA, RED = "#3a5fd9", "#c98a12", "#0f9f8f", "#625f07", "#9c3687", "#75100a"
FEW = 12  # layers, of which each has its mark
_LINE = 0.15  # inches, of a name beside lines


@dataclass(frozen=True)
class Key:
    """What a colour stands for. mark: of `style.MARKS`, "" for a line; dashed: the line."""

    name: str
    colour: str
    mark: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Section:
    """A figure of the page, what its colours are, and tables below it. least: pixels below which a panel scrolls or
    goes under its neighbour."""

    plate: Plate
    keys: tuple[Key, ...] = ()
    tables: list[Markup] = field(default_factory=list)
    least: int = 300


CUTS = {
    "label": Key("the edge itself", BLUE, "o"),
    "near": Key("near tokens", AMBER, "s"),
    "random": Key("random tokens", OLIVE, "^"),
    "edges": Key("random edges", MUTED, "D"),
}
COPIES = Key("the edge itself in untrained copies", RED, "v")
_FLOWS = {"earlier -> label": TEAL, "label -> query": MAGENTA, "rest": MUTED}
_MORE = (BLUE, AMBER, OLIVE, RED)


def flow_colours(flows: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each flow, the same for the same ones in every figure."""
    others = [flow for flow in flows if flow not in _FLOWS]
    return {flow: _FLOWS.get(flow) or _MORE[others.index(flow) % len(_MORE)] for flow in flows}


def arrow(edge: str) -> str:
    """Returns "label → query" for "label -> query"."""
    return edge.replace("->", "→")


def layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    """Makes x the layers, numbered from 0 as everywhere."""
    axes.set_xlabel("layer")
    if len(layers) <= FEW:
        axes.set_xticks(layers)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    margin = 0.02 * max(len(layers) - 1, 1) + 0.1 * (len(layers) <= FEW)
    axes.set_xlim(min(layers) - margin, max(layers) + margin)


def draw_line(
    axes: Axes, xs, found: Spread, key: Key, width: float = 2.0, alpha: float = 1.0, aside: float = 0.0
) -> None:
    """A mean over layers with its interval as a band; of a few layers marks and bars, `aside` of those of others."""
    mean, low, high = found
    few = len(xs) <= FEW
    xs = np.asarray(xs, float) + 0.04 * aside * few
    width = min(width, 1.5) if key.dashed else width
    axes.plot(
        xs,
        mean,
        color=key.colour,
        linewidth=width,
        alpha=alpha,
        linestyle=DASHES if key.dashed else "-",
        marker=(key.mark or "o") if few else None,
        markersize=4,
        markerfacecolor=PAPER if key.dashed else key.colour,
        solid_capstyle="round",
        zorder=4 - key.dashed,
    )
    if few:
        axes.vlines(xs, low, high, color=key.colour, linewidth=1.4, alpha=0.5 * alpha, zorder=2)
    else:
        axes.fill_between(xs, low, high, color=key.colour, alpha=0.12 * alpha, linewidth=0, zorder=2)


def show_middle(axes: Axes, means: Sequence[np.ndarray], least: float = 0.0) -> None:
    """Limits y to the means and somewhat more, so that a wide interval does not make them flat; it then leaves the
    panel. least: that is shown on both sides of 0."""
    finite = np.concatenate([np.ravel(mean)[np.isfinite(np.ravel(mean))] for mean in means])
    low, high = min([*finite, -least]), max([*finite, least])
    room = 0.25 * max(high - low, 1e-6)
    axes.set_ylim(low - room, high + room)


def level(axes: Axes, y: float) -> None:
    """A dashed line across: chance, or no effect."""
    axes.axhline(y, color=FAINT, linewidth=1.1, linestyle=DASHES, zorder=1)


def say(axes: Axes, words: str) -> None:
    """Words in the place of what there is not."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=MUTED, linespacing=1.4)


def name_lines(axes: Axes, lines: Sequence[tuple[np.ndarray, str, str]]) -> None:
    """Writes names of lines (values, name, colour) right of a panel, at their last values but apart."""
    ends = sorted((float(y[last]), name, colour) for y, name, colour in lines if (last := _last(y)) >= 0)
    if not ends:
        return
    low, high = axes.get_ylim()
    inches = axes.get_window_extent().height / axes.figure.dpi
    places = _apart(np.clip([end[0] for end in ends], low, high), _LINE / inches * (high - low), high)
    edge = axes.get_yaxis_transform()
    for (y, name, colour), place in zip(ends, places, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2, "alpha": 0.6}
        axes.annotate(
            name,
            (1.0, min(max(y, low), high)),
            xycoords=edge,
            xytext=(1.035, place),
            textcoords=edge,
            color=colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops=leader,
        )


def _last(values: np.ndarray) -> int:
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[-1]) if finite.size else -1


def _apart(places: np.ndarray, gap: float, high: float) -> np.ndarray:
    """Sorted places, moved so that each is at least a gap above the former, and the last not above `high`."""
    index = gap * np.arange(len(places))
    pushed = np.maximum.accumulate(places - index) + index
    return np.minimum(pushed, high - index[::-1])


def figure_of(section: Section, title: str, about: str) -> Figure:
    """Returns the figure of a section for a file, with its keys below the title."""
    with matplotlib.rc_context(FILE_STYLE):
        above = ABOVE + (0.3 if section.keys else 0.0)
        figure = plate_figure(section.plate, title, about, above=above)
        if section.keys:
            across, up = figure.get_size_inches()
            handles = [_handle(key) for key in section.keys]
            place = {"loc": "upper left", "bbox_to_anchor": (0.12 / across, 1 - 0.66 / up), "ncols": len(handles)}
            size = {"handlelength": 0.8 if section.keys[0].mark else 1.6, "borderpad": 0, "borderaxespad": 0}
            figure.legend(handles, [key.name for key in section.keys], labelcolor=INK, **place, **size)
    return figure


def _handle(key: Key) -> Line2D:
    style = {"linestyle": DASHES if key.dashed else "-", "linewidth": 2.2}
    if key.mark:
        style = {"linestyle": "none", "marker": key.mark, "markersize": 6, "markeredgecolor": PAPER}
    return Line2D([], [], color=key.colour, **style)


def legend(keys: Sequence[Key]) -> Markup | None:
    """Returns the keys for the page."""
    if not keys:
        return None
    ink = lambda key: variable(key.colour, DARK)
    shape = lambda key: (
        tag("span", MARKS[key.mark], class_="mark", style=f"color:{ink(key)}")
        if key.mark
        else tag("span", class_="key", style=f"background:{ink(key)}")
    )
    return tag("ul", [tag("li", shape(key), key.name) for key in keys], class_="legend")
