"""Which tokens an analysis speaks of: those that the model's frontend tells apart, and controls matched in number."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from icl_jax.dissect.cases import Tokenised
from icl_jax.inputs import Roles
from icl_jax.patches import ALL, EARLIER, edge

ANCHORS = "label"
NEAR, RANDOM = "near", "random"  # pseudo-anchors: a token near each label; tokens anywhere before the question
CONTROLS = (NEAR, RANDOM)
_REACH = 4  # tokens: how near
_PER_CASE = {NEAR: 0, RANDOM: 1, "edges": 2}  # streams of draws


@dataclasses.dataclass(frozen=True)
class Marked:
    """Sequences with the roles of their tokens. near_of: int32 (B, T), the label for which a near token stands, -1 for
    none. before: of those that were read before them."""

    roles: Roles
    valid: jax.Array
    near_of: jax.Array
    before: "Marked | None" = None

    def keys(self, name: str) -> Bool[Array, "B K"]:
        """Returns which keys are in a set, those of `before` first."""
        own = self.queries(name)
        if self.before is None:
            return own
        before = self.before.queries(name)
        return jnp.concatenate([jnp.broadcast_to(before, (own.shape[0], before.shape[1])), own], axis=1)

    def queries(self, name: str) -> Bool[Array, "B T"]:
        """Returns which tokens are in a set; "all" and "earlier": all but padding."""
        return self.valid if name in (ALL, EARLIER) else self.roles.sets[name] & self.valid

    def stands_for(self, classes: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """Returns the class of each near token, -1 elsewhere. classes: of labels."""
        of_label = jnp.take_along_axis(classes, jnp.maximum(self.near_of, 0), axis=1)
        return jnp.where(self.near_of >= 0, of_label, -1)

    @property
    def question(self) -> Bool[Array, "B T"]:
        """Which tokens are the question's: the one that asks, and its own before it."""
        asks = self.queries("query")
        return asks | self.queries("query_text") if "query_text" in self.roles.sets else asks

    @property
    def earlier(self) -> Bool[Array, "B T K"]:
        """All edges, [query, key]; that of a token to itself is none."""
        num_queries, keys = self.valid.shape[1], self.keys(ALL)
        strict = jnp.tril(jnp.ones((num_queries, keys.shape[1]), bool), keys.shape[1] - num_queries - 1)
        return strict[None] & self.valid[:, :, None] & keys[:, None, :]


def marked(model: Any, sequences: Tokenised, before: Marked | None = None) -> Marked:
    """Returns sequences with their roles, and with two sets as large as that of labels, of tokens that are none and
    belong to demonstrations: "near", one within 4 tokens of each label (of those that are left, if there are any), and
    "random". Both are drawn for each sequence from its own key. before: the demonstrations, where they were read
    before; the sets are then among them."""
    roles = model.roles(sequences.inputs)
    label = roles.sets["label"]
    token = jnp.arange(label.shape[1])[None]
    if model.spec.pair_order == "label_first":
        end = jnp.where(roles.sets["item"], token + 1, 0).max(1, keepdims=True)
    else:
        end = jnp.where(label, token, -1).max(1, keepdims=True)
    free = sequences.valid & ~label & (token < end)
    keys = jax.random.wrap_key_data(sequences.draws, impl="threefry2x32")
    of = lambda name: jax.vmap(lambda key: jax.random.fold_in(key, _PER_CASE[name]))(keys)
    near_of = jax.vmap(_near)(of(NEAR), label, free)
    anywhere = jax.vmap(_some)(of(RANDOM), free, label.sum(-1))
    sets = {"first": jnp.broadcast_to(token == 0, label.shape), **roles.sets, NEAR: near_of >= 0, RANDOM: anywhere}
    return Marked(Roles(sets, roles.demonstration), sequences.valid, near_of, before)


def _near(key: Key[Array, ""], label: Bool[Array, "T"], free: Bool[Array, "T"]) -> Int[Array, "T"]:
    """For which label a token stands, -1 for none: one free token within reach of each label, each once."""
    noise = jax.random.uniform(key, label.shape)
    token = jnp.arange(label.shape[0])

    def take(left, place):
        can = left & (jnp.abs(token - place) <= _REACH)
        best = jnp.argmax(jnp.where(can, noise, -1))
        chosen = (token == best) & can & label[place]
        return left & ~chosen, chosen

    chosen = jax.lax.scan(take, free, token)[1]  # (label, token)
    return jnp.where(chosen.any(0), chosen.argmax(0).astype(jnp.int32), -1)


def _some(key: Key[Array, ""], free: Bool[Array, "..."], count) -> Bool[Array, "..."]:
    """`count` of the free entries, all of them where there are fewer."""
    noise = jnp.where(free, jax.random.uniform(key, free.shape), -1).ravel()
    rank = jnp.zeros(noise.shape, jnp.int32).at[jnp.argsort(-noise)].set(jnp.arange(noise.size))
    return (rank < count).reshape(free.shape) & free


def edges_of(name: str, marked: Marked) -> Bool[Array, "B T K"]:
    """Returns the edges "a -> b" of each sequence, [query, key]: queries in b, keys in a that come before them."""
    begin, end = edge(name)
    return marked.earlier & marked.keys(begin)[:, None, :] & marked.queries(end)[:, :, None]


def with_anchors(name: str, anchors: str) -> str:
    """Returns an edge with other anchors in the place of labels."""
    return " -> ".join(anchors if side == ANCHORS else side for side in edge(name))


def random_edges(edges: Bool[Array, "B T K"], marked: Marked, sequences: Tokenised) -> Bool[Array, "B T K"]:
    """Returns as many edges of each sequence, drawn among all."""
    free = marked.earlier
    keys = jax.random.wrap_key_data(sequences.draws, impl="threefry2x32")
    keys = jax.vmap(lambda key: jax.random.fold_in(key, _PER_CASE["edges"]))(keys)
    return jax.vmap(_some)(keys, free, edges.sum((1, 2)))


def check_edge(where: str, name: str, known: tuple[str, ...]) -> None:
    """Raises ValueError for a text that is no edge between sets of tokens. known: those of the model."""
    begin, end = edge(name)
    sets = (*known, "first", *CONTROLS)
    if not begin or not end:
        raise ValueError(f"{where}: {name!r} is no edge; write it as 'a -> b'")
    for side, extra in ((begin, (EARLIER,)), (end, ())):
        if side not in (*sets, *extra):
            raise ValueError(
                f"{where}: no set of tokens {side!r}; there are {', '.join(dict.fromkeys((*sets, *extra)))}"
            )
