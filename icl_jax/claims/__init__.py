"""What a figure must show: statements, the statistics they stand on, and verdicts. Needs no report."""

from icl_jax.claims.statements import (
    Claim,
    Statistic,
    Verdict,
    at,
    check_claims,
    claims_from_json,
    claims_to_json,
    decay,
    final,
    judge,
    larger,
    onset,
    peak,
    same,
    trend,
    within,
)

__all__ = [
    "Claim",
    "Statistic",
    "Verdict",
    "at",
    "check_claims",
    "claims_from_json",
    "claims_to_json",
    "decay",
    "final",
    "judge",
    "larger",
    "onset",
    "peak",
    "same",
    "trend",
    "within",
]
