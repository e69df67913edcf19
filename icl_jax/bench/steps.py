"""Time and memory of whole training steps.

`python -m icl_jax.bench.steps NAME` measures one in a process of its own and prints one JSON line.
"""

import dataclasses
import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.struct
import jax
import numpy as np

from icl_jax import hypers as hy
from icl_jax.bench.measure import Row, seconds
from icl_jax.devices import enable_compilation_cache
from icl_jax.inputs import Batch
from icl_jax.members import Member
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import Experiment, prepare_experiment
from icl_jax.training.population import compiled_chunk
from icl_jax.training.protocols import Source

# The original's whole step and its compute alone on two such cores, ms.
ORIGINAL = {"105px": (1390, 1330), "28px": (199, 157), "symbols": (74, 66)}


def preset(name: str):
    """Returns the paper's 12-layer preset at batch 32 on images of 105 or 28 pixels or on symbols."""
    config = cfg.default_config()
    config.task.num_common, config.task.num_holdout = 10, 10
    config.model.num_layers, config.model.sync_batch_stats = 12, False
    config.runtime.batch_shards = math.gcd(jax.device_count(), config.train.batch_size)
    if name == "symbols":
        config.bank.name, config.model.encoder = "symbols", "embedding"
    else:
        config.bank.image_size, config.bank.ink, config.model.encoder = 28 if name == "28px" else 105, 0.0, "resnet"
    config.train.schedule = "rsqrt"
    config.hypers.learning_rate, config.hypers.warmup_steps = 3e-4, 4000
    steps = 2 if name == "105px" else 10
    config.train.num_steps = config.evals.every = config.checkpoint.every = config.runtime.chunk_steps = steps
    return config


@flax.struct.dataclass
class _Tables:
    tables: Any
    batch: Batch


@dataclasses.dataclass(frozen=True, eq=False)
class FixedBatch:
    """A source that gives every step the first batch of another source: what a step costs without data."""

    source: Source
    batch_size: int
    is_fed = False

    @property
    def facts(self):
        return self.source.facts

    @property
    def digest(self) -> str:
        return f"first batch of {self.source.digest}"

    def shared(self) -> dict:
        return {}

    def own(self, members: Sequence[Member]) -> dict:
        """Returns what the other source says of each member, and its batch."""
        own, hypers = self.source.own(members), hy.stack([m.hypers for m in members])
        seeds = np.asarray([m.seeds["data"] for m in members], np.uint32)

        @jax.jit
        def batches(own, hypers, seeds, shared):
            def one(own, hypers, seed):
                h = hy.at(hypers, 0)
                return self.source.draw(self.source.prepare(own, h), shared, h, seed, 0, 0, self.batch_size, None)

            return jax.vmap(one)(own, hypers, seeds)

        return {"own": own, "batch": jax.device_get(batches(own, hypers, seeds, self.source.shared()))}

    def feed(self, member: Member, start: int, stop: int) -> None:
        """Returns nothing."""

    def prepare(self, own: dict, h: dict) -> _Tables:
        return _Tables(self.source.prepare(own["own"], h), own["batch"])

    def draw(self, tables: _Tables, shared, h, seed, step, first, count: int, fed=None) -> Batch:
        # Tied to the step, or the compiler would take what depends on the batch alone out of the loop.
        batch = jax.lax.optimization_barrier((tables.batch, step))[0]
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, first, count) if count < self.batch_size else x
        inputs, targets, weights = jax.tree.map(part, (batch.inputs, batch.targets, batch.weights))
        return Batch(inputs, targets, weights, batch.active)


def step_ms(experiment: Experiment, *, repeats: int = 4) -> float:
    """Returns ms per step of the whole population, with its data."""
    return 1e3 * seconds([chunks(experiment, fixed=False)], repeats)[0] / experiment.chunk


def step_and_fixed_ms(experiment: Experiment, *, repeats: int = 8) -> tuple[float, float]:
    """Returns ms per step with data and on a fixed batch, measured in turns."""
    runs = [chunks(experiment, fixed=False), chunks(experiment, fixed=True)]
    with_data, fixed = seconds(runs, repeats)
    return 1e3 * with_data / experiment.chunk, 1e3 * fixed / experiment.chunk


def chunks(experiment: Experiment, *, fixed: bool) -> Callable[[], object]:
    """Returns a function that trains one chunk more each time it is called."""
    if fixed:
        source = FixedBatch(experiment.program.source, experiment.plan.spec.train.batch_size)
        program = dataclasses.replace(experiment.program, source=source)
        experiment = dataclasses.replace(experiment, program=program, evals=())
    population = experiment.population()
    state, prepared = population.fresh()
    run, holder = compiled_chunk(population, state, prepared), [state]

    def chunk():
        holder[0], metrics = run(holder[0])
        return metrics

    return chunk


def measure(name: str) -> dict[str, float]:
    """Returns ms with data, ms on a fixed batch and the peak memory in MiB of training with data: the device's own
    where it has some (of the process until now), else the process's resident."""
    enable_compilation_cache()
    experiment = prepare_experiment(preset(name))
    step_ms(experiment, repeats=1)
    on_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    peak = on_device / 2**20 if on_device else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with_data, fixed = step_and_fixed_ms(experiment)
    return {"with_data": with_data, "fixed": fixed, "peak_mib": peak}


def bench() -> Iterator[Row]:
    """Yields the rows of all presets; on CPU each is measured in a fresh process, for the memory that it takes."""
    for name, (whole, compute) in ORIGINAL.items():
        found = _measured_apart(name) if jax.default_backend() == "cpu" else measure(name)
        ours, share = found["with_data"], 100 * (1 - found["fixed"] / found["with_data"])
        yield Row(f"12 layers, {name}: step", ours, "ms", f"original {whole} whole, {compute} compute")
        yield Row(f"12 layers, {name}: data's share", share, "%", "at most 5")
        yield Row(f"12 layers, {name}: peak memory", found["peak_mib"], "MiB", "original 8 GB at 105 px")


def _measured_apart(name: str) -> dict[str, float]:
    out = subprocess.run([sys.executable, "-m", "icl_jax.bench.steps", name], capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(f"bench steps {name} failed:\n{out.stderr[-2000:]}")
    return json.loads(out.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
