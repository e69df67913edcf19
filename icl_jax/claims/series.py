"""One run's values over training, out of the results table of a sweep."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Num

from icl_jax.headlines import Coords
from icl_jax.storage.columns import rows_at

LABEL, SEED = "label/", "seed/"


@dataclasses.dataclass(frozen=True)
class Series:
    """Values (S,) of one metric of one run at `steps` (S,), in order; NaN where there is none and after it diverged.

    labels: the swept quantities; seeds: by stream; diverged: the last step before the run diverged, if it did.
    """

    cell: str
    labels: dict[str, float | str | None]
    seeds: dict[str, int]
    steps: np.ndarray
    values: np.ndarray
    diverged: float = math.inf

    @property
    def counts(self) -> Bool[np.ndarray, "S"]:
        """Which steps (S,) the run came to before it diverged."""
        return self.steps <= self.diverged


def series(table: pa.Table, suite: str, metric: str = "accuracy", at: Coords = ()) -> list[Series]:
    """Returns the series of a metric at exactly these coordinates, a run each, in the table's order of cells."""
    diverged = {cell: values.max() for cell, (_, values) in _lines(rows_at(table, "train", "diverged")).items()}
    known = about(table)
    found = []
    for cell, (steps, values) in _lines(rows_at(table, suite, metric, at)).items():
        last = diverged.get(cell, -1)
        line = Series(cell, *known[cell], steps, values, float(last) if last >= 0 else math.inf)
        found.append(dataclasses.replace(line, values=np.where(line.counts, values, np.nan)))
    return found


def windowed(line: Series, window: int, ends: Num[np.ndarray, "S"]) -> Series:
    """Returns the means of a training metric over the `window` steps up to each of `ends`.

    line: means over chunks, each up to its step. ValueError where a window does not begin and end with chunks.
    """
    bounds, values = np.concatenate([[0], line.steps]), []
    for end in ends:
        first, last = np.searchsorted(bounds, [end - window, end])
        if last == len(bounds) or bounds[last] != end or bounds[first] != end - window:
            raise ValueError(
                f"no window of {window:,} steps ends at step {end:,} of cell {line.cell}: training is logged at steps "
                f"{', '.join(map(str, line.steps[:3]))}, ..., {line.steps[-1]}; take a multiple of evals.every for both"
            )
        values.append(np.average(line.values[first:last], weights=np.diff(bounds[first : last + 1])))
    return dataclasses.replace(line, steps=np.asarray(ends), values=np.array(values))


def about(table: pa.Table) -> dict[str, tuple[dict, dict]]:
    """Returns (labels, seeds) by cell."""
    names = [n for n in table.column_names if n.startswith((LABEL, SEED))]
    rows = table.select(["cell", *names]).group_by(["cell", *names], use_threads=False).aggregate([]).to_pylist()
    pick = lambda row, prefix: {n.removeprefix(prefix): row[n] for n in names if n.startswith(prefix)}
    return {row["cell"]: (pick(row, LABEL), pick(row, SEED)) for row in rows}


def _lines(rows: pa.Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values by cell."""
    cells = rows["cell"].to_numpy(zero_copy_only=False)
    steps, values = rows["step"].to_numpy(), rows["value"].to_numpy()
    lines = {}
    for cell in dict.fromkeys(cells):
        mine = np.flatnonzero(cells == cell)
        mine = mine[np.argsort(steps[mine], kind="stable")]
        lines[cell] = (steps[mine], values[mine])
    return lines
