"""Learning curves out of the tidy table, grouped by setting."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FIXED = ("member", "step", "suite", "metric", "value")
Setting = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Curves:
    """One metric of one suite. steps: (S,); values: per setting (seeds, S), NaN where not measured."""

    steps: np.ndarray
    values: dict[Setting, np.ndarray]

    def __bool__(self) -> bool:
        return bool(self.values)

    def mean(self, setting: Setting) -> np.ndarray:
        """Mean over the seeds that have a value, (S,); NaN where none has."""
        values = self.values[setting]
        known = np.isfinite(values)
        total = np.where(known, values, 0).sum(0)
        return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def curves(table: pa.Table, suite: str, metric: str, group_by: Sequence[str]) -> Curves:
    """Returns the curves of a metric without coordinates; settings, in order, by the hypers `group_by`.

    A seed is a member: a row of its own even where two members have the same seeds.
    """
    keys = [name for name in table.column_names if name.startswith(("hyper/", "seed/"))]
    coordinates = [name for name in table.column_names if name not in (*FIXED, *keys)]
    chosen = (pc.field("suite") == suite) & (pc.field("metric") == metric)
    for name in coordinates:
        chosen &= pc.field(name).is_null()
    rows = table.filter(chosen)
    columns = {name: rows[name].to_numpy() for name in ["member", "step", "value", *keys]}
    steps = np.unique(columns["step"])
    members: dict[tuple, dict[int, float]] = {}
    for row in range(rows.num_rows):
        identity = tuple(columns[name][row] for name in ["member", *keys])
        members.setdefault(identity, {})[columns["step"][row]] = columns["value"][row]
    place = [1 + keys.index(f"hyper/{name}") for name in group_by if f"hyper/{name}" in keys]
    values: dict[Setting, list] = {}
    for identity, line in members.items():
        setting = tuple(float(identity[i]) for i in place)
        values.setdefault(setting, []).append([line.get(step, np.nan) for step in steps])
    return Curves(steps, {setting: np.asarray(values[setting]) for setting in sorted(values)})


def label(setting: Setting, group_by: Sequence[str]) -> str:
    """Returns "0.9" for one varied hyper, "p_bursty 0.9, ways 2" for several, "all" for none."""
    if len(setting) == 1:
        return f"{setting[0]:g}"
    return ", ".join(f"{name} {value:g}" for name, value in zip(group_by, setting, strict=True)) or "all"
