"""Tokenizers of language models, in the form of the package `tokenizers`: the text of a tokenizer.json."""

import functools
import json
from collections.abc import Sequence

from icl_jax.names import few

END = "<|endoftext|>"  # of GPT-2's own files, which do not say what is special
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # types of tokens in GGUF
ADDED = (CONTROL, USER_DEFINED)  # are cut out of a text before all else
SPACE = "\u2581"  # in pieces of SentencePiece
INSTEAD = "Use the model's Hugging Face directory, whose tokenizer.json is taken as it is"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
SPLITS = {  # how text is cut before merges, by tokenizer.ggml.pre
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]},
}
PLAIN = ("gpt2", "gptneox")  # architectures whose files may leave the split to the default, which is GPT-2's


class Tokenizer:
    """From text to token ids and back. `load_tokenizer` makes one."""

    def __init__(self, wrapped, is_byte_level: bool):
        self._wrapped = wrapped
        self._is_byte_level = is_byte_level

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones among them; a model's table may be longer."""
        return self._wrapped.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; none is added at its ends. Names of special tokens in the text give these."""
        return self._wrapped.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, special tokens among them; ValueError for an id that no token has."""
        for id in ids:
            self._piece(id)
        return self._wrapped.decode(list(ids), skip_special_tokens=False)

    def token(self, id: int) -> str:
        """Returns the text of one token, spaces in it as spaces; bytes that are no whole character as <0xE2>.

        Raises ValueError for an id that no token has.
        """
        piece = self._piece(id)
        if not self._is_byte_level:
            return piece.replace(SPACE, " ")
        known = _bytes_of_letters()
        if not all(letter in known for letter in piece):  # an added token, which is written as it reads
            return piece
        return _readable(bytes(known[letter] for letter in piece))

    def _piece(self, id: int) -> str:
        piece = self._wrapped.id_to_token(id) if id >= 0 else None
        if piece is None:
            raise ValueError(f"no token has the id {id}; they are from 0 to {self.vocab_size - 1}")
        return piece


