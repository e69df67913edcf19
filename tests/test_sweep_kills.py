"""Sweeps under attack: kills, several workers, a full disk. Whatever happens, the results are the same bits."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
TESTS = pathlib.Path(__file__).parent
KILLS = 20

CONFIG = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from tiny import tiny_config
from icl_jax import grid

def get_config():
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0)
    config.name = "attacked"
    config.train.num_steps = 600
    config.evals.every, config.checkpoint.every, config.runtime.chunk_steps = 60, 20, 10
    return config

def get_sweep():
    return grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(4))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with the config file, and programs compiled once for all workers."""
    path = tmp_path_factory.mktemp("attacked")
    (path / "attacked.py").write_text(CONFIG)
    return path


def start(place, out, *flags, action="run", limit=None):
    """Starts a worker: 8 cells as 4 populations of 2."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(place / "xla"), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "icl_jax", "sweep", action, str(place / "attacked.py")]
    command += [f"--out={place / out}", *(["--width=2"] if action == "run" else []), *flags]
    small_files = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    log = (place / f"{out}.log").open("a")
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=small_files
    )


def finish(process) -> str:
    output, _ = process.communicate(timeout=300)
    return output


def results(place, out):
    path = place / f"{out}.parquet"
    finish(start(place, out, f"--to={path}", action="results"))
    return pq.read_table(path)


@pytest.fixture(scope="module")
def undisturbed(place):
    process = start(place, "undisturbed")
    output = finish(process)
    assert process.returncode == 0 and "4 populations done, 0 failed" in output
    return results(place, "undisturbed")


def same_bits(a, b) -> bool:
    """NaN and all: the same columns in the same bytes."""
    if a.schema != b.schema or a.num_rows != b.num_rows:
        return False
    return all(str(x.to_pylist()) == str(y.to_pylist()) for x, y in zip(a.columns, b.columns, strict=True))


def test_killed_at_random_moments(place, undisturbed):
    """20 kills of whichever worker runs, in the midst of starting, training, saving: as if nothing had been.

    Every fourth comes at any moment, every fourth once the worker has a population, the others once it has saved.
    Where the machine is so fast that the sweep is done before, its newest population is taken back to its start.
    """
    moments, kills, held, half_done = random.Random(0), 0, 0, 0
    folder = place / "killed" / "attacked"
    while kills < KILLS:
        process = start(place, "killed")
        if kills % 4:
            wait_for_new(process, folder, "locks/*.attempt.json" if kills % 4 == 1 else "populations/*/checkpoints/*0")
        try:
            process.wait(moments.uniform(0.0, 4.0 if kills % 4 == 0 else 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
            held += bool(list(folder.glob("locks/*.attempt.json")))
            half_done += bool({p.parent.parent.name for p in finished_checkpoints(place, "killed")} - done(folder))
        finish(process)
        if process.returncode == 0:
            forget_newest(folder)
    assert held >= KILLS // 2, f"only {held} of {kills} kills hit a worker that had a population"
    assert half_done >= KILLS // 4, f"only {half_done} of {kills} kills came with a population half done"
    last = start(place, "killed")
    assert "4 populations done, 0 failed" in finish(last) and last.returncode == 0
    assert same_bits(results(place, "killed"), undisturbed)


def wait_for_new(process, folder, pattern):
    """Until a file of the pattern is written, or the worker has ended."""
    found = lambda: {path: written(path) for path in folder.glob(pattern)}
    before = found()
    while process.poll() is None and found().items() <= before.items():
        time.sleep(0.02)


def written(path):
    """When, in ns; 0 where it has gone meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0


def done(folder):
    return {path.stem for path in folder.glob("done/*.parquet")}


def forget_newest(folder):
    """Takes a finished population out of the ledger, with its run."""
    entry = max((folder / "done").iterdir(), key=lambda path: path.stat().st_mtime)
    shutil.rmtree(folder / "populations" / entry.stem)
    entry.unlink()


def test_two_workers_share_a_directory(place, undisturbed):
    """Each population is run by exactly one of them."""
    workers = [start(place, "shared") for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    ran = [
        line.split("population ")[1].split()[0]
        for text in outputs
        for line in text.splitlines()
        if ": population " in line
    ]
    assert sorted(ran) == ["1", "2", "3", "4"]
    assert same_bits(results(place, "shared"), undisturbed)


def test_a_dead_workers_claim_is_taken_over(place, undisturbed):
    first = start(place, "taken")
    lock = place / "taken" / "attacked" / "locks"
    while not list(lock.glob("*.attempt.json")):
        time.sleep(0.05)
    second = start(place, "taken")
    time.sleep(4)
    first.kill()
    finish(first)
    assert "4 populations done, 0 failed" in finish(second) and second.returncode == 0
    assert same_bits(results(place, "taken"), undisturbed)


def test_ctrl_c_saves_and_the_next_run_goes_on(place, undisturbed):
    process = start(place, "stopped")
    while not list((place / "stopped").glob("attacked/populations/*/checkpoints/*/_CHECKPOINT_METADATA")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    assert process.returncode == 75 and "the same command goes on" in output
    assert "from step" in finish(start(place, "stopped"))
    assert same_bits(results(place, "stopped"), undisturbed)


def test_a_full_disk_is_said_and_loses_nothing(place, undisturbed):
    """No file may grow beyond 8 KiB: nothing fits, and the failures say so; with room again all is well."""
    process = start(place, "full", limit=8192)
    output = finish(process)
    assert process.returncode == 1 and "4 failed" in output and "free some space" in output
    again = start(place, "full")
    assert "4 populations done, 0 failed" in finish(again) and again.returncode == 0
    assert same_bits(results(place, "full"), undisturbed)


def finished_checkpoints(place, out):
    found = (place / out).glob("attacked/populations/*/checkpoints/*")
    return sorted((p for p in found if p.name.isdigit()), key=lambda p: int(p.name))


def damage(checkpoint):
    """Zeroes the arrays' files, as a disk may."""
    for path in checkpoint.glob("state/**/*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(("out", "how_many", "said"), [("one", 1, "passing over"), ("all", 99, "starts anew")])
def test_damaged_checkpoints_cost_time_only(place, undisturbed, out, how_many, said):
    """The newest is damaged: it goes on from the one before. All are: the population starts anew."""
    process = start(place, out)
    while len(finished_checkpoints(place, out)) < 2:
        time.sleep(0.02)
    process.kill()
    finish(process)
    for checkpoint in finished_checkpoints(place, out)[-how_many:]:
        damage(checkpoint)
    assert "4 populations done, 0 failed" in finish(start(place, out))
    assert said in (place / f"{out}.log").read_text()
    assert same_bits(results(place, out), undisturbed)
