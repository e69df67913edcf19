"""The short table at the end of a run."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from rich.table import Table

from icl_jax.report.curves import Curves, Setting, curves, label

HEAD = ("ICL", "of the way", "IWL", "peak ICL", "at step", "seeds", "diverged")


def final_table(table: pa.Table, *, icl_suite: str, iwl_suite: str, group_by: Sequence[str] = ()) -> str:
    """Returns the table as aligned Markdown, which reads as plain text too.

    Per setting of the hypers `group_by`, each the mean over seeds (min..max): final accuracy in context;
    its share of the way from the suite's floor to its ceiling; final accuracy in weights; the largest
    accuracy in context over training, and the step of it (of the mean curve); seeds, and how many of
    them diverged. Diverged seeds count in no mean.
    """
    head, rows = _cells(table, icl_suite, iwl_suite, group_by)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in [head, rule, *rows])


def _line(row: list[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
    return f"| {' | '.join(cells)} |"


def rich_table(table: pa.Table, *, icl_suite: str, iwl_suite: str, group_by: Sequence[str] = ()) -> Table:
    """Returns the same table for a terminal."""
    head, rows = _cells(table, icl_suite, iwl_suite, group_by)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(head):
        shown.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def _cells(table, icl_suite, iwl_suite, group_by) -> tuple[list[str], list[list[str]]]:
    icl, iwl = (curves(table, suite, "accuracy", group_by) for suite in (icl_suite, iwl_suite))
    share = curves(table, icl_suite, "share", group_by)
    name = group_by[0] if len(group_by) == 1 else "setting"
    settings = sorted({*icl.values, *iwl.values})
    return [name, *HEAD], [_row(setting, icl, iwl, share, group_by) for setting in settings]


def _row(setting: Setting, icl: Curves, iwl: Curves, share: Curves, group_by: Sequence[str]) -> list[str]:
    curve = icl if setting in icl.values else iwl
    alive = ~curve.diverged[setting]
    peak, step = _peak(icl, setting, alive)
    return [
        label(setting, group_by),
        _spread(_final(icl, setting)),
        _spread(_final(share, setting), percent=True),
        _spread(_final(iwl, setting)),
        _spread(peak),
        step,
        str(len(alive)),
        str(int((~alive).sum())),
    ]


def _final(data: Curves, setting: Setting) -> np.ndarray:
    """Last values of the seeds that have one, (seeds,)."""
    last = data.values[setting][:, -1] if setting in data.values else np.empty(0)
    return last[np.isfinite(last)]


def _peak(data: Curves, setting: Setting, alive: np.ndarray) -> tuple[np.ndarray, str]:
    """Largest value of each seed still alive, and the step at which their mean is largest."""
    values = data.values[setting][alive] if setting in data.values else np.empty((0, 0))
    values = values[np.isfinite(values).any(1)]
    if not values.size:
        return np.empty(0), "-"
    low = np.where(np.isfinite(values), values, -np.inf)
    return low.max(1), str(int(data.steps[low.mean(0).argmax()]))


def _spread(values: np.ndarray, percent: bool = False) -> str:
    if not values.size:
        return "-"
    show = (lambda v: f"{100 * v:.0f}%") if percent else (lambda v: f"{v:.2f}")
    mean = show(values.mean())
    return mean if len(values) == 1 else f"{mean} ({show(values.min())}..{show(values.max())})"
