"""Timing and the rows of a benchmark's table."""

import dataclasses
import time
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured figure. note: what it is compared with."""

    name: str
    value: float
    unit: str
    note: str = ""


def seconds(fn: Callable[[], object], repeats: int = 5) -> float:
    """Returns the least seconds of a call over `repeats`, after one call that warms up (compiles)."""
    jax.block_until_ready(fn())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(fn())
        times.append(time.perf_counter() - start)
    return min(times)
