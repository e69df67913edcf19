"""Laws of the curves, the figure and the table at the end of a run."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from icl_jax.data.banks import load_bank
from icl_jax.headlines import Headline
from icl_jax.report.curves import curves
from icl_jax.report.figures import _colours, learning_figure
from icl_jax.report.pictures import bank_figure
from icl_jax.report.style import log_spaced, short_number
from icl_jax.report.table import final_table, rich_table
from icl_jax.spec import BankSpec
from icl_jax.storage.metrics import to_table

STEPS = np.arange(0, 4001, 200)
SUITES = {"headlines": (Headline("ICL", "icl"), Headline("IWL", "iwl"))}


def rise_and_fall(p: float, steps: np.ndarray, draw) -> tuple[np.ndarray, np.ndarray]:
    """ICL that rises and is transient for 0 < p < 1, and IWL that rises as far as p lets it."""
    onset = 0.2 * steps[-1] / (p + 0.3)
    rise = 1 / (1 + np.exp(-(steps - onset) / (0.03 * steps[-1])))
    fall = np.exp(-np.maximum(steps - 1.5 * onset, 0) * (1 - p) / steps[-1])
    icl = 0.5 + 0.49 * p**0.4 * rise * fall
    iwl = (1 - p) ** 0.6 * 0.97 * (1 - np.exp(-4 * steps / steps[-1]))
    return icl + draw.normal(size=steps.size) * 0.01, iwl


def make_table(settings=(0.0, 0.5, 0.9, 1.0), seeds: int = 2, steps=STEPS, dies=(), bounds=(0.5, 1.0)):
    """A tidy table like a run's; `dies`: members that diverge half way."""
    rows, member, draw = [], 0, np.random.default_rng(0)
    for p in settings:
        for seed in range(seeds):
            icl, iwl = rise_and_fall(p, steps, draw)
            if member in dies:
                icl[len(steps) // 2 :] = iwl[len(steps) // 2 :] = np.nan
            base = {"member": member, "hyper/p_bursty": p, "hyper/ways": 2.0, "seed/init": seed}
            for k, step in enumerate(steps):
                share = (icl[k] - bounds[0]) / (bounds[1] - bounds[0])
                numbers = {"accuracy": icl[k], "floor": bounds[0], "ceiling": bounds[1], "share": share}
                found = [("icl", m, v) for m, v in numbers.items()] + [("iwl", "accuracy", iwl[k])]
                dead = member in dies and k >= len(steps) // 2
                found.append(("train", "diverged", steps[len(steps) // 2] - 1 if dead else -1))
                rows += [{**base, "step": int(step), "suite": s, "metric": m, "value": float(v)} for s, m, v in found]
            member += 1
    return to_table(rows)


def test_curves_are_the_values_by_setting_and_seed():
    data = curves(make_table(), "icl", "accuracy", ["p_bursty"])
    assert list(data.values) == [(0.0,), (0.5,), (0.9,), (1.0,)] and np.array_equal(data.steps, STEPS)
    draw = np.random.default_rng(0)
    for p in (0.0, 0.5):
        expected = np.stack([rise_and_fall(p, STEPS, draw)[0] for _ in range(2)])
        np.testing.assert_array_equal(data.values[(p,)], expected)
        np.testing.assert_allclose(data.mean((p,)), expected.mean(0), rtol=1e-12)
    together = curves(make_table(), "icl", "accuracy", [])
    assert list(together.values) == [()] and together.values[()].shape == (8, STEPS.size)


def test_rows_with_coordinates_are_no_curve():
    rows = make_table(settings=(0.5,), seeds=1).to_pylist()
    layers = [{**row, "layer": layer, "value": 9.0} for row in rows for layer in (0, 1)]
    plain, mixed = (curves(to_table(r), "icl", "accuracy", []) for r in (rows, rows + layers))
    np.testing.assert_array_equal(plain.values[()], mixed.values[()])


def test_a_diverged_seed_leaves_the_mean_of_the_others():
    data = curves(make_table(dies=(2,)), "icl", "accuracy", ["p_bursty"])
    np.testing.assert_array_equal(data.mean((0.5,))[-1], data.values[(0.5,)][1, -1])


def test_a_frozen_member_has_no_values_after_it_diverged():
    """A diverged member keeps its last good parameters, and so goes on to score; that is not shown."""
    rows = make_table().to_pylist()
    first = {row["member"]: row for row in rows if row["step"] == 4000}
    rows += [{**first[m], "suite": "train", "metric": "diverged", "value": v} for m, v in ((2, 1000.0), (3, -1.0))]
    one, other = curves(to_table(rows), "icl", "accuracy", ["p_bursty"]).values[(0.5,)]
    assert np.isnan(one[STEPS > 1000]).all() and np.isfinite(one[STEPS <= 1000]).all()
    assert np.isfinite(other).all()
    text = final_table(to_table(rows), group_by=["p_bursty"], **SUITES)
    assert [line.split("|")[-2].strip() for line in text.splitlines()[2:]] == ["0", "1", "0", "0"]


@pytest.mark.parametrize("num_settings", [2, 4, 16])
def test_colours_are_ordered_in_lightness_and_apart(num_settings):
    colours = np.array(list(_colours([(float(i),) for i in range(num_settings)]).values()))[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0.01).all() and lightness.max() < 0.75


def test_log_spaced_steps_are_recognised():
    assert log_spaced(np.geomspace(10, 1e5, 20).astype(int))
    assert not log_spaced(STEPS[1:]) and not log_spaced(np.array([1, 10, 100])) and not log_spaced(STEPS[:0])
    assert [short_number(v) for v in (0, 500, 1500, 2e6)] == ["0", "500", "1.5k", "2M"]


FIGURES = {
    "quickstart": {},
    "one run": {"settings": (0.9,), "seeds": 1},
    "sixteen": {"settings": tuple(np.linspace(0, 1, 16)), "seeds": 1, "bounds": (0.25, 0.9)},
    "diverged": {"dies": (0, 1, 4)},
    "log steps": {"steps": np.r_[0, np.geomspace(10, 1e5, 12).astype(int)]},
    "one step": {"steps": np.array([100])},
}


@pytest.mark.parametrize("case", FIGURES)
def test_figure_is_drawn_for_any_run(tmp_path, case):
    before = dict(matplotlib.rcParams)
    group_by = [] if case == "one run" else ["p_bursty"]
    paths = learning_figure(make_table(**FIGURES[case]), tmp_path / "learning", title=case, group_by=group_by, **SUITES)
    assert [path.name for path in paths] == ["learning.png", "learning.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learning.png", "learning.svg"]
    with Image.open(paths[0]) as image:
        assert image.width >= 1900
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[:, [0, -1]] == 255).all() and (pixels[[0, -1]] == 255).all()  # nothing runs off the page
    assert dict(matplotlib.rcParams) == before


def test_the_same_table_gives_the_same_files(tmp_path):
    table = make_table()
    draw = lambda name: learning_figure(table, tmp_path / name, title="t", group_by=["p_bursty"], **SUITES)
    for first, second in zip(draw("a"), draw("b"), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_suite_that_was_not_evaluated_leaves_its_panel_empty(tmp_path):
    options = {"headlines": (Headline("ICL", "icl"), Headline("IWL", "nothing")), "group_by": ["p_bursty"]}
    assert len(learning_figure(make_table(), tmp_path / "f", title="t", **options)) == 2
    assert "| 0.9 " in final_table(make_table(), **options)


def test_final_table_has_the_numbers():
    text = final_table(make_table(dies=(2,)), group_by=["p_bursty"], **SUITES)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == ["p_bursty", "ICL", "of the way", "IWL", "peak ICL", "at step", "seeds", "diverged"]
    rows = {line[0]: line for line in lines[2:]}
    assert list(rows) == ["0", "0.5", "0.9", "1"]
    assert [rows[p][7] for p in rows] == ["0", "1", "0", "0"] and rows["0.5"][6] == "2"
    icl = curves(make_table(), "icl", "accuracy", ["p_bursty"])
    alive = icl.values[(0.5,)][1]
    assert rows["0.5"][1] == f"{alive[-1]:.2f}" and rows["0.5"][4] == f"{alive.max():.2f}"
    assert rows["0.5"][5] == str(STEPS[alive.argmax()])
    last = icl.values[(0.9,)][:, -1]
    assert rows["0.9"][1] == f"{last.mean():.2f} ({last.min():.2f}..{last.max():.2f})"
    assert rows["0.9"][2].startswith(f"{200 * (last.mean() - 0.5):.0f}%")
    shown = rich_table(make_table(dies=(2,)), group_by=["p_bursty"], **SUITES)
    assert [column.header for column in shown.columns] == lines[0] and shown.row_count == 4


def test_a_value_that_was_not_measured_is_no_divergence():
    rows = make_table().to_pylist()
    last = lambda row: row["suite"] == "icl" and row["metric"] == "accuracy" and row["step"] == STEPS[-1]
    unmeasured = to_table([row | ({"value": float("nan")} if last(row) else {}) for row in rows])
    text = final_table(unmeasured, group_by=["p_bursty"], **SUITES)
    assert all(line.strip("| ").endswith(" 0") for line in text.splitlines()[2:]), "NaN alone is no divergence"


def test_a_bank_has_its_contact_sheet(tmp_path):
    np.save(tmp_path / "items.npy", np.random.default_rng(0).normal(size=(5, 3, 4)))
    banks = {
        "glyphs": (BankSpec("glyphs", image_size=14, num_classes=6, num_exemplars=4), 3),
        "gaussian": (BankSpec("gaussian", num_classes=6, dim=8), 1),
        "symbols": (BankSpec("symbols", num_classes=3), 1),
        "embeddings": (BankSpec("embeddings", path=str(tmp_path / "items.npy")), 3),
    }
    for name, (spec, columns) in banks.items():
        path = bank_figure(load_bank(spec), spec, tmp_path / "pictures" / f"{name}.png", classes=4, exemplars=3)
        pixels = np.asarray(Image.open(path).convert("L"))
        dark = (pixels < 230).any(1)
        rows = (np.diff(dark.astype(int)) == 1).sum()  # the title, and a row of cells per class
        assert rows == 1 + min(4, load_bank(spec).num_classes), name
        assert pixels.shape[1] > 60 * columns
