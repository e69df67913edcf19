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

from icl_jax.names import label_of


@dataclass(frozen=True)
class Point:
    """Changes of config fields, by dotted name, and the labels they are known by.

    >>> grid.Point({"hypers.p_bursty": 0.5}, {"p_bursty": 0.5}) == grid.over("hypers.p_bursty", [0.5])[0]
    True
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, float | str] = field(default_factory=dict)


Grid = list[Point]


@dataclass(frozen=True)
class Stage:
    """An earlier stage of a sweep: the config of its runs, its grid, and what is claimed of it alone.

    >>> grow = icl_jax.Stage(config, grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(5)))
    >>> len(grow.points)
    10
    >>> get_stages = lambda: {"grow": grow}  # in a config file; init_from.run = "stage:grow" starts from its runs
    """

    config: ConfigDict
    points: Grid = field(default_factory=lambda: [Point()])
    claims: Sequence = ()


def over(path: str, values: Iterable, label: str | None = None) -> Grid:
    """Returns a point per value of one field. label: its name (default: the field's last part).

    >>> for point in grid.over("hypers.p_bursty", (0, 0.9)):
    ...     print(point.changes, point.labels)
    {'hypers.p_bursty': 0} {'p_bursty': 0.0}
    {'hypers.p_bursty': 0.9} {'p_bursty': 0.9}
    """
    if not isinstance(path, str):
        raise ValueError(f"grid.over({path!r}, ...): give the name of a field, such as 'hypers.p_bursty'")
    label = label or path.rpartition(".")[2]
    if not isinstance(values, Iterable) or isinstance(values, str | Mapping):
        raise ValueError(f"grid.over({path!r}, {values!r}): give several values, such as a tuple")
    return [Point({path: value}, {label: label_of(value)}) for value in values]


def named(label: str, settings: Mapping[float | str, Mapping[str, Any]]) -> Grid:
    """Returns a point per named setting, each a dict of field changes: for a quantity that takes several
    fields, such as {"single": {"bank.exemplars": "single"}, "all": {}}.

    >>> points = grid.named("exemplars", {"single": {"bank.exemplars": "single"}, "all": {}})
    >>> [(point.labels, point.changes) for point in points]
    [({'exemplars': 'single'}, {'bank.exemplars': 'single'}), ({'exemplars': 'all'}, {})]
    """
    return [Point(dict(changes), {label: label_of(name)}) for name, changes in settings.items()]


def seeds(count: int, first: int = 0, streams: Iterable[str] = ("init", "data", "eval")) -> Grid:
    """Returns `count` seeds, the same number in each of the streams. Seeds are repetitions, not labels.

    >>> [point.changes for point in grid.seeds(2, streams=("init", "data"))]
    [{'seeds.init': 0, 'seeds.data': 0}, {'seeds.init': 1, 'seeds.data': 1}]
    """
    return [Point({f"seeds.{stream}": seed for stream in streams}) for seed in range(first, first + count)]


def product(*grids: Grid) -> Grid:
    """Returns every combination of one point from each grid; the last grid varies fastest.

    >>> layers = grid.over("model.num_layers", (2, 4))
    >>> points = grid.product(grid.over("hypers.p_bursty", (0, 1)), layers, grid.seeds(5))
    >>> len(points), points[0].labels
    (20, {'p_bursty': 0.0, 'num_layers': 2.0})
    """
    return [_merge(points) for points in itertools.product(*grids)]


def zipped(*grids: Grid) -> Grid:
    """Returns the first points merged, the second points merged, ... ValueError for unequal lengths.

    >>> points = grid.zipped(grid.over("task.num_labels", (32, 64)), grid.over("hypers.learning_rate", (3e-3, 1e-3)))
    >>> [point.labels for point in points]
    [{'num_labels': 32.0, 'learning_rate': 0.003}, {'num_labels': 64.0, 'learning_rate': 0.001}]
    """
    if len({len(g) for g in grids}) > 1:
        raise ValueError(f"grid.zipped: grids of {[len(g) for g in grids]} points; give equal lengths, or use product")
    return [_merge(points) for points in zip(*grids, strict=True)]


def chain(*grids: Grid) -> Grid:
    """Returns the points of all grids, one grid after another.

    >>> points = grid.chain(grid.over("hypers.p_bursty", (0, 1)), grid.over("hypers.zipf_exponent", (1, 2)))
    >>> [point.labels for point in points]
    [{'p_bursty': 0.0}, {'p_bursty': 1.0}, {'zipf_exponent': 1.0}, {'zipf_exponent': 2.0}]
    """
    return list(itertools.chain(*grids))


def follow(points: Grid) -> Grid:
    """Returns the points of an earlier stage as a later one repeats them: their labels and seeds alone, each once.

    >>> grow = grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(1))
    >>> grid.follow(grow)[1].labels, sorted(grid.follow(grow)[1].changes)
    ({'p_bursty': 1.0}, ['seeds.data', 'seeds.eval', 'seeds.init'])
    """
    kept = [
        Point({path: v for path, v in point.changes.items() if path.startswith("seeds.")}, dict(point.labels))
        for point in points
    ]
    return list({repr((sorted(p.changes.items()), sorted(p.labels.items()))): p for p in kept}.values())


@dataclass(frozen=True)
class Draw:
    """A distribution of a number; see `uniform`, `log_uniform`, `choice`.

    >>> grid.uniform(0, 1)
    Draw(kind='uniform', low=0, high=1, values=())
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    values: tuple = ()

    def sample(self, generator: np.random.Generator):
        """Returns a number, or one of the values.

        >>> grid.choice("pre", "none").sample(numpy.random.default_rng(0))
        'none'
        """
        if self.kind == "choice":
            return self.values[int(generator.integers(len(self.values)))]
        if self.kind == "uniform":
            return float(generator.uniform(self.low, self.high))
        return float(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))


