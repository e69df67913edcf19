"""The answers: a table of scores by member, and how often each class is answered and right."""

import functools
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.dissection.look import AMBER, BLUE, Key, Section
from icl_jax.report.dissection.numbers import listed, take
from icl_jax.report.html import Markup, table
from icl_jax.report.panels import Panel, Plate
from icl_jax.report.style import GRID, INK, PAPER
from icl_jax.storage.arrays import Labelled

SCORES = {"accuracy": "accuracy", "calibrated_accuracy": "calibrated accuracy", "auc": "AUC", "log_odds": "log odds"}
_BARS = {"right": Key("right", BLUE, "s"), "predicted": Key("answered", AMBER, "s")}
_LETTER = 0.075  # inches, of the name of a class
_LONGEST = 18


def answers_section(found: Mapping[str, Labelled]) -> Section:
    """Returns shares of classes as bars, and the scores of each member. found: metric -> array of the eval
    `answers`."""
    classes = found["predicted"].coords["class"]
    shares = {name: take(found[name], "class") for name in _BARS}
    words = "; ".join(f"{key.name}: {listed(shares[name].mean(0))}" for name, key in _BARS.items())
    draw = functools.partial(_draw, classes=classes, shares=shares)
    alt = f"Shares of classes ({', '.join(classes)}). {words}."
    panel = Panel("Classes", "share of the questions; small dots: each member", draw, alt)
    caption = (
        "A small model often answers one class most of the time, and accuracy then shows this bias first. The control "
        "for it: calibrated accuracy, less the mean log-probability of each class over the questions, and AUC, how "
        "well two classes are told apart, mean over pairs, which no such bias can change; 0.5 is chance."
    )
    left = min(0.3 + _LETTER * max(len(short(name)) for name in classes), 1.7)
    size = (4.4, 1.3 + 0.36 * max(len(classes), 2))
    plate = Plate(
        "answers", "Answers", caption, [[panel]], legend=False, left=left, panel=size, beside=0.2, bottom=0.28
    )
    return Section(plate, tuple(_BARS.values()), [_table(found)])


def short(name: str) -> str:
    """Returns a name that is not too long for a tick."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _table(found: Mapping[str, Labelled]) -> Markup:
    names = [name for name in SCORES if name in found]
    values = np.stack([take(found[name]) for name in names], 1)
    rows = [[f"{member}", *map(number, row)] for member, row in enumerate(values)]
    if len(values) > 1:
        rows.append(["mean", *(number(column[np.isfinite(column)].mean()) for column in values.T)])
    return table(["member", *(SCORES[name] for name in names)], rows, range(1, 1 + len(names)), "Scores of each member")


def number(value: float) -> str:
    """Returns a score for a table."""
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _draw(axes: Axes, classes: tuple, shares: dict[str, np.ndarray]) -> None:
    for place, (name, values) in enumerate(shares.items()):
        ys = np.arange(len(classes)) + (place - 0.5) * 0.38
        axes.barh(ys, values.mean(0), height=0.34, color=_BARS[name].colour, alpha=0.85, zorder=2)
        if len(values) > 1:
            across = np.broadcast_to(ys, values.shape)
            axes.plot(
                values.ravel(),
                across.ravel(),
                "o",
                color=INK,
                markersize=3.4,
                markeredgecolor=PAPER,
                markeredgewidth=0.5,
                zorder=4,
            )
    axes.set_yticks(range(len(classes)), [short(name) for name in classes])
    axes.set_ylim(len(classes) - 0.4, -0.6)  # the first class on top
    axes.set_xlim(0, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
