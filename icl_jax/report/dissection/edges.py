"""The figure of knock-outs: what an answer keeps when edges are cut, beside cuts of the same size."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.dissection.look import COPIES, CUTS, Key, Section, arrow, draw_line, level
from icl_jax.report.dissection.numbers import Spread, copies_text, known, listed, spread, spread_text, take
from icl_jax.report.panels import BOTTOM, LEFT, Panel, Plate
from icl_jax.report.style import accuracy_axis, value_axis
from icl_jax.storage.arrays import Labelled

WORDS = 5  # k of word loyalty that is shown, where it was measured
_SINGLE = re.compile(r"(\d+)(?:-\d+)?")  # a window of one layer, or of some that follow one another
_CURVE = 6  # such windows, from which on they are a curve
_ASIDE = 0.15  # of a window's room, between the dots of two cuts
_KEYS = {**CUTS, COPIES.name: COPIES}
_METRICS = {
    "label_loyalty": "label loyalty",
    "word_loyalty": "word loyalty",
    "log_odds": "change in log odds of the right class",
}


@dataclass(frozen=True)
class Windows:
    """Where windows of layers stand along x: those that move through the network by their number, then the others."""

    moving: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def curve(self) -> tuple[str, ...]:
        """Windows that are points of a curve."""
        return self.moving if len(self.moving) >= _CURVE else ()

    @property
    def dots(self) -> tuple[str, ...]:
        return tuple(name for name in (*self.moving, *self.others) if name not in self.curve)

    @property
    def room(self) -> float:
        """Of a window of dots, in windows of the curve."""
        return max(len(self.curve) / 8, 1.0)

    def __getitem__(self, name: str) -> float:
        if name in self.curve:
            return float(self.curve.index(name))
        start = len(self.curve) - 0.5 if self.curve else -0.5
        return start + self.room * (self.dots.index(name) + 0.5)


def windows_of(names: tuple[str, ...]) -> Windows:
    """Returns windows in the order of their layers: "first 5" before "last 5" before "all"."""
    moving = [name for name in names if _SINGLE.fullmatch(name)]
    order = {"first": 0, "last": 1}
    rank = lambda name: (order.get(name.split()[0], 2), [int(n) for n in re.findall(r"\d+", name)])
    first = lambda name: int(_SINGLE.match(name)[1])  # pyright: ignore[reportOptionalSubscript]
    others = sorted((name for name in names if name not in moving), key=rank)
    return Windows(tuple(sorted(moving, key=first)), tuple(others))


def edges_section(found: Mapping[str, Labelled], untrained: Mapping[str, Labelled] | None = None) -> Section:
    """Returns label loyalty, word loyalty and log odds of each edge by layers and cut. found: metric -> array of the
    eval `edges`, with standard errors under their name and _se. A cut that an edge has not (NaN) is left out.
    untrained: the same of untrained copies, of which the cut of the edge itself is drawn."""
    metrics = [name for name in _METRICS if name in found]
    some = found[metrics[0]]
    windows = windows_of(some.coords["layers"])
    rows, drawn = [], set()
    for edge in some.coords["edge"]:
        rows.append([])
        for metric in metrics:
            cuts = _cuts(found, metric, edge, windows)
            if untrained and (own := _cuts(untrained, metric, edge, windows).get("label")):
                cuts[COPIES.name] = own
            drawn |= set(cuts)
            words = "; ".join(f"{_KEYS[cut].name}: {listed(_of(by, windows)[0])}" for cut, by in cuts.items())
            title = _titled(metric, found[metric])
            draw = functools.partial(_draw, windows=windows, cuts=cuts, metric=metric)
            alt = (
                f"{title} when {arrow(edge)} is cut, by layers ({', '.join([*windows.curve, *windows.dots])}). {words}."
            )
            rows[-1].append(Panel(arrow(edge), title, draw, alt))
    tilted = _tilted(windows)
    caption = (
        "In some layers (x) the edges of a row are cut. Label loyalty: share of answers that stay; word loyalty: "
        "overlap of the likeliest next words with those before the cut; log odds: of the right class, less those "
        "before. "
        "The controls cut as much elsewhere: at a near token in the place of each label, at random tokens, or as many "
        "random edges. Only what the cut at labels does beyond the near one says anything about labels; a cut in the "
        "very last layers can hardly change an answer, whatever it cuts. "
        f"{spread_text(len(some.values), has_error=True)}"
    )
    if untrained:
        caption += f" Beside: the same cut in {copies_text(len(untrained[metrics[0]].values))}."
    bottom = BOTTOM + 0.06 * max(map(len, windows.dots)) * tilted
    plate = Plate("edges", "Cut edges", caption, rows, legend=False, left=LEFT + 0.1, bottom=bottom, beside=0.15)
    return Section(plate, tuple(key for cut, key in _KEYS.items() if cut in drawn))


def _titled(metric: str, found: Labelled) -> str:
    return f"{_METRICS[metric]} (top {_words(found)})" if "words" in found.axes else _METRICS[metric]


def _words(found: Labelled) -> int:
    return WORDS if WORDS in found.coords["words"] else found.coords["words"][0]


def _cuts(found: Mapping[str, Labelled], metric: str, edge: str, windows: Windows) -> dict[str, dict[str, Spread]]:
    """The spread of each window by cut, without what was not measured."""
    values, error = found[metric], found.get(f"{metric}_se")
    made = {}
    for cut in (name for name in CUTS if name in values.coords["cut"]):
        at = {"edge": edge, "cut": cut} | ({"words": _words(values)} if "words" in values.axes else {})
        by = {
            name: spread(take(values, layers=name, **at), None if error is None else take(error, layers=name, **at))
            for name in (*windows.moving, *windows.others)
        }
        by = {name: one for name, one in by.items() if known(one[0])}
        made |= {cut: by} if by else {}
    return made


def _of(by: dict[str, Spread], windows: Windows) -> np.ndarray:
    """(mean, low, high) x windows, the curve's first."""
    return np.asarray([by.get(name, (np.nan,) * 3) for name in (*windows.curve, *windows.dots)]).T


