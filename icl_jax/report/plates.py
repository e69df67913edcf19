"""Which figures a sweep has."""

import itertools
from typing import Any

from icl_jax.report import captions
from icl_jax.report.panels import BOTTOM, LEFT, Plate, rows_of
from icl_jax.report.phase import has_phase, phase_panels
from icl_jax.report.sweep_curves import curve_panel, plane_panel
from icl_jax.report.sweep_final import final_panel, places
from icl_jax.report.view import View


def plates(view: View) -> list[Plate]:
    """Returns the figures of a sweep, in order.

    With one label or none a figure has one row; with more a column of panels per value of the labels
    that are not colour, and for two numbers phase diagrams.
    """
    curves = [[curve_panel(view, suite, column) for column in view.shown_columns] for suite in view.suites]
    planes = [plane_panel(view, column) for column in view.shown_columns] if view.plane else []
    learning, paths = captions.learning(view), captions.PATHS if planes else ""
    if not view.primary:
        panels = rows_of([*itertools.chain.from_iterable(curves), *planes])
        return [Plate("learning", "Learning curves", f"{learning} {paths}".strip(), panels)]
    final = [final_panel(view, suite) for suite in view.suites]
    aside, below = places(view).margins
    margins: dict[str, Any] = {"left": LEFT + aside, "bottom": BOTTOM + below}
    if len(view.columns) == 1:
        about = f"{captions.final(view)} {paths}".strip()
        scores = "Final scores and trade-off" if planes else "Final scores"
        return [
            Plate("learning", "Learning curves", learning, rows_of(list(itertools.chain.from_iterable(curves)))),
            Plate("final", scores, about, rows_of([*final, *planes]), **margins),
        ]
    made = [
        Plate("learning", "Learning curves", learning, curves),
        Plate("final", "Final scores", captions.final(view), rows_of(final), **margins),
    ]
    if planes:
        made.append(Plate("tradeoff", "Trade-off", f"{paths} {captions.columns(view)}".strip(), [planes]))
    if has_phase(view):
        maps = {"legend": False, "left": 0.62}
        made.append(Plate("phase", "Phase diagram", captions.phase(view), rows_of(phase_panels(view)), **maps))
    return made
