"""The questions of a text task to a language model: prompts drawn on the host, for the eval seed of each member."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer

from icl_jax.data.text.datasets import Examples, load_examples
from icl_jax.data.text.prompts import Prompts, draw_prompts
from icl_jax.data.text.source import Texts
from icl_jax.data.text.tasks import TASKS, Template, TextTask, find_task
from icl_jax.dissect.cases import Cases, Prepared, Tokenised, draw_keys
from icl_jax.inputs import Roles, Tokens

_TEST = ("validation", "test")  # splits that questions come from, the first that is there


@dataclasses.dataclass(frozen=True)
class TextQuestions:
    """Prompts of a text task.

    seeds: eval seeds for which there are prompts, `drawn` for each of them; whole: demonstrations are read with every
    question, as they must be where each has its own, or where gradients go through them.
    """

    name: str
    num: int
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    drawn: tuple[Prompts, ...]
    whole: bool

    @functools.cached_property
    def _starts(self) -> list[int]:
        """Where the tokens that are asked begin, of each seed."""
        return [0 if self.whole else int(prompts.num_demonstration_tokens[0]) for prompts in self.drawn]

    @property
    def num_tokens(self) -> int:
        """Tokens of a question, with padding; without the demonstrations that are read before."""
        return max(int(p.length.max()) - start for p, start in zip(self.drawn, self._starts, strict=True))

    def arrays(self) -> dict[str, Any]:
        """Returns the prompts of all seeds, axes (seed, prompt, token), and the demonstrations that they share."""
        cut = [_part(p, s, self.num_tokens) for p, s in zip(self.drawn, self._starts, strict=True)]
        found = {
            "seeds": np.asarray(self.seeds, np.uint32),
            "each": _stacked(cut) | {"gold": np.stack([p.gold for p in self.drawn])},
            "class_tokens": np.stack([p.class_tokens for p in self.drawn]),
        }
        if not self.whole:
            shared = [_part(p, 0, max(self._starts), s, 1) for p, s in zip(self.drawn, self._starts, strict=True)]
            found["before"] = _stacked(shared)
        return found

    def prepare(self, arrays, tables, h: dict, seed: Integer[Array, ""]) -> Prepared:
        own = jax.tree.map(lambda x: x[jnp.argmax(arrays["seeds"] == seed)], arrays)
        each = own["each"] | {
            "draws": draw_keys(self.name, self.num, seed),
            "class_tokens": jnp.broadcast_to(own["class_tokens"], (self.num, len(self.classes))),
        }
        if self.whole:
            return Prepared(each)
        return Prepared(each, Tokenised(**_read(own["before"]), draws=draw_keys(f"{self.name} before", 1, seed)))

    def cases(self, each: Mapping[str, Any], context) -> Cases:
        return Cases(
            **_read(each),
            answers=each["class_tokens"],
            gold=each["gold"],
            at=each["length"] - 1,
            draws=each["draws"],
            model_keys=each["draws"],
        )


def _part(prompts: Prompts, start: int, num_tokens: int, stop: int | None = None, num: int | None = None) -> dict:
    """Tokens start .. stop of the first `num` prompts, padded to a number of tokens."""
    rows = slice(num)

    def cut(array: np.ndarray, fill: Any) -> np.ndarray:
        part = array[rows, start:stop][:, :num_tokens]
        return np.pad(part, ((0, 0), (0, num_tokens - part.shape[1])), constant_values=fill)

    return {
        "ids": cut(prompts.ids, 0),
        "length": (prompts.length[rows] if stop is None else np.full(len(prompts.length[rows]), stop)) - start,
        "classes": cut(prompts.label_class, -1),
        "demonstration": cut(prompts.demonstration, -1),
        "sets": {name: cut(mask, False) for name, mask in prompts.sets.items()},
    }


def _stacked(parts: list[dict]) -> dict:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def _read(part: Mapping[str, Any]) -> dict[str, Any]:
    """What `Tokenised` has, but for the draws."""
    valid = jnp.arange(part["ids"].shape[1])[None] < part["length"][:, None]
    inputs = Tokens(part["ids"], part["length"], Roles(dict(part["sets"]), part["demonstration"]))
    return {"inputs": inputs, "classes": part["classes"], "valid": valid}


@dataclasses.dataclass(frozen=True)
class TextSets:
    """The texts of a task and how prompts are made of them; options: of an eval."""

    name: str
    source: Texts
    options: Mapping[str, Any]
    num_positions: int
    task: TextTask
    train: Examples
    test: Examples

    def questions(self, whole: bool = False, shots: int = 0) -> TextQuestions:
        """Returns the questions. shots: other than the options'."""
        drawn = self._drawn(self.test, self.options["num_prompts"], shots or self.options["shots"])
        return self._of(self.name, drawn, whole or self.options["fresh"])

    def extra(self, num_per_class: int) -> TextQuestions:
        """Returns questions from the training split behind the same demonstrations, as many of each class."""
        num = num_per_class * len(self.train.label_names)
        drawn = self._drawn(self.train, num, self.options["shots"], balanced=True, fresh=False)
        return self._of(f"{self.name} extra", drawn)

    def derived(self, what: str, of: Callable[[Prompts], Prompts]) -> TextQuestions:
        """Returns questions made of the prompts of each seed."""
        drawn = self._drawn(self.test, self.options["num_prompts"], self.options["shots"], fresh=False)
        return self._of(f"{self.name} {what}", tuple(of(prompts) for prompts in drawn))

    def _of(self, name: str, drawn: tuple[Prompts, ...], whole: bool = False) -> TextQuestions:
        return TextQuestions(name, len(drawn[0]), drawn[0].words, self._seeds, drawn, whole)

    @property
    def _seeds(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.source.seeds)))

    def _drawn(self, test: Examples, num: int, shots: int, **how: Any) -> tuple[Prompts, ...]:
        given = {
            "fresh": self.options["fresh"],
            "max_tokens": self.num_positions,
            "instruction": self.options["instruction"],
            "label_words": self.options["words"] or None,
            "flip": self.options["flip"] or None,
        } | how
        about = (self.task, self.train, test, self.source.tokenizer)
        drawn = tuple(draw_prompts(*about, shots=shots, num_prompts=num, seed=seed, **given) for seed in self._seeds)
        if (fewest := min(map(len, drawn))) < num:
            raise ValueError(
                f"evals.more.{self.name} asks for {num} prompts, and {self.options['data'] or self.task.name} has "
                f"{fewest} examples that can be asked; lower num_prompts, or take more texts"
            )
        return drawn


