"""How well the questions are answered: as they are, without bias towards a label, and how well classes are told apart.

Small models are strongly biased towards one label, so that accuracy shows bias first. An output bias changes accuracy
and cannot change the pairwise AUC, which asks of each two classes how well the difference of their logits tells their
cases apart.
"""

import dataclasses

import jax
import numpy as np

from icl_jax.dissect.auc import pairwise_auc
from icl_jax.dissect.cases import OfQuestions
from icl_jax.dissect.edges import log_odds
from icl_jax.dissect.reading import read, read_before
from icl_jax.dissect.readout import calibrated


@dataclasses.dataclass(frozen=True)
class Answers(OfQuestions):
    """Scores of the questions (`icl_jax.training.protocols.Eval`).

    accuracy: of the likeliest class; calibrated_accuracy: the same less the mean log-probability of each class over the
    cases (batch calibration); auc: mean over pairs of classes; log_odds: mean of the right class; predicted ("class",):
    share of cases in which a class is answered; right ("class",): share in which it is right.
    """

    at_once: int

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        plain: tuple[str, ...] = ()
        return {
            **dict.fromkeys(("accuracy", "calibrated_accuracy", "auc", "log_odds"), plain),
            **dict.fromkeys(("predicted", "right"), ("class",)),
        }

    @property
    def coords(self) -> dict[str, tuple]:
        return {"class": self.questions.classes}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns the logits of the classes (cases, C) and the right class (cases,)."""
        before = eval_set.before
        cache = None if before is None else read_before(model, variables, before, context)[0]

        def one(each):
            cases = self.questions.cases(jax.tree.map(lambda x: x[None], each), context)
            logits, _ = read(model, variables, cases, context, cache=cache)
            return {"logits": cases.of_classes(logits)[0], "gold": cases.gold[0]}

        return jax.lax.map(one, eval_set.each, batch_size=min(self.at_once, self.questions.num))

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, cases, ...)."""
        return scores(values["logits"].astype(np.float64), values["gold"])


def scores(logits: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the metrics of `Answers`. logits: (members, cases, C); gold: (members, cases)."""
    answers, classes = logits.argmax(-1), np.arange(logits.shape[-1])
    with np.errstate(invalid="ignore"):
        auc = [
            np.nanmean(found) if np.isfinite(found := pairwise_auc(*m)).any() else np.nan
            for m in zip(logits, gold, strict=True)
        ]
    return {
        "accuracy": (answers == gold).mean(-1),
        "calibrated_accuracy": (calibrated(logits).argmax(-1) == gold).mean(-1),
        "auc": np.asarray(auc),
        "log_odds": log_odds(logits, gold).mean(-1),
        "predicted": (answers[..., None] == classes).mean(1),
        "right": (gold[..., None] == classes).mean(1),
    }
