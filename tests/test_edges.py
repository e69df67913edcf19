"""What is typed wrong ends with a sentence that names the value, the limit and the way out."""

import contextlib
import importlib
import io
import pathlib
import signal

import jax
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from tiny import tiny_config

import icl_jax
from icl_jax import cli, grid, registry
from icl_jax.bench import run as benchmarks
from icl_jax.bench.measure import Row
from icl_jax.claims.judge import Bound, Verdict
from icl_jax.data.types import ROLE_NAMES
from icl_jax.data.vectors import load_embeddings
from icl_jax.report.claims_table import claims_markdown, effect_bar
from icl_jax.report.pictures import _legend_handles
from icl_jax.report.style import along, marks_of
from icl_jax.runs import api
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.sampling import show_bank
from icl_jax.spec import BankSpec
from icl_jax.sweep import commands, memory
from icl_jax.sweep.cells import expand
from icl_jax.sweep.liveness import peak_bytes
from icl_jax.sweep.results import write_results
from icl_jax.sweep.sheet import Sheet, load_sheet
from icl_jax.sweep.sweep import open_sweep
from icl_jax.training.signals import GracefulStop

START = "import icl_jax\nfrom icl_jax import claims, grid\n\ndef get_config():\n    return icl_jax.default_config()\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("def get_config(:\n", "line 1: SyntaxError"),
        ("import nothing_of_that_name\n", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1\n1 / 0\n", "line 2: ZeroDivisionError"),
        ("def get_config():\n    pass\n", r"get_config\(\) returns nothing; return what default_config"),
        ("def get_config():\n    return {}\n", r"get_config\(\) returns a dict"),
        (START.replace("default_config()", "default_config().nothing"), "line 5: "),
        ("x = 1\n", "does not define get_config"),
    ],
)
def test_a_config_file_with_a_fault_is_named_with_its_line(text, words, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        cfg.load_config(tmp_path / "bad.py")
    assert "bad.py" in str(error.value)


def test_a_config_file_is_a_python_file(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match=r"is no Python file: a config file ends in \.py"):
        cfg.load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "hook, words",
    [
        ("def get_sweep():\n    return 3\n", r"get_sweep\(\) returns a int; return what icl_jax.grid makes"),
        ("def get_sweep():\n    return [{}]\n", r"get_sweep\(\) has a dict in its list"),
        ("def get_claims():\n    return claims.final('icl')\n", r"get_claims\(\) returns a Statistic; return a list"),
        ("def get_claims():\n    return ['x']\n", r"get_claims\(\) has a str in its list"),
        ("def get_features():\n    return ['x']\n", r"get_features\(\) must return a dict"),
    ],
)
def test_hooks_that_return_something_else_are_refused(hook, words, tmp_path):
    (tmp_path / "bad.py").write_text(START + hook)
    with pytest.raises(ValueError, match=words):
        load_sheet(tmp_path / "bad.py")


