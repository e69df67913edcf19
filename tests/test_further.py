"""Evals beside the suites in the report: from made-up results, without a run."""

import re

import numpy as np
import pyarrow as pa
import pytest
from sweep_table import results
from test_report import FOUR, HEADLINES, P, curve, make

from icl_jax.headlines import Headline
from icl_jax.report.dissection.settings import analyses, setting_sections
from icl_jax.report.further import further, reduced
from icl_jax.report.further_panels import MOST_MAPS
from icl_jax.report.page import write_report
from icl_jax.report.view import view

SEEDS = range(3)
LAYERS, SETS = (0, 1, 2), ("item", "label")


def value(labels, seed, step, place):
    """Grows with training, the setting and the place; differs by seed."""
    return (step > 0) * (1 + labels[P]) * (1 + sum(place)) + 0.1 * seed


def extra(metric, axes, labels=FOUR, name="flow", steps=(0, 1000)):
    """Rows of an eval: axes -> labels."""
    table = results(curve, labels, seeds=SEEDS, steps=(0, 1000))
    rows = []
    for cell in table.group_by(["cell", f"label/{P}", "seed/init"]).aggregate([]).to_pylist():
        head = {"cell": cell["cell"], f"label/{P}": cell[f"label/{P}"]}
        head |= {f"seed/{stream}": cell["seed/init"] for stream in ("init", "data", "eval")} | {"seed/split": 0}
        for step in steps:
            for place in np.ndindex(*map(len, axes.values())):
                coords = {axis: known[i] for (axis, known), i in zip(axes.items(), place, strict=True)}
                number = value({P: cell[f"label/{P}"]}, cell["seed/init"], step, place)
                rows.append(head | {"step": step, "suite": name, "metric": metric, **coords, "value": number})
    return rows


def sweep_with(*found, labels=FOUR):
    rows = results(curve, labels, seeds=SEEDS, steps=(0, 500, 1000)).to_pylist()
    rows += [row for one in found for row in one]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    return make(labels, seeds=SEEDS, table=table)


ALL = {
    "size": extra("size", {}),
    "by layer": extra("share", {"layer": LAYERS}),
    "by set": extra("mean", {"set": SETS}),
    "map": extra("flow", {"layer": LAYERS, "set": SETS}),
    "cube": extra("cube", {"layer": LAYERS, "set": SETS, "head": (0, 1)}),
    "files": extra("all", {"reduction": ("mean", "sd", "min", "max")}),
}


def test_values_are_those_at_the_end_of_each_run_by_setting():
    sweep = sweep_with(ALL["map"], ALL["size"])
    flow, size = sorted(further(sweep.table, view(sweep)), key=lambda one: one.metric)
    assert flow.axes == {"layer": [0, 1, 2], "set": ["item", "label"]} and size.axes == {}
    for spot, found in flow.final.items():
        for run, place in np.ndindex(3, 6):
            where = np.unravel_index(place, (3, 2))
            assert found[run][where] == pytest.approx(value({P: spot.value}, run, 1000, where))
    np.testing.assert_allclose(flow.untrained, 0.1, atol=1e-12)
    assert {spot.value: list(steps) for spot, (steps, _) in size.lines.items()} == {p: [0, 1000] for p in FOUR[P]}


def test_runs_that_did_not_come_to_their_end_do_not_count():
    late = [row for row in ALL["by layer"] if not (row["step"] == 1000 and row["seed/init"] == 2)]
    sweep = sweep_with(late)
    rows = [row for row in sweep.table.to_pylist() if not (row["seed/init"] == 2 and row["step"] > 500)]
    table = pa.Table.from_pylist(rows, schema=sweep.table.schema)
    shown = view(make(FOUR, seeds=SEEDS, table=table))
    (one,) = further(table, shown)
    assert {len(values) for values in one.final.values()} == {2}


def test_without_further_evals_the_page_is_as_it_was(tmp_path):
    sweep = sweep_with()
    assert further(sweep.table, view(sweep)) == []
    write_report([sweep], tmp_path)
    assert "Further" not in (tmp_path / "index.html").read_text()
    assert not list(tmp_path.glob("*further*"))


