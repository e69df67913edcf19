"""From lists of token ids to what a model reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from icl_jax.inputs import TEXT_SETS, Roles, Tokens


def tokens_of(ids: Sequence[Sequence[int]], pad: int = 0) -> Tokens:
    """Returns texts as a model reads them, padded at the end, as numpy arrays; of their roles only the first and the
    last token are known. ids: of each text, which may differ in length. ValueError for a text without tokens."""
    lengths: Any = np.asarray([len(own) for own in ids], np.int32)
    if not len(ids) or not lengths.min():
        raise ValueError("a text has no tokens; give at least one token each")
    padded: Any = np.full((len(ids), int(lengths.max())), pad, np.int32)
    for row, own in zip(padded, ids, strict=True):
        row[: len(own)] = own
    token = np.arange(padded.shape[1])[None]
    sets: dict[str, Any] = {name: np.zeros(padded.shape, bool) for name in TEXT_SETS}
    sets["first"] = np.broadcast_to(token == 0, padded.shape)
    sets["query"] = token == lengths[:, None] - 1
    none: Any = np.full(padded.shape, -1, np.int32)
    return Tokens(padded, lengths, Roles(sets, none))
