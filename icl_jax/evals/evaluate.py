"""Evals as the trainer runs them: named pure functions with named axes.

`suites_eval` puts all suites of a run into one eval: their sequences are drawn once per member, and a
model is run over them block by block, so that it is traced once however many suites there are.
"""

import dataclasses
import zlib
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Key, UInt32

from icl_jax.data.classes import Tables
from icl_jax.data.labels import group_labels, own_labels
from icl_jax.data.sequences import sample_suite
from icl_jax.data.source import Exemplars
from icl_jax.data.types import Sequence
from icl_jax.evals import metrics
from icl_jax.evals.oracles import ORACLES, Facts, Oracle, expected_accuracy, oracle_accuracies
from icl_jax.evals.suites import bounds_of, never_shows_answer
from icl_jax.registry import check_options
from icl_jax.rng import fold_each, stream_key
from icl_jax.spec import EvalSpec, SuiteSpec

_AT_ONCE = 128  # sequences drawn side by side: each may need an array over all classes


@flax.struct.dataclass
class EvalSet:
    """One member's sequences of S suites and what oracles score on them.

    sequences: leading axes (S * blocks, batch); facts: of each suite, leading axis S; ways: int32 (S,);
    oracles: float32 (S, O), headline accuracy expected of each oracle, in the order of ORACLES;
    floor, ceiling: float32 (S,); keys: uint32 (S * blocks, batch, 2), the model's own randomness.
    """

    sequences: Sequence
    facts: Facts
    ways: jax.Array
    oracles: jax.Array
    floor: jax.Array
    ceiling: jax.Array
    keys: jax.Array


