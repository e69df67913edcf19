"""The models against the original implementation of Chan et al. 2022, from its own parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import pairs_model as build

from icl_jax.inputs import Pairs
from icl_jax.models.importers.chan2022 import convert, haiku_names, load_chan2022

SMALL = ("transformer_resnet", "transformer_linear_concat", "transformer_symbols", "lstm_linear", "rnn_symbols")
LARGE = (
    "large/transformer_2l_28px",
    "large/transformer_2l_linear_concat",
    "large/transformer_2l_symbols",
    "large/lstm_2l_28px",
    "large/rnn_2l_28px",
)
DEEP = "large/transformer_12l_105px"
LOGITS, LOSS, GRAD = 2e-4, 1e-5, 1e-4


@pytest.fixture(scope="module")
def load(chan2022):
    @functools.cache
    def load(name):
        path = chan2022(name)
        with np.load(path) as file:
            golden = {key: file[key] for key in file.files}
        spec, facts, variables = load_chan2022(path)
        model = build(spec, facts["items"], facts["vocab_size"], facts["context_len"], False)
        items = golden["examples"]
        items = jnp.asarray(items, jnp.int32 if items.ndim == 2 else jnp.float32)
        return golden, model, variables, Pairs(items, jnp.asarray(golden["labels"]), jnp.zeros(len(items), jnp.int32))

    return load


def under(golden, prefix):
    return {key.removeprefix(prefix): a for key, a in golden.items() if key.startswith(prefix)}


def at_items(model, logits):
    """The golden logits that the model gives: all items, or the query alone."""
    return logits[:, ::2] if model.spec.labels == "interleaved" else logits[:, -1:]


def forward(model, variables, batch, train):
    """(loss, (logits at the items, new statistics))."""
    where = "items" if model.spec.labels == "interleaved" else "last"
    output = model.apply(variables, batch, train=train, logits_at=where)
    logits = output.logits if where == "items" else output.logits[:, None]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits[:, -1], batch.labels[:, -1]).mean()
    return loss, (logits, output.stats)


@pytest.mark.parametrize("name", [*SMALL, *LARGE, DEEP])
def test_evaluation(load, name):
    golden, model, variables, batch = load(name)
    loss, (logits, stats) = jax.jit(lambda v: forward(model, v, batch, train=False))(variables)
    np.testing.assert_allclose(logits, at_items(model, golden["eval/logits"]), atol=LOGITS)
    np.testing.assert_allclose(loss, golden["eval/loss"], atol=LOSS)
    jax.tree.map(np.testing.assert_array_equal, stats, variables["stats"])


@pytest.fixture(scope="module")
def trained(load):
    @functools.cache
    def trained(name):
        _, model, variables, batch = load(name)
        loss = lambda p: forward(model, {"params": p, "stats": variables["stats"]}, batch, train=True)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    return trained


def check_forward(golden, model, loss, logits, stats):
    np.testing.assert_allclose(logits, at_items(model, golden["train/logits"]), atol=LOGITS)
    np.testing.assert_allclose(loss, golden["train/loss"], atol=LOSS)
    expected = convert(under(golden, "train/new_state/"), stats, model.spec.core)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=LOSS, rtol=LOSS), stats, expected)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_training(load, trained, name):
    golden, model, _, _ = load(name)
    (loss, (logits, stats)), grads = trained(name)
    check_forward(golden, model, loss, logits, stats)
    expected = convert(under(golden, "train/grad/"), grads, model.spec.core)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=GRAD * np.abs(b).max()), grads, expected)


def test_deep_training(load, trained):
    golden, model, _, _ = load(DEEP)
    (loss, (logits, stats)), grads = trained(DEEP)
    check_forward(golden, model, loss, logits, stats)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        keys = [p.key for p in path]
        for i, layer in enumerate(grad if "layers" in keys else [grad]):
            names = haiku_names(keys, model.spec.core, i)
            norm = np.linalg.norm([golden[f"train/grad_norm/{name}"] for name in names])
            np.testing.assert_allclose(np.linalg.norm(layer), norm, rtol=GRAD, err_msg=str(names))


def test_a_swapped_scale_and_offset_would_show(load):
    """The comparison can fail: one deliberate break."""
    golden, model, variables, batch = load("transformer_symbols")
    params = jax.tree.map(lambda x: x, variables["params"])
    norm = params["core"]["norm"]
    norm["scale"], norm["bias"] = norm["bias"], norm["scale"]
    _, (logits, _) = jax.jit(lambda p: forward(model, {**variables, "params": p}, batch, train=False))(params)
    assert np.abs(logits - at_items(model, golden["eval/logits"])).max() > 100 * LOGITS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("params/rnn/lstm_1/linear/b"), "'rnn/lstm_1/linear/b' is missing"),
        (lambda a: a.update({"params/rnn/extra/w": np.zeros(3)}), "not understood: rnn/extra/w"),
        (lambda a: a.update({"params/rnn/linear/b": np.zeros(3)}), "expected"),
        (lambda a: [a.pop(k) for k in list(a) if k.startswith("params/")], "no arrays named params"),
    ],
)
def test_import_errors_name_the_array(load, tmp_path, change, message):
    golden, *_ = load("lstm_linear")
    arrays = {k: v for k, v in golden.items() if not k.startswith(("train/", "eval/"))}
    change(arrays)
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_chan2022(tmp_path / "broken.npz")
