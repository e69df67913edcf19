"""Realised statistics of drawn sequences, on the host."""

import numpy as np

from icl_jax.data.classes import Tables
from icl_jax.data.types import SUPPORT, Sequence
from icl_jax.data.vocab import Vocab
from icl_jax.spec import TaskSpec

TOP = 10  # classes whose shares are listed


def statistics(task: TaskSpec, vocab: Vocab, tables: Tables, sequences: Sequence) -> dict[str, float | list[float]]:
    """Returns what sequences (leading axis: how many) hold, by name.

    share_*: share of all items by kind of class. top_class_shares: of the TOP commonest classes, in
    descending order; top_class_share: of the commonest. class_entropy_bits: of the classes of all items.
    p_class_in_context, p_label_in_context: chance that the query's class, its target label, is shown.
    burstiness: context items of the query's class, on average. context_classes: distinct ones per context.
    label_entropy_bits: of the targets. Entropies are plug-in estimates: low when there are few sequences.
    """
    classes, labels = np.asarray(sequences.classes), np.asarray(sequences.labels)
    num_rare, num_train = int(tables.num_rare), int(tables.num_train)
    repeats = classes[:, :-1] == classes[:, -1:]
    distinct = [len(np.unique(row)) for row in classes[:, :-1]]
    _, counts = np.unique(classes[classes >= 0], return_counts=True)
    shares = np.sort(counts)[::-1][:TOP] / classes.size
    return {
        "num_sequences": len(classes),
        "num_training_classes": num_train,
        "share_rare": _share((classes >= 0) & (classes < num_rare)),
        "share_common": _share((classes >= num_rare) & (classes < num_train)),
        "share_holdout": _share(classes >= num_train),
        "share_fresh": _share(classes < 0),
        "top_class_share": float(shares.max(initial=0)),
        "top_class_shares": [round(float(share), 6) for share in shares],
        "class_entropy_bits": _entropy(classes[classes >= 0]),
        "p_class_in_context": _share(repeats.any(1)),
        "p_label_in_context": _share((labels[:, :-1] == labels[:, -1:]).any(1)),
        "p_support_in_core": _share((np.asarray(sequences.roles) == SUPPORT).any(1)),
        "burstiness": float(repeats.sum(1).mean()),
        "context_classes": float(np.mean(distinct)),
        "label_entropy_bits": _entropy(labels[:, -1]),
        "max_label_entropy_bits": float(np.log2(max(int(tables.num_labels), 1))),
    }


def _share(mask: np.ndarray) -> float:
    return float(mask.mean())


def _entropy(labels: np.ndarray) -> float:
    _, counts = np.unique(labels, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())
