"""Laws of the trainer: a member is its lone run, layouts agree, nothing retraces, divergence is contained."""

import jax
import numpy as np
import pytest
from tiny import tiny_config

from icl_jax.runs.experiment import prepare_experiment
from icl_jax.training import parallel
from icl_jax.training.population import TRACES


def trained(config, chunks: int = 2):
    """(population, arguments of its next chunk, last chunk's metrics) after some chunks."""
    population = prepare_experiment(config).population()
    state, fixed = population.start(population.inputs)
    rest = (fixed, *population.rest)
    for _ in range(chunks):
        state, metrics = population.chunk(state, *rest)
    return population, (state, *rest), metrics


def final_state(config, chunks: int = 2):
    """State after some chunks, collected, and the last chunk's metrics."""
    population, (state, *_), metrics = trained(config, chunks)
    layout = population.program.layout
    return layout.collect(state), layout.collect(metrics)


def assert_close(a, b, tolerance=2e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def whole():
    """The population of four on two devices: members over devices."""
    TRACES.clear()
    population, arguments, metrics = trained(tiny_config(runtime__devices=2, runtime__batch_shards=1))
    collect = population.program.layout.collect
    result = collect(arguments[0]), collect(metrics)
    with jax.transfer_guard("disallow"):  # a chunk moves nothing between host and devices
        jax.block_until_ready(population.chunk(*arguments))
    return result, dict(TRACES)


def test_a_population_is_traced_once(whole):
    """One trace each, three chunks run; the third under a guard that forbids host transfers."""
    assert whole[1] == {"start": 1, "chunk": 1}


def test_training_changes_parameters_and_members_differ(whole):
    (state, metrics), _ = whole
    table = np.concatenate([x.reshape(4, -1) for x in jax.tree.leaves(state.params)], axis=1)
    distances = [np.abs(table[a] - table[b]).max() for a in range(4) for b in range(a)]
    assert min(distances) > 1e-2
    assert np.all(np.isfinite(metrics["loss"])) and np.all(state.step == 10)


def test_a_member_is_its_lone_run(whole):
    (state, metrics), _ = whole
    lone = tiny_config(runtime__devices=1, hypers__p_bursty=1.0, seeds__init=1, seeds__data=1)
    lone_state, lone_metrics = final_state(lone)
    member = jax.tree.map(lambda x: x[3:4], state)  # p_bursty 1, second seed
    assert_close(member.params, lone_state.params)
    assert_close(metrics["loss"][3:4], lone_metrics["loss"])


@pytest.mark.parametrize("devices, shards", [(8, 2), (4, 4)])
def test_layouts_agree(whole, devices, shards):
    """Members over groups of devices, a batch over each group = members over devices."""
    (state, metrics), _ = whole
    other, other_metrics = final_state(tiny_config(runtime__devices=devices, runtime__batch_shards=shards))
    assert_close(state.params, other.params)
    assert_close(metrics, other_metrics, 2e-4)


def test_a_diverging_member_is_frozen_and_its_neighbours_are_not_touched(whole):
    (state, _), _ = whole
    config = tiny_config(runtime__devices=2, runtime__batch_shards=1)
    config.hypers.learning_rate = (1e-2, 1e38)
    config.hypers.p_bursty = 0.0
    broken, _ = final_state(config)
    assert list(broken.diverged[:2]) == [-1, -1] and np.all(broken.diverged[2:] >= 0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(broken.params))
    assert_close(jax.tree.map(lambda x: x[:2], broken.params), jax.tree.map(lambda x: x[:2], state.params))


def test_layout_round_trip_pads_and_drops_the_padding():
    layout = parallel.DeviceLayout(num_members=5, num_devices=8, batch_shards=2)
    tree = {"a": np.arange(10.0).reshape(5, 2), "b": np.arange(5)}
    spread = layout.spread(tree)
    assert spread["a"].shape == (8, 2, 2)
    back = layout.collect(spread)
    assert all(np.array_equal(back[k], tree[k]) for k in tree)


@pytest.mark.parametrize("members, devices, shards", [(1, 2, 2), (8, 2, 1), (4, 8, 2), (16, 8, 1)])
def test_chosen_layout(members, devices, shards):
    assert parallel.choose_layout(members, 32, devices).batch_shards == shards


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"devices": 9}, "9 > 8"),
        ({"devices": 8, "batch_shards": 3}, "3 does not divide 8"),
        ({"batch_shards": 8}, "batch_size 12"),
    ],
)
def test_impossible_layouts_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        parallel.choose_layout(4, 12, **kwargs)
