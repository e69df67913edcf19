"""Builds the analyses that a config names, with the questions that they ask."""

from collections.abc import Mapping
from typing import Any

from icl_jax.data.source import Exemplars
from icl_jax.dissect.cases import ExemplarQuestions, Questions
from icl_jax.dissect.edges import Edges, windows_of
from icl_jax.dissect.flow import Flow
from icl_jax.dissect.roles import check_edge
from icl_jax.registry import find
from icl_jax.spec import RunSpec

_WORDS = (5, 10)  # k of word loyalty: Wang et al. 2023 say 5, their notebook of isolation has 10


def flow(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Flow:
    """Returns the saliency of a run's model. ValueError where it cannot be had."""
    _check_attention(name, spec)
    for each in options["flows"]:
        check_edge(f"evals.more.{name}.flows", each, _sets(spec, source))
    sizes = spec.model.num_layers, spec.model.num_heads
    return Flow(name, questions(name, spec, source, options), options["flows"], options["of"], sizes, options["at_once"])


def edges(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Edges:
    """Returns cuts of a run's attention. ValueError where they cannot be made."""
    _check_attention(name, spec)
    for each in options["edges"]:
        check_edge(f"evals.more.{name}.edges", each, _sets(spec, source))
    windows = windows_of(options["layers"], spec.model.num_layers)
    words = tuple(k for k in _WORDS if k < source.facts.vocab_size // 2)
    return Edges(
        name,
        questions(name, spec, source, options),
        options["edges"],
        tuple((text, tuple(map(bool, gate))) for text, gate in windows.items()),
        words,
        options["at_once"],
    )


def _check_attention(name: str, spec: RunSpec) -> None:
    core = find("core", spec.model.core)
    if "attn_probs" not in core.sites(spec.model, {**{n: o.default for n, o in core.options.items()}}):
        raise ValueError(
            f"evals.more.{name} looks at attention, and model.core {spec.model.core!r} has none; use a core with it, or "
            "leave the eval out"
        )


def _sets(spec: RunSpec, source: Any) -> tuple[str, ...]:
    """Names of the sets of tokens of a run's inputs."""
    return ("item", "label", "answer", "forerunner", "query", *(("task",) if spec.task.task_token else ()))


def questions(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Questions:
    """Returns the questions of an analysis. ValueError where the source has none."""
    if not isinstance(source, Exemplars):
        raise ValueError(f"evals.more.{name} takes exemplar sequences or texts; this is a {type(source).__name__}")
    if spec.model.labels == "concatenated":
        raise ValueError(
            f"evals.more.{name}: a concatenated token is an item and its label at once; use model.labels 'interleaved'"
        )
    suite = dict(spec.evals.suites)[options["suite"]]
    if suite.kind != "fewshot" or not suite.ways:
        raise ValueError(
            f"evals.more.{name}: suite {options['suite']!r} is of kind {suite.kind!r} with ways {suite.ways}: classes of "
            "a sequence are the ways of kind 'fewshot'; name such a suite, with ways stated"
        )
    return ExemplarQuestions(name, options["suite"], suite, options["num_prompts"], source)
