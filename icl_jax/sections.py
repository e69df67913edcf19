"""The sections of a config that do not decide what a run is: when it is looked at, what is kept, where it runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from icl_jax.spec import option


@dataclass(frozen=True)
class EvalsSection:
    """What is measured, and what of it is shown."""

    suites: tuple[str, ...] = option(
        ("fewshot_holdout", "no_support_zipfian"), "named suites; `icl eval --list` explains them"
    )
    custom: tuple = option((), "name -> fields of SuiteSpec, for suites of your own")
    more: tuple = option((), 'name -> {"use": an eval (default: the name), "every": steps, and its options}')
    icl: str = option("fewshot_holdout", "the suite shown as ICL")
    iwl: str = option("no_support_zipfian", "the suite shown as IWL")
    headlines: tuple = option(
        (), 'instead of the two: {"title": ..., "eval": ..., "metric": ..., "at": {axis: label}}, ...'
    )
    every: int = option(250, "steps between evaluations", least=1)
    num_sequences: int = option(512, "per suite and member", least=1)
    batch_size: int = option(128, "sequences that a model is run over at once", least=1, most=1 << 20)


@dataclass(frozen=True)
class CheckpointSection:
    """Which states are kept."""

    every: int = option(1000, "steps between checkpoints", least=1)
    keep_last: int = option(2, "so many of the newest stay", least=1)
    keep_steps: tuple[int, ...] = option((), "steps to keep for good")
    keep_every: int = option(0, "keep each n-th step for good (0: none)", least=0)
    keep_log: int = option(0, "keep this many log-spaced steps per factor of ten (0: none)", least=0)


@dataclass(frozen=True)
class RuntimeSection:
    """Where and how it runs."""

    devices: int = option(0, "0: all", least=0)
    batch_shards: int = option(0, "devices that share one member's batch (0: chosen)", least=0)
    chunk_steps: int = option(100, "at most so many steps between looks from the host", least=1)
    accumulate: int = option(
        1, "parts of a batch that a device works off one after another: less memory, more time", least=1
    )
    tensorboard: bool = option(True, "log for TensorBoard")
    figures: bool = option(True, "figure and table at the end")


@dataclass(frozen=True)
class StartSection:
    """The checkpoint of another run from which it starts."""

    run: str = option("", 'its directory, or in a sweep of stages "stage:NAME"')
    step: int = option(-1, "of the checkpoint (-1: the newest)", least=-1)
    optimiser: bool = option(False, "with its optimiser state")
    leaves: tuple[str, ...] = option(
        (),
        '"PATTERN=RULE" for parameters: take (as all others), pad (the rest stays fresh) or fresh; the last one counts',
    )


OTHER_SECTIONS: Mapping[str, type] = {
    "evals": EvalsSection,
    "checkpoint": CheckpointSection,
    "runtime": RuntimeSection,
    "init_from": StartSection,
}
