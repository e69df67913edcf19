"""Builds the analyses that a config names, with the questions that they ask."""

from collections.abc import Mapping
from typing import Any

from icl_jax.data.source import Exemplars
from icl_jax.data.text.source import Texts
from icl_jax.dissect.answers import Answers
from icl_jax.dissect.cases import ExemplarQuestions, Questions
from icl_jax.dissect.declared import TEXT_OPTIONS
from icl_jax.dissect.edges import Edges, windows_of
from icl_jax.dissect.flow import Flow
from icl_jax.dissect.readout import Readout
from icl_jax.dissect.roles import check_edge
from icl_jax.dissect.texts import text_questions
from icl_jax.inputs import TEXT_SETS
from icl_jax.registry import find, resolved_options
from icl_jax.spec import RunSpec

_WORDS = (5, 10)  # k of word loyalty: Wang et al. 2023 say 5, their notebook of isolation has 10


def flow(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Flow:
    """Returns the saliency of a run's model. ValueError where it cannot be had."""
    _check_attention(name, spec)
    for each in options["flows"]:
        check_edge(f"evals.more.{name}.flows", each, _sets(spec, source))
    sizes = spec.model.num_layers, spec.model.num_heads
    asked = questions(name, spec, source, options, whole=True)
    return Flow(name, asked, options["flows"], options["of"], sizes, options["at_once"])


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


def readout(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Readout:
    """Returns what questions read of labels. ValueError where there is no attention."""
    _check_attention(name, spec)
    return Readout(name, questions(name, spec, source, options), spec.model.num_layers, options["at_once"])


def answers(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Answers:
    """Returns how well questions are answered."""
    return Answers(name, questions(name, spec, source, options), options["at_once"])


def _check_attention(name: str, spec: RunSpec) -> None:
    core = find("core", spec.model.core)
    if "attn_probs" not in core.sites(spec.model, resolved_options(core, spec.options_of("core"))):
        raise ValueError(
            f"evals.more.{name} looks at attention, and model.core {spec.model.core!r} has none; use a core with "
            "it, or leave the eval out"
        )


def _sets(spec: RunSpec, source: Any) -> tuple[str, ...]:
    """Names of the sets of tokens of a run's inputs."""
    if isinstance(source, Texts):
        return TEXT_SETS
    return ("item", "label", "answer", "forerunner", "query", *(("task",) if spec.task.task_token else ()))


def questions(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any], whole: bool = False) -> Questions:
    """Returns the questions of an analysis. whole: demonstrations are read with every question, as gradients go through
    them. ValueError where the source has none, and for options that its kind of question has not."""
    if isinstance(source, Texts):
        if not options["task"]:
            raise ValueError(f"evals.more.{name}: a language model is asked a text task; set task, such as task='sst2'")
        num_positions = spec.options_of("frontend").get("num_positions", 0)
        return text_questions(name, source, options, num_positions, whole)
    if not isinstance(source, Exemplars):
        raise ValueError(f"evals.more.{name} takes exemplar sequences or texts; this is a {type(source).__name__}")
    for field in TEXT_OPTIONS:
        if options[field] != (default := find("eval", "flow").options[field].default):
            raise ValueError(
                f"evals.more.{name}.{field} {options[field]!r} is of texts, and these are sequences of items; leave it "
                f"{default!r}"
            )
    if spec.model.labels == "concatenated":
        raise ValueError(
            f"evals.more.{name}: a concatenated token is an item and its label at once; use model.labels 'interleaved'"
        )
    suite = dict(spec.evals.suites)[options["suite"]]
    if suite.kind != "fewshot" or not suite.ways:
        raise ValueError(
            f"evals.more.{name}: suite {options['suite']!r} is of kind {suite.kind!r} with ways {suite.ways}: classes "
            "of a sequence are the ways of kind 'fewshot'; name such a suite, with ways stated"
        )
    return ExemplarQuestions(name, options["suite"], suite, options["num_prompts"], source)
