"""A run directory has one writer, one meaning and one name: second writers, replicates, eval seeds, shards, names."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_runs import assert_same_run, start
from test_sealed import STEPS, unsealed
from test_store import assert_same
from test_sweep import run as run_sweep
from test_sweep import table_of, tiny_sheet
from tiny import tiny_config

import icl_jax
from icl_jax import grid
from icl_jax.names import check_file_name
from icl_jax.runs import api, rundir
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.storage import locks
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.locks import Held, sole_writer
from icl_jax.storage.sealed import write_record
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.plan import Planned
from icl_jax.sweep.sweep import open_sweep

KILLS = 20


def contents(directory) -> dict:
    """Every file but those of the lock, with its time."""
    return {p: p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file() and not p.name.startswith(".writer")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "run"
    api.train(tiny_config(**STEPS), path, progress=False)
    return path


# --- one writer ---


def test_a_second_writer_is_told_who_holds_the_run_and_what_to_do(trained):
    before = contents(trained)
    holder = f"process {os.getpid()} on .* since 20"
    with sole_writer(trained):
        with pytest.raises(Held, match=rf"is being written by {holder}.*wait until that is done, stop it there .*or"):
            api.train(tiny_config(**{**STEPS, "train__num_steps": 50}), trained, progress=False)
        with pytest.raises(Held, match=holder):
            rundir.record_evals(trained, tiny_config(**STEPS), icl_jax.load_run(trained).members)
        assert contents(trained) == before
        (trained / locks.HOLDER).write_text("{")
        with pytest.raises(Held, match="is being written by another process"), sole_writer(trained):
            pass
    with sole_writer(trained):
        pass
    assert not (trained / locks.HOLDER).exists()


def test_those_who_only_look_refuse_nobody(tmp_path):
    """A look takes the lock for a moment: neither another look nor a writer takes that for a writer."""
    with sole_writer(tmp_path):
        pass
    refused = []

    def look():
        for _ in range(300):
            try:
                locks.check_free(tmp_path)
            except Held as fault:
                refused.append(fault)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert not refused


def test_who_comes_between_the_checks_and_the_lock_is_noticed(trained, tmp_path, monkeypatch):
    """Another process trains the run after this one has looked and before it has the lock: this one looks again."""
    path, check = tmp_path / "run", api.check_free

    def check_then_be_overtaken(directory):
        check(directory)
        monkeypatch.setattr(api, "check_free", check)
        real = api._prepare

        def prepare(*args):
            work = real(*args)
            monkeypatch.setattr(api, "_prepare", real)
            shutil.copytree(trained, path)
            return work

        monkeypatch.setattr(api, "_prepare", prepare)

    monkeypatch.setattr(api, "check_free", check_then_be_overtaken)
    run = api.train(tiny_config(**STEPS), path, progress=False)
    assert not run.damage()
    assert_same_run(path, trained)


@pytest.mark.slow
def test_a_run_is_evaluated_while_it_is_trained(trained, tmp_path):
    """Evaluation takes no lock and leaves nothing behind; what it finds is whole, and the training is not disturbed."""
    path = tmp_path / "run"
    config = tiny_config(**{**STEPS, "train__num_steps": 200})
    whole = api.train(config, tmp_path / "alone", progress=False)
    worker = threading.Thread(target=api.train, args=(config, path), kwargs={"progress": False})
    worker.start()
    seen = []
    while worker.is_alive():
        if Checkpoints(path / "checkpoints").steps():
            table = icl_jax.load_run(path).table
            assert set(table["step"].to_pylist()) >= set(range(0, max(table["step"].to_pylist()) + 1, 5))
            seen.append(icl_jax.evaluate(icl_jax.load_run(path), ["fewshot_holdout"]))
    worker.join()
    assert seen
    assert_same(icl_jax.load_run(path).table, whole.table)
    assert_same_run(path, tmp_path / "alone")


@pytest.mark.slow
def test_two_trainings_started_at_once_and_killed_leave_one_whole_table(tmp_path):
    """20 kills with -9, of both at random moments. Whoever is second is told so; the run is the undisturbed one's."""
    steps, moments = 4000, random.Random(0)
    whole = start(tmp_path / "whole", steps)
    assert whole.wait(300) == 0, whole.stdout.read()
    kills, refused, rounds = 0, 0, 0
    while kills < KILLS:
        pair = [start(tmp_path / "run", steps) for _ in range(2)]
        rounds += 1
        assert rounds < 5 * KILLS
        for process in moments.sample(pair, 2):
            try:
                process.wait(moments.uniform(3.0, 9.0))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            output, _ = process.communicate(timeout=60)
            refused += "is being written by" in output
            if process.returncode > 0:
                assert "is being written by" in output, output
        if final_is(tmp_path / "run", steps):
            shutil.rmtree(tmp_path / "run" / "checkpoints")  # so fast a machine begins anew
    assert refused >= 3, f"of {2 * rounds} trainings only {refused} were refused"
    last = start(tmp_path / "run", steps)
    assert last.wait(300) == 0, last.stdout.read()
    assert not icl_jax.load_run(tmp_path / "run").damage()
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def final_is(directory, steps) -> bool:
    return max(Checkpoints(directory / "checkpoints").steps(), default=-1) == steps


