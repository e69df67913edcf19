"""Plugins: files of a user's own that a config names."""

import json
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pyarrow.compute as pc
import pytest
from rich.console import Console
from tiny import tiny_config

import icl_jax
from icl_jax import cli, grid, plugins, registry
from icl_jax.models.taps import Tap
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.runplan import config_to_json, plan_of
from icl_jax.spec import HYPERS
from icl_jax.storage.leaves import flatten, member_digests
from icl_jax.sweep import commands
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.results import results_table
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.sweep import open_sweep

CORE = '''
import jax
from flax import nnx

from icl_jax.models.layers import Dense
from icl_jax.registry import CoreComponent, register, shared
from icl_jax.spec import Hyper


class Mean(nnx.Module):
    """Each token plus a dense layer of the mean of those so far."""

    def __init__(self, width):
        self.out = Dense(width, width)

    def __call__(self, x, logits_at, tap):
        count = jax.numpy.arange(1, x.shape[1] + 1)[None, :, None]
        return x + SCALE * self.out(tap("state", x.cumsum(axis=1) / count))


SCALE = 1.0

register(
    CoreComponent(
        role="core",
        name="mean",
        doc="The mean of the tokens so far.",
        build=lambda spec, width, options: Mean(width),
        hypers={**shared("decay_attention"), "of_its_own": Hyper(0.5, 0, 1, "read by nothing but declared")},
        decay={"*": "attention"},
        sites=lambda model, options: {"state": ("sequence", "token", "unit")},
        state_size=lambda model, options, width, tokens: width,
        flops=lambda model, options, width, tokens: 2 * width**2,
    )
)
'''

EVAL = """
import dataclasses

from icl_jax.registry import EvalComponent, register


@dataclasses.dataclass(frozen=True)
class Norm:
    name: str
    axes = {"norm": ()}
    coords = {}

    def arrays(self):
        return None

    def prepare(self, arrays, tables, h, seed):
        return None

    def run(self, model, variables, eval_set, context):
        import optax

        return {"norm": POWER * optax.tree.norm(variables["params"])}

    def finish(self, values):
        return values


POWER = 1

register(
    EvalComponent(role="eval", name="norm", doc="Norm.", build=lambda name, spec, source, options: Norm(name))
)
"""


BANK = """
import numpy as np

from icl_jax.data.banks import make_bank
from icl_jax.registry import BankComponent, register


def few(spec):
    return make_bank(spec, "vector", (4,), (24, 1), {"means": np.ones((24, 4), np.float32)})


register(
    BankComponent(
        role="bank",
        name="few",
        doc="Ones.",
        build=few,
        render="icl_jax.data.vectors:render_gaussian",
        item_kind="vector",
        own_noise=True,
    )
)
"""


@pytest.fixture(autouse=True)
def fresh():
    """As in a process that has run no plugin, before and after."""
    forget()
    yield
    forget()


def forget():
    for name in list(plugins._ACTIVE):
        registry.forget(plugins._owner(name))
    plugins._ACTIVE.clear()
    plugins._TEXTS.clear()


@pytest.fixture
def core(tmp_path):
    path = tmp_path / "files" / "mean.py"
    path.parent.mkdir()
    path.write_text(CORE)
    return path


@pytest.fixture
def norm(tmp_path):
    path = tmp_path / "norm.py"
    path.write_text(EVAL)
    return path


def config_with(*files, **changes):
    """`tiny_config`, with plugins."""
    config = cfg.default_config(plugins=files)
    tiny = tiny_config()
    with config.unlocked():
        for name in ("bank", "task", "model", "train", "evals", "checkpoint", "runtime", "seeds"):
            config[name] = tiny[name]
        config.hypers.update(tiny.hypers)
    config.name = "tiny"
    return cfg.override(config, changes)


MEAN = {"model.core": "mean", "model.num_layers": 2, "model.num_heads": 8, "model.positions": "sinusoidal"}
MEAN |= {"model.mlp_ratio": 4}


