"""Language models: read as their libraries have them, and equal to them."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from letters import byte_tokenizer, imported_gpt2
from tiny import pairs_model

import icl_jax
from icl_jax.data.text.tokens import tokens_of
from icl_jax.inputs import ItemShape, Roles, TextFacts, Tokens
from icl_jax.models.build import Model
from icl_jax.models.cache import Cache
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


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The golden GPT-2 as a run, with a tokenizer of letters."""
    return imported_gpt2(tmp_path_factory.mktemp("hf"))


def test_an_imported_model_is_a_run(imported, families):
    expected = families["gpt2"][3]
    run = icl_jax.load_run(imported.directory)
    assert run.step == 0 and len(run.members) == 1 and not jax.tree.leaves(run.variables()["params"])
    batch = run.tokens(["ab", "a longer text"])
    assert batch.inputs.ids.shape == (2, 13) and batch.inputs.length.tolist() == [2, 13]
    output = run.apply(batch, record=("attn_probs",), patches={"cut": {"site": "resid", "mode": "add", "value": 1.0}})
    assert output.changed["cut"] == 1 and output.taps["attn_probs"].shape == (3, 2, 4, 13, 13)
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
    text["model"]["vocab"] |= {"zz": 61, "yy": 62}
    (tmp_path / "large" / "tokenizer.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="the tokenizer has 63 tokens, the weights 61"):
        import_language_model(tmp_path / "large", tmp_path / "out")
    assert not (tmp_path / "out").exists() and config["vocab_size"] == 61


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
