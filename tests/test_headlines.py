"""Headlines: what is shown of a run, from the config."""

import json

import numpy as np
import pytest
from tiny import tiny_config

import icl_jax
from icl_jax.headlines import Headline, headlines_of, shown_of
from icl_jax.report.figures import learning_figure
from icl_jax.report.table import final_table
from icl_jax.runs import config as cfg
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.runplan import config_from_json, config_to_json, plan_of
from icl_jax.storage.metrics import to_table

LOSS = {"title": "Loss on holdout", "eval": "fewshot_holdout", "metric": "loss"}
ALL_LABELS = {"title": "All labels", "eval": "no_support_zipfian", "metric": "accuracy_all"}
ALONG = {"title": "Third item", "eval": "along", "metric": "loss", "at": {"position": 2}}
LAST = {"title": "Query", "eval": "along", "metric": "accuracy", "at": {"position": 4}}


def config_with(*headlines, **changes):
    more = {"evals.more.along": {"use": "positions", "num_sequences": 32}, "model.labels": "interleaved"}
    return cfg.override(tiny_config(), {"evals.headlines": headlines, **more, **changes})


def test_without_any_they_are_the_accuracies_in_context_and_in_weights():
    config = tiny_config()
    expected = (Headline("ICL", "fewshot_holdout"), Headline("IWL", "no_support_zipfian"))
    assert headlines_of(config.evals) == plan_of(config).headlines == expected
    assert [headline.subject for headline in expected] == ["in-context accuracy", "in-weights accuracy"]
    old = {name: value for name, value in config_to_json(config)["evals"].items() if name != "headlines"}
    assert headlines_of(old) == expected, "a run of an earlier version"
    assert shown_of({"icl": "", "iwl": ""}) == (Headline("Loss", "train", "loss"),)


def test_their_order_survives_json():
    config = config_with(LOSS, ALONG, ALL_LABELS)
    found = headlines_of(config.evals)
    assert [headline.title for headline in found] == ["Loss on holdout", "Third item", "All labels"]
    assert found[1] == Headline("Third item", "along", "loss", (("position", 2),))
    assert headlines_of(config_from_json(json.loads(json.dumps(config_to_json(config)))).evals) == found


@pytest.mark.parametrize(
    "headlines, changes, words",
    [
        ([LOSS | {"eval": "fewshot_holdot"}], {}, "no eval 'fewshot_holdot' runs; did you mean 'fewshot_holdout'"),
        ([LOSS | {"metric": "los"}], {}, "'fewshot_holdout' has no metric 'los'; did you mean 'loss'"),
        ([LOSS | {"title": "along"}], {}, "the title 'along' is the name of an eval"),
        ([LOSS | {"title": " "}], {}, "has the title ' '; give it one"),
        ([LOSS | {"titel": "x"}], {}, "unknown field 'titel'; did you mean 'title'"),
        ([LOSS, LOSS], {}, "has two titled 'loss on holdout'"),
        ([ALONG | {"at": {}}], {}, r"is one number for each position; say at which \(position: 0, 1, 2, 3, 4\)"),
        ([ALONG | {"at": {"layer": 2}}], {}, "has no axis 'layer'; it has position"),
        ([ALONG | {"at": {"position": 9}}], {}, "has no position 9; it has 0, 1, 2, 3, 4"),
        ([LOSS | {"at": {"position": 1}}], {}, "has no axis 'position'; it has none"),
        (["loss"], {}, "'loss' is no headline; give"),
        ([ALONG | {"at": 3}], {}, "coordinates 3: give a label for each axis"),
        ([LOSS], {"evals.icl": "flipped"}, "evals.icl = 'flipped' is shown nowhere"),
    ],
)
def test_a_headline_that_cannot_be_is_refused(headlines, changes, words):
    with pytest.raises(ValueError, match=words):
        prepare_experiment(config_with(*headlines, **changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return icl_jax.train(config_with(LOSS, ALONG, LAST), tmp_path_factory.mktemp("shown") / "run", progress=True)


def test_a_run_shows_its_headlines(run, capsys):
    head = [cell.strip() for cell in run.summary().splitlines()[0].strip("|").split("|")]
    assert head == ["p_bursty", "Loss on holdout", "Third item", "Query", "seeds", "diverged"]
    row = [cell.strip() for cell in run.summary().splitlines()[2].strip("|").split("|")]
    of = lambda name, metric: run.array(name, metric).values[:2]  # two seeds of the first setting
    expected = (of("fewshot_holdout", "loss"), of("along", "loss")[:, 2], of("along", "accuracy")[:, 4])
    for text, values in zip(row[1:4], expected, strict=True):
        assert text == f"{np.mean(values):.2f} ({np.min(values):.2f}..{np.max(values):.2f})"
    again = icl_jax.train(run.config, run.directory, progress=True)
    printed = capsys.readouterr().out
    assert again.summary() == run.summary() and "loss on holdout" not in printed.lower().split("step 20/20")[0]


def test_its_log_says_them(tmp_path, capsys):
    icl_jax.train(config_with(LOSS, ALONG, **{"seeds.init": 0, "seeds.data": 0}), tmp_path / "run")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert lines and all("loss on holdout" in line and "third item" in line for line in lines)


def test_figure_and_table_of_any_headlines(run, tmp_path):
    headlines = shown_of(run.config.evals)
    for count in (1, 2, 3):
        how = {"title": "t", "headlines": headlines[:count], "group_by": ["p_bursty"]}
        assert all(path.stat().st_size > 5_000 for path in learning_figure(run.table, tmp_path / str(count), **how))
    about = {"suite": "train", "metric": "loss"}
    rows = [{"member": m, "step": s, **about, "value": 1 / (1 + s)} for m in (0, 1) for s in (1, 2)]
    text = final_table(to_table(rows), headlines=shown_of({"icl": "", "iwl": ""}))
    assert [cell.strip() for cell in text.splitlines()[0].split("|")[1:3]] == ["setting", "Loss"] and "0.33" in text