@pytest.mark.slow
def test_the_lock_dies_with_its_process(tmp_path):
    """After kill -9 of the holder the next one has the run at once, note and all left behind."""
    code = "import sys; from icl_jax.storage.locks import sole_writer; import pathlib, time\n"
    code += "with sole_writer(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Held, match=f"process {holder.pid} on"), sole_writer(tmp_path):
            pass
        holder.kill()
        holder.wait(10)
    assert (tmp_path / locks.HOLDER).exists()
    with sole_writer(tmp_path):
        assert json.loads((tmp_path / locks.HOLDER).read_text())["pid"] == os.getpid()


# --- replicates ---


@pytest.mark.parametrize(
    "changes",
    [
        {"hypers__p_bursty": (0.5, 0.5)},
        {"seeds__init": (1, 1), "seeds__data": (1, 1)},
        {"seeds__init": 0, "seeds__data": 0, "seeds__eval": (0, 1)},
    ],
)
def test_equal_members_are_refused(changes, tmp_path):
    with pytest.raises(ValueError, match=r"members 0 and \d are the same run \(.*each replicate seeds of its own"):
        api.train(tiny_config(**changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_old_runs_with_equal_members_open_with_a_warning(trained, tmp_path):
    path = shutil.copytree(trained, tmp_path / "run")
    fields = rundir.read(path)
    fields["members"][1] = fields["members"][0]
    write_record(path / "run.json", fields)
    with pytest.warns(UserWarning, match="members 0 and 1 are the same run .* no replicates"):
        assert icl_jax.load_run(path).table.num_rows


# --- what a run and a suite are ---


def test_a_run_is_not_continued_under_other_eval_seeds(trained):
    before = contents(trained)
    other = tiny_config(**{**STEPS, "train__num_steps": 50}, seeds__eval=7)
    with pytest.raises(ValueError, match=r"measurements with seeds\.eval 0, not 7: .*use those seeds, or choose"):
        api.train(other, trained, progress=False)
    assert contents(trained) == before


def test_curves_that_mix_eval_seeds_are_said(trained, tmp_path):
    """As an earlier version left them."""
    from icl_jax.storage.metrics import MetricsWriter

    path = shutil.copytree(trained, tmp_path / "run")
    rows = [r for r in icl_jax.load_run(trained).table.to_pylist() if r["step"] == 40 and r["suite"] != "train"]
    writer = MetricsWriter(path / "metrics")
    writer.append([row | {"seed/eval": 7} for row in rows])
    writer.flush(40)
    with pytest.warns(UserWarning, match="several eval seeds, one after another"):
        _ = icl_jax.load_run(path).table


def test_a_population_of_other_eval_seeds_is_scored_anew(tmp_path):
    """A run that was copied from another sweep has the same id, and its suites are on other sequences."""
    sheets = [
        tiny_sheet(grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.over("seeds.eval", (seed,))), **STEPS)
        for seed in (0, 7)
    ]
    for sheet, out in zip(sheets, ("a", "b"), strict=True):
        assert run_sweep(sheet, tmp_path / out).done == 1
    expected = table_of(sheets[1], tmp_path / "b")
    for name in ("populations", "done"):
        shutil.rmtree(tmp_path / "b" / "tiny_sweep" / name)
        shutil.copytree(tmp_path / "a" / "tiny_sweep" / name, tmp_path / "b" / "tiny_sweep" / name)
    read = table_of(sheets[1], tmp_path / "b")
    assert set(read["suite"].to_pylist()) == {"train"}, "none of the other seed's numbers"
    with pytest.warns(UserWarning, match="is scored anew"):
        assert run_sweep(sheets[1], tmp_path / "b").done == 1
    scored = table_of(sheets[1], tmp_path / "b")
    last = lambda table: [r for r in table.to_pylist() if r["step"] == 40 and r["suite"] != "train"]
    ours, theirs = ({(r["cell"], r["suite"], r["metric"]): r["value"] for r in last(t)} for t in (scored, expected))
    assert ours.keys() == theirs.keys() and ours
    np.testing.assert_allclose([ours[k] for k in ours], [theirs[k] for k in ours], atol=1e-6)


def per_device(shards: int = 0, **changes):
    """A config whose batch statistics are per device."""
    images = {"bank__name": "glyphs", "bank__num_classes": 24, "bank__image_size": 8, "bank__num_exemplars": 4}
    model = {"model__encoder": "resnet", "model__sync_batch_stats": False, "model__positions": "sinusoidal"}
    config = tiny_config(**images, **model, runtime__batch_shards=shards, **changes)
    config.bank.dim, config.model.labels = 64, "interleaved"
    return config


def test_the_number_of_shards_counts_where_statistics_are_per_device():
    def id_of(config, **how):
        how["shards"] = config.runtime.batch_shards
        return cfg.cell_id(cfg.run_spec(config), cfg.members_of(config)[0], "digest", **how)

    assert len({id_of(per_device(shards)) for shards in (1, 2, 4)}) == 3
    assert id_of(per_device(0)) == id_of(per_device(1)), "a member is on one device unless told otherwise"
    assert len({id_of(per_device(shards), schema=1) for shards in (1, 2, 4)}) == 1
    synchronised = [cfg.override(per_device(shards), {"model.sync_batch_stats": True}) for shards in (0, 1, 2)]
    assert len({id_of(config) for config in synchronised}) == 1
    assert id_of(synchronised[0]) == id_of(synchronised[0], schema=1), "ids that could tell stay as they are"


def old_run(config, path, batch_shards: int) -> None:
    """What an earlier version would have left of a run before its first checkpoint."""
    experiment = prepare_experiment(config)
    said = rundir.describe(experiment, None, experiment.former)
    said["plan"]["batch_shards"] = batch_shards
    path.mkdir(parents=True)
    old = {k: v for k, v in said.items() if k != "identity_schema"} | {"schema": 1}
    (path / "run.json").write_text(json.dumps(old))


def test_old_runs_whose_id_could_not_tell_open_with_a_note(tmp_path):
    old_run(per_device(2), tmp_path / "run", batch_shards=2)
    with pytest.warns(UserWarning, match="from before the number of batch shards was part of an id"):
        icl_jax.load_run(tmp_path / "run")
    found = rundir.read(tmp_path / "run")
    same, other = (prepare_experiment(per_device(shards)) for shards in (2, 4))
    rundir.check_same(tmp_path / "run", found, same)
    assert rundir.describe(same, found, found["identity"])["identity_schema"] == 1
    with pytest.raises(ValueError, match=r"runtime\.batch_shards \(2 there, 4 here\)"):
        rundir.check_same(tmp_path / "run", found, other)


def test_old_plans_whose_ids_could_not_tell_are_taken_up_with_a_note(tmp_path):
    sheet = tiny_sheet(grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2)))
    config = cfg.override(per_device(2), {"name": "tiny_sweep", "hypers.p_bursty": 0.9, "seeds.init": 0})
    config = cfg.override(config, {"seeds.data": 0, "runtime.devices": 2})
    sheet = dataclasses.replace(sheet, config=config)
    new = open_sweep(sheet, tmp_path)
    former, members = (tuple(getattr(cell, name) for cell in new.cells) for name in ("former", "member"))
    Folder(tmp_path / "tiny_sweep").add_to_plan([Planned(cfg.identity(former), former, members, 2, 2, 0)], 0)
    with pytest.warns(UserWarning, match="4 cells have ids from before the number of batch shards"):
        old = open_sweep(sheet, tmp_path)
    assert [cell.id for cell in old.cells] == list(former) and not old.unplanned()
    other = dataclasses.replace(sheet, config=cfg.override(config, {"runtime.batch_shards": 1}))
    assert len(open_sweep(other, tmp_path).unplanned()) == 4, "planned with two shards: another run"


def test_a_sealed_run_and_an_unsealed_one_have_one_identity(trained, tmp_path):
    path = shutil.copytree(trained, tmp_path / "run")
    unsealed(path)
    assert rundir.read(path)["identity"] == rundir.read(trained)["identity"]


# --- names ---


@pytest.mark.parametrize("name", ["../../x", "", ".", "..", "a/b", "a b", "x\n", "é", "a\x00"])
def test_a_run_has_a_plain_file_name(name, tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    with pytest.raises(ValueError, match=r"is no plain file name: use letters, digits and \. _ - alone"):
        check_file_name("config.name", name)
    if "\x00" not in name:
        with pytest.raises(ValueError, match=r"config\.name .* is no plain file name"):
            api.train(cfg.override(tiny_config(), {"name": name}), progress=False)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "er"]


@pytest.mark.parametrize("name", ["run", "Run-1.2_b", "...", "-", "0"])
def test_plain_file_names_are_taken(name):
    check_file_name("config.name", name)


def test_old_runs_of_any_name_go_on(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs" / "my run")
    assert api.train(cfg.override(tiny_config(**STEPS), {"name": "my run"}), progress=False).step == 40
