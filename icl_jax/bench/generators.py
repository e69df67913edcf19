"""Sequences per second of the generators on the device, against numpy drawing them one by one.

The paper's bursty setting: 8 pairs and a query, 2 ways x 3 shots, 105x105 pixels.
"""

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax import hypers as hy
from icl_jax.bench.measure import Row, seconds
from icl_jax.data.source import check_exemplars
from icl_jax.runs.config import default_config
from icl_jax.runs.experiment import Experiment, prepare_experiment

BATCH, STEPS = 32, 50
# Sequences/s of the original on two CPU cores, bursty at 105 px.
ORIGINAL_GENERATOR, ORIGINAL_PIPELINE = 1807, 246


def bench() -> Iterator[Row]:
    """Yields sequences/s: numpy's, ids only, rendered at 105 pixels."""
    experiment = prepare_experiment(paper_config())
    alone = _numpy_one_by_one(experiment)
    yield Row("numpy one by one, images at 105 px", alone, "sequences/s")
    ids = _on_device(experiment, render=False)
    yield Row("generator, ids only", ids, "sequences/s", f"{ids / alone:,.0f} x numpy with images")
    rendered = _on_device(experiment, render=True)
    original = f"original: generator {ORIGINAL_GENERATOR:,}, input pipeline {ORIGINAL_PIPELINE}"
    note = f"{rendered / alone:,.1f} x numpy one by one; {original} ({rendered / ORIGINAL_PIPELINE:,.0f} x)"
    yield Row("generator, images at 105 px", rendered, "sequences/s", note)


def paper_config():
    """Returns the bursty setting of the paper on whatever images are here."""
    config = default_config()
    config.bank.image_size = 105
    config.bank.ink = 0.0
    config.task.num_common = 10
    config.task.num_holdout = 10
    config.model.encoder = "linear"
    return config


def _on_device(experiment: Experiment, *, render: bool) -> float:
    """Sequences/s of a scan that draws batches on every device at once."""
    source, layout = check_exemplars(experiment.program.source, "a generator"), experiment.program.layout
    population = experiment.population()

    def draw(inputs, bank):
        member = jax.tree.map(lambda x: x[0], inputs)
        h = hy.at(member.hypers, 0)
        tables = source.prepare(member.own, h)

        def step(total, n):
            seqs = source.sequences(tables, h, member.seeds["data"], n, 0, BATCH)
            drawn = source.to_batch(tables, bank, h, seqs) if render else seqs
            return total + sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(drawn)), None

        return jax.lax.scan(step, jnp.float32(0), jnp.arange(STEPS))[0]

    run = layout.map(draw)
    return layout.num_devices * BATCH * STEPS / seconds([lambda: run(population.inputs, population.shared.source)])[0]


def _numpy_one_by_one(experiment: Experiment, count: int = 300) -> float:
    """Sequences/s of the same draw in numpy, a sequence at a time from decoded float images."""
    rng = np.random.default_rng(0)
    bank = check_exemplars(experiment.program.source, "a generator").loaded
    images = rng.integers(0, 2, (200, bank.num_exemplars, *bank.item_shape)).astype(np.float32)
    start = time.perf_counter()
    for _ in range(count):
        _numpy_sequence(rng, images)
    return count / (time.perf_counter() - start)


def _numpy_sequence(rng: np.random.Generator, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num_classes, num_exemplars = images.shape[:2]
    ways = rng.choice(num_classes, 2, replace=False)
    context = np.concatenate([np.repeat(ways, 3), rng.choice(num_classes, 2)])
    rng.shuffle(context)
    classes = np.append(context, rng.choice(ways))
    exemplars = np.empty(len(classes), int)
    for c in np.unique(classes):
        here = classes == c
        exemplars[here] = rng.choice(num_exemplars, here.sum(), replace=False)
    return np.stack([images[c, e] for c, e in zip(classes, exemplars, strict=True)]), classes
