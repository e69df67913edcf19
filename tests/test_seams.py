"""The seams: what a user adds without an edit in the trainer, and what is derived from declarations."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plugins
import pyarrow.compute as pc
import pytest
from test_imports import imports
from tiny import pairs_model, tiny_config

import icl_jax
from icl_jax import registry
from icl_jax.inputs import ItemShape, Pairs
from icl_jax.models.build import Model
from icl_jax.models.layers import BatchStat
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.spec import HYPERS, SECTIONS, Hyper, ModelSpec, Option, options_of
from icl_jax.storage.leaves import flatten, member_digests


@pytest.fixture(scope="module", autouse=True)
def own_components():
    """The plugins' components, while this file runs."""
    with plugins.registered():
        yield


def state_of(run):
    return flatten(run._newest[1])


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return plugins.trained(tmp_path_factory.mktemp("stream") / "run")


def values(run, suite, metric, member=0):
    found = run.table.filter(
        (pc.field("suite") == suite) & (pc.field("metric") == metric) & (pc.field("member") == member)
    )
    return found["value"].to_numpy()


def test_a_fed_source_with_a_core_an_objective_and_an_eval_of_ones_own_learns(stream):
    first, *_, last = values(stream, "by_position", "mean")
    assert first > 2.5 and last < 1.5, "bits; chance is log2(7) = 2.81"
    assert len(values(stream, "by_position", "bits")) == 3 * plugins.LENGTH
    assert stream.table["position"].drop_null().unique().to_pylist() == list(range(plugins.LENGTH))
    assert len({digest for digest in member_digests(state_of(stream))}) == 3
    assert stream.summary()


def test_a_fed_run_that_was_stopped_goes_on_bit_for_bit(stream, tmp_path, monkeypatch):
    """The host dies while it makes the batches of step 30; the checkpoint of step 20 is all that is left."""
    feed = plugins.Stream.feed

    def dies(self, member, start, stop):
        if start >= 30:
            raise KeyboardInterrupt
        return feed(self, member, start, stop)

    monkeypatch.setattr(plugins.Stream, "feed", dies)
    with pytest.raises(KeyboardInterrupt):
        plugins.trained(tmp_path / "run")
    monkeypatch.setattr(plugins.Stream, "feed", feed)
    assert icl_jax.load_run(tmp_path / "run").step == 20
    again = plugins.trained(tmp_path / "run")
    assert again.step == 40 and member_digests(state_of(again)) == member_digests(state_of(stream))
    assert again.table.equals(stream.table)


@pytest.mark.parametrize("how", [{"runtime.batch_shards": 2}, {"runtime.accumulate": 4}], ids=["shards", "parts"])
def test_sums_are_divided_by_weights_over_devices_and_parts(stream, tmp_path, how):
    """Each sequence has another number of weighted tokens, so a mean of means would differ."""
    layouts = [prepare_experiment(plugins.stream_config(**changes)).program for changes in ({}, how)]
    assert layouts[0].layout.batch_shards == 1 and layouts[0].layout.width == 2  # one place is padding
    assert (layouts[1].layout.batch_shards, layouts[1].accumulate) in ((2, 1), (1, 4))
    other = plugins.trained(tmp_path / "run", **how)
    for path, leaf in state_of(stream).items():
        np.testing.assert_allclose(state_of(other)[path], leaf, atol=2e-5, err_msg=path)
    for metric in ("loss", "accuracy"):
        np.testing.assert_allclose(values(other, "train", metric), values(stream, "train", metric), rtol=1e-5)


