"""What the families of decoders say of themselves: their configs, and the names of their tensors.

GPT-2, GPT-J, GPT-NeoX (Pythia) and Llama (SmolLM2, TinyLlama, ...), as Hugging Face's config.json and safetensors
name things. `read_config` turns a config into a `Decoder`, in which every default is filled in; `parts` says which
tensors make one of our leaves.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from icl_jax.spec import ModelSpec

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu": "gelu"}
GATES = {"silu": "swiglu", "swish": "swiglu"}
BASE = 10000.0  # of rotary positions, where a config says nothing


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A decoder of a supported family, with nothing left to a default.

    head_bias: of an output layer that is not tied. rotary_dims: components of a head that turn (learned positions:
    head_width, unused). biases: "all", "none" or "mlp", of the attention and the MLPs.
    """

    family: str
    num_layers: int
    width: int
    num_heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    vocab_size: int
    num_positions: int
    norm_eps: float
    rotary_dims: int
    tied: bool
    positions: str = "rotary"
    norm_kind: str = "layer"
    mlp_kind: str = "gelu_tanh"
    blocks: str = "sequential"
    rotary_base: float = BASE
    rotary_pairs: str = "halves"
    biases: str = "all"
    head_bias: bool = False

    def spec(self, dtype: str) -> ModelSpec:
        """Returns the spec of a network that computes in dtype."""
        return ModelSpec(
            core="transformer",
            num_layers=self.num_layers,
            width=self.width,
            num_heads=self.num_heads,
            norm="pre",
            positions=self.positions,
            readout="linear",
            tied=self.tied,
            dtype=dtype,
        )

    def options(self) -> dict[str, dict[str, Any]]:
        """Returns the options of core, head and front end: of the first two only those that are not our default."""
        usual = {
            "norm_kind": "layer",
            "norm_eps": 1e-5,
            "mlp_kind": "gelu_tanh",
            "mlp_width": ModelSpec().mlp_ratio * self.width,
            "kv_heads": self.num_heads,
            "head_width": self.width // self.num_heads,
            "blocks": "sequential",
            "rotary_dims": self.head_width,
            "rotary_base": BASE,
            "rotary_pairs": "halves",
            "biases": "all",
        }
        core = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        head = {} if self.tied or self.head_bias else {"bias": False}
        return {"core": core, "head": head, "frontend": {"num_positions": self.num_positions}}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each of our leaves, by path; leaves of layers have the layer in front."""
        heads, queries = self.num_heads + 2 * self.kv_heads, self.num_heads * self.head_width
        attention, mlp = self.biases == "all", self.biases != "none"
        found = {"embedder/table": (self.vocab_size, self.width)}
        if self.positions == "learned":
            found["embedder/positions"] = (self.num_positions, self.width)
        layer = self._norm("norm_attention")
        if self.blocks != "parallel_one_norm":
            layer |= self._norm("norm_mlp")
        layer |= _dense("attention/qkv", self.width, heads * self.head_width, attention)
        layer |= _dense("attention/out", queries, self.width, attention)
        layer |= _dense("mlp/hidden", self.width, self.mlp_width, mlp)
        if self.mlp_kind == "swiglu":
            layer |= _dense("mlp/gate", self.width, self.mlp_width, mlp)
        layer |= _dense("mlp/out", self.mlp_width, self.width, mlp)
        found |= {f"core/layers/{path}": (self.num_layers, *shape) for path, shape in layer.items()}
        found |= self._norm("core/norm")
        return found if self.tied else found | _dense("readout/out", self.width, self.vocab_size, self.head_bias)

    def _norm(self, path: str) -> dict[str, tuple[int, ...]]:
        leaves = ("scale",) if self.norm_kind == "rms" else ("scale", "bias")
        return {f"{path}/{leaf}": (self.width,) for leaf in leaves}


def _dense(path: str, inputs: int, outputs: int, bias: bool) -> dict[str, tuple[int, ...]]:
    kernel = {f"{path}/kernel": (inputs, outputs)}
    return kernel | {f"{path}/bias": (outputs,)} if bias else kernel


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a directory or a file holds, in the words of its family as Hugging Face writes it.

    shapes: of the tensors, by name without prefix. read: one of them, of any float type. called: the name of a tensor
    in the file, for messages. tokenizer, source: as in `language.Imported`.
    """

    config: dict
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Shaped[np.ndarray, "..."]]
    called: Callable[[str], str]
    tokenizer: dict
    source: dict


