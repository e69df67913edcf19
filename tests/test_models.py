"""Laws of the models: causality, layout, counts, equal paths, clear errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import pairs_model as build

from icl_jax.inputs import ItemShape, Pairs
from icl_jax.models import layers, positions, taps
from icl_jax.models.build import num_params
from icl_jax.models.frontends import pairs, resnet
from icl_jax.models.positions import Rotary
from icl_jax.registry import check_chosen
from icl_jax.spec import BankSpec, ModelSpec, RunSpec, TaskSpec, options_of

B, N_CONTEXT, VOCAB = 3, 3, 6
VECTORS = ItemShape("vector", (5,))
SMALL = ModelSpec(width=16, num_heads=2, encoder="linear", positions="learned")
PAPER = ModelSpec(num_layers=12, encoder="resnet")

CASES = {
    "sinusoidal": {"positions": "sinusoidal"},
    "learned": {},
    "rotary": {"positions": "rotary", "mlp_ratio": 0},
    "onehot": {"positions": "onehot", "norm": "none", "mlp_ratio": 0, "readout": "mlp", "num_position_slots": 8},
    "none": {"positions": "none", "tied": True},
    "lstm": {"core": "lstm"},
    "gru": {"core": "gru"},
    "rnn": {"core": "rnn"},
    "cue": {"num_layers": 1, "item_tokens": 5, "separator": True},
    "label first": {"num_layers": 1, "item_tokens": 5, "pair_order": "label_first"},
    "mixed": {"labels": "concatenated"},
    "concatenated": {"labels": "concatenated", "concat_mix": False},
    "lstm concatenated": {"core": "lstm", "labels": "concatenated", "concat_mix": False},
}


def make(task_token=False, **changes):
    return build(dataclasses.replace(SMALL, **changes), VECTORS, VOCAB, N_CONTEXT, task_token)


@pytest.fixture(scope="module")
def batch():
    key_items, key_labels = jax.random.split(jax.random.key(1))
    items = jax.random.normal(key_items, (B, N_CONTEXT + 1, 5))
    labels = jax.random.randint(key_labels, (B, N_CONTEXT + 1), 0, VOCAB)
    return Pairs(items, labels, jnp.zeros(B, jnp.int32))


def logits_of(model, variables, batch, **kwargs):
    return jax.jit(lambda v, b: model.apply(v, b, **kwargs).logits)(variables, batch)


@functools.partial(jax.jit, static_argnums=0)
def output_of(model, variables, batch):
    """The query's logits and all sites, which takes the full path: every row of the last layer."""
    return model.apply(variables, batch, record=tuple(model.sites))


def close(a, b, tolerance=2e-6):
    np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_layers_read_no_later_token_and_every_earlier_one(name, batch):
    model = make(**CASES[name])
    variables = model.init(jax.random.key(0))
    site = "resid" if "resid" in model.sites else "state"
    place = pairs.token_layout(model.spec, N_CONTEXT, False)

    def outputs(value):
        patch = taps.Patch("embed", "add", True, value)
        output = model.apply(variables, batch, record=(site,), patches=(patch,))
        direction = jnp.linspace(0.5, 1.5, place.core)  # a plain sum over features would be nearly constant
        return jnp.einsum("bnd,d->n", output.taps[site][-1], direction)

    jacobian = jax.jit(jax.jacrev(outputs))(jnp.zeros((B, place.num_tokens, place.core)))
    reached = np.abs(jacobian).sum((1, 3)) > 0
    np.testing.assert_array_equal(reached, np.tril(np.ones_like(reached)))


@pytest.mark.parametrize("name", CASES)
def test_the_query_label_is_never_read_and_the_others_are(name, batch):
    model = make(**CASES[name])
    variables = model.init(jax.random.key(0))
    labels = batch.labels
    run = jax.jit(lambda labels: model.apply(variables, batch.replace(labels=labels)).logits)
    clean = run(labels)
    np.testing.assert_array_equal(clean, run(labels.at[:, -1].set(10**6)))
    for i in range(N_CONTEXT):
        changed = run(labels.at[:, i].set((labels[:, i] + 1) % VOCAB))
        assert np.abs(changed - clean).max() > 1e-7


@pytest.mark.parametrize("name", ["learned", "rotary", "onehot", "lstm", "cue", "mixed"])
def test_the_query_row_alone_equals_the_full_path(name, batch):
    model = make(**CASES[name])
    variables = model.init(jax.random.key(2))
    alone = logits_of(model, variables, batch)
    full = output_of(model, variables, batch)
    assert alone.shape == (B, VOCAB) and alone.dtype == jnp.float32
    close(alone, full.logits)
    if model.spec.labels == "interleaved":
        close(alone, logits_of(model, variables, batch, logits_at="items")[:, -1])


