"""Dissection: the arithmetic of the authors' code, and laws of what is cut, weighed and left out."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from tiny import tiny_config

import icl_jax
from icl_jax.cli import main
from icl_jax.dissect.auc import auc, multiclass_auc, pairwise_auc
from icl_jax.dissect.cases import Cases, ExemplarQuestions, Tokenised
from icl_jax.dissect.compress import _cut
from icl_jax.dissect.declared import TEXT_OPTIONS
from icl_jax.dissect.diagnose import key_distances, rank_correlation
from icl_jax.dissect.edges import jaccard, log_odds, windows_of
from icl_jax.dissect.flow import attention_times_gradient, mean_over
from icl_jax.dissect.keeping import slots
from icl_jax.dissect.means import mean_and_error
from icl_jax.dissect.reading import read
from icl_jax.dissect.readout import calibrated
from icl_jax.dissect.reweight import Reweight
from icl_jax.dissect.roles import Marked, edges_of, marked, random_edges
from icl_jax.dissect.training import best_bias, cross_entropy, train_on
from icl_jax.inputs import TEXT_SETS, ItemShape, PairFacts, Pairs, Roles, TextFacts, Tokens
from icl_jax.models.build import Model
from icl_jax.models.cache import Cache
from icl_jax.models.frontends.layout import token_layout
from icl_jax.models.importers.language import read_language_model
from icl_jax.models.taps import Patch
from icl_jax.registry import find
from icl_jax.runs.dissection import _tokens
from icl_jax.spec import ModelSpec, SuiteSpec
from icl_jax.training.protocols import EvalContext

# Each has a length, and so programs, of its own: CI looks at those that are marked too.
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("prompt_2", "prompt_4")]
PROMPTS = ("prompt_0", "extra_2shot_0", *MORE)
ONE_SHOT = ("prompt_0", *MORE)
NOTHING = EvalContext(None, None, None, {}, (), {})


def cases_of(ids, class_pos, answers, gold) -> Cases:
    """Prompts of the goldens, (B, T), as cases. class_pos: (C, k), where the labels of each class are."""
    count, tokens = ids.shape
    classes = np.full((count, tokens), -1, np.int32)
    for own, places in zip(range(len(class_pos)), class_pos, strict=True):
        classes[:, places] = own
    none = np.zeros((count, tokens), bool)
    sets = dict.fromkeys(TEXT_SETS, none) | {"label": classes >= 0, "query": none | (np.arange(tokens) == tokens - 1)}
    sets["first"] = none | (np.arange(tokens) == 0)
    inputs = Tokens(ids, np.full(count, tokens, np.int32), Roles(sets, none.astype(np.int32)))
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), count)))
    answers = np.broadcast_to(answers, (count, len(answers)))
    at = np.full(count, tokens - 1, np.int32)
    return jax.tree.map(
        jnp.asarray, Cases(inputs, classes, ~none, keys, answers.astype(np.int32), np.int32(gold), at, keys)
    )


@pytest.fixture(scope="module")
def gpt2(shared_dir):
    """The goldens' tiny GPT-2: (model, variables)."""
    found = read_language_model(shared_dir / "golden" / "anchors" / "model")
    options = tuple((role, tuple(sorted(own.items()))) for role, own in sorted(found.options.items()))
    return Model(found.model, TextFacts(found.vocab_size), "text", options), jax.tree.map(
        jnp.asarray, {"params": found.params, "stats": {}}
    )


@pytest.fixture(scope="module")
def prompts(shared_dir):
    """Golden prompts by name: (their arrays, the same as cases)."""
    found = {}
    for name in ("prompt_0", "prompt_2", "prompt_4", "extra_2shot_0"):
        golden = dict(np.load(shared_dir / "golden" / "anchors" / f"{name}.npz"))
        places = golden["class_pos"].reshape(len(golden["label_token_ids"]), -1)
        about = (places, golden["label_token_ids"], golden["gold_label"][None])
        found[name] = golden, cases_of(golden["input_ids"][None].astype(np.int32), *about)
    return found


