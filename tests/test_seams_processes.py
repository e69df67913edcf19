"""A source that the host feeds, in processes of their own: killed again and again, and several of them for one run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import plugins
import pytest
from tiny import free_port

import icl_jax
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.leaves import flatten, member_digests

pytestmark = pytest.mark.slow
TESTS = pathlib.Path(__file__).parent
KILLS = 5
CHANGES = {"train.num_steps": 12000, "evals.every": 300, "checkpoint.every": 300}


def start(directory, shards: int, cache, join: str = "", **changes):
    """Starts a process that trains; join: what makes it one of several."""
    changes = {**CHANGES, "runtime.batch_shards": shards, **changes}
    code = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import plugins
from icl_jax.training.parallel import join_processes
{join}
plugins.register_all()
plugins.trained({str(directory)!r}, **{changes!r})
"""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def wait_for_newer_checkpoint(directory, process):
    newest = lambda: max(Checkpoints(directory / "checkpoints").steps(), default=-1)
    before = newest()
    while newest() == before:
        assert process.poll() is None, "it ended without another checkpoint"
        time.sleep(0.02)


@pytest.mark.parametrize("shards", [1, 2])
def test_kills_change_nothing(tmp_path, shards):
    cache = tmp_path / "xla"
    assert start(tmp_path / "undisturbed", shards, cache).wait(300) == 0
    rng = random.Random(shards)
    for _ in range(KILLS):
        process = start(tmp_path / "attacked", shards, cache)
        wait_for_newer_checkpoint(tmp_path / "attacked", process)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it came to its end before it was killed: make it longer"
    assert start(tmp_path / "attacked", shards, cache).wait(300) == 0
    plugins.register_all()
    runs = [icl_jax.load_run(tmp_path / name) for name in ("undisturbed", "attacked")]
    digests = [member_digests(flatten(run._newest[1])) for run in runs]
    assert digests[0] == digests[1] and runs[0].table.equals(runs[1].table)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_two_processes_of_two_devices_are_fed_as_one_process_is(tmp_path, shards):
    changes = {"train.num_steps": 40, "evals.every": 20, "checkpoint.every": 20, "runtime.devices": 0}
    address = f"127.0.0.1:{free_port()}"
    joins = [f"join_processes({address!r}, 2, {i})" for i in range(2)]
    processes = [start(tmp_path / "two", shards, tmp_path / "xla", join, **changes) for join in joins]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert start(tmp_path / "one", 1, tmp_path / "xla", **changes).wait(300) == 0
    plugins.register_all()
    one, two = (flatten(icl_jax.load_run(tmp_path / name)._newest[1]) for name in ("one", "two"))
    for path, leaf in one.items():
        np.testing.assert_allclose(two[path], leaf, atol=2e-5, err_msg=path)
