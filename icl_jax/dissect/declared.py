"""The analyses. Imports no JAX."""

from icl_jax.registry import EvalComponent, register
from icl_jax.spec import Option

_QUESTIONS = {
    "suite": Option("fewshot_holdout", "of a grown model: on whose sequences"),
    "num_prompts": Option(64, "sequences (of a language model: prompts) per member", least=1),
}

register(
    EvalComponent(
        role="eval",
        name="flow",
        doc="Saliency of attention between roles of tokens, per layer and head, beside pseudo-anchors (Wang et al. 2023).",
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
        suites=lambda options: (options["suite"],),
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
        suites=lambda options: (options["suite"],),
    )
)
