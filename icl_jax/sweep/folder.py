"""The directory of a sweep.

sweep.json           what the config file asked for when it was last run: config, cells and labels, claims
plan/0000.json ...   the plan, in parts; a part never changes
populations/ID/      a run each, as of `icl train`
done/ID.parquet      results of a finished population, written last: the ledger
failed/ID.json       why a population did not finish, at which step
locks/ID.lock        who works on a population: an exclusive lock that dies with its process (in a bucket: none)
features/            learned features made for the sweep
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import socket
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout

from icl_jax.files import read_text, write_new, write_text
from icl_jax.paths import children, in_bucket
from icl_jax.sweep.plan import Planned, planned_from_json

SCHEMA = 1


class DamagedFile(ValueError):
    """A file of the sweep cannot be read."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """Paths and records of a sweep's directory. Making one writes nothing."""

    directory: pathlib.Path

    @property
    def name(self) -> str:
        return self.directory.name

    def run_directory(self, id_: str) -> pathlib.Path:
        return self.directory / "populations" / id_

    def done_file(self, id_: str) -> pathlib.Path:
        return self.directory / "done" / f"{id_}.parquet"

    # --- what is asked for ---

    def describe(self, fields: dict) -> None:
        """Writes sweep.json. ValueError when the directory is another sweep's."""
        found = self._name()
        if found not in (None, fields["name"]):
            raise ValueError(
                f"{self.directory} holds the sweep {found!r}, not {fields['name']!r}; choose another --out"
            )
        if not self.is_ours():
            raise ValueError(f"{self.directory} is not empty and holds no sweep; choose another directory with --out")
        write_text(self.directory / "sweep.json", json.dumps({"schema": SCHEMA, **fields}, indent=1))

    def _name(self) -> str | None:
        """Whose directory it is, None when nobody's or when the record is damaged (it is then written anew)."""
        try:
            return self.read()["name"] if (self.directory / "sweep.json").exists() else None
        except DamagedFile:
            return None

    def is_ours(self) -> bool:
        """Returns whether a sweep may be written here: it is one, or nothing is here."""
        known = any((self.directory / name).exists() for name in ("sweep.json", "plan", "features"))
        return known or not children(self.directory)

    def read(self) -> dict:
        """Returns sweep.json. ValueError when there is none, or another version wrote it."""
        path = self.directory / "sweep.json"
        if not path.is_file():
            raise ValueError(f"{self.directory} holds no sweep: it has no sweep.json")
        return _checked(path, "run `icl sweep run` with its config again: that writes the file anew")

    # --- the plan ---

    def plan(self, split: bool = True) -> list[Planned]:
        """Returns the populations of the plan, in order; those that were split are replaced by their parts
        (split False: they are there too)."""
        parts = [_checked(path, "move it away to plan anew") for path in self._plan_files()]
        replaced = {id_ for part in parts for id_ in part["replaces"]}
        populations: dict[str, Planned] = {}
        for fields in (fields for part in parts for fields in part["populations"]):
            populations.setdefault(fields["id"], planned_from_json(fields))  # in a bucket two may split the same one
        return [planned for planned in populations.values() if not split or planned.id not in replaced]

    def plan_parts(self) -> int:
        """Returns the number of the plan's next part: read it before the plan that an addition is worked out from."""
        return max((int(path.stem) for path in self._plan_files()), default=-1) + 1

    def add_to_plan(self, populations: list[Planned], after: int, replaces: tuple[str, ...] = ()) -> bool:
        """Writes part number `after` of the plan. Returns False, having written nothing, when
        another worker was first: the plan has changed and the addition must be worked out anew."""
        part = {"schema": SCHEMA, "replaces": replaces, "populations": [p.to_json() for p in populations]}
        return write_new(self.directory / "plan" / f"{after:04d}.json", json.dumps(part, indent=1))

    def _plan_files(self) -> list[pathlib.Path]:
        return sorted((self.directory / "plan").glob("[0-9]*.json"))

    # --- who does what ---

    @property
    def has_locks(self) -> bool:
        """Whether a population can be had to oneself here: not in a bucket."""
        return not in_bucket(self.directory)

    @contextlib.contextmanager
    def claim(self, id_: str) -> Iterator[bool]:
        """Gives whether this process may work on the population: it now has it to itself, until it leaves (or dies).

        In a bucket every process may, and several waste their time only.
        """
        if not self.has_locks:
            yield True
            return
        path = self.directory / "locks" / f"{id_}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def claimed(self, id_: str) -> bool:
        """Returns whether a living process works on the population; in a bucket False, as nobody knows."""
        if not self.has_locks:
            return False
        path = self.directory / "locks" / f"{id_}.lock"
        if not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def note_attempt(self, id_: str, **facts) -> None:
        """Leaves a note of who tries the population; it stays when that process is killed."""
        write_text(self._attempt_file(id_), json.dumps({**facts, **_worker()}))

    def attempt(self, id_: str) -> dict | None:
        """Returns the note (host, pid, since, facts) of an attempt that is running or was killed, else None."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            return json.loads(read_text(self._attempt_file(id_)))
        return None

    def forget_attempt(self, id_: str) -> None:
        self._attempt_file(id_).unlink(missing_ok=True)

    def _attempt_file(self, id_: str) -> pathlib.Path:
        return self.directory / "locks" / f"{id_}.attempt.json"

    # --- what went wrong ---

    def record_failure(self, id_: str, **facts) -> None:
        write_text(self.directory / "failed" / f"{id_}.json", json.dumps({**facts, **_worker()}, indent=1))

    def failure(self, id_: str) -> dict | None:
        """Returns why the population did not finish when it was last tried, None when it did not fail."""
        path = self.directory / "failed" / f"{id_}.json"
        return _checked(path, "delete it") if path.is_file() else None

    def forget_failure(self, id_: str) -> None:
        (self.directory / "failed" / f"{id_}.json").unlink(missing_ok=True)


def _worker() -> dict:
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "python": platform.python_version()}


def _checked(path: pathlib.Path, way_out: str) -> dict:
    """Returns a JSON file of this version. ValueError says what is wrong with it and what to do."""
    try:
        fields = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DamagedFile(f"{path} is damaged ({error}); {way_out}") from None
    if fields.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(
            f"{path} was written by another version of icl_jax (schema {fields['schema']}, this one reads {SCHEMA}); "
            "use that version, or another directory with --out"
        )
    return fields
