"""The figure of the readout: does attention to labels tell the answer, and in which layers?"""

import functools

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.dissection.look import (
    BLUE,
    COPIES,
    CUTS,
    TEAL,
    Key,
    Section,
    draw_line,
    layer_axis,
    level,
    name_lines,
    say,
    show_middle,
)
from icl_jax.report.dissection.numbers import Spread, copies_text, known, listed, spread, spread_text, take
from icl_jax.report.panels import LEFT, Panel, Plate
from icl_jax.report.style import MUTED, accuracy_axis, value_axis
from icl_jax.storage.arrays import Labelled

_PREDICTIONS = {"raw": "answers as they are", "calibrated": "answers without bias towards a class"}
_ANCHORS = {"label": Key("labels", BLUE, "o"), "near": Key("near tokens", CUTS["near"].colour, "s", dashed=True)}
_COPIES = "untrained"
_KEYS = {**_ANCHORS, _COPIES: Key("untrained", COPIES.colour, "v", dashed=True)}
_CUMULATIVE = {"raw": Key("raw", TEAL, "s"), "calibrated": Key("calibrated", BLUE, "o")}


def readout_section(auc: Labelled, cumulative: Labelled, untrained: Labelled | None = None) -> Section:
    """Returns the AUC by layer for both kinds of answers, and R. auc ("prediction", "anchors", "layer"); cumulative
    ("prediction", "layer"), NaN where there is no R: said in its place; untrained: the auc of untrained copies."""
    layers = auc.coords["layer"]
    kinds = [prediction for prediction in _PREDICTIONS if prediction in auc.coords["prediction"]]
    panels = [_auc_panel(auc, prediction, untrained) for prediction in kinds]
    sums = {
        name: spread(take(cumulative, "layer", prediction=name))
        for name in _CUMULATIVE
        if name in cumulative.coords["prediction"]
    }
    words = "; ".join(f"{name}: {listed(found[0])}" for name, found in sums.items())
    draw = functools.partial(_draw_sums, layers=layers, sums=sums)
    panels.append(Panel("R", "share of the excess over chance up to a layer", draw, f"R by layer. {words}."))
    caption = (
        "Attention of the question to the labels of a class, as a score of that class against the answer of the model "
        "(area under the ROC curve). The control is attention to a near token of each label; 0.5 is chance. R adds up "
        "what is above chance from the first layer on; there is none where the sum is not above that of near tokens. "
        f"{spread_text(len(auc.values))} Members without an AUC or an R are left out of it."
    )
    if untrained is not None:
        caption += f" Dashed, red: labels in {copies_text(len(untrained.values))}, whose AUC swings."
    plate = Plate("readout", "Readout of labels", caption, [panels], legend=False, left=LEFT + 0.04, beside=0.82)
    return Section(plate)


def _auc_panel(auc: Labelled, prediction: str, untrained: Labelled | None) -> Panel:
    names = [name for name in _ANCHORS if name in auc.coords["anchors"]]
    lines = {name: spread(take(auc, "layer", prediction=prediction, anchors=name)) for name in names}
    if untrained is not None:
        lines[_COPIES] = spread(take(untrained, "layer", prediction=prediction, anchors="label"))
    words = "; ".join(f"{_KEYS[name].name}: {listed(found[0])}" for name, found in lines.items())
    draw = functools.partial(_draw_auc, layers=auc.coords["layer"], lines=lines)
    title = f"AUC, {prediction}"
    return Panel(title, _PREDICTIONS[prediction], draw, f"{title} by layer. {words}.")


def _draw_auc(axes: Axes, layers: tuple, lines: dict[str, Spread]) -> None:
    accuracy_axis(axes)
    layer_axis(axes, layers)
    if not known(*(found[0] for found in lines.values())):
        say(axes, "no AUC: fewer than two classes\nwere answered often enough")
        return
    level(axes, 0.5)
    for place, (name, found) in enumerate(lines.items()):
        draw_line(axes, layers, found, _KEYS[name], aside=place - 0.5)
    chance = [(np.full(len(layers), 0.5), "chance", MUTED)]
    named = [(found[0], _KEYS[name].name, _KEYS[name].colour) for name, found in lines.items()]
    name_lines(axes, named + chance)


def _draw_sums(axes: Axes, layers: tuple, sums: dict[str, Spread]) -> None:
    drawn = {name: found for name, found in sums.items() if known(found[0])}
    value_axis(axes)
    layer_axis(axes, layers)
    if not drawn:
        say(axes, "no R: attention to labels\nis not above near tokens")
        return
    for name, found in drawn.items():
        draw_line(axes, layers, found, _CUMULATIVE[name])
    show_middle(axes, [found[0] for found in drawn.values()], least=0.0)
    level(axes, 0)
    name_lines(axes, [(found[0], name, _CUMULATIVE[name].colour) for name, found in drawn.items()])
