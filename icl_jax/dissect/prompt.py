"""One prompt with all of its saliency, to be drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.dissect.cases import OfQuestions
from icl_jax.dissect.flow import attention_times_gradient

OTHER, LABEL, QUERY = 0, 1, 2  # roles of tokens


@dataclasses.dataclass(frozen=True)
class PromptSaliency(OfQuestions):
    """Saliency I of every edge of the first prompt (`icl_jax.training.protocols.Eval`).

    saliency ("layer", "query", "key"), see `flow`; role ("query",): 1 of a label, 2 of the token that asks, 0 of
    others, NaN of padding; token ("query",): its id where the model reads texts, else the class of a label, -1 for
    none.
    """

    of: str
    sizes: tuple[int, int]
    num_tokens: int

    axes = {  # noqa: RUF012
        "saliency": ("layer", "query", "key"),
        "role": ("query",),
        "token": ("query",),
    }

    @property
    def coords(self) -> dict[str, tuple]:
        tokens = tuple(range(self.num_tokens))
        return {"layer": tuple(range(self.sizes[0])), "query": tokens, "key": tokens}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        cases = self.questions.cases(jax.tree.map(lambda x: x[:1], eval_set.each), context)
        signed = attention_times_gradient(model, variables, cases, context, self.sizes, self.of)
        sets = model.roles(cases.inputs).sets
        role = jnp.where(sets["query"][0], QUERY, jnp.where(sets["label"][0], LABEL, OTHER))
        ids = getattr(cases.inputs, "ids", cases.classes)[0]
        return {
            "saliency": jnp.abs(signed.sum(2))[:, 0],
            "role": jnp.where(cases.valid[0], role, jnp.nan),
            "token": ids.astype(jnp.float32),
        }

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return values
