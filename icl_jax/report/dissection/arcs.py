"""One prompt as an arc diagram: from which tokens to which saliency goes, in some layers."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.patches import Arc

from icl_jax.report.dissection.look import MAGENTA, TEAL, Key, Section
from icl_jax.report.panels import Panel, Plate
from icl_jax.report.style import INK, MUTED

LABEL, QUERY, OTHER = "label", "query", "other"
MOST_TOKENS = 200
MOST_ARCS = 60
SLOT = 11  # pixels of a token on the page, below which the figure scrolls
_FAINTEST = 0.01  # of the strongest arc, below which one is left out
_ARCS = 1.75  # inches, height of arcs
_SLOT, _LARGEST = 0.105, 8.0  # inches of a token in the file; points of its text
_LONGEST = 14
_SHOWN = str.maketrans({"\n": "\\n", "\t": "⇥", " ": "␣", "Ġ": "", "Ċ": "\\n"})
_COLOURS = {"into": TEAL, "out": MAGENTA, "rest": MUTED}
KEYS = (
    Key("into a label", TEAL),
    Key("from a label into the question", MAGENTA),
    Key("other", MUTED),
)


@dataclass(frozen=True)
class Prompt:
    """A prompt to draw. tokens: their texts; roles: "label", "query" or "other" of each; saliency: title -> (T, T),
    [query, key], of a layer or a mean over some."""

    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    saliency: Mapping[str, Float[np.ndarray, "T T"]]


def arcs_section(prompt: Prompt, title: str = "One prompt") -> Section:
    """Returns a panel for each block of layers, one below the other. ValueError for shapes that do not agree and for
    more tokens than can be read."""
    num = len(prompt.tokens)
    if num > MOST_TOKENS:
        raise ValueError(f"a prompt of {num} tokens: at most {MOST_TOKENS} can be read; choose a shorter prompt")
    shapes = {title: np.shape(matrix) for title, matrix in prompt.saliency.items()}
    if len(prompt.roles) != num or any(shape != (num, num) for shape in shapes.values()):
        raise ValueError(f"{num} tokens, {len(prompt.roles)} roles, saliency {shapes}: one role each, (T, T) each")
    rows = [
        [
            Panel(
                block,
                f"the {min(MOST_ARCS, num * (num - 1) // 2)} strongest edges, from left to right",
                functools.partial(_draw, prompt=prompt, saliency=matrix),
                f"Arc diagram, {block}. Strongest: {_words(prompt, matrix)}.",
            )
        ]
        for block, matrix in prompt.saliency.items()
    ]
    caption = (
        "Each arc goes from a token that is read to a later one that reads it, the wider and darker the more saliency "
        "|A x dL/dA| it has, in each panel against its strongest. Bold: labels and the question's last token. One "
        "prompt shows what the averages above look like, and proves nothing."
    )
    width = float(np.clip(num * _SLOT, 5.2, 16.0))
    below = 0.16 + 0.6 * _size(width, num) / 72 * max(len(shown(token)) for token in prompt.tokens)
    plate = Plate(
        "prompt",
        title,
        caption,
        rows,
        legend=False,
        left=0.12,
        bottom=below,
        panel=(width, _ARCS + 0.54),
        beside=0.12,
    )
    return Section(plate, KEYS, least=max(320, SLOT * num))


def shown(token: str) -> str:
    """Returns a token as it is drawn: white space made visible, long ones cut, what the font has not as a box."""
    bare = token.lstrip(" ") or token
    text = bare.translate(_SHOWN)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(letter if _has(letter) else "□" for letter in text) or "␣"


@functools.lru_cache(4096)
def _has(letter: str) -> bool:
    return bool(_font().get_char_index(ord(letter)))


@functools.lru_cache(1)
def _font():
    return font_manager.get_font(font_manager.findfont("DejaVu Sans"))


def strongest(saliency: Float[np.ndarray, "T T"], most: int = MOST_ARCS) -> list[tuple[int, int, float]]:
    """Returns (query, key, share of the strongest) of at most so many edges from a token to a later one, faint first;
    none where nothing flows."""
    edges = np.tril(np.nan_to_num(np.abs(saliency)), -1)
    if not edges.max(initial=0.0) > 0:
        return []
    order = np.argsort(edges, axis=None)[-most:]
    places = zip(*np.unravel_index(order, edges.shape), strict=True)
    found = [(int(q), int(k), float(edges[q, k] / edges.max())) for q, k in places]
    return [edge for edge in found if edge[2] >= _FAINTEST]


def _words(prompt: Prompt, saliency: np.ndarray) -> str:
    top = strongest(saliency)[-5:][::-1]
    return "; ".join(f"{shown(prompt.tokens[k])} to {shown(prompt.tokens[q])}" for q, k, _ in top) or "none"


def _kind(prompt: Prompt, query: int, key: int) -> str:
    if prompt.roles[query] == LABEL:
        return "into"
    return "out" if prompt.roles[query] == QUERY and prompt.roles[key] == LABEL else "rest"


def _draw(axes: Axes, prompt: Prompt, saliency: np.ndarray) -> None:
    num = len(prompt.tokens)
    longest = max((q - k for q, k, _ in strongest(saliency)), default=1)
    for query, key, share in strongest(saliency):
        kind = _kind(prompt, query, key)
        span = query - key
        axes.add_patch(
            Arc(
                ((query + key) / 2, 0),
                span,
                2 * (span / longest) ** 0.6,
                theta1=0,
                theta2=180,
                color=_COLOURS[kind],
                linewidth=0.5 + 2.6 * share,
                alpha=0.2 + 0.75 * share**0.7,
                zorder=3 if kind != "rest" else 2,
            )
        )
    _draw_tokens(axes, prompt)
    axes.set_xlim(-0.8, num - 0.2)
    axes.set_ylim(0, 1.04)
    axes.set_axis_off()


def _size(inches: float, num: int) -> float:
    """Points of token texts that fit side by side."""
    return min(_LARGEST, 0.9 * 72 * inches / num)


def _draw_tokens(axes: Axes, prompt: Prompt) -> None:
    """Token texts below the arcs, upright, as large as their slots allow."""
    size = _size(axes.get_window_extent().width / axes.figure.dpi, len(prompt.tokens))
    colours = {LABEL: TEAL, QUERY: MAGENTA}
    for place, (token, role) in enumerate(zip(prompt.tokens, prompt.roles, strict=True)):
        marked = role in colours
        axes.text(
            place,
            -0.03,
            shown(token),
            rotation=90,
            ha="center",
            va="top",
            fontsize=size,
            color=colours.get(role, INK if marked else MUTED),
            fontweight="bold" if marked else "normal",
        )