@pytest.mark.parametrize("name", PROMPTS)
def test_saliency_is_the_authors(name, gpt2, prompts):
    model, variables = gpt2
    golden, cases = prompts[name]
    signed = jax.jit(lambda v, c: attention_times_gradient(model, v, c, NOTHING, (4, 4)))(variables, cases)
    np.testing.assert_allclose(signed[:, 0], golden["attn_x_grad"], atol=2e-5)
    saliency = jnp.abs(signed.sum(2))
    np.testing.assert_allclose(saliency[:, 0], golden["saliency"], atol=2e-5)
    tokens = marked(model, cases)
    to_label, to_query = (edges_of(edge, tokens) for edge in ("earlier -> label", "label -> query"))
    rest = tokens.earlier & ~to_label & ~to_query
    for edges, wanted in ((to_label, "S_wp"), (to_query, "S_pq"), (rest, "S_ww")):
        np.testing.assert_allclose(mean_over(edges, saliency)[:, 0], golden[wanted], rtol=1e-4, atol=1e-6)
    assert golden["S_wp"][-1] == 0  # only the question's row reaches the loss there


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("layers", ["first2", "last2"])
def test_isolation_is_the_authors(name, layers, gpt2, prompts):
    model, variables = gpt2
    golden, cases = prompts[name]
    gate = windows_of((layers.replace("2", " 2"),), 4)[layers.replace("2", " 2")]
    tokens = marked(model, cases)
    rows = np.isin(np.arange(cases.valid.shape[1]), golden["rand_iso_pos"])[None]
    other = dataclasses.replace(tokens, roles=Roles({**tokens.roles.sets, "label": rows}, tokens.roles.demonstration))
    for own, wanted in ((tokens, f"iso_{layers}_logits_q"), (other, f"randiso_{layers}_logits_q")):
        mask = edges_of("earlier -> label", own)[:, None]
        patch = Patch("attn_scores", "replace", value=-jnp.inf, mask=mask, layers=jnp.asarray(gate))
        logits, _ = jax.jit(lambda v, c, p: read(model, v, c, NOTHING, patches=(p,)))(variables, cases, patch)
        np.testing.assert_allclose(logits[0], golden[wanted], atol=1e-4)


@pytest.mark.parametrize("name", ONE_SHOT)
def test_reweighting_is_the_authors(name, gpt2, prompts):
    model, variables = gpt2
    golden, cases = prompts[name]
    method = Reweight("reweight", None, None, {}, None, (4, 4), golden["beta"].shape[2], 1, 0.01, "whole context", 1)

    @jax.jit
    def of(beta, cases):
        logits, _ = read(model, variables, cases, NOTHING, patches=(method._patch(beta, cases.classes, cases),))
        return cross_entropy(cases.of_classes(logits)[0], cases.gold[0]), logits[0]

    (loss, logits), grad = jax.value_and_grad(of, has_aux=True)(jnp.asarray(golden["beta"]), cases)
    np.testing.assert_allclose(logits, golden["reweight_logits_q"], atol=1e-4)
    np.testing.assert_allclose(loss, golden["reweight_loss"], atol=1e-5)
    np.testing.assert_allclose(grad, golden["reweight_grad_beta"], atol=2e-5)


def test_training_of_factors_is_the_authors(gpt2, shared_dir):
    model, variables = gpt2
    golden = dict(np.load(shared_dir / "golden" / "anchors" / "reweight_training.npz"))
    longest = int(golden["length"].max())
    cases = cases_of(
        golden["input_ids"][:, :longest].astype(np.int32),
        golden["class_pos"],
        golden["label_token_ids"],
        golden["gold"],
    )
    at = jnp.asarray(golden["length"] - 1, jnp.int32)
    cases = dataclasses.replace(cases, at=at, valid=jnp.arange(longest)[None] <= at[:, None])
    method = Reweight("reweight", None, None, {}, None, (4, 4), 4, 1, 0.01, "whole context", 1)

    def loss(beta, index):
        own = jax.tree.map(lambda x: x[index][None], cases)
        logits, _ = read(model, variables, own, NOTHING, patches=(method._patch(beta, own.classes, own),))
        return cross_entropy(own.of_classes(logits)[0], own.gold[0])

    train = jax.jit(lambda start, order: train_on(loss, start, order, float(golden["lr"])))
    beta, losses = train(jnp.zeros((4, 4, 4)), jnp.asarray(golden["order"], jnp.int32))
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-5)
    np.testing.assert_allclose(beta, golden["betas"][-1], atol=1e-5)


