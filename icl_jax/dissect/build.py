"""Builds the analyses that a config names, with the questions that they ask."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from icl_jax.data.source import Exemplars
from icl_jax.data.text.prompts import content_free, domain_texts, without_text
from icl_jax.data.text.source import Texts
from icl_jax.dissect.answers import Answers
from icl_jax.dissect.cases import ExemplarQuestions
from icl_jax.dissect.compress import Compress
from icl_jax.dissect.declared import TEXT_OPTIONS
from icl_jax.dissect.diagnose import LEAST_CLASSES, Diagnose
from icl_jax.dissect.edges import Edges, windows_of
from icl_jax.dissect.flow import Flow
from icl_jax.dissect.keeping import FORMAT
from icl_jax.dissect.prompt import PromptSaliency
from icl_jax.dissect.readout import Readout
from icl_jax.dissect.reweight import CONTEXTUAL, DOMAIN, Reweight
from icl_jax.dissect.roles import ANCHORS, CONTROLS, check_edge
from icl_jax.dissect.texts import TextQuestions, TextSets, text_sets
from icl_jax.inputs import TEXT_SETS
from icl_jax.models.frontends.layout import TokenLayout, token_layout
from icl_jax.patches import edge
from icl_jax.registry import find, resolved_options
from icl_jax.spec import RunSpec

_WORDS = (5, 10)  # k of word loyalty: Wang et al. 2023 say 5, their notebook of isolation has 10
_DOMAIN_TEXTS = 20  # Fei et al. 2023


def flow(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Flow:
    """Returns the saliency of a run's model. ValueError where it cannot be had."""
    _check_attention(name, spec)
    for each in options["flows"]:
        check_edge(f"evals.more.{name}.flows", each, _sets(spec, source))
    asked = _questions(name, spec, source, options, whole=True)
    return Flow(name, asked, options["flows"], options["of"], _sizes(spec), options["at_once"])


