"""The named evaluation suites and what each measures.

A suite is a `SuiteSpec` (which sequences, which answer counts); its facts follow from the fields, so a
suite of your own has them too: `describe(spec)` says what the context holds, which answer counts, over
which labels the argmax is taken, and which oracles (icl_jax.evals.oracles) are floor and ceiling.

Roles. `icl`: only reading the context answers it. `iwl`: only the weights do. `conflict`: both give an
answer and they differ. `both`: either may answer (sequences as in training).
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from icl_jax.data.validate import banks_that_make_fresh
from icl_jax.data.vocab import needed_labels
from icl_jax.names import suggest
from icl_jax.registry import check_options, find, option_value
from icl_jax.spec import SuiteSpec, TaskSpec, options_of

_NO_MATCHING = ("guess_context", "majority", "frequent", "chance")
# role -> (oracles without the mechanism under test, oracles with it); the best of each counts
BOUNDS = {
    "icl": ((*_NO_MATCHING, "in_weights"), ("in_context",)),
    "iwl": ((*_NO_MATCHING, "in_context"), ("in_weights",)),
    "flipped": (("in_weights",), ("in_context",)),
    "both": (_NO_MATCHING, ("in_context", "in_weights")),
}


@dataclass(frozen=True)
class SuiteFacts:
    """A suite and its facts. floor, ceiling: names of the oracles, the best of which is the bound."""

    spec: SuiteSpec
    role: str  # icl | iwl | conflict | both
    context: str  # what the context holds
    counts: str  # which answer counts
    argmax: str  # over which labels the headline accuracy's argmax is taken
    floor: tuple[str, ...]
    ceiling: tuple[str, ...]


def role_of(spec: SuiteSpec) -> str:
    """Returns the mechanism a suite tests: icl, iwl, conflict or both."""
    if spec.labels == "flipped" or spec.kind == "broken":
        return "conflict"
    if spec.kind == "no_support":
        return "iwl"
    known = spec.labels == "fixed" and spec.classes not in ("holdout", "fresh")
    return "both" if known or spec.task == "group" else "icl"


def bounds_of(spec: SuiteSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of the oracles that bound a suite: (floor, ceiling).

    `flipped` runs from purely in-weights (0) to purely in-context (1). In `broken` the in-weights
    answer counts, and its floor is the best guess among the context's labels.
    """
    if spec.labels == "flipped":
        return BOUNDS["flipped"]
    return BOUNDS["iwl" if spec.kind == "broken" else role_of(spec)]


def never_shows_answer(spec: SuiteSpec, shared_labels: bool) -> bool:
    """Returns whether the right answer is never among the context's labels, by construction.

    shared_labels: several classes have one label, so that leaving out a class does not leave out its label.
    """
    return spec.kind == "no_support" and spec.task == "class" and (spec.exclude_label or not shared_labels)


def describe(spec: SuiteSpec) -> SuiteFacts:
    """Returns a suite with its facts in words."""
    floor, ceiling = bounds_of(spec)
    shown = "the labels shown in the context" if spec.answers == "context" else "all labels in use"
    return SuiteFacts(spec, role_of(spec), _context(spec), _counts(spec), shown, floor, ceiling)


_CLASSES = {
    "holdout": "held-out classes",
    "rare": "rare trained classes",
    "common": "common trained classes",
    "zipfian": "trained classes, as often as in training",
    "fresh": "classes made up for this sequence",
}
_LABELS = {
    "redrawn": "labels redrawn at random from the trained ones",
    "first": "the labels 0 .. ways - 1",
    "fixed": "their trained labels",
    "flipped": "their trained labels exchanged among them",
    "shifted": "their trained labels moved on by one",
    "symbols": "labels from the symbol pool",
}
_DRAWINGS = {
    "all": "",
    "train": "; the query is a trained drawing",
    "heldout": "; the query is a held-out drawing",
}


def _context(spec: SuiteSpec) -> str:
    classes, labels = _CLASSES[spec.classes], _LABELS[spec.labels]
    ways = f"{spec.ways or 'hyper `ways`'} {'distinct ' if spec.distinct_ways else ''}ways"
    text = {
        "fewshot": f"{ways} of {classes} with {labels}, the query's among them",
        "no_support": f"{classes} without the query's class" + " or its label" * spec.exclude_label,
        "broken": f"{ways} of {classes} without the query's; one of them carries the query's trained label",
        "iid": f"pairs drawn one by one from {classes}, with {labels}",
        "bursty": f"a bursty core of {classes} and a remainder, with {labels}",
    }[spec.kind]
    return text + ", all different" * spec.unique + _DRAWINGS[spec.exemplars]


def _counts(spec: SuiteSpec) -> str:
    if spec.kind in ("no_support", "broken"):
        return "the query class's trained label (any of them, where it has several)"
    if spec.kind == "iid":
        return "the label shown with the query's class; where it is not shown, any trained label of the class"
    return "the label shown with the query's class"


def _fewshot(classes: str) -> SuiteSpec:
    return SuiteSpec("fewshot", classes, "redrawn", "context")


