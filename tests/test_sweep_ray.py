"""Sweeps on a Ray cluster: what a task gets, and results that are the same bits whatever is killed."""

import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import pyarrow.parquet as pq
import pytest
from test_sweep_kills import same_bits
from tiny import tiny_config

from icl_jax import grid
from icl_jax.sweep import ray_cluster, ray_engine, ray_tasks
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.ray_cluster import choose_share
from icl_jax.sweep.results import results_table
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.sweep import open_sweep

TESTS = pathlib.Path(__file__).parent
FRUGAL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
NUM_STEPS, SAVE_EVERY = 2400, 60

CONFIG = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from tiny import tiny_config
from icl_jax import grid

def get_config():
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0)
    config.name = "rayed"
    config.model.num_layers, config.train.num_steps = 1, {NUM_STEPS}
    config.evals.every, config.checkpoint.every, config.runtime.chunk_steps = 600, {SAVE_EVERY}, 10
    return config

def get_sweep():
    return grid.product(grid.over("model.width", (8, 16)), grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2))
"""

# --- what a task gets ---

CORES, MORE_CORES = {"CPU": 4.0}, {"CPU": 8.0}
TPUS, GPUS = {"CPU": 96.0, "TPU": 4.0}, {"CPU": 16.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("machines", "asked", "share"),
    [
        ([CORES, MORE_CORES], {}, (4, 0, "")),  # all of the smallest machine
        ([CORES, MORE_CORES], {"cpus": 6}, (6, 0, "")),
        ([{"memory": 1.0}, MORE_CORES], {}, (8, 0, "")),  # a head that lends nothing
        ([CORES, TPUS], {}, (1, 4, "TPU")),
        ([CORES, GPUS], {"chips": 1}, (1, 1, "GPU")),
        ([CORES, GPUS], {"chips": 2, "cpus": 3}, (3, 2, "GPU")),
        ([GPUS], {"cpus": 2}, (2, 0, "")),  # cores alone were asked for
    ],
)
def test_what_a_task_gets(machines, asked, share):
    found = choose_share(machines, **asked)
    assert (found.cpus, found.chips, found.kind) == share


@pytest.mark.parametrize(
    ("machines", "asked", "message"),
    [
        ([CORES], {"chips": 1}, "no machine of the cluster has TPUs or GPUs"),
        ([CORES, GPUS], {"chips": 9}, "no machine has as many; they have 4 CPU; 16 CPU, 8 GPU"),
        ([CORES], {"cpus": 5}, "no machine has as many"),
        ([TPUS], {"chips": 3}, "can have 1, 2, 4, 8 TPU chips"),
    ],
)
def test_more_than_any_machine_has_is_refused(machines, asked, message):
    with pytest.raises(ValueError, match=message):
        choose_share(machines, **asked)


def test_a_host_of_a_slice_is_a_machine_by_itself():
    """libtpu would wait for the slice's other hosts; a task on cores must not touch the chips."""
    environment = choose_share([TPUS]).environment()
    assert environment["TPU_HOST_BOUNDS"] == "1,1,1" and environment["TPU_CHIPS_PER_HOST_BOUNDS"] == "2,2,1"
    environment = choose_share([TPUS], cpus=3).environment()
    assert environment["JAX_PLATFORMS"] == "cpu" and "device_count=3" in environment["XLA_FLAGS"]


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'icl_jax\[ray\]'"):
        ray_cluster.import_ray()


def test_an_address_where_nothing_answers(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "localhost"):
        with pytest.raises(ValueError, match="no Ray cluster answers at"):
            ray_cluster.connect(address)


def test_a_directory_that_is_not_shared_is_noticed(tmp_path, monkeypatch):
    """A task must not train into a directory of its own machine that nobody will read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="choose one that all share"):
        ray_tasks.check_shared(Folder(tmp_path))


# --- the driver, with tasks that end as told ---


class FakeRay:
    """Of Ray what the driver uses. ends: population's id -> how its tasks end, one after another; a function is
    called, an exception raised, and after the last all is well."""

    class RayError(Exception):
        pass

    class OutOfMemoryError(RayError):
        pass

    class RayTaskError(RayError):
        cause = None

    class WorkerCrashedError(RayError):
        pass

    def __init__(self, ends):
        self.ends, self.exceptions, self.begun = ends, self, []

    def remote(self, **options):
        return lambda function: types.SimpleNamespace(remote=self.start)

    def start(self, fields, *_):
        self.begun.append(fields["planned"]["id"])
        return len(self.begun) - 1

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 1.0}}]

    def wait(self, tasks, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        ends = self.ends.get(self.begun[task], [])
        end = ends.pop(0) if ends else "done"
        end = end() if callable(end) else end
        if isinstance(end, Exception):
            raise end
        return end, []


class Drive:
    """A driver over two populations, A and B, of two members each."""

    def __init__(self, opened, monkeypatch):
        self.folder, self.jobs, self.said = opened.folder, opened.jobs(), []
        self.a, self.b = (job.id for job in self.jobs)
        self.monkeypatch = monkeypatch

    def run(self, *ends_of_a):
        """Returns how many populations were done, and how many failed, when A's tasks end as told."""
        fake = FakeRay({self.a: list(ends_of_a)})
        for module in (ray_cluster, ray_engine):
            self.monkeypatch.setattr(module, "import_ray", lambda: fake)
        driver = ray_engine._Driver(self.folder, ray_cluster.Share(1), self.jobs, self.said.append)
        outcome = driver.run(types.SimpleNamespace(requested=False))
        return outcome.done, outcome.failed


