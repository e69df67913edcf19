"""Learning curves out of the tidy table, grouped by setting."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from icl_jax.headlines import Coords, Headline
from icl_jax.storage.columns import rows_at

Setting = tuple[float | str, ...]


@dataclasses.dataclass(frozen=True)
class Curves:
    """One metric of one suite. steps: (S,); values: per setting (seeds, S), NaN where not measured; diverged: per
    setting (seeds,), whether the seed did before the last step."""

    steps: np.ndarray
    values: dict[Setting, np.ndarray]
    diverged: dict[Setting, np.ndarray]

    def __bool__(self) -> bool:
        return bool(self.values)

    def mean(self, setting: Setting) -> np.ndarray:
        """Mean over the seeds that have a value, (S,); NaN where none has."""
        values = self.values[setting]
        known = np.isfinite(values)
        total = np.where(known, values, 0).sum(0)
        return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


def curves(table: pa.Table, suite: str, metric: str, group_by: Sequence[str], at: Coords = ()) -> Curves:
    """Returns the curves of a metric at exactly these coordinates; settings, in order, by the hypers `group_by`.

    A seed is a member: a row of its own even where two members have the same seeds. A member that
    diverged (suite "train", metric "diverged": the step, or -1) has no values after that step.
    """
    keys = [name for name in table.column_names if name.startswith(("hyper/", "seed/"))]
    place = [1 + keys.index(f"hyper/{name}") for name in group_by if f"hyper/{name}" in keys]
    members = _lines(rows_at(table, suite, metric, at), keys)
    diverged = _lines(rows_at(table, "train", "diverged"), keys)
    diverged = {member: max(line.values()) for member, line in diverged.items()}
    steps = np.unique([step for line in members.values() for step in line]).astype(int)
    values: dict[Setting, list] = {}
    cut: dict[Setting, list] = {}
    for member, line in members.items():
        last = diverged.get(member, -1)
        end = last if last >= 0 else np.inf
        setting = tuple(member[i] for i in place)
        values.setdefault(setting, []).append([line[s] if s <= end and s in line else np.nan for s in steps])
        cut.setdefault(setting, []).append(end < max(line))
    settings = sorted(values)
    return Curves(steps, *({setting: np.asarray(of[setting]) for setting in settings} for of in (values, cut)))


def _lines(rows: pa.Table, keys: Sequence[str]) -> dict[tuple, dict[int, float]]:
    """Returns value by step, by member: its index, hypers and seeds, as several runs may be in a table."""
    identity = zip(*(rows[name].to_pylist() for name in ["member", *keys]), strict=True)
    lines: dict[tuple, dict[int, float]] = {}
    for member, step, value in zip(identity, rows["step"].to_pylist(), rows["value"].to_pylist(), strict=True):
        lines.setdefault(member, {})[step] = value
    return lines


def headline_curves(table: pa.Table, headline: Headline, group_by: Sequence[str]) -> Curves:
    """Returns the curves of a headline."""
    return curves(table, headline.suite, headline.metric, group_by, headline.at)


def has_bounds(table: pa.Table, headline: Headline) -> bool:
    """Returns whether a headline is the accuracy of a suite, with floor and ceiling in the table."""
    plain = headline.metric == "accuracy" and not headline.at
    return plain and rows_at(table, headline.suite, "floor").num_rows > 0


def has_plane(headlines: Sequence[Headline]) -> bool:
    """Returns whether the first two of several headlines are drawn one against the other: where they are accuracies."""
    return len(headlines) > 1 and all(headline.is_accuracy for headline in headlines[:2])


def label(setting: Setting, group_by: Sequence[str]) -> str:
    """Returns "0.9" for one varied hyper, "p_bursty 0.9, ways 2" for several, "all" for none."""
    texts = [value if isinstance(value, str) else f"{value:g}" for value in setting]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(f"{name} {value}" for name, value in zip(group_by, texts, strict=True)) or "all"
