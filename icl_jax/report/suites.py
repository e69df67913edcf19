"""The tables of an evaluation: a row per setting and suite, and one table for each eval beside the suites."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from icl_jax.storage.columns import coordinates

COLUMNS = {
    "accuracy": "accuracy",
    "floor": "floor",
    "ceiling": "ceiling",
    "share": "of the way",
    "accuracy_all": "all labels",
    "accuracy_context": "context labels",
    "loss": "loss",
    "pred_context": "says: context",
    "pred_rare": "rare",
    "pred_common": "common",
}


_MOST = 12  # labels along an axis with a column each


def suite_table(table: pa.Table, group_by: Sequence[str]) -> Table:
    """Returns the rows of suites in the tidy table of one evaluation as a table for a terminal: means over seeds."""
    cells = defaultdict(list)
    for row in table.to_pylist():
        cells[row["suite"], _setting(row, group_by), row["metric"]].append(row["value"])
    shown = Table(header_style="bold", box=None)
    shown.add_column("suite", no_wrap=True)
    if group_by:
        shown.add_column("setting", no_wrap=True)
    for title in COLUMNS.values():
        shown.add_column(title, justify="right", no_wrap=True)
    for suite, setting in sorted({key[:2] for key in cells}):
        values = [cells.get((suite, setting, metric), []) for metric in COLUMNS]
        shown.add_row(suite, *([setting] if group_by else []), *map(_mean, values))
    return shown


def eval_table(table: pa.Table, group_by: Sequence[str]) -> Table:
    """Returns the rows of one eval beside the suites as a table for a terminal: a row per setting and metric, means
    over seeds. Along one axis of few labels there is a column per label, else the mean and the range of all numbers."""
    axes = [name for name in coordinates(table.column_names) if table[name].null_count < table.num_rows]
    labels = list(dict.fromkeys(pc.drop_null(table[axes[0]]).to_pylist())) if len(axes) == 1 else []
    labels = labels if len(labels) <= _MOST else []
    rows = defaultdict(lambda: defaultdict(list))
    for row in table.to_pylist():
        of = row[axes[0]] if labels else None
        rows[_setting(row, group_by), row["metric"]][of].append(row["value"])
    shown = Table(header_style="bold", box=None, title=table["suite"][0].as_py(), title_justify="left")
    for title in (["setting"] if group_by else []) + ["metric"]:
        shown.add_column(title, no_wrap=True)
    whole = f"mean (min..max) over {', '.join(axes)}" if axes else "mean"
    for title in [f"{axes[0]} {label}" for label in labels] or [whole]:
        shown.add_column(title, justify="right", no_wrap=True)
    for (setting, metric), cells in rows.items():
        texts = [_mean(cells[label]) for label in labels] or [_range(cells[None]) if axes else _mean(cells[None])]
        shown.add_row(*([setting] if group_by else []), metric, *texts)
    return shown


def _setting(row: dict, group_by: Sequence[str]) -> str:
    values = [row[f"hyper/{n}"] for n in group_by]
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    return ", ".join(f"{name}={value}" for name, value in zip(group_by, texts, strict=True))


def _range(values: list[float]) -> str:
    finite = [v for v in values if np.isfinite(v)]
    return f"{np.mean(finite):.3f} ({min(finite):.3f}..{max(finite):.3f})" if finite else "-"


def _mean(values: list[float]) -> str:
    finite = [v for v in values if np.isfinite(v)]
    return f"{np.mean(finite):.3f}" if finite else "-"
