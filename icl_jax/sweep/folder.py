"""The directory of a sweep.

sweep.json           what the config file asked for when it was last run: config, cells and labels, claims
plan/0000.json ...   the plan, in parts; a part never changes
populations/ID/      a run each, as of `icl train`
done/ID.parquet      results of a finished population, written last: the ledger
failed/ID.json       why a population did not finish, at which step
locks/ID.lock        who works on a population: an exclusive lock that dies with its process (in a bucket: none)
stages/NAME/         an earlier stage, as a sweep of its own
features/            in a stage: what its encoders make of their bank, for what comes after it
"""

import contextlib
import dataclasses
import pathlib
import platform
from collections.abc import Iterator

from icl_jax.storage import locks
from icl_jax.storage.files import write_new
from icl_jax.storage.paths import children, in_bucket
from icl_jax.storage.sealed import DamagedFile, read_record, record_text, write_record
from icl_jax.sweep.plan import Planned, planned_from_json

_SWEEP = ("name", "title", "doc", "source", "changes", "config", "cells", "claims")  # fields of sweep.json
_PLAN_ANEW = "move it away, and `icl sweep run` plans anew: populations that are the same are not trained again"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Paths and records of a sweep's directory. Making one writes nothing.

    of: the sweep's directory, where it is known that this one is of a stage of it.
    """

    directory: pathlib.Path
    of: pathlib.Path | None = dataclasses.field(default=None, compare=False)

    @property
    def name(self) -> str:
        return self.directory.name

    def run_directory(self, id_: str) -> pathlib.Path:
        return self.directory / "populations" / id_

    def stage(self, name: str) -> "Folder":
        """Returns the directory of an earlier stage of the sweep that this one is, or is a stage of."""
        return Folder(self.whole / "stages" / name, self.whole)

    @property
    def whole(self) -> pathlib.Path:
        """The directory of the sweep that it is a stage of, or its own."""
        above = self.directory.parent.parent
        is_sweep = any((above / name).exists() for name in ("sweep.json", "plan"))
        return self.of or (above if is_sweep and self.directory.parent.name == "stages" else self.directory)

    @property
    def is_stage(self) -> bool:
        """Whether it is the directory of a stage."""
        return self.whole != self.directory

    def stages(self) -> "list[Folder]":
        """Returns the directories of its stages, in the order in which they were planned."""
        if self.is_stage or not (self.directory / "stages").is_dir():
            return []
        names = self.read().get("stages", [])
        return [stage for name in names if (stage := self.stage(name)).directory.is_dir()]

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
        write_record(self.directory / "sweep.json", fields)

    def _name(self) -> str | None:
        """Whose directory it is, None when nobody's or when the record is damaged (it is then written anew)."""
        try:
            return self.read()["name"] if (self.directory / "sweep.json").exists() else None
        except DamagedFile:
            return None

    def is_ours(self) -> bool:
        """Returns whether a sweep may be written here: it is one, or nothing is here."""
        known = any((self.directory / name).exists() for name in ("sweep.json", "plan", "stages", "features"))
        return known or not children(self.directory)

    def read(self) -> dict:
        """Returns sweep.json. ValueError when there is none, or another version wrote it."""
        path = self.directory / "sweep.json"
        if not path.is_file():
            raise ValueError(f"{self.directory} holds no sweep: it has no sweep.json")
        way_out = "run `icl sweep run` with its config again: that writes the file anew"
        return read_record(path, way_out, _SWEEP)

    # --- the plan ---

    def plan(self, split: bool = True) -> list[Planned]:
        """Returns the populations of the plan, in order; those that were split are replaced by their parts
        (split False: they are there too)."""
        populations: dict[str, Planned] = {}
        replaced: set[str] = set()
        for path in self._plan_files():
            part = read_record(path, _PLAN_ANEW)
            try:
                mine, others = [planned_from_json(fields) for fields in part["populations"]], part["replaces"]
            except (KeyError, TypeError, AttributeError) as error:  # without a digest, as earlier versions wrote it
                raise DamagedFile(f"{path} is damaged ({error}); {_PLAN_ANEW}") from None
            replaced.update(others)
            for planned in mine:
                populations.setdefault(planned.id, planned)  # in a bucket two may split the same one
        return [planned for planned in populations.values() if not split or planned.id not in replaced]

    def plan_parts(self) -> int:
        """Returns the number of the plan's next part: read it before the plan that an addition is worked out from."""
        return max((int(path.stem) for path in self._plan_files()), default=-1) + 1

    def add_to_plan(self, populations: list[Planned], after: int, replaces: tuple[str, ...] = ()) -> bool:
        """Writes part number `after` of the plan. Returns False, having written nothing, when
        another worker was first: the plan has changed and the addition must be worked out anew."""
        part = {"replaces": replaces, "populations": [p.to_json() for p in populations]}
        return write_new(self.directory / "plan" / f"{after:04d}.json", record_text(part))

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
        with locks.claim(self._lock_file(id_)) as claimed:
            yield claimed

    def claimed(self, id_: str) -> bool:
        """Returns whether a living process works on the population; in a bucket False, as nobody knows."""
        return self.has_locks and locks.is_claimed(self._lock_file(id_))

    def _lock_file(self, id_: str) -> pathlib.Path:
        return self.directory / "locks" / f"{id_}.lock"

    def note_attempt(self, id_: str, **facts) -> None:
        """Leaves a note of who tries the population; it stays when that process is killed."""
        write_record(self._attempt_file(id_), {**facts, **locks.worker()})

    def attempt(self, id_: str) -> dict | None:
        """Returns the note (host, pid, since, facts) of an attempt that is running or was killed, else None."""
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile, or damaged
            return read_record(self._attempt_file(id_), "it is a note")
        return None

    def forget_attempt(self, id_: str) -> None:
        self._attempt_file(id_).unlink(missing_ok=True)

    def _attempt_file(self, id_: str) -> pathlib.Path:
        return self.directory / "locks" / f"{id_}.attempt.json"

    # --- what went wrong ---

    def record_failure(self, id_: str, **facts) -> None:
        by = {**locks.worker(), "python": platform.python_version()}
        write_record(self.directory / "failed" / f"{id_}.json", {**facts, **by})

    def failure(self, id_: str) -> dict | None:
        """Returns why the population did not finish when it was last tried, None when it did not fail."""
        path = self.directory / "failed" / f"{id_}.json"
        try:
            return read_record(path, "delete it", ("error",)) if path.is_file() else None
        except DamagedFile as fault:  # it did fail, and nothing hangs on why
            return {"error": str(fault)}

    def forget_failure(self, id_: str) -> None:
        (self.directory / "failed" / f"{id_}.json").unlink(missing_ok=True)
