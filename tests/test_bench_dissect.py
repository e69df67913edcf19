"""The benchmark of analyses: it compares what is the same, on the small network that it makes for itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from icl_jax.bench import dissect, subject, torch_side

FIGURES = {
    "forward pass",
    "saliency",
    "each of 6 layers isolated",
    "a question after anchors",
    "a question after the whole cache",
    "a question, its prompt read anew",
    "cache of anchors",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Our side of the small network and two prompts."""
    return dissect.OurSide(subject.new_subject(tmp_path_factory.mktemp("bench"), 2, package="no-such-package"))


def test_cuts_are_the_same_in_one_program_and_by_a_call_for_each_layer(ours):
    found = np.asarray(ours.all_isolated()["logits"])
    apart = [ours.asked.of_classes(ours.isolated(gate)) for gate in ours.gates.values()]
    np.testing.assert_allclose(found[:-1], np.stack(apart), atol=1e-5)
    plain = ours.asked.of_classes(ours.after(ours.caches[0]))
    np.testing.assert_allclose(found[-1], plain, atol=1e-5)
    np.testing.assert_allclose(plain, ours.whole.of_classes(ours.forward()), atol=1e-5)
    moved = np.abs(found[:-1] - found[-1]).max((1, 2))
    assert moved[:-1].min() > 1e-6 and moved[-1] == 0  # what labels read in the last layer reaches no question
    assert ours.traces["all_isolated"] == ours.traces["isolated"] == 1


def test_a_cache_of_anchors_is_the_whole_one_of_which_anchors_may_be_read(ours):
    whole, anchors = ours.caches
    tokens = ours.subject.prompts
    start = int(tokens.num_demonstration_tokens[0])
    kept = (tokens.sets["label"] | tokens.sets["format"])[:1, :start]
    assert 0 < anchors.keys.shape[2] == kept.sum() < whole.keys.shape[2] == start
    masked = whole.replace(valid=jnp.asarray(kept))
    np.testing.assert_allclose(ours.after(anchors), ours.after(masked), atol=1e-5)


@pytest.mark.slow
def test_all_figures_come_without_torch(ours):
    found = {row.name: row.value for row in dissect.rows(ours, None, repeats=1)}
    assert found.keys() == FIGURES and min(found.values()) > 0


@pytest.mark.slow
def test_torch_computes_the_same(ours, monkeypatch):
    pytest.importorskip("torch", reason=torch_side.INSTALL)
    pytest.importorskip("transformers", reason=torch_side.INSTALL)
    theirs = torch_side.TorchSide(ours.subject, threads=1)
    dissect.check_same(ours, theirs)
    monkeypatch.setattr(theirs, "gold", 1 - theirs.gold)
    with pytest.raises(RuntimeError, match="the flow 'earlier -> label' of torch is"):
        dissect.check_same(ours, theirs)
    monkeypatch.setattr(theirs, "mask", theirs.mask.clip(min=0))
    with pytest.raises(RuntimeError, match="logits of an isolated layer of torch are"):
        dissect.check_same(ours, theirs)
