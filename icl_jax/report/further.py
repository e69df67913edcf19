"""What evals beside the suites measured in a sweep: along their axes, at the end of each run."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.claims.series import about, series
from icl_jax.report.view import Spot, View, aligned
from icl_jax.storage.columns import REDUCTION, REDUCTIONS, coordinates


@dataclasses.dataclass(frozen=True)
class Further:
    """One metric of an eval. axes: axis -> labels, in order.

    final: by setting, values (runs, *sizes) of the runs that came to their end; untrained: the mean over all runs at
    step 0 (*sizes), None where it was not measured; lines: of a metric without axes, by setting (steps, values).
    """

    name: str
    metric: str
    axes: dict[str, list]
    final: dict[Spot, np.ndarray]
    untrained: np.ndarray | None
    lines: dict[Spot, tuple[np.ndarray, np.ndarray]]

    @property
    def is_reduced(self) -> bool:
        """Whether its numbers are too many for the table, or along too many axes to be drawn."""
        return REDUCTION in self.axes or len(self.axes) > 2

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.metric.startswith("accuracy")


def further(table: pa.Table, view: View) -> list[Further]:
    """Returns the metrics of all evals of a results table that are no suites (which have floors), but for those without
    axes that are headlines anyway."""
    suites = set(pc.unique(table.filter(pc.field("metric") == "floor")["suite"]).to_pylist()) | {"train"}
    names = sorted(set(pc.unique(table["suite"]).to_pylist()) - suites)
    headlines = {(shown.name, shown.headline.metric) for shown in view.suites}
    found = []
    for name in names:
        mine = table.filter(pc.field("suite") == name)
        found += [_further(table, mine, view, name, metric) for metric in pc.unique(mine["metric"]).to_pylist()]
    return [one for one in found if one.axes or (one.name, one.metric) not in headlines]


def _further(table: pa.Table, mine: pa.Table, view: View, name: str, metric: str) -> Further:
    rows = mine.filter(pc.field("metric") == metric)
    axes = {axis: _labels(rows[axis]) for axis in coordinates(rows.column_names) if rows[axis].null_count == 0}
    runs = [run for shown in view.suites for run in shown.acquired]
    ended = {run.cell for run in runs if not run.diverged and run.is_complete(view.end)}
    last = dict(zip(*rows.group_by("cell").aggregate([("step", "max")]).to_pydict().values(), strict=True))
    at_end, at_start = _arrays(rows, axes, last), _arrays(rows, axes, dict.fromkeys(last, 0))
    spots = {cell: view.spot(labels) for cell, (labels, _) in about(table).items()}
    final: dict[Spot, list] = {}
    for cell, values in at_end.items():
        if cell in ended:
            final.setdefault(spots[cell], []).append(values)
    untrained = np.mean(list(at_start.values()), axis=0) if at_start else None
    return Further(
        name,
        metric,
        axes,
        {spot: np.stack(values) for spot, values in final.items()},
        untrained,
        {} if axes else _lines(table, view, name, metric),
    )


def _labels(column: pa.ChunkedArray) -> list:
    """Numbers by size, texts as they came."""
    labels = pc.unique(column).to_pylist()
    return labels if any(isinstance(label, str) for label in labels) else sorted(labels)


def _arrays(rows: pa.Table, axes: dict[str, list], steps: dict[str, int]) -> dict[str, np.ndarray]:
    """Values (*sizes) by cell, each at its step; of cells that were measured there."""
    wanted = pc.index_in(rows["cell"], pa.array(list(steps)))
    rows = rows.filter(pc.equal(rows["step"], pa.array(list(steps.values())).take(wanted)))
    cells, which = np.unique(rows["cell"].to_numpy(zero_copy_only=False), return_inverse=True)
    values = np.full((len(cells), *map(len, axes.values())), np.nan)
    place = [pc.index_in(rows[axis], pa.array(labels, rows[axis].type)).to_numpy() for axis, labels in axes.items()]
    values[(which, *place)] = rows["value"].to_numpy()
    return dict(zip(cells, values, strict=True))


def _lines(table: pa.Table, view: View, name: str, metric: str) -> dict[Spot, tuple[np.ndarray, np.ndarray]]:
    groups: dict[Spot, list] = {}
    for run in series(table, name, metric):
        groups.setdefault(view.spot(run.labels), []).append(run)
    return {spot: aligned(runs) for spot, runs in groups.items()}


def reduced(values: np.ndarray) -> dict[str, np.ndarray]:
    """Returns mean, sd, min and max over all axes of each run, (runs,). values: (runs, *sizes)."""
    flat = values.reshape(len(values), -1)
    return {name: reduce(flat, axis=1) for name, reduce in REDUCTIONS.items()}
