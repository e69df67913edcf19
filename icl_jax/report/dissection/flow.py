"""The figure of flows over layers (Wang et al. 2023, figure 3), beside near tokens in the place of labels."""

import functools

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.dissection.look import (
    Key,
    Section,
    arrow,
    draw_line,
    flow_colours,
    layer_axis,
    level,
    name_lines,
    show_middle,
)
from icl_jax.report.dissection.numbers import Spread, copies_text, known, listed, spread, spread_text, take
from icl_jax.report.panels import LEFT, Panel, Plate
from icl_jax.report.style import MUTED, accuracy_axis, value_axis
from icl_jax.storage.arrays import Labelled

_REST = "rest"
_RIGHT = 1.02  # inches, of the names of flows


def flow_section(
    share: Labelled, log_ratio: Labelled, log_ratio_se: Labelled, untrained: Labelled | None = None
) -> Section:
    """Returns the shares of flows by layer, by labels and by near tokens, and how many times as much flows by labels.

    share ("anchors", "flow", "layer"); log_ratio and its standard error ("control", "flow", "layer"); untrained: the
    log_ratio of untrained copies.
    """
    flows = sorted(share.coords["flow"], key=lambda flow: (flow == _REST, flow))
    by = lambda anchors: {flow: spread(take(share, "layer", anchors=anchors, flow=flow)) for flow in flows}
    ratios = {flow: _ratio(log_ratio, log_ratio_se, flow) for flow in flows}
    copies = {} if untrained is None else {flow: _ratio(untrained, None, flow) for flow in flows if flow != _REST}
    layers = share.coords["layer"]
    panels = [
        Panel(
            "Share of each flow",
            "solid: labels; dashed: near tokens in their place",
            functools.partial(_draw_shares, layers=layers, labels=by("label"), near=by("near")),
            "Share of saliency by layer. " + _words({f: found[0] for f, found in by("label").items()}),
        ),
        Panel(
            "Labels against near tokens",
            "log of the flow by labels over that by near tokens" + "; dashed: untrained copies" * bool(copies),
            functools.partial(_draw_ratios, layers=log_ratio.coords["layer"], ratios=ratios, copies=copies),
            "Log ratio by layer. "
            + _words({flow: found[0] for flow, found in ratios.items()})
            + (" Untrained copies: " + _words({flow: found[0] for flow, found in copies.items()})) * bool(copies),
        ),
    ]
    caption = (
        "Saliency |A x dL/dA| of attention, averaged over the edges of each flow; left, each flow's share of a layer. "
        "An untrained network has large shares of label → query too, so the control is at the right: the same flows "
        "through a near token in the place of each label, prompt by prompt. 0: labels are no better than their "
        f"neighbours. {spread_text(len(share.values), has_error=True)} Left: means alone. "
        "Where nothing flows, as into labels in the last layer, there is no point."
    )
    if untrained is not None:
        caption += f" Dashed at the right: the mean of {copies_text(len(untrained.values))}."
    plate = Plate(
        "flow", "Flow over layers", caption, [panels], legend=False, left=LEFT + 0.06, panel=(4.5, 3.2), beside=_RIGHT
    )
    return Section(plate, least=340)


def _ratio(log_ratio: Labelled, error: Labelled | None, flow: str) -> Spread:
    at = {"control": "near", "flow": flow}
    return spread(take(log_ratio, "layer", **at), None if error is None else take(error, "layer", **at))


def _words(means: dict[str, np.ndarray]) -> str:
    return "; ".join(f"{arrow(flow)}: {listed(mean)}" for flow, mean in means.items()) + "."


def _draw_shares(axes: Axes, layers: tuple, labels: dict[str, Spread], near: dict[str, Spread]) -> None:
    accuracy_axis(axes)
    layer_axis(axes, layers)
    colours = flow_colours(list(labels))
    for flow, found in near.items():
        mean = found[0]
        draw_line(axes, layers, (mean, mean, mean), Key(flow, colours[flow], dashed=True), alpha=0.6)
    for flow, (mean, _, _) in labels.items():
        draw_line(axes, layers, (mean, mean, mean), Key(flow, colours[flow]))
    name_lines(axes, [(found[0], arrow(flow), colours[flow]) for flow, found in labels.items()])


def _draw_ratios(axes: Axes, layers: tuple, ratios: dict[str, Spread], copies: dict[str, Spread]) -> None:
    value_axis(axes)
    layer_axis(axes, layers)
    drawn = {flow: found for flow, found in ratios.items() if known(found[0])}
    colours = flow_colours(list(ratios))
    for place, (flow, found) in enumerate(drawn.items()):
        aside = place - (len(drawn) - 1) / 2
        draw_line(axes, layers, found, Key(flow, colours[flow]), width=1.4 if flow == _REST else 2.0, aside=aside)
    for flow, (mean, _, _) in copies.items():
        if known(mean):
            draw_line(axes, layers, (mean, mean, mean), Key(flow, colours[flow], dashed=True), alpha=0.6)
    show_middle(axes, [found[0] for found in drawn.values()], least=0.5)
    level(axes, 0)
    named = [(found[0], arrow(flow), colours[flow]) for flow, found in drawn.items()]
    name_lines(axes, [*named, (np.zeros(len(layers)), "as near tokens", MUTED)])