def test_item_positions_are_those_of_the_items(batch):
    model = make(task_token=True)
    variables = model.init(jax.random.key(3))
    clean = logits_of(model, variables, batch, logits_at="items")
    changed = logits_of(model, variables, batch.replace(items=batch.items.at[:, 1].add(1.0)), logits_at="items")
    assert clean.shape == (B, N_CONTEXT + 1, VOCAB)
    np.testing.assert_array_equal(np.abs(changed - clean).max((0, 2)) > 0, [False, True, True, True])


ORDERS = {  # of three pairs and a query; T: task token, 0 1 2: parts of an item, S: separator, L: label
    "0L 0L 0L 0": {},
    "0SL 0SL 0SL 0S": {"separator": True},
    "T 012SL 012SL 012SL 012S": {"item_tokens": 3, "separator": True},
    "T L01 L01 L01 01": {"pair_order": "label_first", "item_tokens": 2},
}


@pytest.mark.parametrize("order", ORDERS)
def test_tokens_are_parts_of_items_separators_and_labels_in_their_order(order):
    """Part k of an item is what the encoder makes of its k-th part along the first axis."""
    changes = {"positions": "none", **ORDERS[order]}
    images = ItemShape("image", (6, 2, 1))
    model = build(dataclasses.replace(SMALL, **changes), images, VOCAB, N_CONTEXT, "T" in order)
    variables = model.init(jax.random.key(16))
    items = jax.random.normal(jax.random.key(17), (1, N_CONTEXT + 1, *images.shape))
    inputs = Pairs(items, jnp.asarray([[3, 1, 4, 5]]), jnp.asarray([2]))
    tokens = jax.jit(lambda v, b: model.apply(v, b, record=("embed",)).taps["embed"])(variables, inputs)[0]
    embedder, kernel = variables["params"]["embedder"], variables["params"]["encoder"]["out"]["kernel"]
    parts = items[0].reshape(N_CONTEXT + 1, model.spec.item_tokens, -1) @ kernel  # biases are zero at first
    labels, asked, expected = iter([3, 1, 4]), -1, []
    for kind in order.replace(" ", ""):
        asked += kind == "0"
        if kind in "TL":
            expected.append(embedder["table"][next(labels) if kind == "L" else 2])
        else:
            expected.append(embedder["separator"][0] if kind == "S" else parts[asked, int(kind)])
    close(tokens, np.stack(expected))
    features = model.encode(variables, items)
    assert features.shape == (1, N_CONTEXT + 1, model.spec.item_tokens * 16)
    close(features[0], parts.reshape(N_CONTEXT + 1, -1))
    assert ("separator" in embedder) == ("S" in order)


def test_logits_at_items_are_those_of_the_tokens_before_labels(batch):
    model = make(**CASES["cue"])
    variables = model.init(jax.random.key(18))
    at_items = logits_of(model, variables, batch, logits_at="items")
    assert at_items.shape == (B, N_CONTEXT + 1, VOCAB)
    changed = lambda labels: np.abs(logits_of(model, variables, batch.replace(labels=labels), logits_at="items"))
    clean, other = changed(batch.labels), changed(batch.labels.at[:, 1].set((batch.labels[:, 1] + 1) % VOCAB))
    np.testing.assert_array_equal((clean != other).any((0, 2)), [False, False, True, True])


@pytest.mark.parametrize("labels", ["interleaved", "concatenated"])
def test_the_task_token_comes_first_and_is_read(labels, batch):
    model = make(task_token=True, labels=labels)
    variables = model.init(jax.random.key(4))
    output = output_of(model, variables, batch)
    params = dict(variables["params"], embedder=dict(variables["params"]["embedder"]))
    positions = params["embedder"].pop("positions")
    bare = make(labels=labels, positions="none")
    plain = output_of(bare, {"params": params, "stats": {}}, batch)
    assert output.taps["embed"].shape[1] == plain.taps["embed"].shape[1] + 1
    close(output.taps["embed"][:, 1:] - positions[None, 1:], plain.taps["embed"])
    other = output_of(model, variables, batch.replace(task=batch.task + 1))
    assert np.abs(other.logits - output.logits).max() > 1e-6


