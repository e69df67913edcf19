"""Timing and the rows of a benchmark's table."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured figure. note: what it is compared with."""

    name: str
    value: float
    unit: str
    note: str = ""


def seconds(runs: Sequence[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Returns the least seconds of a call of each, after one call that warms up (compiles).

    They take turns, so that what else the machine does meets all alike.
    """
    for run in runs:
        jax.block_until_ready(run())
    times = [[] for _ in runs]
    for _ in range(repeats):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run())
            found.append(time.perf_counter() - start)
    return [min(found) for found in times]
