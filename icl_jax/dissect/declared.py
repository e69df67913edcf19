"""The analyses. Imports no JAX."""

from collections.abc import Mapping
from typing import Any

from icl_jax.registry import EvalComponent, load, register
from icl_jax.spec import Option

_QUESTIONS = {
    "num_prompts": Option(64, "sequences, of a language model prompts, per member", least=1),
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
TEXT_OPTIONS = tuple(_QUESTIONS)[2:]


def _suites(options: Mapping[str, Any]) -> tuple[str, ...]:
    return () if options["task"] else (options["suite"],)


def _digest(options: Mapping[str, Any]) -> str:
    return load("icl_jax.dissect.texts:digest")(options) if options["task"] else ""


register(
    EvalComponent(
        role="eval",
        name="flow",
        doc="Saliency of attention between roles of tokens, by layer and head, beside pseudo-anchors.",
        build="icl_jax.dissect.build:flow",
        options={
            **_QUESTIONS,
            "flows": Option(("earlier -> label", "label -> query"), "edges whose saliency is averaged"),
            "of": Option(
                "loss",
                "what the gradient is of; logit_difference: of the right class, which does not vanish with the loss",
                choices=("loss", "logit_difference"),
            ),
            "at_once": Option(8, "prompts side by side: memory against speed", least=1),
        },
        suites=_suites,
        digest=_digest,
    )
)
register(
    EvalComponent(
        role="eval",
        name="edges",
        doc="What an answer loses when tokens of one role may not read those of another, in some layers.",
        build="icl_jax.dissect.build:edges",
        options={
            **_QUESTIONS,
            "edges": Option(("earlier -> label", "label -> query"), "what is cut"),
            "layers": Option(("each",), "'all', 'first 5', 'last 5', 'each', 'every 5' (that follow one another)"),
            "at_once": Option(16, "prompts side by side: memory against speed", least=1),
        },
        suites=_suites,
        digest=_digest,
    )
)
register(
    EvalComponent(
        role="eval",
        name="readout",
        doc="Attention of the question to each class's labels, against the answer (AUCROC and R of Wang et al. 2023).",
        build="icl_jax.dissect.build:readout",
        options={**_QUESTIONS, "at_once": Option(16, "prompts side by side: memory against speed", least=1)},
        suites=_suites,
        digest=_digest,
    )
)
register(
    EvalComponent(
        role="eval",
        name="answers",
        doc="Accuracy over the classes, raw and calibrated, and how well they are told apart whatever the bias.",
        build="icl_jax.dissect.build:answers",
        options={**_QUESTIONS, "at_once": Option(16, "prompts side by side: memory against speed", least=1)},
        suites=_suites,
        digest=_digest,
    )
)
