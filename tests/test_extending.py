"""The page on extending: each block runs as it stands there."""

import pathlib
import re

import pytest
from test_plugins import config_with, forget, fresh  # noqa: F401  (a fixture: no plugin before and after)
from tiny import tiny_config

import icl_jax
from icl_jax.cli.flags import parse
from icl_jax.runs import config as cfg

PAGE = (pathlib.Path(__file__).parents[1] / "configs" / "extending" / "README.md").read_text()
SECTIONS = re.findall(r"## ([^\n]+)\n.*?```python\n(.*?)```", PAGE, re.S)
BLOCKS = {title.split(":")[0].split()[-1]: block for title, block in SECTIONS}
NAMES = ("core", "bank", "objective", "eval")


def test_each_is_shown_in_under_thirty_lines():
    assert set(BLOCKS) == {*NAMES, "command"}
    assert all(block.count("\n") < 32 for block in BLOCKS.values()), {n: b.count("\n") for n, b in BLOCKS.items()}


@pytest.fixture
def files(tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(BLOCKS[name])
    return [tmp_path / f"{name}.py" for name in NAMES]


def test_a_run_of_all_of_them_trains_resumes_and_is_measured(files, tmp_path):
    own = {"bank.name": "waves", "bank.num_classes": 24, "bank.dim": 8, "model.core": "mean", "model.num_layers": 2}
    own |= {"model.num_heads": 8, "model.positions": "sinusoidal", "model.mlp_ratio": 4}
    own |= {"parts.objective": "smoothed", "hypers.smoothing": (0.0, 0.5), "hypers.p_bursty": 0.9, "hypers.eps": 1e-3}
    own |= {"evals.more.size": {"use": "norm", "power": 1.0}, "evals.custom": {}}
    run = icl_jax.train(config_with(*files, **own), tmp_path / "run", progress=False)
    assert run.step == 20 and len(run.members) == 4
    size = run.array("size", "norm")
    assert set(size.coords["part"]) == {"encoder", "core"} and size.values.shape == (4, 2) and (size.values > 0).all()
    losses = run.array("train", "loss", 20).values
    smoothing = [member.hypers["smoothing"] for member in run.members]
    assert sorted(set(smoothing)) == [0.0, 0.5] and len(set(losses.tolist())) == 4
    forget()
    longer = cfg.override(icl_jax.load_run(tmp_path / "run").config, {"train.num_steps": 30})
    assert icl_jax.train(longer, tmp_path / "run", progress=False).step == 30


def test_the_command_counts_parameters(tmp_path, capsys):
    run = icl_jax.train(tiny_config(), tmp_path / "run", progress=False)
    found: dict = {}
    exec(BLOCKS["command"], found)
    words, flags = parse(found["SIZE"], [str(run.directory), "--member=1"], pytest.fail)
    found["size"](words, flags)
    assert re.fullmatch(r"[\d,]+ parameters\n", capsys.readouterr().out)
