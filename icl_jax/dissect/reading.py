"""Reads cases with a model: whole, or after demonstrations that all of them share and that are read once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from icl_jax.dissect.cases import Cases, Prepared, Questions, Tokenised
from icl_jax.dissect.keeping import Keep, cuts, restricted
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch


def read(
    model: Any,
    variables: Any,
    cases: Cases,
    context: Any,
    *,
    patches: Sequence[Patch] = (),
    record: tuple[str, ...] = (),
    cache: Cache | None = None,
) -> tuple[Float[Array, "B vocab"], Any]:
    """Returns (logits at the tokens that ask, the whole `Output`). patches: beside those of the context. cache: of the
    demonstrations before the cases (`read_before`)."""
    key = jax.random.wrap_key_data(cases.model_keys, impl="threefry2x32")
    output = model.apply(
        variables,
        cases.inputs,
        key=key,
        logits_at=cases.at[:, None],
        shared=context.model_shared,
        patches=(*context.patches, *patches),
        record=record,
        **({} if cache is None else {"cache": cache}),
    )
    return output.logits[:, 0], output


def read_before(
    model: Any, variables: Any, before: Tokenised, context: Any, *, patches: Sequence[Patch] = ()
) -> tuple[Cache, Any]:
    """Returns (the cache of one sequence of demonstrations, the whole `Output`)."""
    keys = "k_rot" if "k_rot" in model.sites else "k"
    length = before.valid.sum(1).astype(jnp.int32)
    output = model.apply(
        variables,
        before.inputs,
        logits_at=length[:, None] - 1,
        shared=context.model_shared,
        patches=(*context.patches, *patches),
        record=(keys, "v"),
    )
    taps = output.taps
    return Cache(taps[keys], taps["v"], before.valid, length, model.roles(before.inputs)), output


def key_classes(cases: Cases, before: Tokenised | None) -> Int[Array, "B K"]:
    """Returns the class of each key, -1 for none: of the demonstrations before the cases, then of their own tokens."""
    if before is None:
        return cases.classes
    own = jnp.broadcast_to(before.classes, (cases.classes.shape[0], before.classes.shape[1]))
    return jnp.concatenate([own, cases.classes], axis=1)


def logits_of(
    model: Any,
    variables: Any,
    questions: Questions,
    prepared: Prepared,
    context: Any,
    *,
    at_once: int,
    patch: Callable[[Cases, Int[Array, "1 K"]], Sequence[Patch]] | None = None,
    keep: Keep | None = None,
) -> tuple[Float[Array, "N C"], Int[Array, "N"]]:
    """Returns (logits of the classes, right classes) of all questions. patch: from one case and the classes of its keys
    to the interventions in reading it; demonstrations before it are read as they are. keep: which of their tokens the
    questions may read (None: all)."""
    before = prepared.before
    cache = None
    if before is not None:
        cache = restricted(model, read_before(model, variables, before, context)[0], before, keep)

    def one(each):
        cases = questions.cases(jax.tree.map(lambda x: x[None], each), context)
        patches = (*cuts(model, cases, cache, keep), *(patch(cases, key_classes(cases, before)) if patch else ()))
        logits, _ = read(model, variables, cases, context, patches=patches, cache=cache)
        return cases.of_classes(logits)[0], cases.gold[0]

    return jax.lax.map(one, prepared.each, batch_size=min(at_once, questions.num))
