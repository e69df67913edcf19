"""The page of a dissected run: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence

from icl_jax.report.css import sheet
from icl_jax.report.dissection.look import Section, legend
from icl_jax.report.html import Markup, document, render, tag
from icl_jax.report.inline import inline, palette
from icl_jax.report.panels import panel_svg
from icl_jax.report.style import DARK

SHEET = """
.across{overflow-x:auto;margin:.4rem 0 .8rem}
.across .panels{min-width:var(--least);max-width:calc(var(--least)*1.1)}
.tables{max-width:52rem;margin-top:1rem}
"""
_LEDE = (
    "Which way information takes through this model, after Wang et al. 2023, Label Words are Anchors "
    "(arXiv 2305.14160). Every figure has its control: read the difference to it, not the height of a line."
)


def dissection_page(
    about: Mapping[str, object], sections: Sequence[Section], files: Mapping[str, Sequence[str]]
) -> str:
    """Returns the page of some figures. about: what was dissected: "title", and any other name -> value ("model",
    "task", "shots", "prompts", "seeds"); files: names of the files of each figure, by its name, to link to."""
    title = str(about.get("title", "Dissection"))
    chips = [tag("li", f"{name} {value}", class_="chip") for name, value in about.items() if name != "title"]
    body = [section_figure(section, files.get(section.plate.name, ())) for section in sections]
    top = [tag("h1", title), tag("p", _LEDE, class_="lede"), tag("ul", chips, class_="chips") if chips else None]
    return document(title, sheet(palette(DARK)) + SHEET, *top, *body, tag("footer", "Made by icl_jax."))


def section_figure(section: Section, files: Sequence[str]) -> Markup:
    """Returns a figure with its keys, links to its files and tables. Pages with it need SHEET."""
    plate, wide = section.plate, section.plate.columns == 1 and section.least > 600
    rows = []
    for r, row in enumerate(plate.rows):
        ids = [f"{plate.name}-{r}-{c}-" for c in range(len(row))]
        panels = [inline(panel_svg(p, plate), i, p.alt, DARK) for p, i in zip(row, ids, strict=True)]
        style = f"--least:{section.least}px"
        kind = "panels one" if len(row) == 1 and not wide else "panels"
        inner = tag("div", panels, class_=kind, style=style)
        rows.append(
            tag("div", inner, class_="across", tabindex=0, role="region", aria_label=plate.title) if wide else inner
        )
    links = [render(" ", tag("a", name.rpartition(".")[2].upper(), href=name)) for name in files]
    tables = tag("div", section.tables, class_="tables") if section.tables else None
    caption = tag("figcaption", plate.caption, links)
    return render(tag("figure", tag("h3", plate.title), legend(section.keys), rows, caption), tables)
