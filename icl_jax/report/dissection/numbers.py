"""Numbers of labelled arrays by name, and means of them with intervals."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from icl_jax.claims.statistics import interval
from icl_jax.storage.arrays import Labelled

Found = Mapping[tuple[str, str], Labelled]  # (eval, metric) -> what it gave
Spread = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean, lower and upper bound
_Z = 1.96  # of a 95 % interval by a standard error over many prompts


def take(found: Labelled, *rest: str, **at: str | int) -> Float[np.ndarray, "members ..."]:
    """Returns the numbers at some labels, along the other axes in the order `rest`. ValueError for what is not there.

    Looked up by name: labels of text come in any order.
    """
    if sorted((*rest, *at)) != sorted(found.axes):
        asked = ", ".join((*rest, *at)) or "none"
        raise ValueError(f"axes {asked}: the array has {', '.join(found.axes) or 'none'}; name each of them once")
    place: list = [slice(None)]
    for axis in found.axes:
        labels = found.coords[axis]
        if axis in at and at[axis] not in labels:
            raise ValueError(f"{axis} {at[axis]!r}: the array has {', '.join(map(str, labels))}; use one of them")
        place.append(labels.index(at[axis]) if axis in at else slice(None))
    left = [axis for axis in found.axes if axis not in at]
    return np.transpose(found.values[tuple(place)], (0, *(1 + left.index(axis) for axis in rest)))


def spread(values: Float[np.ndarray, "members ..."], error: np.ndarray | None = None) -> Spread:
    """Returns the mean over members with its 95 % interval: Student's t, or of one member 1.96 x its standard error
    over prompts. Bounds are NaN where neither is known."""
    mean, low, high = interval(values)
    if len(values) == 1 and error is not None:
        return mean, mean - _Z * error[0], mean + _Z * error[0]
    return mean, low, high


def spread_text(members: int, has_error: bool = False) -> str:
    """Returns what `spread` shows, for a caption."""
    if members > 1:
        return f"Mean over {members} members with its 95\u00a0% interval (Student's t)."
    return "One member, with the 95\u00a0% interval over its prompts." if has_error else "One member."


def copies_text(copies: int) -> str:
    """Returns "3 untrained copies of the network"."""
    return f"{copies} untrained cop{'y' if copies == 1 else 'ies'} of the network"


def known(*arrays: np.ndarray) -> bool:
    """Whether there is any number in the arrays."""
    return any(np.isfinite(array).any() for array in arrays)


def listed(values: np.ndarray, digits: int = 2) -> str:
    """Returns numbers for those who cannot see a figure: a few of many, "-" for none."""
    flat = np.ravel(values)
    kept = flat[np.unique(np.linspace(0, flat.size - 1, min(flat.size, 8)).round().astype(int))]
    return ", ".join(f"{x:.{digits}f}" if np.isfinite(x) else "-" for x in kept)