@pytest.mark.parametrize("name", ONE_SHOT)
def test_compression_is_the_authors(name, gpt2, prompts):
    model, variables = gpt2
    golden, cases = prompts[name]
    start, label = int(golden["demo_len"]), np.zeros(len(golden["input_ids"]), bool)
    label[golden["class_pos"].ravel()] = True
    _, whole = jax.jit(lambda v, c: read(model, v, c, NOTHING, record=("k", "v")))(variables, cases)
    keys, values = (whole.taps[site][:, :, :start] for site in ("k", "v"))
    question = cases_of(golden["query_input_ids"][None].astype(np.int32), [[]], [0], [0])
    after = jax.jit(lambda v, c, cache: read(model, v, c, NOTHING, cache=cache)[0])
    for wanted, kept, first in (
        ("hidden_anchor_logits_q", golden["anchor_mask"], start),
        ("hidden_anchor_logits_q_offset0", golden["anchor_mask"], 0),
        ("hidden_labelonly_logits_q", label, start),
        ("hidden_random_logits_q", golden["hidden_random_mask"], start),
    ):
        cache = Cache(keys, values, jnp.asarray(kept[None, :start]), jnp.int32([first]))
        np.testing.assert_allclose(after(variables, question, cache)[0], golden[wanted], atol=1e-4)
        # On grown models the same is done by cutting what the question reads.
    bare = cases_of(golden["text_anchor_input_ids"][None].astype(np.int32), [[]], [0], [0])
    logits, _ = jax.jit(lambda v, c: read(model, v, c, NOTHING))(variables, bare)
    np.testing.assert_allclose(logits[0], golden["text_anchor_logits_q"], atol=1e-4)


def test_scores_are_the_authors(shared_dir):
    golden = dict(np.load(shared_dir / "golden" / "anchors" / "dataset_sst2.npz"))
    score = lambda layer: multiclass_auc(golden["attn_q_to_label"][:, layer], golden["pred_label"])
    found = np.asarray([score(layer) for layer in range(4)])
    np.testing.assert_allclose(found, golden["AUCROC"], atol=1e-9)
    np.testing.assert_allclose((found - 0.5).cumsum() / (found - 0.5).sum(), golden["R"], atol=1e-9)
    classes = golden["label_token_ids"]
    plain = golden["logits_q"]
    for method in ("iso_first2", "iso_last2", "hidden_anchor", "text_anchor"):
        logits = golden[f"{method}_logits_q"]
        same = logits[:, classes].argmax(1) == plain[:, classes].argmax(1)
        assert same.mean() == pytest.approx(float(golden[f"{method}_label_loyalty"]), abs=1e-9)
        for k in (5, 10):
            top = [np.argsort(-x, axis=1, kind="stable")[:, :k] for x in (logits, plain)]
            assert jaccard(*top).mean() == pytest.approx(float(golden[f"{method}_word_loyalty_top{k}"]), abs=1e-9)


def test_areas_under_curves():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=400), rng.random(400) < 0.3
    better = (scores[target][:, None] > scores[~target][None]).mean()
    assert auc(scores, target) == pytest.approx(better)
    assert auc(np.zeros(4), np.array([True, False, False, True])) == 0.5
    assert np.isnan(auc(scores, np.zeros(400, bool)))
    logits, gold = rng.normal(size=(300, 3)), rng.integers(3, size=300)
    found = pairwise_auc(logits, gold)
    np.testing.assert_allclose(pairwise_auc(logits + [5.0, -2.0, 0.0], gold), found)  # an output bias changes nothing
    np.testing.assert_allclose(found, found.T)
    assert np.isnan(multiclass_auc(np.abs(logits), gold, fewest=200))
    sure = softmax(10 * np.eye(3)[gold], axis=1)
    assert multiclass_auc(sure, gold) == 1 and multiclass_auc(np.ones((300, 3)), gold) == 0.5


def test_numbers_of_cases():
    values = np.array([[1.0, 2.0, np.nan, 6.0], [np.nan, np.inf, np.nan, 1.0]])
    mean, error = mean_and_error(values, axis=1)
    np.testing.assert_allclose(mean, [3.0, 1.0])
    np.testing.assert_allclose(error, [np.std([1, 2, 6], ddof=1) / np.sqrt(3), np.nan])
    logits = np.log(np.array([[0.2, 0.5, 0.3]]))
    assert log_odds(logits, np.array([1]))[0] == pytest.approx(np.log(0.5 / 0.5))
    np.testing.assert_allclose(calibrated(np.tile(logits, (4, 1))), 0, atol=1e-12)
    np.testing.assert_allclose(jaccard(np.array([[1, 2, 3]]), np.array([[3, 4, 5]])), [1 / 5])


