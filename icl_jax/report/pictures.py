"""A picture of sequences: each row one sequence, items with their labels, framed by role."""

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from icl_jax.data.types import ROLE_NAMES, Batch, Sequence

COLOURS = {"query": "#111827", "support": "#0f766e", "distractor": "#c2410c", "remainder": "#9ca3af"}


def sequences_figure(batch: Batch, seqs: Sequence, vocab, path, title: str, rows: int = 8) -> pathlib.Path:
    """Writes the first `rows` sequences of a batch to `path` (.png or .svg) and returns it."""
    rows = min(rows, batch.labels.shape[0])
    length = batch.labels.shape[1]
    figure = Figure(figsize=(0.95 * length + 0.5, 1.2 * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, length, squeeze=False)
    for r in range(rows):
        for t in range(length):
            role = ROLE_NAMES[int(seqs.roles[r, t])]
            _draw_item(axes[r, t], batch.items[r, t], COLOURS[role])
            label = label_name(int(batch.labels[r, t]), vocab)
            axes[r, t].set_title(f"{label}?" if role == "query" else label, fontsize=9, color=COLOURS[role], pad=3)
        if batch.task[r] >= 0:
            axes[r, 0].set_ylabel(label_name(int(batch.task[r]), vocab), fontsize=8)
    figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _legend_handles() -> list:
    text = {
        "query": "query (label to predict)",
        "support": "same class as the query",
        "distractor": "other class of the core",
        "remainder": "everything else",
    }
    return [Patch(facecolor="white", edgecolor=COLOURS[r], linewidth=2, label=text[r]) for r in COLOURS]


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
