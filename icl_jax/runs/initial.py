"""Starting a run from another run's checkpoint (config.init_from)."""

import dataclasses
import fnmatch
from typing import Any, Protocol

import jax
import numpy as np

from icl_jax.names import suggest
from icl_jax.runs import rundir
from icl_jax.runs.runplan import Start
from icl_jax.sections import StartSection
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.leaves import Leaves, fit, flatten
from icl_jax.storage.paths import as_path
from icl_jax.training.step import MemberState

STAGE = "stage:"  # init_from.run and bank.path name an earlier stage of a sweep so
RULES = ("take", "pad", "fresh")


class Origin(Protocol):
    """Where a run starts. text: what of it belongs to the identity of such a run, beside what its members' sources
    say. keeps_seed: whether a member's init seed, or its place, decides anything of what `apply` gives."""

    @property
    def text(self) -> str: ...

    @property
    def keeps_seed(self) -> bool: ...

    def apply(self, fresh: MemberState) -> MemberState:
        """Returns the fresh state (arrays or shapes, leading member axis) with what is taken over in its place.

        Raises ValueError where the members, and CheckpointError where the leaves, do not fit.
        """
        ...


@dataclasses.dataclass(frozen=True)
class OfRun:
    """The checkpoint of a run: its members are taken one by one, or its only one by all. Step and divergence start
    afresh. parts: of the state that are taken over, as restored; rules: see `taken_over`."""

    name: str
    identity: str
    step: int
    parts: dict[str, Any]
    rules: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.identity} {self.step}" + how("opt_state" in self.parts, self.rules)

    @property
    def keeps_seed(self) -> bool:
        return keeps_seed(self.rules) or jax.tree.leaves(self.parts["params"])[0].shape[0] > 1

    def apply(self, fresh: MemberState) -> MemberState:
        return taken_over(fresh, self.parts, self.rules, self.name)


def how(optimiser: bool, rules: tuple[str, ...]) -> str:
    """Returns how a checkpoint is taken over, as part of an identity."""
    return (" optimiser" if optimiser else "") + "".join(f" {rule}" for rule in rules)


def keeps_seed(rules: tuple[str, ...]) -> bool:
    """Returns whether a parameter that is taken over by these rules may keep something of its own init seed."""
    return any(rule != "take" for _, rule in parse_rules(rules))


def parts_of(found: dict[str, Any], optimiser: bool) -> dict[str, Any]:
    """Returns the parts of a restored state that are taken over; empty ones are not stored."""
    names = ("params", "stats", "opt_state") if optimiser else ("params", "stats")
    return {name: found.get(name, {}) for name in names}


def taken_over(fresh: MemberState, parts: dict[str, Any], rules: tuple[str, ...], name: str) -> MemberState:
    """Returns a fresh state with the parts (of as many members, or of one for all) in its place.

    rules: "PATTERN=RULE" over paths of parameters, such as "readout/*=pad"; the last that matches counts. take: as it
    is; pad: it fills the first places along each axis, and the rest stays fresh; fresh: it is not taken over.
    name: of where the parts come from. Raises ValueError for a rule that there is not or that matches nothing, and for
    members, CheckpointError for leaves, that do not fit.
    """
    parsed = parse_rules(rules)
    if parsed and "opt_state" in parts:
        raise ValueError(
            f"init_from.leaves {', '.join(rules)}: optimiser state belongs to parameters that are taken as they are; "
            "set init_from.optimiser to False"
        )
    paths = set()
    for part, found in parts.items():
        target = getattr(fresh, part)
        wanted = {path: leaf for path, leaf in _shapes(target).items()}
        counts = {leaf.shape[0] for leaf in wanted.values()}
        leaves = {path: _spread(leaf, counts, name) for path, leaf in flatten(found).items()}
        fresh = dataclasses.replace(fresh, **{part: fit(_by_rule(leaves, wanted, parsed, name), target)})
        paths |= wanted.keys() | leaves.keys()
    for pattern, _ in parsed:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise ValueError(f"init_from.leaves {pattern!r} matches no parameter; there are {', '.join(sorted(paths))}")
    return fresh


def parse_rules(rules: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns (pattern, rule) of each "PATTERN=RULE". ValueError for another text."""
    parsed = []
    for text in rules:
        pattern, _, rule = text.rpartition("=")
        if not pattern or rule not in RULES:
            hint = suggest(rule, RULES) if pattern else ""
            raise ValueError(f"init_from.leaves {text!r}{hint}: give PATTERN=RULE, with rule {', '.join(RULES)}")
        parsed.append((pattern, rule))
    return parsed


def _shapes(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(k, simple=True, separator="/"): leaf for k, leaf in jax.tree.leaves_with_path(tree)}


def _by_rule(leaves: Leaves, wanted: dict[str, Any], rules: list[tuple[str, str]], name: str) -> Leaves:
    """The leaves with those in the place that rules say something else of."""
    result = dict(leaves)
    for path in wanted.keys() | leaves.keys():
        rule = next((rule for pattern, rule in reversed(rules) if fnmatch.fnmatchcase(path, pattern)), "take")
        if rule == "fresh":
            result.pop(path, None)
            if path in wanted:
                result[path] = _array(wanted[path])
        elif rule == "pad" and path in wanted and path in leaves:
            result[path] = _padded(leaves[path], _array(wanted[path]), f"{path} of {name}")
    return result


def _array(leaf: Any) -> np.ndarray:
    """A leaf as an array; of a shape alone, zeros that take no room."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
    return np.asarray(leaf)


def _padded(taken: np.ndarray, fresh: np.ndarray, what: str) -> np.ndarray:
    if taken.ndim != fresh.ndim or any(a > b for a, b in zip(taken.shape, fresh.shape, strict=True)):
        raise ValueError(
            f"init_from.leaves: {what} has shape {taken.shape[1:]} and cannot be padded to {fresh.shape[1:]}; a fresh "
            "one must be as large along each axis"
        )
    result = fresh.copy()
    result[tuple(slice(size) for size in taken.shape)] = taken
    return result


def _spread(leaf: np.ndarray, counts: set[int], name: str) -> np.ndarray:
    (members,) = counts or {leaf.shape[0]}
    if leaf.shape[0] not in (1, members):
        raise ValueError(f"{name} has {leaf.shape[0]} members and this run {members}: it must have as many, or one")
    return np.broadcast_to(leaf, (members, *leaf.shape[1:]))


def read_origin(source: Start) -> OfRun | None:
    """Returns what a start names, or None. ValueError or CheckpointError when it is not there."""
    if not source.run:
        for name, default in dataclasses.asdict(StartSection()).items():
            if (value := getattr(source, name)) != default:
                shown = ", ".join(value) if isinstance(value, tuple) else value
                raise ValueError(f"init_from.{name} {shown}: there is nothing to take; set init_from.run")
        return None
    if source.run.startswith(STAGE):
        raise ValueError(
            f"init_from.run {source.run!r} is an earlier stage of a sweep: run it with `icl sweep run`, or name the "
            "directory of a run"
        )
    directory = as_path(source.run)
    identity = rundir.read(directory)["identity"]
    wanted = None if source.step < 0 else source.step
    step, found, _ = Checkpoints(directory / "checkpoints").restore(step=wanted)
    return OfRun(str(directory), identity, step, parts_of(found, source.optimiser), source.leaves)
