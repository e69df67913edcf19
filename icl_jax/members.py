"""A member of a population: one run, by all in which members of one program may differ."""

import dataclasses
from collections.abc import Iterable

from icl_jax import hypers as hy
from icl_jax import patches
from icl_jax.spec import HYPERS, PatchNumbers


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a population: hypers (numbers or schedules), seeds and the numbers of interventions, by name.

    sources: what it takes from a cell of an earlier stage of its sweep (`sweep.stages`), by what it is ("start",
    "bank"), as a text that begins with the cell's id and the step.
    """

    hypers: dict[str, hy.Entry]
    seeds: dict[str, int]
    patches: dict[str, PatchNumbers] = dataclasses.field(default_factory=dict)
    sources: dict[str, str] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, float | str]:
        """Returns all that members may differ in beside seeds, by field: hypers (a schedule by where it ends), then
        the numbers of patches as "patches.NAME.FIELD"."""
        return {n: float(hy.last(v)) for n, v in self.hypers.items()} | patches.settings(self.patches)


def same_run(members: list[Member], seeds: Iterable[str]) -> tuple[int, int] | None:
    """Returns two members that are the same run, which are no replicates, or None. seeds: names of those that make
    another run (`runs.config.decisive_seeds`)."""
    first: dict[tuple, int] = {}
    for index, member in enumerate(members):
        numbers = (*sorted(member.hypers.items()), *(member.seeds[name] for name in seeds))
        key = (*numbers, *sorted(member.patches.items(), key=str), *sorted(member.sources.items()))
        if (other := first.setdefault(key, index)) != index:
            return other, index
    return None


def varied(members: list[Member]) -> list[str]:
    """Returns the names of hypers, and of numbers of patches, that differ between members (see `Member.settings`)."""
    numbers = [patches.settings(m.patches) for m in members]
    of_patches = {name: None for own in numbers for name in own}
    found = {n: {m.hypers.get(n, float(hyper.default)) for m in members} for n, hyper in HYPERS.items()}
    return [n for n, values in found.items() if len(values) > 1] + [
        n for n in of_patches if len({own.get(n) for own in numbers}) > 1
    ]
