"""A population as compiled programs: pmap over devices of vmap over members of scan over steps.

Three programs serve a whole run, each traced and compiled once: `start` (parameters, tables, eval
sets), `chunk` (a fixed number of training steps) and `evaluate`.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from icl_jax import hypers as hy
from icl_jax.config import Member
from icl_jax.devices import release_memory
from icl_jax.models.taps import at_step
from icl_jax.spec import SEEDS
from icl_jax.training.step import MemberInputs, MemberState, Program, init_member, train_step


class EvalLike(Protocol):
    """What the trainer asks of an eval (DESIGN contract 2); it imports none.

    prepare(tables, h, seed) -> eval set, once per member; run(apply, variables, eval_set, tables,
    bank, h) -> dict metric -> array; axes: metric -> names of its axes; coords: axis -> labels.
    """

    name: str
    axes: dict[str, tuple[str, ...]]
    coords: dict[str, tuple]
    prepare: Callable
    run: Callable


# How often each program was traced, by name: a population must not retrace. Tests read it.
TRACES: Counter = Counter()


def compiled_chunk(population: "Population", state, fixed) -> Callable:
    """Returns a function of the state that trains one chunk: (state, metrics). One process compiles it here,
    and gives back what compilation took before the first step needs memory. The state is donated."""
    rest = (fixed, population.inputs, population.bank, population.patches)
    run = population.chunk
    if jax.process_count() == 1:  # a compiled pmap of several processes does not take host-local arrays
        run = run.lower(state, *rest).compile()
        release_memory()
    return lambda state: run(state, *rest)


def member_inputs(members: list[Member], orders: np.ndarray) -> MemberInputs:
    """Returns the members as arrays with a leading member axis. orders: int32 (M, C)."""
    seeds = {n: np.asarray([m.seeds[n] for m in members], np.uint32) for n in SEEDS}
    return MemberInputs(hy.stack([m.hypers for m in members]), seeds, np.asarray(orders, np.int32))


@dataclasses.dataclass(frozen=True)
class Population:
    """The compiled programs of one population and its inputs on the devices."""

    program: Program
    evals: tuple[EvalLike, ...]
    inputs: Any  # MemberInputs (devices, width, ...)
    bank: Any  # bank arrays, one copy per device
    patches: Any  # interventions during training and evals (devices, width, ...)
    start: Callable
    chunk: Callable
    evaluate: Callable


def build(
    program: Program, evals: tuple[EvalLike, ...], members: list[Member], orders, bank: dict, steps: int, patches=()
) -> Population:
    """Returns the population's programs; nothing is compiled before they are called.

    bank: dict of arrays; steps: length of a chunk; patches: tuple of `models.taps.Patch` whose arrays
    have a leading member axis, active in the steps they name.
    """
    layout = program.layout
    return Population(
        program,
        evals,
        layout.spread(member_inputs(members, orders)),
        layout.replicate(bank),
        layout.spread(jax.tree.map(lambda x: _per_member(x, len(members)), patches)),
        layout.map(functools.partial(_start, program, evals)),
        layout.map(functools.partial(_chunk, program, steps), donate=(0,)),
        layout.map(functools.partial(_evaluate, program, evals)),
    )


def _per_member(x, num_members: int) -> np.ndarray:
    """A patch's number that all members share, such as its steps, gets a member axis."""
    x = np.asarray(x)
    return np.broadcast_to(x, (num_members,)) if x.ndim == 0 else x


def _start(program: Program, evals, inputs: MemberInputs):
    """Returns (state, fixed) of one device's members; fixed = tables and eval sets."""
    TRACES["start"] += 1

    def one(member: MemberInputs):
        h = hy.at(member.hypers, 0)
        tables = program.source.prepare(member.order, h)
        final = _final_hypers(member.hypers)
        final_tables = program.source.prepare(member.order, final)
        sets = {e.name: e.prepare(final_tables, final, member.seeds["eval"]) for e in evals}
        return init_member(program, member), {"tables": tables, "eval_tables": final_tables, "sets": sets}

    return jax.vmap(one)(inputs)


def _final_hypers(hypers: dict) -> dict:
    """Evals of a scheduled distribution are drawn where the schedule ends."""
    return {name: h["values"][..., -1] for name, h in hypers.items()}


def _chunk(program: Program, steps: int, state: MemberState, fixed, inputs: MemberInputs, bank, patches):
    """Returns (state after `steps` steps, mean of each metric over them, per member)."""
    TRACES["chunk"] += 1
    step = functools.partial(train_step, program, bank)

    def all_members(states, _):
        return jax.vmap(step)(inputs, fixed["tables"], patches, states)

    state, metrics = jax.lax.scan(all_members, state, None, length=steps)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)


def _evaluate(program: Program, evals, state: MemberState, fixed, inputs: MemberInputs, bank, patches):
    """Returns eval name -> metric -> array (members, ...)."""
    TRACES["evaluate"] += 1

    def one(state, fixed, member, patches):
        h = _final_hypers(member.hypers)
        variables = {"params": state.params, "stats": state.stats}
        apply = functools.partial(program.model.apply, patches=at_step(patches, state.step))
        return {e.name: e.run(apply, variables, fixed["sets"][e.name], fixed["eval_tables"], bank, h) for e in evals}

    return jax.vmap(one)(state, fixed, inputs, patches)


def abstract_state(population: Population) -> MemberState:
    """Returns the shapes of the collected state: flat member axis, no padding, whatever the devices."""
    num = population.program.layout.num_members
    state, _ = jax.eval_shape(population.start, population.inputs)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape[2:]), x.dtype), state)


def program_bytes(population: Population) -> int:
    """Returns the peak bytes on one device, by the compiler's own analysis, of the largest of the programs.

    Compiles them; a run that follows finds them in the compilation cache.
    """
    rest = (population.inputs, population.bank, population.patches)
    state, fixed = jax.eval_shape(population.start, population.inputs)
    lowered = (
        population.start.lower(population.inputs),
        population.chunk.lower(state, fixed, *rest),
        population.evaluate.lower(state, fixed, *rest),
    )
    return max(_peak(program.compile().memory_analysis()) for program in lowered)


def _peak(analysis) -> int:
    arguments, outputs = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return arguments + outputs + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def state_bytes(population: Population) -> int:
    """Returns the bytes of a checkpoint of the population."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract_state(population)))


def num_parameters(population: Population) -> int:
    """Returns the number of parameters of one member."""
    return sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(abstract_state(population).params))
