"""Names of files and directories, on disks and in buckets (gs://bucket/name)."""

import importlib.util
import os
import pathlib
import re

DRIVERS = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # scheme -> (package, extra of icl_jax that installs it)
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def as_path(name: str | os.PathLike) -> pathlib.Path:
    """Returns a name as a path: a pathlib.Path, for a URI an epath.Path, which has the same methods.

    Never wrap one in pathlib.Path, which makes "gs:/bucket" of "gs://bucket". ValueError for a scheme other than
    those of DRIVERS, and for one whose package is not installed.
    """
    text, scheme = os.fspath(name), _scheme(name)
    if not scheme:
        return pathlib.Path(name)
    package, extra = DRIVERS[scheme]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{text}: {scheme}:// needs {package}; pip install 'icl_jax[{extra}]'")
    return _bucket_path(text, scheme)


def as_run_path(name: str | os.PathLike) -> pathlib.Path:
    """Returns the directory of a run or a sweep as a path. ValueError also where Orbax keeps no checkpoints."""
    if _scheme(name) not in ("", "gs"):
        raise ValueError(f"{os.fspath(name)}: checkpoints are kept in directories and gs:// buckets only; choose one")
    return as_path(name)


def _scheme(name: str | os.PathLike) -> str:
    """The scheme of a URI, "" of a local name."""
    text = os.fspath(name)
    found = _URI.match(text)
    scheme = found[1] if found else ""
    if scheme and scheme not in DRIVERS:
        known = ", ".join(f"{known}://" for known in DRIVERS)
        raise ValueError(f"{text}: {scheme}:// is not known; use a directory, or {known}")
    if not scheme and text.startswith(tuple(f"{known}:/" for known in DRIVERS)):
        raise ValueError(f"{text}: a slash is missing; name a bucket by a string, which pathlib.Path does not preserve")
    return scheme


def _bucket_path(text: str, scheme: str) -> pathlib.Path:
    """The path, through fsspec: not through TensorFlow where that happens to be installed, and with no memory of
    listings, which would hide what other workers write."""
    os.environ.setdefault("EPATH_USE_TF", "false")
    import fsspec.config
    from etils import epath

    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    return epath.Path(text)  # pyright: ignore[reportReturnType] (it has pathlib's methods)


def in_bucket(path: pathlib.Path) -> bool:
    """Returns whether a path of `as_path` is a URI."""
    return not isinstance(path, pathlib.Path)


def absolute(path: pathlib.Path) -> pathlib.Path:
    """Returns the path from the root on; a URI is so already."""
    return path if in_bucket(path) else path.absolute()


def filesystem(path: pathlib.Path):
    """Returns the fsspec filesystem of a path in a bucket."""
    import fsspec.config

    return fsspec.filesystem(str(path).partition("://")[0])


def children(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns what a directory holds; nothing where there is none, which in a bucket is the same as an empty one."""
    try:
        return [path for path in directory.iterdir() if path != directory]  # a bucket's folder may list itself
    except (FileNotFoundError, NotADirectoryError):
        return []
