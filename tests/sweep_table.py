"""Results tables of made-up sweeps, for the tests of statistics, claims and reports."""

import itertools

import pyarrow as pa


def results(curve, labels: dict, seeds=range(5), steps=range(0, 1100, 100), diverged=None):
    """Returns the results table of the product of `labels` (name -> values) and seeds.

    curve(labels, seed, step) -> {suite: accuracy}; floor .5 and ceiling 1 everywhere.
    diverged(labels, seed) -> step at which the run diverged, or -1.
    """
    rows = []
    for index, (*values, seed) in enumerate(itertools.product(*labels.values(), seeds)):
        named = dict(zip(labels, values, strict=True))
        head = {"cell": f"{index:016x}", **{f"label/{n}": v for n, v in named.items()}}
        head |= {"seed/init": seed, "seed/data": seed, "seed/eval": seed, "seed/split": 0}
        for step in steps:
            for suite, accuracy in curve(named, seed, step).items():
                known = {"accuracy": accuracy, "floor": 0.5, "ceiling": 1.0, "share": (accuracy - 0.5) / 0.5}
                rows += [
                    head | {"step": step, "suite": suite, "metric": m, "value": float(v)} for m, v in known.items()
                ]
            end = diverged(named, seed) if diverged else -1
            train = {"loss": 1.0, "diverged": float(end if 0 <= end <= step else -1)}
            rows += [head | {"step": step, "suite": "train", "metric": m, "value": v} for m, v in train.items()]
    return pa.Table.from_pylist(rows)
