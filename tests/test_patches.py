"""Laws of interventions: what a config can say, where tokens are, populations that differ in a patch's numbers."""

import dataclasses
import json
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.compute as pc
import pytest
from plugins import registered, stream_config
from tiny import pairs_model, tiny_config

import icl_jax
from icl_jax import grid, patches
from icl_jax.inputs import ItemShape, Pairs
from icl_jax.members import varied
from icl_jax.models.frontends.layout import token_layout
from icl_jax.models.taps import Patch, identity_text
from icl_jax.report.unchanged import unchanged
from icl_jax.runs import config as cfg
from icl_jax.runs import rundir
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.runplan import config_from_json, config_to_json, plan_of
from icl_jax.spec import ModelSpec, PatchNumbers
from icl_jax.storage.leaves import CheckpointError
from icl_jax.storage.metrics import select
from icl_jax.sweep.cells import expand
from icl_jax.training.effects import Effects
from icl_jax.training.population import TRACES

CUT = {"site": "attn_scores", "tokens": "earlier -> label", "value": -math.inf}
WEAK = {"site": "resid", "mode": "multiply", "tokens": "answer", "value": 0.5}


def config_with(**fields):
    config = tiny_config(model__labels="interleaved", train__num_steps=10)
    config.evals.every = 10
    config.hypers.p_bursty = 1.0
    config.seeds.init, config.seeds.data = 0, 0
    for name, patch in fields.items():
        config.patches[name] = patch
    return config


# What can be said ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "names no site"),
        ({"site": "attn_probz"}, "no site 'attn_probz' among .*did you mean 'attn_probs'"),
        ({"site": "resid", "valu": 1}, "unknown field 'valu' in patches.x; did you mean 'value'"),
        ({"site": "resid", "mode": "swap"}, "unknown patches.x.mode 'swap'"),
        ({"site": "attn_scores", "mode": "multiply"}, "-inf times 0"),
        ({"site": "pattern", "tokens": "label"}, "takes an edge, such as 'item -> query'"),
        ({"site": "resid", "tokens": "item -> label"}, "takes a set, such as 'query'"),
        ({"site": "resid", "tokens": "labels"}, "no set of tokens 'labels' among all, item, .*did you mean 'label'"),
        ({"site": "pattern", "tokens": "label -> earlier"}, "no set of tokens 'earlier'"),
        ({"site": "pattern", "tokens": "label ->"}, "half an edge"),
        ({"site": "resid", "tokens": "-> label"}, "half an edge"),
        ({"site": "resid", "tokens": "label", "within": "same"}, "is about edges"),
        ({"site": "resid", "heads": 1}, "site 'resid' has no heads"),
        ({"site": "embed", "layers": 0}, "site 'embed' has no layers"),
        ({"site": "resid", "layers": (0, 2)}, "2 is not among 0 to 1"),
        ({"site": "resid", "layers": (0.5,)}, "is no int"),
        ({"site": "resid", "start": 5, "stop": 5}, "that is never"),
        ({"site": "resid", "value": math.nan}, "no float|must be finite"),
        ({"site": "resid", "value": -math.inf}, "must be finite"),
        ({"site": "q_rot"}, "no site 'q_rot'"),
        ({"site": "attn"}, "no site 'attn' among .*did you mean 'attn_out'"),
        ({"site": "resid", "start": 3_000_000_000}, "step 3,000,000,000 is beyond the last that can be counted"),
        ({"site": "resid", "value": 1e39}, "value 1e.39 is more than a float32 holds"),
        ({"site": "resid", "start": np.arange(2)}, "patches.x.start .0, 1. is no int"),
    ],
)
def test_what_a_patch_cannot_be_is_refused_before_anything_runs(fields, message):
    with pytest.raises(ValueError, match=message):
        prepare_experiment(config_with(x=fields))


