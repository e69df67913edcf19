"""Laws of the tidy table: order and flushes do not show, resumed equals undisturbed, parts are atomic."""

import os
import signal
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from icl_jax.storage.metrics import MetricsWriter, TensorBoardWriter, read_metrics, select, to_table
from icl_jax.training.display import Progress
from icl_jax.training.signals import GracefulStop

MEMBERS = [{"hyper/p_bursty": p, "hyper/b1": 0.9, "seed/init": seed} for p in (0.0, 0.9) for seed in (0, 2**40)]


def rows_at(step: int) -> list[dict]:
    """Training rows every step, headline rows at multiples of 10, rows with coordinates at 20s."""
    value = lambda m: float(np.sin(step * 7 + m)) if m else float("nan")
    rows = [{"member": m, "step": step, "suite": "train", "metric": "loss", "value": value(m)} for m in range(4)]
    if step % 10 == 0:
        rows += [{**row, "suite": "icl", "metric": "accuracy"} for row in rows[:4]]
    if step % 20 == 0:
        rows += [
            {**row, "suite": "icl", "metric": "attention", "layer": layer, "head": head}
            for row in rows[:4]
            for layer in range(2)
            for head in ("a", "b")
        ]
    return [{**MEMBERS[row["member"]], **row} for row in rows]


def write(directory, steps, flush_every: int, writer=None) -> MetricsWriter:
    if writer is None:
        writer = MetricsWriter(directory)
        writer.begin_after(-1)
    for step in steps:
        writer.append(rows_at(step))
        if step % flush_every == 0:
            writer.flush(step)
    return writer


