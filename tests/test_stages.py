"""Stages: a later run takes from the one that is meant, that is part of its id, and all is planned first."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import threading

import jax
import numpy as np
import pytest
from rich.console import Console
from tiny import tiny_config

import icl_jax
from icl_jax import Stage, grid
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.initial import OfRun
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.leaves import flatten
from icl_jax.sweep import commands, handover
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.handover import waits_for
from icl_jax.sweep.job import run_job
from icl_jax.sweep.results import results_table
from icl_jax.sweep.sheet import Sheet, load_sheet
from icl_jax.sweep.sweep import open_sweep
from icl_jax.training.population import abstract_state
from icl_jax.training.step import RUNNING

GROWN = grid.product(grid.over("hypers.p_bursty", (0.0, 1.0)), grid.seeds(2))
ARMS = grid.over("hypers.label_noise", (0.0, 0.5))


def one(name="staged", **changes):
    """Returns the tiny config with one member."""
    config = tiny_config(**({"hypers__p_bursty": 0.5, "seeds__init": 0, "seeds__data": 0} | changes))
    config.name = name
    return config


def sheet_of(config, points, stages, name="staged", claims=()):
    """Returns a sheet as a file would state it."""
    sheets = {
        label: Sheet("made here", f"Stage {label}", _named(stage.config, label), stage.points, [], {}, {})
        for label, stage in stages.items()
    }
    return Sheet("made here", "A title.", _named(config, name), points, list(claims), sheets, {})


def _named(config, name):
    config = config.copy_and_resolve_references()
    config.name = name
    return config


def tuned(points=None, stage=None, **changes):
    """Returns a sheet: four runs are grown, each is tuned in two arms, at learning rate 0."""
    fields = {"init_from__run": "stage:grow", "train__num_steps": 10, "hypers__learning_rate": 0.0}
    config = one(**(fields | changes))
    grow = stage or Stage(one(), GROWN)
    return sheet_of(config, points or grid.product(grid.follow(GROWN), ARMS), {"grow": grow})


def run(sheet, out, **options):
    return commands.run(sheet, out, Console(quiet=True), progress=False, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The sweep of `tuned`, run: a population of four, and two of four that start from it."""
    out = tmp_path_factory.mktemp("sweeps")
    assert run(tuned(), out, most=4).failed == 0
    return open_sweep(tuned(), out)


def final_state(folder: Folder, cell: str, step=None):
    """Returns the state of a cell at a step (default: the newest), without the member axis."""
    planned = next(p for p in folder.plan() if cell in p.cells)
    found = Checkpoints(folder.run_directory(planned.id) / "checkpoints").restore(step=step)[1]
    return {name: _member(found[name], planned.cells.index(cell)) for name in ("params", "diverged")}


def _member(tree, index):
    return {k: _member(v, index) for k, v in tree.items()} if isinstance(tree, dict) else np.asarray(tree)[index]


def test_each_run_starts_from_the_one_with_its_labels_and_seeds(done):
    (stage,) = done.stages
    by_id = {cell.id: cell for cell in stage.cells}
    for cell in done.cells:
        base = by_id[cell.member.sources["start"].split()[0]]
        assert base.labels["p_bursty"] == cell.labels["p_bursty"]
        assert base.member.seeds["init"] == cell.member.seeds["init"]
        here, there = final_state(done.folder, cell.id), final_state(stage.folder, base.id)
        for x, y in zip(_leaves(here), _leaves(there), strict=True):
            np.testing.assert_array_equal(x, y)


def test_what_is_measured_at_the_start_is_what_was_measured_at_the_end(done):
    (stage,) = done.stages
    ends = results_table(stage.folder).to_pylist()
    ends = {(r["cell"], r["suite"]): r["value"] for r in ends if r["step"] == 20 and r["metric"] == "loss"}
    starts = [r for r in results_table(done.folder).to_pylist() if r["step"] == 0 and r["metric"] == "loss"]
    taken = {cell.id: cell.member.sources["start"].split()[0] for cell in done.cells}
    assert len(starts) == 8 * 2
    for row in starts:
        assert row["value"] == pytest.approx(ends[taken[row["cell"]], row["suite"]], rel=1e-4)


