"""One run's values over training, out of the results table of a sweep."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LABEL, SEED = "label/", "seed/"
FIXED = ("cell", "step", "suite", "metric", "value")


@dataclasses.dataclass(frozen=True)
class Series:
    """Values (S,) of one metric of one run at `steps` (S,), in order; NaN from where the run diverged.

    labels: the swept quantities; seeds: by stream.
    """

    cell: str
    labels: dict[str, float | str | None]
    seeds: dict[str, int]
    steps: np.ndarray
    values: np.ndarray


def series(table: pa.Table, suite: str, metric: str = "accuracy") -> list[Series]:
    """Returns the series of a metric that has no coordinates, a run each, in the table's order of cells."""
    diverged = {c: values.max() for c, (_, values) in _lines(table, "train", "diverged").items()}
    about = _about(table)
    found = []
    for cell, (steps, values) in _lines(table, suite, metric).items():
        last = diverged.get(cell, -1)
        alive = (steps <= last) if last >= 0 else np.ones(len(steps), bool)
        found.append(Series(cell, *about[cell], steps, np.where(alive, values, np.nan)))
    return found


def _about(table: pa.Table) -> dict[str, tuple[dict, dict]]:
    """Labels and seeds by cell."""
    names = [n for n in table.column_names if n.startswith((LABEL, SEED))]
    rows = table.select(["cell", *names]).group_by(["cell", *names], use_threads=False).aggregate([]).to_pylist()
    pick = lambda row, prefix: {n.removeprefix(prefix): row[n] for n in names if n.startswith(prefix)}
    return {row["cell"]: (pick(row, LABEL), pick(row, SEED)) for row in rows}


def _lines(table: pa.Table, suite: str, metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values by cell."""
    chosen = (pc.field("suite") == suite) & (pc.field("metric") == metric)
    for name in table.column_names:
        if name not in FIXED and not name.startswith((LABEL, SEED, "hyper/")):
            chosen &= pc.field(name).is_null()
    rows = table.filter(chosen)
    cells = rows["cell"].to_numpy(zero_copy_only=False)
    steps, values = rows["step"].to_numpy(), rows["value"].to_numpy()
    lines = {}
    for cell in dict.fromkeys(cells):
        mine = np.flatnonzero(cells == cell)
        mine = mine[np.argsort(steps[mine], kind="stable")]
        lines[cell] = (steps[mine], values[mine])
    return lines
