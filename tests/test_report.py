"""Laws of the report: nothing is lost or invented, numbers are those worked out by hand, the page stands alone."""

import html.parser
import json
import math
import re

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy import stats
from sweep_table import results

from icl_jax import claims, default_config
from icl_jax.claims.judge import Verdict
from icl_jax.claims.statistics import interval
from icl_jax.headlines import Headline
from icl_jax.report.claims_table import claims_markdown
from icl_jax.report.data import SweepData
from icl_jax.report.inline import inline
from icl_jax.report.page import anchors, write_report
from icl_jax.report.places import Places
from icl_jax.report.plates import plates
from icl_jax.report.style import DARK, NAMED, sequential, sequential_dark
from icl_jax.report.view import view

ICL, IWL, P = "headline_icl", "headline_iwl", "p_bursty"
HEADLINES = (Headline("ICL", ICL), Headline("IWL", IWL))
STEPS = range(0, 1001, 250)
NASTY = "<script>alert('1')</script> & \"$5\" $"


def curve(labels, seed, step):
    """Rises to a level that grows with the labels and falls a little; differs by seed."""
    level = np.mean([v / 8 if isinstance(v, float) else len(v) / 20 for v in labels.values()] or [0.5])
    icl = 0.5 + 0.5 * min(level, 1) * min(step / 500, 1) - 0.05 * (step == 1000) + 0.01 * seed * (step > 0)
    return {ICL: icl, IWL: 0.9 - 0.3 * level + 0.005 * seed}


def make(labels, claimed=(), name="made up", seeds=range(3), status=None, table=None, **how):
    table = results(curve, labels, seeds=seeds, steps=STEPS, **how) if table is None else table
    config = json.loads(json.dumps(default_config().to_dict(), default=list))
    config["train"]["num_steps"], config["name"] = STEPS[-1], name
    cells = len(set(table["cell"].to_pylist()))
    counts = {"cells": cells, "done": cells, "diverged": 0, "failed": 0, "steps": STEPS[-1]} | (status or {})
    environment = {"command": "icl sweep run configs/x.py:laptop", "jax": "0.0", "bank": {"name": "glyphs"}}
    doc = f"Title of {name}.\n\nThe recipe."
    return SweepData(
        name,
        f"Title of {name}.",
        doc,
        config,
        environment,
        table,
        tuple(labels),
        list(claimed),
        HEADLINES,
        counts,
        defaults=json.loads(json.dumps(default_config().to_dict(), default=list)),
    )


def without(table, dropped):
    return pa.Table.from_pylist([row for row in table.to_pylist() if not dropped(row)], schema=table.schema)


def diverged(labels, seed):
    return 600 if labels[P] == 4.0 and seed == 1 else 300 if labels[P] == 8.0 else -1


FOUR = {P: (0.0, 4.0, 7.0, 8.0)}
CLAIMS = [
    claims.larger("Bursts help", claims.final("icl"), at={P: 8}, than={P: 0}, by=0.2),
    claims.within("Never perfect", claims.final("icl"), at={P: 0}, high=0.4),
]
CASES = {
    "one label": lambda: [make(FOUR, CLAIMS, seeds=range(5))],
    "two numbers": lambda: [make({P: (0.0, 4.0, 8.0), "classes": (1.0, 2.0, 4.0, 64.0)}, name="phase")],
    "draws": lambda: [make({"core": ("transformer", "rnn"), "layers": (2.0, 4.0), "draw": (0.0, 1.0, 2.0)})],
    "diverged": lambda: [make(FOUR, CLAIMS, diverged=diverged, status={"diverged": 4})],
    "unfinished": lambda: [make(FOUR, CLAIMS, table=unfinished(), status={"done": 9})],
    "one run": lambda: [make({}, seeds=range(1))],
    "many": lambda: [make({P: tuple(float(x) for x in range(14))}, seeds=range(2))],
    "many names": lambda: [make({"variant": tuple("v" * k for k in range(1, 18))}, seeds=range(1))],
    "long names": lambda: [make({"variation": ("all exemplars, noise 0.1", "one exemplar, no noise at all", "c")})],
    "absent labels": lambda: [make({P: (4.0, 8.0), "kind": ("a", "bc")}, table=chained())],
    "nasty": lambda: [make({NASTY: (NASTY, "b</svg>")}, [claims.trend(NASTY, claims.final("icl"), NASTY)], name=NASTY)],
    "several": lambda: [make(FOUR, CLAIMS), make({}, seeds=range(1)), make({}, seeds=range(1), name="other")],
}


