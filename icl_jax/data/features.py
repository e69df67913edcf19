"""Learned features: what the encoders of an earlier stage of a sweep make of their bank, a set for each member.

The sets of a population lie one after another on the device, as classes of one bank; a member's class order names
those of its own, so that members with different encoders are one program.
"""

from collections.abc import Sequence

import numpy as np

from icl_jax.data.banks import Bank, make_bank
from icl_jax.data.vectors import Embeddings, load_embeddings
from icl_jax.spec import BankSpec
from icl_jax.storage.paths import as_path

SOURCE = "bank"  # of `config.Member.sources`


def file_name(source: str) -> str:
    """Returns the file of a set of features: of the encoder's cell, at a step."""
    cell, step, *_ = source.split()
    return f"{cell}-{step}.npz"


def load_features(spec: BankSpec, members: Sequence) -> Bank:
    """Returns the features of the members' encoders, out of the directory bank.path.

    Where some are not made yet (`Bank.missing`), all are zeros of the sizes that the spec says, for a plan to be made.
    ValueError for members without an encoder, for files that are no features, and for encoders of different banks.
    """
    sources = list(dict.fromkeys(member.sources.get(SOURCE, "") for member in members))
    if "" in sources or not sources:
        raise ValueError(
            f"bank {spec.name!r} ({spec.path}): what it holds is made by an earlier stage of a sweep; run it with `icl "
            "sweep run`, or use bank 'embeddings' with a file"
        )
    files = {source: as_path(spec.path) / file_name(source) for source in sources}
    missing = tuple(str(file) for file in files.values() if not file.is_file())
    sets = [_zeros(spec) if missing else load_embeddings(spec, files[source]) for source in sources]
    first = sets[0]
    for source, found in zip(sources, sets, strict=True):
        if found.embeddings.shape != first.embeddings.shape or not np.array_equal(_groups(found), _groups(first)):
            raise ValueError(
                f"{files[source]}: features {found.embeddings.shape} of another bank than {files[sources[0]]} "
                f"{first.embeddings.shape}; encoders of one stage have the same bank and width"
            )
    num_classes, num_exemplars, dim = first.embeddings.shape
    num_groups = 1 if first.groups is None else int(first.groups.max()) + 1
    return make_bank(
        spec,
        "vector",
        (dim,),
        (num_classes, num_exemplars),
        {"embeddings": np.concatenate([found.embeddings for found in sets])},
        groups=first.groups,
        group_names=("all",) if num_groups == 1 else tuple(f"group_{i}" for i in range(num_groups)),
        num_holdout=min(found.num_holdout or 0 for found in sets),
        origin=", ".join(sources),
        orders={
            s: np.asarray(found.class_order) + i * num_classes
            for i, (s, found) in enumerate(zip(sources, sets, strict=True))
        },
        missing=missing,
        digest="features",  # their cells' ids stand in the members' sources
    )


def _groups(found: Embeddings) -> np.ndarray:
    return np.zeros(1) if found.groups is None else found.groups


def _zeros(spec: BankSpec) -> Embeddings:
    count = spec.num_classes
    return Embeddings(
        np.zeros((count, spec.num_exemplars, spec.dim), np.float32),
        np.arange(count, dtype=np.int32),
        count - 1,
        "",
        np.zeros(count, np.int32),
    )
