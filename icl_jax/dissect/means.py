"""Means over cases with their errors."""

import numpy as np
from jaxtyping import Float


def mean_and_error(
    values: Float[np.ndarray, "..."], axis: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Returns (mean, its standard error) along an axis, values that are not finite left out; NaN where fewer than one,
    or two, are left."""
    there = np.isfinite(values)
    count = there.sum(axis)
    total = np.where(there, values, 0).sum(axis)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    off = np.where(there, values - np.expand_dims(mean, axis), 0)
    error = np.sqrt((off**2).sum(axis) / np.maximum(count * (count - 1), 1))
    return mean, np.where(count > 1, error, np.nan)
