"""Scores of predictions on sequences.

Right answers are a range of labels: the target, or, where the query's class is not shown in the context
and the target is one of its trained labels, any trained label of that class (multiplicity).
"""

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num

from icl_jax.data.types import Sequence

METRICS = (
    "accuracy",
    "accuracy_all",
    "accuracy_context",
    "loss",
    "pred_context",
    "pred_rare",
    "pred_common",
    "pred_first_ways",
)

OF_SUITE = (*METRICS, "floor", "ceiling", "share")  # of every suite, in the tidy table


@flax.struct.dataclass
class Labels:
    """Facts of a member's label vocabulary, bool (V,): labels in use, of rare classes, of common ones."""

    active: jax.Array
    rare: jax.Array
    common: jax.Array


def answer_range(seq: Sequence) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Returns (first, end) of the right labels of one sequence, int32 scalars, end excluded."""
    target = seq.labels[-1]
    shown = jnp.any(seq.classes[:-1] == seq.classes[-1])
    own_end = seq.own_label + seq.own_count
    in_own = (seq.own_label >= 0) & (target >= seq.own_label) & (target < own_end)
    any_own = ~shown & in_own
    return jnp.where(any_own, seq.own_label, target), jnp.where(any_own, own_end, target + 1)


def is_right(seq: Sequence, label: Int[Array, "*s"]) -> Bool[Array, "*s"]:
    """Returns whether `label` is a right answer, bool like label."""
    first, end = answer_range(seq)
    return (label >= first) & (label < end)


def score_one(
    logits: Float[Array, "V"], seq: Sequence, labels: Labels, ways: Int[ArrayLike, ""], restricted: Bool[ArrayLike, ""]
) -> dict[str, Float[Array, ""]]:
    """Returns the METRICS of one prediction, float32 scalars.

    logits: (V,); ways: int32 scalar, for pred_first_ways; restricted: bool scalar, the headline
    `accuracy` is accuracy_context (argmax over the labels of the context; NaN where no right answer is
    among them), else accuracy_all (argmax over the labels in use).
    pred_*: whether the unrestricted argmax is a label of the context, of a rare class, of a common
    class, below `ways`. loss: cross-entropy of the target over the labels in use, in nats.
    """
    logits = jnp.where(labels.active, logits.astype(jnp.float32), -jnp.inf)
    shown = seq.labels[:-1]
    pred = jnp.argmax(logits)
    from_context = shown[jnp.argmax(logits[shown])]
    accuracy_all = is_right(seq, pred).astype(jnp.float32)
    answerable = jnp.any(is_right(seq, shown))
    accuracy_context = jnp.where(answerable, is_right(seq, from_context), jnp.nan)
    scores = {
        "accuracy": jnp.where(restricted, accuracy_context, accuracy_all),
        "accuracy_all": accuracy_all,
        "accuracy_context": accuracy_context,
        "loss": jax.nn.logsumexp(logits) - logits[seq.labels[-1]],
        "pred_context": jnp.any(shown == pred),
        "pred_rare": labels.rare[pred],
        "pred_common": labels.common[pred],
        "pred_first_ways": pred < ways,
    }
    return {name: value.astype(jnp.float32) for name, value in scores.items()}


def score(
    logits: Float[Array, "N V"],
    sequences: Sequence,
    labels: Labels,
    ways: Int[ArrayLike, ""],
    restricted: Bool[ArrayLike, ""],
) -> dict[str, Float[Array, "N"]]:
    """Returns `score_one` of N predictions: logits (N, V), sequences with leading N, each value (N,)."""
    return jax.vmap(lambda x, s: score_one(x, s, labels, ways, restricted))(logits, sequences)


def mean(values: Float[Array, "..."], weights: Num[Array, "..."] | None = None, axis: int = -1) -> Float[Array, "..."]:
    """Returns the weighted mean over an axis of what is not NaN; NaN where nothing is."""
    defined = ~jnp.isnan(values)
    weights = defined if weights is None else jnp.where(defined, weights, 0)
    return jnp.sum(jnp.where(defined, values, 0) * weights, axis) / jnp.sum(weights, axis)


def share(accuracy: Float[Array, "*s"], floor: Float[Array, "*s"], ceiling: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Returns how far accuracy is on the way from floor to ceiling; NaN where the two are one."""
    span = ceiling - floor
    return jnp.where(span > 1e-6, (accuracy - floor) / jnp.where(span > 1e-6, span, 1), jnp.nan)
