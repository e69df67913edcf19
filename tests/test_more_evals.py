"""Evals beside the suites, from the config: when they run, where their results go, what they are refused for."""

import json

import numpy as np
import plugins
import pyarrow.compute as pc
import pytest
from rich.console import Console
from tiny import tiny_config

import icl_jax
from icl_jax import cli, grid, registry
from icl_jax.evals import named
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.runplan import config_from_json, config_to_json, eval_digests, eval_spec
from icl_jax.storage.arrays import ArrayFiles, Labelled
from icl_jax.storage.sealed import DamagedFile
from icl_jax.sweep import commands
from icl_jax.sweep.estimate import cost_of
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.results import results_table
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.sweep import open_sweep
from icl_jax.training.population import TRACES

MORE = {"by_position": {}, "later": {"use": "by_position", "every": 40, "start": 3}, "logits": {"every": 40}}


@pytest.fixture(scope="module", autouse=True)
def own_components():
    with plugins.registered():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    before = TRACES["evaluate"]
    found = icl_jax.train(plugins.stream_config(**more(MORE)), tmp_path_factory.mktemp("more") / "run", progress=False)
    assert TRACES["evaluate"] == before + 2, "one program for each interval"
    return found


def more(evals: dict) -> dict:
    return {f"evals.more.{name}": fields for name, fields in evals.items()}


def rows_of(table, name, step=None):
    rows = table.filter(pc.field("suite") == name)
    return rows if step is None else rows.filter(pc.field("step") == step)


def test_an_eval_runs_when_it_is_due_and_its_rows_have_its_axes(run):
    steps = {name: sorted(set(rows_of(run.table, name)["step"].to_pylist())) for name in MORE}
    assert steps == {"by_position": [0, 20, 40], "later": [0, 40], "logits": [0, 40]}
    bits = run.array("by_position", "bits")
    assert bits.axes == ("position",) and bits.coords["position"] == tuple(range(plugins.LENGTH))
    assert bits.values.shape == (3, plugins.LENGTH)
    np.testing.assert_allclose(run.array("by_position", "mean").values, bits.values.mean(1), rtol=1e-6)
    later = run.array("later", "bits").values
    assert np.abs(later - bits.values).max() > 1e-4, "its option has another first token"


def test_evaluate_gives_the_same_numbers_anew_and_all_of_them(run):
    table = icl_jax.evaluate(run)
    for name in ("by_position", "later"):
        mine, there = rows_of(table, name), rows_of(run.table, name, 40)
        assert mine.num_rows == there.num_rows == 3 * (plugins.LENGTH + 1)
        np.testing.assert_allclose(mine["value"].to_numpy(), there["value"].to_numpy(), rtol=1e-5)
    assert rows_of(table, "logits").num_rows == 3 * 3 * 600 * plugins.VOCAB and "reduction" not in table.column_names
    one = icl_jax.evaluate(run, "by_position", step=20)
    assert set(one["suite"].to_pylist()) == {"by_position"} and set(one["step"].to_pylist()) == {20}


def test_what_is_too_large_for_the_table_lies_beside_it(run):
    found = run.array("logits", "logits", 40)
    assert found.axes == ("stream", "position", "token") and found.values.shape == (3, 3, 600, plugins.VOCAB)
    assert found.coords["stream"] == ("a", "b", "c")
    rows = rows_of(run.table, "logits", 40).to_pylist()
    assert len(rows) == 3 * 4
    reduce = {"mean": np.mean, "sd": np.std, "min": np.min, "max": np.max}
    for row in rows:
        assert row["value"] == pytest.approx(float(reduce[row["reduction"]](found.values[row["member"]])), rel=1e-5)
    with pytest.raises(ValueError, match=r"logits was not measured at step 20, but at \[0, 40\]"):
        run.array("logits", "logits", 20)
    with pytest.raises(ValueError, match="has no metric 'logit'; did you mean 'logits'"):
        run.array("logits", "logit")
    with pytest.raises(ValueError, match="no 'by_positon' was measured; did you mean 'by_position'"):
        run.array("by_positon", "bits")


def test_a_killed_run_ends_with_the_same_rows_and_files(run, tmp_path, monkeypatch):
    """The host dies after step 40 was evaluated and before it was saved."""
    write = ArrayFiles.write

    def dies(self, name, metric, step, found):
        write(self, name, metric, step, found)
        if step == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(ArrayFiles, "write", dies)
    config = plugins.stream_config(**more(MORE))
    with pytest.raises(KeyboardInterrupt):
        icl_jax.train(config, tmp_path / "run", progress=False)
    files = ArrayFiles(tmp_path / "run" / "metrics" / "arrays")
    assert [step for *_, step in files.there()] == [0, 40]
    monkeypatch.setattr(ArrayFiles, "write", write)
    again = icl_jax.train(config, tmp_path / "run", progress=False)
    assert again.table.equals(run.table)
    np.testing.assert_array_equal(again.array("logits", "logits").values, run.array("logits", "logits").values)
    with pytest.raises(ValueError, match="has measurements of later with other fields"):
        icl_jax.train(cfg.override(config, {"evals.more.later.start": 4}), tmp_path / "run", progress=False)