def _released_fewshot(classes: str) -> SuiteSpec:
    return SuiteSpec("fewshot", classes, "first", "context", distinct_ways=False)


def _no_support(classes: str, exemplars: str) -> SuiteSpec:
    return SuiteSpec("no_support", classes, "fixed", "all", exemplars=exemplars)


def _released_no_support(classes: str) -> SuiteSpec:
    return SuiteSpec("no_support", classes, "fixed", "all", exclude_label=False)


_TRAINED = ("rare", "common", "zipfian")
SUITES: dict[str, SuiteFacts] = {
    name: describe(spec)
    for name, spec in {
        **{f"fewshot_{c}": _fewshot(c) for c in ("holdout", *_TRAINED)},
        **{f"chan2022_fewshot_{c}": _released_fewshot(c) for c in ("holdout", *_TRAINED)},
        **{f"no_support_{c}": _no_support(c, "train") for c in _TRAINED},
        **{f"no_support_{c}_heldout_drawings": _no_support(c, "heldout") for c in _TRAINED},
        **{f"chan2022_no_support_{c}": _released_no_support(c) for c in _TRAINED},
        "flipped": SuiteSpec("fewshot", "zipfian", "flipped", "context", exemplars="train"),
        "broken": SuiteSpec("broken", "zipfian", "fixed", "context", exemplars="train"),
        "reddy_fresh": SuiteSpec("fewshot", "fresh", "redrawn", "all", ways=0),
        "reddy_shifted": SuiteSpec("fewshot", "zipfian", "shifted", "all", ways=0),
        "iid": SuiteSpec("iid", "zipfian", "fixed", "all"),
        "bursty": SuiteSpec("bursty", "zipfian", "fixed", "all", ways=0),
    }.items()
}


def resolve_suites(
    suites: Iterable[str | Mapping], custom: Mapping[str, Mapping] | None = None
) -> tuple[tuple[str, SuiteSpec], ...]:
    """Returns (name, spec) of each suite asked for.

    suites: names out of `SUITES` or `custom`, and dicts name -> fields of SuiteSpec. custom: suites of
    your own that a name may refer to, name -> fields of SuiteSpec (or a SuiteSpec).
    ValueError for an unknown name, field or value, and for a suite of your own under a name in use.
    """
    suites, own = list(suites), {}
    for entry in (custom or {}, *suites):
        for name, fields in entry.items() if isinstance(entry, Mapping) else ():
            if name in SUITES or name in own:
                raise ValueError(f"suite {name!r} exists already; give your own suite another name")
            own[name] = fields if isinstance(fields, SuiteSpec) else _from_fields(name, fields)
    names = [name for entry in suites for name in ([entry] if isinstance(entry, str) else entry)]
    if not names:
        raise ValueError("no eval suite is asked for; name at least one, e.g. 'fewshot_holdout'")
    return tuple((name, _lookup(name, own)) for name in dict.fromkeys(names))


def _lookup(name: str, own: Mapping[str, SuiteSpec]) -> SuiteSpec:
    if name in own:
        return own[name]
    if name not in SUITES:
        raise ValueError(f"unknown eval suite {name!r}{suggest(name, [*SUITES, *own])}")
    return SUITES[name].spec


def _from_fields(name: str, fields: Mapping) -> SuiteSpec:
    known = options_of(SuiteSpec)
    if not isinstance(fields, Mapping) and not hasattr(fields, "items"):
        raise ValueError(f"evals.custom.{name} = {fields!r}: give its fields, such as {{'kind': 'fewshot'}}")
    for field, value in fields.items():
        if field not in known:
            raise ValueError(f"suite {name!r}: unknown field {field!r}{suggest(field, known)}")
        if (choices := known[field].choices) and value not in choices:
            raise ValueError(f"suite {name!r}: {field} = {value!r}{suggest(str(value), choices)}")
    return SuiteSpec(**{n: option_value(f"evals.custom.{name}.{n}", value, known[n]) for n, value in fields.items()})


class BankFacts(Protocol):
    """What validation reads of a bank."""

    name: str
    num_classes: int
    num_exemplars: int
    num_train_exemplars: int


def validate_suites(
    suites: Iterable[tuple[str, SuiteSpec]],
    task: TaskSpec,
    bank: BankFacts,
    fewest_classes: int = 0,
    fewest_ways: int = 0,
) -> None:
    """Raises ValueError, naming value, limit and way out, for the first suite that cannot be drawn.

    fewest_classes: smallest number of active training classes of any member (0: all not held out).
    fewest_ways: smallest hyper `ways` of any member (0: not known, and not checked).
    """
    trained = fewest_classes or task.max_classes or bank.num_classes - task.num_holdout
    pools = {
        "holdout": (task.num_holdout, "raise task.num_holdout"),
        "rare": (trained - task.num_common, "raise hypers.num_classes or lower task.num_common"),
        "common": (task.num_common, "raise task.num_common"),
        "zipfian": (trained, "raise hypers.num_classes"),
    }
    for name, spec in suites:
        check_options(f"evals.custom.{name}", spec)
        problems = (_meaning(spec, fewest_ways), _needs(spec, task, bank), _fit(spec, task, pools))
        for problem in itertools.chain(*problems, _label_problems(spec, task, bank.num_classes, trained)):
            raise ValueError(f"suite {name!r}: {problem}")