def test_the_loss_of_a_step_is_the_sum_over_the_weight(tmp_path):
    """Against the same numbers in numpy: the first step of a chunk of one."""
    config = plugins.stream_config(**{"train.num_steps": 1, "evals.every": 1, "checkpoint.every": 1, "seeds.data": 0})
    config.runtime.devices = 1
    experiment = prepare_experiment(config)
    population = experiment.population()
    state, fixed = population.fresh()
    params = jax.tree.map(lambda x: x[0, 0], state.params)
    _, metrics = population.chunk(state, fixed, *population.rest, population.feed(0))
    fed = experiment.program.source.feed(experiment.members[0], 0, 1)
    tokens, weights = fed["tokens"][0], fed["weights"][0]
    logits = np.asarray(
        experiment.program.model.apply({"params": params, "stats": {}}, tokens[:, :-1], logits_at="items").logits
    )
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(metrics["loss"][0, 0], (losses * weights).sum() / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("shards", [1, 2])
def test_each_device_is_fed_its_part_of_its_members(shards):
    experiment = prepare_experiment(plugins.stream_config(**{"runtime.batch_shards": shards}))
    fed = jax.device_get(experiment.population().feed(10))["tokens"]
    layout, source = experiment.program.layout, experiment.program.source
    assert fed.shape == (2, 10, layout.width, 8 // shards, plugins.LENGTH + 1)
    for device in range(2):
        group, shard = divmod(device, shards)
        for place in range(layout.width):
            member = experiment.members[min(group * layout.width + place, 2)]
            whole = source.feed(member, 10, 20)["tokens"]
            part = whole[:, shard * (8 // shards) : (shard + 1) * (8 // shards)]
            np.testing.assert_array_equal(fed[device, :, place], part)


def test_a_core_of_ones_own_reads_pairs_and_has_its_sites():
    model = pairs_model(ModelSpec(core="linear_attention", width=16, encoder="linear"), ItemShape("vector", (5,)), 6, 3)
    batch = Pairs(jnp.ones((2, 4, 5)), jnp.zeros((2, 4), jnp.int32), jnp.zeros(2, jnp.int32))
    variables = model.init(jax.random.key(0))
    output = model.apply(variables, batch, record=("state", "embed"))
    assert output.taps["state"].shape == (2, 2, 7, 16, 16) and output.logits.shape == (2, 6)
    groups = jax.tree.leaves(model.decay_groups(variables["params"])["core"])
    assert set(groups) == {"attention", ""}


def test_initial_values_follow_their_rules():
    model = Model(ModelSpec(core="linear_attention", width=64), (plugins.VOCAB, 400), "tokens")
    params = model.init(jax.random.key(0))["params"]
    gain, table = params["core"]["layers"]["gain"], params["embedder"]["tokens"]
    assert gain.shape == (2, 64) and 0.5 <= gain.min() < gain.max() <= 1.5 and np.abs(gain[0] - gain[1]).max() > 0.1
    assert abs(float(table.mean()) - 0.1) < 0.03 and abs(float(table.std()) - 0.2 * 0.88) < 0.03  # fill and normal


def test_an_old_run_has_the_default_of_a_hyper_that_came_later(tmp_path):
    config = tiny_config()
    run = icl_jax.train(config, tmp_path / "run", progress=False)
    before, identity = run.table, json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    registry.register(
        dataclasses.replace(plugins.STREAM[2], name="later", hypers={"later": Hyper(0.25, 0, 1, "a hyper")}, reads={})
    )
    again = icl_jax.load_run(tmp_path / "run")
    assert all(member.hypers["later"] == 0.25 for member in again.members)
    config = cfg.override(tiny_config(), {"train.num_steps": 30})
    longer = icl_jax.train(config, tmp_path / "run", progress=False)
    assert longer.step == 30 and json.loads((tmp_path / "run" / "run.json").read_text())["identity"] == identity
    old = longer.table.filter(pc.field("step") <= 20)
    assert old.num_rows == before.num_rows and set(old.column_names) >= set(before.column_names)
    assert icl_jax.evaluate(again, ["flipped"]).num_rows
    with pytest.raises(ValueError, match=r"is read by nothing here: it needs parts\.objective 'later'"):
        prepare_experiment(cfg.override(tiny_config(), {"hypers.later": 0.5}))


# Declarations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hypers.p_jump": 0.2}, "parts.source 'stream'"),
        ({"task.core_classes": "zipfian", "hypers.p_bursty_zipfian": 0.5}, "task.core_classes 'mixture'"),
        ({"task.kind": "iid", "hypers.p_bursty": 0.9, "hypers.shots": 3, "hypers.ways": 1}, "or a suite with ways 0"),
        (
            {"model.encoder": "identity", "bank.dim": 16, "hypers.decay_encoder": 0.1},
            r"it needs model\.encoder 'resnet', 'mlp'",
        ),
        ({"hypers.decay_mlp": 0.1, "model.tied": True}, "model.mlp_ratio above 0 or model.tied False"),
        ({"parts.source": "streem"}, "did you mean 'stream'"),
        ({"options.core": {"features": "elu"}}, "core 'transformer' has no such option; known: biases"),
        ({"options.cor": {"features": "elu"}}, "options.cor: there is no such role; did you mean 'core'"),
        ({"runtime.accumulate": 3}, "does not divide a device's 4 sequences"),
    ],
)
def test_what_no_component_reads_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(cfg.override(tiny_config(), changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"task.kind": "iid"}, "task.kind is set, and nothing here reads it"),
        ({"model.positions": "rotary"}, "model.positions is set, and nothing here reads it"),
        ({"model.encoder": "linear"}, "model.encoder is set"),
        ({"parts.frontend": "pairs"}, "reads item-label pairs, which this source does not give"),
        ({"options.core": {"features": 3}}, "options.core.features 3 is no str"),
        ({"options.core": "relu"}, "give its fields, such as options.core.NAME"),
        ({"options.bank": {"x": 1}}, "this run has no component of that role"),
        ({"options.core": {"features": "tanh"}}, r"unknown options\.core\.features 'tanh'; known: elu, relu"),
        ({"hypers.smoothing": 0.1}, "it needs an objective that smooths"),
        ({"evals.suites": ("flipped",)}, "suites are drawn from classes"),
        ({"model.num_layers": 0}, "model.num_layers 0 must be at least 1"),
    ],
)
def test_a_source_refuses_what_it_does_not_read(changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(plugins.stream_config(**changes))


def test_options_of_ones_own_are_part_of_what_a_run_is():
    id_of = lambda **changes: prepare_experiment(plugins.stream_config(**changes)).identity
    default = {"options.core": {"features": "elu"}}
    assert id_of() != id_of(**default) == id_of(**{"options.core": {}})
    assert id_of() != id_of(**{"model.core": "rnn", "options.core": {}})


@pytest.mark.parametrize("role", registry.FIELDS)
def test_every_component_says_what_it_is_and_can_be_built(role):
    for name, component in registry.components(role).items():
        assert component.doc and component.name == name, name
        assert callable(component.builder()) if component.build else hasattr(optax, component.optax_name), name


def test_every_hyper_has_a_reader_and_every_field_a_meaning():
    components = [c for role in registry.FIELDS for c in registry.components(role).values()]
    assert {h for c in components for h in c.hypers} == set(HYPERS)
    for section, spec in SECTIONS.items():
        assert all(option.doc for option in options_of(spec).values()), section
        assert len(options_of(spec)) == len(dataclasses.fields(spec)), section


def test_a_component_that_contradicts_another_is_refused():
    core = plugins.CORE
    assert registry.register(dataclasses.replace(core)) is registry.find("core", core.name)  # a file read twice
    with pytest.raises(ValueError, match="there is a core 'linear_attention' already"):
        registry.register(dataclasses.replace(core, build=plugins.LinearAttention))
    with pytest.raises(ValueError, match="unknown role 'cores'; did you mean 'core'"):
        registry.register(dataclasses.replace(core, name="x", role="cores"))
    with pytest.raises(ValueError, match="declares hyper 'b1' otherwise"):
        registry.register(dataclasses.replace(core, name="x", hypers={**core.hypers, "b1": Hyper(0.5, 0, 1, "")}))
    with pytest.raises(ValueError, match="reads hyper 'decay_state' and does not declare it"):
        registry.register(dataclasses.replace(core, name="x", decay={"*": "state"}))
    with pytest.raises(ValueError, match="is a Component: declare a CoreComponent"):
        registry.register(dataclasses.replace(plugins.STREAM[2], role="core", name="x"))
    with pytest.raises(ValueError, match="reads 'modle', which no section of a config is; did you mean 'model'"):
        registry.register(dataclasses.replace(core, name="x", sections=("modle",)))
    with pytest.raises(ValueError, match=r"default of option 'features' of core 'x': 'tanh'"):
        registry.register(dataclasses.replace(core, name="x", options={"features": Option("tanh", "", ("elu",))}))
    with pytest.raises(ValueError, match="does not say what builds it"):
        registry.register(dataclasses.replace(core, name="x", build=""))
    assert "x" not in registry.components("core")


def test_a_feed_of_another_size_and_statistics_that_nobody_declares_are_refused(monkeypatch):
    experiment = prepare_experiment(plugins.stream_config())
    fewer = dataclasses.replace(experiment.program.source, batch_size=5)
    program = dataclasses.replace(experiment.program, source=fewer)
    with pytest.raises(ValueError, match=r"feeds \(10, 5\) .*, \(10, 8\) are asked for"):
        dataclasses.replace(experiment, program=program).population().feed(0)

    class Counting(plugins.Tokens):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.count = BatchStat(jnp.zeros(()))

    monkeypatch.setattr(plugins, "Tokens", Counting)
    with pytest.raises(ValueError, match=r"none of frontend 'tokens'.* declares batch_stats=True"):
        prepare_experiment(plugins.stream_config(**{"model.width": 20}))


def test_old_runs_with_a_hyper_that_nothing_reads_open_with_a_warning(tmp_path, monkeypatch):
    config = cfg.override(tiny_config(), {"task.core_classes": "zipfian", "hypers.p_bursty_zipfian": 0.5})
    monkeypatch.setattr(cfg, "check_read", lambda spec, members: None)
    run = icl_jax.train(config, tmp_path / "run", progress=False)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="p_bursty_zipfian .* a new run would be refused"):
        assert icl_jax.load_run(tmp_path / "run").table.num_rows == run.table.num_rows
    with pytest.warns(UserWarning, match="a new run would be refused"):
        longer = icl_jax.train(cfg.override(config, {"train.num_steps": 30}), tmp_path / "run", progress=False)
    assert longer.step == 30 and icl_jax.evaluate(run, ["flipped"]).num_rows
    with pytest.raises(ValueError, match="is read by nothing here"):
        icl_jax.train(config, tmp_path / "new", progress=False)
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    with pytest.warns(UserWarning, match="a new run would be refused"):  # planned by an earlier version
        assert icl_jax.train(config, tmp_path / "planned", progress=False, identity=identity).step == 20