def test_one_program_takes_from_populations_of_any_width(done, tmp_path):
    """Grown in two populations of two, tuned in one of eight: the same runs, the same start."""
    sheet = tuned()
    order = open_sweep(sheet, tmp_path).in_order()
    order[0].fix(most=2)
    run(sheet, tmp_path)
    again = open_sweep(sheet, tmp_path)
    assert len(again.stages[0].folder.plan()) == 2 and len(again.folder.plan()) == 1
    assert [cell.id for cell in again.cells] == [cell.id for cell in done.cells]
    for cell in again.cells[:4]:
        a, b = (final_state(sweep.folder, cell.id)["params"] for sweep in (again, done))
        for x, y in zip(_leaves(a), _leaves(b), strict=True):
            np.testing.assert_allclose(x, y, atol=2e-4)


def _leaves(tree):
    return [leaf for v in tree.values() for leaf in _leaves(v)] if isinstance(tree, dict) else [tree]


def test_all_is_planned_before_anything_is_trained(tmp_path):
    order = open_sweep(tuned(), tmp_path).in_order()
    for sweep in order:
        sweep.fix()
    assert [len(sweep.folder.plan()) for sweep in order] == [1, 1]
    assert not (tmp_path / "staged" / "populations").exists()
    assert not (tmp_path / "staged" / "stages" / "grow" / "populations").exists()
    job = order[1].jobs()[0]
    (missing,) = waits_for(order[1].folder, job.planned.members, job.start, job.features)
    assert missing == f"grow/{order[0].folder.plan()[0].id}"


def ids(sheet, out="nowhere"):
    return {cell.id for cell in open_sweep(sheet, out).cells}


def test_an_id_hangs_on_what_is_taken_and_not_on_where_it_lies(tmp_path):
    keep = Stage(one(checkpoint__keep_every=10), GROWN)
    now = ids(tuned())
    assert len(now) == 8 and now == ids(tuned(), tmp_path) == ids(tuned(stage=keep))
    others = [
        tuned(stage=keep, init_from__step=10),
        tuned(stage=Stage(one(train__num_steps=40), GROWN)),
        tuned(stage=Stage(one(hypers__learning_rate=0.02), GROWN)),
        tuned(init_from__optimiser=True),
        tuned(init_from__leaves=("readout/*=fresh",)),
    ]
    for other in others:
        assert not now & ids(other)
    assert ids(tuned(stage=Stage(one(evals__num_sequences=64), GROWN))) == now  # evals are no part of what a run is


