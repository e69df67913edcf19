"""Figures of analyses over training: a line for what is compared, a point for each checkpoint."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from icl_jax.report.dissection.look import (
    AMBER,
    BLUE,
    CUTS,
    MAGENTA,
    OLIVE,
    RED,
    TEAL,
    Key,
    Section,
    arrow,
    draw_line,
    level,
    name_lines,
)
from icl_jax.report.dissection.numbers import Found, Spread, known, listed, spread, spread_text, take
from icl_jax.report.panels import LEFT, Panel, Plate
from icl_jax.report.style import accuracy_axis, value_axis
from icl_jax.storage.arrays import Labelled

_COLOURS = (BLUE, AMBER, TEAL, MAGENTA, OLIVE, RED)
_METHODS = ("whole context", "labels + format", "labels", "forerunners", "random slots", "no context")
_SCORES = {"accuracy": "accuracy", "auc": "AUC"}
_COLUMNS = 2  # panels side by side
_RIGHT = 1.1  # inches, of the names of lines

Lines = dict[str, tuple[Spread, str]]  # name -> what is drawn, its colour


def training_sections(over: Found, uses: Mapping[str, str] | None = None) -> list[Section]:
    """Returns a figure for each analysis that was measured over training. over: arrays with an axis "step"; uses: which
    analysis an eval is, where it has a name of its own."""
    found: dict[str, dict[str, Labelled]] = {}
    for (name, metric), array in over.items():
        found.setdefault(name, {})[metric] = array
    made = []
    for name, metrics in found.items():
        panels_of = _PANELS.get((uses or {}).get(name, name))
        panels = list(panels_of(metrics)) if panels_of else []
        if panels:
            made.append(_section(name, panels, next(iter(metrics.values()))))
    return made


def _section(name: str, panels: list[Panel], some: Labelled) -> Section:
    caption = f"What the newest checkpoint shows above, at every checkpoint. {spread_text(len(some.values))}"
    rows = [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    size = {"left": LEFT + 0.06, "panel": (4.5, 3.1), "beside": _RIGHT}
    return Section(Plate(f"{name}-training", f"Over training: {name}", caption, rows, legend=False, **size), least=320)


def _answers(found: Mapping[str, Labelled]) -> Iterator[Panel]:
    lines = {
        title: (spread(take(found[metric], "step")), colour)
        for (metric, title), colour in zip(_SCORES.items(), _COLOURS, strict=False)
        if metric in found
    }
    yield _panel("Answers", "accuracy, and how well classes are told apart", found["accuracy"], lines, shares=True)


def _flow(found: Mapping[str, Labelled]) -> Iterator[Panel]:
    ratio = found["log_ratio"]
    for flow in (flow for flow in ratio.coords["flow"] if flow != "rest"):
        by_layer = take(ratio, "step", "layer", control="near", flow=flow)
        lines = {
            f"layer {layer}": (spread(by_layer[:, :, ratio.coords["layer"].index(layer)]), colour)
            for layer, colour in zip(_chosen(ratio.coords["layer"]), _COLOURS, strict=False)
        }
        yield _panel(arrow(flow), "log of the flow by labels over near tokens", ratio, lines)


def _edges(found: Mapping[str, Labelled]) -> Iterator[Panel]:
    odds = found["log_odds"]
    windows = odds.coords["layers"]
    window = "all" if "all" in windows else windows[0]
    for edge in odds.coords["edge"]:
        at = lambda cut, edge=edge: spread(take(odds, "step", edge=edge, layers=window, cut=cut))
        lines = {CUTS[cut].name: (at(cut), CUTS[cut].colour) for cut in odds.coords["cut"]}
        yield _panel(f"{arrow(edge)}, layers {window}", "change in log odds when it is cut", odds, lines)


def _readout(found: Mapping[str, Labelled]) -> Iterator[Panel]:
    auc = found["auc"]
    lines = {}
    for layer, colour in zip(_chosen(auc.coords["layer"]), _COLOURS, strict=False):
        values = take(auc, "step", layer=layer, anchors="label", prediction="calibrated")
        lines[f"layer {layer}"] = (spread(values), colour)
    yield _panel("Readout", "AUC of attention to labels", auc, lines, shares=True)


def _compress(found: Mapping[str, Labelled]) -> Iterator[Panel]:
    accuracy = found["accuracy"]
    methods = [method for method in _METHODS if method in accuracy.coords["method"]]
    lines = {
        method: (spread(take(accuracy, "step", method=method)), colour)
        for method, colour in zip(methods, _COLOURS, strict=False)
    }
    yield _panel("A part of the context", "accuracy by what is kept", accuracy, lines, shares=True)


_PANELS: dict[str, Callable[[Mapping[str, Labelled]], Iterator[Panel]]] = {
    "answers": _answers,
    "flow": _flow,
    "edges": _edges,
    "readout": _readout,
    "compress": _compress,
}


def _chosen(layers: Sequence[int]) -> list[int]:
    """All layers, or as many as there are colours, from the first to the last."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), len(_COLOURS))).round().astype(int))
    return [layers[place] for place in places]


def _panel(title: str, subtitle: str, found: Labelled, lines: Lines, shares: bool = False) -> Panel:
    """shares: values lie between 0 and 1."""
    drawn = {name: line for name, line in lines.items() if known(line[0][0])}
    steps = found.coords["step"]
    words = "; ".join(f"{name}: {listed(mean)}" for name, ((mean, _, _), _) in drawn.items())
    draw = functools.partial(_draw, steps=steps, lines=drawn, shares=shares)
    return Panel(title, subtitle, draw, f"{title}, {subtitle}, at steps {listed(np.asarray(steps), 0)}. {words}.")


def _draw(axes: Axes, steps: Sequence[int], lines: Lines, shares: bool) -> None:
    (accuracy_axis if shares else value_axis)(axes)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for name, (found, colour) in lines.items():
        draw_line(axes, steps, found, Key(name, colour))
    level(axes, 0.5 if shares else 0)
    name_lines(axes, [(found[0], name, colour) for name, (found, colour) in lines.items()])
