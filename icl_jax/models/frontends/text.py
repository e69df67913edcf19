"""The frontend of texts: token ids through a table, and learned positions where the model has them."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from icl_jax.inputs import TEXT_SETS, Roles, TextFacts, Tokens
from icl_jax.models.layers import param
from icl_jax.spec import ModelSpec

EMBEDDING_SD = 0.02


class Embedder(nnx.Module):
    """Tables of tokens and, learned, of positions."""

    def __init__(self, spec: ModelSpec, vocab_size: int, num_positions: int):
        self.table = param((vocab_size, spec.width), sd=EMBEDDING_SD)
        self.positions = param((num_positions, spec.width), sd=EMBEDDING_SD) if spec.positions == "learned" else None
        self.dtype = spec.dtype

    def __call__(self, ids: Int[Array, "B N"], first: Int[Array, "_"] | None) -> Float[Array, "B N D"]:
        x = self.table[ids]
        if self.positions is not None:
            steps = jnp.arange(ids.shape[1])[None]
            x = x + self.positions[steps if first is None else first[:, None] + steps]
        return x.astype(self.dtype)


class TextFrontend(nnx.Module):
    """Tokens through the table (see `models.build.Frontend`)."""

    items = None
    sets = TEXT_SETS

    def __init__(self, spec: ModelSpec, facts: TextFacts, num_positions: int):
        self.embedder = Embedder(spec, facts.vocab_size, num_positions)
        self.width, self.vocab_size, self.num_positions = spec.width, facts.vocab_size, num_positions

    def __call__(
        self,
        inputs: Tokens,
        key: Key[Array, "B"] | None,
        train: bool,
        mean: Any,
        first: Int[Array, "_"] | None = None,
    ) -> Float[Array, "B N D"]:
        """Returns tokens (B, N, width). first: position of the first of them (None: 0). ValueError for more tokens than
        the model has positions."""
        if 0 < self.num_positions < inputs.ids.shape[1]:
            raise ValueError(
                f"a text of {inputs.ids.shape[1]} tokens, the model has {self.num_positions} positions; shorten it"
            )
        return self.embedder(inputs.ids, first)

    def roles(self, inputs: Tokens) -> Roles:
        """Returns the roles of the tokens, which come with them."""
        return inputs.roles

    def last(self, inputs: Tokens) -> Int[Array, "B"]:
        """Returns the last token of each text, before the padding."""
        return inputs.length - 1

    @property
    def table(self) -> Float[Array, "rows width"]:
        """(vocab_size, width): a row per token, for a head that is tied to it."""
        return self.embedder.table[...]


def text_frontend(spec: ModelSpec, facts: TextFacts, options: dict) -> TextFrontend:
    """Returns the frontend; ValueError for what it cannot read."""
    if not isinstance(facts, TextFacts):
        raise ValueError("frontend 'text' reads texts, which this source does not give; set parts.frontend")
    if spec.positions not in ("learned", "rotary", "none"):
        raise ValueError(f"frontend 'text' has no positions {spec.positions!r}; use learned, rotary or none")
    if spec.positions == "learned" and not options["num_positions"]:
        raise ValueError("learned positions of texts need their number; set options.frontend.num_positions")
    return TextFrontend(spec, facts, options["num_positions"])