@dataclasses.dataclass(frozen=True)
class SuitesEval:
    """All suites of a spec as one eval (`icl_jax.training.protocols.Eval`); its arrays have the axis ("suite",).

    Metrics: metrics.METRICS, and floor, ceiling (headline accuracy of the oracles that bound the suite)
    and share (how far `accuracy` is on the way from one to the other). patches: names of those that act in evals, whose
    metric `changed` (see `models.build.Output`) has the axes ("suite", "patch").
    """

    spec: EvalSpec
    source: Exemplars
    patches: tuple[str, ...] = ()
    name: str = "suites"

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        of_patches = {"changed": ("suite", "patch")} if self.patches else {}
        return {metric: ("suite",) for metric in metrics.OF_SUITE} | of_patches

    @property
    def coords(self) -> dict[str, tuple]:
        return {"suite": tuple(suite for suite, _ in self.spec.suites), "patch": self.patches}

    def arrays(self) -> None:
        return None

    def prepare(self, arrays, tables: Tables, h: dict, seed: Integer[ArrayLike, ""]) -> EvalSet:
        return make_set(self.spec, self.source, tables, h, seed)

    def run(self, model, variables, eval_set: EvalSet, context) -> dict[str, jax.Array]:
        """Returns the scores of all suites (`score_set`), of the model as it is patched."""

        def predict(seqs: Sequence, keys: Key[Array, "B"]) -> tuple[jax.Array, dict]:
            inputs = self.source.inputs(context.tables, context.shared, context.h, seqs)
            how = {"patches": context.patches, "shared": context.model_shared}
            output = model.apply(variables, inputs, key=keys, logits_at="last", **how)
            changed = [output.changed[name] for name in self.patches]
            return output.logits, {"changed": jnp.stack(changed)} if changed else {}

        return score_set(self.spec, predict, eval_set)

    def finish(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return values


def suites_eval(spec: EvalSpec, source: Exemplars, patches: tuple[str, ...] = ()) -> SuitesEval:
    """Returns the eval of a spec's suites. ValueError when the sequences of a suite cannot be cut into equal blocks.

    patches: names of those that act in evals.
    """
    check_options("evals", spec)
    if spec.num_sequences % _batch(spec):
        count, batch = spec.num_sequences, spec.batch_size
        fits = -(-count // batch) * batch
        raise ValueError(
            f"evals.num_sequences {count} is not a multiple of evals.batch_size {batch}; use {fits} sequences"
        )
    return SuitesEval(spec, source, patches)


def _batch(spec: EvalSpec) -> int:
    return min(spec.batch_size, spec.num_sequences)


def make_set(spec: EvalSpec, source: Exemplars, tables: Tables, h: dict, seed: Integer[ArrayLike, ""]) -> EvalSet:
    """Returns the eval set of one member. seed: uint32 scalar, the member's seed `eval`."""
    draw = lambda name, suite: suite_sequences(name, suite, spec.num_sequences, source, tables, h, seed)
    sets = [draw(name, suite) for name, suite in spec.suites]
    blocks = _to_blocks(spec, jax.tree.map(lambda *x: jnp.stack(x), *sets))
    each = [suite_facts(suite, source, tables, h) for _, suite in spec.suites]
    facts = jax.tree.map(lambda *x: jnp.stack(x), *each)
    oracles = _score_oracles(spec, blocks, facts)
    floor, ceiling = _bounds(spec, oracles)
    return EvalSet(
        sequences=blocks,
        facts=facts,
        ways=jnp.stack([jnp.int32(suite.ways or h["ways"]) for _, suite in spec.suites]),
        oracles=oracles,
        floor=floor,
        ceiling=ceiling,
        keys=_to_blocks(spec, jnp.stack([model_keys(name, spec.num_sequences, seed) for name, _ in spec.suites])),
    )


def suite_sequences(
    name: str, suite: SuiteSpec, count: int, source: Exemplars, tables: Tables, h: dict, seed: Integer[ArrayLike, ""]
) -> Sequence:
    """Returns `count` sequences of a suite, leading axis (count,). Their randomness hangs on the suite's
    name and their number only: another suite, or more sequences, changes none of them."""
    key = stream_key(seed, "eval", _number(name))
    drawings = source.num_exemplars, source.num_train_exemplars
    one = lambda key: sample_suite(source.task, suite, source.vocab, tables, h, key, *drawings)
    return jax.lax.map(one, fold_each(key, 0, count), batch_size=min(count, _AT_ONCE))


def model_keys(name: str, count: int, seed: Integer[ArrayLike, ""]) -> UInt32[Array, "{count} 2"]:
    """Returns key data for a model that draws, uint32 (count, 2): as for a suite's sequences, by its name and their
    number only."""
    return jax.random.key_data(fold_each(stream_key(seed, "eval_model", _number(name)), 0, count))


def _number(name: str) -> np.uint32:
    return np.uint32(zlib.crc32(name.encode()))


def suite_facts(suite: SuiteSpec, source: Exemplars, tables: Tables, h: dict) -> Facts:
    """Returns what oracles know of a suite."""
    position = jnp.arange(tables.cdf.shape[0])
    rare = (position < tables.num_rare).astype(jnp.float32)
    trained = (position < tables.num_train).astype(jnp.float32)
    zipf = jnp.diff(tables.cdf, prepend=0)
    frequency = {"rare": rare, "common": trained - rare, "zipfian": zipf}.get(suite.classes, trained)
    active = source.active_labels(tables, h)
    owned = lambda weight: _label_mass(source, tables, weight) > 0
    labels = metrics.Labels(active, owned(rare), owned(trained - rare))
    answers = _group_mass if source.task.task_token and suite.task == "group" else _label_mass
    of_answers = lambda weight: answers(source, tables, weight)
    unseen = jnp.bool_(never_shows_answer(suite, source.vocab.shared_labels))
    return Facts(labels, of_answers(trained) > 0, of_answers(frequency / frequency.sum()), unseen)


def _label_mass(source: Exemplars, tables: Tables, weight: jax.Array) -> jax.Array:
    """Returns float32 (V,): the weight (K,) of each position, spread evenly over its own labels."""
    first, count = own_labels(source.vocab, tables, jnp.arange(weight.shape[0]))
    nth = jnp.arange(source.task.max_multiplicity)[None, :]
    mass = jnp.where(nth < count[:, None], (weight / jnp.maximum(count, 1))[:, None], 0)
    return jnp.zeros(source.vocab.size).at[first[:, None] + nth].add(mass, mode="drop")


def _group_mass(source: Exemplars, tables: Tables, weight: jax.Array) -> jax.Array:
    """Returns float32 (V,): the weight (K,) of each position on the label of its group."""
    groups = group_labels(source.vocab, tables, jnp.arange(weight.shape[0]))
    return jnp.zeros(source.vocab.size).at[groups].add(weight)


def _to_blocks(spec: EvalSpec, tree):
    """(S, N, ...) -> (S * blocks, batch, ...)."""
    batch = _batch(spec)
    return jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[2:]), tree)