def test_a_name_and_a_field_are_checked_where_they_are_set():
    config = config_with(cut=CUT)
    with pytest.raises(ValueError, match=r"unknown field 'layer' in patches\.cut; did you mean 'layers'"):
        cfg.override(config, {"patches.cut.layer": 1})
    assert cfg.override(config, {"patches.cut.layers": 1}).patches.cut.layers == 1
    with pytest.raises(ValueError, match="give its fields"):
        plan_of(config_with(cut=3))
    with pytest.raises(ValueError, match="the name 'a/b' must be"):
        plan_of(config_with(**{"a/b": CUT}))


def test_an_alias_and_the_order_of_layers_say_the_same():
    one = patches.parse("x", {"site": "pattern", "layers": (1, 0, 1)})
    assert one == patches.parse("x", {"site": "attn_probs", "layers": [0, 1]})
    for layers in (range(2), np.arange(2)):
        assert one == patches.parse("x", {"site": "attn_probs", "layers": layers})
    arrays = plan_of(config_with(x={"site": "pattern", "layers": np.arange(2), "value": np.float32(0.5)}))
    assert arrays.members[0].patches["x"] == dataclasses.replace(one[1], value=0.5)
    assert arrays.config["patches"]["x"]["layers"] == [0, 1]
    spaced = [patches.parse("x", {"site": "z", "tokens": text}) for text in ("label->query", " label  -> query")]
    assert {spec.tokens for spec, _ in spaced} == {"label -> query"}


def test_rotated_queries_are_a_site_where_there_are_rotations():
    rotary = pairs_model(ModelSpec(width=16, num_heads=2, positions="rotary"), ItemShape("vector", (5,)), 6, 3)
    assert {"q_rot", "k_rot"} <= set(rotary.sites)


# What it is part of ----------------------------------------------------------------------------------------


def test_a_patch_is_part_of_what_a_run_is_and_none_is_not():
    def ids(config):
        plan = plan_of(config)
        return [cfg.cell_id(plan.spec, m, "data") for m in plan.members]

    plain, cut = ids(config_with()), ids(config_with(cut=CUT))
    assert cut != plain
    changed = [{"layers": 0}, {"value": 0.0}, {"on": False}, {"stop": 5}, {"within": "another"}, {"during": "evals"}]
    every = [plain, cut, *(ids(config_with(cut=CUT | change)) for change in changed)]
    assert len({tuple(e) for e in every}) == len(every)
    assert ids(config_with(cut=CUT | {"layers": (), "mode": "replace"})) == cut  # said, and the default


def test_configs_and_members_survive_json():
    config = config_with(cut=CUT | {"layers": (0, 1)}, more={"site": "z", "heads": 1, "mode": "multiply"})
    back = config_from_json(json.loads(json.dumps(config_to_json(config))))
    assert plan_of(back).spec == plan_of(config).spec
    members = cfg.members_of(config)
    assert rundir.members_from_json(rundir.members_to_json(members)) == members
    assert "patches" not in rundir.members_to_json(cfg.members_of(config_with()))[0]  # as earlier versions wrote them


def test_a_sweep_over_the_numbers_is_one_group_and_over_static_fields_several():
    config = config_with(cut=CUT)
    layers = grid.over("patches.cut.layers", [(0,), (1,), ()], label="layer")
    strengths = grid.over("patches.cut.value", (-math.inf, -2.0, 0.0), label="strength")
    cells = expand(config, grid.product(layers, strengths))
    assert len({cell.id for cell in cells}) == 9 and len({cell.group.key for cell in cells}) == 1
    assert [cell.labels for cell in cells[:4:3]] == [
        {"layer": "0", "strength": -math.inf},
        {"layer": "1", "strength": -math.inf},
    ]
    assert cells[3].member.patches["cut"] == PatchNumbers(value=-math.inf, layers=(1,))
    tokens = expand(config, grid.over("patches.cut.tokens", ("item -> label", "label -> query")))
    assert len({cell.group.key for cell in tokens}) == 2
    off = grid.named("cut", {"on": {"patches.cut.on": True}, "off": {"patches.cut.on": False}})
    assert [cell.labels for cell in expand(config, off)] == [{"cut": "on"}, {"cut": "off"}]


