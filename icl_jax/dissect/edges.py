"""Knock-outs: what an answer loses when some tokens may not read some others, in some layers.

Wang et al. 2023, section 2.2: in the first or the last layers a label reads nothing before it ("earlier -> label", here
by scores of -inf before the softmax, so that it is left with itself); how often the answer stays (label loyalty), and
how many of the likeliest words (word loyalty, the mean Jaccard index of two top-k sets). Cho et al. 2025 cut any role
from any other. Beside each cut stand others of the same size: near tokens in the place of labels, random tokens (the
paper's control), and as many random edges.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from icl_jax.dissect.cases import OfQuestions, Tokenised
from icl_jax.dissect.means import mean_and_error
from icl_jax.dissect.reading import read, read_before
from icl_jax.dissect.roles import ANCHORS, CONTROLS, Marked, edges_of, marked, random_edges, with_anchors
from icl_jax.models.taps import Patch
from icl_jax.patches import edge

EDGES = "edges"  # the control of as many edges
CUTS = (ANCHORS, *CONTROLS, EDGES)
_LAST = re.compile(r"(first|last|each|every) ?(\d*)")


def windows_of(texts: tuple[str, ...], num_layers: int) -> dict[str, Bool[np.ndarray, "L"]]:
    """Returns which layers each window has, by its name. texts: "all", "first 5", "last 5", "each" (each single layer),
    "every 5" (each 5 that follow one another). ValueError for another text and for more layers than there are."""
    found: dict[str, np.ndarray] = {}
    layer = np.arange(num_layers)
    for text in texts:
        if text == "all":
            found[text] = layer >= 0
            continue
        match = _LAST.fullmatch(text)
        size = int(match[2] or 1) if match else 0
        if not match or (match[1] in ("first", "last") and not match[2]):
            raise ValueError(f"layers {text!r}: use 'all', 'first 5', 'last 5', 'each' or 'every 5'")
        if not 1 <= size <= num_layers:
            raise ValueError(f"layers {text!r}: the model has {num_layers} layers; use 1 to {num_layers}")
        if match[1] == "first":
            found[text] = layer < size
        elif match[1] == "last":
            found[text] = layer >= num_layers - size
        else:
            for first in range(num_layers - size + 1):
                name = f"{first}-{first + size - 1}" if size > 1 else str(first)
                found[name] = (first <= layer) & (layer < first + size)
    return found


@dataclasses.dataclass(frozen=True)
class Edges(OfQuestions):
    """Cut edges of attention (`icl_jax.training.protocols.Eval`).

    Metrics, means over cases, on the axes ("edge", "cut", "layers"), cut: by labels or by the controls, where the edge
    names labels, and as many random edges: label_loyalty, share of cases whose answer stays; accuracy; log_odds, of the
    right class, less those of the model as it is; changed, the share of all edges that are cut; word_loyalty, with a
    further axis "words" (k). Each has its standard error over cases under its name and _se. accuracy_uncut and
    log_odds_uncut, of the model as it is, have no axes. Cuts that an edge has not are NaN.
    """

    edges: tuple[str, ...]
    windows: tuple[tuple[str, tuple[bool, ...]], ...]
    words: tuple[int, ...]
    at_once: int

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        cut = ("edge", "cut", "layers")
        found: dict[str, tuple[str, ...]] = dict.fromkeys(("label_loyalty", "accuracy", "log_odds"), cut)
        found |= {"word_loyalty": (*cut, "words")} if self.words else {}
        found |= {f"{name}_se": axes for name, axes in found.items()}
        return {**found, "changed": cut, "accuracy_uncut": (), "log_odds_uncut": ()}

    @property
    def coords(self) -> dict[str, tuple]:
        words = {"words": self.words} if self.words else {}
        return {"edge": self.edges, "cut": CUTS, "layers": tuple(name for name, _ in self.windows)} | words

    @property
    def cuts(self) -> list[tuple[int, int, int]]:
        """What is cut, one after another: places along "edge", "cut" and "layers"."""
        applies = lambda edge_, cut: cut in (ANCHORS, EDGES) or with_anchors(edge_, cut) != " -> ".join(edge(edge_))
        return [
            (e, c, w)
            for e, name in enumerate(self.edges)
            for c, cut in enumerate(CUTS)
            if applies(name, cut)
            for w in range(len(self.windows))
        ]

    def run(self, model, variables, eval_set, context) -> dict[str, jax.Array]:
        """Returns of each cut, the last one being none, logits of the classes (cuts + 1, cases, C), the likeliest words
        (..., k) and the share of edges that it took (cuts + 1, cases); and the right classes (cases,)."""
        cuts = jnp.asarray(self.cuts, jnp.int32)
        layers = jnp.asarray([gate for _, gate in self.windows])
        gates = jnp.concatenate([layers[cuts[:, 2]], jnp.zeros((1, layers.shape[1]), bool)])
        which = jnp.concatenate([cuts[:, 0] * len(CUTS) + cuts[:, 1], jnp.zeros(1, jnp.int32)])
        before = eval_set.before

        def cut_once(args):
            mask, gate = args
            tokens, cache = None, None
            if before is not None:
                tokens = marked(model, before)
                patch = self._patch(tokens, before, mask, gate)
                cache, _ = read_before(model, variables, before, context, patches=(patch,))

            def one(each):
                cases = self.questions.cases(jax.tree.map(lambda x: x[None], each), context)
                patch = self._patch(marked(model, cases, tokens), cases, mask, gate)
                logits, output = read(model, variables, cases, context, patches=(patch,), cache=cache)
                top = jax.lax.top_k(logits[0], max(self.words, default=1))[1]
                return {
                    "logits": cases.of_classes(logits)[0],
                    "top": top,
                    "changed": output.changed[patch.name],
                    "gold": cases.gold[0],
                }

            return jax.lax.map(one, eval_set.each, batch_size=min(self.at_once, self.questions.num))

        found = jax.lax.map(cut_once, (which, gates))
        return {**found, "gold": found["gold"][-1]}

    def _patch(self, tokens: Marked, sequences: Tokenised, which: Int[Array, ""], gate: Bool[Array, "L"]) -> Patch:
        """The cut of a number, in the layers of a gate."""
        masks = [self._mask(name, cut, tokens, sequences) for name in self.edges for cut in CUTS]
        mask = jnp.stack(masks)[which][:, None]
        return Patch("attn_scores", "replace", value=-jnp.inf, mask=mask, layers=gate, name="cut")

    def _mask(self, name: str, cut: str, tokens: Marked, sequences: Tokenised) -> Bool[Array, "B T K"]:
        if cut == EDGES:
            return random_edges(edges_of(name, tokens), tokens, sequences)
        return edges_of(with_anchors(name, cut), tokens)

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """values: (members, cuts + 1, cases, ...)."""
        logits, gold = values["logits"].astype(np.float64), values["gold"]
        odds = log_odds(logits, np.broadcast_to(gold[:, None], logits.shape[:3]))
        answers = logits.argmax(-1)
        of_cases = {
            "label_loyalty": answers[:, :-1] == answers[:, -1:],
            "accuracy": answers[:, :-1] == gold[:, None],
            "log_odds": odds[:, :-1] - odds[:, -1:],
        }
        if self.words:
            cut, plain = values["top"][:, :-1], values["top"][:, -1:]
            of_cases["word_loyalty"] = np.stack([jaccard(cut[..., :k], plain[..., :k]) for k in self.words], -1)
        found = {}
        for name, each in of_cases.items():
            mean, error = mean_and_error(each.astype(np.float64), axis=2)
            found |= {name: self._placed(mean), f"{name}_se": self._placed(error)}
        found["changed"] = self._placed(values["changed"][:, :-1].mean(-1))
        found["accuracy_uncut"] = (answers[:, -1] == gold).mean(-1)
        return found | {"log_odds_uncut": odds[:, -1].mean(-1)}

    def _placed(self, of_cuts: Float[np.ndarray, "M I ..."]) -> Float[np.ndarray, "M E C W ..."]:
        """Numbers of cuts at their places along the axes."""
        shape = (len(of_cuts), len(self.edges), len(CUTS), len(self.windows), *of_cuts.shape[2:])
        placed = np.full(shape, np.nan)
        for index, place in enumerate(self.cuts):
            placed[:, *place] = of_cuts[:, index]
        return placed


def log_odds(logits: Float[np.ndarray, "*b C"], gold: Int[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Returns log p / (1 - p) of the right class among the classes."""
    right = np.take_along_axis(logits, gold[..., None], axis=-1)[..., 0]
    others = np.where(np.arange(logits.shape[-1]) == gold[..., None], -np.inf, logits)
    top = others.max(-1)
    return right - (top + np.log(np.exp(others - top[..., None]).sum(-1)))


def jaccard(one: Int[np.ndarray, "*b k"], other: Int[np.ndarray, "*#b k"]) -> Float[np.ndarray, "*b"]:
    """Returns the size of the intersection of two sets of k over that of their union."""
    both = (one[..., :, None] == other[..., None, :]).any(-1).sum(-1)
    return both / (2 * one.shape[-1] - both)