SEEDS = tuple(range(300))
MANY = {"hypers.p_bursty": tuple(np.linspace(0, 1, 400)), "seeds.data": SEEDS, "seeds.init": SEEDS}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hypers.learning_rate": 1e40}, "more than a float32 holds"),
        ({"hypers.num_classes": float("inf")}, "more than a float32 holds"),
        ({"hypers.weight": 1}, "unknown field 'weight' in hypers"),
        ({"seeds.data": True}, "seeds are integers"),
        (MANY, "120,000 members .p_bursty 400, seeds 300. are more than a population has"),
        ({"train.num_steps": "many"}, "train.num_steps = 'many' is no int, as 20 is"),
        ({"train.num_steps": None}, "train.num_steps = None: give a value, such as 20"),
        ({"checkpoint.keep_steps": None}, "checkpoint.keep_steps = None: give a value"),
        ({"patches.cut": 3, "patches.cut.site": "resid"}, "patches.cut.site: cut is 3, which has no fields"),
        ({"evals.more.x.use": "positions", "evals.more.x": 3}, "evals.more.x = 3: give its fields, such as"),
        ({"model": None}, "model = None: give its fields, such as model.NAME"),
        ({"patches.cut.site": None}, "patches.cut.site = None: give a value$"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        cfg.members_of(cfg.override(tiny_config(), changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"checkpoint.keep_every": -10}, "checkpoint.keep_every -10 must be at least 0"),
        ({"checkpoint.keep_log": -1}, "checkpoint.keep_log -1 must be at least 0"),
        ({"model.position_scale": float("nan")}, "model.position_scale nan is no finite number"),
        ({"model.position_scale": 7.0}, "model.position_scale is set, .* needs model.positions 'sinusoidal'"),
        ({"model.num_position_slots": 50}, "nothing here reads it .it needs model.positions 'onehot'"),
        ({"model.labels": "interleaved", "model.concat_mix": False}, "it needs model.labels 'concatenated'"),
        ({"model.encoder_width": 999}, "model.encoder_width is set, and nothing here reads it .*encoder 'linear'"),
        ({"model.encoder_flatten": True}, "model.encoder_flatten is set, and nothing here reads it"),
        ({"model.readout_layers": 7}, "model.readout_layers is set, and nothing here reads it .*head 'linear'"),
        ({"model.core": "lstm", "model.positions": "none"}, "model.num_heads is set, and .*core 'lstm'"),
        ({"bank.num_exemplars": 3}, "bank.num_exemplars is set, and nothing here reads it .*bank 'gaussian'"),
        ({"checkpoint.keep_steps": ("a",)}, "checkpoint.keep_steps 'a': steps are whole numbers"),
        ({"evals.custom.own": 3}, "evals.custom.own = 3: give its fields"),
        ({"evals.custom.own": {"ways": "two"}}, "evals.custom.own.ways 'two' is no int"),
        ({"evals.icl": ""}, "evals.icl = '' is not among .*name one; evals.headlines may show one alone"),
        ({"evals.headlines": ({"title": "x", "eval": "flipped", "metric": 3},)}, "metric 3: give its name"),
        ({"evals.custom.train": {"kind": "no_support"}}, "evals.custom.train: 'train' has a meaning in the table"),
        ({"evals.custom.iwl": {"kind": "no_support"}}, "'iwl' is also the title of a headline, which shows 'no_supp"),
    ],
)
def test_useless_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(cfg.override(tiny_config(), changes))


def test_a_sweep_over_architectures_states_what_each_needs_and_varies_what_is_read(tmp_path):
    config = tiny_config(hypers__p_bursty=0.5, seeds__init=0, seeds__data=0, model__positions="none")
    cells = lambda points: len(expand(config, points))
    assert cells(grid.over("model.core", ("transformer", "lstm"))) == 2
    with pytest.raises(ValueError, match=r"model.num_heads is set, and nothing here reads it"):
        cells(grid.over("model.core", ("gru", "lstm")))
    both = grid.product(grid.over("model.core", ("transformer", "lstm")), grid.over("model.num_heads", (2, 4)))
    with pytest.raises(ValueError, match=r"points that differ in .*model.num_heads.* alone are the same run"):
        cells(both)


def test_a_start_without_a_run_is_refused(tmp_path):
    for field, value in (("step", 100), ("optimiser", True), ("leaves", ("a=take",))):
        config = cfg.override(tiny_config(), {f"init_from.{field}": value})
        with pytest.raises(ValueError, match=rf"init_from.{field} .*: there is nothing to take; set init_from.run"):
            icl_jax.train(config, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"init_from.step -7 must be at least -1"):
        prepare_experiment(cfg.override(tiny_config(), {"init_from.step": -7, "init_from.run": "there"}))
    assert not (tmp_path / "run").exists()


def test_a_grid_over_a_patch_that_there_is_not_is_refused():
    config = cfg.override(tiny_config(), {"patches.cut.site": "resid"})
    with pytest.raises(ValueError, match=r"patches.cutt has no site; did you mean 'cut'.*: state the patch"):
        expand(config, grid.over("patches.cutt.layers", (0, 1)))
    with pytest.raises(ValueError, match=r"patches.cut has no site: state the patch in the config"):
        expand(tiny_config(), grid.over("patches.cut.layers", (0,)))


def test_seeds_may_be_a_range_or_an_array():
    config = tiny_config()
    config.seeds.init, config.seeds.data = range(3), np.arange(3)
    assert config.seeds.init == config.seeds.data == (0, 1, 2) and len(cfg.members_of(config)) == 6


def test_the_python_interface_says_what_it_takes(tmp_path):
    with pytest.raises(ValueError, match=r"takes a config, not 'configs/x.py'; read one with icl_jax.load_config"):
        icl_jax.train("configs/x.py")
    for how, words in (({"member": 99}, "members 0 to 3"), ({"num_sequences": -1}, "ask for at least 1")):
        with pytest.raises(ValueError, match=words):
            icl_jax.sample(tiny_config(), **how)
    with pytest.raises(ValueError, match=r"grid\.choice\(\): there is nothing to choose from"):
        grid.choice()