def test_the_best_bias_makes_classes_as_frequent_as_they_are():
    """At the optimum mean probabilities are the frequencies."""
    rng = np.random.default_rng(1)
    logits, gold = rng.normal(size=(40, 3)) + [0, 6, -3], rng.integers(3, size=40)
    bias = np.asarray(best_bias(jnp.asarray(logits, jnp.float32), jnp.asarray(gold, jnp.int32)))
    np.testing.assert_allclose(softmax(logits + bias, axis=1).mean(0), np.bincount(gold) / 40, atol=2e-3)


def test_confusion_is_found_where_it_is():
    """Keys that lie close along the queries' direction of spread are said to be confusable, and a permutation of the
    classes that breaks the pattern is told from it."""
    rng = np.random.default_rng(2)
    direction = np.zeros(20)
    direction[3] = 1
    queries = rng.normal(size=(200, 20)) * 0.01 + rng.normal(size=(200, 1)) * direction
    place = np.array([0.0, 0.1, 1.0, 2.0, 3.0, 5.0])
    keys = place[:, None] * direction + rng.normal(size=(6, 20)) * 0.1
    keys[:, 3] = place
    found = key_distances(queries, keys, directions=2)
    apart = np.abs(place[:, None] - place[None])
    np.fill_diagonal(apart, np.nan)
    correlation, p = rank_correlation(found, apart)
    assert correlation > 0.95 and p == pytest.approx(1 / 720, abs=2 / 720)
    assert rank_correlation(np.full((6, 6), np.nan), apart)[1] != rank_correlation(found, apart)[1]


def test_windows_of_layers():
    found = windows_of(("first 2", "last 1", "each", "every 3", "all"), 4)
    assert list(found) == ["first 2", "last 1", "0", "1", "2", "3", "0-2", "1-3", "all"]
    assert found["1-3"].tolist() == [False, True, True, True] and found["last 1"].tolist() == [False] * 3 + [True]
    for text, words in (("first", "use 'all'"), ("first 5", "has 4 layers"), ("middle 2", "use 'all'")):
        with pytest.raises(ValueError, match=words):
            windows_of((text,), 4)


@pytest.fixture(scope="module")
def sequences():
    """Sixteen sequences with labels at some tokens, marked: (marked, as cases)."""
    cases = cases_of(np.zeros((16, 14), np.int32), [[3, 8], [5]], [0, 1], np.zeros(16))
    model = Model.__new__(Model)
    object.__setattr__(model, "roles", lambda inputs: inputs.roles)
    object.__setattr__(model, "spec", ModelSpec())
    return marked(model, cases), cases


def test_pseudo_anchors_are_as_many_tokens_and_no_labels(sequences):
    tokens, cases = sequences
    label, place = np.asarray(tokens.queries("label")), np.arange(14)
    for name in ("near", "random"):
        chosen = np.asarray(tokens.queries(name))
        assert (chosen.sum(1) == label.sum(1)).all() and not (chosen & label).any() and not chosen[:, 8:].any()
    stands = np.asarray(tokens.near_of)
    assert (np.abs(stands - place)[stands >= 0] <= 4).all()
    assert len({tuple(row) for row in np.asarray(tokens.queries("near"))}) > 4  # drawn for each case
    classes = np.asarray(tokens.stands_for(cases.classes))
    assert sorted(classes[0][classes[0] >= 0]) == [0, 0, 1]


def test_edges_never_lead_back_or_to_themselves(sequences):
    tokens, cases = sequences
    future = np.triu(np.ones((14, 14), bool))
    for name in ("earlier -> label", "label -> query", "label -> label", "near -> query", "first -> all"):
        edges = edges_of(name, tokens)
        assert edges.any() and not (np.asarray(edges) & future).any()
        drawn = np.asarray(random_edges(edges, tokens, cases))
        assert (drawn.sum((1, 2)) == np.asarray(edges).sum((1, 2))).all() and not (drawn & future).any()
    assert np.asarray(edges_of("label -> label", tokens))[0].sum() == 3  # each of three labels to those after it


