"""Where the tokens of item-label pairs stand, what each is, and how wide they are. Imports no JAX."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from icl_jax.spec import ModelSpec

TASK, ITEM, SEPARATOR, LABEL = "task", "item", "separator", "label"
PAIR = "pair"  # item and label in one token; the query's has no label

_SET_NAMES = ("item", "label", "answer", "forerunner", "format", "query_text", "query", "task")


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """The tokens of a sequence of N, by what they are, and their widths.

    before: in front of the pairs; pair: of each of the `num_pairs`; query: of the query. slots: of one-hot positions;
    content: width of an item's part, of a label or a separator; core: of a token, with its slots.
    """

    before: tuple[str, ...]
    pair: tuple[str, ...]
    query: tuple[str, ...]
    num_pairs: int
    slots: int
    content: int
    core: int

    @property
    def tokens(self) -> tuple[str, ...]:
        """What each token is."""
        return self.before + self.num_pairs * self.pair + self.query

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def items(self) -> slice | None:
        """The tokens at which the labels of the pairs and of the query are asked: those before labels, and the last;
        None where no token asks for the labels of pairs."""
        if self.pair[-1] != LABEL:
            return None
        return slice(len(self.before) + len(self.pair) - 2, None, len(self.pair))

    @property
    def demonstration(self) -> Int[np.ndarray, "N"]:
        """To which pair a token belongs, from 0; the query is the last of these, and -1 is none."""
        lengths = [len(self.before), *[len(self.pair)] * self.num_pairs, len(self.query)]
        return np.repeat(np.arange(-1, self.num_pairs + 1), lengths)

    @property
    def sets(self) -> dict[str, Bool[np.ndarray, "N"]]:
        """Which tokens are in each set that is the same for all sequences, see `PairsFrontend.roles`."""
        owner, last = self.demonstration, np.arange(self.num_tokens) == self.num_tokens - 1
        shown = (owner >= 0) & (owner < self.num_pairs)
        of = lambda *kinds: shown & np.isin(self.tokens, kinds)
        label = of(LABEL, PAIR)
        found = {"item": of(ITEM, PAIR), "label": label, "query": last}
        if PAIR not in self.pair:
            found["forerunner"] = shown & np.append(label[1:], False)
        if SEPARATOR in self.pair:
            found["format"] = of(SEPARATOR)
        if len(self.query) > 1:
            found["query_text"] = (owner == self.num_pairs) & ~last
        if self.before:
            found["task"] = owner < 0
        return found

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of all sets of tokens, in one order for all layouts."""
        there = {*self.sets, "answer"}
        return tuple(name for name in _SET_NAMES if name in there)


def token_layout(spec: ModelSpec, context_len: int, task_token: bool) -> TokenLayout:
    """Returns the layout of a sequence of `context_len` pairs and a query."""
    pair, query = _of_pair(spec)
    before = (TASK,) * task_token
    num_tokens = len(before) + context_len * len(pair) + len(query)
    slots = (spec.num_position_slots or num_tokens) if spec.positions == "onehot" else 0
    content = spec.width - slots
    doubled = spec.labels == "concatenated" and not spec.concat_mix
    return TokenLayout(before, pair, query, context_len, slots, content, (1 + doubled) * content + slots)


def _of_pair(spec: ModelSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tokens of a pair, and of the query."""
    if spec.labels == "concatenated":
        return (PAIR,), (PAIR,)
    item = spec.item_tokens * (ITEM,) + spec.separator * (SEPARATOR,)
    return ((LABEL, *item) if spec.pair_order == "label_first" else (*item, LABEL)), item


def only_query(spec: ModelSpec) -> str:
    """Returns why only the query's label is predicted, with the way out; "" where those of the pairs are, too."""
    if spec.labels == "concatenated":
        return (
            "a concatenated token already holds its own label, so that only the query is predicted; use model.labels "
            "'interleaved'"
        )
    if spec.pair_order == "label_first":
        return "labels stand before their items, so that only the query is predicted; use model.pair_order 'item_first'"
    return ""
