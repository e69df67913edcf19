"""Text classification tasks: the template that writes an example as text, and the word that stands for each class.

The demonstrations of "Label Words are Anchors" (arXiv 2305.14160) are `X: text` newline `Y: label`, joined by one
newline; the query ends right after `Y:`. `TASKS` holds its four tasks and more of the same form. A task of one's own:

    TextTask("toxicity", Template("Post: {text}\\nToxic:"), {"No": ("clean",), "Yes": ("toxic",)})
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

from icl_jax.names import few, suggest

SLOTS = (("{text}",), ("{text1}", "{text2}"))


@dataclasses.dataclass(frozen=True)
class Template:
    """How an example is written: `form` with its text or texts put in, then `gap` and the word of its class.

    form: contains {text} once, or {text1} and {text2} once each in this order, and ends in the cue, the characters
      after which the label goes. Spaces before a text belong to the text, as in byte-level vocabularies.
    gap: between the cue and the label's word.
    separator: after every label.

    Raises:
      ValueError: other slots, none, one twice, no cue, or a cue that ends in a space.
    """

    form: str
    gap: str = " "
    separator: str = "\n"

    def __post_init__(self):
        found = re.findall(r"\{\w+\}", self.form)
        if tuple(found) not in SLOTS:
            raise ValueError(
                f"template {self.form!r} has the slots {' '.join(found) or 'none'}; write {{text}} once, or {{text1}} "
                "and {text2} once each in this order"
            )
        if not self.cue.strip(" "):
            raise ValueError(f"template {self.form!r} has no cue after its text; end it in one, such as '\\nAnswer:'")
        if self.cue.endswith(" "):
            raise ValueError(
                f"template {self.form!r} ends in a space, which belongs to the label; drop it (gap is {self.gap!r})"
            )
        if not self.separator:
            raise ValueError(f"template {self.form!r} has no separator between demonstrations; give one, such as '\\n'")

    @functools.cached_property
    def parts(self) -> tuple[str, ...]:
        """The form cut at its slots, with the spaces before each slot: literal, spaces, literal, ..., cue."""
        *heads, cue = re.split(r"\{\w+\}", self.form)
        bare = [head.rstrip(" ") for head in heads]
        spaced = zip(bare, (head[len(b) :] for head, b in zip(heads, bare, strict=True)), strict=True)
        return (*(part for pair in spaced for part in pair), cue)

    @property
    def cue(self) -> str:
        """What comes after the last text."""
        return self.parts[-1]

    @property
    def num_texts(self) -> int:
        """How many texts an example has: 1 or 2."""
        return len(self.parts) // 2

    def pieces(self, texts: Sequence[str] | None) -> list[str]:
        """Returns what an example's text is made of, up to its label: literals and texts in turn, the cue last.

        texts: one for each slot; None leaves the texts out, and the spaces before them.
        """
        pieces = list(self.parts)
        for k in range(self.num_texts):
            pieces[2 * k + 1] = "" if texts is None else pieces[2 * k + 1] + texts[k]
        return pieces


def cued(text: str, label: str) -> Template:
    """Returns the paper's template with two words of a task: `text: ...` newline `label: ...`."""
    return Template(f"{text}: {{text}}\n{label}:")


@dataclasses.dataclass(frozen=True)
class TextTask:
    """A classification task: its template, and its label words with the names that data sets give to their classes.

    labels: {word: names}; a word is a name of its own class. Case does not matter in names.
    """

    name: str
    template: Template
    labels: dict[str, tuple[str, ...]]

    def words(self, label_names: Sequence[str]) -> tuple[str, ...]:
        """Returns the word of each class of a data set. Classes that are numbered have the task's order.

        Raises:
          ValueError: another number of classes, or a name that is none of the task's.
        """
        known = {name.lower(): word for word, names in self.labels.items() for name in (word, *names)}
        ways = "give label_words, one for each class"
        if len(label_names) != len(self.labels):
            raise ValueError(
                f"task {self.name!r} has {len(self.labels)} classes ({few(self.labels)}), the data "
                f"{len(label_names)} ({few(label_names)}); {ways}"
            )
        if list(label_names) == [str(c) for c in range(len(label_names))]:
            return tuple(self.labels)
        for name in label_names:
            if name.lower() not in known:
                raise ValueError(f"task {self.name!r} has no class {name!r}{suggest(name.lower(), known)}; or {ways}")
        return tuple(known[name.lower()] for name in label_names)


def _sentiment(name: str, text: str) -> TextTask:
    return TextTask(name, cued(text, "Sentiment"), {"Negative": (), "Positive": ()})


# Names in brackets: those of the data sets of `datasets.json` and of TFDS, where they differ from the words.
TASKS = {
    task.name: task
    for task in (
        _sentiment("sst2", "Review"),
        TextTask(
            "trec",
            cued("Question", "Answer Type"),
            {
                "Abbreviation": ("abbr",),
                "Entity": ("enty",),
                "Description": ("desc",),
                "Person": ("human", "hum"),
                "Location": ("loc",),
                "Number": ("numeric", "num"),
            },
        ),
        TextTask(
            "ag_news",
            cued("Article", "Answer"),
            {"World": (), "Sports": (), "Business": (), "Technology": ("science/technology", "sci/tech")},
        ),
        TextTask("emoc", cued("Dialogue", "Emotion"), {"Others": (), "Happy": (), "Sad": (), "Angry": ()}),
        _sentiment("cr", "Review"),
        _sentiment("rt", "Review"),
        _sentiment("mpqa", "Phrase"),
        TextTask("subj", cued("Sentence", "Type"), {"Objective": (), "Subjective": ()}),
        TextTask("tweet_emotion", cued("Tweet", "Emotion"), {"Anger": (), "Joy": (), "Optimism": (), "Sadness": ()}),
    )
}


def find_task(name: str) -> TextTask:
    """Returns the task of a name. Raises ValueError for an unknown one."""
    if name not in TASKS:
        raise ValueError(f"unknown text task {name!r}{suggest(name, TASKS)}; or make a TextTask of your own")
    return TASKS[name]


def choose_words(
    task: TextTask,
    label_names: Sequence[str],
    label_words: Sequence[str] | None = None,
    flip: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Returns the word shown for each class of a data set.

    label_words: one for each class, in the order of label_names, in place of the task's own (foo and bar, A and B).
    flip: a permutation of the classes; class c is shown with the word of class flip[c].

    Raises:
      ValueError: another number of words, a blank or spaced one, one twice, or no permutation.
    """
    words = task.words(label_names) if label_words is None else tuple(label_words)
    if len(words) != len(label_names):
        raise ValueError(
            f"{len(words)} label words ({few(words)}) for {len(label_names)} classes ({few(label_names)}); give one "
            "for each class"
        )
    for word in words:
        if not word or word != word.strip():
            raise ValueError(f"label word {word!r} is blank or has white space around; the template's gap writes that")
        if words.count(word) > 1:
            raise ValueError(f"label word {word!r} is used twice; every class needs a word of its own")
    if flip is None:
        return words
    if sorted(flip) != list(range(len(words))):
        raise ValueError(f"flip {list(flip)} is no permutation of the {len(words)} classes 0 to {len(words) - 1}")
    return tuple(words[c] for c in flip)
