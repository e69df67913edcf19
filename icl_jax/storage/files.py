"""Files that are there whole or not at all, on disks and in buckets."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from icl_jax.storage.paths import as_path, filesystem, in_bucket


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary local path; what was written there takes the place of `path` on leaving.

    Readers see the old file or the new one. After an error the old one stays and nothing else is left.
    OSError names the file that could not be written.
    """
    path = as_path(path)
    with _uploaded(path) if in_bucket(path) else _renamed(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _renamed(path: pathlib.Path) -> Iterator[pathlib.Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write {path}: {reason}; free some space or choose another directory") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _uploaded(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A bucket shows an object when its upload is complete, so that this is atomic in itself."""
    with tempfile.TemporaryDirectory() as scratch:
        temporary = pathlib.Path(scratch) / path.name
        yield temporary
        with _named(path):
            filesystem(path).put_file(str(temporary), str(path))


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Clients of buckets raise errors of many kinds, few of which name the object."""
    try:
        yield
    except FileExistsError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise OSError(f"cannot write {path}: {reason}; see that the bucket exists and that you may write") from error


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_new(path: str | pathlib.Path, text: str) -> bool:
    """Writes a text file whole where there is none yet. Returns False, and leaves it, where there is one.

    Of several writers one succeeds; in a bucket this hangs on the service, which is asked to refuse a second one
    (GCS and S3 do; what does not might replace the file of a writer that came a moment before).
    """
    path = as_path(path)
    try:
        if in_bucket(path):
            return _upload_new(path, text)
        return _link_new(path, text)
    except FileExistsError:
        return False


def _upload_new(path: pathlib.Path, text: str) -> bool:
    if path.exists():
        return False
    with _named(path):
        filesystem(path).pipe_file(str(path), text.encode(), mode="create")
    return True


def _link_new(path: pathlib.Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        write_text(temporary, text)
        os.link(temporary, path)  # atomic, also on NFS: fails when the name is taken
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def local(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a local file to read: the file itself, or a copy of what the bucket has (never of two versions a part
    each). FileNotFoundError where there is none."""
    path = as_path(path)
    if not in_bucket(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / path.name
        copy.write_bytes(filesystem(path).cat_file(str(path)))
        yield copy


def read_text(path: str | pathlib.Path) -> str:
    """Returns the content of a text file."""
    with local(path) as file:
        return file.read_text()


def stamp(path: pathlib.Path) -> tuple | None:
    """Returns what tells a file from the one that takes its place, None where there is none."""
    try:
        if in_bucket(path):
            return tuple(sorted((name, str(value)) for name, value in filesystem(path).info(str(path)).items()))
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    except FileNotFoundError:
        return None


def remove_tree(directory: pathlib.Path) -> None:
    """Removes a directory with all that is in it, if it is there."""
    if in_bucket(directory):
        as_path(directory).rmtree(missing_ok=True)  # pyright: ignore[reportAttributeAccessIssue] (of a bucket's path)
    else:
        shutil.rmtree(directory, ignore_errors=True)
