"""Laws of the figures of a dissected run: series by name, what is not there left out, a page of what there is."""

import re

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_jax.report.dissection.arcs import MOST_ARCS, MOST_TOKENS, Prompt, arcs_section, shown, strongest
from icl_jax.report.dissection.confusion import confusion_section
from icl_jax.report.dissection.edges import edges_section, windows_of
from icl_jax.report.dissection.flow import flow_section
from icl_jax.report.dissection.look import CUTS, flow_colours
from icl_jax.report.dissection.methods import methods_section
from icl_jax.report.dissection.numbers import spread, take
from icl_jax.report.dissection.page import dissection_page
from icl_jax.report.dissection.readout import readout_section
from icl_jax.report.dissection.training import training_sections
from icl_jax.report.dissection.write import sections_of, write_dissection
from icl_jax.report.panels import FILE_STYLE, panel_svg
from icl_jax.storage.arrays import Labelled

FLOWS = ("earlier -> label", "label -> query", "rest")  # text labels are sorted, as a table gives them
LAYERS = tuple(range(4))
TOKENS = ("<|im_start|>", "Review", " :", " good & $x$", "\n", "Ġpos", " :")


def labelled(members: int, seed: int, **coords: tuple) -> Labelled:
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (members, *map(len, coords.values())))
    return Labelled(values, tuple(coords), coords)


def flow(members: int = 3) -> dict[str, Labelled]:
    ratio = {"control": ("near", "random"), "flow": FLOWS, "layer": LAYERS}
    found = {
        "share": labelled(members, 0, anchors=("label", "near", "random"), flow=FLOWS, layer=LAYERS),
        "log_ratio": labelled(members, 1, **ratio),
        "log_ratio_se": labelled(members, 2, **ratio),
    }
    found["log_ratio"].values[:, :, 0, -1] = np.nan  # into labels nothing flows in the last layer
    return found


def edges(members: int = 3, layers: tuple = ("all", "first 2")) -> dict[str, Labelled]:
    axes = {
        "cut": ("edges", "label", "near", "random"),
        "edge": ("earlier -> label", "item -> query"),
        "layers": layers,
    }
    found = {}
    for seed, name in enumerate(("label_loyalty", "log_odds", "word_loyalty")):
        more = {"words": (5, 10)} if name == "word_loyalty" else {}
        found[name], found[f"{name}_se"] = labelled(members, seed, **axes, **more), labelled(members, 9, **axes, **more)
        found[name].values[:, 2:, 1] = np.nan  # an edge without labels has no near tokens
    return found


def readout(members: int = 3) -> dict[str, Labelled]:
    prediction = ("calibrated", "raw")
    found = {
        "auc": labelled(members, 3, anchors=("label", "near"), layer=LAYERS, prediction=prediction),
        "cumulative": labelled(members, 4, layer=LAYERS, prediction=prediction),
    }
    found["auc"].values[..., 1] = np.nan
    found["cumulative"].values[:] = np.nan
    return found


def answers(members: int = 3) -> dict[str, Labelled]:
    scores = {name: labelled(members, 5) for name in ("accuracy", "calibrated_accuracy", "auc")}
    return scores | {name: labelled(members, 6, **{"class": ("No", "Yes")}) for name in ("predicted", "right")}


def axes_of(panel) -> Axes:
    with matplotlib.rc_context(FILE_STYLE):
        axes = Figure().add_subplot()
        panel.draw(axes)
    return axes


def lines(axes: Axes) -> dict[tuple[str, bool], np.ndarray]:
    """Values of the lines by colour and whether they are dashed, but for levels."""
    drawn = [line for line in axes.lines if len(line.get_xdata()) == len(LAYERS)]
    return {(line.get_color(), line.get_linestyle() != "-"): np.asarray(line.get_ydata()) for line in drawn}


def shuffled(found: dict[str, Labelled]) -> dict[str, Labelled]:
    """The same numbers with the text labels the other way round."""

    def turned(one: Labelled) -> Labelled:
        text = [axis for axis in one.axes if isinstance(one.coords[axis][0], str)]
        values = np.flip(one.values, [1 + one.axes.index(axis) for axis in text])
        return Labelled(values, one.axes, {a: one.coords[a][:: -1 if a in text else 1] for a in one.axes})

    return {name: turned(one) for name, one in found.items()}


