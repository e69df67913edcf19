"""Schedules against their formulas, every optimiser under vmap with traced hypers, decay by module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_jax.registry import check_chosen, components
from icl_jax.spec import BankSpec, RunSpec, TrainSpec, hyper_defaults
from icl_jax.training import optim

H = {n: jnp.float32(v) for n, v in hyper_defaults().items()}


def rates(schedule, **changes):
    spec = TrainSpec(schedule=schedule, num_steps=100)
    h = H | {n: jnp.float32(v) for n, v in changes.items()}
    return np.asarray(jax.vmap(lambda s: optim.learning_rate(spec, h, s))(jnp.arange(100)))


def test_rsqrt_is_the_papers_formula():
    t = np.arange(1, 101)
    expected = np.minimum(t * 3e-4 / 40, 3e-4 * np.sqrt(40 / t))
    np.testing.assert_allclose(rates("rsqrt", learning_rate=3e-4, warmup_steps=40), expected, rtol=1e-5)


def test_constant_cosine_and_linear():
    assert np.all(rates("constant", learning_rate=0.1) == np.float32(0.1))
    for schedule in ("cosine", "linear"):
        found = rates(schedule, learning_rate=1.0, warmup_steps=10, final_lr_fraction=0.2)
        np.testing.assert_allclose(found[[0, 9, 99]], [0.1, 1.0, 0.2], rtol=1e-5)
        assert np.all(np.diff(found[9:]) <= 0)


@pytest.mark.parametrize("name", sorted(components("optimiser")))
def test_every_optimiser_descends_for_a_population_of_learning_rates(name):
    spec = TrainSpec(optimiser=name)
    rate = 0.5 if name == "adafactor" else 0.05

    def run(lr):
        h, params = H | {"learning_rate": lr}, {"w": jnp.ones((4, 3))}
        state = optim.init(spec, h, params)

        def step(carry, i):
            params, state = carry
            grads = jax.grad(lambda p: (p["w"] ** 2).sum())(params)
            return optim.update(spec, h, i, grads, state, params, {"w": "mlp"}, False), None

        (params, _), _ = jax.lax.scan(step, (params, state), jnp.arange(20))
        return (params["w"] ** 2).sum()

    losses = jax.jit(jax.vmap(run))(jnp.array([0.0, rate], jnp.float32))
    assert losses[0] == 12.0 and losses[1] < 11.5


@pytest.mark.parametrize("kind", ["decoupled", "l2"])
def test_decay_acts_on_its_module_alone(kind):
    spec = TrainSpec(optimiser="sgd", weight_decay=kind)
    h = H | {"learning_rate": jnp.float32(0.1), "decay_mlp": jnp.float32(0.5)}
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    grads = jax.tree.map(jnp.zeros_like, params)
    modules = {"a": "attention", "b": "mlp"}
    new, _ = optim.update(spec, h, 0, grads, optim.init(spec, h, params), params, modules, True)
    np.testing.assert_allclose(new["a"], 1.0)
    np.testing.assert_allclose(new["b"], 0.95, rtol=1e-6)


@pytest.mark.parametrize(
    "field, value, words",
    [("optimiser", "adma", "did you mean 'adam'"), ("schedule", "cosin", "'cosine'"), ("batch_size", 0, "at least 1")],
)
def test_bad_training_specs(field, value, words):
    with pytest.raises(ValueError, match=words):
        check_chosen(RunSpec(BankSpec("gaussian"), train=TrainSpec(**{field: value})))
