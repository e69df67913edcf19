"""Cases: sequences with what an analysis asks of them, alike for grown models and for language models."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt32

from icl_jax.data.source import Exemplars
from icl_jax.evals.evaluate import model_keys, suite_sequences
from icl_jax.models.frontends.layout import LABEL, TokenLayout
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import SuiteSpec


@flax.struct.dataclass
class Tokenised:
    """B sequences of T tokens. inputs: what the model reads; classes: int32 (B, T), whose label a token is, -1 for
    none; valid: bool (B, T), False for padding; draws: uint32 (B, 2), key data for what an analysis draws."""

    inputs: Any
    classes: jax.Array
    valid: jax.Array
    draws: jax.Array


@flax.struct.dataclass
class Cases(Tokenised):
    """Sequences each of which is a question, to which one of C classes is the answer.

    answers: int32 (B, C), entries of the vocabulary that stand for the classes; gold: int32 (B,), the right one; at:
    int32 (B,), the token that asks, the last that is valid; model_keys: uint32 (B, 2), the model's own randomness.
    Where all questions have the same demonstrations before them (`Before`), the tokens are those that come after.
    """

    answers: jax.Array
    gold: jax.Array
    at: jax.Array
    model_keys: jax.Array

    def of_classes(self, logits: Float[Array, "B vocab"]) -> Float[Array, "B C"]:
        """Returns the logits of the classes."""
        return jnp.take_along_axis(logits, self.answers, axis=1)


class Questions(Protocol):
    """Where the cases of an eval come from."""

    @property
    def num(self) -> int:
        """How many."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def num_tokens(self) -> int:
        """Tokens of a question, with padding."""
        ...

    def arrays(self) -> Any:
        """Returns host arrays, see `Eval.arrays`."""
        ...

    def prepare(self, arrays: Any, tables: Any, h: dict, seed: Integer[Array, ""]) -> "Prepared":
        """Returns what the cases of one member are made of."""
        ...

    def cases(self, each: Any, context: Any) -> Cases:
        """Returns the cases of a part of `Prepared.each`. context: `EvalContext`."""
        ...


@flax.struct.dataclass
class Prepared:
    """each: what cases are made of, leading axis (num,). before: one sequence of demonstrations that comes before every
    question, or None."""

    each: Any
    before: Tokenised | None = None


@dataclasses.dataclass(frozen=True)
class OfQuestions:
    """What evals have in common that ask one kind of questions. name: of the eval."""

    name: str
    questions: Questions

    def arrays(self) -> Any:
        """Returns the questions' host arrays."""
        return self.questions.arrays()

    def prepare(self, arrays: Any, tables: Any, h: dict, seed: Integer[Array, ""]) -> Prepared:
        """Returns what the cases of one member are made of."""
        return self.questions.prepare(arrays, tables, h, seed)


def draw_keys(name: str, count: int, seed: Integer[Array, ""]) -> UInt32[Array, "{count} 2"]:
    """Returns key data for what an analysis draws, by its name and the number of a case only."""
    key = stream_key(seed, "dissect", np.uint32(zlib.crc32(name.encode())))
    return jax.random.key_data(fold_each(key, 0, count))


@dataclasses.dataclass(frozen=True)
class ExemplarQuestions:
    """The sequences of a suite: the ways of a sequence are the classes, by the order of their labels. place: where the
    tokens are that the model reads."""

    name: str
    suite_name: str
    suite: SuiteSpec
    num: int
    source: Exemplars
    place: TokenLayout

    @property
    def num_tokens(self) -> int:
        """Tokens of a sequence."""
        return self.place.num_tokens

    @property
    def ways(self) -> int:
        """Classes in a sequence."""
        return self.suite.ways

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"way {i}" for i in range(self.ways))

    def arrays(self) -> None:
        return None

    def prepare(self, arrays, tables, h: dict, seed: Integer[Array, ""]) -> Prepared:
        return Prepared(
            {
                "sequences": suite_sequences(self.suite_name, self.suite, self.num, self.source, tables, h, seed),
                "draws": draw_keys(self.name, self.num, seed),
                "model_keys": model_keys(self.suite_name, self.num, seed),
            }
        )

    def cases(self, each: Mapping[str, Any], context) -> Cases:
        seqs = each["sequences"]
        inputs = self.source.inputs(context.tables, context.shared, context.h, seqs)
        count, pairs = seqs.labels.shape[0], seqs.labels.shape[1] - 1
        smallest = lambda labels: jnp.unique(labels, size=self.ways, fill_value=labels.max())
        answers = jax.vmap(smallest)(seqs.labels[:, :pairs])
        place = lambda labels: jnp.argmax(labels[:, :, None] == answers[:, None, :], axis=-1).astype(jnp.int32)
        classes = self._of_tokens(place(seqs.labels[:, :pairs]))
        num_tokens = classes.shape[1]
        return Cases(
            inputs=inputs,
            answers=answers,
            gold=place(seqs.labels[:, pairs:])[:, 0],
            classes=classes,
            valid=jnp.ones((count, num_tokens), bool),
            at=jnp.full((count,), num_tokens - 1, jnp.int32),
            draws=each["draws"],
            model_keys=each["model_keys"],
        )

    def _of_tokens(self, of_pairs: jax.Array) -> jax.Array:
        """Classes of tokens, out of those of the pairs: at labels, -1 elsewhere."""
        none, place = jnp.full_like(of_pairs, -1), self.place
        tokens = jnp.stack([of_pairs if kind == LABEL else none for kind in place.pair], axis=2)
        tokens = tokens.reshape(of_pairs.shape[0], -1)
        outside = lambda kinds: [none[:, :1]] * len(kinds)
        return jnp.concatenate([*outside(place.before), tokens, *outside(place.query)], axis=1)