def test_a_run_with_a_core_from_a_file_goes_on_in_another_process(core, tmp_path):
    half = icl_jax.train(config_with(core, **MEAN, **{"train.num_steps": 10}), tmp_path / "run", progress=False)
    whole = icl_jax.train(config_with(core, **MEAN), tmp_path / "whole", progress=False)
    assert half.config.hypers.of_its_own == (0.5,) and half.model.sites.keys() >= {"state"}
    assert (tmp_path / "run" / "plugins" / "mean.py").read_text() == CORE
    forget()
    assert "mean" not in registry.components("core") and "of_its_own" not in HYPERS
    run = icl_jax.load_run(tmp_path / "run")
    assert "mean" in registry.components("core"), "run.json says where it is"
    longer = icl_jax.train(cfg.override(run.config, {"train.num_steps": 20}), tmp_path / "run", progress=False)
    assert member_digests(flatten(longer._newest[1])) == member_digests(flatten(whole._newest[1]))
    assert icl_jax.evaluate(longer, "flipped").num_rows

    core.write_text(CORE.replace("SCALE = 1.0", "SCALE = 2.0"))
    with pytest.raises(ValueError, match="holds another run"):
        icl_jax.train(config_with(core, **MEAN), tmp_path / "run", progress=False)
    assert icl_jax.evaluate(longer, "flipped").num_rows, "the text that it was trained with is known here"
    forget()
    with pytest.raises(ValueError, match=r"mean\.py .* has another text now: bring that text back, or run it first"):
        icl_jax.load_run(tmp_path / "run")
    shutil.copy(tmp_path / "run" / "plugins" / "mean.py", core)
    assert icl_jax.load_run(tmp_path / "run").step == 20


def test_the_digest_is_part_of_an_id_and_the_place_is_not(core, norm, tmp_path):
    ids = lambda config: plan_of(config).identity("data")
    one = ids(config_with(core, **MEAN))
    moved = shutil.copy(core, tmp_path / "mean.py")
    assert ids(config_with(moved, **MEAN)) == one
    core.write_text(CORE + "# a word\n")
    assert ids(config_with(core, **MEAN)) != one
    assert ids(config_with()) == ids(config_with(norm)) == ids(tiny_config()), "evals alone make no other run"


def test_a_sweep_scores_an_eval_from_a_file_and_does_so_anew_when_it_changes(norm, tmp_path):
    points = grid.product(grid.over("hypers.p_bursty", (0.0, 1.0)), grid.seeds(1))

    def run(*files, **more):
        config = config_with(*files, **{f"evals.more.{name}": fields for name, fields in more.items()})
        config = cfg.override(config, {"hypers.p_bursty": 0.9, "seeds.init": 0, "seeds.data": 0})
        sheet = Sheet("tiny.py", "Tiny: a sweep.", config, points, [], {}, {})
        assert commands.run(sheet, tmp_path, Console(quiet=True), progress=False).done == 1
        return sheet

    def norms():
        table = results_table(Folder(tmp_path / "tiny"))
        rows = table.filter((pc.field("suite") == "norm") & (pc.field("step") == 20))
        return rows["value"].to_numpy(), table

    run()
    run(norm, norm={})
    first, table = norms()
    assert len(first) == 2 and len(set(table["cell"].to_pylist())) == 2, "nothing was trained again"
    assert commands.report([Folder(tmp_path / "tiny")], tmp_path / "page")
    norm.write_text(EVAL.replace("POWER = 1", "POWER = 2"))
    with pytest.warns(UserWarning, match="norm changed and is scored anew"):
        run(norm, norm={})
    np.testing.assert_allclose(norms()[0], 2 * first, rtol=1e-6)

    (job,) = open_sweep(run(norm, norm={}), tmp_path).jobs()
    forget()
    population = icl_jax.load_run(tmp_path / "tiny" / "populations" / job.id)
    np.testing.assert_allclose(population.array("norm", "norm").values, 2 * first, rtol=1e-6)
    assert icl_jax.evaluate(population, "norm").num_rows == 2
    norm.unlink()
    code = """
        import json, sys
        from icl_jax import registry
        from icl_jax.sweep.job import job_from_json
        job = job_from_json(json.loads(sys.stdin.read()))
        assert list(registry.components("eval"))[-1] == "norm", registry.components("eval")
    """
    text = json.dumps(job.to_json())
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=text, text=True, check=True)


