"""Reads cases with a model: whole, or after demonstrations that all of them share and that are read once."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from icl_jax.dissect.cases import Cases, Tokenised
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
