"""The paper's base preset on an accelerator: steps/s for several members, float32 and bfloat16.

105x105 pixels, 12 layers, batch 32. The encoder's share is what the step takes less when items come
encoded already (64-dim vectors through a linear layer).
"""

from collections.abc import Iterator

from icl_jax.bench.measure import Row
from icl_jax.bench.steps import preset, step_ms
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment

MEMBERS = (1, 8, 32)


def bench() -> Iterator[Row]:
    """Yields steps/s of the whole population and member-steps/s, and the encoder's share."""
    for dtype in ("float32", "bfloat16"):
        for members in MEMBERS:
            whole, without = (
                step_ms(prepare_experiment(_config(members, dtype))),
                _vectors_ms(members, dtype),
            )
            note = f"{1e3 * members / whole:,.0f} member-steps/s; encoder {100 * (1 - without / whole):.0f} %"
            yield Row(f"base preset, {members} members, {dtype}", 1e3 / whole, "steps/s", note)


def _config(members: int, dtype: str):
    config = preset("105px")
    config.model.dtype, config.runtime.batch_shards = dtype, 0
    config.hypers.p_bursty = tuple(i / max(1, members - 1) for i in range(members))
    config.hypers.warmup_steps = 10
    config.train.num_steps = config.evals.every = config.checkpoint.every = config.runtime.chunk_steps = 50
    return config


def _vectors_ms(members: int, dtype: str) -> float:
    config = _config(members, dtype)
    config.bank = cfg.default_config().bank
    config.bank.name, config.bank.num_classes, config.model.encoder = "gaussian", 1623, "linear"
    return step_ms(prepare_experiment(config))
