"""A run on disk: resume is exact, kills lose at most the interval, other layouts agree to tolerance."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pyarrow.compute as pc
import pytest
from tiny import free_port, tiny_config

import icl_jax
from icl_jax import cli
from icl_jax.models.taps import Patch
from icl_jax.runs.config import override
from icl_jax.storage.checkpoint import Checkpoints

TESTS = pathlib.Path(__file__).parent


def final(directory):
    """Final state's leaves and the metrics table of a run."""
    step, state, _ = Checkpoints(directory / "checkpoints").restore()
    return step, jax.tree.leaves(state), icl_jax.load_run(directory).table


def assert_same_run(a, b):
    step_a, leaves_a, table_a = final(a)
    step_b, leaves_b, table_b = final(b)
    assert step_a == step_b
    assert all(np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b, strict=True))
    assert table_a.column_names == table_b.column_names
    for name in table_a.column_names:  # numpy's comparison takes NaN (not measured) as equal
        np.testing.assert_array_equal(table_a[name].to_numpy(), table_b[name].to_numpy(), err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished run of 20 steps on two devices."""
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    icl_jax.train(tiny_config(runtime__devices=2, runtime__figures=True), path, progress=False)
    return path


def test_a_run_has_its_table_figures_and_parameters(undisturbed):
    run = icl_jax.load_run(undisturbed)
    assert run.step == 20 and len(run.members) == 4
    table = run.table.to_pydict()
    assert set(table["step"]) == {0, 5, 10, 15, 20}
    suites = {s for s, m in zip(table["suite"], table["metric"], strict=True) if m == "accuracy"}
    assert suites == {"train", "fewshot_holdout", "no_support_zipfian"}
    assert {p.name for p in run.figures} == {"learning.png", "learning.svg"}
    shapes = [x.shape for x in jax.tree.leaves(run.variables(3)["params"])]
    assert shapes and run.summary()


def test_a_finished_run_is_known_as_such_without_compiling(undisturbed, monkeypatch, capsys):
    config, before = tiny_config(runtime__devices=2, runtime__figures=True), final(undisturbed)
    monkeypatch.setattr("icl_jax.training.loop.train_population", lambda *_, **__: pytest.fail("it was trained again"))
    run = icl_jax.train(config, undisturbed)
    assert "trained already" in capsys.readouterr().out and run.step == 20
    assert all(np.array_equal(x, y) for x, y in zip(before[1], final(undisturbed)[1], strict=True))


def test_a_suite_that_is_added_to_a_finished_run_is_scored_on_what_was_kept(undisturbed, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(undisturbed, path)
    more = tiny_config(runtime__devices=2, evals__suites=("fewshot_holdout", "no_support_zipfian", "flipped"))
    run = icl_jax.train(more, path, progress=False)
    found = run.table.filter(pc.field("suite") == "flipped")
    assert set(found["step"].to_pylist()) == {10, 20}
    from_the_start = icl_jax.train(more, tmp_path / "other", progress=False).table
    columns = ["member", "suite", "metric", "step", "value"]
    rows = lambda table: sorted(map(str, table.select(columns).to_pylist()))
    assert rows(run.table) == rows(from_the_start.filter((pc.field("suite") != "flipped") | (pc.field("step") > 0)))
    assert len(icl_jax.train(more, path, progress=False).table) == len(run.table)


def test_a_suite_added_to_a_run_with_patches_from_python_is_scored_under_them(tmp_path, capsys):
    config, patches = tiny_config(), (Patch("embed", "multiply", value=0.5),)
    icl_jax.train(config, tmp_path / "run", progress=False, patches=patches)
    config.evals.suites = (*config.evals.suites, "flipped")
    run = icl_jax.train(config, tmp_path / "run", patches=patches)
    assert "flipped: scored on the checkpoints of steps 10, 20" in capsys.readouterr().out
    again = icl_jax.evaluate(run, "flipped", patches=patches)
    end = lambda table: table.filter((pc.field("suite") == "flipped") & (pc.field("step") == 20))["value"].to_numpy()
    np.testing.assert_array_equal(end(run.table), end(again))
    for wrong in (3, [3]):
        with pytest.raises(ValueError, match="evaluate takes names of suites and other evals, not 3"):
            icl_jax.evaluate(run, wrong, patches=patches)


def test_what_makes_a_longer_run_another_is_said(tmp_path):
    short = tiny_config(train__schedule="cosine", train__num_steps=10)
    icl_jax.train(short, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"train.num_steps .10 there, 20 here.; a schedule 'cosine' ends with the run"):
        icl_jax.train(tiny_config(train__schedule="cosine"), tmp_path / "run", progress=False)


def test_a_file_that_states_a_sweep_says_so_when_it_is_trained(undisturbed, tmp_path, monkeypatch, capsys):
    file = tmp_path / "both.py"
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nfrom tiny import tiny_config\nfrom icl_jax import grid\n"
        "def get_config():\n    return tiny_config(runtime__devices=2, runtime__figures=True)\n"
        "def get_sweep():\n    return grid.seeds(2)\n"
    )
    cli.main(["icl", "train", str(file), "--set", f"out={undisturbed}"])
    said = capsys.readouterr().out
    assert "trained already" in said and f"{file} defines a sweep too: icl sweep run {file}" in said


def test_a_stopped_run_resumes_to_the_same_bits(undisturbed, tmp_path):
    half = tiny_config(runtime__devices=2, train__num_steps=10)
    icl_jax.train(half, tmp_path / "run", progress=False)
    icl_jax.train(tiny_config(runtime__devices=2), tmp_path / "run", progress=False)
    assert_same_run(undisturbed, tmp_path / "run")


def test_resumed_on_other_devices_it_agrees_to_tolerance(undisturbed, tmp_path):
    icl_jax.train(tiny_config(runtime__devices=2, train__num_steps=10), tmp_path / "run", progress=False)
    icl_jax.train(tiny_config(runtime__devices=8), tmp_path / "run", progress=False)
    for x, y in zip(final(undisturbed)[1], final(tmp_path / "run")[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-4)


def test_a_directory_with_another_run_is_refused(undisturbed):
    other = override(tiny_config(runtime__devices=2), {"train.batch_size": 16})
    with pytest.raises(ValueError, match=r"train.batch_size \(8 there, 16 here\)"):
        icl_jax.train(other, undisturbed, progress=False)


def test_evaluate_repeats_the_runs_own_numbers_and_knows_other_suites(undisturbed):
    run = icl_jax.load_run(undisturbed)
    table = icl_jax.evaluate(run, ["fewshot_holdout", "fewshot_rare"], num_sequences=32).to_pylist()
    rows = [r for r in run.table.to_pylist() if r["step"] == 20 and r["suite"] == "fewshot_holdout"]
    before = {(r["member"], r["metric"]): r["value"] for r in rows}
    again = {(r["member"], r["metric"]): r["value"] for r in table if r["suite"] == "fewshot_holdout"}
    assert before.keys() == again.keys()
    assert all(np.isclose(before[k], again[k], atol=1e-5, equal_nan=True) for k in before)
    assert {r["suite"] for r in table} == {"fewshot_holdout", "fewshot_rare"}


def test_init_from_starts_from_the_other_runs_parameters(undisturbed, tmp_path):
    config = tiny_config(runtime__devices=2, train__num_steps=10, init_from__run=str(undisturbed))
    config.hypers.p_bursty, config.hypers.learning_rate = (0.5, 0.9), 0.0
    run = icl_jax.train(config, tmp_path / "next", progress=False)
    source = icl_jax.load_run(undisturbed)
    for member in range(4):
        a, b = run.variables(member)["params"], source.variables(member)["params"]
        assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_run_goes_on_when_the_run_it_started_from_is_gone(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "first")
    config = tiny_config(runtime__devices=2, train__num_steps=10, init_from__run=str(tmp_path / "first"))
    icl_jax.train(config, tmp_path / "next", progress=False)
    shutil.rmtree(tmp_path / "first")
    longer = override(config, {"train.num_steps": 20})
    assert icl_jax.train(longer, tmp_path / "next", progress=False).step == 20
    with pytest.raises(ValueError, match="started from init_from"):
        icl_jax.train(override(longer, {"init_from.run": str(undisturbed)}), tmp_path / "next", progress=False)


def start(directory, steps, *, env=None, **changes):
    """Starts a training process on the tiny config; returns it."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import icl_jax; from tiny import tiny_config;"
        "icl_jax.train(tiny_config(**json.loads(sys.argv[3])), sys.argv[2])"
    )
    changes = {"runtime__devices": 2, "train__num_steps": steps, **changes}
    arguments = [sys.executable, "-c", code, str(TESTS), str(directory), json.dumps(changes)]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", **(env or {})}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(directory, process, timeout=240):
    deadline = time.time() + timeout
    while time.time() < deadline and process.poll() is None:
        if Checkpoints(directory / "checkpoints").steps():
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint appeared: {process.stdout.read() if process.poll() is not None else ''}")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_and_resumed_equals_undisturbed(how, tmp_path):
    """kill -9 loses at most the interval; SIGTERM and Ctrl-C save and exit. All resume bit for bit."""
    steps = 4000
    whole = start(tmp_path / "whole", steps)
    assert whole.wait(300) == 0, whole.stdout.read()
    victim = start(tmp_path / "run", steps)
    wait_for_checkpoint(tmp_path / "run", victim)
    victim.send_signal(how)
    victim.wait(120)
    assert final_step(tmp_path / "run") < steps
    again = start(tmp_path / "run", steps)
    assert again.wait(300) == 0, again.stdout.read()
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def final_step(directory):
    return Checkpoints(directory / "checkpoints").steps()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 8])
def test_two_processes_of_four_devices_equal_one_process(undisturbed, tmp_path, shards):
    """jax.distributed with gloo: members over 8 devices of 2 processes, or a batch over all of them."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import icl_jax; from tiny import tiny_config;"
        "from icl_jax.training.parallel import join_processes; join_processes(sys.argv[4], 2, int(sys.argv[5]));"
        "icl_jax.train(tiny_config(**json.loads(sys.argv[3])), sys.argv[2])"
    )
    changes = json.dumps({"runtime__batch_shards": shards})
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(TESTS), str(tmp_path / "run"), changes, address, str(i)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    for x, y in zip(final(undisturbed)[1], final(tmp_path / "run")[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-4)