def uniform(low: float, high: float) -> Draw:
    """A number drawn uniformly.

    >>> points = grid.random(2, {"hypers.p_bursty": grid.uniform(0, 1)})
    >>> [round(point.changes["hypers.p_bursty"], 3) for point in points]
    [0.164, 0.713]
    """
    return Draw("uniform", *_ordered(low, high))


def log_uniform(low: float, high: float) -> Draw:
    """A number whose logarithm is drawn uniformly; low > 0.

    >>> draws = {"hypers.learning_rate": grid.log_uniform(1e-4, 1e-2)}
    >>> [round(point.changes["hypers.learning_rate"], 5) for point in grid.random(2, draws)]
    [0.00942, 0.0006]
    """
    if low <= 0:
        raise ValueError(f"grid.log_uniform({low}, {high}): low must be above 0")
    return Draw("log_uniform", *_ordered(low, high))


def choice(*values) -> Draw:
    """One of the values, each as likely.

    >>> [point.changes["model.num_layers"] for point in grid.random(4, {"model.num_layers": grid.choice(1, 2, 4)})]
    [1, 1, 4, 2]
    """
    if not values:
        raise ValueError("grid.choice(): there is nothing to choose from; name at least one value")
    return Draw("choice", values=values)


def random(count: int, draws: Mapping[str, Draw], seed: int = 0, label: str = "draw") -> Grid:
    """Returns `count` random settings of the fields, labelled 0, 1, ...

    Draw k is a function of (seed, k) and the field's name alone: more draws or another field change none.

    >>> draws = {"hypers.learning_rate": grid.log_uniform(1e-4, 1e-2), "model.norm": grid.choice("pre", "none")}
    >>> points = grid.random(8, draws)
    >>> points[1].labels, points[1].changes
    ({'draw': 1.0}, {'hypers.learning_rate': 0.0005998..., 'model.norm': 'pre'})
    >>> points[:4] == grid.random(4, draws)
    True
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
