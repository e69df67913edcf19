"""Configs: populations, schedules, refusals before any compilation, identity."""

import pathlib

import jax.numpy as jnp
import pytest
from tiny import tiny_config

from icl_jax import hypers as hy
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.runplan import config_from_json, config_to_json, plan_of

LANGUAGE = ("smollm2.py", "gpt2_xl.py", "gpt_j.py")  # which look at a model that was imported: see test_smollm2
CONFIGS = [
    path for path in sorted((pathlib.Path(__file__).parents[1] / "configs").rglob("*.py")) if path.name not in LANGUAGE
]


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
def test_every_shipped_config_loads_and_states_its_recipe(path, request):
    config = cfg.load_config(path)
    if config.bank.name == "omniglot":
        config.bank.data_dir = str(request.getfixturevalue("omniglot_dir"))
    assert cfg.members_of(config) and plan_of(config).chunk() >= 1
    assert "icl train configs" in path.read_text() or "icl sweep run" in path.read_text()


def identity(config, digest="x"):
    return cfg.identity(cfg.cell_id(cfg.run_spec(config), m, digest) for m in cfg.members_of(config))


def test_identity_ignores_length_and_evals_but_not_training():
    base = identity(tiny_config())
    same_runs = (
        {"train.num_steps": 40},
        {"evals.every": 20},
        {"out": "elsewhere"},
        {"seeds.eval": 7},
    )
    for same in same_runs:
        assert identity(cfg.override(tiny_config(), same)) == base
    for other in (
        {"train.batch_size": 16},
        {"hypers.p_bursty": 0.3},
        {"seeds.init": 5},
        {"model.width": 32},
        {"task.max_ways": 3},
    ):
        assert identity(cfg.override(tiny_config(), other)) != base
    assert identity(tiny_config(), "y") != base
    cosine = cfg.override(tiny_config(), {"train.schedule": "cosine"})
    assert identity(cfg.override(cosine, {"train.num_steps": 40})) != identity(cosine)


def test_config_round_trips_through_json():
    config = tiny_config()
    config.hypers.p_bursty = (0.5, ((0, 0.0), (10, 1.0)))
    config.evals.custom.mine = {"kind": "fewshot", "ways": 2}
    again = config_from_json(config_to_json(config))
    assert config_to_json(again) == config_to_json(config)
    assert identity(again) == identity(config)


def test_a_cell_is_the_same_in_any_population():
    """DESIGN contract 6: a sweep that adds values or seeds finds again what is done."""
    ids = lambda config: [cfg.cell_id(cfg.run_spec(config), m, "x") for m in cfg.members_of(config)]
    few, more = ids(tiny_config()), ids(tiny_config(seeds__init=(0, 1, 2), seeds__data=(0, 1, 2)))
    assert len(set(more)) == 6 and set(few) < set(more)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hypers.clip_norm": 0.5}, "needs train.clip True"),
        ({"hypers.final_lr_fraction": 0.5}, "cosine"),
        ({"hypers.p_fewshot": 0.7}, "mixed"),
        ({"train.optimiser": "lion", "hypers.b2": 0.99}, "needs train.optimiser 'adam'"),
        ({"hypers.ways": 1.5}, "is a count"),
        ({"hypers.num_classes": ((0, 0.0), (10, 16.0))}, "passes through 0"),
        ({"checkpoint.keep_steps": (15,), "train.num_steps": 100}, "step 15 is to be kept"),
        ({"checkpoint.every": 1001}, "common divisor"),
        ({"checkpoint.keep_last": 0}, "use 1 or more"),
    ],
)
def test_what_would_silently_do_nothing_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(cfg.override(tiny_config(), changes))


def test_schedules_are_checked_where_they_bend():
    """Each value is possible where it is reached, though the extremes together are not."""
    config = tiny_config()
    config.hypers.ways = (((0, 1.0), (10, 2.0)),)
    config.hypers.shots = (((0, 4.0), (10, 2.0)),)
    prepare_experiment(config)
    config.hypers.ways = (((0, 2.0), (10, 1.0)),)
    with pytest.raises(ValueError, match="context_len"):
        prepare_experiment(config)


def test_a_resumed_run_may_have_other_intervals():
    config = cfg.override(tiny_config(), {"runtime.chunk_steps": 10})
    plan = plan_of(config)
    assert plan.chunk() == 10 and plan.chunk([15]) == 5


def test_a_scalar_in_a_file_can_be_a_population_on_the_command_line():
    config = tiny_config()
    config.hypers.p_bursty = 0.5
    assert config.hypers.p_bursty == (0.5,)
    assert len(cfg.members_of(cfg.override(config, {"hypers.p_bursty": (0.1, 0.2)}))) == 4
