"""Few-shot prompts as arrays of token ids, with the role of every token.

A prompt is [instruction separator] demonstration ... demonstration query. A demonstration is its example's text in the
task's template, the label's word and the separator; the query ends at the cue, after which its label would come. Where
all labels begin with the same tokens (integers do in many vocabularies) the query goes on with these, so that the next
token tells the classes apart.

Sets of tokens (`Prompts.sets`), bool (B, N), all False on padding:
  label       of each demonstration's label the ONE token at which the labels of the task differ first
  forerunner  the token before each label token
  format      of the demonstrations all that is neither text nor label token: template, cue, separator, forerunner, and
              the rest of labels of several tokens
  text        the demonstrations' texts
  query_text  the query's own text
  query       the last real token, the one that predicts
  answer      label tokens of the query's gold class
  first       token 0
format, label, text and query_text do not overlap; with the query's template and the instruction they make up the
prompt.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from icl_jax.data.text.datasets import Examples
from icl_jax.data.text.tasks import Template, TextTask, choose_words
from icl_jax.data.text.writer import FORMAT, LABEL, OTHER, QUERY_TEXT, TEXT, Block, Encodes, Writer
from icl_jax.names import few

CONTENT_FREE = ("N/A", "", "[MASK]")  # Zhao et al. 2021
STREAMS = {"order": 0, "demonstrations": 1, "fresh": 2, "queries": 3, "words": 4}
NUM_CHECKED = 4  # prompts whose whole text is encoded once more


@dataclasses.dataclass(frozen=True)
class Prompts:
    """B prompts of at most N tokens; the module's docstring tells of their sets of tokens.

    ids: padded at the end. length: real tokens. sets: by name.
    demonstration: to which demonstration a token belongs, from 0; the query is the last of these, and -1 is none
      (instruction, padding).
    label_class: the class of each label token, -1 elsewhere.
    gold: the query's class (-1: it has none). class_tokens: the token whose logit scores each class.
    example: which of the test examples asks (-1: none). demonstration_set: prompts with one number have the same
      demonstrations.
    num_demonstration_tokens: where the query begins; the instruction counts.
    texts: the prompts as text, up to the cue. queries: the queries' part of these.
    words: the word of each class. num_dropped: test examples passed over because the prompt was too long,
    num_repeated: because the text is among the demonstrations.
    """

    ids: Int32[np.ndarray, "batch length"]
    length: Int32[np.ndarray, "batch"]
    sets: dict[str, Bool[np.ndarray, "batch length"]]
    demonstration: Int32[np.ndarray, "batch length"]
    label_class: Int32[np.ndarray, "batch length"]
    gold: Int32[np.ndarray, "batch"]
    class_tokens: Int32[np.ndarray, "classes"]
    example: Int32[np.ndarray, "batch"]
    demonstration_set: Int32[np.ndarray, "batch"]
    num_demonstration_tokens: Int32[np.ndarray, "batch"]
    texts: list[str]
    queries: list[str]
    template: Template
    words: tuple[str, ...]
    instruction: str = ""
    num_dropped: int = 0
    num_repeated: int = 0

    def __len__(self) -> int:
        return len(self.texts)


class Row(NamedTuple):
    """A prompt before it is padded."""

    context: Block
    query: Block
    gold: int
    example: int
    demonstration_set: int


def normalised(texts: Sequence[str]) -> str:
    """Returns by what texts count as the same: case and white space do not matter."""
    return "\n".join(" ".join(text.lower().split()) for text in texts)


def draw_prompts(
    task: TextTask,
    train: Examples,
    test: Examples,
    tokenizer: Encodes,
    *,
    shots: int,
    num_prompts: int,
    seed: int,
    fresh: bool = False,
    balanced: bool = False,
    max_tokens: int = 0,
    instruction: str = "",
    label_words: Sequence[str] | None = None,
    flip: Sequence[int] | None = None,
    pad: int = 0,
) -> Prompts:
    """Returns prompts that ask for test examples, with `shots` demonstrations of each class from the training examples.

    What is drawn depends on the seed and the examples alone, so that more prompts change none of the first ones:
      queries         the first of one permutation of the test examples that fit; fewer than num_prompts if there are
                      no more. balanced: the classes take turns (until one has no more).
      demonstrations  one set for all prompts; a query whose text is among them is passed over. fresh: a set of its own
                      for each test example, without the query's text.
      order           one permutation of the demonstrations, the same for every set.
    No two demonstrations of a prompt have the same text (but for case and white space).

    max_tokens: positions of the model (0: any number); longer prompts are dropped, and the next test example takes
      their place.
    label_words, flip: see `choose_words`; gold and class_tokens go with the words shown.
    instruction: put in front, with the separator after it.

    Raises:
      ValueError: train and test differ in their classes; a class has too few examples; the demonstrations alone are
        too long, or every prompt is; labels or pieces that the tokenizer does not keep apart.
    """
    _check_numbers(shots=(shots, 0), num_prompts=(num_prompts, 1), seed=(seed, 0), max_tokens=(max_tokens, 0))
    _check_examples(task, train, test)
    words = choose_words(task, train.label_names, label_words, flip)
    writer = Writer(task.template, words, tokenizer, instruction)
    drawer = _Drawer(writer, train, test, shots, seed, max_tokens)
    write = drawer.fresh if fresh else drawer.shared()
    queues = [map(write, queue) for queue in _queues(test, balanced, seed)]
    rows: list[Row] = []
    while len(rows) < num_prompts and (row := next(filter(None, queues[len(rows) % len(queues)]), None)):
        rows.append(row)
    if not rows:
        raise ValueError(
            f"none of {len(test)} test examples makes a prompt: {drawer.num_dropped} are longer than {max_tokens} "
            f"tokens, {drawer.num_repeated} are among the demonstrations; {LONG_WAYS}"
        )
    prompts = _packed(_checked(rows, writer), writer, pad)
    return dataclasses.replace(prompts, num_dropped=drawer.num_dropped, num_repeated=drawer.num_repeated)


def write_prompts(
    task: TextTask,
    shown: Examples,
    asked: Examples,
    tokenizer: Encodes,
    *,
    instruction: str = "",
    label_words: Sequence[str] | None = None,
    flip: Sequence[int] | None = None,
    pad: int = 0,
) -> Prompts:
    """Returns the prompts with the demonstrations `shown`, in their order, that ask for each of `asked`; draws nothing.

    For the other arguments see `draw_prompts`.

    Raises:
      ValueError: the examples differ in their classes, or labels or pieces that the tokenizer does not keep apart.
    """
    _check_examples(task, shown, asked)
    words = choose_words(task, shown.label_names, label_words, flip)
    writer = Writer(task.template, words, tokenizer, instruction)
    context = writer.context([writer.demonstration(t, int(c)) for t, c in zip(shown.texts, shown.labels, strict=True)])
    queries = [writer.query(texts, len(shown)) for texts in asked.texts]
    rows = [Row(context, query, int(asked.labels[k]), k, 0) for k, query in enumerate(queries)]
    return _packed(_checked(rows, writer), writer, pad)


LONG_WAYS = "take fewer shots, another seed, shorter examples, or a model with more positions (max_tokens)"


def _check_numbers(**values: tuple[int, int]):
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f"{name} is {value}, and must be at least {least}")


def _check_examples(task: TextTask, train: Examples, test: Examples):
    if train.label_names != test.label_names:
        raise ValueError(
            f"the training examples have the classes {few(train.label_names)}, the test examples "
            f"{few(test.label_names)}; load both with the same label_names"
        )
    for what, examples in (("training", train), ("test", test)):
        for k, texts in enumerate(examples.texts):
            if len(texts) != task.template.num_texts:
                raise ValueError(
                    f"{what} example {k} has {len(texts)} texts, the template {task.template.form!r} takes "
                    f"{task.template.num_texts}; use a template with {'{text}' if len(texts) == 1 else '{text1}, ...'}"
                )


def _rng(seed: int, stream: str, *index: int) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream], *index])


def _queues(test: Examples, balanced: bool, seed: int) -> list[np.ndarray]:
    """Returns the test examples in the order in which they ask: one queue, or one of each class."""
    order = _rng(seed, "queries").permutation(len(test))
    if not balanced:
        return [order]
    queues = [order[test.labels[order] == c] for c in range(len(test.label_names))]
    for name, queue in zip(test.label_names, queues, strict=True):
        if not len(queue):
            raise ValueError(f"class {name!r} has no test example, and balanced needs some of each class")
    return queues


class _Drawer:
    """Draws the prompt of each test example, or None, and counts why there is none."""

    def __init__(self, writer: Writer, train: Examples, test: Examples, shots: int, seed: int, max_tokens: int):
        self.writer, self.train, self.test, self.shots, self.seed = writer, train, test, shots, seed
        self.max_tokens = max_tokens
        self.keys = [normalised(texts) for texts in train.texts]
        self.members = [np.flatnonzero(train.labels == c) for c in range(len(train.label_names))]
        self.order = _rng(seed, "order").permutation(shots * len(self.members))
        self.blocks: dict[int, Block] = {}
        self.num_dropped = self.num_repeated = 0

    def shared(self) -> Callable[[int], Row | None]:
        """Returns what writes the prompt of a test example, behind demonstrations that all prompts share."""
        chosen = self._chosen(_rng(self.seed, "demonstrations"), set())
        context, keys = self._context(chosen), {self.keys[m] for m in chosen}
        self._check_room(len(context.ids))

        def write(index: int) -> Row | None:
            if normalised(self.test.texts[index]) in keys:
                self.num_repeated += 1
                return None
            return self._row(context, int(index), 0)

        return write

    def fresh(self, index: int) -> Row | None:
        """Returns the prompt of a test example, behind demonstrations of its own."""
        own = {normalised(self.test.texts[index])}
        chosen = self._chosen(_rng(self.seed, "fresh", int(index)), own)
        return self._row(self._context(chosen), int(index), int(index))

    def _chosen(self, rng: np.random.Generator, taken: set[str]) -> list[int]:
        """Returns training examples, `shots` of each class, in the order shown; none has a text that is taken."""
        chosen = [m for c in range(len(self.members)) for m in self._of_class(c, rng, taken)]
        return [chosen[k] for k in self.order]

    def _of_class(self, c: int, rng: np.random.Generator, taken: set[str]) -> Iterator[int]:
        left = self.shots
        for member in rng.permutation(self.members[c]):
            if not left:
                return
            if self.keys[member] not in taken:
                taken.add(self.keys[member])
                left -= 1
                yield int(member)
        if left:
            raise ValueError(
                f"class {self.train.label_names[c]!r} has {self.shots - left} training examples of different texts "
                f"(other than the query's), fewer than the {self.shots} shots; take fewer shots or more examples"
            )

    def _context(self, chosen: list[int]) -> Block:
        for m in chosen:
            if m not in self.blocks:
                self.blocks[m] = self.writer.demonstration(self.train.texts[m], int(self.train.labels[m]))
        return self.writer.context([self.blocks[m] for m in chosen])

    def _check_room(self, num_tokens: int):
        if self.max_tokens and num_tokens >= self.max_tokens:
            raise ValueError(
                f"the demonstrations alone have {num_tokens} tokens, and the model {self.max_tokens} positions, which "
                f"leaves no room for a query; {LONG_WAYS}"
            )

    def _row(self, context: Block, index: int, demonstration_set: int) -> Row | None:
        query = self.writer.query(self.test.texts[index], len(self.order))
        if self.max_tokens and len(context.ids) + len(query.ids) > self.max_tokens:
            self.num_dropped += 1
            return None
        return Row(context, query, int(self.test.labels[index]), index, demonstration_set)


def _checked(rows: list[Row], writer: Writer) -> list[Row]:
    for row in rows[:NUM_CHECKED]:
        writer.check_whole(row.context, row.query)
    return rows


def _packed(rows: Sequence[Row], writer: Writer, pad: int) -> Prompts:
    starts = np.array([len(row.context.ids) for row in rows], np.int32)
    length = starts + np.array([len(row.query.ids) for row in rows], np.int32)
    shape = (len(rows), int(length.max()))
    ids, roles = np.full(shape, pad, np.int32), np.full(shape, -1, np.int8)
    classes, owners = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    for k, row in enumerate(rows):
        for block, part in ((row.context, slice(0, starts[k])), (row.query, slice(starts[k], length[k]))):
            ids[k, part], roles[k, part] = block.ids, block.roles
            classes[k, part], owners[k, part] = block.classes, block.owners
    gold = np.array([row.gold for row in rows], np.int32)
    return Prompts(
        ids=ids,
        length=length,
        sets=_sets(roles, length, classes, gold),
        demonstration=owners,
        label_class=classes,
        gold=gold,
        class_tokens=writer.class_tokens,
        example=np.array([row.example for row in rows], np.int32),
        demonstration_set=np.array([row.demonstration_set for row in rows], np.int32),
        num_demonstration_tokens=starts,
        texts=[row.context.text + row.query.text for row in rows],
        queries=[row.query.text for row in rows],
        template=writer.template,
        words=writer.words,
        instruction=writer.instruction,
    )


def _sets(roles: np.ndarray, length: np.ndarray, classes: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    place, label = np.arange(roles.shape[1]), roles == LABEL
    return {
        "label": label,
        "forerunner": np.append(label[:, 1:], np.zeros((len(label), 1), bool), 1),
        "format": roles == FORMAT,
        "text": roles == TEXT,
        "query_text": roles == QUERY_TEXT,
        "query": place[None] == length[:, None] - 1,
        "answer": label & (classes == gold[:, None]),
        "first": np.broadcast_to(place[None] == 0, roles.shape).copy(),
    }


def _roles(sets: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the role of each token; OTHER on padding."""
    named = {"format": FORMAT, "label": LABEL, "text": TEXT, "query_text": QUERY_TEXT}
    return np.select([sets[name] for name in named], list(named.values()), OTHER).astype(np.int8)


