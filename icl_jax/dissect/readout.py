"""Does what the question reads of each class's labels tell which class will be answered?

Wang et al. 2023, section 2.3: the attention A_l(q, p_i), summed over heads and over the labels of class i, as a score
of class i against the class that the model predicts: AUCROC_l; and R_l, the share of its excess over chance that layers
up to l have. Predictions of small models follow their bias towards one label: so also against predictions without it
(batch calibration, Zhou et al. 2023: less the mean log-probability of each class over the cases).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_jax.dissect.auc import multiclass_auc
from icl_jax.dissect.cases import Cases, OfQuestions
from icl_jax.dissect.reading import read, read_before
from icl_jax.dissect.roles import ANCHORS, NEAR, Marked, marked

PREDICTIONS = ("raw", "calibrated")
FEWEST = 20  # predictions of a class, below which it is left out


def calibrated(logits: Float[np.ndarray, "*m n C"]) -> Float[np.ndarray, "*m n C"]:
    """Returns log-probabilities of the classes less their mean over the cases (batch calibration)."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return log_probs - log_probs.mean(-2, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Readout(OfQuestions):
    """Attention of the question to the labels of each class (`icl_jax.training.protocols.Eval`).

    Metrics on ("prediction", "anchors", "layer"): auc, against the model's predictions, as they are and calibrated, of
    attention to labels and to near tokens that stand for them; cumulative, R: the sum of auc - 1/2 up to a layer over
    that of all layers, NaN where this is not beyond its null, near tokens. Classes that are predicted fewer than 20
    times are left out, and with fewer than two the AUC is NaN. mass ("anchors", "layer"): attention to all anchors,
    summed over heads.
    """

    num_layers: int
    at_once: int

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "auc": ("prediction", "anchors", "layer"),
            "cumulative": ("prediction", "layer"),
            "mass": ("anchors", "layer"),
        }

    @property
    def coords(self) -> dict[str, tuple]:
        return {"prediction": PREDICTIONS, "anchors": (ANCHORS, NEAR), "layer": tuple(range(self.num_layers))}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns of each case the logits of the classes (cases, C) and the attention to the labels of each, and to
        their near tokens, (cases, 2, layers, C)."""
        before = eval_set.before
        tokens, cache = None, None
        if before is not None:
            tokens = marked(model, before)
            cache, _ = read_before(model, variables, before, context)

        def one(each):
            cases = self.questions.cases(jax.tree.map(lambda x: x[None], each), context)
            logits, output = read(model, variables, cases, context, record=("attn_probs",), cache=cache)
            attention = output.taps["attn_probs"].sum(2)[:, 0, cases.at[0]]  # (layers, keys)
            classes = self._classes(marked(model, cases, tokens), cases, before)
            to_class = lambda of: jnp.matmul(attention, jax.nn.one_hot(of, self._num_classes), precision="highest")
            return {"logits": cases.of_classes(logits)[0], "attention": jnp.stack([to_class(of) for of in classes])}

        return jax.lax.map(one, eval_set.each, batch_size=min(self.at_once, self.questions.num))

    @property
    def _num_classes(self) -> int:
        return len(self.questions.classes)

    def _classes(self, tokens: Marked, cases: Cases, before) -> list[Int[Array, "keys"]]:
        """The class of each key, -1 for none: of labels, and of the near tokens that stand for them."""
        label, near = cases.classes[0], tokens.stands_for(cases.classes)[0]
        if before is None:
            return [label, near]
        assert tokens.before is not None
        of_before = before.classes, tokens.before.stands_for(before.classes)
        return [jnp.concatenate([b[0], own]) for b, own in zip(of_before, (label, near), strict=True)]

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, cases, ...)."""
        logits, attention = values["logits"].astype(np.float64), values["attention"].astype(np.float64)
        predictions = [logits.argmax(-1), calibrated(logits).argmax(-1)]
        score = lambda m, p, a, layer: multiclass_auc(attention[m, :, a, layer], predictions[p][m], FEWEST)
        shape = (len(logits), len(PREDICTIONS), 2, self.num_layers)
        auc = np.asarray([score(*place) for place in np.ndindex(*shape)]).reshape(shape)
        excess = auc - 0.5
        total = excess.sum(-1, keepdims=True)
        beyond = total[:, :, 0] > np.maximum(total[:, :, 1], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            cumulative = np.where(beyond, excess[:, :, 0].cumsum(-1) / total[:, :, 0], np.nan)
        return {"auc": auc, "cumulative": cumulative, "mass": attention.sum(-1).mean(1)}
