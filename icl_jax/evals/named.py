"""Evals beside the suites, as a config names them. Imports no JAX.

`evals.more.NAME = {"use": COMPONENT (default: NAME), "every": STEPS (default: evals.every), OPTION: VALUE, ...}`.
"""

from collections.abc import Mapping
from typing import Any

from icl_jax.names import check_file_name, few, suggest
from icl_jax.plugins import digest_of
from icl_jax.registry import EVAL_FIELDS, find, option_value, resolved_options
from icl_jax.spec import MoreEval, RunSpec

_TAKEN = ("train", "suites")  # what the table calls training, and the eval of all suites


def parse(name: str, fields: Mapping[str, Any]) -> MoreEval:
    """Returns an eval out of the fields that a config gives it. ValueError for a component that is not registered, a
    field that it does not have and a value that the field does not take."""
    where = f"evals.more.{name}"
    check_file_name("the name of an eval,", name)
    if not isinstance(fields, Mapping) and not hasattr(fields, "to_dict"):
        raise ValueError(f"{where} = {fields!r}: give its fields, such as {{'use': 'by_position'}}, or {{}}")
    fields = dict(fields)
    use, every = str(fields.pop("use", "") or name), fields.pop("every", 0)
    if not isinstance(every, int) or isinstance(every, bool) or every < 0:
        raise ValueError(f"{where}.every = {every!r}: give whole steps, or 0 for evals.every")
    try:
        known = find("eval", use).options
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None
    for field in fields:
        if field not in known:
            raise ValueError(f"{where} has no field {field!r}{suggest(field, [*EVAL_FIELDS, *known])}")
    values = {field: option_value(f"{where}.{field}", value, known[field]) for field, value in fields.items()}
    changed = {field: value for field, value in values.items() if value != known[field].default}
    return MoreEval(use, every, tuple(sorted(changed.items())))


def suites_of(more: MoreEval) -> tuple[str, ...]:
    """Returns the names of the suites on whose sequences an eval looks."""
    component = find("eval", more.use)
    return component.suites(resolved_options(component, dict(more.options))) if component.suites else ()


def data_digest(more: MoreEval) -> str:
    """Returns the digests of the data that an eval stands on and of the plugin it is from, "" for none."""
    component = find("eval", more.use)
    data = component.digest(resolved_options(component, dict(more.options))) if component.digest else ""
    return " ".join(filter(None, [data, digest_of(component)]))


def check(spec: RunSpec, every: int) -> None:
    """Raises ValueError for a name that something else has, a suite that the run lacks and intervals that do not fit.
    every: steps between two evaluations of the run."""
    suites = dict(spec.evals.suites)
    for name in (name for name in suites if name in _TAKEN):
        raise ValueError(f"evals.custom.{name}: {name!r} has a meaning in the table; give the suite another name")
    for name, more in spec.evals.more:
        if name in _TAKEN or name in suites:
            taken = f"{name!r} is a suite of the run" if name in suites else f"{name!r} has a meaning in the table"
            raise ValueError(f"evals.more.{name}: {taken}; give the eval another name and say use={more.use!r}")
        for suite in suites_of(more):
            if not find("source", spec.parts.source).suites:
                raise ValueError(
                    f"evals.more.{name} looks at suite {suite!r}, and source {spec.parts.source!r} draws none; say "
                    "what it is to look at instead, such as a text task (task='sst2')"
                )
            if suite not in suites:
                has = f"which is not among evals.suites {list(suites)}; add it"
                raise ValueError(f"evals.more.{name} looks at suite {suite!r}, {has}")
        steps = more.every or every
        if steps % every or spec.train.num_steps % steps:
            fits = [n for n in range(every, spec.train.num_steps + 1, every) if spec.train.num_steps % n == 0]
            raise ValueError(
                f"evals.more.{name}.every = {steps} must be a multiple of evals.every ({every}) that divides "
                f"train.num_steps ({spec.train.num_steps}); use one of {few(fits)}"
            )
