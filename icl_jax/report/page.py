"""The report of sweeps: one HTML page that needs nothing else, and its figures as files beside it."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib

from icl_jax.claims.judge import judge
from icl_jax.report.acquisition_table import LEGEND, acquisition_table
from icl_jax.report.claims_table import Row, claims_markdown, claims_table, tally
from icl_jax.report.config_table import config_part
from icl_jax.report.css import sheet
from icl_jax.report.data import SweepData
from icl_jax.report.dissection.look import Section, figure_of
from icl_jax.report.dissection.page import SHEET, section_figure
from icl_jax.report.dissection.settings import analyses, setting_sections
from icl_jax.report.further import Further, further
from icl_jax.report.further_panels import further_plates, further_tables
from icl_jax.report.html import Markup, details, document, render, tag
from icl_jax.report.inline import colour, inline, palette
from icl_jax.report.overview import overview
from icl_jax.report.panels import FILE_STYLE, Plate, panel_svg, save_both, write_plate
from icl_jax.report.plates import plates
from icl_jax.report.style import DARK, MARKS
from icl_jax.report.view import MOST_LINES, View, text, view
from icl_jax.storage.files import write_text
from icl_jax.storage.paths import as_path

_CLAIMS = (
    "One number per seed; mean over n seeds with its 95 % interval (Student's t). Shaded: what was claimed; grey "
    "line: 0. A claim "
    "holds when the whole interval is inside and fails when all of it is outside; else, and below 5 seeds, it is "
    "undecided. No correction for the number of claims."
)


@dataclass(frozen=True)
class Part:
    """A sweep, made ready for the page. anchor: also the start of its files' names. dissected: figures of analyses."""

    sweep: SweepData
    anchor: str
    view: View
    rows: list[Row]
    further: list[Further]
    dissected: list[Section]

    @property
    def title(self) -> str:
        return _title(self.sweep)