def _meaning(spec: SuiteSpec, fewest_ways: int) -> Iterable[str]:
    """Yields why the fields contradict each other."""
    asks_weights = spec.kind in ("no_support", "broken") or spec.labels in ("flipped", "shifted")
    untrained = spec.classes == "fresh" or (spec.classes == "holdout" and spec.task == "class")  # groups are trained
    if asks_weights and untrained:
        what = f"kind {spec.kind!r} with labels {spec.labels!r}"
        yield f"{what} needs trained classes, classes is {spec.classes!r}; use rare, common or zipfian"
    if spec.kind in ("no_support", "broken") and spec.labels != "fixed":
        yield f"kind {spec.kind!r} asks for the trained label, labels is {spec.labels!r}; use labels 'fixed'"
    if spec.answers == "context" and spec.kind in ("no_support", "iid"):
        yield f"kind {spec.kind!r} need not show the answer, answers is 'context'; use answers 'all'"
    if spec.unique and spec.kind not in ("iid", "no_support"):
        yield f"unique is a rule of kinds 'iid' and 'no_support', kind is {spec.kind!r}; use distinct_ways"
    if spec.labels == "flipped" and (spec.ways or fewest_ways) == 1:
        source = "" if spec.ways else " (hyper `ways`)"
        yield f"labels 'flipped' with ways 1{source} has nothing to exchange; use ways >= 2"


def _needs(spec: SuiteSpec, task: TaskSpec, bank: BankFacts) -> Iterable[str]:
    """Yields what bank or task lack."""
    if spec.classes == "fresh" and not find("bank", bank.name).makes_fresh:
        yield f"classes 'fresh' need {banks_that_make_fresh()}, the bank is {bank.name!r}; use classes 'holdout'"
    if spec.exemplars == "heldout" and bank.num_train_exemplars == bank.num_exemplars:
        trained = f"all {bank.num_exemplars} exemplars of a class are trained on"
        yield f"exemplars 'heldout': {trained}; keep some by bank.holdout_exemplars, or use 'all'"
    ways = spec.ways or task.max_ways
    if spec.labels == "symbols" and task.num_symbols < ways:
        yield f"labels 'symbols' for {ways} ways, task.num_symbols is {task.num_symbols}; raise it to {ways}"
    if task.kind == "fewshot" and task.core_labels != "fixed" and role_of(spec) != "icl":
        yield f"no class keeps a label in training with task.core_labels {task.core_labels!r}; leave it out"
    if spec.task == "group" and not task.task_token:
        yield "task 'group' without a task token; set task.task_token = True"


def _label_problems(spec: SuiteSpec, task: TaskSpec, num_classes: int, trained: int) -> Iterable[str]:
    """Yields what needs more labels than there are. trained: fewest training classes of a member."""
    ways = spec.ways or task.max_ways
    if spec.labels == "redrawn" and 0 < task.num_labels < ways:
        yield f"labels 'redrawn' for {ways} ways, task.num_labels is {task.num_labels}; lower ways"
    elif spec.labels == "redrawn" and trained * task.max_multiplicity < ways:
        yield f"labels 'redrawn' for {ways} ways, there are {trained} trained classes; lower ways"
    shared = 0 < task.num_labels < needed_labels(task, num_classes)
    excludes = spec.kind == "broken" or (spec.kind == "no_support" and spec.exclude_label)
    if not (shared and excludes and spec.task == "class"):
        return
    needed = task.context_len + 1 if spec.unique else ways + 1 if spec.kind == "broken" else 2
    if task.num_labels < needed:
        way_out = "raise it" + ", or set unique False" * spec.unique
        have = f"task.num_labels is {task.num_labels}; {way_out}"
        yield f"needs {needed} labels to keep the query's out of the context, {have}"


def _fit(spec: SuiteSpec, task: TaskSpec, pools: Mapping[str, tuple[int, str]]) -> Iterable[str]:
    """Yields what does not fit: the core into the context, the ways into the classes."""
    ways, shots = spec.ways or task.max_ways, max(spec.shots, 1)
    if spec.kind in ("fewshot", "broken") and ways * shots > task.context_len:
        size = f"ways {ways} x shots {shots} = {ways * shots} > context_len {task.context_len}"
        yield f"{size}; lower ways or shots, or raise task.context_len"
    if spec.classes == "fresh":
        return
    available, way_out = pools[spec.classes]
    if spec.unique:
        needed = task.context_len + 1
    elif spec.kind in ("fewshot", "broken") and spec.distinct_ways:
        needed = ways + (spec.kind == "broken")
    else:
        needed = 2 if spec.kind in ("no_support", "broken") else 1
    if available < needed:
        yield f"needs {needed} {spec.classes} classes, there are {available}; {way_out}"