def test_edges_after_a_cache_are_those_of_the_whole(sequences):
    tokens, _ = sequences
    cut = lambda rows: Marked(
        jax.tree.map(lambda x: x[:, rows], tokens.roles), tokens.valid[:, rows], tokens.near_of[:, rows]
    )
    after = dataclasses.replace(cut(slice(9, 14)), before=cut(slice(0, 9)))
    for name in ("earlier -> query", "label -> query", "near -> all"):
        np.testing.assert_array_equal(edges_of(name, after), edges_of(name, tokens)[:, 9:])


LAYOUTS = {
    "cue": {"item_tokens": 2, "separator": True},  # i i s L, as "text Sentiment: word"
    "label first": {"item_tokens": 2, "pair_order": "label_first"},
}
EVALS = {
    "flow": {"num_prompts": 8},
    "edges": {"num_prompts": 16, "edges": ("earlier -> label", "label -> query"), "layers": ("each", "all")},
    "readout": {"num_prompts": 64},
    "answers": {"num_prompts": 64},
    "reweight": {"num_prompts": 64, "extra": 2, "epochs": 3},
    "anchored": {"use": "reweight", "num_prompts": 64, "extra": 2, "epochs": 3, "context": "labels"},
    "compress": {"num_prompts": 64, "extra": 2},
}


@pytest.fixture(scope="module")
def dissected(tmp_path_factory):
    """A tiny grown run with all analyses that it can have."""
    config = tiny_config(model__labels="interleaved", train__num_steps=20)
    config.model.concat_mix = icl_jax.default_config().model.concat_mix
    config.evals.suites, config.evals.icl, config.evals.iwl = ("fewshot_holdout",), "fewshot_holdout", "fewshot_holdout"
    config.evals.every, config.checkpoint.every = 20, 20
    config.hypers.p_bursty, config.seeds.init, config.seeds.data = 0.9, (0, 1), (0, 1)
    config.evals.more = EVALS
    return icl_jax.train(config, tmp_path_factory.mktemp("dissected") / "run", progress=False)


def at(run, name: str, metric: str, **labels) -> np.ndarray:
    """Numbers of an eval (members, ...) at labels of its axes."""
    found = run.array(name, metric)
    values, axes = found.values, list(found.axes)
    for axis, label in labels.items():
        values = np.take(values, found.coords[axis].index(label), axis=1 + axes.index(axis))
        axes.remove(axis)
    return values


def test_what_cannot_reach_the_question_changes_nothing(dissected):
    last = {"edge": "earlier -> label", "layers": "1"}
    assert (at(dissected, "edges", "log_odds", **last, cut="label") == 0).all()
    assert (at(dissected, "edges", "label_loyalty", **last, cut="near") == 1).all()
    assert (at(dissected, "edges", "log_odds", edge="label -> query", layers="all", cut="label") != 0).all()
    assert (at(dissected, "edges", "changed")[..., :] > 0).all()
    flows = at(dissected, "flow", "flow", anchors="label", flow="earlier -> label")
    assert (flows[:, 1] == 0).all() and (flows[:, 0] > 0).all()
    np.testing.assert_allclose(dissected.array("flow", "share").values.sum(2), 1, rtol=1e-6)


def test_the_whole_context_and_no_factor_are_the_model_as_it_is(dissected):
    whole = at(dissected, "compress", "accuracy", method="whole context")
    plain = dissected.array("answers", "accuracy").values
    np.testing.assert_allclose(at(dissected, "reweight", "accuracy", method="vanilla"), plain)
    np.testing.assert_allclose(at(dissected, "compress", "label_loyalty", method="whole context"), 1)
    np.testing.assert_allclose(whole, plain)
    for method in ("output bias", "batch calibration"):
        np.testing.assert_allclose(
            at(dissected, "reweight", "auc", method=method), at(dissected, "reweight", "auc", method="vanilla")
        )
    losses = dissected.array("reweight", "loss").values
    assert (losses[:, -1] < losses[:, 0]).all()
    tokens = dissected.array("compress", "tokens")
    kept = dict(zip(tokens.coords["method"], tokens.values[0], strict=True))
    assert kept["whole context"] == 8 and kept["labels"] == kept["forerunners"] == kept["random slots"] == 4
    assert kept["no context"] == 0 and kept["first token"] == 1


