"""Dissected runs: what is made of a grown run and of a language model, and demonstrations that questions share."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from letters import imported_llama
from test_dissect import NOTHING

import icl_jax
from icl_jax.cli.main import main
from icl_jax.dissect.build import _texts, answers, edges
from icl_jax.dissect.reading import logits_of
from icl_jax.registry import find, resolved_options
from icl_jax.runs.dissection import checkpoints_in, default_evals, dissect

TASK = {"task": "tone", "template": "A: {text}\\nB:", "words": ("x", "y"), "shots": 1}


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """The tiny language model, with texts of letters beside it."""
    run = imported_llama(tmp_path_factory.mktemp("language"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 9)):
        rows = [{"text": "".join(rng.choice(list("abc"), 2)) + str(chr(100 + i)), "label": i % 2} for i in range(count)]
        text = "\n".join(map(json.dumps, rows))
        (run.directory.parent / f"tone.{split}.jsonl").write_text(text)
    rows = [{"text": "a" * 40 + str(chr(98 + i)), "label": i % 2} for i in range(14)]
    for split in ("train", "test"):
        (run.directory.parent / f"long.{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return run


@pytest.fixture(scope="module")
def task(language):
    return {**TASK, "data": str(language.directory.parent / "tone.{split}.jsonl"), "test_split": "test"}


@pytest.fixture(scope="module")
def page(language, task):
    """All analyses of the language model, of two members: (paths, the run that was made)."""
    evals = {name: {**own, **task} for name, own in default_evals(language, "sst2", 6).items()}
    evals["edges"]["edges"] = ("earlier -> label", "label -> query")
    evals["anchored"] = {**evals["reweight"], "use": "reweight", "context": "labels + format"}
    paths = dissect(language, evals, seeds=(0, 1), untrained=0, progress=False)
    return paths, icl_jax.load_run(paths[0].parent.parent)


def test_a_language_model_is_dissected_and_gives_a_page(page, language):
    paths, run = page
    assert paths[0].name == "index.html" and len({path.stem for path in paths}) == 9
    text = paths[0].read_text()
    assert all(title in text for title in ("Flow over layers", "One prompt", "Re-weighted anchors"))
    assert [member.seeds["eval"] for member in run.members] == [0, 1]
    assert run.config.model.weights == str(language.directory)  # shared, not copied
    assert not (run.directory / "weights").exists()
    accuracy = run.array("answers", "accuracy").values
    whole = run.array("compress", "accuracy")
    np.testing.assert_allclose(whole.values[:, whole.coords["method"].index("whole context")], accuracy)
    vanilla = run.array("reweight", "auc")
    np.testing.assert_allclose(
        vanilla.values[:, vanilla.coords["method"].index("vanilla")], run.array("answers", "auc").values
    )
    anchored = run.array("anchored", "auc")
    of_anchors = [whole.coords["method"].index(name) for name in ("labels + format", "whole context")]
    of_vanilla = [anchored.coords["method"].index(name) for name in ("vanilla", "whole context")]
    np.testing.assert_allclose(anchored.values[:, of_vanilla], run.array("compress", "auc").values[:, of_anchors])
    loss = run.array("reweight", "loss").values
    assert (loss[:, -1] < loss[:, 0]).all()


@pytest.mark.slow
def test_untrained_copies_are_other_networks_under_the_same_questions(language, task, tmp_path):
    evals = {"answers": {"num_prompts": 6, **task}, "readout": {"num_prompts": 6, **task}}
    paths = dissect(language, evals, tmp_path / "out", seeds=(0, 1), untrained=2, progress=False)
    copies = [icl_jax.load_run(paths[0].parent / "untrained" / name) for name in ("1", "2")]
    assert [copy.config.model.untrained for copy in copies] == [1, 2]
    assert [copy.members[0].seeds["eval"] for copy in copies] == [0, 1]
    assert all(set(copy.table["suite"].to_pylist()) == {"readout"} for copy in copies)  # answers are not of attention
    leaves = [jax.tree.leaves(run.model.shared()) for run in (language, *copies)]
    assert [leaf.shape for leaf in leaves[0]] == [leaf.shape for leaf in leaves[1]]
    for one, other in ((0, 1), (1, 2)):
        assert any(not np.array_equal(a, b) for a, b in zip(leaves[one], leaves[other], strict=True))
    text = paths[0].read_text()
    assert "untrained" in text
    with pytest.raises(ValueError, match="untrained -1: a number of copies"):
        dissect(language, evals, tmp_path / "none", untrained=-1)


def test_imported_models_are_dissected_over_their_training(language, task, tmp_path, capsys):
    for step in (1000, 20):
        shutil.copytree(language.directory, tmp_path / "models" / f"step{step}")
    runs = checkpoints_in(tmp_path / "models")
    assert list(runs) == [20, 1000]
    evals = {"answers": {"num_prompts": 6, **task}}
    paths = dissect(runs, evals, tmp_path / "out", seeds=(0,), progress=False)
    assert "Over training" in paths[0].read_text()
    own = [icl_jax.load_run(tmp_path / "out" / name) for name in ("step20", "step1000")]
    np.testing.assert_array_equal(*(run.array("answers", "auc").values for run in own))  # the same model here
    (tmp_path / "models" / "step20").rename(tmp_path / "models" / "last")
    with pytest.raises(ValueError, match="a checkpoint's name ends in its step"):
        checkpoints_in(tmp_path / "models")
    with pytest.raises(SystemExit):
        main(["icl", "dissect", str(tmp_path / "out"), "--over_checkpoints", "--task=sst2", "--untrained=x"])
    with pytest.raises(SystemExit):
        main(["icl", "dissect", str(tmp_path), "--over_checkpoints", "--task=sst2"])
    assert "holds no imported models" in capsys.readouterr().err


def test_no_way_to_read_demonstrations_changes_a_cut(language, task):
    """Read once for all questions, or with each of them."""
    spec = language._experiment.plan.spec
    source = language._experiment.program.source
    model, shared = language.model, jax.tree.map(jnp.asarray, language.model.shared())
    context = NOTHING.__class__(None, None, None, {}, (), shared)
    found = {}
    for whole in (False, True):
        options = resolved_options(find("eval", "edges"), {**task, "num_prompts": 6, "layers": ("first 1", "all")})
        options["edges"] = ("earlier -> label", "label -> query", "query_text -> query")
        cut = edges("edges", spec, source, options)
        if whole:
            asked = _texts("edges", spec, source, options).questions(whole=True)
            cut = cut.__class__("edges", asked, *(getattr(cut, n) for n in ("edges", "windows", "words", "at_once")))
        arrays = jax.tree.map(jnp.asarray, cut.arrays())
        prepared = cut.prepare(arrays, {}, {}, jnp.uint32(0))
        assert (prepared.before is None) == whole
        values = jax.jit(lambda s, p, c=cut: c.run(model, {"params": {}, "stats": {}}, p, context))(shared, prepared)
        found[whole] = cut.finish(jax.tree.map(lambda x: np.asarray(x)[None], values))
    labels = find("eval", "edges").options["edges"].default
    assert labels
    for metric in ("log_odds", "label_loyalty", "word_loyalty"):
        np.testing.assert_allclose(found[True][metric][:, :, 0], found[False][metric][:, :, 0], atol=2e-4)
    assert np.abs(found[True]["log_odds"][:, :, 0]).min() > 0  # each cut does something


def test_answers_are_those_of_the_texts(language, task):
    """What an analysis reads is what the text says, tokenised by anyone."""
    spec, source = language._experiment.plan.spec, language._experiment.program.source
    options = resolved_options(find("eval", "answers"), {**task, "num_prompts": 5})
    eval_ = answers("answers", spec, source, options)
    prepared = eval_.prepare(jax.tree.map(jnp.asarray, eval_.arrays()), {}, {}, jnp.uint32(0))
    shared = jax.tree.map(jnp.asarray, language.model.shared())
    context = NOTHING.__class__(None, None, None, {}, (), shared)
    about = (language.model, {"params": {}, "stats": {}}, eval_.questions, prepared, context)
    logits, gold = jax.jit(lambda: logits_of(*about, at_once=2))()
    prompts = eval_.questions.drawn[0]
    texts = [f"{text} " for text in prompts.texts]  # both labels begin with a space, a token of its own here
    wanted = language.apply(language.tokens(texts)).logits[:, prompts.class_tokens]
    np.testing.assert_allclose(logits, wanted, atol=2e-5)
    np.testing.assert_array_equal(gold, prompts.gold)


FAULTS = [
    ({"task": ""}, "source 'text' draws none; say what it is to look at instead"),
    ({"task": "sst3", "template": ""}, "unknown text task 'sst3'; did you mean 'sst2'"),
    ({"num_prompts": 500}, "asks for 500 prompts, and .* has [0-9]+ examples"),
    ({"shots": 9}, "fewer than the 9 shots"),
    ({"words": ("x", "xx")}, "tokenize alike"),
    ({"shots": 6, "data": "long"}, "the demonstrations alone have [0-9]+ tokens, and the model 400 positions"),
    ({"data": "nowhere.jsonl"}, "no file nowhere.jsonl"),
]


@pytest.mark.parametrize("changes, words", FAULTS)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(changes, words, language, task, tmp_path):
    changes = changes | {"data": task["data"].replace("tone", "long")} if changes.get("data") == "long" else changes
    evals = {"answers": {"num_prompts": 4, **task, **changes}}
    with pytest.raises(ValueError, match=words):
        dissect(language, evals, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_an_edge_that_no_prompt_has_is_refused(language, task, tmp_path):
    evals = {"edges": {"num_prompts": 4, "edges": ("query -> label",), **task}}
    with pytest.raises(ValueError, match="no prompt has an edge 'query -> label'"):
        dissect(language, evals, tmp_path / "out", progress=False)


def test_classes_that_are_too_few_for_a_test_are_refused(language, task, tmp_path):
    with pytest.raises(ValueError, match="has 2 classes, a permutation test needs 6"):
        dissect(language, {"diagnose": {"num_prompts": 4, **task}}, tmp_path / "out", progress=False)


def test_one_imported_model_under_one_seed_twice_is_no_replicate(language, task, tmp_path):
    with pytest.raises(ValueError, match=r"only seeds\.eval makes another"):
        dissect(language, {"answers": {"num_prompts": 4, **task}}, tmp_path / "out", seeds=(0, 0), progress=False)
