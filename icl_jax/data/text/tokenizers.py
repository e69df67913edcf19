"""Tokenizers of language models, by package `tokenizers`."""

import importlib
from collections.abc import Mapping, Sequence
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
        return Tokenizer(_tokenizers().Tokenizer.from_str(text))
    except Exception as error:  # of a kind of its own
        raise ValueError(f"tokenizer.json is damaged or too new for package tokenizers: {error}") from None


def tokenizer_json(found: Mapping[str, Any]) -> str:
    """Returns the text of a tokenizer.json, "" where nothing was found.

    found: what an importer found, by its "kind": json: its text; bpe: vocab and lines of merges of a byte-level GPT-2
    tokenizer; gguf: the fields tokenizer.ggml.* of a GGUF file. ValueError for a tokenizer that cannot be made.
    """
    kind = found.get("kind", "")
    if kind == "json":
        return load_tokenizer(found["text"]).inner.to_str()
    if kind == "bpe":
        pairs = [line.split(" ") for line in found["merges"] if line and not line.startswith("#version")]
        return _byte_level(found["vocab"], pairs, [], [])
    return _of_gguf(found) if kind == "gguf" else ""


def _of_gguf(found: Mapping[str, Any]) -> str:
    if found.get("model") != "gpt2":
        raise ValueError(
            f"the file's tokenizer is of kind {found.get('model')!r}, and only byte-level BPE ('gpt2') can be made of "
            "a GGUF file; import the model from its Hugging Face directory, with tokenizer.json"
        )
    if (pre := found.get("pre", "default")) not in PRE_TOKENIZERS:
        raise ValueError(
            f"the file's tokenizer splits texts as {pre!r} does, and what can be made is {', '.join(PRE_TOKENIZERS)}; "
            "import the model from its Hugging Face directory, with tokenizer.json"
        )
    tokens, kinds = list(found["tokens"]), list(found.get("token_type", ()))
    special = [token for token, own in zip(tokens, kinds, strict=False) if own in _SPECIAL]
    pairs = [merge.split(" ") for merge in found["merges"]]
    return _byte_level({token: i for i, token in enumerate(tokens)}, pairs, PRE_TOKENIZERS[pre], special)


_SPECIAL = (3, 4)  # types of tokens in GGUF: control, user-defined
PRE_TOKENIZERS: Mapping[str, list[str]] = {"gpt-2": [], "default": [], "smollm": ["digits"]}  # before bytes


def _byte_level(vocab: Mapping[str, int], merges: list[list[str]], before: list[str], special: list[str]) -> str:
    """Pairs of bytes, merged; digits: each is a token of its own."""
    package = _tokenizers()
    made = package.Tokenizer(package.models.BPE(dict(vocab), [(a, b) for a, b in merges]))
    split = [package.pre_tokenizers.Digits(individual_digits=True) for name in before if name == "digits"]
    to_bytes = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = package.pre_tokenizers.Sequence([*split, to_bytes])
    made.decoder = package.decoders.ByteLevel()
    made.add_special_tokens([package.AddedToken(token, special=True, normalized=False) for token in special])
    return made.to_str()


def _tokenizers() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ModuleNotFoundError:
        raise ValueError("texts need package tokenizers: pip install 'icl_jax[lm]'") from None
