"""Figures of a report: panels that know how to draw themselves, one by one for a page or together for a file."""

import dataclasses
import io
import pathlib
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from icl_jax.report.style import INK, MUTED, STYLE, along, head, save
from icl_jax.report.view import View, text

# Widths and heights of a panel by how many stand side by side: about as large as they are shown on a
# phone, where letters are to be 9 pixels high.
SIZES = {1: (4.4, 3.2), 2: (4.4, 3.2), 3: (3.3, 2.95)}
SMALL = (2.1, 2.3)
LEFT, RIGHT, TOP, BOTTOM = 0.34, 0.52, 0.54, 0.46  # inches around the axes
_LINE = 0.17  # of a title
_LETTER, _ENTRY = 0.08, 0.2  # of a legend: width of a letter, height of an entry
ABOVE = 0.62  # all panels: title and a line about them
FILE_STYLE: dict[Any, Any] = {**STYLE, "font.size": 8.5}
SMALL_RIGHT = 0.12  # where floor and ceiling are not named


@dataclasses.dataclass(frozen=True)
class Panel:
    """title, subtitle: above the axes; alt: what it shows, for those who cannot see it."""

    title: str
    subtitle: str
    draw: Callable[[Axes], None]
    alt: str


@dataclasses.dataclass(frozen=True)
class Plate:
    """A figure: rows of panels of one size. title: of the section; caption: how to read it; legend: its colours;
    panel: width and height of a panel, beside: inches right of the axes, where they are not the usual ones."""

    name: str
    title: str
    caption: str
    rows: list[list[Panel]]
    legend: bool = True
    left: float = LEFT  # inches beside and below the axes
    bottom: float = BOTTOM
    panel: tuple[float, float] | None = None
    beside: float | None = None

    @property
    def columns(self) -> int:
        return max(map(len, self.rows))

    @property
    def size(self) -> tuple[float, float]:
        width, height = self.panel or SIZES.get(self.columns, SMALL)
        return width, height + self.bottom - BOTTOM + self.top - TOP

    @property
    def top(self) -> float:
        """Inches above the axes: titles may have several lines."""
        return TOP + _LINE * max(panel.title.count("\n") for row in self.rows for panel in row)

    @property
    def title_size(self) -> float:
        """Points, so that the longest line of all titles fits."""
        longest = max(len(line) for row in self.rows for panel in row for line in panel.title.split("\n"))
        fits = 72 * (self.size[0] - self.left) / (0.7 * longest)  # a letter is about 0.7 wide
        return max(6.0, min(10.5 if self.columns in SIZES else 9.5, fits))

    @property
    def right(self) -> float:
        if self.beside is not None:
            return self.beside
        return RIGHT if self.columns in SIZES else SMALL_RIGHT


def rows_of(panels: list[Panel]) -> list[list[Panel]]:
    """Returns panels in rows of as many as stand side by side at full size."""
    most = max(SIZES)
    return [panels[i : i + most] for i in range(0, len(panels), most)]


def panel_svg(panel: Panel, plate: Plate) -> str:
    """Returns one panel as SVG whose text is text, in the reader's font."""
    with matplotlib.rc_context({**FILE_STYLE, "svg.fonttype": "none"}):
        figure = _figure(*plate.size)
        _add(figure, panel, plate, 0, plate.size[1])
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def write_plate(plate: Plate, view: View, title: str, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes all panels together, with title and legend, to out.svg and out.png and returns these paths."""
    named = [view.primary, *map(text, view.coloured)] if plate.legend and view.primary else []
    beside = 0.5 + _LETTER * max(map(len, named)) if named else 0.1
    with matplotlib.rc_context(FILE_STYLE):
        figure = plate_figure(plate, title, f"mean over {view.seeds}", beside)
        if named:
            _legend(figure, view, plate.columns * plate.size[0], ABOVE + plate.top)
        return save_both(figure, out)


def save_both(figure: Figure, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes a figure to out.svg and out.png and returns these paths."""
    return [save(figure, out.with_name(f"{out.name}{suffix}")) for suffix in (".svg", ".png")]


def plate_figure(plate: Plate, title: str, about: str, beside: float = 0.1, above: float = ABOVE) -> Figure:
    """Returns all panels together, below a title and a line about them; to be drawn and saved in FILE_STYLE.

    beside, above: inches free to the right of the panels and above them.
    """
    width, height = plate.size
    figure = _figure(plate.columns * width + beside, len(plate.rows) * height + above)
    across, up = figure.get_size_inches()
    figure.text(0.12 / across, 1 - 0.16 / up, title, size=13, weight="bold", va="top")
    figure.text(0.12 / across, 1 - 0.42 / up, about, size=9, color=MUTED, va="top")
    for r, row in enumerate(plate.rows):
        for c, panel in enumerate(row):
            _add(figure, panel, plate, c * width, up - above - r * height)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _add(figure: Figure, panel: Panel, plate: Plate, left: float, top: float) -> None:
    """Draws a panel with its upper left corner at (left, top), in inches from the lower left of the figure."""
    (width, height), (across, up) = plate.size, figure.get_size_inches()
    inner = (
        left + plate.left,
        top - height + plate.bottom,
        width - plate.left - plate.right,
        height - plate.top - plate.bottom,
    )
    axes = figure.add_axes((inner[0] / across, inner[1] / up, inner[2] / across, inner[3] / up))
    head(axes, panel.title, panel.subtitle, size=plate.title_size)
    panel.draw(axes)


def _legend(figure: Figure, view: View, left: float, top: float) -> None:
    """Settings beside the panels, numbers from high to low; of many every second, third, ..."""
    values = view.coloured if isinstance(view.values[0], str) else view.coloured[::-1]
    across, up = figure.get_size_inches()
    most = int((up - top - 0.3) / _ENTRY)
    values = values[:: -(-len(values) // most)]
    shapes = [along(view.marks[value], 1) for value in values]
    handles = [
        Line2D([], [], color=view.colours[v], linewidth=2.6, **shape) for v, shape in zip(values, shapes, strict=True)
    ]
    figure.legend(
        handles,
        [text(value) for value in values],
        title=view.primary,
        loc="upper left",
        bbox_to_anchor=((left + 0.1) / across, 1 - top / up),
        labelcolor=INK,
        alignment="left",
        handlelength=1.3,
        labelspacing=0.45,
        borderaxespad=0,
        borderpad=0,
    )
