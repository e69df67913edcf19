"""Anchor-only context: what is left of an answer when the question may read a few of the demonstrations' tokens.

Wang et al. 2023, section 4.2: keys and values are kept at label and format tokens, in every layer; the question is read
with these alone. Kept tokens have their original positions, and the question goes on after the whole demonstrations
(their GPT-J) or begins at position 0 again (their GPT2-XL). Demonstrations are encoded together, as their code has it,
or each alone, as the paper's words say. Beside anchors stand others of the same number: a random token in the place of
each label, the best of 20 such draws by label loyalty on other examples, the token before each label, the
demonstrations without their texts (encoded anew), and the whole context, which is lossless.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from icl_jax.dissect.answers import scores
from icl_jax.dissect.cases import Prepared, Questions, Tokenised
from icl_jax.dissect.edges import jaccard
from icl_jax.dissect.keeping import (
    BOTH,
    FIRST,
    FORERUNNER,
    FORMAT,
    LABEL,
    NOTHING,
    RANDOM,
    WHOLE,
    kept,
    unread,
)
from icl_jax.dissect.means import mean_and_error
from icl_jax.dissect.reading import read, read_before
from icl_jax.dissect.roles import Marked, marked
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch

NO_TEXT, RANDOM_TOP = "without texts", "random, best of 20"
ALONE, RESTARTED = ", each alone", ", restarted"
DRAWS = 20
WORDS = 5  # k of word loyalty


@dataclasses.dataclass(frozen=True)
class Method:
    """What is kept, by name; alone: demonstrations do not read each other; restarted: the question begins at position
    0."""

    keep: str
    alone: bool = False
    restarted: bool = False

    @property
    def name(self) -> str:
        return self.keep + ALONE * self.alone + RESTARTED * self.restarted


@dataclasses.dataclass(frozen=True)
class Compress:
    """The question read with a part of its context (`icl_jax.training.protocols.Eval`).

    Metrics by "method": label_loyalty and word_loyalty (k = 5), against the whole context, with their errors over cases
    under _se; accuracy, calibrated_accuracy, auc (see `answers`); tokens: kept, mean over cases; bytes: of the keys and
    values kept. asked: the questions; extra: other examples, by which the best draw is chosen; no_text: the questions
    after demonstrations without texts, of a language model. bytes_of_token: of keys and values in all layers.
    has_format: whether demonstrations have format tokens.
    """

    name: str
    asked: Questions
    extra: Questions
    no_text: Questions | None
    bytes_of_token: int
    at_once: int
    has_words: bool
    has_format: bool

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is compared, but for the two that are no choice of tokens."""
        anchors = BOTH if self.has_format else LABEL
        parts = (WHOLE, LABEL, *((FORMAT, BOTH) if self.has_format else ()), FORERUNNER, RANDOM, FIRST, NOTHING)
        more = [Method(anchors, alone=True), Method(WHOLE, alone=True)]
        more += [Method(anchors, restarted=True)] if self.no_text else []
        return (*map(Method, parts), *more)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all methods."""
        no_text = (NO_TEXT,) if self.no_text else ()
        return (*(method.name for method in self.methods), RANDOM_TOP, *no_text)

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        loyalties = ("label_loyalty", *(("word_loyalty",) if self.has_words else ()))
        names = [*loyalties, *(f"{name}_se" for name in loyalties), "accuracy", "calibrated_accuracy", "auc"]
        return dict.fromkeys((*names, "tokens", "bytes"), ("method",))

    @property
    def coords(self) -> dict[str, tuple]:
        return {"method": self.names}

    @property
    def _all(self) -> dict[str, Questions]:
        return {"asked": self.asked, "extra": self.extra, **({NO_TEXT: self.no_text} if self.no_text else {})}

    def arrays(self) -> dict[str, Any]:
        return {name: questions.arrays() for name, questions in self._all.items()}

    def prepare(self, arrays, tables, h, seed) -> dict[str, Prepared]:
        return {name: questions.prepare(arrays[name], tables, h, seed) for name, questions in self._all.items()}

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns of each method the logits of the classes (methods, cases, C), the likeliest words and how many tokens
        were kept, and the right classes (cases,)."""
        reader = _Reader(self, model, variables, context)
        asked, extra = (self.asked, eval_set["asked"]), (self.extra, eval_set["extra"])
        of_asked, of_extra = reader.caches(asked[1]), reader.caches(extra[1])
        kinds = jnp.arange(len(self.methods))
        of_methods = jax.lax.map(lambda kind: reader.read(*asked, of_asked, kind, 0), kinds)
        randoms = jnp.full((), [method.keep for method in self.methods].index(RANDOM))
        whole = reader.read(*extra, of_extra, jnp.full((), 0), 0)["logits"].argmax(-1)
        loyal = lambda draw: (reader.read(*extra, of_extra, randoms, draw)["logits"].argmax(-1) == whole).mean()
        best = jnp.argmax(jax.lax.map(loyal, jnp.arange(DRAWS)))
        found = [of_methods, jax.tree.map(lambda x: x[None], reader.read(*asked, of_asked, randoms, best))]
        if self.no_text:
            prepared = eval_set[NO_TEXT]
            without = reader.read(self.no_text, prepared, reader.caches(prepared), jnp.full((), 0), 0)
            found.append(jax.tree.map(lambda x: x[None], without))
        joined = jax.tree.map(lambda *x: jnp.concatenate(x), *found)
        return {**joined, "gold": joined["gold"][0]}

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, methods, cases, ...)."""
        logits = values["logits"].astype(np.float64)
        answers = logits.argmax(-1)
        same = (answers == answers[:, :1]).astype(np.float64)
        found: dict[str, np.ndarray] = {}
        found["label_loyalty"], found["label_loyalty_se"] = mean_and_error(same, axis=2)
        if self.has_words:
            words = jaccard(values["top"], values["top"][:, :1])
            found["word_loyalty"], found["word_loyalty_se"] = mean_and_error(words, axis=2)
        scored = [scores(logits[:, i], values["gold"]) for i in range(logits.shape[1])]
        for metric in ("accuracy", "calibrated_accuracy", "auc"):
            found[metric] = np.stack([of[metric] for of in scored], 1)
        tokens = values["tokens"].astype(np.float64).mean(-1)
        return {**found, "tokens": tokens, "bytes": tokens * self.bytes_of_token}


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads questions with a part of their context. The method is traced, so that all are one program."""

    about: Compress
    model: Any
    variables: Any
    context: Any

    def caches(self, prepared: Prepared) -> Cache | None:
        """The demonstrations of all questions, read once: together and each alone, on a leading axis of 2; None where
        they are read with every question."""
        before = prepared.before
        if before is None:
            return None
        across = _across(marked(self.model, before))[:, None]

        def one(alone):
            patch = Patch("attn_scores", "replace", value=-jnp.inf, mask=across, on=alone)
            return read_before(self.model, self.variables, before, self.context, patches=(patch,))[0]

        return jax.lax.map(one, jnp.asarray([False, True]))

    def read(
        self, questions: Questions, prepared: Prepared, caches: Cache | None, kind: Array, draw: Any
    ) -> dict[str, Array]:
        """caches: of the questions' demonstrations; kind: number of a method; draw: number of a draw of random
        slots."""
        methods, before = self.about.methods, prepared.before
        alone = jnp.asarray([method.alone for method in methods])[kind]
        restarted = jnp.asarray([method.restarted for method in methods])[kind]
        cache, keep = None, None
        if caches is not None and before is not None:
            keep = self._kept(marked(self.model, before), before, kind, draw)
            cache = jax.tree.map(lambda x: x[alone.astype(jnp.int32)], caches)
            cache = dataclasses.replace(cache, valid=keep, first=jnp.where(restarted, 0, cache.first))

        def one(each):
            cases = questions.cases(jax.tree.map(lambda x: x[None], each), self.context)
            patches, count = (), keep
            if count is None:
                own = marked(self.model, cases)
                count = self._kept(own, cases, kind, draw)
                patches = (_cut(own, count, alone),)
            logits, _ = read(self.model, self.variables, cases, self.context, patches=patches, cache=cache)
            words = jax.lax.top_k(logits[0], WORDS)[1] if self.about.has_words else jnp.zeros(1, jnp.int32)
            of = {"logits": cases.of_classes(logits)[0], "top": words, "gold": cases.gold[0]}
            return {**of, "tokens": count.sum(dtype=jnp.int32)}

        return jax.lax.map(one, prepared.each, batch_size=min(self.about.at_once, questions.num))

    def _kept(self, tokens: Marked, sequences: Tokenised, kind: Array, draw: Any) -> Bool[Array, "B T"]:
        """Which tokens of demonstrations may be read."""
        return jnp.stack([kept(method.keep, tokens, sequences, draw) for method in self.about.methods])[kind]


def _cut(tokens: Marked, keep: Bool[Array, "B T"], alone: Bool[Array, ""]) -> Patch:
    """What does as much to a question within one sequence: it reads no demonstration's token but those kept."""
    mask = unread(tokens, keep) | (_across(tokens) & alone)
    return Patch("attn_scores", "replace", value=-jnp.inf, mask=mask[:, None], name="compress")


def _across(tokens: Marked) -> Bool[Array, "B T T"]:
    """Edges from one demonstration to another."""
    number = tokens.roles.demonstration
    apart = (number[:, :, None] != number[:, None, :]) & (number[:, None, :] >= 0)
    return tokens.earlier & apart & ~tokens.question[:, :, None]
