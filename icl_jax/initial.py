"""Starting a run from another run's checkpoint (config.init_from)."""

import dataclasses

import jax
import numpy as np

from icl_jax import rundir
from icl_jax.paths import as_path
from icl_jax.runplan import Start
from icl_jax.training.checkpoint import Checkpoints
from icl_jax.training.leaves import fit, flatten
from icl_jax.training.step import MemberState


@dataclasses.dataclass(frozen=True)
class Origin:
    """The checkpoint a run starts from. parts: of the state that are taken over, as restored."""

    name: str
    identity: str
    step: int
    parts: dict

    @property
    def text(self) -> str:
        """What of it belongs to the identity of a run that starts from it."""
        return f"{self.identity} {self.step}" + (" optimiser" if "opt_state" in self.parts else "")

    def apply(self, fresh: MemberState) -> MemberState:
        """Returns the fresh state (arrays or shapes, leading member axis) with the parts taken over.

        The other run's members are taken one by one, or its only member by all. Step and divergence
        start afresh. Raises ValueError when the members, and CheckpointError when the leaves, do not fit.
        """
        taken = {part: self._fit(getattr(fresh, part), found) for part, found in self.parts.items()}
        return fresh.replace(**taken)

    def _fit(self, fresh, found):
        wanted = {leaf.shape[0] for leaf in jax.tree.leaves(fresh)}
        leaves = {path: _spread(leaf, wanted, self.name) for path, leaf in flatten(found).items()}
        return fit(leaves, fresh)


def _spread(leaf: np.ndarray, wanted: set[int], name: str) -> np.ndarray:
    (members,) = wanted or {leaf.shape[0]}
    if leaf.shape[0] not in (1, members):
        raise ValueError(f"{name} has {leaf.shape[0]} members and this run {members}: it must have as many, or one")
    return np.broadcast_to(leaf, (members, *leaf.shape[1:]))


def read_origin(source: Start) -> Origin | None:
    """Returns what a start names, or None. ValueError or CheckpointError when it is not there."""
    if not source.run:
        return None
    directory = as_path(source.run)
    identity = rundir.read(directory)["identity"]
    wanted = None if source.step < 0 else source.step
    step, found, _ = Checkpoints(directory / "checkpoints").restore(step=wanted)
    names = ("params", "stats", "opt_state") if source.optimiser else ("params", "stats")
    parts = {name: found.get(name, {}) for name in names}
    return Origin(str(directory), identity, step, parts)
