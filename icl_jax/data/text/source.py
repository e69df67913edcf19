"""The source of an imported language model: its tokenizer, and no training sequences of its own."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from icl_jax.data.text.tokenizers import Tokenizer, load_tokenizer
from icl_jax.inputs import Batch, TextFacts
from icl_jax.members import Member
from icl_jax.spec import RunSpec
from icl_jax.storage.weights import read_facts, read_tokenizer


@dataclasses.dataclass(frozen=True)
class Texts:
    """What evals need to make prompts (see `icl_jax.training.protocols.Source`).

    weights: directory of the imported model; seeds: eval seed of each member, for which prompts are drawn.
    """

    weights: str
    facts: TextFacts
    digest: str
    seeds: tuple[int, ...]
    is_fed = False

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own. ValueError where it was imported without one."""
        return load_tokenizer(read_tokenizer(self.weights))

    def shared(self) -> dict:
        return {}

    def own(self, members: Sequence[Member]) -> Int32[np.ndarray, "M"]:
        """Returns the number of each member."""
        return np.arange(len(members), dtype=np.int32)

    def feed(self, member: Member, start: int, stop: int) -> None:
        """Returns nothing: there is nothing to train on."""

    def prepare(self, own, h: dict) -> dict:
        """Returns no tables."""
        return {}

    def draw(self, tables, shared, h, seed, step, first, count: int, fed=None) -> Batch:
        """Raises ValueError: there is nothing to train on."""
        raise ValueError("source 'text' has no training sequences; tokens of your own: run.tokens([...])")


def check_texts(source: object, what: str) -> Texts:
    """Returns a source of texts, which `what` takes. ValueError for another one."""
    if not isinstance(source, Texts):
        raise ValueError(f"{what} takes a language model (parts.source 'text'); this is a {type(source).__name__}")
    return source


def text_source(spec: RunSpec, members: Sequence[Member]) -> Texts:
    """Returns the source of a spec. ValueError without the weights of an imported model."""
    facts = TextFacts(int(read_facts(spec.model.weights)["vocab_size"]))
    return Texts(spec.model.weights, facts, digest_of(spec), tuple(m.seeds["eval"] for m in members))


def digest_of(spec: RunSpec) -> str:
    """Returns the digest of an imported model, its weights and its tokenizer."""
    facts = read_facts(spec.model.weights)
    return f"{facts['weights'][:16]} {facts['tokenizer'][:16]}".strip()


def check_only_looks(spec: RunSpec) -> None:
    """Raises ValueError for a run that would train, or whose weights nobody names."""
    if not spec.model.weights:
        raise ValueError("source 'text' needs model.weights, the directory of an imported model (icl import)")
    if spec.train.num_steps:
        raise ValueError(
            f"train.num_steps {spec.train.num_steps}: source 'text' has no training sequences, so that an imported "
            "model is looked at only; use 0"
        )
