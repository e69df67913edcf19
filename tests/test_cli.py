"""The commands as a user types them, on the smoke config."""

import os
import pathlib
import shlex
import subprocess
import sys
import textwrap

import numpy
import pytest

from icl_jax import cli, default_config
from icl_jax.bench import base, generators, population, steps, sweep
from icl_jax.cli.commands import COMMANDS
from icl_jax.cli.flags import parse
from icl_jax.cli.main import find
from icl_jax.runs.experiment import prepare_experiment

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
    return path, icl("train", SMOKE, f"--set=out={path}", "--set", "hypers.p_bursty=0.,0.5")


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
    printed = icl("data", "show", SMOKE, f"--to={tmp_path / 'a.png'}", "--member=1")
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
        (["train"], "CONFIG is missing; usage: icl train CONFIG"),
        (["train", "a.py", "b.py"], "it does not take 'b.py'"),
        (["train", "a.py", "--out=x"], "icl train: unknown flag --out=x"),
        (["sweep", "run", "a.py", "--indx=1"], "unknown flag --indx=1; did you mean '--index'"),
        (["sweep", "run", "a.py", "--index=one"], "invalid int value: 'one'"),
        (["sweep", "run", "a.py", "--chips=4"], "--chips is for --engine=ray"),
        (["sweep", "rnu"], "icl sweep: unknown 'rnu'; did you mean 'run'"),
        (["doctor", "now"], "it does not take 'now'"),
        (["eval", "--list", "run"], "leave 'run' out"),
        (["eval", "--list", "--step=3"], "leave '--step' out"),
        (["report", str(SMOKE.parent), "--set", "train.num_steps=3"], "is what was run already; leave it out"),
        (["report", str(SMOKE.parent), "--out=x"], "is a sweep's own directory"),
        (["data", "banks", "--to=x.png"], "it is about a config's bank; name one"),
        (["eval", "run", "--member=3"], "unknown flag --member=3"),
        (["config", "--set", "train.num_steps=3"], "name a config"),
        (["train", str(SMOKE), "--set", "train.num_steps"], "give FIELD=VALUE"),
        (["train", str(SMOKE), "--set", "train.num_steps=many"], "train.num_steps = 'many' is no int"),
        (["train", str(SMOKE), "--process_id=1"], "add --distributed"),
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


def test_help_names_every_command_and_flag_in_no_time():
    """In a process of its own, without JAX."""
    for args in (
        [],
        ["--help"],
        ["sweep"],
        ["sweep", "run", "--help"],
        ["help", "data", "embed"],
        ["eval", "--list"],
        ["config"],
    ):
        code = f"""
            import sys, time
            start = time.perf_counter()
            from icl_jax.cli import main
            try:
                main(["icl", *{args!r}])
            except SystemExit as end:
                assert end.code in (0, 2), end.code
            took = time.perf_counter() - start
            assert "jax" not in sys.modules, [m for m in sys.modules if m.startswith("icl_jax")]
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself_and_its_example_is_one(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["icl", *command.name.split(), "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and command.example in printed
    assert all(f"--{flag.name}" in printed for flag in command.all_flags)
    found, rest = find(shlex.split(command.example)[1:])
    assert found is command
    parse(command, rest, lambda text: pytest.fail(text))


def test_old_spellings_work_with_a_hint(tmp_path):
    found = []
    (train,) = [command for command in COMMANDS if command.name == "train"]
    words, flags = parse(train, ["--config", "a.py", "--config.hypers.p_bursty=0,1", "--distributed"], found.append)
    assert words == ["a.py"] and flags.set == ["hypers.p_bursty=0,1"] and flags.distributed
    assert found == ["hint: today this is spelt: icl train a.py --set hypers.p_bursty=0,1 --distributed"]
    assert parse(train, ["--config=a.py:paper"], found.append)[0] == ["a.py:paper"] and len(found) == 2
    parse(train, ["a.py", "--set=out=x"], lambda text: pytest.fail(text))


def test_config_shows_every_field_and_what_differs(capsys):
    cli.main(["icl", "config", str(SMOKE), "--set", "model.tied=true", "--set", "hypers.p_bursty=0,1"])
    changed, everything = capsys.readouterr().out.split("All fields")
    assert "model.tied" in changed and "bank.image_size" in changed and "model.width" not in changed
    assert "0, 1" in changed and "share of bursty sequences [0 to 1]" in changed
    config = default_config()
    for section in ("bank", "task", "model", "train", "evals", "checkpoint", "runtime", "hypers", "seeds", "init_from"):
        assert all(f"{section}.{field}" in everything for field in config[section])
    assert "[transformer, lstm, gru, rnn" in everything or "lstm" in everything


def test_version():
    assert icl("--version").startswith("icl_jax ")


def test_every_benchmark_measures_runs_that_there_can_be(tmp_path, monkeypatch):
    """Their settings are checked without a look at the clock."""
    numpy.save(tmp_path / "features.npy", numpy.zeros((sweep.CLASSES, 1, sweep.FEATURES), numpy.float32))
    settings = [steps.preset(name) for name in steps.ORIGINAL]
    settings += [population.quickstart_like(4), generators.paper_config(), base._config(8, "bfloat16")]
    settings += [sweep.singh_like(2, str(tmp_path / "features.npy"))]
    for config in settings:
        if "warmup_steps" in config.hypers:  # of the paper's schedule, of which a few steps are timed
            config.hypers.warmup_steps = 1
        assert prepare_experiment(config).members
    monkeypatch.setattr(base, "step_ms", lambda experiment: len(experiment.members))
    assert base._vectors_ms(8, "float32") == 8
