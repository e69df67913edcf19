"""Frozen dataclasses as JSON values, and back."""

import dataclasses
from collections.abc import Mapping

from icl_jax.names import suggest


def fields_of(item) -> dict:
    """Returns the fields of a dataclass that differ from their default, as JSON values."""
    values = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value != default:
            values[field.name] = fields_of(value) if dataclasses.is_dataclass(value) else _plain(value)
    return values


def _plain(value):
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return dict(value) if isinstance(value, Mapping) else value


def make(kind: type, row: Mapping, what: str):
    """Returns the dataclass of a dict of its fields. ValueError names an unknown or a missing field."""
    fields = {f.name: f.default is f.default_factory is dataclasses.MISSING for f in dataclasses.fields(kind)}
    if unknown := sorted(row.keys() - fields.keys()):
        raise ValueError(f"{what}: unknown field {unknown[0]!r}{suggest(unknown[0], fields)}")
    if missing := [name for name, needed in fields.items() if needed and name not in row]:
        raise ValueError(f"{what}: field {missing[0]!r} is missing; give it")
    return kind(**row)
