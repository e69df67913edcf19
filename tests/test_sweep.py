"""Sweeps in one process: cells, plan, runner, ledger, results."""

import dataclasses
import json
import shutil
import signal

import absl.logging
import jax
import numpy as np
import pyarrow.compute as pc
import pytest
from rich.console import Console
from tiny import tiny_config

from icl_jax import claims, grid
from icl_jax.runs import api
from icl_jax.runs import config as cfg
from icl_jax.runs.config import parse_changes
from icl_jax.storage import sealed
from icl_jax.storage.leaves import CheckpointError
from icl_jax.sweep import commands, exhausted, job, plan, worker
from icl_jax.sweep.cells import expand
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.results import results_table, write_results
from icl_jax.sweep.sheet import Sheet, load_sheet
from icl_jax.sweep.sweep import open_sweep
from icl_jax.training.signals import GracefulStop

P_BURSTY = grid.over("hypers.p_bursty", (0, 1))
DEPTH = grid.named("depth", {"one": {"model.num_layers": 1}, "two": {}})


def tiny_sheet(points, changes=None, claim_list=(), **fields):
    """A sheet as a config file would give it."""
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0, runtime__devices=2, **fields)
    config.name = "tiny_sweep"
    return Sheet("tiny.py", "Tiny: a sweep.", cfg.override(config, changes or {}), points, list(claim_list), {}, {})


def run(sheet, out, **options):
    console = Console(quiet=True)
    return commands.run(sheet, out, console, progress=False, **options)


def table_of(sheet, out):
    return results_table(Folder(out / sheet.name))


def assert_same_tables(a, b):
    assert a.column_names == b.column_names and a.num_rows == b.num_rows
    for name in a.column_names:  # numpy takes NaN (not measured) as equal
        np.testing.assert_array_equal(a[name].to_numpy(), b[name].to_numpy(), err_msg=name)


@pytest.fixture(scope="module")
def sheet():
    return tiny_sheet(grid.product(DEPTH, P_BURSTY, grid.seeds(2)))


@pytest.fixture(scope="module")
def finished(sheet, tmp_path_factory):
    """Directory of sweeps with `sheet` run whole: two programs of four members."""
    out = tmp_path_factory.mktemp("sweeps")
    outcome = run(sheet, out)
    assert (outcome.done, outcome.failed, outcome.stopped) == (2, 0, False)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(finished, tmp_path / "sweeps")


# --- cells ---


def test_cells_with_one_spec_form_one_group(sheet):
    cells = expand(sheet.config, sheet.points)
    groups = plan.group_cells(cells)
    assert [len(found) for _, found in groups] == [4, 4]
    assert len({cell.id for cell in cells}) == 8
    assert cells[0].labels == {"depth": "one", "p_bursty": 0.0}


def test_a_cell_keeps_its_id_when_the_grid_grows(sheet):
    ids = lambda points: {cell.id for cell in expand(sheet.config, points)}
    more = grid.product(DEPTH, grid.over("hypers.p_bursty", (0, 0.5, 1)), grid.seeds(3))
    assert ids(sheet.points) < ids(more)


def test_tuples_of_the_config_multiply_every_point():
    sheet = tiny_sheet(grid.over("hypers.shots", (1, 2)), {"hypers.p_bursty": (0.0, 1.0), "seeds.init": (0, 1)})
    cells = expand(sheet.config, sheet.points)
    assert len(cells) == 8
    assert cells[-1].labels == {"p_bursty": 1.0, "shots": 2.0}


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (grid.over("hypers.p_burst", (0, 1)), "did you mean 'p_bursty'"),
        (grid.over("evals.every", (5, 10)), "cannot vary 'evals.every'"),
        (grid.over("hypers.p_bursty", ((0, 1),)), "one value"),
        (grid.chain(P_BURSTY, grid.over("hypers.p_bursty", (1,))), "are the same run"),
        ([], "no point"),
        (grid.over("hypers.p_bursty", (2,)), r"outside \[0, 1\]"),
        (
            grid.over("bank.path", ("stage:mine",)),
            r"no stage of that name comes before; none does here: get_stages\(\)",
        ),
    ],
)
def test_points_that_cannot_run_are_refused_before_anything_is_written(points, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tiny_sheet(points), tmp_path / "sweeps")
    assert not (tmp_path / "sweeps").exists()