def load_tokenizer(json_text: str) -> Tokenizer:
    """Returns the tokenizer of a tokenizer.json's text, without its truncation and padding.

    Raises ValueError where the text is no tokenizer, or the package tokenizers is not installed.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ValueError("to read text install tokenizers: pip install 'icl_jax[lm]'") from error
    try:
        wrapped = tokenizers.Tokenizer.from_str(json_text)
    except Exception as error:  # the package raises Exception itself
        raise ValueError(f"this is not the text of a tokenizer.json: {error}") from error
    wrapped.no_truncation()
    wrapped.no_padding()
    return Tokenizer(wrapped, is_byte_level='"ByteLevel"' in json.dumps(json.loads(json_text).get("decoder")))


def tokenizer_json(found: dict) -> str:
    """Returns the text of a tokenizer.json from what an importer found (see `Imported.tokenizer`).

    Raises ValueError where it found none, or one that is not supported.
    """
    kind = found.get("kind")
    if kind == "json":
        return found["text"]
    if kind == "bpe_files":
        return tokenizer_json_from_bpe_files(found["vocab"], found["merges"])
    if kind == "gguf":
        return tokenizer_json_from_gguf(found["fields"])
    raise ValueError(
        "the model came without a tokenizer; put its tokenizer.json, or vocab.json and merges.txt, beside it"
    )


def tokenizer_json_from_bpe_files(vocab: str, merges: str) -> str:
    """Returns the text of a tokenizer.json from those of GPT-2's vocab.json and merges.txt (byte-level BPE).

    <|endoftext|> is special where the vocabulary has it. Raises ValueError where vocab is no JSON of ids by token, or
    a merge has not two parts.
    """
    try:
        ids = json.loads(vocab)
    except ValueError as error:
        raise ValueError(f"vocab.json is not whole JSON ({error}); fetch it again") from error
    if not isinstance(ids, dict) or not all(isinstance(id, int) for id in ids.values()):
        raise ValueError("vocab.json is no object of ids by token; fetch it again")
    lines = [line.rstrip("\r") for line in merges.split("\n")]
    lines = [line for line in (lines[1:] if lines[0].startswith("#version") else lines) if line]
    added = [_added(END, ids[END], special=True)] if END in ids else []
    return _byte_level_bpe(ids, lines, added, BYTE_LEVEL)


def tokenizer_json_from_gguf(fields: dict) -> str:
    """Returns the text of a tokenizer.json from the fields of a GGUF file, by their names there.

    tokenizer.ggml.model "gpt2" is byte-level BPE, with a split that is known; "llama" is SentencePiece's BPE with bytes
    for what it does not know. Raises ValueError naming what is not supported, or missing.
    """
    model = fields.get("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise ValueError(
            f"tokenizer.ggml.model {model!r} is not supported; only 'gpt2' (byte-level BPE) and 'llama' "
            f"(SentencePiece). {INSTEAD}"
        )
    tokens, types, rest = _of_tokens(fields, "merges" if model == "gpt2" else "scores")
    special = [(token, id, kind) for id, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind in ADDED]
    added = [_added(token, id, special=kind == CONTROL) for token, id, kind in special]
    vocab = {token: id for id, token in enumerate(tokens)}
    if model == "gpt2":
        return _byte_level_bpe(vocab, rest, added, _split(fields))
    return _sentencepiece(fields, vocab, types, rest, added)


def _of_tokens(fields: dict, rest: str) -> tuple[list[str], list[int], list]:
    """The tokens, their types, and their scores or merges."""
    names = [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", rest)]
    if missing := [name for name in names if name not in fields]:
        raise ValueError(f"the file has no {few(missing)}. {INSTEAD}")
    tokens, types, values = (fields[name] for name in names)
    if len(tokens) != len(types) or (rest == "scores" and len(tokens) != len(values)):
        raise ValueError(
            f"the file has {len(tokens)} tokens, but {len(types)} types and {len(values)} {rest}; fetch it again"
        )
    return tokens, types, values


def _split(fields: dict) -> dict:
    pre = fields.get("tokenizer.ggml.pre", "default")
    if pre == "default" and fields.get("general.architecture") in PLAIN:
        pre = "gpt-2"
    if pre not in SPLITS:
        raise ValueError(
            f"tokenizer.ggml.pre {pre!r} is not supported; these are: {', '.join(SPLITS)}, and 'default' for the "
            f"architectures {', '.join(PLAIN)}. {INSTEAD}"
        )
    return SPLITS[pre]


def _byte_level_bpe(vocab: dict[str, int], merges: Sequence[str], added: list[dict], split: dict) -> str:
    pairs = [merge.split(" ") for merge in merges]
    if wrong := [merge for merge, pair in zip(merges, pairs, strict=True) if len(pair) != 2]:
        raise ValueError(f"merges without two parts: {few(map(repr, wrong))}")
    model = {"type": "BPE", "vocab": vocab, "merges": pairs}
    return _text(model, added, pre_tokenizer=split, decoder=BYTE_LEVEL)


def _sentencepiece(
    fields: dict, vocab: dict[str, int], types: Sequence[int], scores: Sequence[float], added: list[dict]
) -> str:
    """SentencePiece joins the two neighbours whose union has the best score: here a merge for each split of a piece."""
    normalised = [f"tokenizer.ggml.{name}" for name in ("precompiled_charsmap", "remove_extra_whitespaces")]
    if present := [name for name in normalised if fields.get(name)]:
        raise ValueError(f"{few(present)}: text that SentencePiece normalises is not supported. {INSTEAD}")
    if len(unknown := [token for token, id in vocab.items() if types[id] == UNKNOWN]) != 1 or BYTE not in types:
        raise ValueError(f"the tokens lack bytes for what is unknown, or one unknown token ({unknown}). {INSTEAD}")
    pieces = {token: id for token, id in vocab.items() if types[id] == NORMAL}
    splits = lambda piece: [(piece[:i], piece[i:]) for i in range(1, len(piece))]
    known = lambda pair: pair[0] in pieces and pair[1] in pieces
    best_first = sorted(pieces, key=lambda piece: -scores[pieces[piece]])
    merges = [pair for piece in best_first for pair in filter(known, splits(piece))]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    normalizers: list[dict] = [spaces]
    decoders: list[dict] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        normalizers.insert(0, {"type": "Prepend", "prepend": SPACE})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    bpe = {"type": "BPE", "unk_token": unknown[0], "fuse_unk": True, "byte_fallback": True}
    return _text(
        bpe | {"vocab": vocab, "merges": merges},
        added,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
    )


def _text(model: dict, added: list[dict], **parts: dict) -> str:
    names = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    found = {"version": "1.0", "added_tokens": added, **dict.fromkeys(names), **parts, "model": model}
    return json.dumps(found, ensure_ascii=False)


def _added(token: str, id: int, special: bool) -> dict:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": token, **flags, "special": special}


@functools.cache
def _bytes_of_letters() -> dict[str, int]:
    """The byte that each letter of byte-level BPE stands for: itself if it shows, else the next letter from 256."""
    shows = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shows]
    return {chr(byte): byte for byte in shows} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _readable(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 128 else f"<0x{byte:02X}>" for byte in raw)
