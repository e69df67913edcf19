"""Re-weighted anchors: factors on what the question reads of labels, trained on a few more examples.

Wang et al. 2023, section 4.1: after the softmax A_{l,h}(q, p_i) is multiplied by exp(beta_{l,h,i}), rows are not
normalised again, beta is trained by Adam on the cross-entropy over the classes. Beside it stands what the same examples
can do otherwise: more demonstrations, the best output bias, and calibrations, which need no labels or few.
An output bias cannot change how well two classes are told apart (auc), so what beta adds to that is no undone bias.
With a part of the context (`keeping`) all of this is behind the anchors alone, which asks whether the speed of the one
and the accuracy of the other come together; the whole context, as it is, stands beside it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from icl_jax.dissect.answers import scores
from icl_jax.dissect.cases import Cases, Prepared, Questions
from icl_jax.dissect.examples import examples_of
from icl_jax.dissect.keeping import WHOLE, kept
from icl_jax.dissect.reading import logits_of
from icl_jax.dissect.readout import calibrated
from icl_jax.dissect.training import best_bias, cross_entropy, order_of, train_on
from icl_jax.models.taps import Patch

VANILLA, REWEIGHTED, BIAS, BATCH, CENTROID = "vanilla", "reweighted", "output bias", "batch calibration", "centroids"
CONTEXTUAL, DOMAIN, MORE_SHOTS = "contextual calibration", "domain calibration", "more shots"


@dataclasses.dataclass(frozen=True)
class Reweight:
    """Factors on attention to labels, trained, and what else the same examples do (`training.protocols.Eval`).

    asked: the questions; extra: the examples that are trained on, with their answers. of_bias: questions without
    content behind the same demonstrations, by calibration; more: the questions behind more demonstrations; part: of the
    demonstrations, that questions may read.
    Metrics by "method": accuracy, calibrated_accuracy, auc, log_odds (see `answers`); beta ("layer", "head"): mean of
    |beta| over classes; loss ("epoch"): mean over the examples, of beta in training.
    """

    name: str
    asked: Questions
    extra: Questions
    of_bias: Mapping[str, Questions]
    more: Questions | None
    sizes: tuple[int, int]
    betas: int
    epochs: int
    learning_rate: float
    part: str
    at_once: int

    @property
    def methods(self) -> tuple[str, ...]:
        """What is compared."""
        more = (MORE_SHOTS,) if self.more else ()
        centroid = (CENTROID,) if self.betas > 1 else ()  # classes of a sequence have no centroid
        whole = (WHOLE,) if self.part != WHOLE else ()
        return (VANILLA, REWEIGHTED, BIAS, BATCH, *centroid, *self.of_bias, *more, *whole)

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        scored: dict[str, tuple[str, ...]] = dict.fromkeys(
            ("accuracy", "calibrated_accuracy", "auc", "log_odds"), ("method",)
        )
        return {**scored, "beta": ("layer", "head"), "loss": ("epoch",)}

    @property
    def coords(self) -> dict[str, tuple]:
        layers, heads = (tuple(range(size)) for size in self.sizes)
        return {"method": self.methods, "layer": layers, "head": heads, "epoch": tuple(range(1, self.epochs + 1))}

    @property
    def _all(self) -> dict[str, Questions]:
        return {
            "asked": self.asked,
            "extra": self.extra,
            **self.of_bias,
            **({MORE_SHOTS: self.more} if self.more else {}),
        }

    def arrays(self) -> dict[str, Any]:
        return {name: questions.arrays() for name, questions in self._all.items()}

    def prepare(self, arrays, tables, h, seed) -> dict[str, Prepared]:
        return {name: questions.prepare(arrays[name], tables, h, seed) for name, questions in self._all.items()}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns logits of the classes of the questions by method (cases, C), of the examples and of the questions
        without content, the right classes, beta and the losses."""
        each = lambda name: (self._all[name], eval_set[name])
        keep = functools.partial(kept, self.part) if self.part != WHOLE else None
        reading = functools.partial(logits_of, model, variables, context=context, at_once=self.at_once)
        plain = lambda name, keep=keep: reading(*each(name), keep=keep)
        extra = examples_of(model, variables, *each("extra"), context, keep)
        order = order_of(extra.key, self.extra.num, self.epochs)

        def loss(beta, index):
            patch = lambda cases, classes: (self._patch(beta, classes, cases),)
            return cross_entropy(*extra.answer(index, patch))

        beta, losses = train_on(loss, jnp.zeros((*self.sizes, self.betas)), order, self.learning_rate)
        patch = lambda cases, classes: (self._patch(beta, classes, cases),)
        reweighted, gold = reading(*each("asked"), patch=patch, keep=keep)
        found = {VANILLA: plain("asked")[0], REWEIGHTED: reweighted, "gold": gold}
        of_extra, gold_extra = plain("extra")
        found |= {"bias": best_bias(of_extra, gold_extra), "extra": of_extra, "gold_extra": gold_extra}
        found |= {name: plain(name)[0] for name in self.of_bias}
        if self.more:
            found[MORE_SHOTS], found["gold_more"] = plain(MORE_SHOTS)
        if keep:
            found[WHOLE] = plain("asked", keep=None)[0]
        return {**found, "beta": jnp.abs(beta).mean(-1), "loss": losses.reshape(self.epochs, -1).mean(1)}

    def _patch(self, beta: Float[Array, "L H betas"], classes: Array, cases: Cases) -> Patch:
        """classes: (1, keys), of each key, -1 for none."""
        index = jnp.maximum(classes, 0) if self.betas > 1 else jnp.zeros_like(classes)
        factor = jnp.exp(beta)[:, :, index].swapaxes(1, 2)[:, :, :, None]  # (L, 1, H, 1, keys)
        row = jnp.arange(cases.valid.shape[1])[None] == cases.at[:, None]
        mask = row[:, None, :, None] & (classes >= 0)[:, None, None]
        return Patch("attn_probs", "multiply", value=factor, mask=mask, name="reweight")

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, ...)."""
        gold, logits = values["gold"], {n: values[n].astype(np.float64) for n in (VANILLA, REWEIGHTED)}
        plain, extra = logits[VANILLA], values["extra"].astype(np.float64)
        logits[BIAS] = plain + values["bias"][:, None]
        logits[BATCH] = calibrated(plain)
        if self.betas > 1:
            logits[CENTROID] = near_centroids(_log_probs(plain), _log_probs(extra), values["gold_extra"])
        for name in self.of_bias:  # Zhao et al. 2021 divide by the mean probability
            mean = np.exp(_log_probs(values[name].astype(np.float64))).mean(1)
            logits[name] = _log_probs(plain) - np.log(mean)[:, None]
        if self.part != WHOLE:
            logits[WHOLE] = values[WHOLE].astype(np.float64)
        found = {name: scores(of, gold) for name, of in logits.items()}
        if self.more:
            found[MORE_SHOTS] = scores(values[MORE_SHOTS].astype(np.float64), values["gold_more"])
        metrics = ("accuracy", "calibrated_accuracy", "auc", "log_odds")
        table = {metric: np.stack([found[name][metric] for name in self.methods], 1) for metric in metrics}
        return {**table, "beta": values["beta"], "loss": values["loss"]}


def _log_probs(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def near_centroids(
    points: Float[np.ndarray, "M n C"], examples: Float[np.ndarray, "M e C"], gold: Any
) -> Float[np.ndarray, "M n C"]:
    """Returns minus the squared distance of each point to the mean of each class's examples, as logits; examples of all
    classes are needed."""
    classes = points.shape[-1]
    of = (gold[:, :, None] == np.arange(classes)).astype(np.float64)
    centroids = np.einsum("mec,med->mcd", of, examples) / of.sum(1)[..., None]
    return -np.square(points[:, :, None] - centroids[:, None]).sum(-1)