@pytest.mark.parametrize(
    "field, words",
    [
        ({"num_holdout": "two"}, "num_holdout of type .* are no whole numbers"),
        ({"num_holdout": np.array([1, 2])}, "num_holdout has shape"),
        ({"groups": np.array([0.5] * 4)}, "groups of type float64 are no whole numbers"),
        ({"groups": np.array([0, 1, 2, 10**9])}, "group 1000000000 of 4 classes"),
        ({"class_order": np.array(["a"] * 4)}, "class_order of type"),
    ],
)
def test_embeddings_with_fields_of_another_type_are_refused(field, words, tmp_path):
    np.savez(tmp_path / "bank.npz", embeddings=np.zeros((4, 2, 3), np.float32), **field)
    with pytest.raises(ValueError, match=words):
        load_embeddings(BankSpec(name="embeddings", path=str(tmp_path / "bank.npz")))


def test_what_leaves_the_laboratory_is_no_code(tmp_path):
    verdict = Verdict("<script>alert(1)</script>", "final ICL", "> 0", 0.5, 0.4, 0.6, 5, "holds", "")
    text = claims_markdown([("a|b", [verdict])])
    assert "<script>" not in text and "&lt;script>" in text and "a\\|b" in text
    table = pa.table({"label/a": ["=1+1", "@x", "-SUM(1)", "-3", "plain"], "value": [1.0, 2, 3, 4, 5]})
    write_results(table, tmp_path / "t.csv")
    cells = [line.split(",")[0].strip('"') for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    assert cells == ["'=1+1", "'@x", "'-SUM(1)", "-3", "plain"]


def test_two_claims_of_one_name_and_a_sweep_named_twice_are_refused(tmp_path):
    text = START + "def get_claims():\n    return [claims.within('x', claims.final('icl'), {}, low=0)] * 2\n"
    (tmp_path / "twice.py").write_text(text)
    with pytest.raises(ValueError, match="two claims are called 'x'"):
        commands.run(load_sheet(tmp_path / "twice.py"), tmp_path, Console(quiet=True), progress=False)
    with pytest.raises(SystemExit):
        cli.main(["icl", "sweep", "plan", str(tmp_path / "twice.py"), str(tmp_path / "twice.py")])


def test_a_run_shows_itself_in_one_line(tmp_path):
    run = api.Run(tmp_path, tiny_config(), cfg.members_of(tiny_config()))
    assert repr(run) == f"Run({str(tmp_path)!r}: transformer, 4 members, 20 steps)"


def test_a_plan_is_estimated_without_compiling(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sheet = Sheet("tiny.py", "Tiny: a sweep.", tiny_config(), grid.seeds(1), [], {}, {})
    experiment = prepare_experiment(tiny_config())
    counts = {width: memory.bytes_at(experiment, width, compiles=False) for width in (1, 8, 64)}
    monkeypatch.setattr(memory, "program_bytes", lambda population: pytest.fail("it compiles"))
    console = Console(record=True, width=200, file=io.StringIO())
    commands.show_plan(sheet, tmp_path / "sweeps", console)
    assert "is an estimate, without compiling" in console.export_text() and not (tmp_path / "sweeps").exists()
    monkeypatch.undo()
    compiled = memory.program_bytes(experiment.population())
    assert compiled / 3 < memory.bytes_at(experiment, experiment.program.layout.width, compiles=False) < 3 * compiled
    assert 4 < (counts[64] - counts[8]) / (counts[8] - counts[1]) < 16, "it grows with the members"


def test_an_array_lives_until_its_last_use():
    def program(x):
        a = x + 1  # x and a
        b = a * 2  # a is not needed after this
        return b.sum()

    jaxpr = jax.make_jaxpr(program)(np.zeros(1000, np.float32)).jaxpr
    assert peak_bytes(jaxpr) == 2 * 4000
    looped = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (c * 2 + 1, None), x, length=50)[0])
    assert peak_bytes(looped(np.zeros(1000, np.float32)).jaxpr) < 5 * 4000, "a loop does not hold all its steps"


