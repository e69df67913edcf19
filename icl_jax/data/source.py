"""The source of exemplar sequences: the glue of classes, sequences, labels and rendering.

`prepare` makes a member's tables once; `draw` is called inside the training scan.
"""

import dataclasses
from collections.abc import Sequence as Row

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, Num

from icl_jax import hypers as hy
from icl_jax.data import sequences
from icl_jax.data.banks import Bank, load_bank, render
from icl_jax.data.classes import Tables, class_order, prepare
from icl_jax.data.features import SOURCE
from icl_jax.data.labels import active_labels, loss_weights
from icl_jax.data.types import Sequence
from icl_jax.data.validate import validate_task
from icl_jax.data.vocab import Vocab, make_vocab
from icl_jax.inputs import Batch, ItemShape, PairFacts, Pairs
from icl_jax.members import Member
from icl_jax.registry import find
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import BankSpec, RunSpec, TaskSpec


@dataclasses.dataclass(frozen=True)
class Exemplars:
    """Static facts of the data of one population (see `icl_jax.training.protocols.Source`).

    groups: second label of each bank class (of all sets of a bank that is several); fresh: some sequence, in training
    or an eval, may be of fresh classes.
    """

    bank: BankSpec
    task: TaskSpec
    vocab: Vocab
    num_exemplars: int
    num_train_exemplars: int
    groups: tuple[int, ...]
    fresh: bool
    loaded: Bank = None  # pyright: ignore[reportAssignmentType] (the laws of sequences need no items)
    is_fed = False

    @property
    def digest(self) -> str:
        return self.loaded.digest

    @property
    def facts(self) -> PairFacts:
        """What a frontend must know."""
        bank = self.loaded
        items = ItemShape(bank.item_kind, bank.item_shape, bank.num_classes)
        return PairFacts(items, self.vocab.size, self.task.context_len, self.task.task_token)

    def shared(self) -> dict[str, np.ndarray]:
        return self.loaded.arrays

    def own(self, members: Row[Member]) -> Int32[np.ndarray, "M C"]:
        """Returns the class order of each member, int32 (M, C). A bank that records its own (embeddings) keeps it."""
        bank = self.loaded
        if bank.orders:
            return np.stack([np.asarray(bank.orders[m.sources[SOURCE]], np.int32) for m in members])
        if bank.class_order is not None:
            return np.stack([np.asarray(bank.class_order, np.int32)] * len(members))
        return np.stack([class_order(bank.num_classes, bank.block, m.seeds["split"]) for m in members])

    def feed(self, member: Member, start: int, stop: int) -> None:
        """Returns nothing: batches are drawn on the device."""

    def prepare(self, own: Int[Array, "C"], h: dict) -> Tables:
        """Returns the member's tables (class order, frequencies, active numbers). own: its class order, int32 (C,)."""
        return prepare(self.task, self.vocab, own, jnp.asarray(self.groups, jnp.int32), h)

    def sequences(self, tables: Tables, h: dict, seed, step, first, count: int) -> Sequence:
        """Returns training sequences first .. first + count - 1 of batch `step`; leading axis count."""
        keys = fold_each(stream_key(seed, "train", step), first, count)
        one = lambda key: sequences.sample(self.task, self.vocab, tables, h, key, self.num_train_exemplars)
        return jax.vmap(one)(keys)

    def items(self, tables: Tables, bank: dict, h: dict, seqs: Sequence) -> Num[Array, "..."]:
        """Returns the rendered items (..., n + 1, *item_shape) of sequences. bank: its arrays."""
        trained = seqs.classes >= 0
        items = render(
            self.bank,
            bank,
            jnp.where(trained, tables.order[seqs.classes], seqs.classes),
            seqs.exemplars,
            seqs.key,
            h["noise_scale"],
            random_image=trained & (seqs.classes < tables.num_rare) if self.task.random_rare else None,
            noise=self.task.pixel_noise,
            fresh=self.fresh,
        )
        # Without this XLA renders an item again for each of its uses, such as the 49 taps of a convolution.
        return jax.lax.optimization_barrier(items)

    def inputs(self, tables: Tables, bank: dict, h: dict, seqs: Sequence) -> Pairs:
        """Returns sequences as a model reads them."""
        return Pairs(self.items(tables, bank, h, seqs), seqs.labels, seqs.task)

    def draw(self, tables: Tables, shared: dict, h: dict, seed, step, first, count: int, fed=None) -> Batch:
        """Returns a training batch of `count` sequences."""
        return self.to_batch(tables, shared, h, self.sequences(tables, h, seed, step, first, count))

    def to_batch(self, tables: Tables, bank: dict, h: dict, seqs: Sequence) -> Batch:
        """Returns sequences with what they are scored on."""
        weights = jax.vmap(lambda s: loss_weights(self.task, s, h))(seqs)
        return Batch(self.inputs(tables, bank, h, seqs), seqs.labels, weights, self.active_labels(tables, h))

    def active_labels(self, tables: Tables, h: dict) -> Bool[Array, "vocab"]:
        """Returns which labels of the vocabulary are in use, bool (vocab.size,)."""
        return active_labels(self.vocab, tables, h)


def check_exemplars(source: object, what: str) -> Exemplars:
    """Returns a source of items and labels, which `what` takes. ValueError for another one."""
    if not isinstance(source, Exemplars):
        raise ValueError(
            f"{what} takes exemplar sequences (parts.source 'exemplars'); this is a {type(source).__name__}"
        )
    return source


def make_source(spec: RunSpec, members: Row[Member]) -> Exemplars:
    """Returns the source of a spec, which is checked for its members. ValueError for what cannot be drawn."""
    bank = load_bank(spec.bank, members)
    _check_recorded_holdout(bank, spec.task.num_holdout)
    for member in members:
        for values in hy.knots(member.hypers):
            validate_task(spec.task, bank, values)
    return exemplar_source(spec, bank, make_vocab(spec.task, bank.num_classes, len(bank.group_names)))


def exemplar_source(spec: RunSpec, bank: Bank, vocab: Vocab) -> Exemplars:
    """Returns the source of a loaded bank."""
    groups = tuple(int(g) for g in bank.groups) * max(len(bank.orders), 1)
    fresh = spec.task.fresh or spec.task.core_classes == "fresh"
    fresh = fresh or any(suite.classes == "fresh" for _, suite in spec.evals.suites)
    all_of, trained = bank.num_exemplars, bank.num_train_exemplars
    if find("bank", bank.name).own_noise:  # exemplars are drawn with the sequence: ids enough to tell them apart there
        all_of = trained = spec.task.context_len + 1
    return Exemplars(spec.bank, spec.task, vocab, all_of, trained, groups, fresh, bank)


def _check_recorded_holdout(bank: Bank, num_holdout: int) -> None:
    """Classes that the encoder of an embeddings bank was trained on cannot be held out afterwards."""
    if bank.num_holdout is not None and num_holdout > bank.num_holdout:
        raise ValueError(
            f"task.num_holdout {num_holdout} > {bank.num_holdout} classes held out from the run that made the "
            f"embeddings ({bank.origin}); lower it to {bank.num_holdout}"
        )
