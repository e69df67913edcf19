"""The questions of a text task to a language model: prompts drawn on the host, for the eval seed of each member."""

import dataclasses
import functools
from collections.abc import Mapping
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

    def arrays(self) -> dict[str, Any]:
        """Returns the prompts of all seeds, axes (seed, prompt, token), and the demonstrations that they share."""
        after = [prompts.length - start for prompts, start in zip(self.drawn, self._starts, strict=True)]
        longest = int(max(length.max() for length in after))
        cut = [_part(p, s, longest) for p, s in zip(self.drawn, self._starts, strict=True)]
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


def text_questions(
    name: str, source: Texts, options: Mapping[str, Any], num_positions: int, whole: bool = False
) -> TextQuestions:
    """Returns the questions that options of an eval ask of a language model. num_positions: of the model. ValueError
    for data that are not there, for labels that tokenize alike, for prompts that are too long and for too few."""
    task, train, test = _task(name, options)
    seeds = tuple(sorted(set(source.seeds)))
    drawn = tuple(_drawn(task, train, test, source, options, num_positions, seed) for seed in seeds)
    if (fewest := min(len(prompts) for prompts in drawn)) < options["num_prompts"]:
        raise ValueError(
            f"evals.more.{name}.num_prompts {options['num_prompts']}: {options['task']} has {fewest} test examples "
            "that can be asked; lower it"
        )
    whole = whole or options["fresh"]
    return TextQuestions(name, options["num_prompts"], drawn[0].words, seeds, drawn, whole)


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


def _drawn(task, train, test, source: Texts, options: Mapping[str, Any], num_positions: int, seed: int) -> Prompts:
    return draw_prompts(
        task,
        train,
        test,
        source.tokenizer,
        shots=options["shots"],
        num_prompts=options["num_prompts"],
        seed=seed,
        fresh=options["fresh"],
        max_tokens=num_positions,
        instruction=options["instruction"],
        label_words=options["words"] or None,
        flip=options["flip"] or None,
    )


def digest(options: Mapping[str, Any]) -> str:
    """Returns the digests of the texts that an eval of a language model stands on."""
    _, train, test = _task("", options)
    return f"{train.digest[:16]} {test.digest[:16]}"
