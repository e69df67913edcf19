"""The commands as a user types them, on the smoke config."""

import os
import pathlib
import subprocess
import sys

import pytest

from icl_jax import cli

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"


def icl(*args, expect=0):
    """Runs `python -m icl_jax ...`; returns what it printed."""
    environment = {**os.environ, "XLA_FLAGS": "", "COLUMNS": "200"}
    command = [sys.executable, "-m", "icl_jax", *map(str, args)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """(directory, printed) of `icl train` on the smoke config, one field changed."""
    path = tmp_path_factory.mktemp("smoke") / "run"
    return path, icl("train", f"--config={SMOKE}", f"--config.out={path}", "--config.hypers.p_bursty=(0.,0.5)")


def test_train_prints_the_table_and_the_figures(smoke):
    path, printed = smoke
    assert "ICL" in printed and "| 0.5" in printed and str(path / "learning.png") in printed
    assert (path / "learning.svg").is_file() and (path / "summary.md").is_file()


def test_eval_scores_other_suites(smoke):
    printed = icl("eval", smoke[0], "--suites=flipped,broken", "--num_sequences=64")
    assert "flipped" in printed and "broken" in printed and "p_bursty=0.5" in printed


def test_a_step_without_checkpoint_is_refused(smoke):
    assert "no checkpoint of step 7" in icl("eval", smoke[0], "--step=7", expect=2)


def test_embed_writes_a_bank(smoke, tmp_path):
    icl("data", "embed", smoke[0], f"--to={tmp_path / 'bank.npz'}")
    assert (tmp_path / "bank.npz").is_file()


def test_show_draws_sequences_and_prints_their_statistics(tmp_path):
    printed = icl("data", "show", f"--config={SMOKE}", f"--to={tmp_path / 'a.png'}", "--member=1")
    assert "label_entropy_bits" in printed and (tmp_path / "a.png").stat().st_size > 10_000


def test_doctor_tells_devices_versions_and_banks():
    printed = icl("doctor")
    assert all(word in printed for word in ("devices", "jaxlib", "host memory", "bank omniglot", "bank glyphs"))


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--config.modle.width=3", "did you mean 'model'"),
        ("--config.hypers.p_bursty=2", "outside [0, 1]"),
        ("--config.evals.custom.mine.kind=iid", "define it in the config file"),
    ],
)
def test_a_wrong_config_ends_with_one_line(flag, words, tmp_path):
    printed = icl("train", f"--config={SMOKE}", f"--config.out={tmp_path / 'run'}", flag, expect=2)
    assert words in printed and "Traceback" not in printed and not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [("--index=5", "--count=2"), ("--count=0",), ("--width=-3",)])
def test_a_refused_sweep_writes_nothing(flags, tmp_path):
    printed = icl("sweep", "run", SMOKE, f"--out={tmp_path / 'sweeps'}", *flags, expect=2)
    assert "Traceback" not in printed and flags[-1].partition("=")[0] in printed and not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize(
    "args, words",
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "--config=FILE"),
        (["eval", "nowhere"], "holds no run"),
        (["data"], "show, banks, prepare, embed"),
        (["data", "prepare", "omniglott"], "did you mean 'omniglot'"),
        (["import", "chan2022", "x.npz"], "--to=DIR"),
        (["bench", "nothing"], "unknown benchmark"),
    ],
)
def test_wrong_arguments_end_with_the_way_out(args, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["icl", *args])
    assert end.value.code == 2 and words in capsys.readouterr().err
