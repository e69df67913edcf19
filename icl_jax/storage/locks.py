"""One writer: a directory is held by a lock that dies with its process."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout

from icl_jax.storage.files import read_text, write_text
from icl_jax.storage.paths import in_bucket

LOCK, HOLDER = ".writer.lock", ".writer.json"
_PATIENCE_S = 0.5


class Held(ValueError):
    """Another process writes there."""


@contextlib.contextmanager
def claim(path: pathlib.Path, patience: float = 0) -> Iterator[bool]:
    """Gives whether this process now has the lock file `path` to itself, until it leaves or dies.

    patience: seconds to try, as a process that only looks (`is_claimed`) has it for a moment too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_claimed(path: pathlib.Path, patience: float = 0) -> bool:
    """Returns whether a living process has the lock file `path`. patience: see `claim`."""
    if not path.exists():
        return False
    with claim(path, patience) as mine:
        return not mine


@contextlib.contextmanager
def sole_writer(directory: pathlib.Path) -> Iterator[None]:
    """Makes this process the only one that writes into a run's directory, until it leaves or dies.

    Held says who else does, and what to do. Readers need no lock. In a bucket there are none: the last whole write
    of a file counts.
    """
    if in_bucket(directory):
        yield
        return
    with claim(directory / LOCK, _PATIENCE_S) as mine:
        if not mine:
            raise _held(directory)
        write_text(directory / HOLDER, json.dumps(worker()))
        try:
            yield
        finally:
            (directory / HOLDER).unlink(missing_ok=True)


def check_free(directory: pathlib.Path) -> None:
    """Raises Held when another process writes into a run's directory now."""
    if not in_bucket(directory) and is_claimed(directory / LOCK, _PATIENCE_S):
        raise _held(directory)


def _held(directory: pathlib.Path) -> Held:
    try:
        note = json.loads(read_text(directory / HOLDER))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["since"]))
        holder = f"process {note['pid']} on {note['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        holder = "another process"
    return Held(
        f"{directory} is being written by {holder}: wait until that is done, stop it there (Ctrl-C saves first), or "
        "choose another directory"
    )


def worker() -> dict:
    """Returns who this process is: host, pid and the time, in seconds since 1970."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