def test_a_claim_about_a_label_that_is_not_there_is_refused(tmp_path):
    claim = claims.larger("rises", claims.final("icl"), at={"p_burst": 1}, than={"p_bursty": 0})
    with pytest.raises(ValueError, match="p_burst"):
        run(tiny_sheet(grid.product(P_BURSTY, grid.seeds(2)), claim_list=[claim]), tmp_path / "sweeps")
    assert not (tmp_path / "sweeps").exists()


# --- plan ---


def test_a_population_is_sized_to_memory(sheet, monkeypatch):
    """Half the bytes of what all members need: fewer members a device, and they all are planned."""
    cells = expand(sheet.config, sheet.points)[:4]
    (whole,) = plan.make_plan(cells)
    monkeypatch.setattr(plan, "budget", lambda devices: whole.bytes - 1)
    parts = plan.make_plan(cells)
    assert len(parts) == 2 and all(part.bytes < whole.bytes for part in parts)
    assert [id_ for part in parts for id_ in part.cells] == list(whole.cells)
    monkeypatch.setattr(plan, "budget", lambda devices: 1000)
    with pytest.raises(ValueError, match="one member needs"):
        plan.make_plan(cells)


def test_width_splits_as_evenly_as_can_be(sheet):
    cells = expand(sheet.config, grid.product(P_BURSTY, grid.seeds(5)))
    assert [len(part.cells) for part in plan.make_plan(cells, most=4)] == [4, 3, 3]


def test_the_parts_of_a_group_share_their_program(sheet):
    """What makes room in the program is the group's: a part without the largest number of ways has it too."""
    points = grid.product(grid.over("hypers.ways", (1, 3)), grid.over("hypers.shots", (1,)), grid.seeds(2))
    cells = expand(sheet.config, points)
    assert len(plan.make_plan(cells, most=2)) == 2
    assert {cell.group.config.task.max_ways for cell in cells} == {3}


def test_a_cell_in_a_larger_program_is_another_run(sheet):
    """Room for 3 ways or 4 labels a class means other draws or another vocabulary: adding such a value may not
    take what is done for it; with the room set in the config from the start it may."""
    ids = lambda changes, *values: [
        cell.id for cell in expand(cfg.override(sheet.config, changes), grid.over("hypers.multiplicity", values))
    ]
    assert ids({}, 1, 2)[0] != ids({}, 1, 4)[0]
    assert ids({"task.max_multiplicity": 4}, 1, 2)[0] == ids({}, 1, 4)[0]


def test_labels_are_numbers_everywhere_or_texts_everywhere(sheet):
    labels = lambda points: [cell.labels for cell in expand(sheet.config, points)]
    assert labels(grid.named("depth", {1: {}, "two": {"model.num_layers": 1}})) == [{"depth": "1"}, {"depth": "two"}]
    assert labels(grid.over("model.width", np.array([16, 32]))) == [{"width": 16.0}, {"width": 32.0}]


def test_schedules_that_end_alike_have_labels_of_their_own(sheet):
    up, late = ((0, 0.0), (10, 1.0)), ((5, 0.0), (20, 1.0))
    labels = lambda *values: [
        cell.labels["p_bursty"]
        for cell in expand(cfg.override(sheet.config, {"hypers.p_bursty": values}), [grid.Point()])
    ]
    assert labels(0.5, up) == [0.5, 1.0]
    assert len(set(labels(up, late))) == 2


def test_halves_hold_the_same_cells(sheet):
    (planned,) = plan.make_plan(expand(sheet.config, grid.product(P_BURSTY, grid.seeds(1))))
    first, second = plan.halves(planned)
    assert first.cells + second.cells == planned.cells and first.id != second.id
    with pytest.raises(ValueError, match="a single member"):
        plan.halves(first)


