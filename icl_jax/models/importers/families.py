"""The families of language models: what their configs say, and where their parameters are called what.

Each family gives, for its own names of parameters, our tree (`Layout`): a leaf is a function of `get`, which returns
the array of a name; layers are stacked in front. Kernels are (inputs, outputs): `transposed` where a file has them the
other way round.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Num

from icl_jax.models.importers.fields import Fields
from icl_jax.spec import ModelSpec

Get = Callable[[str], Num[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network: options by role as `Imported` has them; num_positions: tokens that it can read."""

    family: str
    model: ModelSpec
    options: dict[str, dict[str, Any]]
    vocab_size: int
    num_positions: int

    @property
    def head_width(self) -> int:
        """Components of a head."""
        return self.options["core"].get("head_width", 0) or self.model.width // self.model.num_heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and of values."""
        return self.options["core"].get("kv_heads", 0) or self.model.num_heads


@dataclasses.dataclass(frozen=True)
class Family:
    """read: fields of its config.json -> Architecture; params: (architecture, get) -> the tree; prefixes: with which
    names of parameters may begin; ignored: ends of names of buffers that are no parameters."""

    read: Callable[[Fields], Architecture]
    params: Callable[[Architecture, Get], dict]
    prefixes: tuple[str, ...]
    ignored: tuple[str, ...] = ()


def stacked(num_layers: int, of_layer: Callable[[int], dict]) -> dict:
    """Returns the trees of all layers as one, leaves stacked in front, without holding each layer twice for long."""
    import jax

    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(of_layer, range(num_layers)))


def _dense(get: Get, name: str, bias: bool = True, transposed: bool = True) -> dict:
    kernel = get(f"{name}.weight")
    return {"kernel": kernel.T if transposed else kernel, **({"bias": get(f"{name}.bias")} if bias else {})}


def _norm(get: Get, name: str, bias: bool = True) -> dict:
    return {"scale": get(f"{name}.weight"), **({"bias": get(f"{name}.bias")} if bias else {})}


def _side_by_side(denses: list[dict]) -> dict:
    return {leaf: np.concatenate([dense[leaf] for dense in denses], axis=-1) for leaf in denses[0]}


