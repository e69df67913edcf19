"""A sweep as one population against its runs one after another, in a setting like Singh et al. 2024."""

import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from icl_jax.bench.measure import Row
from icl_jax.bench.steps import chunks
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment

RUNS = 32
CHUNK = 200
CLASSES, FEATURES = 150, 512  # one drawing a class
REPEATS = 3
SINGH_CPU_S = "2.9 to 3.8"  # CPU-seconds per 1,000 steps of that paper's own code on two cores


def singh_like(num_members: int, path: str):
    """Returns the setting: 2 attention-only layers of width 64 and 8 heads, 2 pairs of context, batch 32, labels
    redrawn from 5 per sequence. path: fixed features of the items."""
    config = cfg.default_config()
    config.bank.name, config.bank.path = "embeddings", path
    config.task.kind, config.task.context_len, config.task.num_holdout = "fewshot", 2, 100
    config.task.core_labels, config.task.num_symbols, config.task.num_labels = "symbols", 5, 1
    config.hypers.shots = 1
    config.model.mlp_ratio, config.model.positions, config.model.encoder = 0, "rotary", "linear"
    suite = {"kind": "fewshot", "labels": "symbols"}
    config.evals.custom.matching = suite
    config.evals.suites, config.evals.icl, config.evals.iwl = ("matching",), "matching", "matching"
    config.seeds.init = config.seeds.data = tuple(range(num_members))
    config.train.num_steps = config.evals.every = config.checkpoint.every = config.runtime.chunk_steps = CHUNK
    return config


def bench() -> Iterator[Row]:
    """Yields member-steps/s and CPU-seconds per 1,000 member-steps of the population and of one run."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/features.npy"
        np.save(path, np.random.default_rng(0).normal(size=(CLASSES, 1, FEATURES)).astype(np.float32))
        yield from _rows(path)


def _rows(path: str) -> Iterator[Row]:
    rates = {}
    for name, members in (("one run", 1), (f"{RUNS} runs as one population", RUNS)):
        step = chunks(prepare_experiment(singh_like(members, path)), fixed=False)
        wall, cpu = _best(step)
        rates[members] = members * CHUNK / wall
        note = "" if members == 1 else f"{rates[members] / rates[1]:.1f} x the same runs one after another"
        yield Row(name, rates[members], "member-steps/s", note)
        if jax.default_backend() == "cpu":
            per_thousand = 1e3 * cpu / (members * CHUNK)
            yield Row(f"{name}: CPU", per_thousand, "CPU-s per 1,000", f"original {SINGH_CPU_S}")


def _best(step: Callable) -> tuple[float, float]:
    """Least wall and CPU seconds of a chunk."""
    jax.block_until_ready(step())
    times = []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(step())
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return tuple(min(column) for column in zip(*times, strict=True))