@pytest.fixture
def drive(tmp_path, monkeypatch):
    points = grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2))
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0, runtime__devices=1)
    opened = open_sweep(Sheet("tiny.py", "Tiny.", config, points, [], {}, {}), tmp_path)
    opened.fix(most=2)
    return Drive(opened, monkeypatch)


KILLED = FakeRay.WorkerCrashedError("killed")


def test_a_population_whose_process_always_dies_is_given_up(drive):
    assert drive.run(*(99 * [KILLED])) == (1, 1)
    assert "its process died 5 times at step 0; WorkerCrashedError: killed" in drive.folder.failure(drive.a)["error"]
    assert sum("is tried again from step 0" in line for line in drive.said) == 4


def test_a_population_whose_process_dies_often_but_gets_on_is_not_given_up(drive):
    """As on machines that are taken away again and again: each death later than the one before."""
    steps = itertools.count(10, 10)

    def dies():
        (drive.folder.run_directory(drive.a) / "checkpoints" / str(next(steps))).mkdir(parents=True)
        return KILLED

    assert drive.run(*(12 * [dies])) == (2, 0)
    assert any("is tried again from step 120" in line for line in drive.said)


def test_a_machine_out_of_memory_halves_the_population(drive):
    assert drive.run(FakeRay.OutOfMemoryError("full")) == (3, 0)
    plan = drive.folder.plan()
    assert [len(planned.cells) for planned in plan] == [2, 1, 1] and plan[0].id == drive.b
    assert "planned anew" in drive.folder.failure(drive.a)["error"] and "3 of 3 done" in drive.said[-2]


def test_a_population_that_another_worker_has_is_tried_until_it_is_done(drive):
    assert drive.run(*(3 * [ray_tasks.AGAIN])) == (2, 0)


def test_a_task_that_never_came_to_train_is_recorded(drive):
    error = FakeRay.RayTaskError()
    error.cause = ValueError("no bank here\n(and why)")
    assert drive.run(error) == (1, 1)
    assert drive.folder.failure(drive.a)["error"] == "ValueError: no bank here"


# --- a cluster on this machine ---


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with the config file."""
    path = tmp_path_factory.mktemp("rayed")
    (path / "rayed.py").write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def environment(place):
    """Of drivers and machines: one CPU device, and caches of their own, filled by the first run."""
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    caches = {"JAX_COMPILATION_CACHE_DIR": str(place / "xla"), "XDG_CACHE_HOME": str(place / "cache")}
    more = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return os.environ | caches | more | {"RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def cluster(environment):
    """A head that lends nothing and two machines that lend one core of theirs each, all here."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'icl_jax[ray]'")
    from ray.cluster_utils import Cluster

    machines = environment | {"XLA_FLAGS": environment["XLA_FLAGS"].replace("count=1", "count=8")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machines.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | FRUGAL)
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, **FRUGAL)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def driver(place, environment, cluster):
    """Starts drivers on the cluster; whatever of them still runs at the test's end is killed."""
    started = []

    def start(out, address=cluster.address, **variables):
        flags = ["--engine=ray", f"--ray_address={address}", "--cpus=1"]
        started.append(sweep(place, environment | variables, "run", out, *flags))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def sweep(place, environment, action, out, *flags):
    """8 cells as 4 populations of 2."""
    command = [sys.executable, "-m", "icl_jax", "sweep", action, str(place / "rayed.py"), f"--out={place / out}"]
    command += ["--width=2"] if action == "run" else []
    return subprocess.Popen(
        [*command, *flags], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, code=0) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def undisturbed(place, environment):
    """The table of a run in one process."""
    finish(sweep(place, environment, "run", "local"))
    return results(place, environment, "local")


def results(place, environment, out):
    path = place / f"{out}.parquet"
    finish(sweep(place, environment, "results", out, f"--to={path}"))
    return pq.read_table(path)


def folder_of(place, out) -> Folder:
    return Folder(place / out / "rayed")


def checkpoints(folder) -> list[pathlib.Path]:
    return [path for path in folder.directory.glob("populations/*/checkpoints/*") if path.name.isdigit()]


def under_way(place, out) -> list[dict]:
    """Waits until a population is in the middle of its steps; returns the notes of those that are."""
    folder, deadline = folder_of(place, out), time.monotonic() + 300
    while time.monotonic() < deadline:
        begun = {path.parts[-3] for path in checkpoints(folder)}
        notes = [folder.attempt(id_) for id_ in begun if not folder.done_file(id_).exists()]
        if notes := [note for note in notes if note]:
            return notes
        time.sleep(0.02)
    raise AssertionError("no population came under way")


