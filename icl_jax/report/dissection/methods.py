"""Dot plots of methods by metrics: anchors alone as context, and re-weighted anchors, beside what else does as well."""

import functools
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from icl_jax.report.dissection.answers import number
from icl_jax.report.dissection.look import AMBER, BLUE, Key, Section
from icl_jax.report.dissection.numbers import spread, spread_text, take
from icl_jax.report.html import table
from icl_jax.report.panels import Panel, Plate
from icl_jax.report.style import DASHES, FAINT, GRID, INK, MUTED
from icl_jax.storage.arrays import Labelled

_LETTER = 0.073  # inches, of the name of a method
_ROW = 0.25
_ANCHOR, _CONTROL, _REFERENCE = Key("anchors", BLUE, "o"), Key("controls", AMBER, "s"), Key("reference", MUTED, "D")
_SUBTITLES = {
    "label loyalty": "share of answers that stay",
    "word loyalty": "overlap of the likeliest words",
    "accuracy": "of the likeliest class",
    "AUC": "of two classes; 0.5: chance",
}
_METRICS = {"label_loyalty": "label loyalty", "word_loyalty": "word loyalty", "accuracy": "accuracy", "auc": "AUC"}
_EXTRA = {"calibrated_accuracy": "calibrated accuracy", "tokens": "tokens kept"}  # in the table alone
COMPRESS = (
    "The question is read with a part of its context: in every layer only the kept tokens' keys and values are there. "
    "Label loyalty: share of answers that stay those of the whole context; word loyalty: overlap of the likeliest next "
    "words. The controls keep as many other tokens (random ones in the labels' slots, the token before each label); "
    "what anchors do beyond these is theirs. Dashed: the whole context, which costs no accuracy."
)
REWEIGHT = (
    "Factors on the attention to labels, trained on a few examples. The control is what the same examples do "
    "otherwise: an output bias, calibration, more demonstrations. A bias cannot change the AUC, so what re-weighting "
    "adds there is no undone bias. Dashed: the model as it is."
)


def methods_section(
    name: str,
    title: str,
    caption: str,
    methods: tuple[str, ...],
    metrics: Mapping[str, Float[np.ndarray, "members methods"]],
    reference: str = "",
    anchors: Collection[str] = (),
    extra: Mapping[str, np.ndarray] | None = None,
) -> Section:
    """Returns a panel for each metric (title -> numbers), a row for each method: the reference first, then from the
    best by the first metric down. reference: whose mean is a line down the panels; anchors: methods that are no
    controls; extra: further columns of the table."""
    first = np.nan_to_num(spread(next(iter(metrics.values())))[0], nan=-np.inf)
    order = sorted(range(len(methods)), key=lambda m: (methods[m] != reference, -first[m]))
    names = [methods[m] for m in order]
    panels = [
        Panel(
            metric,
            _SUBTITLES.get(metric, ""),
            functools.partial(_draw, names=names, values=values[:, order], reference=reference, anchors=anchors),
            f"{metric} by method. " + "; ".join(f"{methods[m]}: {spread(values)[0][m]:.2f}" for m in order) + ".",
        )
        for metric, values in metrics.items()
    ]
    size = (4.4, 1.05 + _ROW * len(names))
    left = 0.2 + _LETTER * max(map(len, names))
    rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    text = f"{caption} {spread_text(len(next(iter(metrics.values()))))} Small dots: each member."
    plate = Plate(name, title, text, rows, legend=False, left=left, panel=size, beside=0.2, bottom=0.4)
    columns = {**metrics, **(extra or {})}
    means = {metric: spread(values)[0] for metric, values in columns.items()}
    cells = [[methods[m], *(number(means[metric][m]) for metric in columns)] for m in order]
    about = "Mean over members" if len(next(iter(metrics.values()))) > 1 else "One member"
    keys = tuple(dict.fromkeys(_key(name, anchors, reference) for name in names)) if anchors else ()
    return Section(plate, keys, [table(["method", *columns], cells, range(1, 1 + len(columns)), about)], least=320)


def found_section(
    name: str, title: str, caption: str, found: Mapping[str, Labelled], reference: str, anchor: str
) -> Section:
    """Returns the same for metrics by "method" as an eval gave them. anchor: in the names of methods by anchors."""
    names = [metric for metric in _METRICS if metric in found]
    methods = found[names[0]].coords["method"]
    by_name = lambda metric: np.stack([take(found[metric], method=method) for method in methods], 1)
    extra = {shown: by_name(metric) for metric, shown in _EXTRA.items() if metric in found}
    metrics = {_METRICS[metric]: by_name(metric) for metric in names}
    anchors = [method for method in methods if anchor in method]
    return methods_section(name, title, caption, methods, metrics, reference, anchors, extra)


def _key(name: str, anchors: Collection[str], reference: str) -> Key:
    if name == reference:
        return _REFERENCE
    return _ANCHOR if name in anchors or not anchors else _CONTROL


def _draw(axes: Axes, names: list[str], values: np.ndarray, reference: str, anchors: Collection[str]) -> None:
    mean, low, high = spread(values)
    ys = np.arange(len(names))
    if reference in names:
        axes.axvline(mean[names.index(reference)], color=FAINT, linewidth=1.1, linestyle=DASHES, zorder=1)
    if len(values) > 1:
        across = np.broadcast_to(ys, values.shape)
        axes.plot(values.ravel(), across.ravel(), "o", color=MUTED, markersize=2.4, zorder=2)
    for y, name in enumerate(names):
        key = _key(name, anchors, reference)
        axes.hlines(y, low[y], high[y], color=key.colour, linewidth=1.6, alpha=0.5, zorder=3)
        axes.plot(mean[y], y, key.mark, color=key.colour, markersize=6, zorder=4, clip_on=False)
    axes.set_yticks(ys, names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
