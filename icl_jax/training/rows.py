"""What was measured, as rows of the tidy table and, where that is too much for it, as arrays beside it."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Num

from icl_jax.members import Member
from icl_jax.storage.arrays import MOST, Labelled, size_of
from icl_jax.storage.columns import REDUCTION, REDUCTIONS
from icl_jax.storage.metrics import MetricsWriter, to_table
from icl_jax.training.protocols import Eval


def member_columns(member: Member) -> dict:
    """Returns a member's settings (`Member.settings`) and seeds as columns of the tidy table."""
    settings = {f"hyper/{n}": value for n, value in member.settings().items()}
    return {**settings, **{f"seed/{n}": s for n, s in member.seeds.items()}}


def train_rows(step: int, metrics: dict[str, np.ndarray]) -> list[dict]:
    """Tidy rows of a chunk's mean training metrics; arrays (M,)."""
    return [
        {"member": m, "step": step, "suite": "train", "metric": name, "value": float(v)}
        for name, values in metrics.items()
        for m, v in enumerate(values)
    ]


def changed_rows(step: int, patches: list[str], changed: Float[np.ndarray, "M patches"]) -> list[dict]:
    """Tidy rows of the share of its site that each patch changed in training, (M, patches)."""
    about = {"step": step, "suite": "train", "metric": "changed"}
    return [
        {"member": m, **about, "patch": name, "value": float(share)}
        for m, row in enumerate(changed)
        for name, share in zip(patches, row, strict=True)
    ]


def eval_rows(step: int, evaluation: Eval, results: dict[str, np.ndarray], most: int | None = MOST) -> list[dict]:
    """Tidy rows of an eval's arrays (M, *axes): one coordinate column per axis.

    most: of a metric with more numbers per member the rows are its REDUCTIONS, with the coordinate `reduction`, over
    the numbers that are not NaN (None: all numbers, however many). ValueError for arrays of other sizes than the
    labels of their axes.
    """
    rows = []
    for metric, values in results.items():
        about = {"step": step, "suite": evaluation.name, "metric": metric}
        found = labelled(evaluation, metric, values)
        if is_large(found, most):
            found = _reduced(found)
        labels = [found.coords[axis] for axis in found.axes]
        for index in np.ndindex(found.values.shape):
            place = {axis: labels[k][i] for k, (axis, i) in enumerate(zip(found.axes, index[1:], strict=True))}
            rows.append({"member": index[0], **about, **place, "value": float(found.values[index])})
    return rows


def labelled(evaluation: Eval, metric: str, values: Num[np.ndarray, "M ..."]) -> Labelled:
    """Returns an eval's array with the labels of its axes. ValueError where it has other sizes than they."""
    axes = tuple(evaluation.axes[metric])
    coords = {axis: tuple(evaluation.coords[axis]) for axis in axes}
    if values.shape[1:] != (want := tuple(map(len, coords.values()))):
        raise ValueError(
            f"eval {evaluation.name!r}: {metric} has shape {values.shape[1:]} per member, and the labels of its axes "
            f"{axes} are {want}; give one label per entry in coords"
        )
    return Labelled(values, axes, coords)


def is_large(found: Labelled, most: int | None = MOST) -> bool:
    """Returns whether an array is too large for the table, which then has its reductions."""
    return most is not None and size_of(found.coords) > most


def _reduced(found: Labelled) -> Labelled:
    flat = found.values.reshape(len(found.values), -1)
    unknown = np.isnan(flat).all(axis=1)
    known = np.where(np.asarray(unknown)[:, None], 0.0, flat)
    columns = [np.where(unknown, np.nan, reduce(known, axis=1)) for reduce in REDUCTIONS.values()]
    return Labelled(np.stack(columns, axis=1), (REDUCTION,), {REDUCTION: tuple(REDUCTIONS)})


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What evals gave at a step. results: eval -> metric -> array with a leading member axis; columns: of the table,
    of each member (`member_columns`)."""

    step: int
    evals: Sequence[Eval]
    results: dict[str, dict[str, np.ndarray]]
    columns: Sequence[dict]

    def rows(self, most: int | None = MOST) -> list[dict]:
        """Returns tidy rows (see `eval_rows`), without the members' columns."""
        due = [e for e in self.evals if e.name in self.results]
        return list(itertools.chain.from_iterable(eval_rows(self.step, e, self.results[e.name], most) for e in due))

    def table(self, most: int | None = None) -> pa.Table:
        """Returns the tidy table of all numbers; most: see `eval_rows`."""
        return to_table([{**self.columns[row["member"]], **row} for row in self.rows(most)])

    def write_arrays(self, writer: MetricsWriter) -> None:
        """Writes what is too large for the table beside it."""
        for e in self.evals:
            for metric, values in self.results.get(e.name, {}).items():
                if is_large(found := labelled(e, metric, values)):
                    writer.write_array(e.name, metric, self.step, found)
