"""The analyses. Imports no JAX."""

from collections.abc import Mapping
from typing import Any

from icl_jax.registry import EvalComponent, load, register
from icl_jax.spec import Option

_QUESTIONS = {
    "suite": Option("fewshot_holdout", "of a grown model: on whose sequences"),
    "task": Option("", "of a language model: sst2, trec, ag_news, ...; a name of your own with template and words"),
    "data": Option("", "texts: a .jsonl file ({split}: the split), tfds:NAME, or a known set (default: task)"),
    "train_split": Option("train", "texts: where demonstrations are drawn"),
    "test_split": Option("", "texts: where questions are drawn (default: validation, else test)"),
    "shots": Option(1, "texts: demonstrations per class", least=1),
    "fresh": Option(False, "texts: demonstrations of its own for every question, not one set per eval seed"),
    "template": Option("", "texts: such as 'Review: {text}\\nSentiment:' (default: the task's)"),
    "words": Option((), "texts: label words in the order of the classes (default: the task's)"),
    "flip": Option((), "texts: class c is shown with the word of class flip[c]"),
    "instruction": Option("", "texts: in front of the prompt"),
}
TEXT_OPTIONS = tuple(_QUESTIONS)[1:]
_NUM_PROMPTS = Option(64, "sequences, of a language model prompts, per member", least=1)


def _suites(options: Mapping[str, Any]) -> tuple[str, ...]:
    return () if options["task"] else (options["suite"],)


def _digest(options: Mapping[str, Any]) -> str:
    return load("icl_jax.dissect.texts:digest")(options) if options["task"] else ""


_EXTRA = Option(4, "further examples per class that are trained on, or by which a choice is made", least=1)
_AT_ONCE = Option(16, "prompts side by side: memory against speed", least=1)
_OF = Option(
    "loss",
    "what the gradient is of; logit_difference: of the right class, which does not vanish with the loss",
    choices=("loss", "logit_difference"),
)


def _register(name: str, doc: str, at_once: Option | None = _AT_ONCE, **options: Option) -> None:
    """at_once: None for what looks at one prompt."""
    of_many = {"num_prompts": _NUM_PROMPTS, "at_once": at_once} if at_once else {}
    register(
        EvalComponent(
            role="eval",
            name=name,
            doc=doc,
            build=f"icl_jax.dissect.build:{name}",
            options={**_QUESTIONS, **options, **of_many},
            suites=_suites,
            digest=_digest,
        )
    )


_register(
    "flow",
    "Saliency of attention between roles of tokens, by layer and head, beside pseudo-anchors.",
    Option(4, "prompts side by side: memory against speed", least=1),
    flows=Option(("earlier -> label", "label -> query"), "edges whose saliency is averaged"),
    of=_OF,
)
_register(
    "prompt",
    "Saliency of every edge of the first prompt, to be drawn.",
    None,
    of=_OF,
)
_register(
    "edges",
    "What an answer loses when tokens of one role may not read those of another, in some layers.",
    edges=Option(("earlier -> label", "label -> query"), "what is cut"),
    layers=Option(("each",), "'all', 'first 5', 'last 5', 'each', 'every 5' (that follow one another)"),
)
_register("readout", "Attention of the question to each class's labels, against the answer (AUCROC and R).")
_register("answers", "Accuracy over the classes, raw and calibrated, and how well they are told apart.")
_register(
    "reweight",
    "Factors on attention to labels, trained on a few examples, beside calibrations and an output bias.",
    extra=_EXTRA,
    epochs=Option(10, "of training", least=1),
    learning_rate=Option(0.01, "of Adam", least=0.0),
    more_shots=Option(0, "texts: demonstrations per class of 'more shots' (0: shots + extra)", least=0),
    context=Option(
        "whole context",
        "what questions may read of their demonstrations",
        choices=("whole context", "labels", "labels + format"),
    ),
)
_register("compress", "The question read with a part of its context: anchors, others as many, nothing.", extra=_EXTRA)
_register(
    "diagnose",
    "Confusion of classes, predicted from the keys of their labels, against the actual one.",
    directions=Option(10, "principal directions of the queries", least=1),
)
