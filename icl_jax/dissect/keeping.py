"""A part of the demonstrations: the question reads these tokens' keys and values, and none of the others."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from icl_jax.dissect.cases import Tokenised
from icl_jax.dissect.roles import Marked, marked
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch

WHOLE, NOTHING = "whole context", "no context"
LABEL, FORMAT, BOTH, FORERUNNER = "labels", "format", "labels + format", "forerunners"
RANDOM, FIRST = "random slots", "first token"

Keep = Callable[[Marked, Tokenised], Bool[Array, "B T"]]  # which tokens of sequences stay


def kept(part: str, tokens: Marked, sequences: Tokenised, draw: Any = 0) -> Bool[Array, "B T"]:
    """Returns which tokens of demonstrations are a part of them. draw: number of a draw of random slots, in each of
    which a token stands for a label."""
    label, asks = tokens.queries("label"), tokens.question
    none = jnp.zeros_like(label)
    form = tokens.queries("format") & ~asks if "format" in tokens.roles.sets else none
    of = {
        WHOLE: lambda: sequences.valid & ~asks,
        NOTHING: lambda: none,
        LABEL: lambda: label,
        FORMAT: lambda: form,
        BOTH: lambda: label | form,
        FORERUNNER: lambda: tokens.queries("forerunner"),
        RANDOM: lambda: form | slots(tokens, sequences, form | label | asks, draw),
        FIRST: lambda: tokens.queries("first"),
    }
    return of[part]()


def unread(tokens: Marked, keep: Bool[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Returns the edges, [query, key], that a question is without which reads no demonstration's token but those that
    are kept."""
    asks = tokens.question
    return asks[:, :, None] & ~keep[:, None, :] & ~asks[:, None, :]


def restricted(model: Any, cache: Cache, before: Tokenised, keep: Keep | None) -> Cache:
    """Returns a cache of demonstrations with what is kept of it. keep: None for all."""
    if keep is None:
        return cache
    return dataclasses.replace(cache, valid=cache.valid & keep(marked(model, before), before))


def cuts(model: Any, cases: Tokenised, cache: Cache | None, keep: Keep | None) -> tuple[Patch, ...]:
    """Returns what does as much to questions that are read with their demonstrations; nothing where these were read
    before, or all is kept."""
    if cache is not None or keep is None:
        return ()
    tokens = marked(model, cases)
    mask = unread(tokens, keep(tokens, cases))[:, None]
    return (Patch("attn_scores", "replace", value=-jnp.inf, mask=mask, name="keep"),)


def slots(tokens: Marked, sequences: Tokenised, taken: Bool[Array, "B T"], draw: Any) -> Bool[Array, "B T"]:
    """Returns for each label a random token that is not taken: between the label before it and itself, or of its own
    demonstration where labels stand first. draw: its number."""
    label, owner = tokens.queries("label"), tokens.roles.demonstration
    keys = jax.random.wrap_key_data(sequences.draws, impl="threefry2x32")
    noise = jax.vmap(
        lambda key: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 3), draw), label.shape[1:])
    )
    follows = label & (owner == jnp.roll(owner, 1, axis=1))  # a token of its demonstration
    before = jnp.cumsum(label, axis=1) - label
    number = jnp.where(follows.any(1, keepdims=True), before, jnp.maximum(owner, 0))
    free = sequences.valid & ~taken & (number < label.sum(1, keepdims=True))
    drawn = jnp.where(free, noise(keys), -1.0)
    same = number[:, :, None] == number[:, None, :]
    best = jnp.where(same, drawn[:, None, :], -1.0).max(-1)
    return free & (drawn == best)
