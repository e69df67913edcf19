"""Texts and an imported language model: what it goes on with, and how likely it finds a continuation."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from icl_jax.data.text.source import Texts, check_texts
from icl_jax.data.text.tokens import tokens_of
from icl_jax.inputs import Batch, Tokens
from icl_jax.models.build import Model
from icl_jax.models.cache import Cache
from icl_jax.runs.experiment import Experiment


def source_of(experiment: Experiment, what: str) -> Texts:
    """Returns the source of a language model. ValueError for another run."""
    return check_texts(experiment.program.source, what)


def batch_of(experiment: Experiment, texts: Sequence[str]) -> Batch:
    """Returns texts as the model reads them. ValueError for an empty one."""
    if isinstance(texts, str):
        raise ValueError(f"give texts as a list, such as [{texts!r}]")
    source = source_of(experiment, "run.tokens")
    tokens = tokens_of([source.tokenizer.encode(text) for text in texts])
    nothing: Any = np.zeros(len(texts))  # that is scored
    active: Any = np.ones(source.facts.vocab_size, bool)
    return Batch(tokens, nothing.astype(np.int32), nothing.astype(np.float32), active)


def generate(
    experiment: Experiment, prompts: Sequence[str], num_tokens: int, temperature: float, seed: int
) -> list[str]:
    """Returns how each prompt goes on, in num_tokens tokens. temperature: 0 takes the likeliest token."""
    if num_tokens < 1 or temperature < 0:
        raise ValueError(f"num_tokens {num_tokens}, temperature {temperature}: at least 1 token, 0 or more degrees")
    source, model = source_of(experiment, "run.generate"), experiment.model
    tokens = batch_of(experiment, prompts).inputs
    _check_room(experiment, tokens.ids.shape[1] + num_tokens)
    key = jax.random.key(seed, impl="threefry2x32")
    ids = jax.device_get(_generated(model, num_tokens, temperature > 0, model.shared(), tokens, temperature, key))
    return [source.tokenizer.decode(own.tolist()) for own in ids]


def log_probs(
    experiment: Experiment, prompts: Sequence[str], continuations: Sequence[str]
) -> Float32[np.ndarray, "texts"]:
    """Returns the log-probability, in nats, of each continuation after its prompt, summed over its tokens."""
    source, model = source_of(experiment, "run.log_probs"), experiment.model
    if len(prompts) != len(continuations):
        raise ValueError(f"{len(prompts)} prompts and {len(continuations)} continuations: give one for each")
    encode = source.tokenizer.encode
    pairs = [(encode(prompt), encode(text)) for prompt, text in zip(prompts, continuations, strict=True)]
    if not all(first and rest for first, rest in pairs):
        raise ValueError("a prompt or a continuation has no tokens; give at least one token each")
    longest = max(len(rest) for _, rest in pairs)
    tokens = tokens_of([first + rest for first, rest in pairs])
    _check_room(experiment, tokens.ids.shape[1])
    padded = lambda rows: np.asarray([row + [0] * (longest - len(row)) for row in rows], np.int32)
    places = padded([list(range(len(first) - 1, len(first) + len(rest) - 1)) for first, rest in pairs])
    wanted, counted = padded([rest for _, rest in pairs]), padded([[1] * len(rest) for _, rest in pairs])
    return np.asarray(_summed(model, model.shared(), tokens, places, wanted, counted))


def _check_room(experiment: Experiment, num_tokens: int) -> None:
    num_positions = experiment.model.options_of("frontend")["num_positions"]
    if 0 < num_positions < num_tokens:
        raise ValueError(
            f"{num_tokens} tokens are wanted in all, the model has {num_positions} positions; shorten the texts, or "
            "ask for fewer tokens"
        )


_NOTHING = {"params": {}, "stats": {}}  # of a member: all parameters are shared


@functools.partial(jax.jit, static_argnames=("model",))
def _summed(model: Model, shared, tokens: Tokens, places, wanted, counted) -> Float32[Array, "texts"]:
    logits = model.apply(_NOTHING, tokens, shared=shared, logits_at=places).logits
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
    return (own * counted).sum(1)


@functools.partial(jax.jit, static_argnames=("model", "num_tokens", "draws"))
def _generated(
    model: Model, num_tokens: int, draws: bool, shared, tokens: Tokens, temperature, key
) -> Int32[Array, "texts num_tokens"]:
    """Reads the prompts once, then a token a step, whose keys and values go into a slot of their own."""
    keys = "k_rot" if "k_rot" in model.sites else "k"
    record = (keys, "v")

    def choose(logits, step):
        if not draws:
            return logits.argmax(-1).astype(jnp.int32)
        return jax.random.categorical(jax.random.fold_in(key, step), logits / temperature).astype(jnp.int32)

    at = tokens.length[:, None] - 1
    output = model.apply(_NOTHING, tokens, shared=shared, logits_at=at, record=record)
    room = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, num_tokens), (0, 0), (0, 0)))
    prompt = jnp.arange(tokens.ids.shape[1])[None] < tokens.length[:, None]
    valid = jnp.pad(prompt, ((0, 0), (0, num_tokens)))
    cache = Cache(room(output.taps[keys]), room(output.taps["v"]), valid, tokens.length)

    def step(carry, number):
        cache, last = carry
        output = model.apply(_NOTHING, _one(last, tokens), shared=shared, cache=cache, record=record)
        slot = tokens.ids.shape[1] + number
        put = lambda all_, own: jax.lax.dynamic_update_slice_in_dim(all_, own, slot, axis=2)
        longer = Cache(
            put(cache.keys, output.taps[keys]),
            put(cache.values, output.taps["v"]),
            cache.valid | (jnp.arange(cache.valid.shape[1]) == slot)[None],
            cache.first + 1,
        )
        return (longer, choose(output.logits, number + 1)), last

    first = choose(output.logits[:, 0], 0)
    return jax.lax.scan(step, (cache, first), jnp.arange(num_tokens))[1].swapaxes(0, 1)


def _one(ids: Int32[Array, "texts"], like: Tokens) -> Tokens:
    """A token of each text."""
    roles = jax.tree.map(lambda x: x[:, :1], like.roles)
    return Tokens(ids[:, None], jnp.ones_like(ids), roles)