@pytest.mark.parametrize("core", ["transformer", "gru"])
def test_scanned_layers_equal_unrolled_ones(core, batch, monkeypatch):
    model = make(core=core)
    variables = model.init(jax.random.key(5))
    site = "resid" if core == "transformer" else "state"
    patch = taps.Patch(site, "add", True, jax.random.normal(jax.random.key(6), (2, 1, 7, 16)))
    run = lambda patches: jax.jit(lambda v: model.apply(v, batch, record=(site,), patches=patches))(variables)
    loss = lambda p: jnp.square(model.apply({**variables, "params": p}, batch).logits).mean()
    results = []
    for most_unrolled in (4, 0):
        monkeypatch.setattr(taps, "UNROLLED_LAYERS", most_unrolled)
        results.append((run((patch,)), jax.jit(jax.grad(loss))(variables["params"])))
    jax.tree.map(lambda a, b: close(a, b, 1e-5), *results)


def test_a_member_of_a_population_equals_a_lone_model(batch):
    model = make(labels="concatenated")
    keys = jax.random.split(jax.random.key(7), 3)
    population = jax.jit(jax.vmap(model.init))(keys)
    together = jax.jit(jax.vmap(lambda v: model.apply(v, batch).logits))(population)
    alone = model.init(keys[1])
    jax.tree.map(lambda a, b: close(a[1], b), population, alone)
    close(together[1], logits_of(model, alone, batch))
    assert np.abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("core", "layers", "count"),
    [
        ("transformer", 12, 831_479),
        ("transformer", 2, 331_639),
        ("lstm", 12, 627_831),
        ("lstm", 2, 297_591),
        ("rnn", 12, 331_383),
        ("rnn", 2, 248_183),
        ("gru", 2, 22_176 + 1_623 * 64 + 65 * 1_623 + 2 * (128 * 192 + 192)),
    ],
)
def test_parameter_counts_are_those_of_the_paper(core, layers, count):
    spec = dataclasses.replace(PAPER, core=core, num_layers=layers)
    params = shapes(build(spec, ItemShape("image", (105, 105, 1)), 1_623, 8, False))["params"]
    assert num_params(params) == count
    assert num_params(params["encoder"]) == 22_176


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0))


def test_initial_values_have_the_released_spread():
    params = build(ModelSpec(), ItemShape("image", (14, 14, 1)), 500, 8, False).init(jax.random.key(8))["params"]
    core = params["core"]["layers"]
    close(core["attention"]["qkv"]["kernel"].std() * 64**0.5, 1.0, 0.03)
    close(core["mlp"]["out"]["kernel"].std() * 256**0.5, 1.0, 0.03)
    close(params["embedder"]["table"].std() / 0.02, 0.88, 0.03)
    assert np.abs(core["attention"]["qkv"]["kernel"][0] - core["attention"]["qkv"]["kernel"][1]).max() > 0.1
    assert not core["attention"]["qkv"]["bias"].any() and (core["norm_mlp"]["scale"] == 1).all()


def test_modules_names_every_leaf():
    model = make(labels="concatenated", readout="mlp")
    params = shapes(model)["params"]
    modules = model.decay_groups(params)
    assert jax.tree.structure(modules) == jax.tree.structure(params)
    assert modules["core"]["layers"]["attention"]["qkv"] == {"kernel": "attention", "bias": ""}
    assert modules["core"]["layers"]["mlp"]["hidden"]["kernel"] == "mlp"
    assert modules["core"]["norm"] == {"scale": "", "bias": ""}
    assert modules["encoder"]["out"]["kernel"] == "encoder"
    assert modules["embedder"]["table"] == modules["embedder"]["positions"] == "embeddings"
    assert modules["readout"]["hidden_0"]["kernel"] == "mlp"
    cue = make(**CASES["cue"])
    assert cue.decay_groups(shapes(cue)["params"])["embedder"]["separator"] == "embeddings"
    lstm = make(core="lstm")
    assert lstm.decay_groups(shapes(lstm)["params"])["core"]["layers"]["gates"]["kernel"] == "attention"


def test_equal_facts_make_equal_models():
    assert make() == make() and hash(make()) == hash(make())
    assert make() != make(width=32)


@pytest.mark.parametrize("name", ["learned", "lstm"])
def test_bfloat16_stays_close_with_float32_parameters(name, batch):
    model, half = make(**CASES[name]), make(**CASES[name], dtype="bfloat16")
    variables = half.init(jax.random.key(9))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    exact, rounded = (logits_of(m, variables, batch) for m in (model, half))
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(exact - rounded).max() < 0.03 * np.abs(exact).max()
    assert "bf16" in str(jax.make_jaxpr(lambda v: half.apply(v, batch).logits)(variables))


