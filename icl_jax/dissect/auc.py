"""Areas under the receiver operating characteristic."""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata


def auc(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """Returns the chance that a positive case has a larger score than a negative one, ties counted half; NaN where one
    of the two is missing."""
    num = int(positive.sum())
    if not 0 < num < len(positive):
        return float("nan")
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - num * (num + 1) / 2) / (num * (len(positive) - num)))


def multiclass_auc(scores: Float[np.ndarray, "n C"], target: Int[np.ndarray, "n"], fewest: int = 1) -> float:
    """Returns the AUC of scores of classes against target classes, as Wang et al. 2023 have it.

    Classes that are the target of fewer than `fewest` cases are left out. Of two the score of the second counts; of
    more rows are divided by their sum, and the mean over pairs of classes (one against one) counts. NaN where fewer
    than two are left.
    """
    present = [c for c in range(scores.shape[1]) if (target == c).sum() >= fewest]
    if len(present) < 2:
        return float("nan")
    kept = np.isin(target, present)
    scores, target = scores[kept][:, present], np.searchsorted(present, target[kept])
    if len(present) == 2:
        return auc(scores[:, 1], target == 1)
    scores = scores / scores.sum(1, keepdims=True)
    pairs = itertools.combinations(range(len(present)), 2)
    return float(np.mean([_one_against_one(scores, target, a, b) for a, b in pairs]))


def _one_against_one(scores: Float[np.ndarray, "n C"], target: Int[np.ndarray, "n"], a: int, b: int) -> float:
    """Of the cases of two classes, the mean of both ways to look at them (Hand and Till 2001)."""
    among = (target == a) | (target == b)
    of = lambda c: auc(scores[among, c], target[among] == c)
    return (of(a) + of(b)) / 2


def pairwise_auc(logits: Float[np.ndarray, "n C"], gold: Int[np.ndarray, "n"]) -> Float[np.ndarray, "C C"]:
    """Returns, of each two classes, the AUC of the difference of their logits on the cases of the two: how well they
    are told apart whatever the bias between them. Symmetric; NaN on the diagonal and where one has no case."""
    classes = logits.shape[1]
    found = np.full((classes, classes), np.nan)
    for a, b in itertools.combinations(range(classes), 2):
        among = (gold == a) | (gold == b)
        found[a, b] = found[b, a] = auc(logits[among, a] - logits[among, b], gold[among] == a)
    return found
