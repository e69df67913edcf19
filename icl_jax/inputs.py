"""Batches, what a model reads of them, the roles of its tokens, and what it must know before it is built."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Batch:
    """What a model reads and is scored on; B sequences.

    inputs: what the model's frontend reads. targets: int32, what the objective scores; weights: float32 like the
    targets, of each in the loss. active: bool (vocab,), entries of the vocabulary that may be answers.
    """

    inputs: Any
    targets: jax.Array
    weights: jax.Array
    active: jax.Array


@flax.struct.dataclass
class Pairs:
    """Item-label pairs and a query; B sequences of n pairs.

    items:  (B, n+1, *item_shape) float32, or int32 (B, n+1) for symbols.
    labels: int32 (B, n+1); a model reads [:, :n] only, the last one is the target.
    task:   int32 (B,) label id of the task token, or -1.
    """

    items: jax.Array
    labels: jax.Array
    task: jax.Array


@flax.struct.dataclass
class Roles:
    """What the tokens of B sequences are. sets: name -> bool (B, N), which tokens are in it; demonstration: int32
    (B, N), the number of the one that a token belongs to (the query is one of its own), -1 for none."""

    sets: Mapping[str, jax.Array]
    demonstration: jax.Array

    def after(self, before: "Roles") -> "Roles":
        """Returns the roles of other tokens, (B or 1, S), and then these: (B, S + N)."""
        join = lambda a, b: jnp.concatenate([jnp.broadcast_to(a, (b.shape[0], a.shape[1])), b], axis=1)
        sets = {name: join(before.sets[name], own) for name, own in self.sets.items()}
        return Roles(sets, join(before.demonstration, self.demonstration))


@flax.struct.dataclass
class Tokens:
    """Texts as tokens; B sequences of N, padded at the end, where no token of theirs sees it.

    ids: int32 (B, N). length: int32 (B,), tokens before the padding. roles: of the tokens, sets `TEXT_SETS`.
    """

    ids: jax.Array
    length: jax.Array
    roles: Roles


# What a token of a prompt may be. label: of a demonstration's label the token that tells it from the others;
# forerunner: the one before it; format: the template's in demonstrations, forerunners among them; text: of
# demonstrations; answer: labels of the query's class; query: the last token, which predicts; query_text: the query's
# own; first: of the prompt.
TEXT_SETS = ("label", "forerunner", "format", "text", "answer", "query", "query_text", "first")


@dataclasses.dataclass(frozen=True)
class TextFacts:
    """What the frontend of texts must know of them. vocab_size: of the tokenizer, or of the model that was imported."""

    vocab_size: int


@dataclasses.dataclass(frozen=True)
class ItemShape:
    """What an item is: kind 'image' (H, W, C), 'vector' (D,) or 'symbol' () of num_classes symbols.

    Encoder 'embedding' looks a symbol up in a table; 'linear', 'mlp' and 'identity' read it one-hot.
    """

    kind: str
    shape: tuple[int, ...]
    num_classes: int = 0


@dataclasses.dataclass(frozen=True)
class PairFacts:
    """What the frontend of pairs must know of them. vocab_size: labels, symbols and task tokens; context_len: pairs
    before the query; task_token: whether a token before them says what is asked."""

    items: ItemShape
    vocab_size: int
    context_len: int
    task_token: bool = False