def write_report(sweeps: Sequence[SweepData], out: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes out/index.html, the claims as claims.md and each figure as .svg and .png beside it; returns their
    paths, the page first.

    A sweep without results is named as such. ValueError where there is no other.
    """
    started = [sweep for sweep in sweeps if _has_results(sweep)]
    if not started:
        names = ", ".join(sweep.name for sweep in sweeps) or "no sweep"
        raise ValueError(f"a report of {names}: no results yet; run a sweep to its first evaluation")
    out = as_path(out)
    parts = [_part(sweep, anchor) for sweep, anchor in zip(started, anchors([s.name for s in started]), strict=True)]
    files, sections = [], []
    for part in parts:
        figures = []
        for plate in [*_plates(part), *further_plates(part.further, part.view)]:
            paths = write_plate(plate, part.view, part.title, out / f"{part.anchor}-{plate.name}")
            figures.append(_figure(plate, part, [path.name for path in paths]))
            files += paths
        for section in part.dissected:
            name = f"{part.anchor}-{section.plate.name}"
            with matplotlib.rc_context(FILE_STYLE):
                paths = save_both(figure_of(section, section.plate.title, part.title), out / name)
            plate = dataclasses.replace(section.plate, name=name)
            figures.append(section_figure(dataclasses.replace(section, plate=plate), [path.name for path in paths]))
            files += paths
        sections.append(_section(part, figures, only=len(sweeps) == 1))
    title = parts[0].title if len(sweeps) == 1 else f"Report of {len(sweeps)} sweeps"
    dark = DARK | {light: dark for part in parts for light, dark in part.view.dark.items()}
    top = _contents(parts, [_title(s) for s in sweeps if not _has_results(s)]) if len(sweeps) > 1 else None
    looks = sheet(palette(dark)) + (SHEET if any(part.dissected for part in parts) else "")
    page = document(title, looks, tag("h1", title), top, sections, tag("footer", "Made by icl report."))
    write_text(out / "claims.md", claims_markdown([(p.sweep.name, [verdict for _, verdict in p.rows]) for p in parts]))
    write_text(out / "index.html", page)
    return [out / "index.html", out / "claims.md", *files]


def _plates(part: Part) -> list[Plate]:
    """The figures of headlines; of runs that only look, and whose analyses are drawn, no curve of one point."""
    only_look = part.view.end == 0 and part.dissected
    return [plate for plate in plates(part.view) if not (only_look and plate.name == "learning")]


def _title(sweep: SweepData) -> str:
    return sweep.title.removesuffix(".")  # a sentence in a docstring, a heading here


def _has_results(sweep: SweepData) -> bool:
    return bool({shown.suite for shown in sweep.headlines} & set(sweep.table["suite"].unique().to_pylist()))


def _part(sweep: SweepData, anchor: str) -> Part:
    steps = sweep.config.get("train", {}).get("num_steps")
    verdicts = judge(sweep.claims, sweep.table, sweep.headlines, num_steps=steps, planned=sweep.planned)
    bounds = [claim.bound() for claim in sweep.claims]
    shown = view(sweep)
    found, uses = further(sweep.table, shown), analyses(sweep.config)
    others = [one for one in found if one.name not in uses]
    rows = list(zip(bounds, verdicts, strict=True))
    return Part(sweep, anchor, shown, rows, others, setting_sections(found, uses, shown))


def anchors(names: Sequence[str]) -> list[str]:
    """Returns a distinct name for each, fit for a file and an anchor: "fig2", "fig2-2"."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "sweep"
        tries = (plain if k == 1 else f"{plain}-{k}" for k in range(1, len(names) + 1))
        found.append(next(t for t in tries if t not in found))
    return found


def _contents(parts: Sequence[Part], waiting: Sequence[str]) -> Markup:
    """The sweeps, those without results last, and all their claims."""
    entries = [tag("li", tag("a", part.title, href=f"#{part.anchor}"), tally(part.rows)) for part in parts]
    entries += [tag("li", title, " ", tag("span", "no results yet", class_="chip undecided")) for title in waiting]
    claimed = [(part.sweep.name, part.anchor, part.rows) for part in parts if part.rows]
    table = [tag("h2", "Claims"), claims_table(claimed), tag("p", _CLAIMS, class_="note")] if claimed else None
    return render(tag("nav", tag("ul", entries, class_="contents"), aria_label="sweeps"), table)


def _section(part: Part, figures: list[Markup], only: bool) -> Markup:
    sweep, shown = part.sweep, part.view
    claims = (
        claims_table([("", "", part.rows)]) if part.rows else tag("p", "The config states no claims.", class_="note")
    )
    return tag(
        "section",
        None if only else tag("h2", part.title),
        overview(sweep, shown),
        tag("h3", "Claims"),
        claims,
        tag("p", _CLAIMS, class_="note") if part.rows and only else None,
        figures,
        further_tables(part.further, shown),
        _acquisition(part),
        config_part(sweep),
        id=part.anchor,
        class_="sweep only" if only else "sweep",
    )


def _acquisition(part: Part) -> Markup | None:
    """How each accuracy was acquired: the first headline's open, the others' to be opened."""
    bounded = [suite for suite in part.view.suites if suite.bounded]
    if not bounded:
        return None
    first, *others = ((suite, acquisition_table(part.view, suite, part.sweep.labels)) for suite in bounded)
    return render(
        tag("h3", "Acquisition"),
        first[1],
        [details(suite.heading, table) for suite, table in others],
        tag("p", LEGEND, class_="note"),
    )


def _figure(plate: Plate, part: Part, files: Sequence[str]) -> Markup:
    """A figure with its legend and links to its files."""
    dark = DARK | part.view.dark if plate.legend else DARK  # a heat map's colours mean the same on any paper
    rows = []
    for r, row in enumerate(plate.rows):
        ids = [f"{part.anchor}-{plate.name}-{r}-{c}-" for c in range(len(row))]
        panels = [inline(panel_svg(p, plate), i, p.alt, dark) for p, i in zip(row, ids, strict=True)]
        least = f"--least:{320 if plate.columns <= 3 else 150}px"
        rows.append(tag("div", panels, class_="panels one" if len(row) == 1 else "panels", style=least))
    links = [render(" ", tag("a", name.rpartition(".")[2].upper(), href=name)) for name in files]
    caption = tag("figcaption", plate.caption, links)
    return tag("figure", tag("h3", plate.title), _legend(part.view) if plate.legend else None, rows, caption)


def _legend(shown: View) -> Markup | None:
    """What each colour is: a key per value, or of many numbers a scale."""
    if not shown.primary:
        return None
    paint = lambda value: f"background:{colour(shown.colours[value], shown.dark | DARK)}"
    values = shown.coloured
    name = tag("li", shown.primary, class_="name")
    if len(values) > MOST_LINES:
        ramp = tag("span", [tag("i", style=paint(value)) for value in values], class_="ramp")
        return tag("ul", name, tag("li", text(values[0]), ramp, text(values[-1])), class_="legend")
    ink = lambda value: f"color:{colour(shown.colours[value], shown.dark | DARK)}"
    shape = lambda value: MARKS.get(shown.marks[value])
    plain = lambda value: tag("span", class_="key", style=paint(value))
    marked = lambda value: tag("span", shape(value), class_="mark", style=ink(value))
    keys = [tag("li", marked(value) if shape(value) else plain(value), text(value)) for value in values]
    rest = [tag("li", "others", class_="name")] if len(values) < len(shown.values) else []
    return tag("ul", name, keys, rest, class_="legend")
