"""Laws of examples: every public docstring carries one, none is skipped, and what they show is what happens.

The names that examples may use are those of `names_of_examples`; `icl_jax/__init__.py` tells readers of them.
"""

import contextlib
import copy
import doctest
import functools
import inspect
import pathlib
import types

import numpy
import pytest
from letters import imported_gpt2
from sweep_table import results
from tiny import tiny_config

import icl_jax
from icl_jax import claims, grid, headlines, names, patches, plugins, registry
from icl_jax.claims.judge import Claim as Judged
from icl_jax.models import taps
from icl_jax.runs import dissection, sampling
from icl_jax.spec import HYPERS

ROOT = pathlib.Path(__file__).parents[1]
HOW = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# where what is public is defined, and its names there (none: all that the module defines)
PUBLIC = {
    icl_jax: tuple(name for name in icl_jax.__all__ if name not in ("claims", "grid", "plugins")),
    claims: tuple(name for name in claims.__all__ if name != "Claim"),  # a union of four that are there
    grid: (),
    plugins: (),
    patches: (),
    headlines: (),
    taps: ("Patch", "from_config"),
    sampling: ("Sample",),
    dissection: ("dissect",),
    names: ("suggest",),
    registry: (
        *("Reads", "Component", "SourceComponent", "BankComponent", "ModelComponent", "FrontendComponent"),
        *("CoreComponent", "OptimiserComponent", "EvalComponent", "register", "shared", "load", "components", "find"),
        *("owned_by", "forget", "brought_by_others", "roles_of", "owner_of", "chosen", "unread_hypers"),
    ),
}
PLUGIN = """
from icl_jax.registry import Component, register, shared
from icl_jax.spec import Hyper

register(
    Component(
        role="schedule",
        name="falling",
        doc="The peak, falling with a power of the step.",
        build=lambda train, h, step, warmup: h["learning_rate"] / step ** h["power"],
        hypers=shared("learning_rate") | {"power": Hyper(0.5, 0, 1, "of the step, by which the rate falls")},
    )
)
"""


def documented() -> dict[str, object]:
    """Returns what is public, by dotted name: functions, classes, and the methods and properties of these."""
    found = {}
    for module, chosen in PUBLIC.items():
        own = [name for name, value in vars(module).items() if _is_of(value, module) and not name.startswith("_")]
        for name in chosen or own:
            value, where = getattr(module, name), f"{module.__name__}.{name}"
            if value in found.values():  # also public under a shorter name
                continue
            found[where] = value
            if inspect.isclass(value):
                members = {member: _function(held) for member, held in vars(value).items() if member[0] != "_"}
                found |= {f"{where}.{member}": f for member, f in members.items() if _is_shown(member, f, value)}
    return found


def _is_of(value, module: types.ModuleType) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


def _function(held):
    """The function behind what a class holds: a method, a property or a cached one."""
    if isinstance(held, functools.cached_property):
        return held.func
    return held.fget if isinstance(held, property) else held


def _is_shown(member: str, function, owner: type) -> bool:
    """Whether a member is a function of the class itself. What all kinds of claims answer to `judge` is told once, in
    their protocol."""
    if not inspect.isfunction(function) or function.__module__ != owner.__module__:
        return False
    return bool(function.__doc__) or not hasattr(Judged, member)


def curve(labels, seed, step):
    """A made-up sweep: ICL rises with burstiness until step 500, and fades where half of the sequences are bursty."""
    p, rise = labels["p_bursty"], min(step, 500) / 500
    fades = 0.1 * max(step - 500, 0) / 500 * (p == 0.5)
    icl = 0.5 + (0.4 + 0.01 * seed) * p * rise - fades
    return {"fewshot_holdout": icl, "flipped": icl, "no_support_zipfian": 0.9 - 0.8 * p}


def names_of_examples(directory: pathlib.Path) -> dict:
    """Returns the names that examples may use; trains the run among them."""
    images = {"bank__name": "glyphs", "bank__dim": 64, "bank__image_size": 8, "bank__num_exemplars": 4}
    config = tiny_config(**images, model__labels="interleaved", runtime__devices=1, runtime__figures=True)
    config.evals.more.along = {"use": "positions"}
    run = icl_jax.train(config, directory / "tiny", progress=False)
    (directory / "falling.py").write_text(PLUGIN)
    return {
        "icl_jax": icl_jax,
        "claims": claims,
        "grid": grid,
        "plugins": plugins,
        "numpy": numpy,
        "config": config,
        "directory": directory,
        "run": run,
        "language": imported_gpt2(directory),
        "plugin": directory / "falling.py",
        "results": results(curve, {"p_bursty": (0.0, 0.5, 1.0)}),
        "headlines": headlines.headlines_of(config.evals),
    }


@contextlib.contextmanager
def restored():
    """Takes back what an example registers."""
    registry.components("core")
    state = (registry._COMPONENTS, registry._OWNERS, HYPERS, plugins._ACTIVE, plugins._TEXTS)
    before = [{key: copy.copy(value) for key, value in known.items()} for known in state]
    yield
    for known, kept in zip(state, before, strict=True):
        known.clear()
        known.update(kept)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return names_of_examples(tmp_path_factory.mktemp("examples"))


def example_of(name: str, value, globs: dict) -> doctest.DocTest:
    """Returns the example of a docstring; it may be empty."""
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=False)
    (found,) = finder.find(value, name, globs=globs)
    return found


@pytest.mark.parametrize("name", documented())
def test_an_example_shows_what_happens(name, given, monkeypatch):
    monkeypatch.chdir(ROOT)  # examples name config files
    said: list[str] = []
    example = example_of(name, documented()[name], {**given, "config": given["config"].copy_and_resolve_references()})
    with restored():
        outcome = doctest.DocTestRunner(optionflags=HOW).run(example, out=said.append)
    assert not outcome.failed, "".join(said)


def test_every_public_docstring_carries_an_example_and_none_is_skipped():
    examples = {name: example_of(name, value, {}).examples for name, value in documented().items()}
    assert not (without := [name for name, found in examples.items() if not found]), f"no example in {without}"
    skipped = [name for name, found in examples.items() if any(doctest.SKIP in e.options for e in found)]
    assert not skipped, f"skipped: {skipped}"