@pytest.mark.parametrize("name", ["transformer", "attention only", "lstm", "gru", "rnn"])
def test_declared_floating_point_operations_are_the_compilers(name):
    """Of the core alone, all rows, in a long sequence; elementwise operations are not declared."""
    width, tokens = 64, 128
    spec = ModelSpec(core=name.replace("attention only", "transformer"), width=width, mlp_ratio=4, encoder="linear")
    spec = dataclasses.replace(spec, mlp_ratio=0) if name == "attention only" else spec
    component = registry.find("core", spec.core)
    options = registry.resolved_options(component, {})
    model = Model(spec, (5, tokens), "tokens")
    variables = jax.eval_shape(model.init, jax.random.key(0))
    shapes = jax.tree.map(lambda x: jnp.zeros(x.shape), variables)
    inputs = jnp.zeros((1, tokens), jnp.int32)
    run = jax.jit(lambda v: model.apply(v, inputs, logits_at="items").logits)
    counted = run.lower(shapes).cost_analysis()["flops"] / tokens - 2 * width * 5
    if name in ("lstm", "gru", "rnn"):  # the loop over time is counted once
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[name]
        assert component.flops(spec, options, width, tokens) == 2 * 2 * 2 * gates * width**2
        assert counted > component.flops(spec, options, width, tokens) / 2
    else:
        np.testing.assert_allclose(component.flops(spec, options, width, tokens), counted, rtol=0.12)