def _from_blocks(spec: EvalSpec, values: jax.Array) -> jax.Array:
    """(S * blocks, batch, ...) -> (S, N, ...)."""
    return values.reshape(len(spec.suites), spec.num_sequences, *values.shape[2:])


def _suite_of_block(spec: EvalSpec) -> jax.Array:
    return jnp.repeat(jnp.arange(len(spec.suites)), spec.num_sequences // _batch(spec))


def _restricted(spec: EvalSpec) -> jax.Array:
    return jnp.asarray([suite.answers == "context" for _, suite in spec.suites])


def _map_blocks(spec: EvalSpec, fn: Callable, sequences: Sequence):
    """Returns fn(suite index, block index, sequences (batch, ...)) of each block, mean over a suite's
    sequences of each array it returns: (S, ...). fn is traced once."""
    suites = _suite_of_block(spec)
    values = jax.lax.map(lambda args: fn(*args), (suites, jnp.arange(suites.shape[0]), sequences))
    return jax.tree.map(lambda x: metrics.mean(_from_blocks(spec, x), axis=1), values)


def score_set(spec: EvalSpec, predict: Callable, eval_set: EvalSet) -> dict[str, Float[Array, "S ..."]]:
    """Returns metric -> (S, ...) of predict(sequences (B, ...), keys (B,)) -> (logits (B, V), further numbers by
    name, one of each for all of the B sequences), block by block."""
    restricted = _restricted(spec)

    def block(suite, index, seqs):
        logits, more = predict(seqs, jax.random.wrap_key_data(eval_set.keys[index], impl="threefry2x32"))
        labels = jax.tree.map(lambda x: x[suite], eval_set.facts.labels)
        scores = metrics.score(logits, seqs, labels, eval_set.ways[suite], restricted[suite])
        return scores | jax.tree.map(lambda x: jnp.broadcast_to(x, (logits.shape[0], *x.shape)), more)

    scores = _map_blocks(spec, block, eval_set.sequences)
    share = metrics.share(scores["accuracy"], eval_set.floor, eval_set.ceiling)
    return scores | {"floor": eval_set.floor, "ceiling": eval_set.ceiling, "share": share}


def evaluate_predictor(spec: EvalSpec, predictor: Oracle, eval_set: EvalSet) -> dict[str, Float[Array, "S"]]:
    """Returns the exact expected scores of a predictor as if it were the model, metric -> (S,):
    accuracy, accuracy_all, accuracy_context, share. predictor(sequence, facts) -> probabilities (V,)."""
    restricted = _restricted(spec)

    def block(suite, index, seqs):
        facts = jax.tree.map(lambda x: x[suite], eval_set.facts)
        score = lambda seq: expected_accuracy(predictor(seq, facts), seq)
        everywhere, inside = jax.vmap(score)(seqs)
        headline = jnp.where(restricted[suite], inside, everywhere)
        return {"accuracy": headline, "accuracy_all": everywhere, "accuracy_context": inside}

    scores = _map_blocks(spec, block, eval_set.sequences)
    return scores | {"share": metrics.share(scores["accuracy"], eval_set.floor, eval_set.ceiling)}


def _score_oracles(spec: EvalSpec, blocks: Sequence, facts: Facts) -> jax.Array:
    """Returns the headline accuracy expected of each oracle on each suite, float32 (S, O)."""
    restricted = _restricted(spec)

    def block(suite, index, seqs):
        known = jax.tree.map(lambda x: x[suite], facts)
        return jax.vmap(lambda seq: oracle_accuracies(seq, known, restricted[suite]))(seqs)

    return _map_blocks(spec, block, blocks)


def _bounds(spec: EvalSpec, oracles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (floor, ceiling) of each suite: the best of the oracles that bound it, float32 (S,)."""

    def best(side: int) -> Float[Array, "S"]:
        chosen = [[name in bounds_of(suite)[side] for name in ORACLES] for _, suite in spec.suites]
        return jnp.max(jnp.where(np.asarray(chosen), oracles, -jnp.inf), axis=1)

    return best(0), best(1)
