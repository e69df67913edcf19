"""Tiny language models that were imported: goldens with a tokenizer of letters."""

import json
import pathlib
import shutil
import warnings

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from icl_jax.runs.imported import import_language_model

GOLDEN = pathlib.Path(__file__).parent / "golden" / "language"


def byte_tokenizer(directory: pathlib.Path, tokens: int = 61) -> None:
    """A tokenizer.json of single bytes, as far as they go."""
    letters = ["Ċ", "Ġ", ":", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,-!?;"]
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters[:tokens])}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.save(str(directory / "tokenizer.json"))


def imported_gpt2(directory: pathlib.Path):
    """Returns the run of the golden GPT-2, of 24 positions, made in directory / "run" out of directory / "gpt2"."""
    shutil.copytree(GOLDEN / "gpt2", directory / "gpt2")
    return _imported(directory / "gpt2")


def imported_llama(directory: pathlib.Path):
    """Returns the run of the golden Llama, which may read 400 tokens here."""
    shutil.copytree(GOLDEN / "llama", directory / "llama")
    config = json.loads((GOLDEN / "llama" / "config.json").read_text()) | {"max_position_embeddings": 400}
    (directory / "llama" / "config.json").write_text(json.dumps(config))
    return _imported(directory / "llama")


def _imported(source: pathlib.Path):
    byte_tokenizer(source)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "of a plain text the model says less than chance")
        return import_language_model(source, source.parent / "run")