def content_free(
    prompts: Prompts,
    tokenizer: Encodes,
    texts: Sequence[str] = CONTENT_FREE,
    *,
    max_tokens: int = 0,
    pad: int = 0,
) -> Prompts:
    """Returns, for every set of demonstrations of the prompts, these demonstrations with each text as the query.

    What a model answers there is its bias: contextual calibration (Zhao et al. 2021) with the default texts, domain
    calibration (Fei et al. 2023) with those of `domain_texts`. gold and example are -1; demonstration_set tells whose
    bias it is. A template of two texts is given the same one twice.

    Raises:
      ValueError: no texts, or a prompt of more than max_tokens (if not 0).
    """
    if not texts:
        raise ValueError("content_free was given no texts; leave them out for 'N/A', '' and '[MASK]'")
    writer = Writer(prompts.template, prompts.words, tokenizer, prompts.instruction)
    _, firsts = np.unique(prompts.demonstration_set, return_index=True)
    rows = []
    for k in np.sort(firsts):
        context, owner = _context_of(prompts, k), int(prompts.demonstration[k].max())
        queries = [writer.query((text,) * prompts.template.num_texts, owner) for text in texts]
        rows += [Row(context, query, -1, -1, int(prompts.demonstration_set[k])) for query in queries]
    longest = max(len(row.context.ids) + len(row.query.ids) for row in rows)
    if max_tokens and longest > max_tokens:
        raise ValueError(
            f"a content-free prompt has {longest} tokens, and the model {max_tokens} positions; give shorter texts, or "
            f"{LONG_WAYS}"
        )
    return _packed(_checked(rows, writer), writer, pad)