@pytest.mark.parametrize(
    "sheet, complaint",
    [
        (lambda: tuned(ARMS), r"2 of its runs|could be the one that is meant, as they differ in p_bursty"),
        (lambda: tuned(grid.product(grid.over("hypers.p_bursty", (0.5,)), ARMS)), "has no run with p_bursty 0.5"),
        (
            lambda: tuned(grid.product(grid.over("hypers.p_bursty", (1.0,)), grid.seeds(3))),
            "has no run with seeds.init 2, but 0, 1",
        ),
        (lambda: tuned(seeds__split=3), "other classes would be held out"),
        (lambda: tuned(init_from__step=10), "keeps no checkpoint of that one; name it in the stage's"),
        (lambda: tuned(init_from__run="stage:grwo"), "did you mean 'grow'"),
        (lambda: tuned(ARMS, init_from__run=""), "nothing that comes after takes anything from it"),
        (lambda: tuned(init_from__leaves=("readout/*",)), "give PATTERN=RULE, with rule take, pad, fresh"),
        (lambda: tuned(init_from__leaves=("readout/*=frsh",)), "did you mean 'fresh'"),
        (lambda: tuned(bank__path="stage:grow"), 'use bank.name "features"'),
        (
            lambda: tuned(bank__path="stage:grow", bank__name="features"),
            "only encoders of images are applied to their bank",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_before_anything_is_written(sheet, complaint, tmp_path):
    with pytest.raises(ValueError, match=complaint):
        run(sheet(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"model__width": 32}, r"params/.* is float32\[1, .*\] in the checkpoint|is of another model"),
        ({"init_from__leaves": ("redout/*=fresh",)}, "matches no parameter; there are"),
        ({"init_from__leaves": ("*=fresh",), "init_from__optimiser": True}, "set init_from.optimiser to False"),
        ({"task__num_labels": 4, "init_from__leaves": ("*=pad",)}, "cannot be padded"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_written(changes, complaint, tmp_path):
    with pytest.raises((ValueError, RuntimeError), match=complaint):
        run(tuned(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def origin(config, rules):
    """Returns the state a run would start from, of one whose parameters are all 7, and its fresh one, all 1."""
    shapes = lambda c: abstract_state(prepare_experiment(c).population())
    fill = lambda tree, value: jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), tree)
    fresh = fill(shapes(config), 1)
    parts = {"params": fill(shapes(one()).params, 7), "stats": {}}
    return OfRun("a run", "", 0, parts, rules).apply(fresh).params


def test_rules_say_which_parameters_are_taken_padded_or_fresh():
    found = flatten(origin(one(task__num_labels=12), ("*=pad", "core/layers/*=fresh")))
    assert {leaf.mean() for path, leaf in found.items() if path.startswith("core/layers/")} == {1}
    padded = [path for path, leaf in found.items() if len(np.unique(leaf)) == 2]
    assert {path.partition("/")[0] for path in padded} == {"embedder", "readout"}
    assert {leaf.mean() for path, leaf in found.items() if path not in padded and "core/layers" not in path} == {7}
    for path in padded:
        kept = np.moveaxis(found[path], np.argmax(np.equal(found[path].shape, 12)), 0)
        assert (kept[:8] == 7).all() and (kept[8:] == 1).all()


def test_a_run_whose_start_had_diverged_has_diverged_at_its_first_step(tmp_path):
    """Members with an infinite learning rate diverge; what starts from them is recorded, not trained."""
    rates = grid.over("hypers.learning_rate", (1e-2, 1e30))
    stage = Stage(one(), rates)
    follow = grid.follow(rates)
    sheet = sheet_of(one(init_from__run="stage:grow"), follow, {"grow": stage})
    assert run(sheet, tmp_path).failed == 0
    sweep = open_sweep(sheet, tmp_path)
    ends = [int(final_state(sweep.folder, cell.id)["diverged"]) for cell in sweep.cells]
    assert ends == [RUNNING, 0]
    assert int(final_state(sweep.stages[0].folder, sweep.stages[0].cells[1].id)["diverged"]) > 0
    rows = results_table(sweep.folder).to_pylist()
    assert {r["value"] for r in rows if r["metric"] == "diverged" and r["cell"] == sweep.cells[1].id} == {0.0}


# --- learned features ---

KINDS = grid.product(
    grid.named("features", {"in context": {"hypers.p_bursty": 1.0}, "in weights": {"hypers.p_bursty": 0.0}}),
    grid.seeds(2, streams=("init", "data", "split", "eval")),
)


def encoder():
    config = one(bank__name="glyphs", bank__num_classes=24, bank__image_size=12, model__encoder="mlp")
    config.train.num_steps = 10
    return config


def featured(**changes):
    """Returns a sheet: four encoders, of two kinds and two splits; a run on the features of each, then looked at with
    and without its labels' attention, in a stage of no steps."""
    main = one(bank__name="features", bank__path="stage:encoders", train__num_steps=10)
    look = main.copy_and_resolve_references()
    look.init_from.run, look.train.num_steps = "stage:main", 0
    look.patches.cut = {"site": "attn_probs", "mode": "multiply", "tokens": "label -> query", "value": 0.0}
    look.patches.cut["during"] = "evals"
    for path, value in changes.items():
        room, field = path.split("__")
        main[room][field] = value
    points = grid.product(grid.follow(KINDS), grid.over("patches.cut.on", (False, True)))
    stages = {"encoders": Stage(encoder(), KINDS), "main": Stage(main, grid.follow(KINDS))}
    return sheet_of(look, points, stages, name="featured")


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps")
    assert run(featured(), out).failed == 0
    return open_sweep(featured(), out)


def losses(folder: Folder, step: int):
    rows = results_table(folder).to_pylist()
    return {(r["cell"], r["suite"]): r["value"] for r in rows if r["metric"] == "loss" and r["step"] == step}


def test_encoders_and_what_reads_them_are_one_population_each(looked_at):
    assert [len(sweep.folder.plan()) for sweep in looked_at.in_order()] == [1, 1, 1]
    files = list((looked_at.stages[0].folder.directory / "features").glob("*.npz"))
    assert len(files) == 4


def test_a_member_on_its_own_encoders_features_is_the_run_alone_on_that_file(looked_at, tmp_path):
    main = looked_at.stages[1]
    ends = losses(main.folder, 10)
    for cell in (main.cells[0], main.cells[3]):
        config = one(bank__name="embeddings", train__num_steps=10)
        encoder_cell, step = cell.member.sources["bank"].split()
        directory = looked_at.stages[0].folder.directory / "features"
        config.bank.path = str(directory / f"{encoder_cell}-{step}.npz")
        for stream, seed in cell.member.seeds.items():
            config.seeds[stream] = seed
        alone = icl_jax.train(config, tmp_path / cell.id, progress=False)
        rows = [r for r in alone.table.to_pylist() if r["step"] == 10 and r["metric"] == "loss"]
        for row in rows:
            if row["suite"] != "train":
                assert row["value"] == pytest.approx(ends[cell.id, row["suite"]], abs=2e-4)


def test_classes_held_out_from_an_encoder_stay_held_out(looked_at):
    encoders, main = looked_at.stages
    there = {cell.id: cell for cell in encoders.cells}
    experiments = [
        prepare_experiment(sweep.cells[0].group.config, members=[c.member for c in sweep.cells])
        for sweep in (encoders, main)
    ]
    orders = [e.orders for e in experiments]
    num_classes = experiments[0].program.source.loaded.num_classes
    index = {cell.id: i for i, cell in enumerate(encoders.cells)}
    for i, cell in enumerate(main.cells):
        mine = there[cell.member.sources["bank"].split()[0]]
        np.testing.assert_array_equal(orders[1][i] % num_classes, orders[0][index[mine.id]])
    assert len({tuple(order) for order in orders[0]}) == 2  # the two splits


def test_a_stage_of_no_steps_looks_at_the_runs_before(looked_at):
    before, here = losses(looked_at.stages[1].folder, 10), losses(looked_at.folder, 0)
    taken = {cell.id: cell.member.sources["start"].split()[0] for cell in looked_at.cells}
    cut = {cell.id: bool(cell.member.patches["cut"].on) for cell in looked_at.cells}
    same = [value == pytest.approx(before[taken[c], suite], abs=1e-5) for (c, suite), value in here.items()]
    off = [not cut[c] for c, _ in here]
    assert sum(off) == 8 and all(s for s, o in zip(same, off, strict=True) if o)
    assert not any(s for s, o in zip(same, off, strict=True) if not o)


def test_features_that_are_gone_are_named_and_made_again(looked_at, tmp_path):
    encoders, main = looked_at.stages
    file = next((encoders.folder.directory / "features").glob("*.npz"))
    planned = main.folder.plan()[0]
    file.rename(tmp_path / "aside.npz")
    with pytest.raises(ValueError, match=r"is not made yet: `icl sweep run` makes it"):
        icl_jax.evaluate(icl_jax.load_run(main.folder.run_directory(planned.id)))
    main.folder.done_file(planned.id).unlink()
    assert run(featured(), encoders.folder.directory.parents[2]).failed == 0
    with np.load(file) as now, np.load(tmp_path / "aside.npz") as before:
        np.testing.assert_allclose(now["embeddings"], before["embeddings"], atol=1e-5)


def test_features_are_made_once_and_those_of_another_encoder_are_others(looked_at):
    out = looked_at.folder.directory.parent
    files = {file: file.stat().st_mtime_ns for file in looked_at.stages[0].folder.directory.glob("features/*.npz")}
    assert dataclasses.asdict(run(featured(), out)) == {"done": 1, "failed": 0, "stopped": False}
    assert files == {file: file.stat().st_mtime_ns for file in files}
    other = featured()
    other.stages["encoders"] = dataclasses.replace(
        other.stages["encoders"], config=icl_jax.override(other.stages["encoders"].config, {"hypers.eps": 1e-4})
    )
    assert not ids(other, out) & ids(featured(), out)


def test_a_worker_that_waits_for_features_can_be_stopped(looked_at, monkeypatch):
    encoders, main = looked_at.stages
    monkeypatch.setattr(handover, "POLL_S", 0.05)
    file = next(encoders.folder.directory.glob("features/*.npz"))
    aside = file.rename(file.with_suffix(".aside"))
    with encoders.folder.claim(f"features-{file.stem}"):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        planned = main.folder.plan()[0]
        assert handover.make_features(main.folder, planned.members, "encoders") is False
    aside.rename(file)


def test_the_report_has_a_section_of_each_stage(looked_at, tmp_path):
    commands.report([looked_at.folder], tmp_path)
    page = (tmp_path / "index.html").read_text()
    for name in ("encoders", "main", "featured"):
        assert name in page
    typed = [commands.load_data(sweep.folder).environment["command"] for sweep in looked_at.in_order()]
    assert len(set(typed)) == 1, "a stage is run with its sweep"
    sweep = json.loads((looked_at.folder.directory / "sweep.json").read_text())
    assert "stages" in str(sweep)


# --- config files ---

FILE = """'''Staged: a title.'''
import sys
sys.path.insert(0, {tests!r})
from test_stages import GROWN, ARMS, one
from icl_jax import Stage, grid
def get_config():
    return one(init_from__run="stage:grow", train__num_steps=10, hypers__learning_rate=0.0)
def get_stages():
    return {{"grow": Stage(one(), GROWN)}}
def get_sweep():
    return grid.product(grid.follow(GROWN), ARMS)
"""


def test_a_file_states_stages_and_they_can_be_changed(tmp_path):
    path = tmp_path / "staged.py"
    path.write_text(FILE.format(tests=str(pathlib.Path(__file__).parent)))
    sheet = load_sheet(path)
    assert list(sheet.stages) == ["grow"] and sheet.stages["grow"].name == "grow"
    assert ids(sheet) == ids(tuned())
    changed = load_sheet(path, {"stages.grow.train.num_steps": 40})
    assert changed.stages["grow"].config.train.num_steps == 40 and changed.config.train.num_steps == 10
    with pytest.raises(ValueError, match="no stage 'grwo'; did you mean 'grow'"):
        load_sheet(path, {"stages.grwo.train.num_steps": 40})
    with pytest.raises(ValueError, match="the grid of the sweep sets this field"):
        load_sheet(path, {"stages.grow.hypers.p_bursty": 1.0})
    with pytest.raises(ValueError, match=r"'stage:grow' is an earlier stage of a sweep: run it with `icl sweep run`"):
        icl_jax.train(icl_jax.load_config(path), tmp_path / "run")


NAMES = ("../../escaped", "", ".", "..", "a/b", "a b", "a\n", "ä")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("def get_stages():\n    return [one()]\n", "must return a dict, name -> Stage"),
        *((f"def get_stages():\n    return {{{name!r}: one()}}\n", "no plain file name") for name in NAMES),
        ("def get_stages():\n    return {'grow': Stage(one(), [1])}\n", "its points are no list"),
        ("def get_stages():\n    return {'grow': Stage(one(), GROWN, claims=['x'])}\n", "its claims are no list"),
    ],
)
def test_stages_that_are_none_are_refused(text, complaint, tmp_path):
    path = tmp_path / "staged.py"
    path.write_text(FILE.format(tests=str(pathlib.Path(__file__).parent)) + text)
    with pytest.raises(ValueError, match=complaint):
        load_sheet(path)


def test_learned_features_of_earlier_config_files_are_a_stage(tmp_path):
    path = tmp_path / "former.py"
    head = FILE.format(tests=str(pathlib.Path(__file__).parent)).partition("def get_config")[0]
    path.write_text(
        head + "from test_stages import encoder\n"
        "def get_config():\n    return one()\n"
        "def get_features():\n    return {'mine': encoder()}\n"
        "def get_sweep():\n"
        "    return grid.named('kind', {'learned': {'bank.name': 'embeddings', 'bank.path': 'features:mine'}})\n"
    )
    sweep = open_sweep(load_sheet(path, {"features.mine.train.num_steps": 20}), tmp_path)
    assert sweep.stages[0].cells[0].steps == 20
    assert sweep.cells[0].member.sources == {"bank": f"{sweep.stages[0].cells[0].id} 20"}
    assert sweep.cells[0].group.config.bank.name == "features"


def test_features_of_an_earlier_version_are_gone_on_with(looked_at, tmp_path):
    """They lie beside the plan under the run's identity; what reads them has ids of their content."""
    sheet = sheet_of(one(bank__name="features", bank__path="stage:mine"), [grid.Point()], {"mine": Stage(encoder())})
    encoders = open_sweep(sheet, tmp_path).stages[0]
    identity = prepare_experiment(encoders.cells[0].group.config, members=[encoders.cells[0].member]).identity
    file = tmp_path / "staged" / "features" / f"mine-{identity}-10.npz"
    file.parent.mkdir(parents=True)
    made = next((looked_at.stages[0].folder.directory / "features").glob("*.npz"))
    file.write_bytes(made.read_bytes())
    sweep = open_sweep(sheet, tmp_path)
    assert not sweep.stages and not sweep.cells[0].member.sources
    assert sweep.cells[0].group.config.bank.path == str(file)


def test_a_sweep_goes_on_where_a_stage_is_unfinished(tmp_path):
    """Stopped after its first stage, it is the same sweep in the end; a stage that failed is named."""
    sheet = tuned()
    order = open_sweep(sheet, tmp_path).in_order()
    for sweep in order:
        sweep.fix()
    planned = order[0].folder.plan()[0]
    order[0].folder.record_failure(planned.id, error="ValueError: made up", step=0)
    job = order[1].jobs()[0]
    assert waits_for(order[1].folder, job.planned.members, job.start, job.features) == []
    with pytest.raises(ValueError, match=rf"stage 'grow': population {planned.id} failed, ValueError: made up"):
        run_job(order[1].folder, job, progress=False)
    assert run(sheet, tmp_path).failed == 0
    assert open_sweep(sheet, tmp_path).is_done()
    assert dataclasses.asdict(run(sheet, tmp_path)) == {"done": 1, "failed": 0, "stopped": False}


def test_seeds_that_decide_nothing_are_no_replicates(done, tmp_path):
    """Where all parameters are taken, a later run's init seed is silent; pads and fresh leaves are drawn by it."""
    grow = Stage(one(), grid.over("hypers.p_bursty", (0.5,)))
    seeds = grid.seeds(3, streams=("init",))
    with pytest.raises(ValueError, match=r"are the same run: .*seeds.init decides nothing then"):
        ids(tuned(seeds, grow), tmp_path)
    assert len(ids(tuned(seeds, grow, init_from__leaves=("readout/*=fresh",)), tmp_path)) == 3
    assert len(ids(tuned(grid.seeds(3), grow), tmp_path)) == 3  # other data
    single = icl_jax.train(one(train__num_steps=0), tmp_path / "single", progress=False)
    config = one(init_from__run=str(single.directory), seeds__init=(0, 1))
    with pytest.raises(ValueError, match=r"members 0 and 1 are the same run .*init_from gives all parameters"):
        icl_jax.train(config, tmp_path / "later", progress=False)


@pytest.mark.slow
def test_checkpoints_that_later_stages_take_stay_and_a_lost_or_damaged_one_is_made_again(tmp_path):
    def sheet(steps=20, noise=(0.0,)):
        arms = grid.over("hypers.label_noise", noise)
        grow = Stage(one(train__num_steps=steps, checkpoint__keep_last=1), grid.over("hypers.p_bursty", (0.5,)))
        return tuned(arms, grow)

    assert run(sheet(), tmp_path).failed == 0
    (stage,) = open_sweep(sheet(), tmp_path).stages
    checkpoints = stage.folder.run_directory(stage.folder.plan()[0].id) / "checkpoints"
    first = Checkpoints(checkpoints).restore(step=20)[1]
    assert run(sheet(steps=40), tmp_path).failed == 0  # the stage goes on; what was taken stays
    assert Checkpoints(checkpoints).steps() == [20, 40]
    assert run(sheet(noise=(0.0, 0.5)), tmp_path).failed == 0

    aside = (checkpoints / "20").rename(
        tmp_path / "aside"
    )  # as earlier versions left it: what is done needs it no more
    assert run(sheet(steps=40, noise=(0.0,)), tmp_path).failed == 0
    aside.rename(checkpoints / "20")

    for step in (20, 40):
        shutil.rmtree(checkpoints / str(step))
    assert run(sheet(noise=(0.0, 0.5, 0.6)), tmp_path).failed == 0  # made again
    again = Checkpoints(checkpoints).restore(step=20)[1]
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True))

    for file in (checkpoints / "20").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-3])
    later = sheet(noise=(0.0, 0.5, 0.6, 0.7))
    assert run(later, tmp_path).failed == 1  # it says which, and sets it aside
    folder = open_sweep(later, tmp_path).folder
    (failure,) = filter(None, (folder.failure(planned.id) for planned in folder.plan()))
    assert "stage 'grow'" in failure["error"] and "the same command makes it again" in failure["error"]
    assert run(later, tmp_path).failed == 0


