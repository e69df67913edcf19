"""Writes the page of a dissected run and its figures, of whatever was measured."""

import dataclasses
import pathlib
from collections.abc import Mapping

import matplotlib

from icl_jax.report.dissection.answers import answers_section
from icl_jax.report.dissection.arcs import Prompt, arcs_section
from icl_jax.report.dissection.confusion import diagnose_section
from icl_jax.report.dissection.edges import edges_section
from icl_jax.report.dissection.flow import flow_section
from icl_jax.report.dissection.look import Section, figure_of
from icl_jax.report.dissection.methods import COMPRESS, REWEIGHT, found_section
from icl_jax.report.dissection.numbers import Found
from icl_jax.report.dissection.page import dissection_page
from icl_jax.report.dissection.readout import readout_section
from icl_jax.report.dissection.training import training_sections
from icl_jax.report.panels import FILE_STYLE, save_both
from icl_jax.storage.arrays import Labelled
from icl_jax.storage.files import write_text
from icl_jax.storage.paths import as_path

Metrics = Mapping[str, Labelled]
# eval -> its figure, of what was found in the run and in untrained copies, in the order of the page
_SECTIONS = {
    "answers": lambda found, _: answers_section(found),
    "flow": lambda found, copies: flow_section(
        found["share"], found["log_ratio"], found["log_ratio_se"], copies.get("log_ratio")
    ),
    "edges": edges_section,
    "readout": lambda found, copies: readout_section(found["auc"], found["cumulative"], copies.get("auc")),
    "compress": lambda found, _: found_section(
        "compress", "Context of anchors alone", COMPRESS, found, "whole context", "labels"
    ),
    "reweight": lambda found, _: found_section(
        "reweight", "Re-weighted anchors", REWEIGHT, found, "vanilla", "reweighted"
    ),
    "diagnose": lambda found, _: diagnose_section(*(found[m] for m in ("predicted", "actual", "correlation", "p"))),
}
EVALS = tuple(_SECTIONS)


def write_dissection(
    directory: str | pathlib.Path,
    arrays: Found,
    about: Mapping[str, object],
    prompt: Prompt | None = None,
    *,
    uses: Mapping[str, str] | None = None,
    untrained: Found | None = None,
    over: Found | None = None,
) -> list[pathlib.Path]:
    """Writes directory/index.html and each figure as .svg and .png beside it; returns their paths, the page first.

    arrays: (eval, metric) -> what it gave; uses: which of EVALS each of them is, where it has a name of its own; others
    are passed over. about: see `dissection_page`. prompt: one to draw. untrained: the same of untrained copies of the
    network, drawn beside flow, edges and readout. over: the same over training, with an axis "step". ValueError where
    there is nothing to draw.
    """
    sections = sections_of(arrays, prompt, uses, untrained) + training_sections(over or {}, uses)
    if not sections:
        had = ", ".join(sorted({name for name, _ in arrays})) or "none"
        raise ValueError(f"evals {had}: nothing to draw; figures are there for {', '.join(EVALS)}")
    out = as_path(directory)
    title = str(about.get("title", "Dissection"))
    files: dict[str, list[pathlib.Path]] = {}
    for section in sections:
        with matplotlib.rc_context(FILE_STYLE):
            figure = figure_of(section, section.plate.title, title)
            files[section.plate.name] = save_both(figure, out / section.plate.name)
    names = {name: [path.name for path in paths] for name, paths in files.items()}
    write_text(out / "index.html", dissection_page(about, sections, names))
    return [out / "index.html", *(path for paths in files.values() for path in paths)]


def sections_of(
    arrays: Found,
    prompt: Prompt | None = None,
    uses: Mapping[str, str] | None = None,
    untrained: Found | None = None,
) -> list[Section]:
    """Returns the figures of what there is, in the order of the page. uses, untrained: as in `write_dissection`."""
    names = {name: (uses or {}).get(name, name) for name, _ in arrays}
    made = []
    for use, draw in _SECTIONS.items():
        for name in (name for name, own in names.items() if own == use):
            section = draw(metrics_of(arrays, name), metrics_of(untrained or {}, name))
            made.append(section if name == use else _called(section, name))
        if use == "flow" and prompt is not None:
            made.append(arcs_section(prompt))
    return made


def metrics_of(found: Found, name: str) -> dict[str, Labelled]:
    """Returns the metrics of one eval."""
    return {metric: array for (of, metric), array in found.items() if of == name}


def _called(section: Section, name: str) -> Section:
    """A section of an eval that has a name of its own."""
    plate = dataclasses.replace(section.plate, name=name, title=f"{section.plate.title}: {name}")
    return dataclasses.replace(section, plate=plate)