def test_numbers_are_taken_by_name_and_what_is_not_there_is_named():
    one = labelled(2, 0, cut=("label", "near"), layer=(0, 1, 2), words=(5, 10))
    got = take(one, "words", "layer", cut="near")
    assert (got == one.values[:, 1].swapaxes(1, 2)).all()
    with pytest.raises(ValueError, match=r"cut 'far'.*label, near"):
        take(one, "words", "layer", cut="far")
    with pytest.raises(ValueError, match="axes layer, cut: the array has cut, layer, words"):
        take(one, "layer", cut="near")


def test_an_interval_is_over_members_and_of_one_member_over_its_prompts():
    values = np.array([[0.2, np.nan], [0.4, 0.5]])
    mean, low, high = spread(values)
    assert mean == pytest.approx([0.3, 0.5]) and low[0] == pytest.approx(0.3 - 12.706 * 0.1, abs=1e-3)
    mean, low, high = spread(values[1:], np.array([[0.1, 0.2]]))
    assert (high - mean) == pytest.approx(1.96 * np.array([0.1, 0.2]))
    assert np.isnan(spread(values[1:])[1]).all()


def test_flows_are_drawn_by_labels_and_by_near_tokens_and_their_ratio_with_names():
    found = flow()
    section = flow_section(found["share"], found["log_ratio"], found["log_ratio_se"])
    (shares, ratios), colours = section.plate.rows[0], flow_colours(FLOWS)
    drawn = lines(axes_of(shares))
    for f, name in enumerate(FLOWS):
        for a, dashed in ((0, False), (1, True)):
            assert drawn[colours[name], dashed] == pytest.approx(found["share"].values[:, a, f].mean(0))
    axes = axes_of(ratios)
    into = lines(axes)[colours["earlier -> label"], False]
    assert np.isnan(into[-1]) and np.isfinite(into[:-1]).all()
    named = {text.get_text() for text in axes.texts}
    assert named == {"earlier → label", "label → query", "rest", "as near tokens"}


@pytest.mark.parametrize("make", [flow, edges, readout])
def test_labels_may_come_in_any_order(make):
    drawn = []
    for found in (make(), shuffled(make())):
        (section,) = sections_of({(make.__name__, metric): one for metric, one in found.items()})
        panels = sorted((panel for row in section.plate.rows for panel in row), key=lambda panel: panel.alt)
        drawn.append([(panel.alt, axes_of(panel)) for panel in panels])
    for (alt, axes), (other_alt, other) in zip(*drawn, strict=True):
        assert alt == other_alt
        points = [{(*map(tuple, np.round(line.get_xydata(), 9)),) for line in a.lines} for a in (axes, other)]
        assert repr(sorted(points[0], key=repr)) == repr(sorted(points[1], key=repr))


def test_a_cut_that_an_edge_has_not_is_left_out():
    found = edges()
    section = edges_section(found)
    first, second = ([axes_of(panel) for panel in row] for row in section.plate.rows)
    colours = lambda axes: {line.get_color() for line in axes.lines if line.get_marker() not in ("None", None)}
    assert colours(first[0]) == {key.colour for key in CUTS.values()}
    assert colours(second[0]) == {CUTS["label"].colour, CUTS["edges"].colour}
    words = section.plate.rows[0][1]
    assert words.title == "earlier → label" and "top 5" in words.title + words.alt
    of_label = f"{found['word_loyalty'].values[:, 1, 0, 1, 0].mean():.2f}"  # first 2 comes before all
    assert f"the edge itself: {of_label}" in words.alt
    assert len(section.keys) == len(CUTS)


def test_windows_stand_in_the_order_of_their_layers():
    windows = windows_of(("0", "1", "10", "11", "2", "3", "4", "all", "first 5", "last 5"))
    assert windows.curve == ("0", "1", "2", "3", "4", "10", "11")
    assert windows.dots == ("first 5", "last 5", "all")
    places = [windows[name] for name in (*windows.curve, *windows.dots)]
    assert places == sorted(places) and min(np.diff(places)) > 0
    assert windows_of(("0-4", "1-5", "all")).dots == ("0-4", "1-5", "all")  # few: no curve


