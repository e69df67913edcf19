"""Banks of vectors and symbols: gaussian clusters (Reddy 2023), a user's embeddings, integers."""

import dataclasses
import functools
import math
import pathlib
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int, Num, UInt32

from icl_jax.data.cache import save_atomic
from icl_jax.rng import STREAMS
from icl_jax.spec import BankSpec
from icl_jax.storage.files import local
from icl_jax.storage.paths import as_path

EMBEDDING_KEYS = ("embeddings", "class_order", "num_holdout", "origin", "groups")


def sequence_normals(keys: UInt32[Array, "B 2"], shape: tuple[int, ...]) -> Float32[Array, "B ..."]:
    """Returns standard normals (B, *shape) from key data (B, 2), one draw per sequence."""
    draw = lambda data: jax.random.normal(jax.random.wrap_key_data(data, impl="threefry2x32"), shape)
    return jax.vmap(draw)(keys)


def first_occurrence(*ids: Int[Array, "B n"]) -> Int[Array, "B n"]:
    """Returns where in its row each entry of ids (B, n), or each tuple of entries, first stands, int32 (B, n)."""
    equal = [x[:, :, None] == x[:, None, :] for x in ids]
    return jnp.argmax(functools.reduce(jnp.logical_and, equal), axis=2)


def gaussian_means(num_classes: int, dim: int, seed: int) -> Float32[np.ndarray, "{num_classes} {dim}"]:
    """Returns class means (num_classes, dim), components N(0, 1 / dim); a larger bank begins alike."""
    rng = np.random.default_rng((STREAMS["bank"], seed))
    return (rng.standard_normal((num_classes, dim)) / math.sqrt(dim)).astype(np.float32)


def render_gaussian(
    spec: BankSpec,
    arrays: dict[str, jax.Array],
    classes: Int[Array, "B n"],
    exemplars: Int[Array, "B n"],
    keys: UInt32[Array, "B 2"],
    noise_scale: Num[ArrayLike, ""],
    *,
    fresh: bool,
    **unused,
) -> Float32[Array, "B n D"]:
    """Returns (mu + eps eta) / sqrt(1 + eps^2), float32 (B, n, D), eps = noise_scale (Reddy 2023, section 2).

    mu is the mean of the class; with `fresh`, a class below 0 has a mean of its own, drawn from the
    sequence's key and shared by all its occurrences there. eta, components N(0, 1 / D), is drawn anew for
    each exemplar of a class in a sequence, and shared by the occurrences of that exemplar there.
    """
    means = arrays["means"]
    shape = (classes.shape[1], means.shape[1])
    normals = sequence_normals(keys, (1 + int(fresh), *shape)) / math.sqrt(means.shape[1])
    mu = means.at[jnp.maximum(classes, 0)].get(mode="clip")
    if fresh:
        mu = jnp.where(classes[:, :, None] < 0, _rows_at(normals[:, 1], first_occurrence(classes)), mu)
    eta = _rows_at(normals[:, 0], first_occurrence(classes, exemplars))
    return (mu + noise_scale * eta) / jnp.sqrt(1 + noise_scale**2)


def _rows_at(rows: jax.Array, index: jax.Array) -> jax.Array:
    """Returns rows[b, index[b, i]] of (B, n, D), for index (B, n)."""
    return jax.vmap(lambda rows, index: rows[index])(rows, index)


def render_embeddings(
    spec: BankSpec,
    arrays: dict[str, jax.Array],
    classes: Int[Array, "B n"],
    exemplars: Int[Array, "B n"],
    keys: UInt32[Array, "B 2"],
    noise_scale: Num[ArrayLike, ""],
    *,
    noise: bool,
    **unused,
) -> Float32[Array, "B n D"]:
    """Returns float32 (B, n, D): embeddings, plus N(0, noise_scale^2) with `noise`."""
    items = arrays["embeddings"].at[classes, exemplars].get(mode="clip").astype(jnp.float32)
    return items + noise_scale * sequence_normals(keys, items.shape[1:]) if noise else items


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """A file of embeddings (classes, exemplars, dim); what it does not record is None or ""."""

    embeddings: np.ndarray
    class_order: np.ndarray | None
    num_holdout: int | None
    origin: str
    groups: np.ndarray | None