def test_plan_writes_nothing(sheet, tmp_path):
    commands.show_plan(sheet, tmp_path / "sweeps", Console(quiet=True))
    assert not (tmp_path / "sweeps").exists()


# --- run ---


def test_results_have_every_cell_with_its_labels_and_seeds(sheet, finished):
    table = table_of(sheet, finished)
    assert set(table["cell"].to_pylist()) == {cell.id for cell in expand(sheet.config, sheet.points)}
    at = table.filter((pc.field("label/depth") == "one") & (pc.field("label/p_bursty") == 1))
    assert set(at["hyper/p_bursty"].to_pylist()) == {1.0} and set(at["seed/init"].to_pylist()) == {0, 1}
    assert set(table["step"].to_pylist()) == {0, 5, 10, 15, 20}


def test_a_member_equals_the_run_alone(sheet, finished, tmp_path):
    """A cell of the sweep against the same run by itself, as far as rounding goes over 10 steps."""
    points = [sheet.points[-1]]
    run(tiny_sheet(points, {"train.num_steps": 10}), tmp_path)
    alone = table_of(tiny_sheet(points), tmp_path)
    (id_,) = set(alone["cell"].to_pylist())
    loss = lambda t: t.filter((pc.field("cell") == id_) & (pc.field("metric") == "loss") & (pc.field("step") == 10))
    ours, theirs = (loss(t)["value"].to_numpy() for t in (table_of(sheet, finished), alone))
    assert len(ours) == 3
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)


def test_running_again_changes_nothing(sheet, copy):
    files = lambda: {p: p.stat().st_mtime_ns for p in copy.rglob("*.parquet")}
    before = files()
    outcome = run(sheet, copy)
    assert outcome.done == 2 and files() == before


def test_added_cells_train_alone_and_the_others_stay(sheet, copy):
    before = table_of(sheet, copy)
    more = tiny_sheet(grid.product(DEPTH, P_BURSTY, grid.seeds(3)))
    kept = Folder(copy / "tiny_sweep").plan()
    assert run(more, copy).done == 4
    assert open_sweep(more, copy).unused() == 0 and open_sweep(sheet, copy).unused() == 4
    assert Folder(copy / "tiny_sweep").plan()[:2] == kept
    table = table_of(more, copy)
    assert len(set(table["cell"].to_pylist())) == 12
    old = table.filter(pc.is_in(table["cell"], before["cell"].combine_chunks()))
    assert_same_tables(old, before)


def test_more_steps_go_on_from_the_checkpoint(sheet, copy):
    before = table_of(sheet, copy)
    longer = tiny_sheet(sheet.points, {"train.num_steps": 30})
    run(longer, copy)
    table = table_of(longer, copy)
    assert max(table["step"].to_pylist()) == 30
    assert_same_tables(table.filter(pc.field("step") <= 20), before)


def test_a_suite_added_later_is_scored_on_kept_checkpoints(sheet, copy):
    suites = ("fewshot_holdout", "no_support_zipfian", "flipped")
    added = tiny_sheet(sheet.points, {"evals.suites": suites, "evals.custom.own": {"kind": "fewshot"}})
    assert run(added, copy).done == 2
    flipped = table_of(added, copy).filter((pc.field("suite") == "flipped") & (pc.field("metric") == "accuracy"))
    assert sorted(set(flipped["step"].to_pylist())) == [10, 20] and flipped.num_rows == 16
    longer = tiny_sheet(sheet.points, {"evals.suites": suites, "train.num_steps": 30})
    run(longer, copy)
    flipped = table_of(longer, copy).filter((pc.field("suite") == "flipped") & (pc.field("metric") == "accuracy"))
    assert sorted(set(flipped["step"].to_pylist())) == [10, 20, 30], "what was scored later stays"


