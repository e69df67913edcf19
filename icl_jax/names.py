"""Help for mistyped names, names that cannot be files, and labels of values."""

import difflib
import numbers
import re
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" or the list of known names, to end an error message with.

    >>> from icl_jax.names import suggest
    >>> suggest("transfomer", ["lstm", "transformer"])
    "; did you mean 'transformer'?"
    >>> suggest("x", ["lstm", "transformer"])
    '; known: lstm, transformer'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def few(values: Iterable) -> str:
    """Returns values as a text, for an error message: the first ones and the last of many."""
    shown = list(map(str, values))
    return ", ".join(shown) if len(shown) <= 8 else f"{', '.join(shown[:5])}, ..., {shown[-1]} ({len(shown)} in all)"


def check_file_name(what: str, name: str) -> None:
    """Raises ValueError for a name that is no plain file name. what: what it names, such as "config.name"."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name in (".", ".."):
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "run"
        raise ValueError(
            f"{what} {name!r} is no plain file name: use letters, digits and . _ - alone (not . or ..), "
            f"such as {plain!r}"
        )


def label_of(value) -> float | str:
    """Returns the label of a value: numbers as float, everything else as text (several whole numbers, such as layers:
    "0,1", or "all" for none).

    >>> grid.label_of(2), grid.label_of("rare"), grid.label_of((0, 1)), grid.label_of(())
    (2.0, 'rare', '0,1', 'all')
    """
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy
    if isinstance(value, list | tuple | range) and all(isinstance(v, numbers.Integral) for v in value):
        return ",".join(map(str, value)) or "all"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return str(value)
