"""Untrained copies of a run's network: what an analysis shows there owes nothing to learning."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from icl_jax.runs import api
from icl_jax.runs import config as cfg

FIRST = 1_000  # init seed of the first copy: none that a run has by accident


def untrained_copies(
    config: ConfigDict, directory: pathlib.Path, count: int, seeds: Sequence[int], progress: bool
) -> list[api.Run]:
    """Returns runs of untrained copies, made in a directory, whose evals.more are measured.

    config: of the run with the evals. count: how many copies. seeds: eval seeds; of a language model the copies have
    one each, in turn, as each is a set of weights of its own, drawn in the place of those imported. Copies of a grown
    run are one population, for each setting of its hypers, that looks at the run's own sequences.
    """
    if config.model.weights:
        own = []
        for number in range(count):
            changes = {"model.untrained": number + 1, "seeds.eval": (seeds[number % len(seeds)],)}
            own.append(api.train(_changed(config, changes), directory / str(number + 1), progress=progress))
        return own
    first = lambda seed: seed[0] if isinstance(seed, tuple) else seed
    others = {f"seeds.{name}": first(config.seeds[name]) for name in ("data", "split", "eval")}
    changes = {**others, "seeds.init": tuple(range(FIRST, FIRST + count)), "train.num_steps": 0}
    own = _changed(config, changes)
    with own.unlocked():
        own.init_from = cfg.default_config().init_from
    return [api.train(own, directory / f"of-{count}", progress=progress)]  # another number is another population


def _changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """The evals are those of the config, which `override` would take for unknown fields."""
    config = config.copy_and_resolve_references()
    for path, value in changes.items():
        section, _, field = path.partition(".")
        with config[section].unlocked():
            config[section][field] = value
    return config
