"""Starting a run from another run's checkpoint (config.init_from)."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np

from icl_jax import rundir
from icl_jax.experiment import Experiment
from icl_jax.train.checkpoint import Checkpoints
from icl_jax.train.step import MemberState


def initial_state(experiment: Experiment) -> Callable[[MemberState], MemberState] | None:
    """Returns a function of the fresh state to the state to start from, or None without init_from.

    The other run's members are taken one by one, or its only member by all. Step and, unless asked
    for, the optimiser's state start afresh. ValueError when members or parameter shapes do not fit.
    """
    source = experiment.config.init_from
    if not source.run:
        return None
    directory = pathlib.Path(source.run)
    rundir.read(directory)
    _, found, _ = Checkpoints(directory / "checkpoints").restore(step=None if source.step < 0 else source.step)
    parts = ("params", "stats", "opt_state") if source.optimiser else ("params", "stats")

    def start(fresh: MemberState) -> MemberState:
        taken = {part: fit(getattr(fresh, part), found.get(part, {}), str(directory)) for part in parts}
        return fresh.replace(**taken)

    return start


def fit(fresh, found, origin: str):
    """Returns `found`'s leaves in the structure of `fresh`: arrays with a leading member axis."""
    wanted, structure = jax.tree_util.tree_flatten_with_path(fresh)
    have = {_path(p): np.asarray(x) for p, x in jax.tree_util.tree_flatten_with_path(found)[0]}
    names = {_path(p) for p, _ in wanted}
    if odd := sorted(names ^ have.keys()):
        raise ValueError(
            f"init_from.run {origin}: its parameters do not fit this model: {odd[0]} is only in one of them"
        )
    return jax.tree.unflatten(structure, [_fit_leaf(_path(p), x, have[_path(p)], origin) for p, x in wanted])


def _fit_leaf(name: str, fresh: np.ndarray, found: np.ndarray, origin: str) -> np.ndarray:
    if fresh.shape[1:] != found.shape[1:]:
        raise ValueError(
            f"init_from.run {origin}: {name} has shape {found.shape[1:]} there and {fresh.shape[1:]} here; "
            "use the same model, labels and context length"
        )
    if found.shape[0] not in (1, fresh.shape[0]):
        raise ValueError(
            f"init_from.run {origin} has {found.shape[0]} members and this run {fresh.shape[0]}: "
            "it must have as many, or one"
        )
    return np.broadcast_to(found, fresh.shape).astype(fresh.dtype)


def _path(path) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)
