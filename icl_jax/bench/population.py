"""Member-steps per second: one population against the same members one after another."""

from collections.abc import Iterator

import jax

from icl_jax.bench.measure import Row
from icl_jax.bench.steps import step_and_fixed_ms, step_ms
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.training.population import TRACES, program_bytes

WIDTHS = (1, 4, 8, 16)
CHUNK = 100


def quickstart_like(num_members: int):
    """Returns the quickstart's setting with `num_members` values of p_bursty."""
    config = cfg.default_config()
    config.bank.image_size = 14
    config.task.num_labels = 32
    config.model.mlp_ratio, config.model.positions, config.model.labels = 0, "learned", "concatenated"
    config.hypers.num_classes, config.hypers.learning_rate = 256, 3e-3
    config.hypers.p_bursty = tuple(i / max(1, num_members - 1) for i in range(num_members))
    config.train.num_steps = config.evals.every = config.checkpoint.every = config.runtime.chunk_steps = CHUNK
    return config


def bench() -> Iterator[Row]:
    """Yields member-steps/s at each width, against one member, data's share and memory per member."""
    rates = {}
    for width in WIDTHS:
        TRACES.clear()
        ms = step_ms(prepare_experiment(quickstart_like(width)))
        rates[width] = 1e3 * width / ms
        note = f"{rates[width] / rates[1]:.2f} x one after another; traced {TRACES['chunk']} time(s)"
        yield Row(f"population of {width}", rates[width], "member-steps/s", note)
    yield _data_share()
    yield _memory_per_member()


def _data_share() -> Row:
    experiment = prepare_experiment(quickstart_like(8))
    with_data, fixed = step_and_fixed_ms(experiment, repeats=25)
    return Row("population of 8: data's share", 100 * (1 - fixed / with_data), "%", f"{with_data:.2f} / {fixed:.2f} ms")


def _memory_per_member() -> Row:
    """Compiler's memory of the chunk at two widths: the slope is what a member costs."""
    sizes = {}
    for width in (8, 16):
        population = prepare_experiment(quickstart_like(width)).population()
        sizes[width] = program_bytes(population)
    devices = jax.device_count()
    per_member = devices * (sizes[16] - sizes[8]) / 8 / 2**20
    return Row("peak memory per member", per_member, "MiB", "compiler's analysis, 8 against 16 members")