@dataclasses.dataclass(frozen=True)
class Family:
    """How a family is read.

    read: from a config to a Decoder. only: the values that fields of the config may have, the first where it says
    nothing. modules: of the tensors that make one of our modules, side by side; {} is the layer. prefix: what names
    may begin with. ignored: tensors that hold no parameters. transposed: kernels are (outputs, inputs).
    """

    read: Callable[[dict], Decoder]
    only: dict[str, tuple]
    modules: dict[str, tuple[str, ...]]
    prefix: str
    ignored: str
    transposed: bool = True


def family_of(config: dict) -> str:
    """Returns the model_type of a config; ValueError where it is not supported."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise ValueError(f"model_type {name!r} is not supported; these are: {', '.join(FAMILIES)}")
    return name


def read_config(config: dict) -> Decoder:
    """Returns what a config (that of a Hugging Face directory, as a dict) says.

    Raises ValueError for a model_type that is not supported, and naming fields that are missing, out of range or ask
    for what we do not have.
    """
    name = family_of(config)
    for field, allowed in {**FAMILIES[name].only, "quantization_config": (None,)}.items():
        value = config.get(field, allowed[0])
        if value not in allowed:
            raise ValueError(
                f"{name}: {field} {value!r} is not supported; only {' or '.join(map(repr, dict.fromkeys(allowed)))}"
            )
    decoder = FAMILIES[name].read(config)
    _check_sizes(decoder)
    return decoder


def parts(decoder: Decoder, path: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (name, shape) of the tensors that make one of our leaves side by side, as the family stores them.

    path: one of decoder.shapes(). {} in a name is the layer, and the shapes are those of one layer.
    """
    family, (module, leaf) = FAMILIES[decoder.family], path.rsplit("/", 1)
    module = path if leaf in ("table", "positions") else module
    shape = decoder.shapes()[path][1 if "layers" in path else 0 :]
    names = [f"{name}.{'bias' if leaf == 'bias' else 'weight'}" for name in family.modules[module]]
    queries, keys = decoder.num_heads * decoder.head_width, decoder.kv_heads * decoder.head_width
    outputs = [queries, keys, keys] if len(names) == 3 else [shape[-1]]
    shapes = [(*shape[:-1], n) for n in outputs]
    return list(zip(names, [s[::-1] for s in shapes] if is_transposed(decoder, path) else shapes, strict=True))


def is_transposed(decoder: Decoder, path: str) -> bool:
    """Returns whether the family stores a leaf of ours with outputs before inputs."""
    return path.endswith("/kernel") and (FAMILIES[decoder.family].transposed or path.startswith("readout"))


def is_interleaved(decoder: Decoder, path: str) -> bool:
    """Returns whether the family stores a leaf of ours as (head, query / key / value, component)."""
    return decoder.family == "gpt_neox" and "/attention/qkv/" in path


def plain_name(family: str, name: str) -> str | None:
    """Returns a tensor's name without the prefix that it may have; None for one that holds no parameters."""
    name = name.removeprefix(FAMILIES[family].prefix)
    return None if re.fullmatch(FAMILIES[family].ignored, name) else name


def tied_copies(decoder: Decoder) -> tuple[str, str]:
    """Returns the names of the output layer's tensor, which a tied model may store too, and of the one it equals."""
    modules = FAMILIES[decoder.family].modules
    return f"{modules['readout/out'][0]}.weight", f"{modules['embedder/table'][0]}.weight"


def _gpt2(config: dict) -> Decoder:
    width, num_heads = _size(config, "n_embd"), _size(config, "n_head")
    return Decoder(
        family="gpt2",
        num_layers=_size(config, "n_layer"),
        width=width,
        num_heads=num_heads,
        kv_heads=num_heads,
        head_width=width // num_heads,
        mlp_width=_size(config, "n_inner", 4 * width),
        vocab_size=_size(config, "vocab_size"),
        num_positions=_size(config, "n_positions"),
        norm_eps=_number(config, "layer_norm_epsilon", 1e-5),
        rotary_dims=width // num_heads,
        tied=config.get("tie_word_embeddings", True),
        positions="learned",
        mlp_kind=ACTIVATIONS[config.get("activation_function", "gelu_new")],
    )


