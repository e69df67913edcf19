"""A population as compiled programs: pmap over devices of vmap over members of scan over steps.

Few programs serve a whole run, each traced and compiled once: `start` (parameters, tables, eval sets), `chunk` (a
fixed number of training steps) and `evaluate`, one for each interval at which evals run.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.stages import Wrapped

from icl_jax import hypers as hy
from icl_jax.devices import release_memory
from icl_jax.members import Member
from icl_jax.models.taps import Patch, at_step, named
from icl_jax.patches import canonical
from icl_jax.spec import SEEDS
from icl_jax.training.protocols import Eval, EvalContext
from icl_jax.training.step import MemberInputs, MemberState, Program, Shared, init_member, train_step

# How often each program was traced, by name: a population must not retrace. Tests read it.
TRACES: Counter = Counter()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Evals that run in one program. every: steps between two; 0: whenever the run is evaluated."""

    every: int
    evals: tuple[Eval, ...]
    evaluate: Wrapped


@dataclasses.dataclass(frozen=True)
class Population:
    """The compiled programs of one population and its inputs on the devices."""

    program: Program
    evals: tuple[Eval, ...]
    members: tuple[Member, ...]
    steps: int  # of a chunk
    inputs: Any  # MemberInputs (devices, width, ...)
    shared: Any  # Shared, one copy per device
    patches: Any  # interventions (devices, width, ...)
    acting: tuple[Patch, ...]  # the same in host memory, arrays with a leading member axis
    start: Wrapped
    chunk: Wrapped
    evaluations: tuple["Evaluation", ...]

    def acts(self, during: str, after: int, step: int) -> dict[str, np.ndarray]:
        """Returns, of each patch that may act in 'training' or in 'evals', in whose members (M,) it did: in a step
        done after `after` and by `step`, or in an eval at `step` (after = step)."""
        last = step if after == step else step - 1
        within = lambda p: np.asarray(p.on, bool) & (p.start <= last) & (p.stop > after)
        return {p.name: within(p) for p in self.acting if p.during in ("both", during)}

    @property
    def rest(self) -> tuple:
        """What `chunk` and `evaluate` take after (state, fixed)."""
        return self.inputs, self.shared, self.patches

    def fresh(self) -> tuple[MemberState, Any]:
        """Returns (state before the first step, fixed: tables and eval sets), on the devices."""
        return self.start(self.inputs, self.shared.evals)

    def feed(self, step: int) -> Any:
        """Returns what the host feeds the chunk that starts at a step, on the devices; None: nothing."""
        source = self.program.source
        if not source.is_fed:
            return None
        want = (self.steps, self.program.spec.train.batch_size)

        def of_member(number: int):
            fed = source.feed(self.members[number], step, step + self.steps)
            for leaf in jax.tree.leaves(fed):
                if leaf.shape[:2] != want:
                    raise ValueError(f"the source feeds {leaf.shape[:2]} (steps, sequences), {want} are asked for")
            return fed

        return self.program.layout.spread_batches(of_member)

    def measure(self, state: MemberState, fixed, step: int | None = None) -> dict[str, dict[str, np.ndarray]]:
        """Returns eval -> metric -> array (members, ...) of numpy, on every process: of the evals that are due at a
        step, or of all."""
        found = {}
        for due in self.evaluations:
            if step is None or not due.every or step % due.every == 0:
                results = self.program.layout.collect(due.evaluate(state, fixed, *self.rest))
                found |= {e.name: e.finish(results[e.name]) for e in due.evals}
        return found


def compiled_chunk(population: Population, state, fixed, fed=None) -> Callable:
    """Returns a function that trains one chunk: (state, fed) -> (state, metrics). One process compiles it here,
    and gives back what compilation took before the first step needs memory. The state is donated.

    fed: of any chunk (`Population.feed`).
    """
    rest = (fixed, *population.rest)
    run = population.chunk
    if jax.process_count() == 1:  # a compiled pmap of several processes does not take host-local arrays
        run = run.lower(state, *rest, fed).compile()
        release_memory()
    return lambda state, fed=None: run(state, *rest, fed)


def build(
    program: Program, evals: tuple[Eval, ...], members: list[Member], steps: int, patches=(), every=None
) -> Population:
    """Returns the population's programs; nothing is compiled before they are called.

    steps: length of a chunk; patches: tuple of `models.taps.Patch` whose arrays have a leading member axis, active in
    the steps they name; every: steps between two runs of an eval, by name, of those that do not run whenever the
    run is evaluated. ValueError for a patch that is of some sequences of a batch only.
    """
    layout = program.layout
    patches = jax.tree.map(lambda x: _per_member(x, len(members)), named(patches))
    _check_any_sequence(patches, program.model.sites)
    seeds = {n: np.asarray([m.seeds[n] for m in members], np.uint32) for n in SEEDS}
    inputs = MemberInputs(hy.stack([m.hypers for m in members]), seeds, program.source.own(members))
    shared = Shared(program.source.shared(), program.model.shared(), {e.name: e.arrays() for e in evals})
    return Population(
        program,
        evals,
        tuple(members),
        steps,
        layout.spread(inputs),
        layout.replicate(shared),
        layout.spread(patches),
        patches,
        layout.map(functools.partial(_start, program, evals)),
        layout.map(functools.partial(_chunk, program, steps), donate=(0,)),
        _evaluations(program, evals, every or {}),
    )


