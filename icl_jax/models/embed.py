"""From item features and labels to tokens: label table, layout of the sequence, positions.

Interleaved: item, label, item, label, ..., query. Concatenated: one token per pair, the query with a
dummy label (an extra row of the table as released by Chan et al. 2022; zeros where the pair is mixed).
A task token, if any, comes first.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icl_jax.models.layers import Dense, param
from icl_jax.spec import ModelSpec

EMBEDDING_SD = 0.02
ROTARY_BASE = 10_000.0  # Su et al. 2021


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where tokens are and how wide. content: an item or label; token: without position slots; core: all."""

    num_tokens: int
    first_item: int
    item_stride: int
    slots: int
    content: int
    token: int
    core: int


def layout(spec: ModelSpec, context_len: int, task_token: bool) -> Layout:
    """Returns the layout of a sequence of `context_len` pairs and a query."""
    stride = 2 if spec.labels == "interleaved" else 1
    num_tokens = stride * context_len + 1 + task_token
    slots = (spec.num_position_slots or num_tokens) if spec.positions == "onehot" else 0
    content = spec.width - slots
    token = 2 * content if spec.labels == "concatenated" and not spec.concat_mix else content
    return Layout(num_tokens, int(task_token), stride, slots, content, token, token + slots)


def sinusoid(num_tokens: int, width: int, scale: float) -> np.ndarray:
    """(num_tokens, width) sines then cosines of t * scale^(-2i / width) (Chan et al. 2022, released code)."""
    frequency = scale ** (-np.arange(0, width, 2) / width)
    angle = np.arange(num_tokens)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def rotate(x: jax.Array, first: int = 0) -> jax.Array:
    """Rotary positions (Su et al. 2021): turns pairs (i, i + Dh/2) of x (B, N, H, Dh), token 0 at `first`."""
    half = x.shape[-1] // 2
    frequency = ROTARY_BASE ** (-np.arange(half) / half)
    angle = (first + np.arange(x.shape[1]))[:, None] * frequency
    cos, sin = (jnp.asarray(f(angle), x.dtype)[None, :, None] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Embedder(nnx.Module):
    """Label table, mixing layer and positions."""

    def __init__(self, spec: ModelSpec, place: Layout, vocab_size: int):
        dummy = spec.labels == "concatenated" and not spec.concat_mix
        self.table = param((vocab_size + dummy, place.content), sd=EMBEDDING_SD)
        mixes = spec.labels == "concatenated" and spec.concat_mix
        self.mix = Dense(2 * place.content, place.content, spec.dtype) if mixes else None
        learned = spec.positions == "learned"
        self.positions = param((place.num_tokens, place.core), sd=EMBEDDING_SD) if learned else None
        self.spec, self.place, self.vocab_size = spec, place, vocab_size

    def __call__(self, features: jax.Array, labels: jax.Array, task: jax.Array, key) -> jax.Array:
        """Returns tokens (B, N, D).

        features: (B, n+1, content); labels: int32 (B, n+1), the last is not read; task: int32 (B,);
        key: (B,) keys that shift one-hot positions at random, one shift per sequence (None: no shift).
        """
        shown = self.table[labels[:, :-1]].astype(features.dtype)
        task = self.table[task][:, None].astype(features.dtype) if self.place.first_item else None
        build = self._interleave if self.spec.labels == "interleaved" else self._concatenate
        return self._place(build(features, shown, task), key).astype(self.spec.dtype)

    def _interleave(self, features, shown, task):
        pairs = jnp.stack([features[:, :-1], shown], axis=2)
        pairs = pairs.reshape(pairs.shape[0], -1, pairs.shape[-1])
        return jnp.concatenate([*([] if task is None else [task]), pairs, features[:, -1:]], axis=1)

    def _concatenate(self, features, shown, task):
        if self.mix:
            dummy = jnp.zeros_like(features[:, -1:])
        else:
            dummy = jnp.broadcast_to(self.table[self.vocab_size].astype(shown.dtype), features[:, -1:].shape)
        labels = jnp.concatenate([shown, dummy], axis=1)
        if task is not None:
            features = jnp.concatenate([jnp.zeros_like(task), features], axis=1)
            labels = jnp.concatenate([task, labels], axis=1)
        tokens = jnp.concatenate([features, labels], axis=-1)
        return self.mix(tokens) if self.mix else tokens

    def _place(self, tokens, key):
        spec, place = self.spec, self.place
        if spec.positions == "sinusoidal":
            return tokens + sinusoid(place.num_tokens, place.core, spec.position_scale)[None].astype(tokens.dtype)
        if spec.positions == "learned":
            return tokens + self.positions[...][None].astype(tokens.dtype)
        if spec.positions == "onehot":
            return jnp.concatenate([tokens, self._slots(tokens, key)], axis=-1)
        return tokens

    def _slots(self, tokens, key):
        """One-hot positions, all of a sequence's shifted by the same draw (Reddy 2023)."""
        place = self.place
        shift = jnp.zeros((tokens.shape[0],), jnp.int32)
        if key is not None:
            shift = jax.vmap(lambda k: jax.random.randint(k, (), 0, place.slots - place.num_tokens + 1))(key)
        return jax.nn.one_hot(shift[:, None] + jnp.arange(place.num_tokens)[None], place.slots, dtype=tokens.dtype)