def test_onehot_positions_shift_at_random_and_together(batch):
    model = make(**CASES["onehot"])
    variables = model.init(jax.random.key(10))
    shifts = set()
    for seed in range(12):
        output = model.apply(
            variables, batch, key=jax.random.split(jax.random.key(seed), batch.items.shape[0]), record=("embed",)
        )
        slots = np.asarray(output.taps["embed"][..., -8:])
        index = slots.argmax(-1)
        np.testing.assert_array_equal(slots.sum(-1), 1)
        np.testing.assert_array_equal(index, index[:, :1] + np.arange(7))
        shifts |= set(index[:, 0].tolist())
    assert shifts == {0, 1}  # 8 slots for 7 tokens
    output = model.apply(variables, batch, record=("embed",))
    assert (output.taps["embed"][:, 0, -8] == 1).all()


def test_tied_logits_are_products_with_the_label_table(batch):
    model = make(tied=True, norm="none")
    variables = model.init(jax.random.key(11))
    output = model.apply(variables, batch, record=("resid",))
    table = variables["params"]["embedder"]["table"]
    close(output.logits, output.taps["resid"][-1, :, -1] @ table.T)
    assert "readout" not in variables["params"] or not jax.tree.leaves(variables["params"]["readout"])


@pytest.mark.parametrize("rotate", [Rotary(), Rotary(dims=4, base=100.0), Rotary(pairs="neighbours")])
def test_rotary_products_depend_on_distance_only(rotate):
    q, k = jax.random.normal(jax.random.key(12), (2, 1, 1, 1, 8))
    product = lambda i, j: float((rotate(q, i) * rotate(k, j)).sum())
    assert product(5, 3) == pytest.approx(product(12, 10), abs=1e-5)
    assert abs(product(5, 3) - product(5, 1)) > 1e-3


def test_sinusoids_are_sines_then_cosines():
    table = positions.sinusoid(17, 64, 30.0)
    assert table[3, 5] == pytest.approx(np.sin(3 * 30 ** (-10 / 64)), abs=1e-6)
    assert table[3, 37] == pytest.approx(np.cos(3 * 30 ** (-10 / 64)), abs=1e-6)


@pytest.mark.parametrize(("length", "size", "stride"), [(14, 7, 2), (13, 3, 2), (7, 3, 1), (6, 1, 2)])
def test_convolution_and_pooling_equal_those_of_xla(length, size, stride):
    key_x, key_kernel = jax.random.split(jax.random.key(13))
    x = jax.random.normal(key_x, (2, length, length, 3))
    kernel = jax.random.normal(key_kernel, (size, size, 3, 4))
    names = ("NHWC", "HWIO", "NHWC")
    with jax.default_matmul_precision("highest"):
        want = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=names)
        close(resnet.conv(x, kernel, stride), want, 1e-4)
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    want = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "SAME")
    np.testing.assert_array_equal(resnet.max_pool(x, size, stride), want)


def test_batch_moments_averaged_over_devices_are_those_of_the_whole_batch():
    definition, params, stats = nnx.split(resnet.BatchNorm(4), nnx.Param, layers.BatchStat)
    x = 3 + 2 * jax.random.normal(jax.random.key(14), (8, 5, 5, 4))

    def norm(x, mean):
        module = nnx.merge(definition, params, jax.tree.map(lambda leaf: leaf, stats))
        return module(x, True, mean), nnx.to_pure_dict(nnx.state(module, layers.BatchStat))

    mean = lambda tree: jax.lax.pmean(tree, "shards")
    split, new = jax.vmap(lambda x: norm(x, mean), axis_name="shards")(x.reshape(2, 4, 5, 5, 4))
    whole, expected = norm(x, None)
    close(split.reshape(x.shape), whole, 1e-5)
    jax.tree.map(lambda a, b: close(a[0], b, 1e-5), new, expected)
    close(expected["mean_average"], x.mean((0, 1, 2)), 1e-5)  # bias corrected: exact after one update
    alone, _ = norm(x[:4], None)
    assert np.abs(alone - whole[:4]).max() > 1e-2


def test_flattened_resnet_features_have_the_width():
    spec = dataclasses.replace(PAPER, num_layers=1, encoder_flatten=True)
    model = build(spec, ItemShape("image", (105, 105, 1)), 10, 1, False)
    kernel = shapes(model)["params"]["encoder"]["group_3_block_1"]["conv_2"]["kernel"]
    assert kernel.shape == (1, 1, 1, 4)  # 4 x 4 positions x 4 channels


