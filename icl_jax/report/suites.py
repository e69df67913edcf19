"""The table of an evaluation: a row per setting and suite."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from rich.table import Table

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


def suite_table(table: pa.Table, group_by: Sequence[str]) -> Table:
    """Returns the tidy table of one evaluation as a table for a terminal: means over seeds."""
    cells = defaultdict(list)
    for row in table.to_pylist():
        values = [row[f"hyper/{n}"] for n in group_by]
        texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
        setting = ", ".join(f"{name}={value}" for name, value in zip(group_by, texts, strict=True))
        cells[row["suite"], setting, row["metric"]].append(row["value"])
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


def _mean(values: list[float]) -> str:
    finite = [v for v in values if np.isfinite(v)]
    return f"{np.mean(finite):.3f}" if finite else "-"