def test_a_sweep_scores_anew_what_changed_on_the_checkpoints_that_were_kept(tmp_path):
    points = grid.product(grid.over("hypers.p_jump", (0.1, 0.3)), grid.seeds(1))

    def table(**start):
        config = plugins.stream_config(**more({"by_position": start, "logits": {"every": 40}}), **{"seeds.data": 0})
        sheet = Sheet("stream.py", "Stream: a sweep.", config, points, [], {}, {})
        assert commands.run(sheet, tmp_path, Console(quiet=True), progress=False).done == 1
        return results_table(Folder(tmp_path / sheet.name)), sheet

    first, sheet = table()
    (job,) = open_sweep(sheet, tmp_path).jobs()
    arrays = 2 * 2 * 3 * 600 * plugins.VOCAB * 4
    assert arrays < cost_of(job).disk - 4 * 10_000, "array files are part of what a sweep takes"
    with pytest.warns(UserWarning, match="by_position changed and is scored anew"):
        second, _ = table(start=2)
    for name, same in (("logits", True), ("train", True), ("by_position", False)):
        old, new = (rows_of(t, name, 40)["value"].to_numpy() for t in (first, second))
        assert len(old) == len(new) and np.array_equal(old, new) == same, name
    assert sorted(set(rows_of(second, "by_position")["step"].to_pylist())) == [20, 40], "those that were kept"


# What is refused, before anything is compiled ---------------------------------------------------------------


