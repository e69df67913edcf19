"""Writes examples of a task as tokens, each with its role in a few-shot prompt."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int32

from icl_jax.data.text.tasks import Template

OTHER, FORMAT, LABEL, TEXT, QUERY_TEXT = range(5)  # roles; OTHER: of the instruction and the query's template


class Encodes(Protocol):
    """A tokenizer: all that prompts need of it."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without special tokens."""
        ...


class Block(NamedTuple):
    """Tokens in a row: their text, ids, roles, the class of each label token, and the demonstration they belong to."""

    text: str
    ids: np.ndarray
    roles: np.ndarray
    classes: np.ndarray
    owners: np.ndarray


def block_of(text: str, parts: Sequence[tuple[Sequence[int], int]], owner: int = -1) -> Block:
    """Returns the block of some (ids, role), with no label token."""
    ids = np.array([token for tokens, _ in parts for token in tokens], np.int32)
    roles = np.array([role for tokens, role in parts for _ in tokens], np.int8)
    return Block(text, ids, roles, np.full(len(ids), -1, np.int32), np.full(len(ids), owner, np.int32))


def joined(blocks: Sequence[Block]) -> Block:
    text, *arrays = zip(*blocks, strict=True)
    return Block("".join(text), *(np.concatenate(parts) for parts in arrays))


class Writer:
    """Writes examples as tokens. The pieces of a prompt (literals of the template, texts, labels, separators) are
    encoded one by one, and it is checked that together they are the encoding of the whole."""

    def __init__(self, template: Template, words: Sequence[str], tokenizer: Encodes, instruction: str = ""):
        """Raises ValueError for labels of which no token tells them apart, and where pieces do not join."""
        self.template, self.words, self.encode = template, tuple(words), functools.cache(tokenizer.encode)
        self.instruction, self.head = instruction, template.parts[0]
        self.separator = self._before_head(template.separator)
        opening = instruction + template.separator if instruction else ""
        self.opening = block_of(opening, [(self._before_head(opening), OTHER)])
        self.labels = [self.encode(template.gap + word) for word in words]
        self.num_shared, self.class_tokens = distinguishing(words, self.labels)
        for word, label in zip(words, self.labels, strict=True):
            pieces = [template.cue, template.gap + word, template.separator + self.head]
            ids = [self.encode(template.cue), label, [*self.separator, *self.encode(self.head)]]
            self._check_joints(pieces, ids)

    def _before_head(self, text: str) -> list[int]:
        """Returns the ids of a text that the template's head follows: blank lines are cut otherwise at an end."""
        whole, head = self.encode(text + self.head), self.encode(self.head)
        start = len(whole) - len(head)
        return whole[:start] if whole[start:] == head else self.encode(text)

    def _check_joints(self, pieces: Sequence[str], ids: Sequence[Sequence[int]]):
        if self.encode("".join(pieces)) == [token for tokens in ids for token in tokens]:
            return
        pairs = list(itertools.pairwise((p, i) for p, i in zip(pieces, ids, strict=True) if p))
        wrong = ((a, b) for (a, x), (b, y) in pairs if self.encode(a + b) != [*x, *y])
        left, right = next(wrong, (pieces[0], "".join(pieces[1:])))
        raise ValueError(
            f"the tokenizer joins {left[-20:]!r} and {right[:20]!r}, so that no token begins where the one ends; "
            "change the template, its gap or separator, the label word, or leave this text out"
        )

    def _body(self, texts: tuple[str, ...]) -> list[list[int]]:
        """Returns the ids of each piece of an example up to its label."""
        pieces = self.template.pieces(texts)
        ids = [self.encode(piece) for piece in pieces]
        self._check_joints([self.template.separator, *pieces], [self.separator, *ids])
        return ids

    def demonstration(self, texts: tuple[str, ...], label: int) -> Block:
        """Returns an example with its label and the separator."""
        template, label_ids = self.template, self.labels[label]
        body = [(ids, TEXT if k % 2 else FORMAT) for k, ids in enumerate(self._body(texts))]
        text = "".join([*template.pieces(texts), template.gap, self.words[label], template.separator])
        block = block_of(text, [*body, (label_ids, FORMAT), (self.separator, FORMAT)])
        place = len(block.ids) - len(self.separator) - len(label_ids) + self.num_shared
        block.roles[place], block.classes[place] = LABEL, label
        return block

    def query(self, texts: tuple[str, ...], owner: int) -> Block:
        """Returns an example up to where its label tells the classes apart. owner: how many demonstrations precede."""
        body = [(ids, QUERY_TEXT if k % 2 else OTHER) for k, ids in enumerate(self._body(texts))]
        shared = self.labels[0][: self.num_shared]
        return block_of("".join(self.template.pieces(texts)), [*body, (shared, OTHER)], owner)

    def context(self, demonstrations: Sequence[Block]) -> Block:
        """Returns the instruction and all demonstrations, numbered."""
        numbered = [b._replace(owners=np.full(len(b.ids), k, np.int32)) for k, b in enumerate(demonstrations)]
        return joined([self.opening, *numbered])

    def check_whole(self, context: Block, query: Block):
        """Raises ValueError if a prompt is not the encoding of its text."""
        ids = np.concatenate([context.ids, query.ids])
        text = context.text + query.text
        whole = np.array(self.encode(text), np.int32)
        ids = ids[: len(ids) - self.num_shared]
        if np.array_equal(whole, ids):
            return
        n = min(len(whole), len(ids))
        place = int(np.argmax(np.append(whole[:n] != ids[:n], True)))
        raise ValueError(
            f"the tokenizer encodes a whole prompt otherwise than its pieces, from token {place} on; the prompt begins "
            f"with {text[:60]!r}. Change the template, its gap or separator, or the instruction"
        )


def distinguishing(words: Sequence[str], labels: Sequence[Sequence[int]]) -> tuple[int, Int32[np.ndarray, "classes"]]:
    """Returns how many tokens all labels begin with, and the token of each label after these, int32 (C,).

    Raises:
      ValueError: the labels tokenize alike: two have the same token there, or one ends before it.
    """
    ways = "choose words that differ in their first token (label_words)"
    shortest = min(map(len, labels))
    apart = [k for k in range(shortest) if len({label[k] for label in labels}) > 1]
    if not apart:
        word = words[min(range(len(words)), key=lambda c: len(labels[c]))]
        other = next((w for w in words if w != word), word)
        raise ValueError(f"labels that tokenize alike: {word!r} is all that {other!r} begins with; {ways}")
    tokens = [label[apart[0]] for label in labels]
    for c, token in enumerate(tokens):
        if (first := tokens.index(token)) < c:
            raise ValueError(
                f"labels that tokenize alike: {words[first]!r} and {words[c]!r} both have token {token} where the "
                f"labels differ first; {ways}"
            )
    return apart[0], np.array(tokens, np.int32)