def _gptj(config: dict) -> Decoder:
    return dataclasses.replace(
        _gpt2(config),
        family="gptj",
        rotary_dims=_size(config, "rotary_dim"),
        tied=False,
        positions="rotary",
        blocks="parallel_one_norm",
        rotary_pairs="neighbours",
        biases="mlp",
        head_bias=True,
    )


def _gpt_neox(config: dict) -> Decoder:
    width, num_heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    rope = _rope(config)
    share = _number(rope, "partial_rotary_factor", _number(config, "rotary_pct", 0.25))
    return Decoder(
        family="gpt_neox",
        num_layers=_size(config, "num_hidden_layers"),
        width=width,
        num_heads=num_heads,
        kv_heads=num_heads,
        head_width=width // num_heads,
        mlp_width=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        num_positions=_size(config, "max_position_embeddings"),
        norm_eps=_number(config, "layer_norm_eps", 1e-5),
        rotary_dims=int(share * (width // num_heads) + 1e-6),  # rounded down, but not 5.9999
        tied=config.get("tie_word_embeddings", False),
        mlp_kind=ACTIVATIONS[config.get("hidden_act", "gelu")],
        blocks="parallel" if config.get("use_parallel_residual", True) else "sequential",
        rotary_base=_rotary_base(config, rope),
    )


def _llama(config: dict) -> Decoder:
    width, num_heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    rope, head_width = _rope(config), _size(config, "head_dim", width // num_heads)
    if (share := rope.get("partial_rotary_factor", 1.0)) != 1:
        raise ValueError(f"llama: rope_parameters.partial_rotary_factor {share!r} is not supported; only 1.0")
    return Decoder(
        family="llama",
        num_layers=_size(config, "num_hidden_layers"),
        width=width,
        num_heads=num_heads,
        kv_heads=_size(config, "num_key_value_heads", num_heads),
        head_width=head_width,
        mlp_width=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        num_positions=_size(config, "max_position_embeddings"),
        norm_eps=_number(config, "rms_norm_eps", 1e-6),
        rotary_dims=head_width,
        tied=config.get("tie_word_embeddings", False),
        norm_kind="rms",
        mlp_kind=GATES[config.get("hidden_act", "silu")],
        rotary_base=_rotary_base(config, rope),
        biases="none",
    )


def _size(config: dict, field: str, default: int | None = None) -> int:
    """A whole number from 1; the default where the config has none, or null."""
    value = config.get(field)
    value = default if value is None else value
    if value is None:
        raise ValueError(
            f"{config['model_type']}: the config has no {field}; is this the config.json of a whole model?"
        )
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{config['model_type']}: {field} {value!r} is no whole number from 1")
    return value


def _number(config: dict, field: str, default: float) -> float:
    value = config.get(field, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{field} {value!r} of the config is no number above 0")
    return float(value)


def _rope(config: dict) -> dict:
    """What a config says of rotary positions: `rope_parameters` of transformers 5, `rope_scaling` before."""
    field = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    rope = config.get(field) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(
            f"{config['model_type']}: {field} {rope!r} is not supported; only rotary positions of type 'default', the "
            "same in all layers"
        )
    return rope


def _rotary_base(config: dict, rope: dict) -> float:
    older = "rope_theta" if "rope_theta" in config else "rotary_emb_base"
    return _number(rope, "rope_theta", _number(config, older, BASE))


def _check_sizes(d: Decoder) -> None:
    """Raises ValueError for sizes that do not fit each other."""
    if d.width % d.num_heads:
        raise ValueError(f"{d.family}: {d.num_heads} heads do not divide the width {d.width}")
    if d.num_heads % d.kv_heads:
        raise ValueError(f"{d.family}: num_key_value_heads {d.kv_heads} does not divide the {d.num_heads} heads")
    if d.positions == "rotary" and not (2 <= d.rotary_dims <= d.head_width and d.rotary_dims % 2 == 0):
        raise ValueError(
            f"{d.family}: rotary positions in {d.rotary_dims} components of a head; it must be an even number from 2 "
            f"to the head's width, {d.head_width}"
        )


FAMILIES = {
    "gpt2": Family(
        read=_gpt2,
        only={
            "activation_function": tuple(ACTIVATIONS),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "tie_word_embeddings": (True, False),
        },
        modules={
            "embedder/table": ("wte",),
            "embedder/positions": ("wpe",),
            "core/layers/norm_attention": ("h.{}.ln_1",),
            "core/layers/attention/qkv": ("h.{}.attn.c_attn",),
            "core/layers/attention/out": ("h.{}.attn.c_proj",),
            "core/layers/norm_mlp": ("h.{}.ln_2",),
            "core/layers/mlp/hidden": ("h.{}.mlp.c_fc",),
            "core/layers/mlp/out": ("h.{}.mlp.c_proj",),
            "core/norm": ("ln_f",),
            "readout/out": ("lm_head",),
        },
        prefix="transformer.",
        ignored=r"h\.\d+\.attn\.(bias|masked_bias)",
        transposed=False,
    ),
    "gptj": Family(
        read=_gptj,
        only={"activation_function": tuple(ACTIVATIONS), "tie_word_embeddings": (False,)},
        modules={
            "embedder/table": ("wte",),
            "core/layers/norm_attention": ("h.{}.ln_1",),
            "core/layers/attention/qkv": ("h.{}.attn.q_proj", "h.{}.attn.k_proj", "h.{}.attn.v_proj"),
            "core/layers/attention/out": ("h.{}.attn.out_proj",),
            "core/layers/mlp/hidden": ("h.{}.mlp.fc_in",),
            "core/layers/mlp/out": ("h.{}.mlp.fc_out",),
            "core/norm": ("ln_f",),
            "readout/out": ("lm_head",),
        },
        prefix="transformer.",
        ignored=r"h\.\d+\.attn\.(bias|masked_bias|embed_positions)",
    ),
    "gpt_neox": Family(
        read=_gpt_neox,
        only={
            "hidden_act": ("gelu", *ACTIVATIONS),
            "attention_bias": (True,),
            "use_parallel_residual": (True, False),
            "tie_word_embeddings": (False, True),
        },
        modules={
            "embedder/table": ("embed_in",),
            "core/layers/norm_attention": ("layers.{}.input_layernorm",),
            "core/layers/attention/qkv": ("layers.{}.attention.query_key_value",),
            "core/layers/attention/out": ("layers.{}.attention.dense",),
            "core/layers/norm_mlp": ("layers.{}.post_attention_layernorm",),
            "core/layers/mlp/hidden": ("layers.{}.mlp.dense_h_to_4h",),
            "core/layers/mlp/out": ("layers.{}.mlp.dense_4h_to_h",),
            "core/norm": ("final_layer_norm",),
            "readout/out": ("embed_out",),
        },
        prefix="gpt_neox.",
        ignored=r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",
    ),
    "llama": Family(
        read=_llama,
        only={
            "hidden_act": tuple(GATES),
            "attention_bias": (False, None),
            "mlp_bias": (False, None),
            "sliding_window": (None,),
            "tie_word_embeddings": (False, True),
        },
        modules={
            "embedder/table": ("embed_tokens",),
            "core/layers/norm_attention": ("layers.{}.input_layernorm",),
            "core/layers/attention/qkv": tuple(f"layers.{{}}.self_attn.{x}_proj" for x in "qkv"),
            "core/layers/attention/out": ("layers.{}.self_attn.o_proj",),
            "core/layers/norm_mlp": ("layers.{}.post_attention_layernorm",),
            "core/layers/mlp/hidden": ("layers.{}.mlp.up_proj",),
            "core/layers/mlp/gate": ("layers.{}.mlp.gate_proj",),
            "core/layers/mlp/out": ("layers.{}.mlp.down_proj",),
            "core/norm": ("norm",),
            "readout/out": ("lm_head",),
        },
        prefix="model.",
        ignored=r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    ),
}