@pytest.mark.parametrize(
    "evals, words",
    [
        ({"by_positon": {}}, "evals.more.by_positon: unknown eval 'by_positon'; did you mean 'by_position'"),
        ({"a": {"use": "by_position", "strat": 1}}, "evals.more.a has no field 'strat'; did you mean 'start'"),
        ({"by_position": {"start": -1}}, "evals.more.by_position.start -1 must be at least 0"),
        ({"by_position": {"start": "one"}}, "evals.more.by_position.start 'one' is no int"),
        ({"by_position": {"every": 30}}, r"must be a multiple of evals.every \(20\) that divides .*use one of 20, 40"),
        ({"by_position": {"every": True}}, "every = True: give whole steps"),
        ({"by_position": 3}, "by_position = 3: give its fields"),
        ({"train": {"use": "by_position"}}, "'train' has a meaning in the table"),
        ({"a b": {"use": "by_position"}}, "the name of an eval, 'a b' is no plain file name"),
    ],
)
def test_an_eval_that_cannot_be_is_refused(evals, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(plugins.stream_config(**more(evals)))


class Odd(plugins.ByPosition):
    pass


@pytest.mark.parametrize(
    "odd, words",
    [
        ({"axes": {"bits": ("step",)}, "coords": {"step": (1,)}}, "axis 'step' of bits is called as a column"),
        ({"axes": {"bits": ("place",)}}, "axis 'place' of bits has no labels"),
        ({"axes": {"bits": ("place",)}, "coords": {"place": (1, 1)}}, "axis 'place' of bits has the same label twice"),
    ],
)
def test_axes_that_the_table_cannot_have_are_refused(odd, words, monkeypatch):
    for field, value in odd.items():
        monkeypatch.setattr(Odd, field, value, raising=False)
    with pytest.raises(ValueError, match=words):
        prepare_experiment(plugins.stream_config(), (Odd(),))


def test_a_metric_in_array_files_is_no_headline():
    shown = (
        {"title": "Logit", "eval": "logits", "metric": "logits", "at": {"stream": "a", "position": 0, "token": 1}},
    )
    with pytest.raises(ValueError, match="has more than 10,000 numbers, which are in array files"):
        prepare_experiment(plugins.stream_config(**more({"logits": {}}), **{"evals.headlines": shown}))


def test_two_evals_of_one_name_and_reserved_options_are_refused():
    with pytest.raises(ValueError, match="two evals are called 'by_position'"):
        prepare_experiment(plugins.stream_config(**more({"by_position": {}})), (plugins.ByPosition(),))
    with pytest.raises(ValueError, match="declares option 'every', which every eval has"):
        option = plugins.BY_POSITION.options["start"]
        registry.register(
            registry.EvalComponent(role="eval", name="x", doc="", build=lambda *a: None, options={"every": option})
        )


def test_digests_follow_what_decides_the_numbers_and_survive_json():
    config = plugins.stream_config(**more(MORE))
    digests = eval_digests(eval_spec(config))
    assert set(digests) == set(MORE) and len(set(digests.values())) == 3
    assert digests == eval_digests(eval_spec(config_from_json(json.loads(json.dumps(config_to_json(config))))))
    oftener = cfg.override(config, {"evals.more.later.every": 20, "evals.more.by_position.start": 0})
    assert eval_digests(eval_spec(oftener)) == digests, "when it runs and a default that is said change no number"
    assert named.parse("later", MORE["later"]).options == (("start", 3),)


# Array files ------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    made = ArrayFiles(tmp_path / "arrays")
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for step in (0, 5, 10):
        coords = {"layer": (np.int64(0), 1, 2), "set": ("a", "b", "c", "d")}
        made.write("flow", "mean", step, Labelled(values + step, ("layer", "set"), coords))
    return made


def test_array_files_give_back_what_was_written_and_end_where_a_run_does(files):
    found = files.read("flow", "mean", 5)
    assert found.axes == ("layer", "set") and found.coords == {"layer": (0, 1, 2), "set": ("a", "b", "c", "d")}
    assert found.values.dtype == np.float32 and found.values[1, 2, 3] == 28
    files.truncate_after(5)
    assert files.there() == [("flow", "mean", 0), ("flow", "mean", 5)]
    part = ArrayFiles(files.directory.parent / "part")
    files.hand_down(part, np.array([1]))
    np.testing.assert_array_equal(part.read("flow", "mean", 5).values, found.values[1:])
    files.drop(["flow"])
    assert files.there() == []
    with pytest.raises(DamagedFile, match="is missing; score that step anew"):
        files.read("flow", "mean", 5)


def test_no_flipped_bit_gives_other_numbers(files):
    path = files.directory / "flow" / "mean-000000005.npz"
    whole, right = path.read_bytes(), files.read("flow", "mean", 5)
    noticed = 0
    for place in np.random.default_rng(0).choice(len(whole), 60, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        try:
            found = files.read("flow", "mean", 5)
        except DamagedFile:
            noticed += 1
            continue
        np.testing.assert_array_equal(found.values, right.values)
        assert found.coords == right.coords and found.axes == right.axes
    assert noticed > 30


def test_results_of_other_sizes_than_their_labels_are_refused(run, monkeypatch):
    monkeypatch.setattr(plugins.ByPosition, "finish", lambda self, values: {"bits": values["nats"][:, :2]})
    with pytest.raises(ValueError, match=r"bits has shape \(2,\) per member, and the labels of its axes .* are \(6,\)"):
        icl_jax.evaluate(run, "by_position")


# The package's own eval: along the context ------------------------------------------------------------------


def test_at_the_query_positions_are_the_suites_own_numbers(tmp_path, capsys):
    """The same sequences, by name and number; the first item has nothing before it."""
    changes = {"evals.num_sequences": 64, "model.labels": "interleaved"} | more({"positions": {"num_sequences": 64}})
    run = icl_jax.train(cfg.override(tiny_config(), changes), tmp_path / "run", progress=False)
    for metric, of_suite in (("loss", "loss"), ("accuracy", "accuracy_all")):
        mine, there = run.array("positions", metric).values, run.array("fewshot_holdout", of_suite).values
        np.testing.assert_allclose(mine[:, -1], there, rtol=1e-5, atol=1e-6)
    seen = run.array("positions", "seen").values
    assert (seen[:, 0] == 0).all() and (seen[:, -1] == 1).all() and (np.diff(seen, axis=1) >= 0).all()
    cli.main(["icl", "eval", str(run.directory), "--suites=positions"])
    printed = capsys.readouterr().out
    assert "position 4" in printed and "fewshot_holdout" in printed
    with pytest.raises(ValueError, match=r"only the query is predicted; use model\.labels 'interleaved'"):
        prepare_experiment(cfg.override(tiny_config(), more({"positions": {}})))
    with pytest.raises(ValueError, match=r"only the query is predicted; use model\.pair_order 'item_first'"):
        prepare_experiment(cfg.override(tiny_config(), changes | {"model.pair_order": "label_first"}))
    with pytest.raises(ValueError, match=r"looks at suite 'flipped', which is not among evals\.suites"):
        prepare_experiment(cfg.override(tiny_config(), changes | {"evals.more.positions.suite": "flipped"}))


def test_an_eval_means_something_else_when_the_suite_that_it_looks_at_does():
    config = cfg.override(tiny_config(), more({"positions": {"suite": "own"}}))
    digest = lambda **own: eval_digests(eval_spec(cfg.override(config, {"evals.custom.own": own})))["positions"]
    assert digest(ways=2) == digest() != digest(ways=1)
