"""Grids: which runs a sweep has, as a list of points that product, zip, chain and random draws build.

    def get_sweep(scale):
        return grid.product(grid.over("hypers.p_bursty", (0, 0.5, 0.9, 1)), grid.seeds(5))

A point changes config fields (dotted names) and carries labels, the swept quantities as figures and
claims name them.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ml_collections import ConfigDict


@dataclass(frozen=True)
class Point:
    """Changes of config fields, by dotted name, and the labels they are known by."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, float | str] = field(default_factory=dict)


Grid = list[Point]


@dataclass(frozen=True)
class Stage:
    """An earlier stage of a sweep: the config of its runs, its grid, and what is claimed of it alone."""

    config: ConfigDict
    points: Grid = field(default_factory=lambda: [Point()])
    claims: Sequence = ()


def over(path: str, values: Iterable, label: str | None = None) -> Grid:
    """Returns a point per value of one field. label: its name (default: the field's last part)."""
    label = label or path.rpartition(".")[2]
    return [Point({path: value}, {label: label_of(value)}) for value in values]


def named(label: str, settings: Mapping[float | str, Mapping[str, Any]]) -> Grid:
    """Returns a point per named setting, each a dict of field changes: for a quantity that takes several
    fields, such as {"single": {"bank.exemplars": "single"}, "all": {}}."""
    return [Point(dict(changes), {label: label_of(name)}) for name, changes in settings.items()]


def seeds(count: int, first: int = 0, streams: Iterable[str] = ("init", "data", "eval")) -> Grid:
    """Returns `count` seeds, the same number in each of the streams. Seeds are repetitions, not labels."""
    return [Point({f"seeds.{stream}": seed for stream in streams}) for seed in range(first, first + count)]


def product(*grids: Grid) -> Grid:
    """Returns every combination of one point from each grid; the last grid varies fastest."""
    return [_merge(points) for points in itertools.product(*grids)]


def zipped(*grids: Grid) -> Grid:
    """Returns the first points merged, the second points merged, ... ValueError for unequal lengths."""
    if len({len(g) for g in grids}) > 1:
        raise ValueError(f"grid.zipped: grids of {[len(g) for g in grids]} points; give equal lengths, or use product")
    return [_merge(points) for points in zip(*grids, strict=True)]


def chain(*grids: Grid) -> Grid:
    """Returns the points of all grids, one grid after another."""
    return list(itertools.chain(*grids))


def follow(points: Grid) -> Grid:
    """Returns the points of an earlier stage as a later one repeats them: their labels and seeds alone, each once."""
    kept = [
        Point({path: v for path, v in point.changes.items() if path.startswith("seeds.")}, dict(point.labels))
        for point in points
    ]
    return list({repr((sorted(p.changes.items()), sorted(p.labels.items()))): p for p in kept}.values())


@dataclass(frozen=True)
class Draw:
    """A distribution of a number; see `uniform`, `log_uniform`, `choice`."""

    kind: str
    low: float = 0.0
    high: float = 1.0
    values: tuple = ()

    def sample(self, generator: np.random.Generator):
        if self.kind == "choice":
            return self.values[int(generator.integers(len(self.values)))]
        if self.kind == "uniform":
            return float(generator.uniform(self.low, self.high))
        return float(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))


def uniform(low: float, high: float) -> Draw:
    """A number drawn uniformly."""
    return Draw("uniform", *_ordered(low, high))


def log_uniform(low: float, high: float) -> Draw:
    """A number whose logarithm is drawn uniformly; low > 0."""
    if low <= 0:
        raise ValueError(f"grid.log_uniform({low}, {high}): low must be above 0")
    return Draw("log_uniform", *_ordered(low, high))


def choice(*values) -> Draw:
    """One of the values, each as likely."""
    if not values:
        raise ValueError("grid.choice(): there is nothing to choose from; name at least one value")
    return Draw("choice", values=values)


def random(count: int, draws: Mapping[str, Draw], seed: int = 0, label: str = "draw") -> Grid:
    """Returns `count` random settings of the fields, labelled 0, 1, ...

    Draw k is a function of (seed, k) and the field's name alone: more draws or another field change none.
    """
    return [
        Point({path: draw.sample(_generator(seed, k, path)) for path, draw in draws.items()}, {label: float(k)})
        for k in range(count)
    ]


def _generator(seed: int, k: int, path: str) -> np.random.Generator:
    return np.random.default_rng([seed, k, *path.encode()])


def _ordered(low: float, high: float) -> tuple[float, float]:
    if not low < high:
        raise ValueError(f"a draw from {low} to {high}: low must be below high")
    return low, high


def label_of(value) -> float | str:
    """Returns the label of a value: numbers as float, everything else as text (whole numbers in a tuple, such as
    layers: "0,1", or "all" for none)."""
    if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
        return ",".join(map(str, value)) or "all"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    return str(value)


def _merge(points: Iterable[Point]) -> Point:
    """Returns one point with all changes. ValueError when two of them set the same field or label."""
    changes: dict[str, Any] = {}
    labels: dict[str, float | str] = {}
    for point in points:
        for into, more in ((changes, point.changes), (labels, point.labels)):
            if twice := sorted(into.keys() & more.keys()):
                raise ValueError(f"two grids that are combined both set {twice[0]!r}; set it in one, or chain them")
            into.update(more)
    return Point(changes, labels)
