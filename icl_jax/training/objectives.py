"""Objectives: what training minimises."""

import dataclasses

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32

from icl_jax.inputs import Batch
from icl_jax.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class Labels:
    """Cross-entropy of labels over those in use: of the query, or at all items by the weights of the batch, which sum
    to at most 1 in a sequence. Metrics: accuracy on the query."""

    logits_at: str

    def loss(self, output, batch: Batch, params, h) -> tuple[Float32[Array, ""], float, dict]:
        """Returns (sum over the sequences, how many there are, metrics)."""
        logits = jnp.where(batch.active, output.logits, -jnp.inf)
        query = batch.targets[:, -1]
        if self.logits_at == "last":
            losses, at_query = optax.softmax_cross_entropy_with_integer_labels(logits, query), logits
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
            losses, at_query = (losses * batch.weights).sum(-1), logits[:, -1]
        count = float(query.shape[0])
        right = (at_query.argmax(-1) == query).astype(jnp.float32)
        return losses.sum(), count, {"accuracy": (right.sum(), count)}


def labels(spec: RunSpec) -> Labels:
    """Returns the objective of exemplar sequences."""
    return Labels("last" if spec.task.loss == "query" else "items")