@pytest.mark.filterwarnings("default:.* changed and is scored anew:UserWarning")
def test_a_suite_that_means_something_else_now_is_scored_anew(sheet, copy):
    """Kept checkpoints are scored on the suite as it is now; what was measured on the old one is gone."""
    accuracy = (pc.field("suite") == "own") & (pc.field("metric") == "floor")
    floors = {}
    for ways in (1, 2):
        own = tiny_sheet(sheet.points, {"evals.custom.own": {"kind": "fewshot", "ways": ways}})
        assert run(own, copy).done == 2
        rows = table_of(own, copy).filter(accuracy)
        floors[ways] = set(rows["value"].to_pylist())
        assert sorted(set(rows["step"].to_pylist())) == [10, 20]
    assert floors == {1: {1.0}, 2: {0.5}}
    without = tiny_sheet(sheet.points, {"train.num_steps": 30})
    assert run(without, copy).done == 2  # nobody asks for it meanwhile, but its rows stay
    again = tiny_sheet(sheet.points, {"evals.custom.own": {"kind": "fewshot", "ways": 1}, "train.num_steps": 30})
    with pytest.warns(UserWarning, match="own changed and is scored anew"):
        assert run(again, copy).done == 2
    assert set(table_of(again, copy).filter(accuracy)["value"].to_pylist()) == {1.0}


def test_results_leave_out_what_a_suite_meant_before(sheet, copy):
    own = lambda ways: tiny_sheet(sheet.points, {"evals.custom.own": {"kind": "fewshot", "ways": ways}})
    run(own(1), copy)
    open_sweep(own(2), copy).fix()  # the new definition is known, nothing is scored yet
    suites = set(table_of(sheet, copy)["suite"].to_pylist())
    assert "own" not in suites
    shutil.rmtree(copy / "tiny_sweep" / "done")  # as of populations that were stopped before their end
    assert set(table_of(sheet, copy)["suite"].to_pylist()) == suites


