"""Reads a directory as Hugging Face writes it: config.json, safetensors (one file, or an index and shards), tokenizer.

Files of Python's pickle are never read: they can run code.
"""

import collections
import json
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Shaped

from icl_jax.models.importers.families import Stored, family_of, plain_name
from icl_jax.names import few

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")


def read_directory(path: pathlib.Path) -> Stored:
    """Returns what a directory holds; tensors are read when they are asked for.

    Raises ValueError for a model_type that is not supported, and naming files that are missing, damaged or not to be
    read.
    """
    config = read_json(path / "config.json")
    family = family_of(config)
    files = {name: _opened(path / name) for name in _weight_files(path)}
    places = {name: file for file, opened in files.items() for name in opened.keys()}  # noqa: SIM118
    _check_index(path, places)
    stored = _by_plain_name(path, family, places)
    tensors = {plain: files[places[name]].get_slice(name) for plain, name in stored.items()}
    kinds = {plain: tensor.get_dtype() for plain, tensor in tensors.items()}

    def read(plain: str) -> Shaped[np.ndarray, "..."]:
        name = stored[plain]
        if kinds[plain] not in FLOATS:
            raise ValueError(f"{path / places[name]}: {name} is {kinds[plain]}; use weights of {', '.join(FLOATS)}")
        return files[places[name]].get_tensor(name)

    return Stored(
        config=config,
        shapes={plain: tuple(tensor.get_shape()) for plain, tensor in tensors.items()},
        read=read,
        called=lambda plain: stored.get(plain, plain),
        tokenizer=_tokenizer(path),
        source={
            "format": "safetensors",
            "name": config.get("_name_or_path") or path.resolve().name,
            "files": ["config.json", *files],
            "quantisation": dict(collections.Counter(kinds.values())),
        },
    )


def read_json(path: pathlib.Path) -> dict:
    """Returns the object of a JSON file; ValueError naming the file where there is none."""
    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; give the directory of a whole model, or a .gguf file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}, not an object; fetch it again")
    return found


def _weight_files(path: pathlib.Path) -> list[str]:
    if (path / WHOLE).is_file():
        return [WHOLE]
    if (path / INDEX).is_file():
        names = sorted(set(_weight_map(path).values()))
        if outside := [name for name in names if pathlib.PurePath(name).name != name]:
            raise ValueError(f"{path / INDEX} names files outside its directory: {few(outside)}")
        return names
    if pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern)):
        raise ValueError(
            f"{path} holds {few(pickles)} alone, which may run code when read; convert it to {WHOLE} "
            "(transformers: from_pretrained, then save_pretrained)"
        )
    raise ValueError(f"neither {WHOLE} nor {INDEX} in {path}")


def _weight_map(path: pathlib.Path) -> dict[str, str]:
    found = read_json(path / INDEX).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(f"{path / INDEX} has no weight_map from tensors to files; fetch it again")
    return found


def _check_index(path: pathlib.Path, places: dict[str, str]) -> None:
    """Raises ValueError where the shards do not hold what the index says."""
    if (path / WHOLE).is_file():
        return
    wrong = [f"{name} ({file})" for name, file in _weight_map(path).items() if places.get(name) != file]
    if wrong:
        raise ValueError(f"{path / INDEX}: shards lack {few(wrong)}; fetch them again, all of one version")


def _by_plain_name(path: pathlib.Path, family: str, names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        plain = plain_name(family, name)
        if plain in found:
            raise ValueError(
                f"{path} holds a tensor with and without the prefix that names may have: {found[plain]}, {name}"
            )
        if plain:
            found[plain] = name
    return found


def _opened(path: pathlib.Path):
    """A file of tensors that are read one by one."""
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise ValueError(f"to read {path} install safetensors: pip install 'icl_jax[lm]'") from error
    if not path.is_file():
        raise ValueError(f"{path} is missing; fetch all files that {INDEX} names")
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut off ({error}); fetch it again") from error


def _tokenizer(path: pathlib.Path) -> dict:
    """What the directory has of a tokenizer: see `language.Imported`."""
    text = lambda name: (path / name).read_text(encoding="utf-8")
    if (path / "tokenizer.json").is_file():
        return {"kind": "json", "text": text("tokenizer.json")}
    if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        return {"kind": "bpe_files", "vocab": text("vocab.json"), "merges": text("merges.txt")}
    return {}
