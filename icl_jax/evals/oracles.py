"""Oracle predictors: what an ideal user of one mechanism answers.

An oracle reads a sequence (never its target) and returns probabilities over the vocabulary: uniform
over the labels it cannot tell apart. Its expected accuracy on a sequence is exact, not sampled, so
floors and ceilings carry the noise of the eval set only.

    in_context     the label shown most often with the query's class; class not shown: a context label
    in_weights     the trained labels of the query's class; class not trained: a class label in use
    guess_context  any distinct label of the context
    majority       the most frequent label of the context
    frequent       the most frequent trained label (of those not shown, where the suite never shows it)
    chance         any label in use
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from icl_jax.data.types import Sequence
from icl_jax.evals.metrics import Labels, answer_range


@flax.struct.dataclass
class Facts:
    """What oracles know beside the sequence.

    labels: the vocabulary's facts; class_labels: bool (V,) labels of trained classes (of their groups,
    where those are asked); prior: float32 (V,) how often each label is the answer in the suite's class
    distribution; unseen: bool scalar, the answer is never among the context's labels.
    """

    labels: Labels
    class_labels: jax.Array
    prior: jax.Array
    unseen: jax.Array


def _uniform(mask: jax.Array) -> jax.Array:
    return mask / jnp.maximum(mask.sum(), 1)


def _most(counts: jax.Array) -> jax.Array:
    """Uniform over the largest entries (to rounding)."""
    return _uniform(counts >= counts.max() * (1 - 1e-5))


def _counts(labels: jax.Array, weights: jax.Array, size: int) -> jax.Array:
    return jnp.zeros(size).at[labels].add(weights)


def _shown_counts(seq: Sequence, size: int) -> jax.Array:
    return _counts(seq.labels[:-1], jnp.ones(seq.labels.shape[0] - 1), size)


def guess_context(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """Uniform over the distinct labels of the context, float32 (V,)."""
    return _uniform(_shown_counts(seq, facts.prior.shape[0]) > 0)


def majority(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """The most frequent label of the context, ties split, float32 (V,)."""
    return _most(_shown_counts(seq, facts.prior.shape[0]))


def in_context(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """The label shown most with the query's class, ties split; else guess_context. float32 (V,)."""
    matches = (seq.classes[:-1] == seq.classes[-1]).astype(jnp.float32)
    matched = _most(_counts(seq.labels[:-1], matches, facts.prior.shape[0]))
    return jnp.where(matches.any(), matched, guess_context(seq, facts))


def in_weights(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """The query class's own labels; never trained: uniform over the class labels in use. float32 (V,)."""
    label = jnp.arange(facts.prior.shape[0])
    own = (label >= seq.own_label) & (label < seq.own_label + seq.own_count)
    return _uniform(jnp.where(seq.own_label >= 0, own, facts.class_labels))


def frequent(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """The most frequent trained label, of those not shown where the suite never shows it. float32 (V,)."""
    shown = _shown_counts(seq, facts.prior.shape[0]) > 0
    return _most(jnp.where(facts.unseen & shown, 0, facts.prior))


def chance(seq: Sequence, facts: Facts) -> Float[Array, "V"]:
    """Uniform over the labels in use, float32 (V,)."""
    del seq
    return _uniform(facts.labels.active)


Oracle = Callable[[Sequence, Facts], jax.Array]
ORACLES: dict[str, Oracle] = {
    "in_context": in_context,
    "in_weights": in_weights,
    "guess_context": guess_context,
    "majority": majority,
    "frequent": frequent,
    "chance": chance,
}


def expected_accuracy(probs: Float[Array, "V"], seq: Sequence) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the expected accuracy of one prediction over all labels and over the context's labels.

    probs: (V,). Restricted to the context the probabilities are renormalised; where they put nothing on
    its labels, they are uniform over them. The second is NaN where no right answer is in the context.
    """
    label = jnp.arange(probs.shape[0])
    first, end = answer_range(seq)
    right = (label >= first) & (label < end)
    shown = _shown_counts(seq, probs.shape[0]) > 0
    inside = jnp.where(shown, probs, 0)
    inside = jnp.where(inside.sum() > 0, inside, shown)
    restricted = jnp.where(right, inside, 0).sum() / inside.sum()
    return jnp.where(right, probs, 0).sum(), jnp.where((right & shown).any(), restricted, jnp.nan)


def oracle_accuracies(seq: Sequence, facts: Facts, restricted: Bool[ArrayLike, ""]) -> Float[Array, "oracles"]:
    """Returns the headline accuracy expected of each oracle on one sequence, float32 (len(ORACLES),).

    restricted: bool scalar, the suite's argmax is over the context's labels.
    """
    probs = jnp.stack([oracle(seq, facts) for oracle in ORACLES.values()])
    everywhere, inside = jax.vmap(expected_accuracy, in_axes=(0, None))(probs, seq)
    return jnp.where(restricted, inside, everywhere)
