"""Components of one's own, as a user would write them: a core, a source that is fed, a frontend and an objective for
it, an eval."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import icl_jax
from icl_jax import registry
from icl_jax.inputs import Batch
from icl_jax.models.layers import Dense, param, stacked
from icl_jax.models.taps import run_layers
from icl_jax.registry import (
    Component,
    CoreComponent,
    EvalComponent,
    FrontendComponent,
    Reads,
    SourceComponent,
    register,
    shared,
)
from icl_jax.runs import config as cfg
from icl_jax.spec import HYPERS, Hyper, Option

# A core: linear attention ---------------------------------------------------------------------------------


class LinearAttention(nnx.Module):
    """x += out(q S), S the sum of k v over the tokens so far, with features elu + 1 or relu of q and k."""

    def __init__(self, width: int, num_layers: int, features: str):
        self.layers = stacked(Layer(width, features), num_layers)
        self.num_layers = num_layers

    def __call__(self, x, logits_at, tap):
        definition, params = nnx.split(self.layers)
        return run_layers(lambda p, x, tap: nnx.merge(definition, p)(x, tap), params, x, self.num_layers, tap)


class Layer(nnx.Module):
    def __init__(self, width: int, features: str):
        self.qkv, self.out = Dense(width, 3 * width), Dense(width, width)
        self.gain = param((width,), rule=lambda key, shape: jax.random.uniform(key, shape, minval=0.5, maxval=1.5))
        self.features = {"elu": lambda x: jax.nn.elu(x) + 1, "relu": jax.nn.relu}[features]

    def __call__(self, x, tap):
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q, k = self.features(q), self.features(k)
        state = tap("state", jnp.cumsum(jnp.einsum("bnk,bnv->bnkv", k, v), axis=1))
        return x + self.gain[...][None, None] * self.out(jnp.einsum("bnk,bnkv->bnv", q, state) / x.shape[1])


def linear_attention(spec, width, options):
    return LinearAttention(width, spec.num_layers, options["features"])


CORE = CoreComponent(
    role="core",
    name="linear_attention",
    doc="Linear attention.",
    build=linear_attention,
    options={"features": Option("elu", "of queries and keys", choices=("elu", "relu"))},
    sections=("model.num_layers",),
    hypers=shared("decay_attention"),
    decay={"*": "attention"},
    sites=lambda model, options: {"state": ("layer", "sequence", "token", "key", "value")},
    state_size=lambda model, options, width, tokens: model.num_layers * width**2,
    flops=lambda model, options, width, tokens: model.num_layers * (8 * width**2 + 4 * width**2),
)

# A source that is fed: a stream of tokens, each the one before plus one or, with chance p_jump, any ---------

VOCAB, LENGTH = 7, 6


@dataclasses.dataclass(frozen=True)
class Stream:
    batch_size: int
    digest: str = "count up to seven"
    facts: tuple[int, int] = (VOCAB, LENGTH)
    is_fed: bool = True

    def shared(self):
        return {}

    def own(self, members):
        return np.zeros((len(members), 0))

    def feed(self, member, start, stop):
        return jax.tree.map(lambda *x: np.stack(x), *[self._step(member, n) for n in range(start, stop)])

    def _step(self, member, step):
        rng = np.random.default_rng((member.seeds["data"], step))
        jumps = np.where(rng.random((self.batch_size, LENGTH + 1)) < member.hypers["p_jump"], rng.integers(VOCAB), 1)
        return {
            "tokens": (np.cumsum(jumps, axis=1) % VOCAB).astype(np.int32),
            "weights": (rng.random((self.batch_size, LENGTH)) < 0.5).astype(np.float32),
        }

    def prepare(self, own, h):
        return own

    def draw(self, tables, shared, h, seed, step, first, count, fed):
        tokens = fed["tokens"]
        return Batch(tokens[:, :-1], tokens[:, 1:], fed["weights"], jnp.ones(VOCAB, bool))


class Tokens(nnx.Module):
    """A table of tokens and learned positions."""

    def __init__(self, width: int, vocab_size: int, length: int):
        self.embedder = Table(width, vocab_size, length)
        self.width, self.vocab_size, self.items = width, vocab_size, slice(None)

    def __call__(self, inputs, key, train, mean):
        return self.embedder.tokens[inputs] + self.embedder.positions[...][None]

    @property
    def table(self):
        return self.embedder.tokens[...]


class Table(nnx.Module):
    def __init__(self, width: int, vocab_size: int, length: int):
        self.tokens = param((vocab_size, width), sd=0.2, fill=0.1)
        self.positions = param((length, width), sd=0.02)


@dataclasses.dataclass(frozen=True)
class NextToken:
    logits_at: str = "items"

    def loss(self, output, batch, params, h):
        losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, batch.targets)
        right = (output.logits.argmax(-1) == batch.targets) * batch.weights
        weight = batch.weights.sum()
        return (losses * batch.weights).sum(), weight, {"accuracy": (right.sum(), weight)}


STREAM = (
    SourceComponent(
        role="source",
        name="stream",
        doc="A stream of tokens.",
        build=lambda spec, members: Stream(spec.train.batch_size),
        digest=lambda spec: Stream(1).digest,
        hypers={"p_jump": Hyper(0.0, 0, 1, "chance of a token that does not follow")},
    ),
    FrontendComponent(
        role="frontend",
        name="tokens",
        doc="Tokens.",
        build=lambda spec, facts, options: Tokens(spec.width, *facts),
        sections=("model.width",),
        hypers=shared("decay_embeddings"),
        decay={"embedder": "embeddings"},
    ),
    Component(
        role="objective",
        name="next_token",
        doc="Cross-entropy of the next token.",
        build=lambda spec: NextToken(),
        hypers={"smoothing": Hyper(0.0, 0, 1, "of targets")},
        reads={"smoothing": Reads(lambda spec: False, "an objective that smooths")},
    ),
)

# An eval: loss by position, in bits, with its own data ------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ByPosition:
    name: str = "by_position"
    start: int = 0
    axes = {"bits": ("position",), "mean": ()}  # noqa: RUF012
    coords = {"position": tuple(range(LENGTH))}  # noqa: RUF012

    def arrays(self):
        return (np.arange(4)[:, None] + np.arange(LENGTH + 1)).astype(np.int32) % VOCAB

    def prepare(self, arrays, tables, h, seed):
        return {"offset": (seed + self.start) % VOCAB}

    def run(self, model, variables, eval_set, context):
        tokens = (context.arrays + eval_set["offset"]) % VOCAB
        output = model.apply(variables, tokens[:, :-1], logits_at="items", shared=context.model_shared)
        return {"nats": optax.softmax_cross_entropy_with_integer_labels(output.logits, tokens[:, 1:]).mean(0)}

    def finish(self, values):
        bits = values["nats"] / np.log(2)
        return {"bits": bits, "mean": bits.mean(1)}


BY_POSITION = EvalComponent(
    role="eval",
    name="by_position",
    doc="Loss at each position of a stream, in bits.",
    build=lambda name, spec, source, options: ByPosition(name, options["start"]),
    options={"start": Option(0, "first token", least=0)},
)


@dataclasses.dataclass(frozen=True)
class Logits:
    """All logits of 3 streams of 600 tokens: more numbers than fit the table."""

    name: str
    axes = {"logits": ("stream", "position", "token")}  # noqa: RUF012
    coords = {"stream": ("a", "b", "c"), "position": tuple(range(600)), "token": tuple(range(VOCAB))}  # noqa: RUF012

    def arrays(self):
        return None

    def prepare(self, arrays, tables, h, seed):
        return None

    def run(self, model, variables, eval_set, context):
        tokens = (jnp.arange(3)[:, None] + jnp.arange(600)[None]) % VOCAB
        output = model.apply(variables, tokens[:, :LENGTH], logits_at="items", shared=context.model_shared)
        return {"logits": jnp.tile(output.logits, (1, 600 // LENGTH, 1))}

    def finish(self, values):
        return values


LOGITS = EvalComponent(
    role="eval", name="logits", doc="All logits.", build=lambda name, spec, source, options: Logits(name)
)


@contextlib.contextmanager
def registered():
    """The plugins' components, and what a test registers beside them, until it is left."""
    registry.components("core")
    components, hypers = dict(registry._COMPONENTS), dict(HYPERS)
    register_all()
    yield
    for known, before in ((registry._COMPONENTS, components), (HYPERS, hypers)):
        known.clear()
        known.update(before)


def register_all() -> None:
    for component in (CORE, *STREAM, BY_POSITION, LOGITS):
        register(component)


def stream_config(**changes):
    """A population of 3 data seeds on the fed source, with the core of one's own."""
    config = cfg.default_config()
    config.name, config.parts.source = "stream", "stream"
    config.parts.frontend, config.parts.objective = "tokens", "next_token"
    config.model.core, config.options.core = "linear_attention", {"features": "relu"}
    config.model.num_layers, config.model.width = 2, 16
    config.train.batch_size, config.train.num_steps = 8, 40
    config.hypers.p_jump, config.hypers.learning_rate, config.hypers.eps = 0.1, 1e-2, 1e-3
    config.seeds.data = (0, 1, 2)
    config.evals.suites, config.evals.icl, config.evals.iwl = (), "", ""
    config.evals.every = config.checkpoint.every = 20
    config.runtime.chunk_steps, config.runtime.devices, config.runtime.batch_shards = 10, 2, 1
    config.runtime.tensorboard = config.runtime.figures = False
    return cfg.override(config, changes)


def trained(directory, **changes):
    return icl_jax.train(stream_config(**changes), directory, progress=False, evals=(ByPosition(),))