def test_factors_behind_anchors_alone_begin_where_anchors_alone_are(dissected):
    for metric in ("accuracy", "auc"):
        anchors = at(dissected, "compress", metric, method="labels")
        np.testing.assert_allclose(at(dissected, "anchored", metric, method="vanilla"), anchors)
        whole = at(dissected, "anchored", metric, method="whole context")
        np.testing.assert_allclose(whole, dissected.array("answers", metric).values)
    losses = dissected.array("anchored", "loss").values
    assert (losses[:, -1] < losses[:, 0]).all()
    assert (losses != dissected.array("reweight", "loss").values).all()


@pytest.mark.parametrize(("layout", "task_token"), [("cue", False), ("label first", True)])
def test_controls_of_any_layout_are_as_many_and_of_demonstrations(layout, task_token):
    """Near tokens, random tokens and random slots; all of the question's tokens are kept from what is left out."""
    model = Model(ModelSpec(**LAYOUTS[layout]), PairFacts(ItemShape("vector", (4,)), 6, 3, task_token))
    place = token_layout(model.spec, 3, task_token)
    labels = jnp.asarray([[1, 2, 1, 1]] * 16)
    asked = ExemplarQuestions("x", "", SuiteSpec(), 16, None, place)  # pyright: ignore[reportArgumentType]
    classes = asked._of_tokens(labels[:, :3])
    draws = jax.random.key_data(jax.random.split(jax.random.key(0), 16))
    inputs = Pairs(jnp.zeros((16, 4, 4)), labels, labels[:, 0])
    sequences = Tokenised(inputs, classes, jnp.ones(classes.shape, bool), draws)
    tokens = marked(model, sequences)
    label, question = tokens.queries("label"), tokens.question
    np.testing.assert_array_equal(question[0], place.demonstration == 3)
    np.testing.assert_array_equal(np.asarray(classes)[np.asarray(label)].reshape(16, 3), labels[:, :3])
    assert (np.asarray(classes)[~np.asarray(label)] == -1).all()
    drawn = slots(tokens, sequences, label | question, 0)
    for chosen in (tokens.queries("near"), tokens.queries("random"), drawn):
        assert (chosen.sum(1) == 3).all() and not (chosen & (label | question)).any()
    if layout == "label first":  # one of each demonstration
        owner = np.maximum(place.demonstration, 0)
        assert all((drawn[:, owner == k].sum(1) == 1).all() for k in range(3))
    cut = _cut(tokens, label, jnp.asarray(False)).mask[:, 0]
    np.testing.assert_array_equal(cut, question[:, :, None] & ~(question | label)[:, None, :])


def test_mass_of_attention_to_labels_is_what_the_taps_say(dissected):
    batch = dissected.batch(64, suite="fewshot_holdout")
    attention = dissected.apply(batch, record=("attn_probs",)).taps["attn_probs"][:, :, :, -1].sum(2)
    sets = dissected.model.token_sets(batch.inputs)
    mass = (attention * np.asarray(sets["label"])[None]).sum(-1).mean(1)
    np.testing.assert_allclose(at(dissected, "readout", "mass", anchors="label")[0], mass, rtol=1e-4)


