"""The short table at the end of a run."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from rich.table import Table

from icl_jax.headlines import Headline
from icl_jax.report.curves import Curves, Setting, curves, has_bounds, headline_curves, label


def final_table(table: pa.Table, *, headlines: Sequence[Headline], group_by: Sequence[str] = ()) -> str:
    """Returns the table as aligned Markdown, which reads as plain text too.

    Per setting of the hypers `group_by`, each the mean over seeds (min..max): the final value of each headline; if the
    first one is the accuracy of a suite, its share of the way from the suite's floor to its ceiling, and at the end the
    largest accuracy over training and the step of it (of the mean curve); seeds, and how many of them diverged.
    Diverged seeds count in no mean.
    """
    head, rows = _cells(table, headlines, group_by)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in [head, rule, *rows])


def _line(row: list[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
    return f"| {' | '.join(cells)} |"


def rich_table(table: pa.Table, *, headlines: Sequence[Headline], group_by: Sequence[str] = ()) -> Table:
    """Returns the same table for a terminal."""
    head, rows = _cells(table, headlines, group_by)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(head):
        shown.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def _cells(table: pa.Table, headlines: Sequence[Headline], group_by: Sequence[str]) -> tuple[list[str], list]:
    """Titles of the columns, and the texts of each row."""
    shown = [headline_curves(table, headline, group_by) for headline in headlines]
    settings = sorted({setting for data in shown for setting in data.values})
    columns = {h.title: _column(data, settings) for h, data in zip(headlines, shown, strict=True)}
    last = {}
    if has_bounds(table, headlines[0]):
        share = curves(table, headlines[0].suite, "share", group_by)
        way = {"of the way": [_spread(_final(share, setting), percent=True) for setting in settings]}
        first, *others = columns.items()
        columns = dict([first]) | way | dict(others)
        peaks = [_peak(shown[0], setting) for setting in settings]
        last = {f"peak {headlines[0].title}": [_spread(peak) for peak, _ in peaks], "at step": [s for _, s in peaks]}
    diverged = [next(data.diverged[setting] for data in shown if setting in data.values) for setting in settings]
    counts = {"seeds": [str(len(d)) for d in diverged], "diverged": [str(int(d.sum())) for d in diverged]}
    columns |= last | counts
    names = [label(setting, group_by) for setting in settings]
    head = [group_by[0] if len(group_by) == 1 else "setting", *columns]
    return head, [list(row) for row in zip(names, *columns.values(), strict=True)]


def _column(data: Curves, settings: list[Setting]) -> list[str]:
    return [_spread(_final(data, setting)) for setting in settings]


def _final(data: Curves, setting: Setting) -> np.ndarray:
    """Last values of the seeds that have one, (seeds,)."""
    last = data.values[setting][:, -1] if setting in data.values else np.empty(0)
    return last[np.isfinite(last)]


def _peak(data: Curves, setting: Setting) -> tuple[np.ndarray, str]:
    """Largest value of each seed still alive, and the step at which their mean is largest."""
    values = data.values[setting][~data.diverged[setting]] if setting in data.values else np.empty((0, 0))
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
