"""The claims of sweeps as a table: what was claimed, what was measured, the verdict."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from icl_jax.claims.judge import FAILS, HOLDS, UNDECIDED, Bound, Verdict
from icl_jax.report.html import Markup, render, tag

SYMBOLS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
_WIDTH, _HEIGHT, _MARGIN = 136.0, 22.0, 6.0
_SCALE, _LETTER = 11.0, 5.4  # height of the numbers below an effect, width of a letter there
MARKDOWN_HEAD = ("sweep", "claim", "mean (95 % interval)", "claimed", "n", "verdict")
Row = tuple[Bound, Verdict]


def badge(verdict: str, count: int | None = None) -> Markup:
    """Returns "✓ holds", or "✓ 3 hold" with a count: a symbol and a word, so that colour is not needed."""
    word = verdict if count is None else f"{count} {verdict.removesuffix('s') if count != 1 else verdict}"
    return tag("span", f"{SYMBOLS[verdict]} {word}", class_=f"verdict {verdict}")


def tally(rows: Sequence[Row]) -> Markup:
    """Returns how many claims hold, fail and are undecided."""
    counts = Counter(verdict.verdict for _, verdict in rows)
    shown = [render(badge(v, counts[v]), " ") for v in SYMBOLS if counts[v]]
    return render(shown) if shown else render("no claims")


def claims_table(parts: Iterable[tuple[str, str, Sequence[Row]]]) -> Markup:
    """Returns the claims of parts (name, anchor, rows). With an anchor the part's name stands by and links to it."""
    parts = list(parts)
    linked = any(anchor for _, anchor, _ in parts)
    head = [
        *(["sweep"] if linked else []),
        "claim",
        "effect",
        "mean and 95 % interval",
        "claimed",
        "n",
        "verdict",
    ]
    numbers = {"n", "claimed", "mean and 95 % interval"}
    header = [tag("th", h, scope="col", class_="number" if h in numbers else None) for h in head]
    body = [_row(name, anchor, *row) for name, anchor, rows in parts for row in rows]
    inner = tag("table", tag("thead", tag("tr", *header)), tag("tbody", *body))
    scroll = tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label="claims and verdicts")
    return tag("div", scroll, class_="claims")


def _row(name: str, anchor: str, bound: Bound, verdict: Verdict) -> Markup:
    why = verdict.reason if verdict.verdict == UNDECIDED else verdict.reason.partition("; ")[2]  # beyond the interval
    home = tag("td", tag("a", name, href=f"#{anchor}"), class_="home") if anchor else None
    return tag(
        "tr",
        home,
        tag(
            "td",
            verdict.name,
            tag("span", verdict.statistic, class_="statistic"),
            tag("span", why, class_="reason") if why else None,
            class_="claim",
        ),
        tag("td", effect_bar(bound, verdict)),
        tag("td", _effect(verdict), class_="number"),
        tag("td", verdict.bound, class_="number", data_name="claimed"),
        tag("td", verdict.n, class_="number", data_name="n"),
        tag("td", badge(verdict.verdict), class_="judged"),
    )


def _effect(verdict: Verdict) -> Markup:
    mean, _, spread = verdict.effect_text.partition(" (")
    return render(mean, tag("span", f" ({spread}", class_="aside") if spread else None)


def effect_bar(bound: Bound, verdict: Verdict) -> Markup | None:
    """Returns a small picture: the mean and its interval against the range that was claimed; None without an effect."""
    if not math.isfinite(verdict.effect):
        return None
    known = [x for x in (0.0, bound.low, bound.high, verdict.effect, verdict.low, verdict.high) if math.isfinite(x)]
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    at = lambda x: _MARGIN + (_WIDTH - 2 * _MARGIN) * (min(max(x, low), high) - low) / span
    left = at(bound.low) if math.isfinite(bound.low) else 0.0
    right = at(bound.high) if math.isfinite(bound.high) else _WIDTH
    shade, ink = f"var(--{verdict.verdict}-bg)", f"var(--{verdict.verdict})"
    upright = lambda x, stroke: _shape("line", x1=at(x), x2=at(x), y1=1, y2=_HEIGHT - 1, stroke=stroke)
    parts = [
        _shape("rect", x=left, y=1, width=right - left, height=_HEIGHT - 2, fill=shade),
        upright(0.0, "var(--faint)"),
        *(upright(x, "var(--ink)") for x in (bound.low, bound.high) if math.isfinite(x)),
        _shape("circle", cx=at(verdict.effect), cy=_HEIGHT / 2, r=3.6, fill=ink),
    ]
    if math.isfinite(verdict.low):
        ends = {"x1": at(verdict.low), "x2": at(verdict.high), "y1": _HEIGHT / 2, "y2": _HEIGHT / 2}
        parts.append(_shape("line", **ends, stroke=ink, stroke_width=2.4))
    parts += _scale(at, [0.0, *(x for x in (bound.low, bound.high, low, high) if math.isfinite(x))])
    alt = f"effect {verdict.effect_text}, claimed {verdict.bound}"
    box = f"0 0 {_WIDTH:g} {_HEIGHT + _SCALE:g}"
    return tag("svg", *parts, viewBox=box, class_="effect", role="img", aria_label=alt)


def _scale(at: Callable[[float], float], values: list[float]) -> list[Markup]:
    """The values below their places, the first ones first, as far as there is room."""
    written: list[tuple[float, float]] = []
    parts = []
    for value in dict.fromkeys(values):
        label = f"{value:.2g}"
        half = _LETTER * len(label) / 2
        x = min(max(at(value), half), _WIDTH - half)
        if all(x + half + 2 < left or x - half - 2 > right for left, right in written):
            written.append((x - half, x + half))
            parts.append(tag("text", label, x=f"{x:.1f}", y=f"{_HEIGHT + _SCALE - 2:.1f}", text_anchor="middle"))
    return parts


def _shape(name: str, /, **attributes) -> Markup:
    return tag(name, **{n: f"{v:.1f}" if isinstance(v, float) else v for n, v in attributes.items()})


def claims_markdown(parts: Iterable[tuple[str, Sequence[Verdict]]]) -> str:
    """Returns the claims of sweeps (name, verdicts) as a Markdown table, to paste where the page cannot go: a row
    each; why only where a claim does not hold."""
    rows = [MARKDOWN_HEAD, ("---",) * len(MARKDOWN_HEAD)]
    rows += [_markdown_row(name, verdict) for name, verdicts in parts for verdict in verdicts]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _markdown_row(name: str, verdict: Verdict) -> tuple[str, ...]:
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