def _evaluations(program: Program, evals: tuple[Eval, ...], every: Mapping[str, int]) -> tuple[Evaluation, ...]:
    """The evals as one program per interval."""
    groups: dict[int, list[Eval]] = {0: []}
    for e in evals:
        groups.setdefault(every.get(e.name, 0), []).append(e)
    return tuple(
        Evaluation(steps, tuple(group), program.layout.map(functools.partial(_evaluate, program, tuple(group))))
        for steps, group in groups.items()
        if group
    )


def _per_member(x, num_members: int) -> np.ndarray:
    """A patch's number that all members share, such as its steps, gets a member axis."""
    x = np.asarray(x)
    return np.broadcast_to(x, (num_members,)) if x.ndim == 0 else x


def _check_any_sequence(patches: tuple[Patch, ...], sites: Mapping[str, tuple[str, ...]]) -> None:
    """Each batch and each eval has other sequences."""
    for patch in patches:
        axes = sites.get(canonical(patch.site), ())
        for array in (patch.mask, patch.value):
            shape = array.shape[1:]
            of = dict(zip(axes[len(axes) - len(shape) :], shape, strict=False))
            if of.get("sequence", 1) != 1:
                raise ValueError(
                    f"patch {patch.name!r}: its mask or value is of {of['sequence']} sequences, and a run has others "
                    "in every batch; give that axis one entry, or name tokens by their role"
                )


def _start(program: Program, evals, inputs: MemberInputs, arrays=None):
    """Returns (state, fixed) of one device's members; fixed = tables and eval sets. arrays: of the evals, by name."""
    TRACES["start"] += 1

    def one(member: MemberInputs):
        h = hy.at(member.hypers, 0)
        tables = program.source.prepare(member.own, h)
        final = _final_hypers(member.hypers)
        final_tables = program.source.prepare(member.own, final)
        of = arrays or {}
        sets = {e.name: e.prepare(of.get(e.name), final_tables, final, member.seeds["eval"]) for e in evals}
        return init_member(program, member), {"tables": tables, "eval_tables": final_tables, "sets": sets}

    return jax.vmap(one)(inputs)


def _final_hypers(hypers: dict) -> dict:
    """Evals of a scheduled distribution are drawn where the schedule ends."""
    return {name: h["values"][..., -1] for name, h in hypers.items()}


def _chunk(program: Program, steps: int, state: MemberState, fixed, inputs: MemberInputs, shared, patches, fed=None):
    """Returns (state after `steps` steps, mean of each metric over them, per member).

    fed: what the host feeds, leaves (steps, members, part of the batch, ...), or None.
    """
    TRACES["chunk"] += 1
    step = functools.partial(train_step, program, shared)

    def all_members(states, fed):
        return jax.vmap(step)(inputs, fixed["tables"], patches, states, fed)

    state, metrics = jax.lax.scan(all_members, state, fed, length=steps)
    return state, jax.tree.map(lambda m: m.mean(0), metrics)


def _evaluate(program: Program, evals, state: MemberState, fixed, inputs: MemberInputs, shared, patches):
    """Returns eval name -> metric -> array (members, ...)."""
    TRACES["evaluate"] += 1

    def one(state, fixed, member, patches):
        variables = {"params": state.params, "stats": state.stats}
        context = EvalContext(
            tables=fixed["eval_tables"],
            shared=shared.source,
            arrays=None,
            h=_final_hypers(member.hypers),
            patches=at_step(patches, state.step, "evals"),
            model_shared=shared.model,
        )
        measure = lambda e: e.run(
            program.model, variables, fixed["sets"][e.name], dataclasses.replace(context, arrays=shared.evals[e.name])
        )
        return {e.name: measure(e) for e in evals}

    return jax.vmap(one)(state, fixed, inputs, patches)


def abstract_state(population: Population) -> MemberState:
    """Returns the shapes of the collected state: flat member axis, no padding, whatever the devices."""
    num = population.program.layout.num_members
    state, _ = jax.eval_shape(population.start, population.inputs, population.shared.evals)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape[2:]), x.dtype), state)


def program_bytes(population: Population) -> int:
    """Returns the peak bytes on one device, by the compiler's own analysis, of the largest of the programs.

    Compiles them; a run that follows finds them in the compilation cache.
    """
    return max(_peak(run.lower(*arguments).compile().memory_analysis()) for run, arguments in programs(population))


def programs(population: Population) -> Iterator[tuple[Any, tuple]]:
    """Yields each program that a run calls with the shapes of its arguments; a run of 0 steps only looks."""
    beginning = (population.inputs, population.shared.evals)
    state, fixed = jax.eval_shape(population.start, *beginning)
    yield population.start, beginning
    if population.program.spec.train.num_steps:
        yield population.chunk, (state, fixed, *population.rest, population.feed(0))
    for due in population.evaluations:
        yield due.evaluate, (state, fixed, *population.rest)


def _peak(analysis) -> int:
    arguments, outputs = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return arguments + outputs + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def state_bytes(population: Population) -> int:
    """Returns the bytes of a checkpoint of the population."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract_state(population)))


def num_parameters(population: Population) -> int:
    """Returns the number of parameters of one member."""
    return sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(abstract_state(population).params))
