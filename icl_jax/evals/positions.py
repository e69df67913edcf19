"""What each further pair of the context brings: loss and accuracy along a sequence.

A drop of the loss along the context is what in-context learning was first measured by in language models (Olsson et
al. 2022, "In-context learning and induction heads", where it is the in-context learning score).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from icl_jax.data.source import Exemplars, check_exemplars
from icl_jax.evals.evaluate import model_keys, suite_sequences
from icl_jax.evals.metrics import mean
from icl_jax.models.frontends.layout import only_query
from icl_jax.spec import RunSpec, SuiteSpec

_AT_ONCE = 128  # sequences that the model is run over at once


@dataclasses.dataclass(frozen=True)
class Positions:
    """Predictions of the label at each item of a suite's sequences (`icl_jax.training.protocols.Eval`).

    All metrics have the axis ("position",), from 0, the first item of the context, to context_len, the query. loss:
    cross-entropy of the label over the labels in use, in nats; accuracy: of the argmax over them; seen: share of
    sequences in which the item's class was shown before, which bounds what reading the context can explain.
    """

    name: str
    suite_name: str
    suite: SuiteSpec
    count: int
    source: Exemplars
    axes = {metric: ("position",) for metric in ("loss", "accuracy", "seen")}  # noqa: RUF012

    @property
    def coords(self) -> dict[str, tuple]:
        return {"position": tuple(range(self.source.task.context_len + 1))}

    def arrays(self) -> None:
        return None

    def prepare(self, arrays, tables, h, seed):
        sequences = suite_sequences(self.suite_name, self.suite, self.count, self.source, tables, h, seed)
        return sequences, model_keys(self.suite_name, self.count, seed)

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns loss, accuracy and whether the class was shown before, at each item: means over the sequences."""

        active = self.source.active_labels(context.tables, context.h)

        def score(one):
            seqs, key = jax.tree.map(lambda x: x[None], one)
            inputs = self.source.inputs(context.tables, context.shared, context.h, seqs)
            how = {"patches": context.patches, "shared": context.model_shared, "logits_at": "items"}
            key = jax.random.wrap_key_data(key, impl="threefry2x32")
            logits = model.apply(variables, inputs, key=key, **how).logits[0]
            log_probs = jax.nn.log_softmax(jnp.where(active[None], logits.astype(jnp.float32), -jnp.inf))
            labels, classes = seqs.labels[0], seqs.classes[0]
            before = jnp.tril(classes[:, None] == classes[None, :], k=-1)
            return {
                "loss": -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0],
                "accuracy": (log_probs.argmax(-1) == labels).astype(jnp.float32),
                "seen": before.any(axis=1).astype(jnp.float32),
            }

        scores = jax.lax.map(score, eval_set, batch_size=min(_AT_ONCE, self.count))
        return jax.tree.map(lambda x: mean(x, axis=0), scores)

    def finish(self, values):
        return values


def positions(name: str, spec: RunSpec, source, options: Mapping[str, Any]) -> Positions:
    """Returns the eval of a suite of the run. ValueError where items have no predictions of their own."""
    check_exemplars(source, f"evals.more.{name}")
    if why := only_query(spec.model):
        raise ValueError(f"evals.more.{name}: {why}, or leave the eval out")
    return Positions(
        name, options["suite"], dict(spec.evals.suites)[options["suite"]], options["num_sequences"], source
    )
