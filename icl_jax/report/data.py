"""What a report is made of."""

import dataclasses

import pyarrow as pa

from icl_jax.headlines import Headline


@dataclasses.dataclass(frozen=True)
class SweepData:
    """A sweep as its report reads it.

    title: first line of the config's docstring; doc: all of it; config, environment: as JSON values;
    table: the results; labels: names of the swept quantities; claims: see `icl_jax.claims.statements`;
    headlines: what it is shown by; status: counts by name (cells, done, diverged, failed, ...);
    planned: cell -> (labels, seeds, steps) of the whole sweep, so that runs without results count as unfinished;
    defaults: the config that every file starts from, as JSON values.
    """

    name: str
    title: str
    doc: str
    config: dict
    environment: dict
    table: pa.Table
    labels: tuple[str, ...]
    claims: list
    headlines: tuple[Headline, ...]
    status: dict
    planned: dict | None = None
    defaults: dict = dataclasses.field(default_factory=dict)
