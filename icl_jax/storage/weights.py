"""Weights of an imported model, in a directory that many runs share.

weights.safetensors   the parameters, a leaf under its path "core/layers/attention/qkv/kernel"
tokenizer.json        as package `tokenizers` reads it
model.json            facts about them and the digests of both, written last: without it the directory is no model
"""

import functools
import hashlib
import importlib
import pathlib
import types
from typing import Any

import jax
import numpy as np

from icl_jax.storage.files import local, read_text, replacing, stamp, write_text
from icl_jax.storage.paths import as_path
from icl_jax.storage.sealed import DamagedFile, read_record, write_record

FOLDER = "weights"  # in the directory of a run that was made by importing
FILE, WEIGHTS, TOKENIZER = "model.json", "weights.safetensors", "tokenizer.json"
_AGAIN = "import the model again"
_DIGESTS = ("weights", "tokenizer")


def write_weights(directory: pathlib.Path, params: dict, tokenizer: str, facts: dict[str, Any]) -> None:
    """Writes the weights of a model. params: nested dict of arrays; tokenizer: text of tokenizer.json, "" for none;
    facts: JSON values about the model. ValueError without package safetensors."""
    files = _safetensors()
    leaves = _by_path(params)
    with replacing(directory / WEIGHTS) as temporary:
        files.save_file({path: np.ascontiguousarray(leaf) for path, leaf in leaves.items()}, temporary)
    if tokenizer:
        write_text(directory / TOKENIZER, tokenizer)
    digests = {"weights": _digest(leaves), "tokenizer": _text_digest(tokenizer)}
    write_record(directory / FILE, {**facts, **digests})


def read_facts(directory: str | pathlib.Path) -> dict[str, Any]:
    """Returns the facts about a model, its digests "weights" and "tokenizer" among them. ValueError where the directory
    holds no model, DamagedFile where what it says of itself is damaged."""
    directory = _inside(directory)
    return dict(_facts(directory, stamp(directory / FILE)))


def _inside(directory: str | pathlib.Path) -> pathlib.Path:
    """The directory of weights, or that in the directory of a run."""
    directory = as_path(directory)
    return directory / FOLDER if (directory / FOLDER / FILE).exists() else directory


@functools.lru_cache(maxsize=16)
def _facts(directory: pathlib.Path, written: tuple | None) -> dict[str, Any]:
    """written: which file, so that another one in its place is read."""
    try:
        return read_record(directory / FILE, _AGAIN, _DIGESTS)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{directory} holds no imported model (no {FILE}); make one with `icl import hf` or `icl import gguf`"
        ) from None


def read_weights(directory: str | pathlib.Path) -> dict:
    """Returns the parameters, a nested dict of numpy arrays. DamagedFile where they are not what was imported."""
    directory = _inside(directory)
    facts, files, path = read_facts(directory), _safetensors(), directory / WEIGHTS
    try:
        with local(path) as file:
            leaves = files.load_file(file)
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing; {_AGAIN}") from None
    except Exception as error:  # safetensors raises a kind of its own for each language
        raise DamagedFile(f"{path} is damaged ({error}); {_AGAIN}") from None
    if _digest(leaves) != facts["weights"]:
        raise DamagedFile(f"{path} is damaged (its digest differs); {_AGAIN}")
    return _nested(leaves)


def read_tokenizer(directory: str | pathlib.Path) -> str:
    """Returns the text of the tokenizer. ValueError where the model has none, DamagedFile where it is another."""
    directory = _inside(directory)
    facts, path = read_facts(directory), directory / TOKENIZER
    if not facts["tokenizer"]:
        raise ValueError(f"the model in {directory} was imported without a tokenizer; import it with one")
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing; {_AGAIN}") from None
    if _text_digest(text) != facts["tokenizer"]:
        raise DamagedFile(f"{path} does not belong to these weights (its digest differs); {_AGAIN}")
    return text


def _safetensors() -> types.ModuleType:
    try:
        return importlib.import_module("safetensors.numpy")
    except ModuleNotFoundError:
        raise ValueError("weights are kept by package safetensors: pip install 'icl_jax[lm]'") from None


def _by_path(params: dict) -> dict[str, np.ndarray]:
    named = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in named}


def _nested(leaves: dict[str, np.ndarray]) -> dict:
    tree: dict = {}
    for path, leaf in leaves.items():
        *above, name = path.split("/")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[name] = leaf
    return tree


def _digest(leaves: dict[str, np.ndarray]) -> str:
    """Of paths, types, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in sorted(leaves.items()):
        digest.update(f"{path} {leaf.dtype.name} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32] if text else ""
