"""Memory of a program, estimated without compiling it: the most bytes that its arrays hold at once.

Each operation is taken to write its results beside its operands, and an array to live until its last use. XLA, which
fuses operations and shares buffers, mostly needs less, and on some back ends scratch space beside; so it is an
estimate, of the right size.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from icl_jax.training.population import Population, programs


def estimated_bytes(population: Population) -> int:
    """Returns the estimate for the largest of a population's programs, on one device. It traces them."""
    traced = [jax.make_jaxpr(run)(*arguments).jaxpr for run, arguments in programs(population)]
    return max(_on_one_device(jaxpr) for jaxpr in traced)


def _on_one_device(jaxpr: Any) -> int:
    """The program that each device runs is the one inside."""
    for equation in jaxpr.eqns:
        for inner in _inner(equation):
            return peak_bytes(inner)
    return peak_bytes(jaxpr)


def peak_bytes(jaxpr: Any) -> int:
    """Returns the most bytes that the arrays of a jaxpr hold at once, its inputs and results among them."""
    last = {}
    for number, equation in enumerate(jaxpr.eqns):
        last |= dict.fromkeys(_variables(equation.invars), number)
    last |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    ends: dict[int, list] = {}
    for variable, number in last.items():
        ends.setdefault(number, []).append(variable)
    live = sum(map(_size, {*jaxpr.invars, *jaxpr.constvars}))
    peak = live
    for number, equation in enumerate(jaxpr.eqns):
        results = sum(map(_size, equation.outvars))
        operands = sum(map(_size, _variables(equation.invars)))
        inside = max((peak_bytes(inner) - operands for inner in _inner(equation)), default=0)
        peak = max(peak, live + max(results, inside))
        live += sum(_size(variable) for variable in equation.outvars if variable in last)
        live -= sum(_size(variable) for variable in ends.get(number, ()))
    return peak


def _variables(found: list) -> set:
    return {variable for variable in found if not isinstance(variable, core.Literal)}


def _inner(equation: Any) -> Iterator[Any]:
    """The jaxprs that an operation runs, such as the body of a loop."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "eqns"):
                yield part
            elif hasattr(part, "jaxpr"):
                yield part.jaxpr


def _size(variable: Any) -> int:
    aval = variable.aval
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") and hasattr(aval, "dtype") else 0