def test_state_sizes():
    def size(core: str) -> int:
        component = registry.find("core", core)
        return component.state_size(ModelSpec(core=core), registry.resolved_options(component, {}), 64, 17)

    assert size("transformer") == 2 * 2 * 17 * 64 and size("lstm") == 2 * 2 * 64 and size("gru") == size("rnn") == 128


def test_declarations_import_no_jax():
    """What help and listings stand on: read by a Python that has no JAX."""
    package = pathlib.Path(icl_jax.__file__).parent
    code = f"""
import importlib.machinery, sys, types
package = types.ModuleType("icl_jax"); package.__path__ = [{str(package)!r}]; sys.modules["icl_jax"] = package
for name in ("jax", "flax", "numpy", "optax"): sys.modules[name] = None
from icl_jax import registry
print(sum(len(registry.components(role)) for role in registry.FIELDS))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0 and int(out.stdout) > 30, out.stderr


def test_a_population_knows_no_implementation():
    """No file of the trainer imports a source, a frontend, a core or an eval."""
    room = pathlib.Path(icl_jax.__file__).parent / "training"
    allowed = {"objectives.py", "declared.py"}
    for path in room.glob("*.py"):
        if path.name not in allowed:
            names = [name for parts in imports(path) for name in [".".join(parts)]]
            wrong = [name for name in names if name.startswith(("data", "evals", "models")) and name != "models.taps"]
            assert not wrong, (path.name, wrong)
