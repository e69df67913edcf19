"""Hypers as traced numbers: constants or piecewise linear schedules in the step.

In a config a hyper is a number, a schedule ((step, value), (step, value), ...), or a tuple of those:
one entry per setting of the population. Inside a program a hyper is {"steps": (P,), "values": (P,)}.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from icl_jax.names import suggest
from icl_jax.spec import HYPERS

if TYPE_CHECKING:
    import jax

_LARGEST = float(np.finfo(np.float32).max)
Entry = float | tuple[tuple[float, float], ...]


def _is_number(x) -> bool:
    return isinstance(x, int | float | np.number) and not isinstance(x, bool)


def _is_pair(x) -> bool:
    return isinstance(x, tuple | list) and len(x) == 2 and all(_is_number(v) for v in x)


def _is_schedule(x) -> bool:
    return isinstance(x, tuple | list) and len(x) >= 2 and all(_is_pair(p) for p in x)


def entries(name: str, value) -> tuple[Entry, ...]:
    """Returns the settings of one hyper as a config gives it: at least one entry, each checked."""
    if _is_number(value) or _is_schedule(value):
        value = (value,)
    if not isinstance(value, tuple | list) or not value:
        raise ValueError(
            f"hypers.{name} = {value!r}: give a number, a schedule ((step, value), ...) or a tuple of them"
        )
    return tuple(_check_entry(name, v) for v in value)


def _check_entry(name: str, entry) -> Entry:
    if _is_number(entry):
        _check_range(name, entry)
        return float(entry)
    if not _is_schedule(entry):
        raise ValueError(f"hypers.{name}: {entry!r} is neither a number nor a schedule ((step, value), ...)")
    steps = [s for s, _ in entry]
    if sorted(set(steps)) != steps or steps[0] < 0:
        raise ValueError(f"hypers.{name}: the schedule's steps {steps} must be >= 0 and increase")
    for _, value in entry:
        _check_range(name, value)
    if name == "num_classes" and any(v == 0 for _, v in entry):
        raise ValueError(f"hypers.num_classes: the schedule {entry} passes through 0; name the number of classes")
    return tuple((float(s), float(v)) for s, v in entry)


def _check_range(name: str, value: float) -> None:
    if name not in HYPERS:
        raise ValueError(f"unknown hyper {name!r}{suggest(name, HYPERS)}")
    low, high = HYPERS[name].low, HYPERS[name].high
    if math.isinf(value) or abs(value) > _LARGEST:
        raise ValueError(f"hypers.{name} = {value} is more than a float32 holds ({_LARGEST:.3g}); lower it")
    if not low <= value <= high:
        raise ValueError(f"hypers.{name} = {value} is outside [{low:g}, {high:g}] ({HYPERS[name].doc})")
    if HYPERS[name].whole and value != round(value):
        raise ValueError(f"hypers.{name} = {value} is a count ({HYPERS[name].doc}): use {round(value)}")


def largest(entry: Entry) -> float:
    """Returns the largest value an entry takes."""
    return max(v for _, v in entry) if isinstance(entry, tuple) else float(entry)


def knots(member: dict[str, Entry]) -> list[dict[str, float]]:
    """Returns a member's values, by name, at every step where one of its schedules bends (at least at 0)."""
    steps = {0.0}.union(*({s for s, _ in e} for e in member.values() if isinstance(e, tuple)))
    return [{name: _at(entry, step) for name, entry in member.items()} for step in sorted(steps)]


def _at(entry: Entry, step: float) -> float:
    if not isinstance(entry, tuple):
        return float(entry)
    steps, values = zip(*entry, strict=True)
    return float(np.interp(step, steps, values))


def last(entry: Entry) -> float:
    """Returns the value an entry ends at."""
    return entry[-1][1] if isinstance(entry, tuple) else float(entry)


def stack(members: list[dict[str, Entry]]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the members' hypers as arrays (M, P), P the most knots any member gives that hyper."""
    return {n: _stack_one([m.get(n, float(h.default)) for m in members]) for n, h in HYPERS.items()}


def _stack_one(column: list[Entry]) -> dict[str, np.ndarray]:
    knots = [e if isinstance(e, tuple) else ((0.0, e),) for e in column]
    width = max(len(k) for k in knots)
    padded = [k + (k[-1],) * (width - len(k)) for k in knots]
    array = np.asarray(padded, np.float32)
    return {"steps": array[..., 0], "values": array[..., 1]}


def at(hypers: dict, step: Any) -> "dict[str, jax.Array]":
    """Returns each hyper's value at `step` (a number), name -> float32 scalar. A constant costs nothing."""
    return {name: _value(h, step) for name, h in hypers.items()}


def _value(h: dict, step) -> "jax.Array":
    import jax.numpy as jnp  # configs are read, and explained, without it

    if h["values"].shape[-1] == 1:
        return h["values"][..., 0]
    return jnp.interp(jnp.asarray(step, jnp.float32), h["steps"], h["values"])
