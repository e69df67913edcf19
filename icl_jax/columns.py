"""The columns of a tidy table, of a run (`training.store`) or of a sweep (`sweep.results`)."""

from collections.abc import Iterable

_FIXED = ("member", "cell", "step", "suite", "metric", "value", "_order")
_PREFIXES = ("label/", "hyper/", "seed/")


def coordinates(names: Iterable[str]) -> list[str]:
    """Returns those of a table's columns that are coordinates of its metrics, such as layer, in their order."""
    return [name for name in names if name not in _FIXED and not name.startswith(_PREFIXES)]
