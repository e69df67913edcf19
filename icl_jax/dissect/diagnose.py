"""Which classes will be confused, told from the keys of their labels.

Wang et al. 2023, section 4.3: the question's query vectors (all heads side by side) vary along few directions; in the
first M of them, a class is where its label's key lies, each direction weighed by the spread of the queries along it.
Classes that lie close together will be confused. Here the vectors are those whose product attention takes, so that
where positions turn them they are turned, and the key of a class is the mean over its labels.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import rankdata

from icl_jax.dissect.auc import pairwise_auc
from icl_jax.dissect.cases import Cases, OfQuestions, Tokenised
from icl_jax.dissect.reading import read, read_before

LEAST_CLASSES = 6  # below, a permutation test has too few permutations to say anything
_MOST_PERMUTATIONS = 5040


@dataclasses.dataclass(frozen=True)
class Diagnose(OfQuestions):
    """Confusion of classes, predicted and actual (`icl_jax.training.protocols.Eval`).

    predicted ("layer", "class", "other"): distance of two classes' keys in the space of the queries, over the largest
    (small: confusable); actual ("class", "other"): how well the model tells the two apart, their pairwise AUC;
    correlation ("layer"): rank correlation of the two over pairs of classes; p ("layer"): share of the permutations of
    the classes that have as large a one.
    """

    num_layers: int
    num_heads: int
    directions: int
    at_once: int

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "predicted": ("layer", "class", "other"),
            "actual": ("class", "other"),
            "correlation": ("layer",),
            "p": ("layer",),
        }

    @property
    def coords(self) -> dict[str, tuple]:
        classes = self.questions.classes
        return {"layer": tuple(range(self.num_layers)), "class": classes, "other": classes}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns queries of each case (cases, layers, heads * width), keys of each class (classes, layers, ...), the
        logits of the classes (cases, C) and the right class (cases,)."""
        before = eval_set.before
        suffix = "_rot" if "q_rot" in model.sites else ""
        sites = f"q{suffix}", f"k{suffix}"
        cache = None if before is None else read_before(model, variables, before, context)[0]

        def one(each):
            cases = self.questions.cases(jax.tree.map(lambda x: x[None], each), context)
            logits, output = read(model, variables, cases, context, record=sites, cache=cache)
            queries = output.taps[sites[0]][:, 0, cases.at[0]]
            found = {
                "queries": queries.reshape(self.num_layers, -1),
                "logits": cases.of_classes(logits)[0],
                "gold": cases.gold[0],
            }
            return found if before is not None else {**found, "keys": self._keys(output.taps[sites[1]], cases)}

        found = jax.lax.map(one, eval_set.each, batch_size=min(self.at_once, self.questions.num))
        if before is not None and cache is not None:
            return {**found, "keys": self._keys(cache.keys, before)}
        return {**found, "keys": found["keys"].mean(0)}

    def _keys(self, keys: Float[Array, "L 1 T Hkv Dh"], sequences: Cases | Tokenised) -> Float[Array, "C L D"]:
        """The mean key of each class's labels, repeated for all heads that share it."""
        keys = jnp.repeat(keys[:, 0], self.num_heads // keys.shape[3], axis=2)
        keys = keys.reshape(*keys.shape[:2], -1)
        of_class = sequences.classes[0][None] == jnp.arange(len(self.questions.classes))[:, None]
        weight = of_class / of_class.sum(1, keepdims=True)
        return jnp.einsum("ct,ltd->cld", weight, keys.astype(jnp.float32), precision="highest")

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, ...)."""
        queries, keys = values["queries"].astype(np.float64), values["keys"].astype(np.float64)
        shape = (len(queries), self.num_layers)
        distances = [key_distances(queries[m, :, i], keys[m, :, i], self.directions) for m, i in np.ndindex(*shape)]
        classes = keys.shape[1]
        predicted = np.asarray(distances).reshape(*shape, classes, classes)
        logits = values["logits"].astype(np.float64)
        actual = np.stack([pairwise_auc(*m) for m in zip(logits, values["gold"], strict=True)])
        tests = [rank_correlation(predicted[m, i], actual[m]) for m, i in np.ndindex(*shape)]
        correlation, p = (np.asarray([t[k] for t in tests]).reshape(shape) for k in (0, 1))
        return {"predicted": predicted, "actual": actual, "correlation": correlation, "p": p}


def key_distances(
    queries: Float[np.ndarray, "n D"], keys: Float[np.ndarray, "C D"], directions: int
) -> Float[np.ndarray, "C C"]:
    """Returns the distances of keys in the first principal directions of the queries, each times the standard deviation
    of the queries along it, over the largest of them; NaN on the diagonal."""
    centred = queries - queries.mean(0)
    _, sd, axes = np.linalg.svd(centred, full_matrices=False)
    placed = (keys @ axes[:directions].T) * sd[:directions]
    apart = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
    np.fill_diagonal(apart, np.nan)
    return apart / np.nanmax(apart)


def rank_correlation(one: Float[np.ndarray, "C C"], other: Float[np.ndarray, "C C"]) -> tuple[float, float]:
    """Returns (Spearman's correlation over pairs of classes, the share of permutations of the classes of one of them
    that give as large a one, itself among them): all permutations up to 7 classes, else 5,040 seeded ones. NaN where
    pairs have no value."""
    upper = np.triu_indices(len(one), 1)
    if not (np.isfinite(one[upper]).all() and np.isfinite(other[upper]).all()):
        return float("nan"), float("nan")
    ranked = rankdata(other[upper])
    score = lambda order: float(np.corrcoef(rankdata(one[np.ix_(order, order)][upper]), ranked)[0, 1])
    own = score(np.arange(len(one)))
    found = [score(list(order)) for order in _permutations(len(one))]
    return own, float(np.mean(np.asarray(found) >= own - 1e-12))


def _permutations(classes: int) -> list:
    if classes <= 7:
        return list(itertools.permutations(range(classes)))
    rng = np.random.default_rng(0)
    return [np.arange(classes), *(rng.permutation(classes) for _ in range(_MOST_PERMUTATIONS - 1))]