def assert_same(a: pa.Table, b: pa.Table):
    assert a.schema == b.schema and a.num_rows == b.num_rows
    for name in a.column_names:
        x, y = a[name].to_numpy(), b[name].to_numpy()
        assert x.tobytes() == y.tobytes() if x.dtype != object else x.tolist() == y.tolist(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed") / "metrics"
    write(directory, range(41), flush_every=10)
    return read_metrics(directory)


def test_what_is_written_is_read(undisturbed):
    expected = to_table([row for step in range(41) for row in rows_at(step)])
    assert_same(undisturbed, expected)
    types = {field.name: field.type for field in undisturbed.schema}
    assert types["member"] == pa.int32() and types["step"] == pa.int64() and types["value"] == pa.float64()
    assert types["hyper/b1"] == pa.float64() and types["seed/init"] == pa.int64()
    assert types["layer"] == pa.int64() and types["head"] == pa.string()


@pytest.mark.parametrize("flush_every", [1, 20])
def test_how_often_parts_are_written_does_not_show(undisturbed, tmp_path, flush_every):
    write(tmp_path, range(41), flush_every)
    assert_same(read_metrics(tmp_path), undisturbed)


@pytest.mark.parametrize("killed_at, restored", [(27, 20), (25, 15), (40, 0), (33, -1)])
def test_resumed_equals_undisturbed(undisturbed, tmp_path, killed_at, restored):
    """Killed somewhere, resumed at a checkpoint that lies before, on or off the parts' boundaries."""
    write(tmp_path, range(killed_at + 1), flush_every=10)
    resumed = MetricsWriter(tmp_path)
    resumed.truncate_after(restored)
    steps = read_metrics(tmp_path)["step"].to_numpy() if restored >= 0 else np.array([-1])
    assert steps.max() == restored
    write(tmp_path, range(restored + 1, 41), 10, resumed)
    assert_same(read_metrics(tmp_path), undisturbed)


def test_rows_that_were_added_survive_a_truncation_to_their_step(tmp_path):
    """The part that is cut to end where an added one stands would have its name."""
    write(tmp_path, range(10, 21), flush_every=20)
    added = MetricsWriter(tmp_path)
    added.append([{**MEMBERS[0], "member": 0, "step": 10, "suite": "own", "metric": "accuracy", "value": 1.0}])
    added.flush(10)
    expected = [row for row in read_metrics(tmp_path).to_pylist() if row["step"] <= 10]
    MetricsWriter(tmp_path).truncate_after(10)
    assert str(read_metrics(tmp_path).to_pylist()) == str(expected)
    assert select(read_metrics(tmp_path), suite="own")["step"].tolist() == [10]


def test_parts_that_overlap_double_no_row(undisturbed, tmp_path):
    write(tmp_path, range(41), flush_every=10)
    whole = (tmp_path / "part-000000011-000000020.parquet").read_bytes()
    (tmp_path / "part-000000011-000000099.parquet").write_bytes(whole)
    assert_same(read_metrics(tmp_path), undisturbed)


def test_rows_not_yet_flushed_are_dropped_too(undisturbed, tmp_path):
    writer = write(tmp_path, range(36), flush_every=30)
    writer.truncate_after(20)
    writer.truncate_after(20)
    write(tmp_path, range(21, 41), 10, writer)
    assert_same(read_metrics(tmp_path), undisturbed)


def test_the_same_steps_flushed_twice_lose_nothing(tmp_path):
    writer = MetricsWriter(tmp_path)
    for metric in ("a", "b"):
        writer.append([{"member": 0, "step": 5, "suite": "icl", "metric": metric, "value": 1.0}])
        writer.flush(5)
    writer.flush(6)
    assert select(read_metrics(tmp_path))["metric"].tolist() == ["a", "b"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_part_is_written_whole_or_not_at_all(undisturbed, tmp_path, monkeypatch):
    """A write that dies half way leaves the earlier parts readable, and no trace after resuming."""
    writer = write(tmp_path, range(21), flush_every=10)

    def die(table, file):
        file.write_bytes(b"PAR1 half a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", die)
        writer.append(rows_at(21))
        with pytest.raises(OSError, match="No space left"):
            writer.flush(21)
    assert read_metrics(tmp_path)["step"].to_numpy().max() == 20
    resumed = MetricsWriter(tmp_path)
    resumed.truncate_after(20)
    write(tmp_path, range(21, 41), 10, resumed)
    assert_same(read_metrics(tmp_path), undisturbed)
    assert not list(tmp_path.glob("*.tmp"))


def test_columns_may_differ_between_parts_and_runs(tmp_path):
    row = {"member": 0, "step": 1, "suite": "icl", "metric": "m", "value": 1.0}
    for run, extra in enumerate([{"where": 3}, {"where": "deep"}, {}, {"hyper/ways": 2}]):
        writer = MetricsWriter(tmp_path / str(run) / "metrics")
        writer.append([{**row, "step": run + 1, **extra}])
        writer.flush(9)
    table = read_metrics(tmp_path / "*" / "metrics" / "*.parquet")
    columns = select(table)
    assert columns["where"].tolist() == ["3", "deep", None, None]
    assert np.isnan(columns["hyper/ways"][:3]).all() and columns["hyper/ways"][3] == 2
    mixed = MetricsWriter(tmp_path / "mixed")
    mixed.append([{**row, "where": 3}])
    mixed.append([{**row, "step": 2, "where": "deep"}])
    mixed.flush(2)
    assert select(read_metrics(tmp_path / "mixed"))["where"].tolist() == ["3", "deep"]


def test_columns_of_arrays_equal_rows(tmp_path):
    rows = rows_at(3)
    columns = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    assert_same(to_table(columns), to_table(rows))


def test_select_and_missing_metrics(undisturbed, tmp_path):
    chosen = select(undisturbed, suite="icl", metric="attention", layer=1, head="b")
    assert chosen["step"].tolist() == [0, 20, 40] * 4 and set(chosen["layer"]) == {1}
    with pytest.raises(FileNotFoundError, match=r"no metrics in .*parquet"):
        read_metrics(tmp_path)
    with pytest.raises(ValueError, match="metrics of step 5 are to be flushed at step 4"):
        writer = MetricsWriter(tmp_path)
        writer.append(rows_at(5))
        writer.flush(4)


def test_tensorboard_has_a_run_per_member(tmp_path):
    writer = TensorBoardWriter(tmp_path, ["p_bursty=0 seed=0", "p_bursty=0 seed=1", "x/y", "x/y"])
    writer.append(rows_at(20))
    writer.close()
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert runs == ["000_p_bursty=0_seed=0", "001_p_bursty=0_seed=1", "002_x_y", "003_x_y"]
    content = b"".join(path.read_bytes() for path in (tmp_path / runs[1]).iterdir())
    for tag in (b"train/loss", b"eval/icl/accuracy", b"eval/icl/attention/layer_1/head_b"):
        assert tag in content


def test_a_signal_is_noted_and_the_second_ctrl_c_interrupts():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    with GracefulStop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_graceful_stop_does_nothing_outside_the_main_thread():
    found = []

    def work():
        with GracefulStop() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def run_progress(num_members: int, capsys, **options) -> str:
    members = [f"p_bursty={i / 10:g} seed=0" for i in range(num_members)]
    with Progress(members, 1000, 32, title="bank: glyphs", headlines=("ICL", "IWL"), **options) as progress:
        progress.phase("compiling")
        progress.update(0, np.full(num_members, 2.3), [None, None], ["running"] * num_members)
        progress.phase("training")
        loss = np.linspace(2.0, np.nan, num_members)
        icl, status = np.linspace(0, 1, num_members), ["running"] * num_members
        progress.update(500, loss, [icl, 1 - icl], ["diverged at 300", *status[1:]])
    return capsys.readouterr().out


def test_plain_progress_is_a_line_per_evaluation(capsys):
    lines = run_progress(4, capsys, plain=True).strip().splitlines()
    assert len(lines) == 4 and lines[:2] == ["bank: glyphs", "compiling ..."]
    assert "step 500/1000" in lines[3] and "icl 0.00..1.00" in lines[3] and "1 diverged" in lines[3]


def test_progress_is_silent_when_disabled(capsys):
    assert run_progress(4, capsys, enabled=False) == ""


@pytest.mark.parametrize("num_members", [1, 16, 40])
def test_live_progress_shows_members_or_their_summary(capsys, monkeypatch, num_members):
    monkeypatch.setenv("COLUMNS", "120")
    text = run_progress(num_members, capsys, plain=False)
    assert "diverged at 300" in text if num_members <= 16 else "24 more" in text
    assert "sequences/s" in text and "training" in text