@pytest.mark.slow
def test_results_are_those_of_one_process(place, environment, cluster, driver, undisturbed):
    """The driver needs no device: those of its machine may be a task's."""
    output = finish(driver("plain", JAX_PLATFORMS="absent"))
    assert "4 populations done, 0 failed" in output
    assert same_bits(results(place, environment, "plain"), undisturbed)
    assert not [line for line in output.splitlines() if not line.startswith("rayed: ")], "Ray's own output"
    assert {planned.devices for planned in folder_of(place, "plain").plan()} == {1}, "devices follow --cpus"
    assert "4 populations, 4 of them done" in finish(driver("plain"))


@pytest.mark.slow
def test_a_killed_worker(place, environment, driver, undisturbed):
    process = driver("worker")
    os.kill(under_way(place, "worker")[0]["pid"], signal.SIGKILL)
    assert "was lost and is tried again from step" in finish(process)
    assert same_bits(results(place, environment, "worker"), undisturbed)


@pytest.mark.slow
def test_a_killed_machine(place, environment, cluster, driver, undisturbed):
    process = driver("machine")
    under_way(place, "machine")
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    try:
        assert "was lost and is tried again from step" in finish(process)
    finally:
        cluster.add_node(num_cpus=1, **FRUGAL)
    assert same_bits(results(place, environment, "machine"), undisturbed)


@pytest.mark.slow
def test_a_killed_driver_goes_on_at_another_cluster(place, environment, driver, undisturbed):
    first = driver("driver")
    under_way(place, "driver")
    first.kill()
    output = finish(driver("driver", address="local"))
    assert "from step" in output and "4 populations done, 0 failed" in output
    assert same_bits(results(place, environment, "driver"), undisturbed)


@pytest.mark.slow
def test_a_stopped_driver_has_its_populations_save(place, environment, driver):
    process = driver("stopped")
    under_way(place, "stopped")
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on" in finish(process, code=75)
    steps = [int(path.name) for path in checkpoints(folder_of(place, "stopped"))]
    assert any(step % SAVE_EVERY for step in steps)  # at the end of a chunk, not of an interval


@pytest.mark.slow
def test_what_fails_is_recorded_and_what_does_not_fit_is_split(place, driver, undisturbed):
    """In one population's directory lies something else, another was killed for its memory: the other two are not
    concerned."""
    folder = folder_of(place, "failing")
    shutil.copytree(folder_of(place, "local").directory, folder.directory)
    taken, large, *_ = folder.plan()
    folder.done_file(taken.id).unlink()
    shutil.rmtree(folder.run_directory(taken.id))
    folder.run_directory(taken.id).mkdir()
    (folder.run_directory(taken.id) / "thesis.tex").write_text("x")
    folder.done_file(large.id).unlink()
    folder.note_attempt(large.id, kernel_kills=-1, step=0)  # fewer than there are now
    output = finish(driver("failing"), code=1)
    assert f"{taken.id} failed: ValueError: " in output and "is not empty and holds no run" in output
    assert "the kernel killed it for its memory with 2 members; goes on as 1 and 1" in output
    assert "4 populations done, 1 failed" in output
    assert "is not empty and holds no run" in folder.failure(taken.id)["error"]
    sizes = [(len(planned.cells), folder.done_file(planned.id).exists()) for planned in folder.plan()]
    assert sorted(sizes) == [(1, True), (1, True), (2, False), (2, True), (2, True)]


STAGED = (
    CONFIG.replace("rayed", "staged").replace("from icl_jax import grid", "from icl_jax import Stage, grid")
    + """
GROWN = grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2))

def get_stages():
    config = _plain()
    config.train.num_steps = 600
    return {"grow": Stage(config, GROWN)}

_plain = get_config

def get_config():
    config = _plain()
    config.init_from.run, config.train.num_steps = "stage:grow", 600
    return config

def get_sweep():
    return grid.product(grid.follow(GROWN), grid.over("hypers.label_noise", (0, 0.5)))
"""
)


@pytest.mark.slow
def test_stages_follow_one_another(place, environment, cluster):
    """On the cluster as in one process."""
    (place / "staged.py").write_text(STAGED)
    ray = ["--engine=ray", f"--ray_address={cluster.address}", "--cpus=1"]
    one = ["run", str(place / "staged.py"), "--width=2"]
    for out, flags in (("staged_local", []), ("staged_ray", ray)):
        command = [sys.executable, "-m", "icl_jax", "sweep", *one, f"--out={place / out}", *flags]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert output.returncode == 0, output.stderr + output.stdout
    assert "stage grow" in output.stdout and "staged, after its stages" in output.stdout
    tables = [results_table(Folder(place / out / "staged")) for out in ("staged_local", "staged_ray")]
    assert tables[0].num_rows and same_bits(*tables)
