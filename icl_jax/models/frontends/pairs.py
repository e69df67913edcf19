"""The frontend of item-label pairs: item encoder, label table, token layout, positions.

Interleaved: item, label, item, label, ..., query. An item may be several tokens, its parts; a separator, one learned
token, may stand between an item and its label and after the query's item; labels may stand before their items: label,
item, label, item, ..., query. Concatenated: one token per pair, the query with a dummy label (an extra row of the table
as released by Chan et al. 2022; zeros where the pair is mixed). A task token, if any, comes first. The last token asks.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, Num

from icl_jax.inputs import ItemShape, PairFacts, Pairs, Roles
from icl_jax.models.frontends.encoders import encoder
from icl_jax.models.frontends.layout import SEPARATOR, TokenLayout, token_layout
from icl_jax.models.layers import Dense, param
from icl_jax.models.positions import sinusoid
from icl_jax.spec import ModelSpec

EMBEDDING_SD = 0.02


def item_part(spec: ModelSpec, items: ItemShape) -> ItemShape:
    """Returns the shape of what the encoder reads: an item, or one of its equal parts along the first axis."""
    if spec.item_tokens == 1:
        return items
    return dataclasses.replace(items, shape=(items.shape[0] // spec.item_tokens, *items.shape[1:]))


class Embedder(nnx.Module):
    """Label table, separator, mixing layer and positions."""

    def __init__(self, spec: ModelSpec, place: TokenLayout, vocab_size: int):
        dummy = spec.labels == "concatenated" and not spec.concat_mix
        self.table = param((vocab_size + dummy, place.content), sd=EMBEDDING_SD)
        self.separator = param((1, place.content), sd=EMBEDDING_SD) if SEPARATOR in place.pair else None
        mixes = spec.labels == "concatenated" and spec.concat_mix
        self.mix = Dense(2 * place.content, place.content, spec.dtype) if mixes else None
        learned = spec.positions == "learned"
        self.positions = param((place.num_tokens, place.core), sd=EMBEDDING_SD) if learned else None
        self.spec, self.place, self.vocab_size = spec, place, vocab_size

    def __call__(
        self, features: Float[Array, "B items features"], labels: Int[Array, "B items"], task: Int[Array, "B"], key
    ) -> Float[Array, "B N D"]:
        """Returns tokens (B, N, D).

        features: (B, n+1, parts of an item x content); labels: int32 (B, n+1), the last is not read; task: int32 (B,);
        key: (B,) keys that shift one-hot positions at random, one shift per sequence (None: no shift).
        """
        shown = self.table[labels[:, :-1]].astype(features.dtype)
        asked = self.table[task][:, None].astype(features.dtype) if self.place.before else None
        build = self._interleave if self.spec.labels == "interleaved" else self._concatenate
        return self._place(build(features, shown, asked), key).astype(self.spec.dtype)

    def _interleave(self, features, shown, task):
        items = self._item(features[:, :-1])
        pairs = jnp.stack([shown, *items] if self.spec.pair_order == "label_first" else [*items, shown], axis=2)
        pairs = pairs.reshape(pairs.shape[0], -1, pairs.shape[-1])
        return jnp.concatenate([*([] if task is None else [task]), pairs, *self._item(features[:, -1:])], axis=1)

    def _item(self, features):
        """The tokens of items, each (B, items, content): their parts, and the separator."""
        parts = jnp.split(features, self.spec.item_tokens, axis=-1) if self.spec.item_tokens > 1 else [features]
        if self.separator is not None:
            parts.append(jnp.broadcast_to(self.separator[...].astype(features.dtype), parts[0].shape))
        return parts

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
        place, part = token_layout(spec, facts.context_len, facts.task_token), item_part(spec, facts.items)
        self.encoder = encoder(spec, part.shape, part.num_classes, place.content, encoder_options)
        self.embedder = Embedder(spec, place, facts.vocab_size)
        self.item_rank, self.part_shape = len(part.shape), part.shape
        self.width, self.vocab_size = place.core, facts.vocab_size
        self.items, self.sets, self.place = place.items, place.set_names, place

    def __call__(self, inputs: Pairs, key: Key[Array, "B"] | None, train: bool, mean) -> Float[Array, "B N D"]:
        features = self.encode(inputs.items, train, mean)
        return self.embedder(features, inputs.labels, inputs.task, key)

    def roles(self, inputs: Pairs) -> Roles:
        """Returns the roles of tokens: item, label (one token where they are concatenated) and format (separators) of
        the demonstrations, answer (labels that are the query's), forerunner (a demonstration's token before a label),
        query (the last token, which asks), query_text (the query's own before it), task."""
        pair, shown = self.place.demonstration, self.place.sets
        right = inputs.labels == inputs.labels[:, -1:]
        many = lambda row: jnp.broadcast_to(jnp.asarray(row), (right.shape[0], len(pair)))
        answer = jnp.where(shown["label"], right[:, np.clip(pair, 0, right.shape[1] - 1)], False)
        return Roles({name: many(row) for name, row in shown.items()} | {"answer": answer}, many(pair))

    def encode(self, items: Num[Array, "*b_item"], train: bool = False, mean=None) -> Float[Array, "*b width"]:
        """Returns the item encoder's outputs (..., width) for items (..., *item_shape); of all parts side by side, in
        their order, where an item has several."""
        lead = items.shape[: items.ndim - self.item_rank]
        flat = items.reshape(-1, *self.part_shape)
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