def unfinished():
    """At p 7 nothing after step 500, at p 8 two seeds nothing after step 750."""
    table = results(curve, FOUR, seeds=range(3), steps=STEPS)
    ends = lambda row: (
        500 if row["label/p_bursty"] == 7 else 750 if row["label/p_bursty"] == 8 and row["seed/init"] else 1000
    )
    return without(table, lambda row: row["step"] > ends(row))


def chained():
    """A chain of two grids, each with a label that the other lacks."""
    one, two = (
        results(curve, labels, seeds=range(3), steps=STEPS) for labels in ({P: (4.0, 8.0)}, {"kind": ("a", "bc")})
    )
    rows = [*one.to_pylist(), *({**row, "cell": "f" + row["cell"][1:]} for row in two.to_pylist())]
    names = [*one.column_names, "label/kind"]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in rows],
        schema=pa.schema([*one.schema, pa.field("label/kind", pa.string())]),
    )


class Page(html.parser.HTMLParser):
    """Elements (name, attributes), tables as rows of cell texts, and text. Unbalanced markup is an error."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.tables, self.words, self.styles = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}: {names}"
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" in self.open:
            self.styles.append(data)
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.words)

    def table(self, *head):
        """The table whose header starts so, as a list of dicts by header."""
        (found,) = [t for t in self.tables if t[0][: len(head)] == list(head)][:1]
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """case -> (sweeps, page, folder, paths), each written once."""
    known = {}

    def write(case):
        if case not in known:
            out, sweeps = tmp_path_factory.mktemp("report"), CASES[case]()
            paths = write_report(sweeps, out)
            known[case] = sweeps, Page((out / "index.html").read_text()), out, paths
        return known[case]

    return write


every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_every_run_is_in_the_table_of_its_setting(written, case):
    sweeps, page, *_ = written(case)
    tables = [t for t in page.tables if "onset in" in t[0]]
    assert len(tables) == 2 * len(sweeps)
    for sweep, of_icl, of_iwl in zip(sweeps, tables[::2], tables[1::2], strict=True):
        settings = {}
        for row in sweep.table.to_pylist():
            settings.setdefault(tuple(_text(row[f"label/{n}"]) for n in sweep.labels), set()).add(row["cell"])
        for table in (of_icl, of_iwl):
            counts = {}
            for row in (dict(zip(table[0], cells, strict=True)) for cells in table[1:]):
                counts[tuple(row[n] for n in sweep.labels)] = sum(int(n) for n in re.findall(r"\d+", row["runs"]))
            assert counts == {setting: len(cells) for setting, cells in settings.items()}


def _text(value):
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else value


@every_case
def test_the_page_stands_alone(written, case):
    _, page, out, paths = written(case)
    assert paths[0] == out / "index.html" and sorted(p.name for p in out.iterdir()) == sorted(p.name for p in paths)
    assert {p.suffix for p in paths[1:]} == {".svg", ".png", ".md"} and len(paths) == len(set(paths))
    text = paths[0].read_text()
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in "".join(page.styles)
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "img", "object") and "src" not in attributes
        if href := attributes.get("href"):
            assert href[1:] in ids if href.startswith("#") else (out / href).is_file(), href
        assert not [name for name in attributes if name.startswith("on")]


@every_case
def test_nothing_runs_off_a_figure(written, case):
    for path in (path for path in written(case)[3] if path.suffix == ".png"):
        with Image.open(path) as image:
            assert image.width > 1200
            pixels = np.asarray(image.convert("RGB"))
        assert all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])), path.name


@every_case
def test_ids_are_unique_and_references_meet_them(written, case):
    _, page, _, paths = written(case)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and len(ids) > len(written(case)[0])
    used = set(re.findall(r"url\(#([^)]+)\)", paths[0].read_text()))
    assert used and used <= set(ids)


@every_case
def test_every_picture_says_what_it_shows(written, case):
    sweeps, page, *_ = written(case)
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    panels = sum(len(row) for sweep in sweeps for plate in plates(view(sweep)) for row in plate.rows)
    assert len([p for p in pictures if p.get("class") != "effect"]) == panels
    assert all(p["role"] == "img" and len(p["aria-label"]) > 20 for p in pictures)


@every_case
def test_every_colour_is_defined_for_light_and_dark(written, case):
    _, page, _, paths = written(case)
    used = set(re.findall(r"var\((--[\w-]+)\)", paths[0].read_text()))
    light, dark = "".join(page.styles).split("@media screen and (prefers-color-scheme: dark)", 1)
    for name in used - {"--least"}:
        assert f"{name}:" in light + dark
    colours = {name for name in used if re.fullmatch(r"--c[0-9a-f]{6}", name)}
    assert colours and all(f"{name}:#" in light and f"{name}:#" in dark for name in colours)


@pytest.mark.parametrize("case", ["one label", "two numbers"])
def test_the_same_sweeps_give_the_same_bytes(written, case, tmp_path):
    paths = written(case)[3]
    before = dict(matplotlib.rcParams)
    again = write_report(CASES[case](), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert [p.name for p in again] == [p.name for p in paths]
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_numbers_of_the_acquisition_table_are_those_worked_out_by_hand(written):
    page = written("one label")[1]
    rows = {row[P]: row for row in page.table(P, "runs")}
    assert list(rows) == ["0", "4", "7", "8"]
    for p in FOUR[P]:
        runs = [[curve({P: p}, seed, step)[ICL] for step in STEPS] for seed in range(5)]
        final = np.array([values[-1] for values in runs])
        half = stats.t.ppf(0.975, 4) * final.std(ddof=1) / math.sqrt(5)
        row = rows[f"{p:g}"]
        assert row["final"] == f"{final.mean():.2f} ({final.mean() - half:.2f} to {final.mean() + half:.2f})"
        assert row["peak"] == f"{np.mean([max(values) for values in runs]):.2f}" and row["runs"] == "5"
        onsets = [
            next((s for s, a, b in zip(STEPS, v, [*v[1:], 1], strict=True) if a >= 0.75 <= b), None) for v in runs
        ]
        assert row["onset in"] == f"{sum(o is not None for o in onsets)} of 5"
        censored = "≥ " if None in onsets else ""
        assert row["onset, step"] == censored + f"{np.mean([o if o is not None else 1000 for o in onsets]):,.0f}"
    assert rows["0"]["onset in"] == "0 of 5" and rows["8"]["onset in"] == "5 of 5"  # or the above checks nothing


def test_claims_stand_with_effect_interval_n_and_verdict(written):
    page = written("one label")[1]
    rows = {row["claim"]: row for row in page.table("claim", "effect")}
    difference = [curve({P: 8.0}, s, 1000)[ICL] - curve({P: 0.0}, s, 1000)[ICL] for s in range(5)]
    held, failed = rows.values()
    assert held["claim"].startswith("Bursts help") and "p_bursty 8 minus p_bursty 0" in held["claim"]
    assert held["mean and 95 % interval"].startswith(f"{np.mean(difference):.3f} (") and held["n"] == "5"
    assert held["verdict"] == "✓ holds" and held["claimed"] == "> 0.2"
    assert failed["verdict"] == "✗ fails" and "inside the bound" not in page.text, "the legend says that once"
    bars = [a["aria-label"] for tag, a in page.elements if tag == "svg" and a.get("class") == "effect"]
    assert bars[0] == f"effect {held['mean and 95 % interval']}, claimed > 0.2" and len(bars) == 2
    few = written("diverged")[1]
    unclear = few.table("claim", "effect")
    assert {row["verdict"] for row in unclear} == {"? undecided"}
    assert all("a verdict takes at least 5" in row["claim"] for row in unclear), "why stands with the claim"


def test_several_sweeps_have_contents_and_one_table_of_all_claims(written):
    sweeps, page, *_ = written("several")
    rows = page.table("sweep", "claim")
    assert len(rows) == sum(len(sweep.claims) for sweep in sweeps) and {row["sweep"] for row in rows} == {"made up"}
    links = [a["href"] for tag, a in page.elements if tag == "a" and a["href"].startswith("#")]
    assert links[:3] == ["#made-up", "#made-up-2", "#other"]
    sections = [a["id"] for tag, a in page.elements if tag == "section"]
    assert sections == ["made-up", "made-up-2", "other"]
    assert anchors(["Fig 2", "fig-2", "../..", "Fig 2"]) == ["fig-2", "fig-2-2", "sweep", "fig-2-3"]


def test_nothing_of_a_config_becomes_markup(written):
    _, page, _, paths = written("nasty")
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert page.text.strip().startswith(f"Title of {NASTY}Title of {NASTY}")  # title and heading
    assert page.text.count(NASTY) >= 6  # and claim, tables, legend
    assert NASTY in page.table(NASTY, "runs")[0][NASTY] and page.table("claim", "effect")[0]["claim"].startswith(NASTY)
    drawn = [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", paths[0].read_text()) if "alert" in text]
    assert drawn and all("&lt;script&gt;" in text for text in drawn)


def test_diverged_and_unfinished_runs_are_said_and_enter_no_final_score(written):
    page = written("diverged")[1]
    rows = {row[P]: row for row in page.table(P, "runs")}
    assert rows["4"]["runs"] == "2 + 1 diverged" and rows["8"]["runs"] == "0 + 3 diverged"
    alive = [curve({P: 4.0}, seed, 1000)[ICL] for seed in (0, 2)]
    assert rows["4"]["final"].startswith(f"{np.mean(alive):.2f} (") and rows["8"]["final"] == "-"
    ended = page.table(P, "seed")
    assert [(r[P], r["seed"], r["last evaluation that counts"]) for r in ended] == [
        ("4", "1", "step 500; then diverged"),
        *(("8", str(seed), "step 250; then diverged") for seed in range(3)),
    ]
    assert "! 4 diverged" in page.text and "No run has come to that step of: p_bursty 8." in page.text
    page = written("unfinished")[1]
    rows = {row[P]: row for row in page.table(P, "runs")}
    assert rows["7"]["runs"] == "0 + 3 unfinished" and rows["8"]["runs"] == "1 + 2 unfinished"
    assert rows["8"]["final"] == f"{curve({P: 8.0}, 0, 1000)[ICL]:.2f}" and "! 3 unfinished" in page.text


def test_figures_take_final_scores_from_runs_that_came_to_the_end():
    for case, counts in {"diverged": [3, 2, 3, 0], "unfinished": [3, 3, 0, 1]}.items():
        shown = view(CASES[case]()[0])
        for suite in shown.suites:
            assert [len(suite.runs[shown.best[p, ()]].final) for p in shown.values] == counts
            assert all(len(runs.values) == 3 for runs in suite.runs.values())  # curves have them all


def test_a_draw_is_shown_by_its_best_and_all_are_counted():
    (sweep,) = CASES["draws"]()
    shown = view(sweep)
    assert shown.primary == "core" and shown.others == ("layers",) and shown.drawn
    assert all(len(spots) == 3 and shown.best[place] in spots for place, spots in shown.draws.items())
    final = lambda spot: curve({"core": spot.value, "layers": spot.column[0], "draw": spot.draw}, 1, 1000)[ICL]
    for place, spots in shown.draws.items():
        assert shown.best[place] == max(spots, key=final) and shown.best[place].draw == 2.0


def test_what_is_left_out_is_said(written):
    text = written("many")[1].text
    assert "With 14 settings in a panel, intervals and single seeds are left out here." in text
    (shown,) = map(view, CASES["many names"]())
    assert shown.coloured == ["v" * k for k in range(10, 18)] and len(NAMED) == 8
    text = written("many names")[1].text
    assert "In colour: the 8 of 17 values of variant with the highest final ICL" in text
    assert "variant: 17, in the order of the table" in text and "One seed for each setting." in text
    wide = view(make({P: (0.0, 8.0), "classes": tuple(map(float, range(10)))}, seeds=range(2)))
    assert len(wide.columns) == 10 and len(wide.shown_columns) == 6
    assert (wide.shown_columns[0], wide.shown_columns[-1]) == ((0.0,), (9.0,))
    assert "6 of 10 values of classes are shown" in plates(wide)[0].caption


def test_phase_diagram_is_the_mean_over_seeds_at_the_end():
    (sweep,) = CASES["two numbers"]()
    (plate,) = [plate for plate in plates(view(sweep)) if plate.name == "phase"]
    icl, iwl, difference = (panel.alt for panel in plate.rows[0])
    for p in (0.0, 4.0, 8.0):
        scores = [[curve({P: p, "classes": c}, seed, 1000) for seed in range(3)] for c in (1.0, 2.0, 4.0, 64.0)]
        means = {suite: np.array([np.mean([s[suite] for s in runs]) for runs in scores]) for suite in (ICL, IWL)}
        row = lambda values, p=p: f"p_bursty {p:g}: " + ", ".join(f"{x:.2f}" for x in values)
        assert row(means[ICL]) in icl and row(means[IWL]) in iwl and row(means[ICL] - means[IWL]) in difference
    for case in ("one label", "long names", "draws"):
        assert not [plate for plate in plates(view(CASES[case]()[0])) if plate.name == "phase"]


def drawn(panel):
    axes = matplotlib.figure.Figure(figsize=(4, 3)).add_subplot()
    panel.draw(axes)
    return axes


def test_curves_are_the_mean_its_interval_each_seed_and_both_bounds():
    shown = view(CASES["one label"]()[0])
    axes = drawn(plates(shown)[0].rows[0][0])
    for p in FOUR[P]:
        mine = [line for line in axes.lines if line.get_color() == shown.colours[p]]
        runs = np.array([[curve({P: p}, seed, step)[ICL] for step in STEPS] for seed in range(5)])
        (bold,) = [line.get_ydata() for line in mine if line.get_linewidth() > 1.5]
        np.testing.assert_allclose(bold, runs.mean(0))
        np.testing.assert_allclose(np.sort([line.get_ydata() for line in mine if line.get_linewidth() < 1], 0), runs)
        colour = matplotlib.colors.to_rgb(shown.colours[p])
        (band,) = [c for c in axes.collections if tuple(c.get_facecolor()[0][:3]) == colour]
        _, low, high = interval(runs)
        corners = band.get_paths()[0].vertices
        assert np.isclose(corners[:, 1].min(), low.min()) and np.isclose(corners[:, 1].max(), high.max())
    dashed = sorted(line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--")
    assert dashed == [0.5, 1.0]


def test_final_scores_stand_at_their_values():
    shown = view(CASES["one label"]()[0])
    axes = drawn(plates(shown)[1].rows[0][0])
    dots = {
        line.get_color(): line
        for line in axes.lines
        if line.get_marker() == "o" and line.get_markeredgecolor() == "#ffffff"
    }
    for p in FOUR[P]:
        mean = np.mean([curve({P: p}, seed, 1000)[ICL] for seed in range(5)])
        assert dots[shown.colours[p]].get_xdata() == [p] and np.isclose(dots[shown.colours[p]].get_ydata()[0], mean)


def test_numbers_that_span_much_are_on_a_logarithmic_axis():
    assert Places([100.0, 1600.0, 12800.0]).log and Places([1e-5, 1.0]).log
    assert Places([100.0, 200.0, 400.0, 800.0, 1500.0]).log and not Places([2.0, 4.0, 8.0, 10.0, 12.0, 16.0]).log
    assert not Places([0.0, 100.0]).log and not Places([1.0, 20.0]).log and not Places([-1.0, 100.0]).log
    assert Places(["b", "a"])["a"] == 1.0 and not Places([4.0, None]).numeric


def test_inline_figures_keep_their_text_and_lose_their_ids():
    svg = (
        '<?xml version="1.0"?><svg viewBox="0 0 1 2" xmlns="http://x"><defs><style type="text/css">*{}</style></defs>'
        '<g id="unused"><path id="a" d="M 0.12345 1" style="fill: #1f2933"/><use xlink:href="#a" clip-path="url(#b)"/>'
        '<clipPath id="b"/><text style="font-size: 9px; font-family: \'X\'">0.00012 #1f2933 id="a"</text></g></svg>'
    )
    made = inline(svg, "p-", "what & why", DARK)
    assert made.startswith(
        '<svg viewBox="0 0 1 2" role="img" aria-label="what &amp; why"><g><path id="p-a" d="M 0.12 1"'
    )
    assert 'href="#p-a" clip-path="url(#p-b)"' in made and '<clipPath id="p-b"/>' in made and "unused" not in made
    assert "fill: var(--c1f2933)" in made and '>0.00012 #1f2933 id="a"</text>' in made and "font-family" not in made


def luminance(colour):
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_colours_are_seen_on_either_paper():
    contrast = lambda a, b: (max(a, b) + 0.05) / (min(a, b) + 0.05)
    for count in (1, 2, 5, 12):
        assert len(set(sequential(count))) == len(set(sequential_dark(count))) == count
        lights, darks = ([luminance(c) for c in s(count)] for s in (sequential, sequential_dark))
        assert lights == sorted(lights) and darks == sorted(darks) and min(darks) > luminance(DARK["#ffffff"])
    for light, dark in NAMED.items():
        assert contrast(luminance(light), 1.0) > 2.8 and contrast(luminance(dark), luminance(DARK["#ffffff"])) > 3


def test_a_sweep_without_results_is_named_and_one_alone_refused(tmp_path):
    table = results(curve, FOUR, seeds=range(1), steps=STEPS)
    early = make(FOUR, CLAIMS, name="early", table=without(table, lambda row: row["suite"] != "train"))
    for nothing, name in (([], "no sweep"), ([early], "early")):
        with pytest.raises(ValueError, match=f"a report of {name}: no results yet"):
            write_report(nothing, tmp_path)
    assert not list(tmp_path.iterdir())
    (page, *_) = write_report([make({}, seeds=range(1)), early], tmp_path)
    shown = Page(page.read_text())
    assert "Report of 2 sweeps" in shown.text and "Title of early no results yet" in shown.text
    assert [attributes["id"] for tag, attributes in shown.elements if tag == "section"] == ["made-up"]


def test_config_shows_what_differs_from_the_defaults_first(written):
    page = written("one label")[1]
    rows = {row["field"]: row for row in page.table("field", "value", "default")}
    assert rows == {
        "name": {"field": "name", "value": "made up", "default": "run"},
        "train.num_steps": {"field": "train.num_steps", "value": "1000", "default": "4000"},
    }
    everything = {row["field"] for row in page.table("field", "value") if "default" not in row}
    assert {row["name"]: row["value"] for row in page.table("name", "value")}["bank.name"] == "glyphs"
    assert (
        "icl sweep run configs/x.py:laptop" in page.text
        and "The recipe." in page.text
        and rows.keys() <= everything | rows.keys()
    )


def test_the_claims_are_also_a_markdown_table():
    held = Verdict("Rises", "final ICL", "> 0", 0.5, 0.4, 0.6, 5, "holds", "the whole interval is inside the bound")
    open_ = Verdict("A|B", "final ICL", "> 0", math.nan, math.nan, math.nan, 2, "undecided", "2 of 5 seeds")
    lines = claims_markdown([("fig", [held, open_])]).splitlines()
    assert lines[2] == "| fig | Rises (final ICL) | 0.500 (0.400 to 0.600) | > 0 | 5 | \u2713 holds |"
    assert lines[3].endswith("| 2 | ? undecided: 2 of 5 seeds |") and "A\\|B" in lines[3]