def _draw(axes: Axes, windows: Windows, cuts: dict[str, dict[str, Spread]], metric: str) -> None:
    if metric == "log_odds":
        value_axis(axes)
        level(axes, 0)
    else:
        accuracy_axis(axes)
    for place, (cut, by) in enumerate(cuts.items()):
        curve = _of({n: one for n, one in by.items() if n in windows.curve}, Windows(windows.curve, ()))
        if windows.curve:
            xs = [windows[name] for name in windows.curve]
            draw_line(axes, xs, tuple(curve), Key(cut, _KEYS[cut].colour, _KEYS[cut].mark), width=1.6)
        aside = (place - (len(cuts) - 1) / 2) * _ASIDE * windows.room
        for name in (name for name in windows.dots if name in by):
            _dot(axes, windows[name] + aside, by[name], _KEYS[cut])
    _ticks(axes, windows)


def _dot(axes: Axes, x: float, found: Spread, key: Key) -> None:
    mean, low, high = found
    axes.plot([x], [mean], key.mark, color=key.colour, markersize=5.5, zorder=4)
    axes.vlines([x], low, high, color=key.colour, linewidth=1.6, alpha=0.6, zorder=3)


def _tilted(windows: Windows) -> bool:
    return sum(map(len, windows.dots)) > (22 if not windows.curve else 10)


def _ticks(axes: Axes, windows: Windows) -> None:
    every = max(-(-len(windows.curve) // 6), 1)
    names = [*windows.curve[::every], *windows.dots]
    end = len(windows.curve) + windows.room * len(windows.dots) - 0.5
    axes.set_xlim(-0.7, end + 0.2)
    axes.set_xticks([windows[name] for name in names], names)
    if windows.curve and windows.dots:
        axes.axvline(len(windows.curve) - 0.5, color=axes.spines["bottom"].get_edgecolor(), linewidth=0.6, zorder=1)
    if _tilted(windows):
        for text in axes.get_xticklabels()[len(names) - len(windows.dots) :]:
            text.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("layers that are cut")
