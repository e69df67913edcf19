"""Laws of recording and patching sites inside the model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import pairs_model as build

from icl_jax.inputs import ItemShape, Pairs
from icl_jax.models.taps import Patch, at_step
from icl_jax.spec import ModelSpec

B, N, D, H, L = 2, 7, 16, 2, 2
SPEC = ModelSpec(width=D, num_heads=H, encoder="linear", num_layers=L)
MODELS = {
    core: build(dataclasses.replace(SPEC, core=core), ItemShape("vector", (5,)), 6, 3, False)
    for core in ("transformer", "lstm")
}
SITES = [(core, site) for core, model in MODELS.items() for site in model.sites]


@pytest.fixture(scope="module")
def runs():
    """core -> jitted run(value of patches, record everything) and the clean output."""
    key_items, key_labels = jax.random.split(jax.random.key(0))
    items = jax.random.normal(key_items, (B, 4, 5))
    labels = jax.random.randint(key_labels, (B, 4), 0, 6)
    found = {}
    for core, model in MODELS.items():
        variables = model.init(jax.random.key(1))
        run = jax.jit(lambda patches, model=model, variables=variables: model.apply(
            variables, Pairs(items, labels, labels[:, 0]), logits_at="items", record=tuple(model.sites), patches=patches
        ))  # fmt: skip
        found[core] = run, run(())
    return found


def test_recorded_sites_have_their_shapes_and_add_up(runs):
    _, clean = runs["transformer"]
    t = clean.taps
    assert {s: a.shape for s, a in t.items()} == {
        "embed": (B, N, D),
        "attn_scores": (L, B, H, N, N),
        "attn_probs": (L, B, H, N, N),
        "head_out": (L, B, H, N, D // H),
        "attn_out": (L, B, N, D),
        "mlp_out": (L, B, N, D),
        "resid": (L, B, N, D),
        "q": (L, B, N, H, D // H),
        "k": (L, B, N, H, D // H),
        "v": (L, B, N, H, D // H),
        "final": (B, N, D),
    }
    recurrent = runs["lstm"][1].taps
    assert recurrent["state"].shape == recurrent["cell"].shape == (L, B, N, D)
    assert (np.abs(recurrent["state"]) < np.abs(np.tanh(recurrent["cell"]))).all()  # it is gated
    before = jnp.concatenate([t["embed"][None], t["resid"][:-1]])
    np.testing.assert_allclose(t["resid"], before + t["attn_out"] + t["mlp_out"], atol=1e-5)
    np.testing.assert_allclose(t["attn_probs"].sum(-1), 1, atol=1e-6)
    future = np.triu(np.ones((N, N), bool), 1)
    assert not t["attn_probs"][..., future].any() and np.isneginf(t["attn_scores"][..., future]).all()


@pytest.fixture(scope="module")
def everywhere(runs):
    """core -> (jitted run(masks, values) with a patch at every site, for each mode; clean sites)."""

    def with_mode(core, mode):
        run = runs[core][0]
        return jax.jit(lambda masks, values: run(tuple(Patch(s, mode, masks[s], values[s]) for s in values)))

    modes = {core: {mode: with_mode(core, mode) for mode in ("replace", "add")} for core in MODELS}
    return {core: (modes[core], {s: runs[core][1].taps[s] for s in MODELS[core].sites}) for core in MODELS}


@pytest.mark.parametrize(("core", "site"), SITES)
def test_replacing_a_site_by_itself_or_adding_zero_changes_nothing(runs, everywhere, core, site):
    modes, sites = everywhere[core]
    here = {s: jnp.asarray(s == site) for s in sites}
    zeros = jax.tree.map(jnp.zeros_like, sites)
    for other in (modes["replace"](here, sites), modes["add"](here, zeros)):
        same = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)
        jax.tree.map(same, other.replace(changed={}), runs[core][1])
    wrong = modes["replace"](here, zeros)
    assert {name for name, share in wrong.changed.items() if share > 0} == {str(sorted(sites).index(site))}
    assert np.abs(wrong.logits - runs[core][1].logits).max() > 1e-4


@pytest.mark.parametrize("core", MODELS)
def test_the_gradient_of_an_added_zero_is_the_slope_there(everywhere, core):
    modes, sites = everywhere[core]
    logit = lambda values: modes["add"]({s: True for s in sites}, values).logits[:, -1, 0].sum()
    zeros = jax.tree.map(jnp.zeros_like, sites)
    with_slopes = jax.jit(jax.value_and_grad(logit))  # one program for values and slopes
    rng = np.random.default_rng(2)
    for site, slope in with_slopes(zeros)[1].items():
        assert np.isfinite(slope).all() and np.abs(slope).max() > 0
        direction = rng.standard_normal(slope.shape, np.float32)
        up, down = (with_slopes({**zeros, site: step * direction})[0] for step in (1e-2, -1e-2))
        np.testing.assert_allclose(np.sum(slope * direction), (up - down) / 2e-2, atol=5e-3, rtol=2e-2)


def test_blocking_one_edge_changes_only_what_reads_it(runs):
    run, clean = runs["transformer"]
    query, key = 4, 2
    mask = np.zeros((L, 1, H, N, N), bool)
    mask[0, :, 1, query, key] = True
    blocked = run((Patch("attn_scores", "replace", mask, -jnp.inf),))
    probs, before = blocked.taps["attn_probs"], clean.taps["attn_probs"]
    assert not probs[0, :, 1, query, key].any()
    np.testing.assert_allclose(probs[0].sum(-1), 1, atol=1e-6)
    changed = np.abs(probs[0] - before[0]).max((0, 3)) > 1e-6  # (head, query)
    np.testing.assert_array_equal(np.argwhere(changed), [[1, query]])
    later = np.abs(blocked.taps["resid"] - clean.taps["resid"]).max((1, 3)) > 1e-5  # (layer, token)
    np.testing.assert_array_equal(later[0], np.arange(N) == query)
    np.testing.assert_array_equal(later[1], np.arange(N) >= query)


@pytest.mark.parametrize("site", ["attn_scores", "attn_probs"])
def test_no_patch_opens_the_future(runs, site):
    run, _ = runs["transformer"]
    probs = run((Patch(site, "replace", True, 1.0 / N),)).taps["attn_probs"]
    assert not probs[..., np.triu(np.ones((N, N), bool), 1)].any()
    assert np.ptp(probs[0, 0, 0, -1]) < 1e-6


def test_fewer_axes_mean_every_layer(runs):
    run, _ = runs["transformer"]
    off = run((Patch("mlp_out", "replace", True, 0.0),))
    assert not off.taps["mlp_out"].any()
    first = run((Patch("mlp_out", "replace", jnp.asarray([True, False]).reshape(L, 1, 1, 1), 0.0),))
    assert not first.taps["mlp_out"][0].any() and first.taps["mlp_out"][1].any()


def test_a_replaced_state_is_what_later_tokens_read(runs):
    run, clean = runs["lstm"]
    mask = np.zeros((L, 1, N, 1), bool)
    mask[0, :, 3] = True
    patched = run((Patch("state", "replace", mask, 0.25),))
    state = patched.taps["state"]
    assert (state[0, :, 3] == 0.25).all()
    changed = np.abs(state - clean.taps["state"]).max((1, 3)) > 1e-5
    np.testing.assert_array_equal(changed, np.stack([np.arange(N) >= 3] * 2))


def test_a_replaced_cell_is_what_its_state_is_taken_from(runs):
    run, clean = runs["lstm"]
    mask = np.zeros((L, 1, N, 1), bool)
    mask[0, :, 3] = True
    taps = run((Patch("cell", "replace", mask, 0.0),)).taps
    assert not taps["cell"][0, :, 3].any() and not taps["state"][0, :, 3].any()
    changed = np.abs(taps["state"] - clean.taps["state"]).max((1, 3)) > 1e-5
    np.testing.assert_array_equal(changed, np.stack([np.arange(N) >= 3] * 2))
    assert "cell" not in build(dataclasses.replace(SPEC, core="gru"), ItemShape("vector", (5,)), 6, 3, False).sites


def test_patches_compose_in_order(runs):
    run, _ = runs["transformer"]
    both = run((Patch("embed", "replace", True, 1.0), Patch("embed", "add", True, 2.0)))
    assert (both.taps["embed"] == 3.0).all()


def test_a_patch_acts_from_start_up_to_stop(runs):
    run, clean = runs["transformer"]
    patch = Patch("attn_out", "replace", True, 0.0, start=3, stop=5)
    at = jax.jit(lambda step: run(at_step((patch,), step)).taps["attn_out"])
    active = [not at(jnp.int32(step)).any() for step in (2, 3, 4, 5)]
    assert active == [False, True, True, False]
    np.testing.assert_allclose(at(jnp.int32(5)), clean.taps["attn_out"], atol=1e-6)


def test_masks_vmap_over_heads(runs):
    run, _ = runs["transformer"]
    heads = jnp.eye(H, dtype=bool).reshape(H, 1, 1, H, 1, 1)
    out = jax.vmap(lambda mask: run((Patch("head_out", "replace", mask, 0.0),)).taps["head_out"])(heads)
    for head in range(H):
        assert not out[head, :, :, head].any() and out[head, :, :, 1 - head].any()


def test_unused_sites_cost_nothing():
    model = MODELS["transformer"]
    variables = model.init(jax.random.key(3))
    labels = jnp.zeros((B, 4), jnp.int32)
    batch = Pairs(jnp.ones((B, 4, 5)), labels, labels[:, 0])

    def flops(**kwargs):
        run = jax.jit(lambda v: model.apply(v, batch, logits_at="items", **kwargs).logits)
        return run.lower(variables).compile().cost_analysis()["flops"]

    assert flops(record=tuple(model.sites)) == flops()
    text = str(jax.make_jaxpr(lambda v: model.apply(v, batch).logits)(variables))
    query = str(jax.make_jaxpr(lambda v: model.apply(v, batch, patches=at_step((), 7)).logits)(variables))
    assert text == query


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (Patch("attn_prob", "add", True, 0.0), "embed, attn_scores, .*did you mean 'attn_probs'"),
        (Patch("state", "add", True, 0.0), "no site 'state'"),
        (Patch("resid", "swap", True, 0.0), "unknown mode 'swap'"),
        (Patch("resid", "add", True, np.zeros((1, 1, 1, 1, 1))), "5 axes > 4"),
    ],
)
def test_errors_list_what_exists(patch, message):
    model = MODELS["transformer"]
    with pytest.raises(ValueError, match=message):
        model.apply({}, None, patches=(patch,))
    with pytest.raises(ValueError, match="no site"):
        model.apply({}, None, record=("residd",))
