"""The config and the environment of a sweep, as tables."""

import json

from icl_jax.report.data import SweepData
from icl_jax.report.html import Markup, details, render, table, tag

_ABSENT = object()


def config_part(sweep: SweepData) -> Markup:
    """Returns recipe, config (fields that differ from the defaults first, then all) and environment, folded."""
    fields, defaults = flat(sweep.config), flat(sweep.defaults)
    changed = {name: value for name, value in fields.items() if value != defaults.get(name, _ABSENT)}
    rows = [[name, _shown(value), _shown(defaults.get(name, ""))] for name, value in changed.items()]
    everything = [[name, _shown(value)] for name, value in fields.items()]
    count = f"{len(changed)} of {len(fields)} fields differ from the defaults"
    return render(
        tag("h3", "Config and environment"),
        details("Recipe: the config's docstring", tag("pre", sweep.doc.strip(), class_="wrap")) if sweep.doc else None,
        details(
            f"Config: {count}",
            table(["field", "value", "default"], rows),
            details("All fields", table(["field", "value"], everything)),
        ),
        details("Environment", table(["name", "value"], [[n, _shown(v)] for n, v in flat(sweep.environment).items()])),
    )


def flat(fields: dict, path: str = "") -> dict:
    """Returns nested fields by dotted name: {"hypers.p_bursty": [0.9], ...}."""
    found = {}
    for name, value in fields.items():
        inner = value if isinstance(value, dict) and value else None
        found |= flat(inner, f"{path}{name}.") if inner else {f"{path}{name}": value}
    return found


def _shown(value) -> Markup:
    return tag("code", value if isinstance(value, str) else json.dumps(value))