def prompt(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> PromptSaliency:
    """Returns the saliency of one prompt, for a picture. ValueError where it cannot be had."""
    _check_attention(name, spec)
    asked = _questions(name, spec, source, {**options, "num_prompts": 1}, whole=True)
    return PromptSaliency(name, asked, options["of"], _sizes(spec), asked.num_tokens)


def edges(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Edges:
    """Returns cuts of a run's attention. ValueError where they cannot be made."""
    _check_attention(name, spec)
    for each in options["edges"]:
        check_edge(f"evals.more.{name}.edges", each, _sets(spec, source))
    windows = windows_of(options["layers"], spec.model.num_layers)
    words = tuple(k for k in _WORDS if _has_words(source, k))
    gates = tuple((text, tuple(map(bool, gate))) for text, gate in windows.items())
    asked = _questions(name, spec, source, options)
    for each in options["edges"]:
        _check_covers(name, each, asked)
    return Edges(name, asked, options["edges"], gates, words, options["at_once"])


def readout(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Readout:
    """Returns what questions read of labels. ValueError where there is no attention."""
    _check_attention(name, spec)
    return Readout(name, _questions(name, spec, source, options), spec.model.num_layers, options["at_once"])


def answers(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Answers:
    """Returns how well questions are answered."""
    return Answers(name, _questions(name, spec, source, options), options["at_once"])


def reweight(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Reweight:
    """Returns factors on a run's attention to labels. ValueError where there is no attention, and for demonstrations of
    each question's own, behind which nothing can be trained."""
    _check_attention(name, spec)
    _check_shared(name, options)
    own = (options["epochs"], options["learning_rate"], options["context"], options["at_once"])
    if FORMAT in options["context"] and FORMAT not in _sets(spec, source):
        raise ValueError(
            f"evals.more.{name}.context {options['context']!r}: these sequences have no format tokens; use 'labels'"
        )
    if isinstance(source, Texts):
        texts = _texts(name, spec, source, options)
        words = domain_texts(texts.train, _DOMAIN_TEXTS, 0)
        of_bias = {
            CONTEXTUAL: texts.derived("contextual", lambda p: content_free(p, source.tokenizer)),
            DOMAIN: texts.derived("domain", lambda p: content_free(p, source.tokenizer, words)),
        }
        asked, more = texts.questions(), texts.questions(shots=options["shots"] + options["extra"])
        return Reweight(
            name, asked, texts.extra(options["extra"]), of_bias, more, _sizes(spec), len(asked.classes), *own
        )
    if options["more_shots"]:
        raise ValueError(
            f"evals.more.{name}.more_shots {options['more_shots']} is of texts, and a suite's sequences have the shots "
            "that they have; leave it 0"
        )
    asked = _exemplars(name, spec, source, options)
    return Reweight(name, asked, _extra(asked, options), {}, None, _sizes(spec), 1, *own)


def compress(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Compress:
    """Returns questions with a part of their context. ValueError where there is no attention, and for demonstrations of
    each question's own."""
    _check_attention(name, spec)
    _check_shared(name, options)
    sites = find("core", spec.model.core).state_size
    core = resolved_options(find("core", spec.model.core), spec.options_of("core"))
    size = sites(spec.model, core, spec.model.width, 1) * (2 if spec.model.dtype == "bfloat16" else 4)
    own = (size, options["at_once"], _has_words(source, 5), FORMAT in _sets(spec, source))
    if isinstance(source, Texts):
        texts = _texts(name, spec, source, options)
        no_text = texts.derived("without text", without_text)
        return Compress(name, texts.questions(), texts.extra(options["extra"]), no_text, *own)
    asked = _exemplars(name, spec, source, options)
    return Compress(name, asked, _extra(asked, options), None, *own)


def diagnose(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> Diagnose:
    """Returns the confusion of a task's classes. ValueError where classes are others in each sequence, or too few."""
    _check_attention(name, spec)
    if not isinstance(source, Texts):
        raise ValueError(
            f"evals.more.{name}: the classes of a sequence are others in the next one, so that none is confused with "
            "another more than the rest; this eval is for text tasks"
        )
    asked = _texts(name, spec, source, options).questions()
    if len(asked.classes) < LEAST_CLASSES:
        raise ValueError(
            f"evals.more.{name}: {options['task']} has {len(asked.classes)} classes, a permutation test needs "
            f"{LEAST_CLASSES}; use a task such as trec"
        )
    return Diagnose(name, asked, *_sizes(spec), options["directions"], options["at_once"])


def _check_covers(name: str, edge_: str, asked: TextQuestions | ExemplarQuestions) -> None:
    """Raises ValueError for an edge that no prompt has, as the sets of tokens are empty or come in the other order."""
    begin, end = edge(edge_)
    if isinstance(asked, TextQuestions):
        prompts = [(found.sets, found.ids >= 0) for found in asked.drawn]
    else:
        sets = {which: tokens[None] for which, tokens in asked.place.sets.items()}
        prompts = [(sets | {"answer": sets[ANCHORS]}, sets[ANCHORS] >= 0)]
    of = lambda sets, all_, which: sets.get(ANCHORS if which in CONTROLS else which, all_)
    earlier = lambda tokens: tokens.cumsum(1) - tokens  # tokens of the set before each
    if not any((of(*each, end) & (earlier(of(*each, begin)) > 0)).any() for each in prompts):
        raise ValueError(
            f"evals.more.{name}: no prompt has an edge {edge_!r}, so that cutting it does nothing; leave it out, or "
            "take more shots"
        )


def _sizes(spec: RunSpec) -> tuple[int, int]:
    return spec.model.num_layers, spec.model.num_heads


def _has_words(source: Any, k: int) -> bool:
    """Whether a top k of the vocabulary says something: the k likeliest of few are nearly all of them."""
    return k < source.facts.vocab_size // 2


def _check_attention(name: str, spec: RunSpec) -> None:
    core = find("core", spec.model.core)
    if "attn_probs" not in core.sites(spec.model, resolved_options(core, spec.options_of("core"))):
        raise ValueError(
            f"evals.more.{name} looks at attention, and model.core {spec.model.core!r} has none; use a core with "
            "it, or leave the eval out"
        )


def _check_shared(name: str, options: Mapping[str, Any]) -> None:
    if options["fresh"]:
        raise ValueError(
            f"evals.more.{name}.fresh: this eval is about demonstrations that all questions share; leave it False"
        )


def _sets(spec: RunSpec, source: Any) -> tuple[str, ...]:
    """Names of the sets of tokens of a run's inputs."""
    if isinstance(source, Texts):
        return TEXT_SETS
    return _place(spec).set_names


def _place(spec: RunSpec) -> TokenLayout:
    return token_layout(spec.model, spec.task.context_len, spec.task.task_token)


def _questions(
    name: str, spec: RunSpec, source: Any, options: Mapping[str, Any], whole: bool = False
) -> TextQuestions | ExemplarQuestions:
    """The questions of an analysis. whole: demonstrations are read with every question, as for gradients."""
    if isinstance(source, Texts):
        return _texts(name, spec, source, options).questions(whole)
    return _exemplars(name, spec, source, options)


def _texts(name: str, spec: RunSpec, source: Texts, options: Mapping[str, Any]) -> TextSets:
    if not options["task"]:
        raise ValueError(f"evals.more.{name}: a language model is asked a text task; set task, such as task='sst2'")
    return text_sets(name, source, options, spec.options_of("frontend").get("num_positions", 0))


def _exemplars(name: str, spec: RunSpec, source: Any, options: Mapping[str, Any]) -> ExemplarQuestions:
    """The sequences of a suite. ValueError where there are none, and for options that are of texts."""
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
    return ExemplarQuestions(name, options["suite"], suite, options["num_prompts"], source, _place(spec))


def _extra(asked: ExemplarQuestions, options: Mapping[str, Any]) -> ExemplarQuestions:
    """Other sequences of the same suite."""
    return dataclasses.replace(
        asked,
        name=f"{asked.name} extra",
        suite_name=f"{asked.suite_name} extra",
        num=options["extra"] * asked.ways,
    )