def test_an_intervention_from_python_keeps_the_id_that_it_had():
    patch = Patch("embed", "add", np.zeros((2, 1)), np.ones((2, 1)), 3)
    zeros, ones = "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb", "5f07eef034c5a21f"
    text = identity_text((patch,))
    assert text.startswith(f"{zeros} {ones}")
    assert text.endswith(" PyTreeDef((CustomNode(Patch[('embed', 'add')], [*, *, *, *]),))")  # as jax wrote it
    others = [patch.replace(tokens="item"), patch.replace(on=False), patch.replace(during="evals")]
    assert len({identity_text((p,)) for p in (patch, *others)}) == 4


# Where tokens are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_token", [False, True])
def test_roles_of_interleaved_tokens(task_token):
    model = pairs_model(ModelSpec(width=16, num_heads=2), ItemShape("vector", (5,)), 6, 3, task_token)
    labels = jnp.asarray([[1, 2, 1, 1], [0, 3, 4, 5]])
    inputs = Pairs(jnp.zeros((2, 4, 5)), labels, labels[:, 0])
    sets = {name: np.asarray(s).astype(int) for name, s in model.token_sets(inputs).items()}
    lead = [0] * task_token
    expected = {
        "item": [*lead, 1, 0, 1, 0, 1, 0, 0],
        "label": [*lead, 0, 1, 0, 1, 0, 1, 0],
        "forerunner": [*lead, 1, 0, 1, 0, 1, 0, 0],
        "query": [*lead, 0, 0, 0, 0, 0, 0, 1],
        **({"task": [1, 0, 0, 0, 0, 0, 0, 0]} if task_token else {}),
    }
    assert set(sets) == {*expected, "answer"} and set(model.token_set_names) == {*sets, "all"}
    for name, row in expected.items():
        np.testing.assert_array_equal(sets[name], [row, row])
    np.testing.assert_array_equal(sets["answer"], [[*lead, 0, 1, 0, 0, 0, 1, 0], [0] * (7 + task_token)])


def test_roles_of_concatenated_tokens():
    spec = ModelSpec(width=16, num_heads=2, labels="concatenated")
    model = pairs_model(spec, ItemShape("vector", (5,)), 6, 3)
    labels = jnp.asarray([[1, 2, 1, 1]])
    sets = model.token_sets(Pairs(jnp.zeros((1, 4, 5)), labels, labels[:, 0]))
    assert {name: np.asarray(s)[0].astype(int).tolist() for name, s in sets.items()} == {
        "item": [1, 1, 1, 0],
        "label": [1, 1, 1, 0],
        "answer": [1, 0, 1, 0],
        "query": [0, 0, 0, 1],
    }


