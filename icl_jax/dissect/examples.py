"""Examples on which something about the question's own row is trained: read as often as there are steps.

Of a language model what comes before the last token is read once and cached: a change that acts in the row of the last
token alone leaves it as it is. Then a step reads one token.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from icl_jax.dissect.cases import Cases, Prepared, Questions
from icl_jax.dissect.keeping import Keep, cuts, restricted
from icl_jax.dissect.reading import key_classes, read, read_before
from icl_jax.inputs import Roles, Tokens
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch

PatchOf = Callable[[Cases, Int[Array, "1 K"]], Sequence[Patch]]  # from a case and the classes of its keys


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples and how to read the one of a number. key: for the order in which they are taken."""

    case: Callable[[Int[Array, ""]], tuple[Cases, Int[Array, "1 K"], Cache | None]]
    read: Callable[..., tuple[Array, Any]]
    key: Key[Array, ""]

    def answer(self, index: Int[Array, ""], patch: PatchOf) -> tuple[Float[Array, "C"], Int[Array, ""]]:
        """Returns (logits of the classes, the right one) of an example, read with interventions."""
        cases, classes, cache = self.case(index)
        logits, _ = self.read(cases, patches=patch(cases, classes), cache=cache)
        return cases.of_classes(logits)[0], cases.gold[0]


def examples_of(
    model: Any, variables: Any, questions: Questions, prepared: Prepared, context: Any, keep: Keep | None = None
) -> Examples:
    """Returns the examples of questions. keep: which of the demonstrations' tokens they may read (None: all)."""
    before, each = prepared.before, prepared.each

    def reading(cases, patches=(), cache=None, record=()):
        patches = (*cuts(model, cases, cache, keep), *patches)
        return read(model, variables, cases, context, patches=patches, cache=cache, record=record)

    of = lambda index: questions.cases(jax.tree.map(lambda x: x[index][None], each), context)
    key = jax.random.fold_in(jax.random.wrap_key_data(each["draws"][0], impl="threefry2x32"), 1)
    if before is None:
        return Examples(lambda index: (cases := of(index), cases.classes, None), reading, key)
    cache = restricted(model, read_before(model, variables, before, context)[0], before, keep)
    keys = "k_rot" if "k_rot" in model.sites else "k"

    def until_last(index):
        _, output = reading(of(index), cache=cache, record=(keys, "v"))
        return output.taps[keys], output.taps["v"]

    own = jax.lax.map(until_last, jnp.arange(questions.num))

    def case(index):
        cases = of(index)
        token = jnp.arange(cases.valid.shape[1])[None]
        join = lambda before, own: jnp.concatenate([before, own[index]], axis=2)
        valid = jnp.concatenate([cache.valid, token < cases.at[:, None]], axis=1)
        longer = Cache(join(cache.keys, own[0]), join(cache.values, own[1]), valid, cache.first + cases.at)
        return _last(cases), jnp.append(key_classes(cases, before), -1)[None], longer

    return Examples(case, reading, key)


def _last(cases: Cases) -> Cases:
    """Cases of their last token alone."""
    ids = jnp.take_along_axis(cases.inputs.ids, cases.at[:, None], axis=1)
    one = jnp.ones(ids.shape, bool)
    roles = Roles({name: jnp.zeros_like(one) | (name == "query") for name in cases.inputs.roles.sets}, ids * 0 - 1)
    inputs = Tokens(ids, jnp.ones_like(cases.at), roles)
    none = jnp.full(ids.shape, -1, jnp.int32)
    return dataclasses.replace(cases, inputs=inputs, classes=none, valid=one, at=jnp.zeros_like(cases.at))
