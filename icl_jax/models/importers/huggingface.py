"""Hugging Face directories: config.json, safetensors in one file or several, tokenizer.json."""

import dataclasses
import importlib
import json
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Num

from icl_jax.models.importers.families import FAMILIES, Family
from icl_jax.models.importers.fields import Fields
from icl_jax.models.importers.language import Imported
from icl_jax.names import few

CONFIG, ONE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth")


def read_directory(where: pathlib.Path, dtype: str) -> Imported:
    """Returns the language model in a directory. See `language.read_language_model`."""
    fields = _json(where / CONFIG)
    kind = str(fields.get("model_type"))
    if kind not in FAMILIES:
        raise ValueError(f"{where / CONFIG}: model_type {kind!r} is none that can be read: {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    about = family.read(Fields(where / CONFIG, fields))
    arrays = Arrays(where, family, np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype))
    params = family.params(about, arrays.get)
    arrays.check_all_read(about.model.tied)
    files = [path.name for path in arrays.files]
    source = {"format": "safetensors", "files": files, "name": fields.get("_name_or_path", "") or where.name}
    model = dataclasses.replace(about.model, dtype=dtype)
    return Imported(
        about.family, model, about.options, about.vocab_size, about.num_positions, params, _tokenizer(where), source
    )


class Arrays:
    """The arrays of a directory, by the name that a family gives them; each is read when it is asked for."""

    def __init__(self, where: pathlib.Path, family: Family, dtype: np.dtype):
        self.where, self.family, self.dtype = where, family, dtype
        self.files = _files(where)
        self.opened = [_opened(path) for path in self.files]
        self.names = {self._plain(name): (i, name) for i, file in enumerate(self.opened) for name in list(file.keys())}
        self.read: set[str] = set()

    def _plain(self, name: str) -> str:
        """A name without the prefix that only some files have."""
        return next((name.removeprefix(p) for p in self.family.prefixes if name.startswith(p)), name)

    def get(self, name: str) -> Num[np.ndarray, "..."]:
        """Returns an array. ValueError where no file has it."""
        if name not in self.names:
            raise ValueError(
                f"{self.where}: no file has {name!r} ({few(f.name for f in self.files)} hold {len(self.names)})"
            )
        index, full = self.names[name]
        self.read.add(name)
        try:
            return self.opened[index].get_tensor(full).astype(self.dtype)
        except Exception as error:  # of a kind of its own
            raise ValueError(f"{self.files[index]} is damaged at {full!r} ({error}); get it anew") from None

    def check_all_read(self, tied: bool) -> None:
        """Raises ValueError for parameters that the network has no place for. tied: the head's are the table's."""
        heads = ("lm_head.weight", "embed_out.weight") if tied else ()
        left = [n for n in self.names if n not in self.read and not n.endswith(self.family.ignored) and n not in heads]
        if left:
            raise ValueError(f"{self.where}: the network has no place for {few(sorted(left))}; is this another model?")


def _files(where: pathlib.Path) -> list[pathlib.Path]:
    if (where / INDEX).is_file():
        names = sorted(set(_json(where / INDEX).get("weight_map", {}).values()))
        if missing := [name for name in names if not (where / name).is_file()]:
            raise ValueError(f"{where}: {few(missing)} missing, which {INDEX} names; get the whole directory")
        return [where / name for name in names]
    if (where / ONE).is_file():
        return [where / ONE]
    if pickles := [name for name in _PICKLES if (where / name).is_file()]:
        raise ValueError(
            f"{where} has its weights in {pickles[0]}, a pickle, which can run any code and is not read; convert it to "
            "safetensors (transformers: save_pretrained(DIR))"
        )
    raise ValueError(f"{where}: no {ONE} and no {INDEX}; get the weights as safetensors")


def _opened(path: pathlib.Path) -> Any:
    try:
        safetensors = importlib.import_module("safetensors")
    except ModuleNotFoundError:
        raise ValueError("weights are read by package safetensors: pip install 'icl_jax[lm]'") from None
    try:
        return safetensors.safe_open(path, "np")
    except Exception as error:  # of a kind of its own
        raise ValueError(f"{path} is damaged or cut off ({error}); get it anew") from None


def _json(path: pathlib.Path) -> dict:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing; a model's directory has config.json, safetensors and tokenizer.json"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); get it anew") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object; get it anew")
    return found


def _tokenizer(where: pathlib.Path) -> dict[str, Any]:
    if (where / "tokenizer.json").is_file():
        return {"kind": "json", "text": (where / "tokenizer.json").read_text("utf-8")}
    if (where / "vocab.json").is_file() and (where / "merges.txt").is_file():
        merges = (where / "merges.txt").read_text("utf-8").splitlines()
        return {"kind": "bpe", "vocab": _json(where / "vocab.json"), "merges": merges}
    return {}
