"""What the trainer knows: four protocols, and no implementation of any.

Each is built by a component (`icl_jax.registry`). Exemplar sequences are the first implementation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import flax.struct
import jax
import numpy as np
from jaxtyping import Array, Float32, Integer, Key

from icl_jax.inputs import Batch
from icl_jax.members import Member

PyTree = Any


class Source(Protocol):
    """Where batches come from: drawn on the device inside the training scan, or fed by the host.

    digest: of the data it stands on; part of what a run is. facts: hashable, what the frontend must know of its inputs.
    is_fed: whether the host feeds each step.
    """

    digest: str
    facts: Any
    is_fed: bool

    def shared(self) -> PyTree:
        """Returns host arrays of which every device has one copy."""
        ...

    def own(self, members: Sequence[Member]) -> PyTree:
        """Returns host arrays with a leading member axis."""
        ...

    def feed(self, member: Member, start: int, stop: int) -> PyTree:
        """Returns numpy arrays (stop - start, batch, ...) of the steps from `start` on, a function of the member and
        the steps alone, so that no checkpoint holds data state. Asked only where `is_fed`."""
        ...

    def prepare(self, own: PyTree, h: Mapping[str, jax.Array]) -> PyTree:
        """Returns a member's tables; once per member, inside jit, or in every step where a hyper behind them has a
        schedule."""
        ...

    def draw(self, tables: PyTree, shared: PyTree, h, seed, step, first, count: int, fed: PyTree | None) -> Batch:
        """Returns sequences first .. first + count - 1 of batch `step` of one member. fed: their part of `feed`."""
        ...


class Model(Protocol):
    """A network as pure functions (`icl_jax.models.build.Model` says the whole contract)."""

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the axes of each site."""
        ...

    def shared(self) -> PyTree:
        """Returns frozen weights of which every device has one copy; hashed, not checkpointed."""
        ...

    def init(self, key: Key[Array, ""]) -> dict:
        """Returns {"params": ..., "stats": ...} of one member."""
        ...

    @property
    def apply(self) -> Callable[..., Any]:
        """A function of variables and inputs that returns logits, stats and taps."""
        ...

    def decay_groups(self, params: PyTree) -> PyTree:
        """Returns the group of weight decay of each leaf, "" for none."""
        ...


class Objective(Protocol):
    """What training minimises. logits_at: where it wants logits, see `Model.apply`."""

    logits_at: str

    def loss(
        self, output, batch: Batch, params: PyTree, h
    ) -> tuple[Float32[Array, ""], Float32[Array, ""] | float, dict]:
        """Returns (sum, weight, metrics): the loss is the one over the other. metrics: name -> (sum, weight).

        The trainer divides, over all devices and parts of the batch: a weight that is a Python number is the same for
        each of them, so means are averaged; an array is summed first.
        """
        ...


@flax.struct.dataclass
class EvalContext:
    """What an eval may look at beside the model. tables: of the source, at the hypers' final values h; shared: of the
    source, one copy a device; arrays: the eval's own (`Eval.arrays`); patches: active ones, for `Model.apply`;
    model_shared: the model's `shared`."""

    tables: PyTree
    shared: PyTree
    arrays: PyTree
    h: dict
    patches: tuple
    model_shared: PyTree


class Eval(Protocol):
    """A named measurement whose results are arrays with named axes. A config names it in `evals.more`, with how often
    it runs; a component of the role "eval" builds it.

    axes: metric -> names of its axes; coords: axis -> labels along it. A metric with more numbers per member than
    `storage.arrays.MOST` is kept in files beside the table.
    """

    @property
    def name(self) -> str: ...

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]: ...

    @property
    def coords(self) -> Mapping[str, tuple]: ...

    def arrays(self) -> PyTree:
        """Returns host arrays of which every device has one copy, such as tokenised prompts."""
        ...

    def prepare(self, arrays: PyTree, tables: PyTree, h, seed: Integer[Array, ""]) -> PyTree:
        """Returns the eval set of one member, inside jit. tables: of the source; seed: uint32 scalar."""
        ...

    def run(self, model: Model, variables: dict, eval_set: PyTree, context: EvalContext) -> dict[str, jax.Array]:
        """Returns metric -> array of one member, inside jit; it may take gradients."""
        ...

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the results out of what `run` gave, with a leading member axis: what jit cannot do."""
        ...
