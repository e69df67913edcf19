"""Configs: populations, schedules, refusals before any compilation, identity."""

import pathlib

import jax.numpy as jnp
import pytest
from tiny import tiny_config

from icl_jax import config as cfg
from icl_jax import hypers as hy
from icl_jax.experiment import prepare_experiment
from icl_jax.rundir import config_from_json, config_to_json

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").rglob("*.py"))


def test_population_is_the_product_of_hypers_times_seeds():
    members = cfg.members_of(tiny_config())
    assert [(m.hypers["p_bursty"], m.seeds["init"]) for m in members] == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]


@pytest.mark.parametrize(
    "value, expected", [(0.5, 0.5), ((0.5,), 0.5), (((0, 0.0), (10, 1.0)), 0.5), ((((0, 0.0), (10, 1.0)),), 0.5)]
)
def test_a_hyper_is_a_number_or_a_schedule(value, expected):
    (entry,) = hy.entries("p_bursty", value)
    stacked = hy.stack([dict.fromkeys(cfg.HYPERS, 0.0) | {"p_bursty": entry}])
    at = hy.at({n: {k: jnp.asarray(v[0]) for k, v in h.items()} for n, h in stacked.items()}, 5)
    assert float(at["p_bursty"]) == expected


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("hypers.p_bursty", 1.5, r"1.5 is outside \[0, 1\]"),
        ("hypers.p_burst", 0.5, "did you mean 'p_bursty'"),
        ("modle.width", 1, "did you mean 'model'"),
        ("model.widht", 1, "did you mean 'width'"),
        ("model.core", "transfomer", "did you mean 'transformer'"),
        ("bank.name", "omniglott", "did you mean 'omniglot'"),
        ("evals.suites", ("fewshot_holdot",), "fewshot_holdout"),
        ("evals.icl", "fewshot_rare", "add it there"),
        ("task.num_holdout", 100, "100"),
        ("hypers.ways", 3, "context_len"),
        ("train.optimiser", "adma", "did you mean 'adam'"),
        ("train.num_steps", 25, "not a multiple"),
        ("runtime.batch_shards", 3, "3"),
        ("runtime.devices", 64, "64"),
        ("seeds.init", (0, 1, 2), "same number of seeds"),
    ],
)
def test_refused_before_compilation(path, value, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(cfg.override(tiny_config(), {path: value}))


def test_missing_omniglot_names_the_ways_to_get_it(tmp_path):
    config = tiny_config(bank__name="omniglot", bank__data_dir=str(tmp_path / "nothing"))
    with pytest.raises((ValueError, FileNotFoundError), match="prepare omniglot"):
        prepare_experiment(config)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads_and_states_its_recipe(path):
    config = cfg.load_config(path)
    assert cfg.members_of(config) and cfg.chunk_steps(config) >= 1
    assert "icl train --config" in path.read_text()


def test_identity_ignores_length_and_evals_but_not_training():
    base = cfg.identity(tiny_config(), "x")
    for same in ({"train.num_steps": 40}, {"evals.every": 20}, {"out": "elsewhere"}, {"checkpoint.every": 20}):
        assert cfg.identity(cfg.override(tiny_config(), same), "x") == base
    for other in ({"train.batch_size": 16}, {"hypers.p_bursty": 0.3}, {"seeds.init": 5}, {"model.width": 32}):
        assert cfg.identity(cfg.override(tiny_config(), other), "x") != base
    assert cfg.identity(tiny_config(), "y") != base
    cosine = cfg.override(tiny_config(), {"train.schedule": "cosine"})
    assert cfg.identity(cfg.override(cosine, {"train.num_steps": 40}), "x") != cfg.identity(cosine, "x")


def test_config_round_trips_through_json():
    config = tiny_config()
    config.hypers.p_bursty = (0.5, ((0, 0.0), (10, 1.0)))
    config.evals.custom.mine = {"kind": "fewshot", "ways": 2}
    again = config_from_json(config_to_json(config))
    assert config_to_json(again) == config_to_json(config)
    assert cfg.identity(again, "x") == cfg.identity(config, "x")