FLOWS = {"cue": ("item -> forerunner", "forerunner -> label", "label -> query", "query_text -> query")}
FLOWS["label first"] = ("label -> item", "item -> label", "label -> query", "query_text -> query")
KEPT = {
    "cue": {"whole context": 16, "labels": 4, "format": 4, "labels + format": 8, "forerunners": 4, "random slots": 8},
    "label first": {"whole context": 12, "labels": 4, "forerunners": 3, "random slots": 4, "no context": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_are_dissected(layout, dissected, tmp_path):
    """Four pairs of an item in two parts, behind which the question has tokens of its own before the one that asks."""
    changes = {f"model.{field}": value for field, value in LAYOUTS[layout].items()}
    config = icl_jax.override(dissected.config, {**changes, "seeds.init": 0, "seeds.data": 0})
    config.evals.more = EVALS | {"prompt": {}}
    config.evals.more.edges.edges, config.evals.more.edges.layers = FLOWS[layout], ("all",)
    config.evals.more.flow.flows = FLOWS[layout][:3]
    run = icl_jax.train(config, tmp_path / "run", progress=False)
    plain = run.array("answers", "accuracy").values
    np.testing.assert_allclose(at(run, "compress", "accuracy", method="whole context"), plain)
    np.testing.assert_allclose(at(run, "reweight", "accuracy", method="vanilla"), plain)
    tokens = run.array("compress", "tokens")
    kept = dict(zip(tokens.coords["method"], tokens.values[0], strict=True))
    assert {method: kept[method] for method in KEPT[layout]} == KEPT[layout]
    assert ("labels + format, each alone" in kept) == ("format" in kept) == (layout == "cue")
    np.testing.assert_allclose(run.array("flow", "share").values.sum(2), 1, rtol=1e-6)
    assert (at(run, "edges", "changed", cut="label") > 0).all()
    assert (at(run, "edges", "log_odds", cut="label") != 0).all()
    batch = run.batch(64, suite="fewshot_holdout")
    attention = run.apply(batch, record=("attn_probs",)).taps["attn_probs"][:, :, :, -1].sum(2)
    mass = (attention * np.asarray(run.model.token_sets(batch.inputs)["label"])[None]).sum(-1).mean(1)
    np.testing.assert_allclose(at(run, "readout", "mass", anchors="label")[0], mass, rtol=1e-4)
    ids = run.array("prompt", "token").values[0].astype(int)
    letters = "".join(text[0] for text in _tokens(run._experiment, ids))
    assert letters == {"cue": 4 * "iisl" + "iis", "label first": 4 * "lii" + "ii"}[layout]


FAULTS = [
    ({"edges": ("query_text -> query",)}, "edges", "no set of tokens 'query_text'"),
    ({"edges": ("query -> label",)}, "edges", "no prompt has an edge 'query -> label'"),
    ({"edges": ("item -> lable",)}, "edges", "no set of tokens 'lable'"),
    ({"edges": ("label",)}, "edges", "'label' is no edge"),
    ({"layers": ("first 9",)}, "edges", "the model has 2 layers"),
    ({"task": "sst2"}, "flow", "'sst2' is of texts, and these are sequences of items"),
    ({}, "diagnose", "this eval is for text tasks"),
    ({"shots": 4}, "readout", "shots 4 is of texts"),
    ({"more_shots": 5}, "reweight", "more_shots 5 is of texts"),
    ({"context": "labels + format"}, "reweight", "these sequences have no format tokens; use 'labels'"),
]


@pytest.mark.parametrize("options, name, words", FAULTS)
def test_what_cannot_be_looked_at_is_refused(options, name, words, dissected, tmp_path):
    config = dissected.config.copy_and_resolve_references()
    config.evals.more = {name: options}
    with pytest.raises(ValueError, match=words):
        icl_jax.train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model.core": "gru", "model.num_heads": 8, "model.mlp_ratio": 4, "model.norm": "pre"}, "core 'gru' has none"),
        ({"model.labels": "concatenated"}, "a concatenated token is an item and its label at once"),
    ],
)
def test_models_without_labels_to_look_at_are_refused(changes, words, dissected, tmp_path):
    config = icl_jax.override(dissected.config, changes)
    config.evals.more = {"readout": {}}
    with pytest.raises(ValueError, match=words):
        icl_jax.train(config, tmp_path / "run", progress=False)


def test_the_command_dissects_a_grown_run(dissected, tmp_path, capsys):
    copy = shutil.copytree(dissected.directory, tmp_path / "run")
    config = tmp_path / "look.py"
    config.write_text(
        "import icl_jax\n\n\ndef get_config():\n    config = icl_jax.default_config()\n"
        f"    config.evals.more.readout = {{'num_prompts': {EVALS['readout']['num_prompts']}}}\n    return config\n"
    )
    main(["icl", "dissect", str(copy), f"--config={config}"])
    assert "run/dissection/index.html" in capsys.readouterr().out
    assert "Readout of labels" in (copy / "dissection" / "index.html").read_text()
    for flags, words in (
        (["--task=sst2"], "is no language model"),
        (["--seeds=a"], "give whole numbers"),
    ):
        with pytest.raises(SystemExit):
            main(["icl", "dissect", str(copy), *flags])
        assert words in capsys.readouterr().err
    assert all(name in find("eval", "flow").options for name in TEXT_OPTIONS)
