"""Headlines: the few numbers by which a run is shown everywhere, each a metric of a suite or of another eval.

By default two, the accuracies of `evals.icl` and `evals.iwl`, called ICL and IWL. Imports no JAX.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from icl_jax.names import few, suggest

DEFAULTS = {"icl": "ICL", "iwl": "IWL"}  # field of `evals` that names a suite -> title
_LONG = {"ICL": "In-context", "IWL": "In-weights"}
_FIELDS = ("title", "eval", "metric", "at")

Coords = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Headline:
    """title: what it is called; suite: the suite or eval; at: (axis, label) of each axis of the metric, sorted.

    >>> from icl_jax.headlines import Headline
    >>> Headline("ICL", "fewshot_holdout").subject
    'in-context accuracy'
    >>> Headline("Query", "along", "loss", (("position", 4),)).measure
    'loss, along (position 4)'
    """

    title: str
    suite: str
    metric: str = "accuracy"
    at: Coords = ()

    @property
    def is_default(self) -> bool:
        """Whether it is the accuracy in context or in weights.

        >>> from icl_jax.headlines import Headline
        >>> Headline("ICL", "fewshot_holdout").is_default, Headline("ICL", "fewshot_holdout", "loss").is_default
        (True, False)
        """
        return self.title in _LONG and self.metric == "accuracy" and not self.at

    @property
    def is_accuracy(self) -> bool:
        """Whether it lies between 0 and 1, more being better.

        >>> from icl_jax.headlines import Headline
        >>> Headline("ICL", "fewshot_holdout").is_accuracy, Headline("ICL", "fewshot_holdout", "loss").is_accuracy
        (True, False)
        """
        return self.metric in ("accuracy", "accuracy_all", "accuracy_context")

    @property
    def long(self) -> str:
        """Returns "In-context", "In-weights", or its title.

        >>> from icl_jax.headlines import Headline
        >>> Headline("ICL", "fewshot_holdout").long, Headline("Query", "along", "loss").long
        ('In-context', 'Query')
        """
        return _LONG[self.title] if self.is_default else self.title

    @property
    def subject(self) -> str:
        """Returns what is measured: "in-context accuracy", or its title.

        >>> from icl_jax.headlines import Headline
        >>> Headline("ICL", "fewshot_holdout").subject, Headline("Query", "along", "loss").subject
        ('in-context accuracy', 'Query')
        """
        return f"{self.long.lower()} accuracy" if self.is_default else self.title

    @property
    def measure(self) -> str:
        """Returns "accuracy, fewshot_holdout", "loss, along (position 3)".

        >>> from icl_jax.headlines import Headline
        >>> Headline("Query", "along", "loss", (("position", 4),)).measure
        'loss, along (position 4)'
        """
        return f"{self.metric}, {self.suite}" + (f" ({place(self.at)})" if self.at else "")


def place(at: Coords) -> str:
    """Returns coordinates as "layer 1, set a".

    >>> from icl_jax import headlines
    >>> headlines.place((("layer", 1), ("set", "a")))
    'layer 1, set a'
    """
    return ", ".join(f"{axis} {label}" for axis, label in at)


def coords_of(at: Mapping[str, Any] | Sequence) -> Coords:
    """Returns coordinates, axis -> label, in their one form.

    >>> from icl_jax import headlines
    >>> headlines.coords_of({"set": "a", "layer": 1})
    (('layer', 1), ('set', 'a'))
    >>> headlines.coords_of(3)
    Traceback (most recent call last):
        ...
    ValueError: coordinates 3: give a label for each axis, such as {'position': 3}
    """
    try:
        return tuple(sorted((str(axis), label) for axis, label in dict(at).items()))
    except (TypeError, ValueError):
        raise ValueError(f"coordinates {at!r}: give a label for each axis, such as {{'position': 3}}") from None


def headlines_of(evals: Mapping[str, Any], suites: Sequence[str] | None = None) -> tuple[Headline, ...]:
    """Returns the headlines of the section `evals` of a config: `headlines`, each {"title": TITLE, "eval": NAME,
    "metric": NAME (default: accuracy), "at": {axis: label, ...}}, or else the accuracies of `icl` and `iwl`, where they
    name suites.

    suites: those that run, where `icl` and `iwl` are checked too. ValueError for fields and titles that cannot be.

    >>> from icl_jax import headlines
    >>> [headline.subject for headline in headlines.headlines_of(config.evals)]
    ['in-context accuracy', 'in-weights accuracy']
    >>> query = {"title": "Query", "eval": "along", "metric": "loss", "at": {"position": 4}}
    >>> headlines.headlines_of({"headlines": (query,)})
    (Headline(title='Query', suite='along', metric='loss', at=(('position', 4),)),)
    """
    stated = tuple(evals.get("headlines", ()))
    if not stated:
        named = {title: evals[field] for field, title in DEFAULTS.items()}
        for field, suite in zip(DEFAULTS, named.values(), strict=True):
            if suites is not None and suite not in suites and (suites or suite):
                way_out = "add it there, or name another one of them"
                way_out = way_out if suite else "name one; evals.headlines may show one alone"
                raise ValueError(f"evals.{field} = {suite!r} is not among evals.suites {list(suites)}; {way_out}")
        return tuple(Headline(title, suite) for title, suite in named.items() if suite)
    found = tuple(_headline(fields) for fields in stated)
    titles = [headline.title.lower() for headline in found]
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise ValueError(f"evals.headlines has two titled {twice[0]!r}; give one of them another title")
    return found


def shown_of(evals: Mapping[str, Any]) -> tuple[Headline, ...]:
    """Returns the headlines of a config or, where it has none, the training loss.

    >>> from icl_jax import headlines
    >>> [headline.title for headline in headlines.shown_of(config.evals)]
    ['ICL', 'IWL']
    >>> headlines.shown_of({"icl": "", "iwl": ""})
    (Headline(title='Loss', suite='train', metric='loss', at=()),)
    """
    return headlines_of(evals) or (Headline("Loss", "train", "loss"),)


def _headline(fields: Mapping[str, Any]) -> Headline:
    if not hasattr(fields, "items"):
        raise ValueError(f'evals.headlines: {fields!r} is no headline; give {{"title": ..., "eval": ...}}')
    fields = dict(fields.items())
    if unknown := sorted(fields.keys() - set(_FIELDS)):
        raise ValueError(f"evals.headlines: unknown field {unknown[0]!r}{suggest(unknown[0], _FIELDS)}")
    title, suite = fields.get("title"), fields.get("eval")
    if not isinstance(fields.get("metric", ""), str):
        raise ValueError(f"evals.headlines: metric {fields['metric']!r}: give its name")
    for name, value in (("title", title), ("eval", suite)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"evals.headlines: {fields!r} has the {name} {value!r}; give it one")
    return Headline(str(title), str(suite), fields.get("metric", "accuracy"), coords_of(fields.get("at", {}) or {}))


def check_named(headlines: Sequence[Headline], evals: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ValueError for a headline of an eval that does not run, or called like one. names: of the suites and evals
    that run.

    >>> from icl_jax import headlines
    >>> evals = {"headlines": ({"title": "Query", "eval": "alonk"},)}
    >>> headlines.check_named(headlines.headlines_of(evals), evals, ["fewshot_holdout", "along"])
    Traceback (most recent call last):
        ...
    ValueError: evals.headlines: no eval 'alonk' runs; did you mean 'along'?
    """
    if not evals.get("headlines"):
        return
    for headline in headlines:
        if headline.suite not in names:
            raise ValueError(f"evals.headlines: no eval {headline.suite!r} runs{suggest(headline.suite, names)}")
        if headline.title.lower() in {*map(str.lower, names), "train"}:
            raise ValueError(f"evals.headlines: the title {headline.title!r} is the name of an eval; give another")


