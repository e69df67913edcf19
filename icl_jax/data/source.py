"""Batches of a bank: the glue of classes, sequences, labels and rendering.

`prepare` makes a member's tables once; `batch` is called inside the training scan.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.data import sequences
from icl_jax.data.banks import Bank, render
from icl_jax.data.classes import Tables, prepare
from icl_jax.data.labels import active_labels, loss_weights
from icl_jax.data.types import Batch, Sequence
from icl_jax.data.vocab import Vocab
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import BankSpec, RunSpec, TaskSpec


@dataclasses.dataclass(frozen=True)
class Source:
    """Static facts of the data of one population. Hashable: the bank's arrays are passed in."""

    bank: BankSpec
    task: TaskSpec
    vocab: Vocab
    num_exemplars: int
    num_train_exemplars: int
    groups: tuple[int, ...]  # second label of each bank class
    fresh: bool  # some sequence, in training or an eval, may be of fresh classes

    def prepare(self, order: jax.Array, h: dict) -> Tables:
        """Returns the member's tables (class order, frequencies, active numbers)."""
        return prepare(self.task, self.vocab, order, np.asarray(self.groups, np.int32), h)

    def sequences(self, tables: Tables, h: dict, seed, step, first, count: int) -> Sequence:
        """Returns training sequences first .. first + count - 1 of batch `step`; leading axis count."""
        keys = fold_each(stream_key(seed, "train", step), first, count)
        one = lambda key: sequences.sample(self.task, self.vocab, tables, h, key, self.num_train_exemplars)
        return jax.vmap(one)(keys)

    def items(self, tables: Tables, bank: dict, h: dict, seqs: Sequence) -> jax.Array:
        """Returns the rendered items (..., n + 1, *item_shape) of sequences."""
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

    def batch(self, tables: Tables, bank: dict, h: dict, seed, step, first, count: int) -> Batch:
        """Returns a training batch of `count` sequences."""
        seqs = self.sequences(tables, h, seed, step, first, count)
        return self.to_batch(tables, bank, h, seqs)

    def to_batch(self, tables: Tables, bank: dict, h: dict, seqs: Sequence) -> Batch:
        """Returns sequences as a model reads them."""
        weights = jax.vmap(lambda s: loss_weights(self.task, s, h))(seqs)
        return Batch(self.items(tables, bank, h, seqs), seqs.labels, seqs.task, weights)

    def active_labels(self, tables: Tables, h: dict) -> jax.Array:
        """Returns which labels of the vocabulary are in use, bool (vocab.size,)."""
        return active_labels(self.vocab, tables, h)


def make_source(spec: RunSpec, bank: Bank, vocab: Vocab) -> Source:
    """Returns the source of a loaded bank."""
    groups = tuple(int(g) for g in bank.groups)
    fresh = spec.task.fresh or spec.task.core_classes == "fresh"
    fresh = fresh or any(suite.classes == "fresh" for _, suite in spec.evals.suites)
    sizes = bank.num_exemplars, bank.num_train_exemplars
    if bank.name == "gaussian":  # its exemplars are drawn with the sequence: ids enough to tell them apart there
        sizes = (spec.task.context_len + 1,) * 2
    return Source(spec.bank, spec.task, vocab, *sizes, groups, fresh)
