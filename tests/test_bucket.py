"""Runs and sweeps in a bucket: an emulator of Google Cloud Storage on this machine, and the real clients."""

import os
import subprocess
import sys
import time
import types

import pyarrow.parquet as pq
import pytest

pytest.importorskip("gcp_storage_emulator", reason="pip install 'icl_jax[test]'")
pytest.importorskip("gcsfs", reason="pip install 'icl_jax[test]'")

import fsspec
import gcs_emulator
from test_checkpoint import assert_same as assert_same_state
from test_checkpoint import make_state
from test_store import assert_same, rows_at, write
from test_sweep_kills import TESTS, finish, same_bits

from icl_jax.storage import checkpoint, files
from icl_jax.storage.checkpoint import CheckpointError, Checkpoints
from icl_jax.storage.metrics import MetricsWriter, read_metrics
from icl_jax.storage.paths import as_path, children, filesystem
from icl_jax.sweep import worker
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import Job
from icl_jax.sweep.plan import Planned

BUCKET = f"gs://{gcs_emulator.BUCKET}"


@pytest.fixture(scope="module", autouse=True)
def clients():
    """The environment in which gs:// is the emulator."""
    with gcs_emulator.emulator() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.config.conf.pop("gs", None)
        fsspec.filesystem("gs").clear_instance_cache()
        yield


@pytest.fixture
def place(request):
    """A directory of the bucket for one test."""
    return as_path(f"{BUCKET}/{request.node.name.partition('[')[0]}")


# --- files ---


def test_a_file_is_replaced_whole_or_not_at_all(place):
    path = place / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_text(path) == "old" and children(place) == [path]
    files.write_text(path, "new")
    assert files.read_text(path) == "new"


def test_of_two_writers_of_a_new_file_one_is_refused(place, monkeypatch):
    """Also where both saw none: the service decides."""
    assert files.write_new(place / "a.txt", "first")
    assert not files.write_new(place / "a.txt", "second")
    monkeypatch.setattr(type(place), "exists", lambda self: False)
    assert not files.write_new(place / "a.txt", "third")
    assert files.read_text(place / "a.txt") == "first"


def test_what_others_write_is_seen_at_once(place):
    files.write_text(place / "one", "1")
    assert [path.name for path in children(place)] == ["one"] and not (place / "two").exists()
    other = fsspec.filesystem("gs", skip_instance_cache=True)
    other.pipe_file(f"{place}/two", b"2")
    assert [path.name for path in children(place)] == ["one", "two"] and (place / "two").exists()
    files.remove_tree(place)
    assert children(place) == []
    files.remove_tree(place)


def test_a_bucket_that_is_not_there_is_named():
    with pytest.raises(OSError, match=r"cannot write gs://nobody/a.*the bucket exists"):
        files.write_text("gs://nobody/a", "text")


# --- metrics ---


def test_metrics_of_a_resumed_run_equal_those_on_disk(place, tmp_path):
    """Killed at step 27 with parts up to 25, gone on from the checkpoint of step 20 with other flushes."""
    for directory in (place, tmp_path / "metrics"):
        write(directory, range(28), flush_every=5)
        resumed = MetricsWriter(directory)
        resumed.truncate_after(20)
        write(directory, range(21, 41), flush_every=10, writer=resumed)
    assert_same(read_metrics(place), read_metrics(tmp_path / "metrics"))
    assert_same(read_metrics(f"{BUCKET}/*{place.name[1:]}/part-*.parquet"), read_metrics(tmp_path / "metrics"))


def test_two_writers_of_the_same_metrics_lose_and_double_nothing(place, tmp_path):
    """One is at the end when the other, begun anew, has got to the middle; both flush the same parts."""
    write(tmp_path / "alone", range(41), flush_every=10)
    ahead = write(place, range(26), flush_every=5)
    behind = MetricsWriter(place)
    behind.truncate_after(-1)
    write(place, range(16), flush_every=5, writer=behind)
    write(place, range(26, 41), flush_every=5, writer=ahead)
    assert_same(read_metrics(place), read_metrics(tmp_path / "alone"))
    write(place, range(16, 41), flush_every=5, writer=behind)
    assert_same(read_metrics(place), read_metrics(tmp_path / "alone"))


@pytest.mark.parametrize("first", [30, 20])
def test_what_was_written_last_counts(place, first):
    """Whatever the names of the parts, and within one."""
    place = place / str(first)
    for value, last in ((1.0, first), (2.0, 20)):
        writer = MetricsWriter(place)
        writer.append([{**row, "value": value} for row in rows_at(20)])
        writer.flush(last)
    assert set(read_metrics(place)["value"].to_pylist()) == {2.0}


