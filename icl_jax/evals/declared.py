"""Evals beside the suites. Imports no JAX."""

from icl_jax.registry import EvalComponent, register
from icl_jax.spec import Option

register(
    EvalComponent(
        role="eval",
        name="positions",
        doc="Loss and accuracy at each item of a suite's sequences, from the first of the context to the query.",
        build="icl_jax.evals.positions:positions",
        options={
            "suite": Option("fewshot_holdout", "on whose sequences"),
            "num_sequences": Option(256, "per member", least=1),
        },
        suites=lambda options: (options["suite"],),
    )
)
