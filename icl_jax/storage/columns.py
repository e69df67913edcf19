"""The columns of a tidy table, of a run (`training.store`) or of a sweep (`sweep.results`)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.headlines import Coords, Headline

_FIXED = ("member", "cell", "step", "suite", "metric", "value", "_order")
_PREFIXES = ("label/", "hyper/", "seed/")
REDUCTION = "reduction"  # coordinate of results that are too large for the table, which has these of them instead
REDUCTIONS = {"mean": np.nanmean, "sd": np.nanstd, "min": np.nanmin, "max": np.nanmax}


def coordinates(names: Iterable[str]) -> list[str]:
    """Returns those of a table's columns that are coordinates of its metrics, such as layer, in their order."""
    return [name for name in names if name not in _FIXED and not name.startswith(_PREFIXES)]


def rows_at(table: pa.Table, suite: str, metric: str, at: Coords = ()) -> pa.Table:
    """Returns the rows of a metric at exactly these coordinates: with no others."""
    chosen, given = (pc.field("suite") == suite) & (pc.field("metric") == metric), dict(at)
    if given.keys() - set(table.column_names):
        return table.slice(0, 0)
    for name in coordinates(table.column_names):
        value = _typed(given[name], table.schema.field(name).type) if name in given else None
        if name in given and value is None:
            return table.slice(0, 0)
        chosen &= pc.field(name) == value if name in given else pc.field(name).is_null()
    return table.filter(chosen)


def headline_rows(table: pa.Table, headline: Headline) -> pa.Table:
    """Returns the rows of a headline."""
    return rows_at(table, headline.suite, headline.metric, headline.at)


def _typed(label: Any, kind: pa.DataType) -> int | str | None:
    """A label as a coordinate's column has it; None where it cannot have it."""
    if pa.types.is_string(kind):
        return str(label)
    try:
        return int(label) if float(label) == int(label) else None
    except (TypeError, ValueError):
        return None