def test_no_metrics_is_said(place):
    with pytest.raises(FileNotFoundError, match="has the run reached an evaluation"):
        read_metrics(place)


# --- checkpoints ---


def save(place, *steps) -> None:
    with Checkpoints(place) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), meta={"step": step})


def mark(place, step: int):
    return place / str(step) / "commit_success.txt"


def test_a_checkpoint_comes_back(place):
    save(place, 10, 20, 30)
    step, state, meta = Checkpoints(place).restore(like=make_state())
    assert (step, meta) == (30, {"step": 30}) and Checkpoints(place).steps() == [20, 30]
    assert_same_state(state, make_state(30))


def test_a_save_that_was_killed_does_not_count_and_is_made_again(place):
    save(place, 10, 20)
    mark(place, 20).unlink()
    assert Checkpoints(place).steps() == [10]
    checkpoints = Checkpoints(place)
    assert checkpoints.restore()[0] == 10
    checkpoints.save(20, make_state(20), meta={}, force=True)
    assert_same_state(Checkpoints(place).restore(like=make_state(), step=20)[1], make_state(20))


def test_opening_leaves_the_save_of_another_worker_alone(place):
    save(place, 10, 20)
    mark(place, 20).unlink()  # as a save in progress looks
    before = filesystem(place).find(f"{place}/20")
    save(place, 30)
    assert before and set(before) <= set(filesystem(place).find(str(place)))


def test_a_good_checkpoint_of_another_worker_is_left_and_a_damaged_one_replaced(place):
    save(place, 10, 20)
    written = lambda: filesystem(place).info(str(mark(place, 20)))["generation"]
    first = written()
    save(place, 20)
    assert written() == first
    for name in filesystem(place).find(f"{place}/20/state"):
        if "/d/" in name:
            filesystem(place).pipe_file(name, b"")
    with Checkpoints(place) as checkpoints:
        with pytest.warns(UserWarning, match="passing over"):
            assert checkpoints.restore()[0] == 10
        checkpoints.save(20, make_state(20), meta={}, force=True)
    assert written() != first
    assert_same_state(Checkpoints(place).restore(like=make_state())[1], make_state(20))


def fails(*args, **kwargs):
    raise RuntimeError("another worker was in the way")


def test_a_failed_save_counts_where_another_worker_has_made_it(place, monkeypatch):
    """And the next one works again; where nobody has made it, it is an error."""
    checkpoints = Checkpoints(place)
    checkpoints.save(10, make_state(10), meta={}, force=True)
    checkpoints.save(20, make_state(20), meta={}, force=True)
    monkeypatch.setattr(checkpoints, "_saving", types.SimpleNamespace(result=fails))
    checkpoints.wait()
    checkpoints.save(30, make_state(30), meta={}, force=True)
    assert checkpoints.steps() == [20, 30]
    mark(place, 30).unlink()
    monkeypatch.setattr(checkpoints, "_saving", types.SimpleNamespace(result=fails))
    with pytest.raises(CheckpointError, match="another worker was in the way"):
        checkpoints.wait()


def test_a_checkpoint_that_another_worker_puts_in_the_place_of_what_it_removes_is_found(place, monkeypatch):
    save(place, 10)
    read = checkpoint._read

    def removed_meanwhile(path, step):
        if step == 10:
            save(place, 20)
            files.remove_tree(place / "10")
        return read(path, step)

    monkeypatch.setattr(checkpoint, "_read", removed_meanwhile)
    assert Checkpoints(place).restore()[0] == 20


# --- sweeps ---


def population(cells: str) -> Planned:
    return Planned(f"id_{cells}", tuple(cells), (), 1, 1, 0)


def test_a_population_that_two_workers_split_is_planned_once(place):
    folder = Folder(place)
    assert folder.add_to_plan([population("abcd")], 0)
    for after in (1, 2):
        assert folder.add_to_plan([population("ab"), population("cd")], after, replaces=("id_abcd",))
    assert [planned.id for planned in folder.plan()] == ["id_ab", "id_cd"]


def test_nobody_is_kept_from_a_population(place, tmp_path):
    with Folder(place).claim("id") as first, Folder(place).claim("id") as second:
        assert first and second and not Folder(place).claimed("id")
    with Folder(tmp_path).claim("id") as first, Folder(tmp_path).claim("id") as second:
        assert first and not second and Folder(tmp_path).claimed("id")