def text_sets(name: str, source: Texts, options: Mapping[str, Any], num_positions: int) -> TextSets:
    """Returns the texts of a task that an eval names. num_positions: of the model. ValueError for data that are not
    there; asked for questions, also for labels that tokenize alike, prompts that are too long and too few."""
    return TextSets(name, source, options, num_positions, *_task(name, options))


def _task(name: str, options: Mapping[str, Any]) -> tuple[TextTask, Examples, Examples]:
    data = options["data"] or options["task"]
    train = load_examples(data, options["train_split"])
    faults = []
    for split in (options["test_split"],) if options["test_split"] else _TEST:
        try:
            return _text_task(options), train, load_examples(data, split, label_names=train.label_names)
        except ValueError as fault:
            faults.append(str(fault))
    raise ValueError(f"evals.more.{name}: {faults[0]}")


def _text_task(options: Mapping[str, Any]) -> TextTask:
    if not options["template"]:
        return find_task(options["task"])
    known = TASKS[options["task"]].labels if options["task"] in TASKS else {word: () for word in options["words"]}
    return TextTask(options["task"], Template(options["template"].replace("\\n", "\n")), known)


def digest(options: Mapping[str, Any]) -> str:
    """Returns the digests of the texts that an eval of a language model stands on."""
    _, train, test = _task("", options)
    return f"{train.digest[:16]} {test.digest[:16]}"
