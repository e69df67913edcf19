"""A state as leaves by path: digests per member, and back into a tree.

Paths ("params/block_0/w") are the same for a dict, a named tuple and a dataclass with those fields, so
a state can be read without the classes that held it.
"""

import hashlib
from typing import Any

import jax
import numpy as np

PyTree = Any
Leaves = dict[str, np.ndarray]
_MOST_NAMED = 6  # leaves or members an error names before it only counts them


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, found, or fitted to the state asked for."""


def flatten(state: PyTree) -> Leaves:
    """Returns the leaves by path ("params/block_0/w"), in canonical (sorted) order, as numpy arrays.

    Raises CheckpointError for a leaf without the common leading member axis.
    """
    leaves, members = {}, None
    for keys, leaf in jax.tree.leaves_with_path(state):
        path, leaf = _path(keys), np.asarray(leaf)
        members = leaf.shape[:1] if members is None else members
        if leaf.ndim == 0 or leaf.shape[:1] != members:
            raise CheckpointError(f"leaf {path} has shape {leaf.shape}; its first axis must be the {members} members")
        if path in leaves:
            raise CheckpointError(f"two leaves have the path {path}; rename one")
        leaves[path] = leaf
    return dict(sorted(leaves.items()))


def member_digests(leaves: Leaves) -> list[str]:
    """Returns, per member, the SHA-256 of its slices of all leaves with their paths, dtypes and shapes."""
    members = next(iter(leaves.values())).shape[0] if leaves else 0
    digests = [hashlib.sha256() for _ in range(members)]
    for path, leaf in sorted(leaves.items()):
        head = f"{path} {leaf.dtype.name} {leaf.shape[1:]}\n".encode()
        for digest, part in zip(digests, leaf, strict=True):
            digest.update(head)
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return [digest.hexdigest() for digest in digests]


def structure(state: PyTree) -> dict[str, list]:
    """Returns, per path, the keys that lead to the leaf: ["key", name] or ["list", index]."""

    def key(entry) -> list:
        if isinstance(entry, jax.tree_util.DictKey):
            return ["key", entry.key]
        if isinstance(entry, jax.tree_util.GetAttrKey):
            return ["key", entry.name]
        return ["list", entry.idx if isinstance(entry, jax.tree_util.SequenceKey) else entry.key]

    return {_path(keys): [key(entry) for entry in keys] for keys, _ in jax.tree.leaves_with_path(state)}


def _path(keys) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def fit(leaves: Leaves, like: PyTree) -> PyTree:
    """Returns the leaves in the structure of `like`. Raises CheckpointError naming leaves that do not fit."""
    wanted = {_path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(like)}
    faults = [f"{path} is missing from the checkpoint" for path in wanted if path not in leaves]
    faults += [f"{path} is in the checkpoint only" for path in leaves if path not in wanted]
    for path in wanted.keys() & leaves.keys():
        have = f"{leaves[path].dtype.name}{list(leaves[path].shape)}"
        want = f"{jax.numpy.dtype(wanted[path].dtype).name}{list(wanted[path].shape)}"
        if have != want:
            faults.append(f"{path} is {have} in the checkpoint, {want} was asked for")
    if faults:
        raise CheckpointError(
            f"the checkpoint is of another model, optimiser or population: {few(sorted(faults), '; ')}"
        )
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in wanted])


def nest(leaves: Leaves, keys_of: dict[str, list]) -> PyTree:
    """Returns the leaves as nested dicts and lists; None in a list is an empty container left out."""
    root: dict = {}
    for path, keys in keys_of.items():
        node = root
        *parents, last = [("key", "root"), *map(tuple, keys)]
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaves[path]
    return _plain(root).get("root", {})


def _plain(node):
    if not isinstance(node, dict):
        return node
    if node and all(kind == "list" for kind, _ in node):
        return [_plain(node[key]) if (key := ("list", i)) in node else None for i in range(max(node)[1] + 1)]
    return {key: _plain(child) for (_, key), child in node.items()}


def few(texts: list[str], separator: str = ", ") -> str:
    more = len(texts) - _MOST_NAMED
    return separator.join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