LEAST = [name for name, option in options_of(ModelSpec).items() if option.least is not None]
IMAGES, SYMBOLS = ItemShape("image", (28, 28, 1)), ItemShape("symbol", (), 9)


@pytest.mark.parametrize("name", ["linear", "mlp", "identity"])
def test_encoders_read_symbols_as_one_hot_vectors(name):
    spec = dataclasses.replace(SMALL, encoder=name, width=9, num_heads=3)
    symbols, vectors = (build(spec, items, VOCAB, 3, False) for items in (SYMBOLS, ItemShape("vector", (9,))))
    variables = symbols.init(jax.random.key(15))
    features = symbols.encode(variables, jnp.arange(9))
    close(features, vectors.encode(variables, jnp.eye(9)))
    assert len(np.unique(np.asarray(features).round(4), axis=0)) == 9


@pytest.mark.parametrize(
    ("changes", "items", "message"),
    [
        ({"core": "transfomer"}, VECTORS, "did you mean 'transformer'"),
        ({"encoder": "resnett"}, IMAGES, "did you mean 'resnet'"),
        ({"positions": "rotery"}, VECTORS, "did you mean 'rotary'"),
        ({"num_heads": 3}, VECTORS, "num_heads 3 does not divide the core width 16"),
        ({"num_heads": 16, "positions": "rotary"}, VECTORS, "even head size"),
        ({"core": "lstm", "positions": "rotary"}, VECTORS, "rotary positions need a transformer"),
        ({"positions": "onehot", "num_position_slots": 5}, VECTORS, "num_position_slots 5 < 7 tokens"),
        ({"positions": "onehot", "num_position_slots": 16}, VECTORS, "raise the width"),
        ({"positions": "onehot", "tied": True}, VECTORS, "model.tied"),
        ({"encoder": "resnet"}, SYMBOLS, "use 'embedding', 'mlp' or 'linear'"),
        ({"encoder": "identity"}, SYMBOLS, r"items of shape \(9,\) .* 16 components"),
        ({"encoder": "embedding"}, IMAGES, "cannot read items of kind 'image'"),
        ({"encoder": "resnet"}, VECTORS, "cannot read items of kind 'vector'"),
        ({"encoder": "identity"}, VECTORS, "use 'linear'"),
        ({"encoder": "resnet", "encoder_flatten": True, "width": 60}, ItemShape("image", (105, 105, 1)), "multiple"),
        *(({field: -1}, VECTORS, f"model.{field} -1 must be at least") for field in LEAST),
        ({"positions": "sinusoidal", "position_scale": 0.0}, VECTORS, "position_scale 0.0 must be above 0"),
        ({"item_tokens": 2}, VECTORS, r"item_tokens 2 does not divide the first axis, 5, .* use one of 1, 5"),
        ({"item_tokens": 2}, SYMBOLS, "item_tokens 2: symbols have no parts"),
        ({"item_tokens": 5, "encoder": "identity"}, VECTORS, r"parts of items of shape \(1,\) .* 16 components"),
        ({"item_tokens": 5, "labels": "concatenated"}, VECTORS, "item_tokens 5: concatenated labels are one token"),
        ({"separator": True, "labels": "concatenated"}, VECTORS, "separator True: concatenated labels are one token"),
        ({"pair_order": "label_first", "labels": "concatenated"}, VECTORS, "use model.labels 'interleaved'"),
        (
            {"pair_order": "label_first", "separator": True},
            VECTORS,
            "model.separator stands between .* use 'item_first'",
        ),
        ({"pair_order": "item_last"}, VECTORS, "unknown model.pair_order 'item_last'"),
    ],
)
def test_errors_name_the_value_and_the_way_out(changes, items, message):
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(SMALL, **changes), items, VOCAB, N_CONTEXT, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "concatenated"}, "holds its own label"),
        ({"pair_order": "label_first"}, "labels stand before their items, .* use model.pair_order 'item_first'"),
    ],
)
def test_losses_and_logits_at_items_need_tokens_that_ask_for_labels(changes, message, batch):
    spec = dataclasses.replace(SMALL, **changes)
    with pytest.raises(ValueError, match=f"'all' needs .*{message}"):
        check_chosen(RunSpec(BankSpec("gaussian"), model=spec, task=TaskSpec(loss="all")))
    model = make(**changes)
    with pytest.raises(ValueError, match=message):
        model.apply(model.init(jax.random.key(0)), batch, logits_at="items")
