"""The analyses of a sweep: the figures of a dissected run, for each of its settings."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from icl_jax.report.dissection.look import Section
from icl_jax.report.dissection.numbers import Found
from icl_jax.report.dissection.write import EVALS, sections_of
from icl_jax.report.further import Further
from icl_jax.report.view import Spot, View
from icl_jax.storage.arrays import Labelled

MOST = 8  # settings that are drawn


def analyses(config: Mapping) -> dict[str, str]:
    """Returns which of EVALS each analysis among a config's evals is, by its name."""
    more = config.get("evals", {}).get("more", {})
    found = {name: dict(fields).get("use", name) for name, fields in more.items()}
    return {name: use for name, use in found.items() if use in EVALS}


def setting_sections(found: Iterable[Further], uses: Mapping[str, str], view: View) -> list[Section]:
    """Returns the figures of each setting at the end of its runs, which are the members of the figure. uses: see
    `analyses`. Of more than MOST settings the first are drawn, and the last figure says so."""
    mine = [one for one in found if one.name in uses]
    spots = _settings(view, mine)
    made = []
    for number, (label, spot) in enumerate(spots[:MOST]):
        sections = sections_of(_arrays(mine, spot), uses=uses)
        made += [_of_setting(section, label, number) for section in sections]
    if len(spots) > MOST and made:
        left = f" {len(spots) - MOST} more settings are not drawn; icl sweep results has their numbers."
        made[-1] = dataclasses.replace(
            made[-1], plate=dataclasses.replace(made[-1].plate, caption=made[-1].plate.caption + left)
        )
    return made


def _settings(view: View, mine: Sequence[Further]) -> list[tuple[str, Spot]]:
    """Settings that came to their end, with what they are called; of those that were tuned the best."""
    found = []
    for column in view.columns:
        for value in view.values:
            spot = view.best.get((value, column))
            if spot is not None and any(spot in one.final for one in mine):
                found.append((view.name(value, column), spot))
    return found


def _arrays(mine: Iterable[Further], spot: Spot) -> Found:
    return {
        (one.name, one.metric): Labelled(
            one.final[spot], tuple(one.axes), {axis: tuple(labels) for axis, labels in one.axes.items()}
        )
        for one in mine
        if spot in one.final
    }


def _of_setting(section: Section, label: str, number: int) -> Section:
    plate = section.plate
    title = f"{plate.title} ({label})" if label else plate.title
    return dataclasses.replace(section, plate=dataclasses.replace(plate, name=f"{plate.name}-{number}", title=title))