def check_measured(
    headlines: Sequence[Headline], axes: Mapping[str, Mapping[str, Mapping[str, Sequence]]], most: int
) -> None:
    """Raises ValueError for a headline whose metric its eval does not have, or that is not one number in the table.

    axes: suite or eval -> metric -> axis -> labels; most: numbers that a metric may have in the table.

    >>> from icl_jax import headlines
    >>> query = headlines.Headline("Query", "along", "loss", (("position", 5),))
    >>> headlines.check_measured([query], {"along": {"loss": {"position": range(5)}}}, most=10_000)
    Traceback (most recent call last):
        ...
    ValueError: headline 'Query': loss of 'along' has no position 5; it has 0, 1, 2, 3, 4
    """
    for headline in headlines:
        where, metrics = f"headline {headline.title!r}:", axes[headline.suite]
        if headline.metric not in metrics:
            known = suggest(headline.metric, metrics)
            raise ValueError(f"{where} {headline.suite!r} has no metric {headline.metric!r}{known}")
        if math.prod(map(len, metrics[headline.metric].values())) > most:
            raise ValueError(
                f"{where} {headline.metric} of {headline.suite!r} has more than {most:,} numbers, which are in array "
                "files; show a metric of fewer"
            )
        check_place(f"{where} {headline.metric} of {headline.suite!r}", headline.at, metrics[headline.metric])


def check_place(what: str, at: Coords, axes: Mapping[str, Sequence]) -> None:
    """Raises ValueError for coordinates that are not one label on each axis of a metric. axes: axis -> labels.

    >>> from icl_jax import headlines
    >>> headlines.check_place("loss of 'along'", (), {"position": range(5)})
    Traceback (most recent call last):
        ...
    ValueError: loss of 'along' is one number for each position; say at which (position: 0, 1, 2, 3, 4)
    """
    given = dict(at)
    for axis in given:
        if axis not in axes:
            has = f"it has {', '.join(axes)}" if axes else "it has none"
            raise ValueError(f"{what} has no axis {axis!r}; {has}")
    if missing := [axis for axis in axes if axis not in given]:
        shown = "; ".join(f"{axis}: {few(axes[axis])}" for axis in missing)
        raise ValueError(f"{what} is one number for each {', '.join(axes)}; say at which ({shown})")
    for axis, label in given.items():
        if str(label) not in map(str, axes[axis]):
            raise ValueError(f"{what} has no {axis} {label!r}; it has {few(axes[axis])}")
