"""The figure of confused classes: told from the keys of labels, and as they are."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from icl_jax.report.dissection.answers import short
from icl_jax.report.dissection.look import BLUE, Key, Section, draw_line, layer_axis, level, show_middle
from icl_jax.report.dissection.numbers import known, listed, spread, spread_text, take
from icl_jax.report.panels import BOTTOM, Panel, Plate
from icl_jax.report.phase import heat_map
from icl_jax.report.style import value_axis
from icl_jax.storage.arrays import Labelled

_LETTER = 0.072  # inches


def confusion_section(
    predicted: Float[np.ndarray, "C C"],
    actual: Float[np.ndarray, "C C"],
    classes: tuple[str, ...],
    correlation: float = float("nan"),
    p: Sequence[float] = (),
    where: str = "",
    more: tuple[Panel, ...] = (),
) -> Section:
    """Returns two maps of pairs of classes. predicted: distance of their keys over the largest, small: confusable;
    actual: pairwise AUC; correlation, p: rank correlation of the two over pairs, NaN: none, and its permutation p,
    of each member; where: of which layer the keys are; more: further panels."""
    names = [short(name) for name in classes]
    limits = (0.5, 1.0) if np.nanmin(_off(actual)) >= 0.5 else (0.0, 1.0)
    maps = {
        "Told from keys": (f"distance of keys{where}", predicted, (0.0, 1.0)),
        "As it is": ("AUC of a pair of classes", actual, limits),
    }
    panels = [
        Panel(
            title,
            f"{about}; dark: confused",
            functools.partial(_draw, scores=_off(scores), names=names, limits=ends),
            f"{title}, {about}: {_pairs(scores, names)}.",
        )
        for title, (about, scores, ends) in maps.items()
    ]
    caption = (
        "Left: classes whose labels' keys lie close together where the question's queries vary should be confused. "
        f"Right: how well the model tells each two classes apart. {_verdict(correlation, p)} The control is chance: "
        "two maps can look alike by it, so only the correlation and its p count."
    )
    aside = 0.25 + _LETTER * max(map(len, names))
    below = BOTTOM + max(0.05 * max(map(len, names)) - 0.1, 0)
    plate = Plate(
        "confusion",
        "Confused classes",
        caption,
        [[*panels, *more]],
        legend=False,
        left=aside,
        bottom=below,
        panel=(4.3 + 0.4 * (len(names) > 8), 3.4),
    )
    return Section(plate)


def diagnose_section(predicted: Labelled, actual: Labelled, correlation: Labelled, p: Labelled) -> Section:
    """Returns the maps of the eval `diagnose`, means over members, at the layer two thirds up, as in the paper and not
    chosen by its result, and the rank correlation of every layer."""
    layers, classes = predicted.coords["layer"], predicted.coords["class"]
    layer = layers[2 * len(layers) // 3]
    order = [predicted.coords["other"].index(name) for name in classes]
    maps = [
        np.nanmean(_filled(found), 0)[:, order]
        for found in (take(predicted, "class", "other", layer=layer), take(actual, "class", "other"))
    ]
    by_layer = take(correlation, "layer")
    at = float(spread(take(correlation, layer=layer))[0]), tuple(take(p, layer=layer))
    about = f"{spread_text(len(by_layer))}"
    panel = Panel(
        "Every layer",
        "rank correlation of keys and confusion",
        functools.partial(_draw_layers, layers=layers, values=by_layer, chosen=layer),
        f"Rank correlation by layer. {listed(spread(by_layer)[0])}. {about}",
    )
    return confusion_section(maps[0], maps[1], classes, *at, where=f", layer {layer}", more=(panel,))


def _verdict(correlation: float, p: Sequence[float]) -> str:
    if not np.isfinite(correlation):
        return "There are too few pairs of classes for a rank correlation."
    tests = ", ".join(f"{value:.3f}" for value in p if np.isfinite(value))
    tested = f"p by permutation of the classes: {tests}" if tests else "too few classes for a permutation test"
    return f"Rank correlation of the two over pairs of classes: {correlation:.2f}; {tested}."


def _filled(values: np.ndarray) -> np.ndarray:
    """Without all-NaN entries, of which a mean would warn: the diagonal is drawn blank anyway."""
    return np.where(np.isfinite(values).any(0), values, 0)


def _off(scores: np.ndarray) -> np.ndarray:
    """Scores without those of a class and itself."""
    return np.where(np.eye(len(scores), dtype=bool), np.nan, scores)


def _pairs(scores: np.ndarray, names: list[str]) -> str:
    pairs = zip(*np.triu_indices(len(names), 1), strict=True)
    ranked = sorted(pairs, key=lambda pair: scores[pair])[:4]
    return "most confusable " + ", ".join(f"{names[a]} and {names[b]} {scores[a, b]:.2f}" for a, b in ranked)


def _draw(axes: Axes, scores: np.ndarray, names: list[str], limits: tuple[float, float]) -> None:
    heat_map(axes, scores, ("", names), ("", names), "viridis", limits)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(names)) + 0.5, names)


def _draw_layers(axes: Axes, layers: tuple, values: np.ndarray, chosen: int) -> None:
    found = spread(values)
    value_axis(axes)
    layer_axis(axes, layers)
    if known(found[0]):
        draw_line(axes, layers, found, Key("correlation", BLUE))
        show_middle(axes, [found[0]], least=0.2)
    level(axes, 0)
    axes.axvline(chosen, color=axes.spines["bottom"].get_edgecolor(), linewidth=0.8, zorder=1)
