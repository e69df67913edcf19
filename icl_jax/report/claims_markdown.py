"""The claims of sweeps as a Markdown table, to paste where the page cannot go."""

from collections.abc import Iterable, Sequence

from icl_jax.claims.judge import Verdict
from icl_jax.report.claims_table import SYMBOLS

HEAD = ("sweep", "claim", "mean (95 % interval)", "claimed", "n", "verdict")


def claims_markdown(parts: Iterable[tuple[str, Sequence[Verdict]]]) -> str:
    """Returns the claims of sweeps (name, verdicts), a row each; why only where a claim does not hold."""
    rows = [HEAD, ("---",) * len(HEAD)]
    rows += [_row(name, verdict) for name, verdicts in parts for verdict in verdicts]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(name: str, verdict: Verdict) -> tuple[str, ...]:
    why = "" if verdict.verdict == "holds" else f": {verdict.reason}"
    cells = (
        name,
        f"{verdict.name} ({verdict.statistic})",
        verdict.effect_text,
        verdict.bound,
        str(verdict.n),
        f"{SYMBOLS[verdict.verdict]} {verdict.verdict}{why}",
    )
    return tuple(cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|") for cell in cells)