def test_where_there_is_no_auc_and_no_r_it_is_said():
    found = readout()
    raw, calibrated, sums = (axes_of(p) for p in readout_section(found["auc"], found["cumulative"]).plate.rows[0])
    assert "no AUC" in raw.texts[0].get_text() and not raw.lines
    assert len(lines(calibrated)) == 2 and "chance" in {text.get_text() for text in calibrated.texts}
    assert "no R" in sums.texts[0].get_text() and not sums.lines


def test_two_classes_have_a_map_and_no_correlation():
    scores = np.array([[0.3, 0.8], [0.8, np.nan]])
    section = confusion_section(scores, scores, ("<no>", "yes"))
    assert "too few pairs" in section.plate.caption
    axes = axes_of(section.plate.rows[0][0])
    assert [text.get_text() for text in axes.texts] == ["-", "0.80", "0.80", "-"]
    tested = confusion_section(scores, scores, ("no", "yes"), 0.5, (0.02, np.nan, 0.3))
    assert "0.50; p by permutation of the classes: 0.020, 0.300." in tested.plate.caption


def test_methods_stand_by_the_first_metric_below_the_reference():
    values = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.4]])
    section = methods_section("m", "Methods", "", ("a", "b", "c"), {"x": values, "y": 1 - values}, "a", ("b",))
    axes = axes_of(section.plate.rows[0][0])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    assert list(axes.lines[0].get_xdata()) == pytest.approx([0.15, 0.15])  # the reference
    assert [key.name for key in section.keys] == ["reference", "anchors", "controls"]
    assert "0.850" in section.tables[0]


def prompt(scale: float = 1.0) -> Prompt:
    num = len(TOKENS)
    roles = ("other",) * (num - 2) + ("label", "query")
    return Prompt(TOKENS, roles, {"early": scale * np.random.default_rng(0).uniform(size=(num, num))})


def test_arcs_go_from_earlier_to_later_tokens_the_strongest_last():
    found = strongest(np.random.default_rng(1).uniform(size=(40, 40)))
    assert len(found) == MOST_ARCS and all(key < query for query, key, _ in found)
    assert [share for *_, share in found] == sorted(share for *_, share in found) and found[-1][2] == 1
    assert strongest(np.full((3, 3), np.nan)) == [] and strongest(np.zeros((1, 1))) == []
    axes = axes_of(arcs_section(prompt()).plate.rows[0][0])
    assert [text.get_text() for text in axes.texts] == [shown(token) for token in TOKENS]
    assert len(axes.patches) == len(strongest(prompt().saliency["early"]))


def test_tokens_are_drawn_as_text_and_what_cannot_be_drawn_is_refused():
    assert [shown(t) for t in ("\n", " a", "Ġb", " ", "\U00020000", "")] == ["\\n", "a", "b", "␣", "□", "␣"]
    plate = arcs_section(prompt()).plate
    svg = panel_svg(plate.rows[0][0], plate)
    assert "&lt;|im_start|&gt;" in svg and "<|im_start|>" not in svg and "$x$" in svg
    long = MOST_TOKENS + 1
    with pytest.raises(ValueError, match=f"{long} tokens: at most {MOST_TOKENS}.*shorter"):
        arcs_section(Prompt(("a",) * long, ("other",) * long, {"l": np.zeros((long, long))}))
    with pytest.raises(ValueError, match="7 tokens, 1 roles"):
        arcs_section(Prompt(TOKENS, ("query",), prompt().saliency))


def test_a_page_has_what_was_measured_and_nothing_else(tmp_path):
    arrays = {("answers", name): one for name, one in answers(1).items()}
    arrays |= {("flow", name): one for name, one in flow(1).items()} | {("other", "loss"): labelled(1, 0)}
    about = {"title": "A <b>model</b>", "task": "x & y"}
    page, *files = write_dissection(tmp_path, arrays, about, prompt())
    text = page.read_text()
    names = ["answers", "flow", "prompt"]
    assert [path.name for path in files] == [f"{name}.{end}" for name in names for end in ("svg", "png")]
    assert re.findall("<h3>(.*?)</h3>", text) == ["Answers", "Flow over layers", "One prompt"]
    assert "&lt;b&gt;model" in text and "<b>" not in text and "task x &amp; y" in text and "<|im" not in text
    assert "One member, with the 95\u00a0% interval over its prompts." in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and not re.search(r'(src|href)="http', text)
    assert all(f'href="{path.name}"' in text for path in files)


