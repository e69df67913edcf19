"""Tokenizers of language models, by package `tokenizers`."""

import importlib
from collections.abc import Sequence
from typing import Any


class Tokenizer:
    """From text to token ids and back. It adds no token of its own, such as one for the beginning."""

    def __init__(self, inner: Any):
        self.inner = inner

    @property
    def vocab_size(self) -> int:
        """Tokens that it knows, added ones among them."""
        return self.inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, special tokens among them."""
        return self.inner.decode(list(ids), skip_special_tokens=False)

    def token(self, index: int) -> str:
        """Returns a token as a text to show."""
        return self.decode([index])


def load_tokenizer(text: str) -> Tokenizer:
    """Returns the tokenizer of a tokenizer.json. ValueError for another text, and without package tokenizers."""
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ModuleNotFoundError:
        raise ValueError("texts need package tokenizers: pip install 'icl_jax[lm]'") from None
    try:
        return Tokenizer(tokenizers.Tokenizer.from_str(text))
    except Exception as error:  # of a kind of its own
        raise ValueError(f"tokenizer.json is damaged or too new for package tokenizers: {error}") from None
