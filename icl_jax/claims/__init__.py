"""What a figure must show: statements, the statistics they stand on, and verdicts. Needs no report."""

from icl_jax.claims import statements
from icl_jax.claims.statements import *  # noqa: F403 (its public names are the package's)

__all__ = statements.__all__  # pyright: ignore[reportUnsupportedDunderAll]