def test_a_plugin_leaves_no_trace_in_a_config_that_does_not_name_it(core):
    plain = config_to_json(tiny_config())
    with_it = cfg.default_config(plugins=[core])
    assert "of_its_own" in with_it.hypers and config_to_json(tiny_config()) == plain
    assert plan_of(tiny_config()).config == plain | {"task": plan_of(tiny_config()).config["task"]}
    with pytest.raises(ValueError, match="unknown field 'of_its_own' in hypers"):
        cfg.override(tiny_config(), {"hypers.of_its_own": 0.1})


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = (", r"plugin .*bad\.py: SyntaxError"),
        ("1 / 0", r"plugin .*bad\.py: ZeroDivisionError: division by zero"),
        (CORE.replace('name="mean"', 'name="lstm"'), "there is a core 'lstm' already"),
    ],
)
def test_a_plugin_that_cannot_be_run_is_named_and_leaves_nothing(text, words, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    before, hypers = set(registry.components("core")), set(HYPERS)
    with pytest.raises(ValueError, match=words):
        cfg.default_config(plugins=[tmp_path / "bad.py"])
    assert set(registry.components("core")) == before and set(HYPERS) == hypers


def test_what_is_no_plugin_is_refused(core, tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.py cannot be read"):
        cfg.default_config(plugins=[tmp_path / "nothing.py"])
    with pytest.raises(ValueError, match="two plugins are called 'mean'"):
        cfg.default_config(plugins=[core, shutil.copy(core, tmp_path / "mean.py")])
    config = cfg.default_config()
    config.plugins = ("mine.py",)
    with pytest.raises(ValueError, match=r"name files in default_config\(plugins="):
        plan_of(config)
    assert config_to_json(cfg.default_config(plugins=[core]))["plugins"] == [
        {"path": str(core), "digest": plugins._digest(CORE)}
    ]


def test_an_edited_plugin_is_another_network_and_another_bank_in_the_same_process(core, tmp_path):
    bank = tmp_path / "few.py"
    bank.write_text(BANK)

    def built():
        config = config_with(core, bank, **MEAN, **{"bank.name": "few", "bank.num_classes": 0, "bank.dim": 64})
        experiment = prepare_experiment(config)
        inputs = jax.numpy.ones((1, 3, experiment.model._frontend.width))
        network = experiment.model._network(experiment.model.init(jax.random.key(0)))
        hidden = network.core(inputs, "all", Tap())
        return experiment.model, np.asarray(hidden), experiment.program.source.loaded.arrays["means"].max()

    first, before, low = built()
    core.write_text(CORE.replace("SCALE = 1.0", "SCALE = 3.0"))
    bank.write_text(BANK.replace("np.ones", "2 * np.ones"))
    second, after, high = built()
    assert first != second and (low, high) == (1, 2)
    np.testing.assert_allclose(after - 1, 3 * (before - 1), rtol=1e-5)


def test_two_plugins_may_declare_one_hyper(core, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(CORE.replace('name="mean"', 'name="other"'))
    for order in ((core, other), (other, core)):
        for path in order:
            plugins.load(path)
        for mine in order:
            assert cfg.default_config(plugins=[mine]).hypers.of_its_own == (0.5,)
        core.write_text(core.read_text() + "# edited\n")
        plugins.load(core)
        assert "of_its_own" in cfg.default_config(plugins=[other]).hypers
        assert "of_its_own" not in cfg.default_config().hypers
        forget()
        assert "of_its_own" not in cfg.default_config().hypers


def test_a_run_that_is_open_when_a_plugin_brings_a_hyper_can_be_looked_at(core, tmp_path):
    run = icl_jax.train(cfg.override(tiny_config(), {"train.num_steps": 0}), tmp_path / "run", progress=False)
    plugins.load(core)
    assert run.summary() and run.batch(2).targets.shape[0] == 2


def test_a_config_with_a_plugin_is_explained(core, tmp_path, capsys):
    file = tmp_path / "with.py"
    file.write_text(f"import icl_jax\ndef get_config():\n    return icl_jax.default_config(plugins=[{str(core)!r}])\n")
    cli.main(["icl", "config", str(file)])
    assert "hypers.of_its_own" in capsys.readouterr().out
