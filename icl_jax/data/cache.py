"""Decoded banks on the user's disk, so that a second start takes no decoding."""

import contextlib
import hashlib
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

from icl_jax.devices import cache_dir
from icl_jax.storage.files import replacing


def cached(kind: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns `make()`, from the user's cache directory when an earlier call with this key left it there.

    key: names everything the content depends on. A file that does not read back whole (the zip format
    checks its sums) is made again; a cache directory that cannot be written is done without.
    """
    path = cache_dir() / "banks" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        arrays = make()
    with contextlib.suppress(OSError):  # it saves time only: a full or read-only disk must not stop a run
        save_atomic(path, arrays)
    return arrays


def save_atomic(path: str | pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz file that appears whole or not at all."""
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)  # pyright: ignore[reportArgumentType] (none is called allow_pickle)


def file_digest(paths: list[pathlib.Path]) -> str:
    """Returns the sha256 of the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def array_digest(*arrays: np.ndarray) -> str:
    """Returns a short sha256 of arrays: shapes, types and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