def load_embeddings(spec: BankSpec, file: pathlib.Path | None = None) -> Embeddings:
    """Returns the embeddings of a .npy, .npz or .h5 file (default: bank.path), float32 (float16 stays).

    Raises:
      ValueError: no such file, unknown format, wrong rank, NaN or infinite values, or a class order,
        holdout or groups that do not fit the classes.
    """
    path = file or as_path(spec.path).expanduser()
    if not spec.path or not path.is_file():
        raise ValueError(f"bank 'embeddings': no file {spec.path!r}; set bank.path to a .npy, .npz or .h5")
    fields = _read_fields(path)
    embeddings = np.asarray(fields["embeddings"])
    if embeddings.dtype.kind not in "fiub":
        raise ValueError(f"{path}: values of type {embeddings.dtype} are not real numbers; convert them")
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise ValueError(f"{path}: shape {embeddings.shape} is not (classes, exemplars, dim); reshape it")
    embeddings = embeddings.astype(np.float16 if embeddings.dtype == np.float16 else np.float32)
    if bad := int((~np.isfinite(embeddings)).sum()):
        raise ValueError(f"{path}: {bad} of {embeddings.size} values are NaN or infinite; remove them")
    held = _whole(path, fields, "num_holdout")
    if held is not None and held.ndim:
        raise ValueError(f"{path}: num_holdout has shape {held.shape}; it is one number")
    loaded = Embeddings(
        embeddings,
        _whole(path, fields, "class_order"),
        None if held is None else int(held),
        _text(fields.get("origin", "")),
        _whole(path, fields, "groups"),
    )
    _check_recorded(path, loaded)
    return loaded


def _text(value) -> str:
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_fields(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the known fields of a file; a file with one array only may call it anything."""
    if path.suffix not in READERS:
        raise ValueError(f"{path}: unknown format {path.suffix!r}; use .npy, .npz or .h5")
    try:
        with local(path) as file:
            fields = READERS[path.suffix](file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not read as {path.suffix} ({error}); write it again") from error
    if "embeddings" not in fields:
        others = [name for name in fields if name not in EMBEDDING_KEYS]
        if len(others) != 1:
            raise ValueError(f"{path}: holds {sorted(fields)}; name the array of items 'embeddings'")
        fields["embeddings"] = fields.pop(others[0])
    return fields


def _read_npy(path: pathlib.Path) -> dict[str, np.ndarray]:
    return {"embeddings": np.load(path, allow_pickle=False)}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path):  # np.load calls any other file a pickle
        pass
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        return {name: data[()] for name, data in file.items() if isinstance(data, h5py.Dataset)}


READERS = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_h5, ".hdf5": _read_h5}


def _whole(path: pathlib.Path, fields: dict, name: str) -> np.ndarray | None:
    """An array of whole numbers among the fields; None where it is absent."""
    if fields.get(name) is None:
        return None
    values = np.asarray(fields[name])
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.round(values)):
        raise ValueError(f"{path}: {name} of type {values.dtype} are no whole numbers; store integers")
    return values.astype(np.int32)


def _check_recorded(path: pathlib.Path, loaded: Embeddings) -> None:
    count = loaded.embeddings.shape[0]
    if loaded.class_order is not None and not np.array_equal(np.sort(loaded.class_order), np.arange(count)):
        raise ValueError(f"{path}: class_order is not a permutation of the {count} classes 0 to {count - 1}")
    if loaded.num_holdout is not None and not 0 <= loaded.num_holdout < count:
        raise ValueError(f"{path}: num_holdout {loaded.num_holdout} is not in [0, {count})")
    if loaded.groups is not None and (loaded.groups.shape != (count,) or loaded.groups.min() < 0):
        raise ValueError(f"{path}: groups {loaded.groups.shape} are not one number >= 0 per class ({count},)")
    if loaded.groups is not None and loaded.groups.max() >= count:
        raise ValueError(
            f"{path}: group {loaded.groups.max()} of {count} classes; number groups from 0 on, without gaps"
        )


def save_embeddings(
    path: str | pathlib.Path,
    embeddings: Float[np.ndarray, "C E D"],
    class_order: Int[np.ndarray, "C"],
    num_holdout: int,
    origin: str,
    groups: Int[np.ndarray, "C"],
) -> None:
    """Writes embeddings (classes, exemplars, dim) and what they come from as an .npz file, atomically.

    class_order: position -> class of the run that made them; num_holdout: its last classes, held out.

    Raises:
      ValueError: `path` does not end in .npz.
    """
    if as_path(path).suffix != ".npz":
        raise ValueError(f"embeddings are written as .npz, not as {str(path)!r}; change the file's name")
    fields = {
        "embeddings": np.asarray(embeddings),
        "class_order": np.asarray(class_order, np.int32),
        "num_holdout": np.int32(num_holdout),
        "origin": np.str_(origin),
        "groups": np.asarray(groups, np.int32),
    }
    save_atomic(path, fields)