def test_a_checkpoint_that_cannot_be_made_again_is_said(tmp_path):
    sheet = tuned(ARMS, Stage(one(train__num_steps=20), grid.over("hypers.p_bursty", (0.5,))), init_from__step=10)
    sheet.stages["grow"].config.checkpoint.keep_steps = (10,)
    order = open_sweep(sheet, tmp_path).in_order()
    for sweep in order:
        sweep.fix()
    (job,) = order[0].jobs()
    assert run_job(order[0].folder, job, progress=False)
    shutil.rmtree(order[0].folder.run_directory(job.id) / "checkpoints" / "10")
    with pytest.raises(ValueError, match=r"no checkpoint of step 10, which a later stage takes, .*: move .* away"):
        run_job(order[0].folder, job, progress=False)


def test_members_of_one_program_may_start_from_parameters_of_several_sizes(tmp_path):
    grow = Stage(one(train__num_steps=10, task__num_labels=8), grid.over("task.num_labels", (8, 12)))
    leaves = ("readout/*=fresh", "embedder/table=fresh")
    points = grid.product(grid.follow(grid.over("task.num_labels", (8, 12))), ARMS)
    points = [grid.Point({k: v for k, v in p.changes.items() if k != "task.num_labels"}, p.labels) for p in points]
    sheet = tuned(points, grow, init_from__leaves=leaves)
    assert run(sheet, tmp_path).failed == 0
    sweep = open_sweep(sheet, tmp_path)
    assert len(sweep.folder.plan()) == 1 and len(sweep.cells) == 4
    for cell in sweep.cells:
        here, source = final_state(sweep.folder, cell.id), cell.member.sources["start"].split()[0]
        there = final_state(sweep.stages[0].folder, source)
        for x, y in zip(_leaves(here["params"]["core"]), _leaves(there["params"]["core"]), strict=True):
            np.testing.assert_array_equal(x, y)