def test_the_page_is_the_same_from_the_same_numbers_and_none_is_written_of_nothing(tmp_path):
    sections = lambda: sections_of({("edges", name): one for name, one in edges().items()})
    assert dissection_page({}, sections(), {}) == dissection_page({}, sections(), {})
    with pytest.raises(ValueError, match="evals other: nothing to draw; figures are there for answers, flow"):
        write_dissection(tmp_path, {("other", "loss"): labelled(1, 0)}, {})
    assert not list(tmp_path.iterdir())


def test_untrained_copies_are_drawn_where_they_were_measured_and_only_there():
    found, copies = flow(), flow(2)["log_ratio"]
    plain = flow_section(found["share"], found["log_ratio"], found["log_ratio_se"])
    beside = flow_section(found["share"], found["log_ratio"], found["log_ratio_se"], copies)
    assert "untrained copies" not in plain.plate.caption and "2 untrained copies" in beside.plate.caption
    drawn = [lines(axes_of(section.plate.rows[0][1])) for section in (plain, beside)]
    dashed = {line: values for line, values in drawn[1].items() if line[1]}
    assert not [line for line in drawn[0] if line[1]] and len(dashed) == 2  # not of the rest
    near = take(copies, "layer", control="near", flow="label -> query").mean(0)
    assert any(np.allclose(values, near, equal_nan=True) for values in dashed.values())
    sections = sections_of({("edges", m): a for m, a in edges().items()}, untrained=None)
    copied = sections_of(
        {("edges", m): a for m, a in edges().items()}, untrained={("edges", m): a for m, a in edges(2).items()}
    )
    named = [key.name for key in copied[0].keys]
    assert "the edge itself in untrained copies" in named and len(named) == len(sections[0].keys) + 1


def test_an_analysis_with_a_name_of_its_own_is_drawn_under_it():
    arrays = {("late", metric): array for metric, array in edges().items()}
    assert sections_of(arrays) == []
    (section,) = sections_of(arrays, uses={"late": "edges"})
    assert section.plate.name == "late" and section.plate.title == "Cut edges: late"


def over_steps(found: dict[str, Labelled], name: str, steps: tuple[int, ...]) -> dict[tuple[str, str], Labelled]:
    """The same numbers at every step, each more by a hundredth of the step."""
    made = {}
    for metric, one in found.items():
        values = np.stack([one.values + step / 100 for step in steps], 1)
        made[name, metric] = Labelled(values, ("step", *one.axes), {"step": steps, **one.coords})
    return made


def test_over_training_there_is_a_point_for_each_checkpoint():
    steps, found = (0, 10, 40), flow()
    over = over_steps(found, "flow", steps) | over_steps(answers(), "mine", steps) | over_steps(edges(), "edges", steps)
    sections = {section.plate.name: section for section in training_sections(over, {"mine": "answers"})}
    assert set(sections) == {"flow-training", "mine-training", "edges-training"}
    into, out = (panel for row in sections["flow-training"].plate.rows for panel in row)
    assert (into.title, out.title) == ("earlier → label", "label → query")
    drawn = [line for line in axes_of(out).lines if len(line.get_xdata()) == 3]
    assert len(drawn) == len(LAYERS) and all(np.allclose(line.get_xdata(), steps, atol=0.2) for line in drawn)
    at_0 = take(found["log_ratio"], "layer", control="near", flow="label -> query").mean(0)
    np.testing.assert_allclose(sorted(line.get_ydata()[0] for line in drawn), sorted(at_0))
    with matplotlib.rc_context(FILE_STYLE):
        assert all(panel_svg(panel, s.plate) for s in sections.values() for row in s.plate.rows for panel in row)
    assert training_sections({}) == []
