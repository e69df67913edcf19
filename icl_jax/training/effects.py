"""No intervention is silent: which patches act and change nothing."""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from icl_jax.training.parallel import primary


class Effects:
    """Looks at what patches changed and warns, once for each patch in training and in evals."""

    def __init__(self):
        self._told: set[tuple[str, str]] = set()

    def look(
        self, during: str, acts: Mapping[str, Bool[np.ndarray, "M"]], changed: Float[np.ndarray, "M ... patches"]
    ) -> None:
        """acts: patch -> in which members it acted, bool (M,); changed: its share of the site, (M, ..., patches)."""
        for index, (name, acting) in enumerate(acts.items()):
            nothing = acting & (changed[..., index].reshape(len(acting), -1).max(1) == 0)
            if nothing.any() and (during, name) not in self._told:
                self._told.add((during, name))
                if primary():
                    members = np.flatnonzero(nothing)
                    shown = ", ".join(map(str, members[:6])) + (", ..." if len(members) > 6 else "")
                    warnings.warn(
                        f"patch {name!r} acts in {during} and changes nothing in {len(members)} of {len(acting)} "
                        f"members ({shown}): its tokens, layers or value leave the site as it is",
                        stacklevel=2,
                    )