def test_damaged_features_are_made_again(looked_at):
    encoders, main = looked_at.stages
    file = next(encoders.folder.directory.glob("features/*.npz"))
    with np.load(file) as whole:
        before = whole["embeddings"]
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 255
    file.write_bytes(raw)
    planned = main.folder.plan()[0]
    with pytest.warns(UserWarning, match=r"does not read as .npz .*: it is made again"):
        assert handover.make_features(main.folder, planned.members, "encoders")
    with np.load(file) as whole:
        np.testing.assert_allclose(whole["embeddings"], before, atol=1e-5)


def test_a_sweep_may_lie_in_a_directory_called_stages(tmp_path):
    sweep = open_sweep(tuned(), tmp_path / "stages")
    assert not sweep.folder.is_stage and sweep.name == "staged"
    assert sweep.stages[0].folder.directory == tmp_path / "stages" / "staged" / "stages" / "grow"
    assert sweep.stages[0].name == "staged/grow" and sweep.stages[0].folder.stage("x").directory.name == "x"


def test_labels_are_the_same_to_nine_digits_and_features_as_wide_as_an_item(tmp_path):
    grow = Stage(one(), grid.over("hypers.learning_rate", (0.0012345671, 0.01)))
    with pytest.raises(ValueError, match=r"no run with learning_rate 0.0012345679"):
        ids(tuned(grid.over("hypers.learning_rate", (0.0012345679,)), grow), tmp_path)
    sheet = featured()
    wide = {"model.positions": "onehot", "model.width": 24, "model.num_heads": 1}
    stage = sheet.stages["encoders"]
    sheet.stages["encoders"] = dataclasses.replace(stage, config=icl_jax.override(stage.config, wide))
    sweep = open_sweep(sheet, tmp_path)
    tokens = 4 + 1 if sweep.stages[0].cells[0].group.spec.model.labels == "concatenated" else 2 * 4 + 1
    assert sweep.stages[1].cells[0].group.config.bank.dim == 24 - tokens
