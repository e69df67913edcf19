"""Look at what a config trains on: sequences as a model reads them, a picture, and their statistics."""

import dataclasses
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from icl_jax import hypers as hy
from icl_jax.data.banks import load_bank, resolve_bank
from icl_jax.data.classes import Tables
from icl_jax.data.source import check_exemplars
from icl_jax.data.statistics import statistics
from icl_jax.data.types import Sequence
from icl_jax.inputs import Batch
from icl_jax.members import varied
from icl_jax.report.pictures import bank_figure, sequences_figure
from icl_jax.runs.experiment import Experiment, member_label, prepare_experiment
from icl_jax.spec import BankSpec


@dataclasses.dataclass(frozen=True)
class Sample:
    """Training sequences of one member: `batch` as a model reads them, `sequences` as ids and roles.

    >>> sample = icl_jax.sample(config, 64)
    >>> sample.batch.inputs.items.shape, sample.sequences.classes.shape
    ((64, 5, 8, 8, 1), (64, 5))
    """

    batch: Batch
    sequences: Sequence
    experiment: Experiment
    tables: Tables
    member: int

    def statistics(self) -> dict[str, float | list[float]]:
        """Returns the realised statistics: class frequencies, P(query's class in context), label entropy.

        >>> iid, bursty = (icl_jax.sample(config, 64, member=m).statistics() for m in (0, 2))
        >>> iid["p_class_in_context"] < bursty["p_class_in_context"]
        True
        >>> bursty["p_class_in_context"], bursty["max_label_entropy_bits"]
        (1.0, 3.0)
        """
        source = check_exemplars(self.experiment.program.source, "statistics of sequences")
        return statistics(source.task, source.vocab, self.tables, self.sequences)


def sample(config: ConfigDict, num_sequences: int = 32, *, member: int = 0, step: int = 0) -> Sample:
    """Returns the first `num_sequences` training sequences of batch `step` of one member of a config. ValueError for
    members and numbers that there are not.

    >>> sample = icl_jax.sample(config, 64, member=2)
    >>> sample.batch.inputs.labels.shape  # 4 pairs and the query
    (64, 5)
    >>> icl_jax.sample(config, member=4)
    Traceback (most recent call last):
        ...
    ValueError: member 4: the config has members 0 to 3
    """
    if num_sequences < 1 or step < 0:
        raise ValueError(f"{num_sequences} sequences of batch {step}: ask for at least 1, of batch 0 or a later one")
    experiment = prepare_experiment(config)
    if not 0 <= member < len(experiment.members):
        raise ValueError(f"member {member}: the config has members 0 to {len(experiment.members) - 1}")
    chosen = experiment.members[member]
    source = check_exemplars(experiment.program.source, "to show sequences")
    bank = jax.tree.map(np.asarray, source.shared())

    @jax.jit
    def draw(order, hypers, bank):
        h = hy.at(hypers, step)
        tables = source.prepare(order, h)
        seqs = source.sequences(tables, h, chosen.seeds["data"], step, 0, num_sequences)
        return source.to_batch(tables, bank, h, seqs), seqs, tables

    hypers = jax.tree.map(lambda x: x[0], hy.stack([chosen.hypers]))
    batch, seqs, tables = jax.device_get(draw(experiment.orders[member], hypers, bank))
    return Sample(batch, seqs, experiment, tables, member)


def show(sample: Sample, path: str | pathlib.Path, rows: int = 8) -> pathlib.Path:
    """Writes a picture of the first sequences, items with their labels and roles; returns its path.

    >>> icl_jax.show(icl_jax.sample(config, 8), directory / "sequences.png", rows=2).name
    'sequences.png'
    """
    member = sample.experiment.members[sample.member]
    label = member_label(member, varied(sample.experiment.members))
    vocab = check_exemplars(sample.experiment.program.source, "to show sequences").vocab
    return sequences_figure(sample.batch, sample.sequences, vocab, path, label, rows)


def show_bank(config: ConfigDict, path: str | pathlib.Path) -> pathlib.Path:
    """Writes a contact sheet of a config's bank, classes x exemplars; returns its path."""
    spec = resolve_bank(BankSpec(**config.bank.to_dict()))
    return bank_figure(load_bank(spec), spec, path)