def test_a_damaged_newest_checkpoint_is_made_again_for_an_added_suite(sheet, copy):
    newest = next((copy / "tiny_sweep" / "populations").glob("*/checkpoints/20"))
    for path in newest.glob("state/**/*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    added = tiny_sheet(sheet.points, {"evals.custom.own": {"kind": "fewshot"}})
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert run(added, copy).done == 2
    rows = table_of(added, copy).filter((pc.field("suite") == "own") & (pc.field("metric") == "accuracy"))
    assert sorted(set(rows["step"].to_pylist())) == [10, 20] and rows.num_rows == 16


def test_a_run_alone_keeps_what_its_suites_mean(tmp_path):
    """`icl train` does not throw measurements away: it refuses."""
    config = tiny_config(seeds__init=0, seeds__data=0, train__num_steps=10)
    api.train(config, tmp_path / "run", progress=False)
    config.evals.num_sequences = 64
    with pytest.raises(ValueError, match="measurements of fewshot_holdout, no_support_zipfian with other fields"):
        api.train(config, tmp_path / "run", progress=False)


def test_other_eval_seeds_are_refused(sheet, copy):
    other = tiny_sheet([grid.Point({**p.changes, "seeds.eval": 9}, p.labels) for p in sheet.points])
    with pytest.raises(ValueError, match=r"with seeds.eval \d, not 9"):
        run(other, copy)


def test_fewer_steps_are_the_beginning_of_what_is_done(sheet, copy):
    before = table_of(sheet, copy)
    shorter = tiny_sheet(sheet.points, {"train.num_steps": 10})
    assert run(shorter, copy).done == 2
    assert_same_tables(table_of(shorter, copy), before.filter(pc.field("step") <= 10))
    assert commands.load_data(Folder(copy / "tiny_sweep")).status["done"] == 8


def test_a_damaged_entry_of_the_ledger_is_made_again(sheet, copy):
    before = table_of(sheet, copy)
    entry = next((copy / "tiny_sweep" / "done").iterdir())
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert run(sheet, copy).done == 2
    assert_same_tables(table_of(sheet, copy), before)


def test_a_population_that_fails_is_recorded_and_the_others_go_on(sheet, finished, tmp_path, monkeypatch):
    real, calls = job.api.train, []

    def train(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("no luck")
        return real(*args, **options)

    monkeypatch.setattr(job.api, "train", train)
    outcome = run(sheet, tmp_path)
    assert (outcome.done, outcome.failed) == (1, 1)
    folder = Folder(tmp_path / "tiny_sweep")
    failures = [folder.failure(planned.id) for planned in folder.plan()]
    assert "no luck" in failures[0]["error"] and failures[1] is None
    assert run(sheet, tmp_path).done == 2  # tried again
    assert folder.failure(folder.plan()[0].id) is None
    assert_same_tables(table_of(sheet, tmp_path), table_of(sheet, finished))


def test_out_of_memory_halves_the_population(sheet, tmp_path, monkeypatch):
    real = job.api.train

    def train(*args, members, **options):
        if len(members) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return real(*args, members=members, **options)

    monkeypatch.setattr(job.api, "train", train)
    outcome = run(sheet, tmp_path)
    assert (outcome.done, outcome.failed) == (4, 0)
    folder = Folder(tmp_path / "tiny_sweep")
    assert [len(planned.cells) for planned in folder.plan()] == [2, 2, 2, 2]
    assert len(list((tmp_path / "tiny_sweep" / "failed").iterdir())) == 2  # the record stays
    assert len(set(table_of(sheet, tmp_path)["cell"].to_pylist())) == 8


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes."), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20G"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate request for 1.0GiB on device"), True),
        (MemoryError("Unable to allocate 7 GiB for an array"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: the allocator's statistics are missing"), False),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: quota of requests exceeded"), False),
        (ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device [OS error 28: ENOSPC]"), False),
        (CheckpointError("cannot write the checkpoint: RESOURCE_EXHAUSTED: out of memory quota of the bucket"), False),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("the note says: Out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors_that_carry_the_word(error, is_memory):
    assert exhausted.is_out_of_memory(error) == is_memory


@pytest.mark.parametrize(
    "cause",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        ValueError("RESOURCE_EXHAUSTED: Error writing a/b: No space left on device [OS error 28: ENOSPC]"),
    ],
)
def test_a_full_disk_ends_the_sweep_with_one_sentence_and_the_plan_stays(cause, sheet, tmp_path, monkeypatch):
    def train(*args, **options):
        raise CheckpointError("cannot write the checkpoint of step 10; free some space") from cause

    monkeypatch.setattr(job.api, "train", train)
    with pytest.raises(OSError, match=r"cannot write the checkpoint of step 10.*the same command goes on") as error:
        run(sheet, tmp_path)
    assert "\n" not in str(error.value)
    folder = Folder(tmp_path / "tiny_sweep")
    assert [len(planned.cells) for planned in folder.plan()] == [4, 4] and folder.plan_parts() == 1
    assert not list((folder.directory / "locks").glob("*.attempt.json")), "no note that a later one would misread"


def test_what_orbax_also_raises_it_does_not_log_with_a_traceback(caplog):
    log = absl.logging.get_absl_logger()
    record = lambda path, error: log.makeRecord("absl", 40, path, 1, "%s", (path,), error)
    error = (OSError, OSError(28, "No space left on device"), None)
    for path, fault in (("/x/orbax/checkpoint/a.py", error), ("/x/mine.py", error), ("/x/orbax/checkpoint/b.py", None)):
        log.handle(record(path, fault))
    assert [r.getMessage() for r in caplog.records] == ["/x/mine.py", "/x/orbax/checkpoint/b.py"]


def test_a_population_that_the_kernel_killed_for_its_memory_is_halved(sheet, tmp_path, monkeypatch):
    opened = open_sweep(sheet, tmp_path)
    opened.fix()
    first = opened.jobs()[0]
    monkeypatch.setattr(worker, "kernel_kills", lambda: 7)
    opened.folder.note_attempt(first.id, kernel_kills=6, step=0)  # what a killed worker leaves
    outcome = run(sheet, tmp_path)
    assert (outcome.done, outcome.failed) == (3, 0)
    assert [len(planned.cells) for planned in opened.folder.plan()] == [4, 2, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [("memory.events", "low 0\noom 4\noom_kill 3\n"), ("memory.oom_control", "under_oom 0\noom_kill 3\n")],
)
def test_the_kernels_count_is_read_as_either_cgroup_gives_it(name, text, tmp_path, monkeypatch):
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(exhausted, "COUNTERS", (str(tmp_path / "absent"), str(tmp_path / name)))
    assert exhausted.kernel_kills() == 3


def test_a_single_member_that_the_kernel_killed_is_tried_again(sheet, tmp_path, monkeypatch):
    opened = open_sweep(tiny_sheet(sheet.points[:1]), tmp_path)
    opened.fix()
    (only,) = opened.jobs()
    monkeypatch.setattr(worker, "kernel_kills", lambda: 7)
    opened.folder.note_attempt(only.id, kernel_kills=6, step=0)
    assert worker.attempt(opened.folder, only, lambda text: None, False) == worker.FAILED
    assert "smaller model" in opened.folder.failure(only.id)["error"]
    monkeypatch.setattr(worker, "run_job", lambda *args, **options: True)
    assert worker.attempt(opened.folder, only, lambda text: None, False) == worker.DONE


def test_a_signal_in_the_last_chunk_stops_the_worker_too(sheet, tmp_path, monkeypatch):
    def last_chunk(folder, job_, progress):
        with GracefulStop():
            signal.raise_signal(signal.SIGTERM)
        return True

    monkeypatch.setattr(worker, "run_job", last_chunk)
    assert run(sheet, tmp_path) == worker.Tally(stopped=True)


def test_a_member_that_diverges_is_recorded_at_its_step(tmp_path):
    points = grid.product(grid.over("hypers.learning_rate", (1e-2, 1e30)), grid.seeds(2))
    sheet = tiny_sheet(points)
    assert run(sheet, tmp_path).failed == 0
    rows = table_of(sheet, tmp_path).filter((pc.field("metric") == "diverged") & (pc.field("step") == 20))
    by_rate = dict(zip(rows["label/learning_rate"].to_pylist(), rows["value"].to_pylist(), strict=True))
    assert by_rate[1e-2] == -1 and 0 <= by_rate[1e30] <= 5
    assert commands.load_data(Folder(tmp_path / "tiny_sweep")).status["diverged"] == 2


def test_array_tasks_share_the_populations(sheet, finished, tmp_path):
    assert run(sheet, tmp_path, index=1, count=2).done == 1
    folder = Folder(tmp_path / "tiny_sweep")
    assert [p.name.split(".")[0] for p in (folder.directory / "done").iterdir()] == [folder.plan()[1].id]
    assert run(sheet, tmp_path, index=0, count=2).done == 1
    assert_same_tables(table_of(sheet, tmp_path), table_of(sheet, finished))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 2, "count": 2}, "index goes from 0 to 1"),
        ({"index": -1, "count": 2}, "index goes from 0 to 1"),
        ({"count": 0}, "--count 0: the number of array tasks; use 1 or more"),
        ({"most": -3}, "--width -3: members of a population at most; use 1 or more, or 0"),
    ],
)
def test_a_share_that_there_is_not_is_refused_and_nothing_is_written(sheet, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(sheet, tmp_path / "sweeps", **options)
    assert not (tmp_path / "sweeps").exists()
    if "most" in options:
        with pytest.raises(ValueError, match=message):
            commands.show_plan(sheet, tmp_path / "sweeps", Console(quiet=True), most=options["most"])


@pytest.mark.parametrize("name", ["../../escaped", "", ".", "..", "a/b", "a b", "a\n", "ä"])
def test_a_sweep_has_a_plain_file_name(sheet, name, tmp_path):
    odd = dataclasses.replace(sheet, config=cfg.override(sheet.config, {"name": name}))
    with pytest.raises(ValueError, match="is no plain file name: use letters, digits"):
        run(odd, tmp_path / "in" / "sweeps")
    assert not list(tmp_path.rglob("*"))


def test_a_population_that_would_be_another_run_is_a_failure(sheet, copy):
    """As when a bank's file, or the run it starts from, is not what it was when the plan was made."""
    opened = open_sweep(tiny_sheet(sheet.points, {"train.num_steps": 30}), copy)
    job_ = opened.jobs()[0]
    other = dataclasses.replace(job_, planned=dataclasses.replace(job_.planned, id="0" * 16))
    assert worker.attempt(opened.folder, other, lambda text: None, False) == "failed"
    assert "0000000000000000 was planned" in opened.folder.failure(other.id)["error"]
    assert not opened.folder.run_directory(other.id).exists()


def test_a_sweep_starts_from_the_step_that_it_was_planned_with(sheet, finished):
    source = finished / "tiny_sweep" / "populations" / open_sweep(sheet, finished).jobs()[0].id
    config = cfg.override(sheet.config, {"init_from.run": str(source)})
    assert {cell.group.config.init_from.step for cell in expand(config, P_BURSTY)} == {20}


def test_the_parts_of_a_split_population_go_on_from_where_it_was(sheet, copy):
    before = table_of(sheet, copy)
    longer = open_sweep(tiny_sheet(sheet.points, {"train.num_steps": 30}), copy)
    for job_ in longer.jobs():
        assert worker.split(longer.folder, job_, "for the test", lambda text: None) == "split"
    assert_same_tables(table_of(sheet, copy), before)
    assert [job.reached(longer.folder.run_directory(job_.id)) for job_ in longer.jobs()] == [20] * 4
    assert run(longer.sheet, copy).done == 4
    after = table_of(longer.sheet, copy)
    assert_same_tables(after.filter(pc.field("step") <= 20), before)
    assert set(after["step"].to_pylist()) == {0, 5, 10, 15, 20, 25, 30}


# --- what lies in the directory ---


def test_another_sweep_in_the_directory_is_refused(sheet, copy):
    other = tiny_sheet(P_BURSTY)
    other.config.name = "other"
    (copy / "tiny_sweep").rename(copy / "other")
    with pytest.raises(ValueError, match="holds the sweep 'tiny_sweep'"):
        run(other, copy)


def test_files_that_are_not_a_sweeps_are_left_alone(sheet, tmp_path):
    (tmp_path / "tiny_sweep").mkdir()
    (tmp_path / "tiny_sweep" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not empty and holds no sweep"):
        run(sheet, tmp_path)
    assert [p.name for p in (tmp_path / "tiny_sweep").iterdir()] == ["thesis.tex"]


def test_a_plan_of_another_version_is_refused_and_nothing_is_lost(sheet, copy, monkeypatch):
    path = copy / "tiny_sweep" / "plan" / "0000.json"
    with monkeypatch.context() as later:
        later.setattr(sealed, "SCHEMA", 99)
        sealed.write_record(path, json.loads(path.read_text()))
    before = sorted(copy.rglob("*"))
    with pytest.raises(ValueError, match="another version of icl_jax"):
        run(sheet, copy)
    assert sorted(copy.rglob("*")) == before


def test_a_damaged_record_of_the_sweep_is_written_anew(sheet, copy):
    path = copy / "tiny_sweep" / "sweep.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match="is damaged"):
        table_of(sheet, copy)
    assert run(sheet, copy).done == 2
    assert table_of(sheet, copy).num_rows


def test_a_directory_that_is_not_the_populations_fails_alone(sheet, tmp_path):
    """A population in whose directory something else lies says so; the other one finishes."""
    opened = open_sweep(sheet, tmp_path)
    opened.fix()
    first = opened.jobs()[0]
    directory = opened.folder.run_directory(first.id)
    directory.mkdir(parents=True)
    (directory / "thesis.tex").write_text("x")
    outcome = run(sheet, tmp_path)
    assert (outcome.done, outcome.failed) == (1, 1)
    assert "is not empty and holds no run" in opened.folder.failure(first.id)["error"]
    assert [path.name for path in directory.iterdir()] == ["thesis.tex"]


def test_results_are_written_as_parquet_or_csv(sheet, finished, tmp_path):
    table = table_of(sheet, finished)
    for name in ("r.parquet", "r.csv"):
        write_results(table, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must be \.parquet or \.csv"):
        write_results(table, tmp_path / "r.xlsx")


def test_a_report_names_a_sweep_without_results(sheet, copy):
    waiting = tiny_sheet(sheet.points)
    waiting.config.name = "waiting"
    open_sweep(waiting, copy).fix()
    page = commands.report([Folder(copy / "tiny_sweep"), Folder(copy / "waiting")], copy / "report")[0]
    assert "no results yet" in page.read_text()


def test_a_damaged_entry_of_the_ledger_is_read_from_the_run(sheet, copy):
    before = table_of(sheet, copy)
    entry = next((copy / "tiny_sweep" / "done").iterdir())
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same_tables(table_of(sheet, copy), before)


def test_a_part_of_the_plan_that_was_moved_away_is_planned_anew(sheet, copy):
    before = table_of(sheet, copy)
    more = tiny_sheet(grid.product(DEPTH, P_BURSTY, grid.seeds(3)))
    open_sweep(more, copy).fix()
    (copy / "tiny_sweep" / "plan" / "0000.json").unlink()
    assert run(sheet, copy).done == 2  # the same populations: nothing is trained again
    assert_same_tables(table_of(sheet, copy), before)


def test_tasks_that_start_before_and_after_a_split_agree(sheet, tmp_path):
    opened = open_sweep(sheet, tmp_path)
    opened.fix(most=2)
    early = [commands.share_of(opened.folder, index, 2) for index in (0, 1)]
    first = opened.jobs()[0]
    worker.split(opened.folder, first, "for the test", lambda text: None)
    late = [commands.share_of(opened.folder, index, 2) for index in (0, 1)]
    for job_ in opened.jobs():
        takers = [task for task in (early[0], late[1]) if task(job_)]
        assert len(takers) == 1 and early[0](job_) == late[0](job_)


@pytest.mark.slow
def test_a_worker_passes_over_what_another_has_split(sheet, tmp_path):
    """The list it works through is older than the plan: it looks again after each population."""
    opened = open_sweep(sheet, tmp_path)
    opened.fix(most=2)
    gone = opened.jobs()[1]

    def jobs():
        found = opened.jobs()
        if len(calls) == 1:  # after the worker's first look
            worker.split(opened.folder, gone, "for the test", lambda text: None)
        calls.append(len(found))
        return found

    calls = []
    outcome = worker.work(opened.folder, jobs, mine=lambda job_: True, say=lambda text: None, progress=False)
    assert (outcome.done, outcome.failed) == (5, 0)


# --- config files ---


def test_a_config_file_states_grid_claims_and_scales(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        '"""Mine: a title.\n\nMore."""\n'
        "from icl_jax import default_config, grid\n"
        "def get_config(scale='laptop'):\n"
        "    config = default_config()\n"
        "    config.train.num_steps = {'laptop': 500, 'paper': 1000}[scale]\n"
        "    return config\n"
        "def get_sweep():\n"
        "    return grid.over('hypers.p_bursty', (0, 1))\n"
    )
    small, large = load_sheet(path), load_sheet(f"{path}:paper", parse_changes(["hypers.shots=2", "name=x"]))
    assert (small.config.train.num_steps, large.config.train.num_steps) == (500, 1000)
    assert small.title == "Mine: a title." and len(small.points) == 2 and not small.claims
    assert large.config.hypers.shots == (2,) and large.name == "x"
    with pytest.raises(ValueError, match="the grid of the sweep sets this field"):
        load_sheet(path, parse_changes(["hypers.p_bursty=0.5"]))
    path.write_text(path.read_text() + "def get_features():\n    return {'mine': get_config()}\n")
    changed = load_sheet(path, parse_changes(["features.mine.train.num_steps=7"]))
    assert changed.stages["mine"].config.train.num_steps == 7 and changed.config.train.num_steps == 500
    with pytest.raises(ValueError, match="no stage 'min'; did you mean 'mine'"):
        load_sheet(path, parse_changes(["features.min.train.num_steps=7"]))
    with pytest.raises(ValueError, match="give FIELD=VALUE"):
        parse_changes(["hypers.shots"])
