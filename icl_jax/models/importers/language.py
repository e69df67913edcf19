"""Language models of other libraries: their weights and architecture as ours, out of files that lie on this machine.

A Hugging Face directory (config.json, safetensors, tokenizer.json) or a GGUF file. Nothing is fetched, no pickle is
read. `families` says which architectures there are.
"""

import dataclasses
import pathlib
from typing import Any

from icl_jax.spec import ModelSpec

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, eq=False)
class Imported:
    """A language model. model, options (role -> option -> value): the network it is; params: nested dict of numpy
    arrays, as `models.build.Model` has them; num_positions: tokens that it can read, 0 for any number; tokenizer: what
    `data.text.tokenizers.tokenizer_json` makes a tokenizer of, {} for none; source: of what it was made, for a record.
    """

    family: str
    model: ModelSpec
    options: dict[str, dict[str, Any]]
    vocab_size: int
    num_positions: int
    params: dict
    tokenizer: dict[str, Any]
    source: dict[str, Any]


def read_language_model(path: str | pathlib.Path, dtype: str = "float32") -> Imported:
    """Returns the language model in a directory of Hugging Face's, in a GGUF file, or in the one GGUF file that an
    installed package of this name ships.

    dtype: of weights and computation. ValueError for what is missing, damaged, or not understood.
    """
    from icl_jax.models.importers import gguf_file, huggingface

    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}: use {' or '.join(DTYPES)}")
    where = pathlib.Path(path).expanduser()
    if where.is_dir():
        return huggingface.read_directory(where, dtype)
    return gguf_file.read_gguf(where if where.is_file() else gguf_file.find_gguf(str(path)), dtype)