@pytest.mark.parametrize("other_done", [True, False])
def test_a_failure_is_none_where_another_worker_has_finished(place, monkeypatch, other_done):
    folder, job = Folder(place / str(other_done)), Job(population("ab"), None)
    monkeypatch.setattr(worker, "run_job", fails)
    monkeypatch.setattr(worker, "is_done", lambda folder, job: other_done)
    assert worker.attempt(folder, job, lambda text: None, False) == ("done" if other_done else "failed")
    assert bool(folder.failure(job.id)) != other_done


# --- whole commands ---

CONFIG = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from tiny import tiny_config
from icl_jax import grid

def get_config():
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0)
    config.name = "tiny"
    config.train.num_steps = 120
    config.evals.every, config.checkpoint.every, config.runtime.chunk_steps = 20, 20, 10
    return config

def get_sweep():
    return grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2))
"""
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A local directory with the config file, and programs compiled once for all."""
    path = tmp_path_factory.mktemp("bucket")
    (path / "tiny.py").write_text(CONFIG)
    return path


def start(room, *command):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(room / "xla"), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    log = (room / "log").open("a")
    command = [sys.executable, "-m", "icl_jax", *map(str, command)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def sweep(room, out, *flags):
    """Starts a worker: 4 cells as 2 populations of 2."""
    return start(room, "sweep", "run", room / "tiny.py", f"--out={out}", "--width=2", *flags)


def kill_at(process, pattern: str, count: int) -> None:
    """Kills a worker at once when the bucket has so many objects of a name."""
    while len(filesystem(as_path(BUCKET)).glob(pattern)) < count:
        assert process.poll() is None, "done before it could be killed"
        time.sleep(0.05)
    process.kill()
    finish(process)


def results(room, out):
    finish(start(room, "sweep", "results", f"{out}/tiny", f"--to={room / 'results.parquet'}"))
    return pq.read_table(room / "results.parquet")


@pytest.fixture(scope="module")
def on_disk(room):
    assert "2 populations done, 0 failed" in finish(sweep(room, room / "sweeps"))
    return results(room, room / "sweeps")


@SLOW
def test_a_sweep_killed_and_shared_equals_one_on_disk(room, on_disk, place):
    """Killed with -9 while it saves and while it trains, then finished by two array tasks, read and reported."""
    found = f"{place}/tiny/populations/*/checkpoints"
    kill_at(sweep(room, place), f"{found}/20/state/ocdbt.process_0/d/*", 1)
    kill_at(sweep(room, place), f"{found}/60/commit_success.txt", 1)
    waiting = finish(start(room, "sweep", "status", room / "tiny.py", f"--out={place}"))
    assert "60 / 120" in waiting and "1 waiting" in waiting
    tasks = [sweep(room, place, f"--index={index}", "--count=2") for index in range(2)]
    outputs = [finish(task) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0]
    assert "from step 60" in "".join(outputs) and not any("no locks" in text for text in outputs)
    assert same_bits(results(room, place), on_disk)
    assert "2 populations: 2 done" in finish(start(room, "sweep", "status", room / "tiny.py", f"--out={place}"))
    assert f"{place}/tiny/report/index.html" in finish(start(room, "report", f"{place}/tiny"))
    assert "<svg" in files.read_text(place / "tiny" / "report" / "index.html")
    assert len(list((place / "tiny" / "report").glob("*.png"))) >= 2


@SLOW
def test_two_workers_without_shares_get_the_same_results(room, on_disk, place):
    """They are told; they get in each other's way, and lose nothing: the same command finishes what is left."""
    workers = [sweep(room, place) for _ in range(2)]
    assert all("no locks in a bucket" in finish(each) for each in workers)
    last = sweep(room, place)
    assert "2 populations done, 0 failed" in finish(last) and last.returncode == 0
    assert same_bits(results(room, place), on_disk)


@SLOW
def test_a_run_killed_in_a_bucket_equals_one_on_disk(room, place):
    train = lambda out: start(room, "train", f"--config={room / 'tiny.py'}", f"--config.out={out}")
    finish(train(room / "run"))
    kill_at(train(place), f"{place}/checkpoints/60/commit_success.txt", 1)
    finish(train(place))
    assert_same(read_metrics(place / "metrics"), read_metrics(room / "run" / "metrics"))
    scored = [finish(start(room, "eval", out)) for out in (place, room / "run")]
    assert "fewshot_holdout" in scored[0] and scored[0] == scored[1]
    state, on_disk = (Checkpoints(out / "checkpoints").restore()[1] for out in (place, room / "run"))
    assert_same_state(state, on_disk)
