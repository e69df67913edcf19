"""The frontend of item-label pairs: item encoder, label table, token layout, positions.

Interleaved: item, label, item, label, ..., query. Concatenated: one token per pair, the query with a
dummy label (an extra row of the table as released by Chan et al. 2022; zeros where the pair is mixed).
A task token, if any, comes first.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, Num

from icl_jax.inputs import PairFacts, Pairs, Roles
from icl_jax.models.frontends.encoders import encoder
from icl_jax.models.layers import Dense, param
from icl_jax.models.positions import sinusoid
from icl_jax.spec import ModelSpec

EMBEDDING_SD = 0.02


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """Where tokens are and how wide. content: an item or label; token: without position slots; core: all."""

    num_tokens: int
    first_item: int
    item_stride: int
    slots: int
    content: int
    token: int
    core: int


def token_layout(spec: ModelSpec, context_len: int, task_token: bool) -> TokenLayout:
    """Returns the layout of a sequence of `context_len` pairs and a query."""
    stride = 2 if spec.labels == "interleaved" else 1
    num_tokens = stride * context_len + 1 + task_token
    slots = (spec.num_position_slots or num_tokens) if spec.positions == "onehot" else 0
    content = spec.width - slots
    token = 2 * content if spec.labels == "concatenated" and not spec.concat_mix else content
    return TokenLayout(num_tokens, int(task_token), stride, slots, content, token, token + slots)


class Embedder(nnx.Module):
    """Label table, mixing layer and positions."""

    def __init__(self, spec: ModelSpec, place: TokenLayout, vocab_size: int):
        dummy = spec.labels == "concatenated" and not spec.concat_mix
        self.table = param((vocab_size + dummy, place.content), sd=EMBEDDING_SD)
        mixes = spec.labels == "concatenated" and spec.concat_mix
        self.mix = Dense(2 * place.content, place.content, spec.dtype) if mixes else None
        learned = spec.positions == "learned"
        self.positions = param((place.num_tokens, place.core), sd=EMBEDDING_SD) if learned else None
        self.spec, self.place, self.vocab_size = spec, place, vocab_size

    def __call__(
        self, features: Float[Array, "B items content"], labels: Int[Array, "B items"], task: Int[Array, "B"], key
    ) -> Float[Array, "B N D"]:
        """Returns tokens (B, N, D).

        features: (B, n+1, content); labels: int32 (B, n+1), the last is not read; task: int32 (B,);
        key: (B,) keys that shift one-hot positions at random, one shift per sequence (None: no shift).
        """
        shown = self.table[labels[:, :-1]].astype(features.dtype)
        asked = self.table[task][:, None].astype(features.dtype) if self.place.first_item else None
        build = self._interleave if self.spec.labels == "interleaved" else self._concatenate
        return self._place(build(features, shown, asked), key).astype(self.spec.dtype)

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
        if self.positions is not None:
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


class PairsFrontend(nnx.Module):
    """Items through the encoder, labels through the table (see `models.build.Frontend`)."""

    def __init__(self, spec: ModelSpec, facts: PairFacts, encoder_options: dict):
        place = token_layout(spec, facts.context_len, facts.task_token)
        self.encoder = encoder(spec, facts.items.shape, facts.items.num_classes, place.content, encoder_options)
        self.embedder = Embedder(spec, place, facts.vocab_size)
        self.item_rank = len(facts.items.shape)
        self.width, self.vocab_size = place.core, facts.vocab_size
        self.interleaved = spec.labels == "interleaved"
        self.items = slice(place.first_item, None, place.item_stride) if self.interleaved else None
        self.place = place
        self.sets = ("item", "label", "answer", *(["forerunner"] if self.interleaved else []), "query")
        self.sets += ("task",) if facts.task_token else ()

    def __call__(self, inputs: Pairs, key: Key[Array, "B"] | None, train: bool, mean) -> Float[Array, "B N D"]:
        features = self.encode(inputs.items, train, mean)
        return self.embedder(features, inputs.labels, inputs.task, key)

    def roles(self, inputs: Pairs) -> Roles:
        """Returns the roles of tokens: item and label of the demonstrations (one token where they are concatenated),
        answer (labels that are the query's), forerunner (the token before a label), query, task."""
        place, token = self.place, np.arange(self.place.num_tokens)
        pair, part = np.divmod(token - place.first_item, place.item_stride)
        query, task = token == token[-1], token < place.first_item
        item = (part == 0) & ~query & ~task
        label = (part == place.item_stride - 1) & ~query & ~task
        right = inputs.labels == inputs.labels[:, -1:]
        shown = {"item": item, "label": label, "query": query}
        shown |= {"forerunner": np.roll(label, -1)} if self.interleaved else {}
        shown |= {"task": task} if place.first_item else {}
        many = lambda row: jnp.broadcast_to(jnp.asarray(row), (right.shape[0], len(token)))
        answer = jnp.where(label, right[:, np.clip(pair, 0, right.shape[1] - 1)], False)
        return Roles(
            {name: many(row) for name, row in shown.items()} | {"answer": answer}, many(np.where(task, -1, pair))
        )

    def encode(self, items: Num[Array, "*b_item"], train: bool = False, mean=None) -> Float[Array, "*b width"]:
        """Returns the item encoder's outputs (..., width) for items (..., *item_shape)."""
        lead = items.shape[: items.ndim - self.item_rank]
        flat = items.reshape(-1, *items.shape[len(lead) :])
        return self.encoder(flat, train, mean).reshape(*lead, -1)

    @property
    def table(self) -> Float[Array, "rows width"]:
        """(vocab_size, width): a row per label, for a head that is tied to it."""
        return self.embedder.table[...]


def pairs_frontend(spec: ModelSpec, facts: PairFacts, options: dict) -> PairsFrontend:
    """Returns the frontend; ValueError for what cannot be read (`frontends.validate`)."""
    from icl_jax.models.frontends.validate import validate_pairs

    if not isinstance(facts, PairFacts):
        raise ValueError("frontend 'pairs' reads item-label pairs, which this source does not give; set parts.frontend")
    validate_pairs(spec, facts)
    return PairsFrontend(spec, facts, options["encoder"])
