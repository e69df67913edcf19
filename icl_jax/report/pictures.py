"""Pictures of data: of sequences, with labels and roles, and of a bank, classes by exemplars."""

import pathlib
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from icl_jax.data.banks import Bank, render
from icl_jax.data.types import ROLE_NAMES, Sequence
from icl_jax.inputs import Batch
from icl_jax.spec import BankSpec

COLOURS = {"query": "#111827", "support": "#0f766e", "distractor": "#c2410c", "remainder": "#9ca3af"}


def sequences_figure(batch: Batch, seqs: Sequence, vocab, path, title: str, rows: int = 8) -> pathlib.Path:
    """Writes the first `rows` sequences of a batch to `path` (.png or .svg) and returns it."""
    pairs = batch.inputs
    rows = min(rows, pairs.labels.shape[0])
    length = pairs.labels.shape[1]
    figure = Figure(figsize=(0.95 * length + 0.5, 1.2 * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    vectors = pairs.items.ndim == 3  # one scale for all
    axes = figure.subplots(rows, length, squeeze=False, sharey="all" if vectors else "none")
    for r in range(rows):
        for t in range(length):
            role = ROLE_NAMES[int(seqs.roles[r, t])]
            _draw_item(axes[r, t], pairs.items[r, t], COLOURS[role])
            label = label_name(int(pairs.labels[r, t]), vocab)
            axes[r, t].set_title(f"{label}?" if role == "query" else label, fontsize=9, color=COLOURS[role], pad=3)
        if pairs.task[r] >= 0:
            axes[r, 0].set_ylabel(label_name(int(pairs.task[r]), vocab), fontsize=8)
    columns = 4 if length >= 8 else 2  # as many as fit the width
    shown = {ROLE_NAMES[int(role)] for role in np.unique(seqs.roles[:rows])}
    figure.legend(handles=_legend_handles(shown), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def bank_figure(bank: Bank, bank_spec: BankSpec, path, classes: int = 12, exemplars: int = 10) -> pathlib.Path:
    """Writes a contact sheet of a bank to `path` (.png or .svg) and returns it.

    A row per class, `classes` of them evenly spread over the bank, and a column per exemplar, the first
    ones. Images as they are; vectors as strips, a band per component (gaussian bank: without noise);
    symbols as numbers. bank_spec: the spec the bank was loaded from, 'auto' made concrete.
    """
    chosen = np.unique(np.linspace(0, bank.num_classes - 1, min(classes, bank.num_classes)).astype(np.int32))
    items = _bank_items(bank, bank_spec, chosen, min(exemplars, bank.num_exemplars))
    rows, columns = items.shape[:2]
    cell = 2.5 if bank.item_kind == "vector" and columns < 4 else 0.7
    figure = Figure(figsize=(max(cell * columns, 3.0) + 1.8, 0.6 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    for row, axes in enumerate(figure.subplots(rows, columns, squeeze=False)):
        for axis, item in zip(axes, items[row], strict=True):
            _draw_cell(axis, item, limit=float(np.abs(items).max()))
        name = bank.group_names[bank.groups[chosen[row]]] if bank.num_groups > 1 else ""
        axes[0].set_ylabel(f"{chosen[row]}\n{name}", rotation=0, ha="right", va="center", fontsize=7)
    size = f"{bank.num_classes:,} classes, exemplars each: {bank.num_exemplars}"
    figure.suptitle(f"{bank.name}: {size} ({bank.num_train_exemplars} to train on)", fontsize=11)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _bank_items(bank: Bank, bank_spec: BankSpec, chosen: np.ndarray, count: int) -> np.ndarray:
    """Returns the first `count` items of each chosen class, (len(chosen), count, *item_shape)."""
    ids = np.broadcast_to(chosen[:, None], (len(chosen), count))
    exemplars = np.broadcast_to(np.arange(count, dtype=np.int32), ids.shape)
    keys = np.zeros((len(chosen), 2), np.uint32)
    where = jnp.asarray(ids), jnp.asarray(exemplars), jnp.asarray(keys)
    return np.asarray(render(bank_spec, bank.arrays, where[0], where[1], where[2], 0.0, fresh=False))


def _draw_cell(axis, item: np.ndarray, limit: float) -> None:
    """Draws an item of a bank; limit: largest component, one scale of colours for all of a bank's vectors."""
    if item.ndim == 1:
        axis.imshow(item[None], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
    else:
        _draw_item(axis, item, "#d1d5db")


def _legend_handles(roles: Collection[str]) -> list:
    text = {
        "query": "query (label to predict)",
        "support": "same class as the query",
        "distractor": "other class of the core",
        "remainder": "everything else",
    }
    return [Patch(facecolor="white", edgecolor=COLOURS[r], linewidth=2, label=text[r]) for r in COLOURS if r in roles]


def _draw_item(axis, item: np.ndarray, colour: str) -> None:
    item = np.asarray(item)
    if item.ndim == 3:
        axis.imshow(item[..., 0], cmap="Greys", vmin=0, vmax=1)
    elif item.ndim == 1:
        axis.bar(np.arange(item.size), item, color=colour, width=1.0)
    else:
        axis.text(0.5, 0.5, str(int(item)), ha="center", va="center", fontsize=12)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(2)


def label_name(label: int, vocab) -> str:
    """Returns a label as a person reads it: class labels by number, others by their part of the vocabulary."""
    parts = (("task", vocab.tasks), ("symbol", vocab.symbols), ("group", vocab.groups))
    for name, offset in parts:
        if label >= offset:
            return f"{name} {label - offset}"
    return str(label)