@pytest.mark.parametrize("labels", [FOUR, FOUR | {"width": (8.0, 16.0)}], ids=["one label", "two labels"])
def test_each_number_of_axes_has_its_figure_or_table(tmp_path, labels):
    sweep = sweep_with(*ALL.values()) if labels is FOUR else two_labels()
    paths = {path.name for path in write_report([sweep], tmp_path)}
    assert {"made-up-further-flow.png", "made-up-further-flow-flow.png"} <= paths, paths
    text = (tmp_path / "index.html").read_text()
    assert "flow, cube: over layer, set, head; mean over runs at the end" in text
    assert "flow, all: over all its numbers, which are in array files" in text
    shown = len(FOUR[P]) if labels is FOUR else MOST_MAPS
    assert len(re.findall("Heat map of flow of flow at", text)) >= shown
    assert ("6 of 8 settings, evenly spread" in text) == (labels is not FOUR)


def two_labels():
    """The same rows for two widths."""
    rows = sweep_with(*ALL.values()).table.to_pylist()
    both = [{**row, "cell": f"{row['cell']}{width}", "label/width": width} for row in rows for width in (8.0, 16.0)]
    labels = FOUR | {"width": (8.0, 16.0)}
    return make(labels, seeds=SEEDS, table=pa.Table.from_pylist(both))


def test_a_column_without_the_eval_says_so(tmp_path):
    rows = two_labels().table.to_pylist()
    lacks = lambda row: row["suite"] == "flow" and row["label/width"] == 16.0
    some = pa.Table.from_pylist([row for row in rows if not lacks(row)])
    write_report([make(FOUR | {"width": (8.0, 16.0)}, seeds=SEEDS, table=some)], tmp_path)
    assert (tmp_path / "index.html").read_text().count("not evaluated") >= 2


def test_reductions_are_over_all_axes_of_each_run():
    values = np.arange(24.0).reshape(2, 3, 4)
    assert {name: list(found) for name, found in reduced(values).items()} == {
        "mean": [5.5, 17.5],
        "sd": [pytest.approx(np.std(np.arange(12)))] * 2,
        "min": [0, 12],
        "max": [11, 23],
    }


# Headlines of one's own in the report --------------------------------------------------------------------


def test_a_report_shows_other_headlines(tmp_path):
    flow = Headline("Flow", "flow", "share", (("layer", 1),))
    own = (flow, HEADLINES[0], Headline("Label flow", "flow", "mean", (("set", "label"),)))
    sweep = sweep_with(ALL["by layer"], ALL["by set"])
    sweep = type(sweep)(**{**vars(sweep), "headlines": own})
    shown = view(sweep)
    assert [suite.bounded for suite in shown.suites] == [False, True, False] and shown.plane == ()
    write_report([sweep], tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "Flow: share, flow (layer 1); ICL: headline_icl; Label flow: mean, flow (set label)." in text
    assert "Trade-off" not in text and "In-context learning (headline_icl)" in text
    assert "Further eval: flow" in text, "the other labels of its axes"


def test_analyses_are_drawn_for_each_setting_and_nowhere_else(tmp_path):
    """Readout: figures of a dissected run, whose members are the seeds of a setting."""
    prediction, layer = {"prediction": ("raw", "calibrated")}, {"layer": LAYERS}
    auc = extra("auc", {**prediction, "anchors": ("label", "near"), **layer}, name="late")
    sweep = sweep_with(auc, extra("cumulative", {**prediction, **layer}, name="late"), ALL["by layer"])
    sweep.config["evals"]["more"] = {"late": {"use": "readout"}, "flow": {"use": "positions"}}
    shown = view(sweep)
    sections = setting_sections(further(sweep.table, shown), analyses(sweep.config), shown)
    assert [section.plate.name for section in sections] == [f"late-{k}" for k in range(4)]
    assert sections[1].plate.title == "Readout of labels: late (p_bursty 4)"
    assert all("Mean over 3 members" in section.plate.caption for section in sections)
    paths = {path.name for path in write_report([sweep], tmp_path)}
    assert {"made-up-late-0.png", "made-up-late-3.svg"} <= paths
    assert any("further-flow" in name for name in paths) and not any("further-late" in name for name in paths)
    assert "Readout of labels: late (p_bursty 8)" in (tmp_path / "index.html").read_text()