def _context_of(prompts: Prompts, k: int) -> Block:
    """Returns all but the query of a prompt."""
    part = slice(0, prompts.num_demonstration_tokens[k])
    roles = _roles({name: mask[k : k + 1] for name, mask in prompts.sets.items()})[0]
    text = prompts.texts[k].removesuffix(prompts.queries[k])
    arrays = (prompts.ids[k], roles, prompts.label_class[k], prompts.demonstration[k])
    return Block(text, *(array[part] for array in arrays))


def domain_texts(examples: Examples, num_texts: int, seed: int) -> list[str]:
    """Returns texts of random words of the examples, as long as these are on average (Fei et al. 2023)."""
    _check_numbers(num_texts=(num_texts, 1), seed=(seed, 0))
    texts = [text.split() for pieces in examples.texts for text in pieces]
    words = [word for text in texts for word in text]
    length = max(round(len(words) / len(texts)), 1)
    draw = lambda k: _rng(seed, "words", k).integers(len(words), size=length)
    return [" ".join(words[w] for w in draw(k)) for k in range(num_texts)]


def without_text(prompts: Prompts, *, pad: int = 0) -> Prompts:
    """Returns the prompts with the texts of their demonstrations left out: template, labels and the query remain (the
    paper's Text_anchor)."""
    real = np.arange(prompts.ids.shape[1])[None] < prompts.length[:, None]
    keep = real & ~prompts.sets["text"]
    length = keep.sum(1, dtype=np.int32)
    source = np.argsort(~keep, axis=1, kind="stable")[:, : int(length.max())]
    gone = np.arange(source.shape[1])[None] >= length[:, None]
    packed = lambda array, fill: np.where(gone, fill, np.take_along_axis(array, source, 1))
    classes = packed(prompts.label_class, np.int32(-1))
    num_texts = prompts.sets["text"].sum(1, dtype=np.int32)
    return dataclasses.replace(
        prompts,
        ids=packed(prompts.ids, np.int32(pad)),
        length=length,
        sets=_sets(packed(_roles(prompts.sets), np.int8(OTHER)), length, classes, prompts.gold),
        demonstration=packed(prompts.demonstration, np.int32(-1)),
        label_class=classes,
        num_demonstration_tokens=prompts.num_demonstration_tokens - num_texts,
        texts=[_bare(prompts, k) for k in range(len(prompts))],
    )


def _bare(prompts: Prompts, k: int) -> str:
    """Returns the text of a prompt whose demonstrations have none."""
    template = prompts.template
    labels = prompts.label_class[k][prompts.label_class[k] >= 0]
    form = "".join(template.pieces(None)) + template.gap
    shown = [form + prompts.words[c] + template.separator for c in labels]
    opening = prompts.instruction + template.separator if prompts.instruction else ""
    return "".join([opening, *shown, prompts.queries[k]])