OF_LAYOUTS = {  # two pairs and a query: rows of roles and, below them, the pair's number
    "parts": (
        {"item_tokens": 2},
        {
            "item": [1, 1, 0, 1, 1, 0, 0, 0],
            "label": [0, 0, 1, 0, 0, 1, 0, 0],
            "forerunner": [0, 1, 0, 0, 1, 0, 0, 0],
            "query_text": [0, 0, 0, 0, 0, 0, 1, 0],
        },
        [0, 0, 0, 1, 1, 1, 2, 2],
        slice(1, None, 3),
    ),
    "separator": (
        {"separator": True},
        {
            "item": [1, 0, 0, 1, 0, 0, 0, 0],
            "label": [0, 0, 1, 0, 0, 1, 0, 0],
            "forerunner": [0, 1, 0, 0, 1, 0, 0, 0],
            "format": [0, 1, 0, 0, 1, 0, 0, 0],
            "query_text": [0, 0, 0, 0, 0, 0, 1, 0],
        },
        [0, 0, 0, 1, 1, 1, 2, 2],
        slice(1, None, 3),
    ),
    "parts and separator": (
        {"item_tokens": 2, "separator": True},
        {
            "item": [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0],
            "label": [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
            "forerunner": [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            "format": [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            "query_text": [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        },
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2],
        slice(2, None, 4),
    ),
    "label first": (
        {"pair_order": "label_first"},
        {"item": [0, 1, 0, 1, 0], "label": [1, 0, 1, 0, 0], "forerunner": [0, 1, 0, 0, 0]},
        [0, 0, 1, 1, 2],
        None,
    ),
    "label first, parts": (
        {"pair_order": "label_first", "item_tokens": 2},
        {
            "item": [0, 1, 1, 0, 1, 1, 0, 0],
            "label": [1, 0, 0, 1, 0, 0, 0, 0],
            "forerunner": [0, 0, 1, 0, 0, 0, 0, 0],
            "query_text": [0, 0, 0, 0, 0, 0, 1, 0],
        },
        [0, 0, 0, 1, 1, 1, 2, 2],
        None,
    ),
}


@pytest.mark.parametrize("task_token", [False, True])
@pytest.mark.parametrize("layout", OF_LAYOUTS)
def test_roles_of_every_layout(layout, task_token):
    changes, expected, owner, items = OF_LAYOUTS[layout]
    model = pairs_model(ModelSpec(width=16, num_heads=2, **changes), ItemShape("vector", (4,)), 6, 2, task_token)
    labels = jnp.asarray([[1, 2, 2]])
    roles = model.roles(Pairs(jnp.zeros((1, 3, 4)), labels, labels[:, 0]))
    found = {name: np.asarray(mask)[0].astype(int).tolist() for name, mask in roles.sets.items()}
    lead, length = [0] * task_token, len(owner)
    last = max(i for i in range(length) if expected["label"][i])
    expected = expected | {
        "query": [0] * (length - 1) + [1],
        "answer": [int(i == last) for i in range(length)],
    }
    task = {"task": [1] + [0] * length} if task_token else {}
    assert found == {name: lead + row for name, row in expected.items()} | task
    assert set(model.token_set_names) == {*found, "all"}
    assert np.asarray(roles.demonstration)[0].tolist() == [-1] * task_token + owner
    place = token_layout(model.spec, 2, task_token).items
    assert place == (items and slice(items.start + task_token, None, items.step))


def edges(tokens, within, **layout):
    """Which attention a patch of the pattern changes, (queries, keys)."""
    model = pairs_model(ModelSpec(width=16, num_heads=2, num_layers=1, **layout), ItemShape("vector", (6,)), 6, 3)
    labels = jnp.asarray([[1, 2, 1, 1]])
    inputs = Pairs(jax.random.normal(jax.random.key(0), (1, 4, 6)), labels, labels[:, 0])
    patch = Patch("attn_probs", "replace", value=-1.0, tokens=tokens, within=within)
    output = model.apply(model.init(jax.random.key(1)), inputs, record=("pattern",), patches=(patch,))
    changed = np.asarray(output.taps["pattern"][0, 0] == -1.0)
    assert (changed[0] == changed[1]).all()
    allowed = len(changed[0]) * (len(changed[0]) + 1) / 2  # those not in the future
    np.testing.assert_allclose(output.changed["0"], changed[0].sum() / allowed, rtol=1e-6)
    return {(int(k), int(q)) for q, k in np.argwhere(changed[0])}


@pytest.mark.parametrize(
    ("tokens", "within", "expected"),
    [
        ("item -> label", "same", {(0, 1), (2, 3), (4, 5)}),
        ("item -> label", "another", {(0, 3), (0, 5), (2, 5)}),
        ("item -> label", "any", {(0, 1), (0, 3), (0, 5), (2, 3), (2, 5), (4, 5)}),
        ("label -> query", "another", {(1, 6), (3, 6), (5, 6)}),
        ("answer -> query", "any", {(1, 6), (5, 6)}),
        ("earlier -> label", "any", {(k, q) for q in (1, 3, 5) for k in range(q)}),
        ("all -> query", "any", {(k, 6) for k in range(7)}),
        ("query -> label", "any", set()),  # it lies in the future
    ],
)
def test_an_arrow_is_what_its_end_reads_of_its_beginning(tokens, within, expected):
    assert edges(tokens, within) == expected


CUE = {"item_tokens": 2, "separator": True}  # 0 1 item, 2 separator, 3 label, ..., 12 13 query's item, 14 separator


@pytest.mark.parametrize(
    ("tokens", "within", "layout", "expected"),
    [
        ("item -> label", "same", CUE, {(k + i, k + 3) for k in (0, 4, 8) for i in range(2)}),
        ("item -> forerunner", "another", CUE, {(0, 6), (1, 6), (0, 10), (1, 10), (4, 10), (5, 10)}),
        ("earlier -> query", "same", CUE, {(12, 14), (13, 14)}),
        ("item -> label", "same", {"pair_order": "label_first"}, set()),  # items come later
        ("item -> label", "another", {"pair_order": "label_first"}, {(1, 2), (1, 4), (3, 4)}),
        ("label -> item", "same", {"pair_order": "label_first"}, {(0, 1), (2, 3), (4, 5)}),
    ],
)
def test_arrows_within_demonstrations_of_several_tokens(tokens, within, layout, expected):
    assert edges(tokens, within, **layout) == expected


# Populations -----------------------------------------------------------------------------------------------


def members_with(config, *changes):
    """A member per change of the numbers of patch cut; patch weak is on in the second alone."""
    (member,) = cfg.members_of(config)
    numbers = [dataclasses.replace(member.patches["cut"], **change) for change in changes]
    weak = [dataclasses.replace(member.patches["weak"], on=index == 1) for index in range(len(changes))]
    return [dataclasses.replace(member, patches={"cut": c, "weak": w}) for c, w in zip(numbers, weak, strict=True)]


def trained(directory, config, members=None):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return icl_jax.train(config, directory, members=members, progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Members that differ in a patch's layers, strength, steps and whether it is on; one of them alone; without."""
    where, config = tmp_path_factory.mktemp("patched"), config_with(cut=CUT, weak=WEAK)
    changes = ({}, {"layers": (0,)}, {"value": -2.0}, {"on": False}, {"start": 5})
    before = TRACES["chunk"]
    many = trained(where / "many", config, members_with(config, *changes))
    assert TRACES["chunk"] == before + 1
    alone = trained(where / "alone", cfg.override(config, {"patches.cut.layers": 0}))
    return many, alone, trained(where / "without", config_with())


def losses(run, member, suite="train", metric="loss"):
    return select(run.table, metric=metric, suite=suite, member=member)["value"]


def test_members_differ_in_a_patch_and_each_equals_the_run_alone(runs):
    many, alone, without = runs
    np.testing.assert_allclose(losses(many, 1), losses(alone, 0), rtol=1e-4)
    np.testing.assert_allclose(losses(many, 3), losses(without, 0), rtol=1e-4)
    final = [losses(many, m)[-1] for m in range(5)]
    assert min(abs(a - b) for i, a in enumerate(final) for b in final[:i]) > 1e-5  # all five differ
    np.testing.assert_allclose(losses(many, 4)[0], losses(without, 0)[0], rtol=1e-4)  # steps 0 to 4: not yet
    assert abs(losses(many, 4)[1] - losses(without, 0)[1]) > 1e-5
    assert {m.patches["cut"] for m in icl_jax.load_run(many.directory).members} == {
        m.patches["cut"] for m in many.members
    }


def test_the_share_of_its_site_that_a_patch_changed_is_in_the_table(runs):
    many, _, without = runs
    whole = (1 + 3 + 5 + 7) / 45  # edges to labels of 4 pairs, of a lower triangle of 9 tokens
    changed = lambda member, suite: select(many.table, metric="changed", suite=suite, member=member, patch="cut")[
        "value"
    ]
    shares = [changed(m, "train") for m in range(5)]
    np.testing.assert_allclose(shares[:4], [[whole] * 2, [whole / 2] * 2, [whole] * 2, [0] * 2], rtol=1e-5)
    np.testing.assert_allclose(shares[4], [0, whole], rtol=1e-5)
    np.testing.assert_allclose(changed(4, "fewshot_holdout"), [0, whole], rtol=1e-5)
    assert set(select(many.table, metric="changed")["patch"]) == {"cut", "weak"}
    assert "patch" not in without.table.column_names
    table = many.table
    assert table["hyper/patches.cut.layers"].unique().to_pylist() == ["all", "0"]
    fields = [f"patches.cut.{field}" for field in ("value", "layers", "start", "on")]
    assert varied(many.members) == [*fields, "patches.weak.on"]
    assert "patches.cut.layers 0" in many.summary() and "changes nothing" not in many.summary()


def test_a_patch_in_evals_alone_leaves_training_as_it_is_and_one_without_effect_is_reported(tmp_path, runs):
    config = config_with(cut=CUT | {"during": "evals"}, none=WEAK | {"value": 1.0, "during": "evals"})
    with pytest.warns(UserWarning, match=r"patch 'none' acts in evals and changes nothing in 1 of 1 members \(0\)"):
        run = icl_jax.train(config, tmp_path / "run", progress=False)
    np.testing.assert_array_equal(losses(run, 0), losses(runs[2], 0))  # bit for bit
    measured = lambda of: losses(of, 0, "fewshot_holdout", "loss")
    assert np.abs(measured(run) - measured(runs[2])).min() > 1e-6
    assert not len(losses(run, 0, metric="changed")) and len(losses(run, 0, "fewshot_holdout", "changed"))
    assert unchanged(run.table) == ["Patch 'none' acts and changes nothing in 1 of 1 runs in which it is on."]
    assert unchanged(run.table)[0] in run.summary()


def test_only_members_in_which_a_patch_acts_are_reported():
    effects, acts = Effects(), {"a": np.array([True, False, True]), "b": np.array([False, False, False])}
    with pytest.warns(
        UserWarning, match=r"patch 'a' acts in training and changes nothing in 1 of 3 members \(2\)"
    ) as w:
        effects.look("training", acts, np.array([[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]))
        effects.look("training", acts, np.zeros((3, 2)))
    assert len(w) == 1  # once


def test_roles_follow_a_batch_that_is_split_over_devices_and_parts(tmp_path, runs):
    split = {"runtime.devices": 2, "runtime.batch_shards": 2, "runtime.accumulate": 2}
    parts = trained(tmp_path / "parts", cfg.override(runs[1].config, split))
    for metric in ("loss", "changed"):
        np.testing.assert_allclose(losses(runs[1], 0, metric=metric), losses(parts, 0, metric=metric), rtol=1e-4)


def test_a_mask_of_single_sequences_is_refused_in_training(tmp_path):
    patch = Patch("resid", "add", np.ones((1, 2, 8, 9, 1), bool), 0.0)
    with pytest.raises(ValueError, match="patch '0': its mask or value is of 8 sequences"):
        icl_jax.train(config_with(), tmp_path / "run", patches=(patch,), progress=False)


def test_a_source_without_roles_has_all_tokens_alone(tmp_path):
    with registered():
        config = stream_config()
        config.patches.gone = {"site": "state", "tokens": "label"}
        with pytest.raises(ValueError, match="no set of tokens 'label' among all"):
            prepare_experiment(config)
        config.patches.gone.tokens = "all"
        assert prepare_experiment(config).patches[0].tokens == "all"


# From Python -----------------------------------------------------------------------------------------------


def test_a_run_is_looked_into_with_the_language_of_configs(runs):
    many, _, without = runs
    batch = without.batch(6)
    assert batch.inputs.labels.shape == (6, 5) and batch.weights.shape[0] == 6
    clean = without.apply(batch, record=("pattern", "final"))
    cut = without.apply(batch, record=("attn_probs",), patches={"cut": CUT})
    assert clean.taps["final"].shape == (6, 9, 16) and isinstance(clean.logits, np.ndarray)
    labels = np.asarray(without.model.token_sets(batch.inputs)["label"])[0]
    alone = np.eye(9)[labels]
    assert (cut.taps["attn_probs"][:, :, :, labels] == alone).all()
    assert not (clean.taps["pattern"][:, :, :, labels] == alone).all()
    np.testing.assert_allclose(cut.changed["cut"], 16 / 45, rtol=1e-6)
    assert without.apply(batch, record="final").taps["final"].shape == (6, 9, 16)
    assert without.apply(batch, patches=Patch("embed", "multiply", value=0.0)).changed["0"] > 0.9
    assert without.apply(batch, logits_at=np.array([[8]] * 6)).logits.shape[:2] == (6, 1)
    for places, words in (
        (np.array([[9]] * 6), r"9 to 9 is not among the 9 tokens"),
        (np.array([0] * 6), r"shape \(6,\) and type int64: give whole numbers \(B, K\)"),
        (np.array([[1.7]] * 6), r"type float64: give whole numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            without.apply(batch, logits_at=places)
    with pytest.raises(ValueError, match=r"no common class to ask for|num_common"):
        without.batch(2, suite="fewshot_common")
    with pytest.warns(UserWarning, match="patch 'none' changes nothing here"):
        without.apply(batch, patches={"none": {"site": "resid", "mode": "multiply", "value": 1.0}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is off, or not at that step, is no silent one
        for still in ({"on": False}, {"start": 11}, {"stop": 10}):
            idle = without.apply(batch, patches={"cut": CUT | still})
            np.testing.assert_allclose(idle.logits, clean.logits, atol=1e-5)
            assert idle.changed == {"cut": 0}
        own = many.apply(batch, patches=many.config.patches)
    assert own.changed["cut"] > 0 and own.changed["weak"] > 0
    with pytest.raises(ValueError, match="no site 'residd'"):
        without.apply(batch, record=("residd",))
    with pytest.raises(ValueError, match="member 5"):
        many.apply(batch, member=5)
    np.testing.assert_allclose(without.apply(batch, step=10).logits, clean.logits, atol=1e-5)
    with pytest.raises(CheckpointError, match="no checkpoint of step 0"):
        without.apply(batch, step=0)


def test_a_batch_is_the_one_that_training_and_the_evals_see(runs):
    without = runs[2]
    sample = icl_jax.sample(without.config, 8, step=3).batch
    jax.tree.map(np.testing.assert_array_equal, without.batch(8, step=3), sample)
    suite = without.batch(32, suite="fewshot_holdout")  # all of this run's
    logits = without.apply(suite).logits
    shown = suite.inputs.labels[:, :-1]
    guess = np.take_along_axis(shown, np.take_along_axis(logits, shown, 1).argmax(1)[:, None], 1)[:, 0]
    accuracy = (guess == suite.targets[:, -1]).mean()
    np.testing.assert_allclose(accuracy, losses(without, 0, "fewshot_holdout", "accuracy")[-1], atol=1e-6)
    assert (without.batch(4, suite="flipped").inputs.labels[:, :4] >= 0).all()  # a suite that the run has not


def test_interventions_from_python_act_when_a_run_is_evaluated_again(tmp_path):
    silent = Patch("attn_out", "multiply", value=0.0)
    run = icl_jax.train(config_with(), tmp_path / "run", patches=(silent,), progress=False)
    with pytest.raises(ValueError, match=r"other patches from Python.*give evaluate the same `patches` as train"):
        icl_jax.evaluate(run)
    again = icl_jax.evaluate(run, patches=(silent,))
    last = run.table.filter((pc.field("step") == run.step) & (pc.field("suite") != "train"))
    found = lambda table: {(r["suite"], r["metric"], r["member"]): r["value"] for r in table.to_pylist()}
    theirs = found(last)
    assert theirs and all(found(again)[key] == pytest.approx(value, nan_ok=True) for key, value in theirs.items())
