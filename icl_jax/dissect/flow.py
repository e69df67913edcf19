"""Saliency: how much of an answer flows along which edges of attention, layer by layer.

Wang et al. 2023, equation 1: I_l = |sum over heads of A_{h,l} * dL/dA_{h,l}|, the second factor past the softmax, which
is the gradient of a multiplier of ones on the attention. The mean of I_l over a set of edges is a flow: S_wp over
"earlier -> label", S_pq over "label -> query", S_ww over "rest", all other edges. That of a token to itself is none.

In an untrained network S_pq is far above the others, and in the last layer S_wp is 0, as only the question's row
reaches the loss. So a flow is compared with the same flow to and from pseudo-anchors, case by case.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from icl_jax.dissect.cases import Cases, OfQuestions
from icl_jax.dissect.means import mean_and_error
from icl_jax.dissect.roles import ANCHORS, CONTROLS, edges_of, marked, with_anchors
from icl_jax.models.taps import Patch

REST = "rest"
OF = ("loss", "logit_difference")


def target(class_logits: Float[Array, "B C"], gold: jax.Array, of: str) -> Float[Array, ""]:
    """Returns what saliency is the gradient of, summed over cases: the cross-entropy of the right class among the
    classes, or how far its logit is above the largest of the others, which does not vanish as a model gets better."""
    right = jnp.take_along_axis(class_logits, gold[:, None], axis=1)[:, 0]
    if of == "loss":
        return (jax.nn.logsumexp(class_logits, axis=1) - right).sum()
    others = jnp.where(jnp.arange(class_logits.shape[1])[None] == gold[:, None], -jnp.inf, class_logits)
    return (right - others.max(1)).sum()


def attention_times_gradient(
    model: Any, variables: Any, cases: Cases, context: Any, sizes: tuple[int, int], of: str = "loss"
) -> Float[Array, "L B H T T"]:
    """Returns A * dL/dA of each edge, signed, [layer, case, head, query, key]. sizes: layers and heads of the model."""
    count, num_tokens = cases.valid.shape
    key = jax.random.wrap_key_data(cases.model_keys, impl="threefry2x32")

    def of_multiplier(ones):
        patches = (*context.patches, Patch("attn_probs", "multiply", value=ones, name="saliency"))
        how = {"shared": context.model_shared, "patches": patches, "logits_at": cases.at[:, None], "key": key}
        logits = model.apply(variables, cases.inputs, **how).logits[:, 0]
        return target(cases.of_classes(logits), cases.gold, of)

    return jax.grad(of_multiplier)(jnp.ones((sizes[0], count, sizes[1], num_tokens, num_tokens)))


def mean_over(edges: Bool[Array, "B T T"], saliency: Float[Array, "*lead B T T"]) -> Float[Array, "*lead B"]:
    """Returns the mean over the edges of each case; NaN where there are none."""
    lead = (1,) * (saliency.ndim - 3)
    mask = edges.reshape(*lead, *edges.shape)
    return jnp.where(mask, saliency, 0).sum((-2, -1)) / mask.sum((-2, -1))


@dataclasses.dataclass(frozen=True)
class Flow(OfQuestions):
    """Saliency of attention, summed over sets of edges (`icl_jax.training.protocols.Eval`).

    Metrics, means over cases but for those named otherwise. flow ("anchors", "flow", "layer"): the mean of I over a
    set of edges, with labels as anchors and with pseudo-anchors; share: flow over its sum over "flow" (Wang et al.,
    figure 3); head_flow ("anchors", "flow", "layer", "head"): the same of |A * dL/dA| of each head; log_ratio
    ("control", "flow", "layer"): logarithm of the flow by labels over that by pseudo-anchors, and log_ratio_se its
    standard error over cases.
    """

    flows: tuple[str, ...]
    of: str
    sizes: tuple[int, int]
    at_once: int

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        flow = ("anchors", "flow", "layer")
        ratio = ("control", "flow", "layer")
        return {
            "flow": flow,
            "share": flow,
            "head_flow": (*flow, "head"),
            "log_ratio": ratio,
            "log_ratio_se": ratio,
        }

    @property
    def coords(self) -> dict[str, tuple]:
        return {
            "anchors": (ANCHORS, *CONTROLS),
            "control": CONTROLS,
            "flow": (*self.flows, REST),
            "layer": tuple(range(self.sizes[0])),
            "head": tuple(range(self.sizes[1])),
        }

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns the flows of each case, (cases, anchors, flows, layers) and of each head: (..., heads)."""

        def one(each):
            cases = self.questions.cases(jax.tree.map(lambda x: x[None], each), context)
            signed = attention_times_gradient(model, variables, cases, context, self.sizes, self.of)
            edges = self._edges(model, cases)
            flows = jax.vmap(lambda e: mean_over(e, jnp.abs(signed.sum(2))))(edges)
            of_head = lambda e: mean_over(e, jnp.abs(jnp.moveaxis(signed, 2, 1)))
            of_heads = jax.lax.map(of_head, edges)  # one after another: each is as large as I
            shape = (1 + len(CONTROLS), len(self.flows) + 1)
            return {
                "flow": flows[..., 0].reshape(*shape, -1),
                "head_flow": of_heads[..., 0].reshape(*shape, *self.sizes),
            }

        return jax.lax.map(one, eval_set.each, batch_size=min(self.at_once, self.questions.num))

    def _edges(self, model, cases: Cases) -> Bool[Array, "F B T T"]:
        """The sets of edges, of each kind of anchors one after another."""
        tokens, found = marked(model, cases), []
        for anchors in (ANCHORS, *CONTROLS):
            own = [edges_of(with_anchors(flow, anchors), tokens) for flow in self.flows]
            found += [*own, tokens.earlier & ~jnp.stack(own).any(0)]
        return jnp.stack(found)

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, cases, ...)."""
        flow, heads = values["flow"].astype(np.float64), values["head_flow"].astype(np.float64)
        mean, _ = mean_and_error(flow, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # no flow at all, as into labels in the last layer
            ratio, error = mean_and_error(np.log(flow[:, :, :1] / flow[:, :, 1:]), axis=1)
        return {
            "flow": mean,
            "share": mean / mean.sum(2, keepdims=True),
            "head_flow": mean_and_error(heads, axis=1)[0],
            "log_ratio": ratio,
            "log_ratio_se": error,
        }