# --- numbers that no machine holds, or that change nothing ---


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hypers.b1": 1.0}, r"hypers\.b1 1\.0 is outside \[0, 0\.99999\]|b1.*outside"),
        ({"train.batch_size": 10**8}, r"train\.batch_size 100,000,000 is more than 1,048,576"),
        ({"model.width": 10**8}, r"model\.width 100,000,000 is more than 65,536"),
        ({"task.context_len": 10**9}, r"task\.context_len 1,000,000,000 is more than 65,536"),
        ({"train.num_steps": -10}, "train.num_steps = -10: must be at least 0"),
    ],
)
def test_numbers_without_sense_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(cfg.override(tiny_config(), changes))


def test_a_warm_up_beyond_the_run_is_said():
    with pytest.warns(UserWarning, match=r"warmup_steps 400: the run ends at step 20, before the learning rate"):
        prepare_experiment(cfg.override(tiny_config(), {"hypers.warmup_steps": 400}))


# --- looking ---


def test_ctrl_c_is_the_way_out_of_status(tmp_path, monkeypatch):
    looks = []

    def pressed(seconds):
        looks.append(seconds)
        raise KeyboardInterrupt

    sheet = Sheet("tiny.py", "Tiny: a sweep.", tiny_config(), grid.seeds(1), [], {}, {})
    monkeypatch.setattr(commands.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(commands.time, "sleep", pressed)
    commands.watch_status(sheet, tmp_path, Console(file=io.StringIO()))
    assert len(looks) == 1


def test_a_second_ctrl_c_interrupts_at_once():
    with GracefulStop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_legend_of_sequences_names_what_they_show(tmp_path):
    drawn = set()
    for p_bursty in (0.0, 1.0):
        sample = icl_jax.sample(tiny_config(hypers__p_bursty=p_bursty), 4)
        roles = {ROLE_NAMES[int(role)] for role in np.unique(sample.sequences.roles)}
        assert len(_legend_handles(roles)) == len(roles)
        icl_jax.show(sample, tmp_path / "sequences.png")
        drawn.add(frozenset(roles))
    assert len(drawn) == 2  # a member without bursts shows no support


def test_settings_are_told_apart_without_colour():
    marks = marks_of(["a", "b", "c"])
    assert len(set(marks.values())) == 3 and all(marks.values())
    assert set(marks_of(range(9)).values()) == {""}  # more than there are shapes
    places = [along(mark, 100, place)["markevery"][0] for place, mark in enumerate(marks.values())]
    assert len(set(places)) == 3  # not one on another


def test_an_effect_has_a_scale():
    verdict = Verdict("name", "final icl", "> 0.2", 0.5, 0.4, 0.6, 5, "holds", "")
    drawn = effect_bar(Bound(0.2, float("inf"), "> 0.2"), verdict)
    assert ">0<" in drawn and ">0.2<" in drawn and "<text" in drawn


# --- the Python interface ---


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: icl_jax.grid.over("hypers.p_bursty", 3), "give several values, such as a tuple"),
        (lambda: icl_jax.grid.over("hypers.p_bursty", {"x": 1}), "give several values, such as a tuple"),
        (lambda: icl_jax.claims.final(3), "with suite 3: give its name"),
        (lambda: icl_jax.claims.final("train", "loss", window=10.5), "window 10.5: give whole steps"),
        (lambda: icl_jax.claims.larger("x", icl_jax.claims.final("icl"), {}, [{}], by="1"), "by '1' is no number"),
        (lambda: icl_jax.evaluate("runs/quickstart"), "evaluate takes a run, not 'runs/quickstart'; open it with"),
        (lambda: icl_jax.default_config(plugins="x.py"), "give a list of files, such as plugins=.'x.py'."),
        (lambda: icl_jax.default_config(plugins=pathlib.Path("x.py")), "give a list of files, such as .*'x.py'."),
        (lambda: icl_jax.load_config("configs"), "configs is a directory, of a run or a sweep perhaps"),
        (lambda: icl_jax.claims.at("icl", "x"), "with step 'x': give whole steps"),
        (lambda: icl_jax.claims.at("icl", True), "with step True: give whole steps"),
        (lambda: icl_jax.claims.final("icl").best_of("draw", select=3), "best_of with select 3: give its name"),
        (lambda: icl_jax.claims.trend("x", icl_jax.claims.final("icl"), over=3), "over 3 is no label"),
        (lambda: icl_jax.claims.trend(3, icl_jax.claims.final("icl"), over="p"), "a claim is called 3"),
        (lambda: icl_jax.grid.over(3, (0, 1)), "give the name of a field"),
        (lambda: registry.shared("learning_rat"), "there is no hyper 'learning_rat'; did you mean 'learning_rate'"),
        (lambda: registry.load("math"), "names no function; write it as module:function"),
    ],
)
def test_a_call_that_makes_no_sense_says_so(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_claim_is_stored_without_its_defaults():
    stored = icl_jax.claims.claims_to_json([icl_jax.claims.trend("x", icl_jax.claims.final("icl"), over="p_bursty")])
    assert "at" not in stored[0] and icl_jax.claims.claims_from_json(stored)[0].at == {}


def test_a_name_of_digits_is_a_name():
    assert cfg.override(tiny_config(), {"name": 2024}).name == "2024"
    typed = ["name=2e3", "stages.grow.bank.path=007", "evals.icl='iid'", "hypers.learning_rate=1e-3", "patches.x=1,2"]
    assert list(cfg.parse_changes(typed).values()) == ["2e3", "007", "iid", 1e-3, (1, 2)]


def test_a_sweep_stays_on_the_bank_that_auto_was(omniglot_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tiny_config(hypers__p_bursty=0.5, seeds__init=0, seeds__data=0, bank__name="glyphs", bank__image_size=14)
    config.bank.name, config.bank.num_classes, config.hypers.num_classes = "auto", 0, 24
    sheet = Sheet("here", "A sweep.", config, [grid.Point()], [], {}, {})
    sweep = open_sweep(sheet, tmp_path)
    sweep.folder.describe(sweep.description())
    assert sweep.folder.read()["config"]["bank"]["name"] == "glyphs"
    monkeypatch.setenv("TFDS_DATA_DIR", str(omniglot_dir))
    with pytest.raises(ValueError, match=r"planned on bank 'glyphs', and here bank.name 'auto' is 'omniglot'.*--set"):
        open_sweep(sheet, tmp_path)
    config.bank.name = "omniglot"  # said so, it is meant
    assert open_sweep(sheet, tmp_path).cells


def test_an_interrupt_while_modules_are_imported_is_not_lost(monkeypatch):
    main = importlib.import_module("icl_jax.cli.main")
    handlers, before = [], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(main.importlib, "import_module", lambda name: handlers.append(signal.getsignal(signal.SIGINT)))
    main._imported("icl_jax.cli.train")
    assert handlers == [main._leave] and signal.getsignal(signal.SIGINT) == before


def test_of_a_sweep_the_directory_is_a_flag(tmp_path):
    (tmp_path / "sweep.py").write_text(
        "from icl_jax import default_config, grid, Stage\n"
        "def get_config():\n    return default_config()\n"
        "def get_stages():\n    return {'grow': Stage(default_config(), [grid.Point()])}\n"
    )
    for changes, words in (({"out": "x"}, "of a sweep --out=DIR says"), ({"stages.grow.name": "x"}, "is called as")):
        with pytest.raises(ValueError, match=words):
            load_sheet(tmp_path / "sweep.py", changes)


def test_a_claim_may_be_about_a_patch_that_the_grid_brings(tmp_path):
    config = tiny_config(hypers__p_bursty=0.5, seeds__init=0, seeds__data=0)
    claim = icl_jax.claims.within("x", icl_jax.claims.final("icl", "changed", coords={"patch": "cut"}), {}, low=0)
    for patch, context in (({"patches.cut.site": "resid"}, contextlib.nullcontext()), ({}, pytest.raises(ValueError))):
        sheet = Sheet("here", "A sweep.", config, [grid.Point(patch)], [claim], {}, {})
        with context:
            open_sweep(sheet, tmp_path).check()


def test_features_of_a_stage_have_no_bank_before_it(tmp_path):
    config = tiny_config()
    config.bank.name, config.bank.path = "features", "stage:encoders"
    with pytest.raises(ValueError, match="made by an earlier stage of a sweep; run it with `icl sweep run`"):
        show_bank(config, tmp_path / "bank.png")


def test_a_benchmark_shows_each_figure_as_it_comes(monkeypatch, capsys):
    shown = []

    def bench():
        for name in ("first", "second"):
            shown.append(capsys.readouterr().out)
            yield Row(name, 1234.5, "steps/s")

    monkeypatch.setitem(benchmarks.BENCHMARKS, "sweep", bench)
    benchmarks.run_benchmarks(["sweep"])
    assert "sweep: compiling" in shown[0] and "first" in shown[1] and "1,234.5 steps/s" in shown[1]
    assert "second" in capsys.readouterr().out