def _gpt2(config: Fields) -> Architecture:
    config.expect(
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        reorder_and_upcast_attn=False,
        add_cross_attention=False,
    )
    act = config.choose(
        "activation_function", {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
    )
    width, positions = config.whole("n_embd"), config.whole("n_positions")
    model = ModelSpec(
        num_layers=config.whole("n_layer"),
        width=width,
        num_heads=config.whole("n_head"),
        positions="learned",
        tied=config.get("tie_word_embeddings", True),
    )
    core = {"norm_eps": config.number("layer_norm_epsilon", 1e-5), "mlp_kind": act}
    core |= {"mlp_width": inner} if (inner := config.get("n_inner", None)) else {}
    return _architecture("gpt2", config, model, core, positions, {"bias": False})


def _gpt2_params(about: Architecture, get: Get) -> dict:
    layer = lambda i: {
        "norm_attention": _norm(get, f"h.{i}.ln_1"),
        "attention": {
            "qkv": _dense(get, f"h.{i}.attn.c_attn", transposed=False),
            "out": _dense(get, f"h.{i}.attn.c_proj", transposed=False),
        },
        "norm_mlp": _norm(get, f"h.{i}.ln_2"),
        "mlp": {
            "hidden": _dense(get, f"h.{i}.mlp.c_fc", transposed=False),
            "out": _dense(get, f"h.{i}.mlp.c_proj", transposed=False),
        },
    }
    embedder = {"table": get("wte.weight"), "positions": get("wpe.weight")}
    return _tree(about, get, embedder, layer, _norm(get, "ln_f"))


def _gptj(config: Fields) -> Architecture:
    act = config.choose(
        "activation_function", {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
    )
    width, heads = config.whole("n_embd"), config.whole("n_head")
    model = ModelSpec(
        num_layers=config.whole("n_layer"),
        width=width,
        num_heads=heads,
        positions="rotary",
        tied=config.get("tie_word_embeddings", False),
    )
    core = {
        "norm_eps": config.number("layer_norm_epsilon", 1e-5),
        "mlp_kind": act,
        "blocks": "parallel_one_norm",
        "biases": "mlp",
        "rotary_pairs": "neighbours",
        "rotary_dims": config.get("rotary_dim", None) or width // heads,
        **({"mlp_width": inner} if (inner := config.get("n_inner", None)) else {}),
    }
    return _architecture("gptj", config, model, core, config.whole("n_positions"), {"bias": True})


def _gptj_params(about: Architecture, get: Get) -> dict:
    layer = lambda i: {
        "norm_attention": _norm(get, f"h.{i}.ln_1"),
        "attention": {
            "qkv": _side_by_side([_dense(get, f"h.{i}.attn.{x}_proj", bias=False) for x in "qkv"]),
            "out": _dense(get, f"h.{i}.attn.out_proj", bias=False),
        },
        "mlp": {"hidden": _dense(get, f"h.{i}.mlp.fc_in"), "out": _dense(get, f"h.{i}.mlp.fc_out")},
    }
    return _tree(about, get, {"table": get("wte.weight")}, layer, _norm(get, "ln_f"))


def _neox(config: Fields) -> Architecture:
    config.expect(attention_bias=True)
    act = config.choose("hidden_act", {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"})
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    model = ModelSpec(
        num_layers=config.whole("num_hidden_layers"),
        width=width,
        num_heads=heads,
        positions="rotary",
        tied=config.get("tie_word_embeddings", False),
    )
    rotary = config.rotary("rotary_emb_base")
    share = rotary.get("partial_rotary_factor", config.get("rotary_pct", 0.25))
    core = {
        "norm_eps": config.number("layer_norm_eps", 1e-5),
        "mlp_kind": act,
        "mlp_width": config.whole("intermediate_size"),
        "blocks": "parallel" if config.get("use_parallel_residual", True) else "sequential",
        "rotary_dims": int(width // heads * share),
        "rotary_base": float(rotary["rope_theta"]),
    }
    return _architecture("gpt_neox", config, model, core, config.whole("max_position_embeddings"), {"bias": False})


def _neox_params(about: Architecture, get: Get) -> dict:
    heads, head = about.model.num_heads, about.head_width

    def qkv(i: int) -> dict:
        """Queries, keys and values lie side by side within each head there."""
        dense = _dense(get, f"layers.{i}.attention.query_key_value")
        split = lambda x: x.reshape(*x.shape[:-1], heads, 3, head).swapaxes(-3, -2).reshape(*x.shape[:-1], -1)
        return {leaf: split(x) for leaf, x in dense.items()}

    layer = lambda i: {
        "norm_attention": _norm(get, f"layers.{i}.input_layernorm"),
        "attention": {"qkv": qkv(i), "out": _dense(get, f"layers.{i}.attention.dense")},
        "norm_mlp": _norm(get, f"layers.{i}.post_attention_layernorm"),
        "mlp": {
            "hidden": _dense(get, f"layers.{i}.mlp.dense_h_to_4h"),
            "out": _dense(get, f"layers.{i}.mlp.dense_4h_to_h"),
        },
    }
    return _tree(about, get, {"table": get("embed_in.weight")}, layer, _norm(get, "final_layer_norm"), "embed_out")


def _llama(config: Fields) -> Architecture:
    config.expect(attention_bias=False, mlp_bias=False, hidden_act="silu")
    heads = config.whole("num_attention_heads")
    model = ModelSpec(
        num_layers=config.whole("num_hidden_layers"),
        width=config.whole("hidden_size"),
        num_heads=heads,
        positions="rotary",
        tied=config.get("tie_word_embeddings", False),
    )
    kv_heads = config.get("num_key_value_heads", None) or heads
    head = config.get("head_dim", None) or model.width // heads
    core = {
        "norm_kind": "rms",
        "norm_eps": config.number("rms_norm_eps", 1e-6),
        "mlp_kind": "swiglu",
        "mlp_width": config.whole("intermediate_size"),
        "biases": "none",
        "rotary_base": float(config.rotary("rope_theta")["rope_theta"]),
        **({"kv_heads": kv_heads} if kv_heads != heads else {}),
        **({"head_width": head} if head * heads != model.width else {}),
    }
    return _architecture("llama", config, model, core, config.whole("max_position_embeddings"), {"bias": False})


def _llama_params(about: Architecture, get: Get) -> dict:
    dense = lambda i, name: _dense(get, f"layers.{i}.{name}_proj", bias=False)
    layer = lambda i: {
        "norm_attention": _norm(get, f"layers.{i}.input_layernorm", bias=False),
        "attention": {
            "qkv": _side_by_side([dense(i, f"self_attn.{x}") for x in "qkv"]),
            "out": dense(i, "self_attn.o"),
        },
        "norm_mlp": _norm(get, f"layers.{i}.post_attention_layernorm", bias=False),
        "mlp": {"hidden": dense(i, "mlp.up"), "gate": dense(i, "mlp.gate"), "out": dense(i, "mlp.down")},
    }
    return _tree(about, get, {"table": get("embed_tokens.weight")}, layer, _norm(get, "norm", bias=False))


def _architecture(
    family: str, config: Fields, model: ModelSpec, core: dict[str, Any], positions: int, head: dict[str, Any]
) -> Architecture:
    plain = {"norm_eps": 1e-5, "mlp_kind": "gelu_tanh", "blocks": "sequential", "rotary_base": 10_000.0}
    options: dict[str, dict[str, Any]] = {
        "core": {name: value for name, value in core.items() if plain.get(name) != value},
        "frontend": {"num_positions": positions},
    }
    if not model.tied and not head["bias"]:
        options["head"] = head
    options = {role: own for role, own in options.items() if own}
    options.setdefault("core", {})
    return Architecture(family, model, options, config.whole("vocab_size"), positions)


def _tree(
    about: Architecture, get: Get, embedder: dict, layer: Callable[[int], dict], norm: dict, head: str = "lm_head"
) -> dict:
    tree = {"embedder": embedder, "core": {"layers": stacked(about.model.num_layers, layer), "norm": norm}}
    if about.model.tied:
        return tree
    has_bias = about.options.get("head", {}).get("bias", True)
    return {**tree, "readout": {"out": _dense(get, head, bias=has_bias)}}


_BUFFERS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
FAMILIES: Mapping[str, Family] = {
    "gpt2": Family(_gpt2, _gpt2_params, ("transformer.",), _BUFFERS),
    "gptj": Family(_gptj, _gptj_params, ("transformer.",), _BUFFERS),
    "gpt_neox": Family(_neox, _neox_params, ("gpt_neox.",), _BUFFERS),
    "llama": Family(_llama, _llama_params, ("model.",), _BUFFERS),
}
