"""The tidy table of a run: one row per measured number, in parquet part files.

Columns: member int32; hyper/<name> float64 (layers and heads of patches: string); seed/<name> int64; step int64; suite
string; coordinates (layer, head, ...: int64 or string, null where a metric has none); metric string; value float64.
Parquet cannot be appended to, so each flush writes a part of its own, whole or not at all. A part is sealed
(`icl_jax.storage.sealed`) and says which steps it covers, so that damage and a missing part are noticed when the
table is read. The rows of such a stretch can be made again, as a run is a function of its spec, hypers and seeds.

What a member has more than `storage.arrays.MOST` numbers of is in array files beside the parts, its reductions in the
table.

On a disk a resumed run drops the rows that it will write again. In a bucket, where no lock keeps a second
worker away, nothing is dropped, as it might be the other's: of rows that measure the same thing the reader
takes those written last.
"""

import concurrent.futures
import contextlib
import dataclasses
import glob
import itertools
import math
import pathlib
import re
import time
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.storage.arrays import ArrayFiles, Labelled
from icl_jax.storage.paths import as_path, children, filesystem, in_bucket
from icl_jax.storage.sealed import DamagedFile, is_sealed, read_record, read_table, write_table

Rows = Sequence[Mapping] | Mapping[str, np.ndarray]
_TYPES = {
    "member": pa.int32(),
    "step": pa.int64(),
    "suite": pa.string(),
    "metric": pa.string(),
    "value": pa.float64(),
}
_PART = re.compile(r"part-(\d+)-(\d+)\.parquet")
_UNKNOWN = 2**60  # steps from a part's first logged step back to the one before it, where the part does not tell
_LOOKS = 5  # at a directory in which parts come and go while they are read
Stretch = tuple[int, int]  # the steps after the first, up to the second


def to_table(rows: Rows) -> pa.Table:
    """Returns rows (list of dicts, or a dict of equally long columns) as a tidy table in canonical order."""
    if isinstance(rows, Mapping):
        columns = {name: np.asarray(values).tolist() for name, values in rows.items()}
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
    return _canonical(pa.table({name: _column(name, values) for name, values in columns.items()}))


def _column(name: str, values: list) -> pa.Array:
    kind = _TYPES.get(name) or {"hyper": pa.float64(), "seed": pa.int64()}.get(name.partition("/")[0])
    if name.startswith("hyper/") and any(isinstance(value, str) for value in values):  # layers of a patch
        kind = pa.string()
    if kind is None:  # a coordinate
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        whole = all(value is None or isinstance(value, int) for value in values)
        kind = pa.int64() if whole else pa.string()
        values = values if whole else [None if value is None else str(value) for value in values]
    return pa.array(values, type=kind)


def _canonical(table: pa.Table) -> pa.Table:
    """Returns the table with columns and rows in the one order that does not depend on how it was written."""
    names = table.column_names
    hypers = sorted(n for n in names if n.startswith("hyper/"))
    seeds = sorted(n for n in names if n.startswith("seed/"))
    coordinates = sorted(set(names) - set(hypers) - set(seeds) - set(_TYPES))
    order = ["member", *hypers, *seeds, "step", "suite", *coordinates, "metric", "value"]
    table = table.select([name for name in order if name in names])
    keys = [name for name in ("member", "step", "suite", "metric", *coordinates) if name in names]
    return table.sort_by([(key, "ascending") for key in keys]) if keys else table


def concat_tables(tables: list[pa.Table]) -> pa.Table:
    """Returns all rows of tables; a coordinate that is a number in one and a name in another becomes a name."""
    kinds: dict[str, set] = {}
    for field in (field for table in tables for field in table.schema):
        kinds.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, types in kinds.items() if len(types) > 1}

    def agree(table: pa.Table) -> pa.Table:
        fields = [field.with_type(pa.string()) if field.name in mixed else field for field in table.schema]
        return table.cast(pa.schema(fields))

    return pa.concat_tables([agree(table) for table in tables], promote_options="default")


class DamagedMetrics(DamagedFile):
    """Parts of a run's metrics are damaged or missing."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is wrong with a run's metrics: files that are not what was written, and stretches without rows."""

    faults: tuple[str, ...] = ()
    gaps: tuple[Stretch, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.faults or self.gaps)

    def __str__(self) -> str:
        gaps = [f"the rows of steps {after + 1:,} to {last:,} are missing" for after, last in self.gaps]
        return "; ".join([*self.faults, *gaps])


@dataclasses.dataclass(frozen=True)
class _Part:
    """A file of rows. covers: the stretch of which it has all rows; None: it adds rows to others' stretches. suites:
    digests of what the suites in it mean, where it says so."""

    path: pathlib.Path
    table: pa.Table
    covers: Stretch | None
    written: int
    suites: dict[str, str]
    sealed: bool

    def facts(self, end: float = math.inf) -> dict:
        """What its seal says when it is written anew with its rows up to `end`."""
        return {} if self.covers is None else {"after": self.covers[0], "last": min(self.covers[1], end)}


class MetricsWriter:
    """Writes the tidy table of a run into a directory; of several processes only the first writes.

    After `begin_after` its parts cover, one after another, all steps; before, they add rows to what is there.
    """

    def __init__(self, directory: str | pathlib.Path, suites: Mapping[str, str] | None = None):
        """suites: digests of what suites mean, by name, for the seals of parts that have rows of them."""
        self.directory = as_path(directory)
        self._suites = dict(suites or {})
        self._waiting: list[pa.Table] = []
        self._covered: int | None = None

    def append(self, rows: Rows) -> None:
        """Keeps rows (list of dicts, or dict of columns) until the next flush."""
        if len(rows):
            self.append_table(to_table(rows))

    def append_table(self, table: pa.Table) -> None:
        """Keeps a tidy table until the next flush."""
        self._waiting.append(table)

    def write_array(self, name: str, metric: str, step: int, found: Labelled) -> None:
        """Writes what an eval gave that is too large for the table, at once."""
        if jax.process_index() == 0:
            array_files(self.directory).write(name, metric, step, found)

    def begin_after(self, step: int) -> None:
        """Says that all rows later than `step` are to come, in order, up to those of the last flush."""
        self._covered = step

    def flush(self, step: int) -> None:
        """Writes the rows kept, none later than `step`, as one part; nothing if there are none."""
        waiting, self._waiting = self._waiting, []
        if not waiting or jax.process_index() != 0:
            return
        table = concat_tables(waiting)
        first, last = (f(table["step"]).as_py() for f in (pc.min, pc.max))
        if last > step:
            raise ValueError(f"metrics of step {last} are to be flushed at step {step}; flush at {last} or later")
        path = self.directory / _part_name(first, step)
        facts = {} if self._covered is None else {"after": self._covered, "last": step}
        suites = self._suites
        if path.exists():  # the same steps flushed twice, or trained again
            there = _read(path)
            table, facts = last_rows(concat_tables([there.table, table])), there.facts() or facts
            suites = there.suites | suites
        _write(_canonical(table), path, facts, suites)
        if self._covered is not None:
            self._covered = step

    def truncate_after(self, step: int) -> None:
        """Drops all rows later than `step`, so that a run resumed there writes them anew, once.

        Damaged parts are set aside under another name.
        """
        self.begin_after(step)
        self._waiting = [table.filter(pc.field("step") <= step) for table in self._waiting]
        self._waiting = [table for table in self._waiting if table.num_rows]
        if not self.directory.exists() or jax.process_index() != 0:
            return
        array_files(self.directory).truncate_after(step)
        parts, damaged = _read_parts(_files(self.directory))
        for path, fault in damaged.items():
            warnings.warn(f"{fault}; set aside as {path.name}.damaged", stacklevel=2)
            with contextlib.suppress(FileNotFoundError):  # in a bucket another worker may do so too
                path.rename(path.with_name(f"{path.name}.damaged"))
        if in_bucket(self.directory):
            return
        for leftover in self.directory.glob(".*.tmp*"):
            leftover.unlink()
        for part in parts:
            first, last = (int(group) for group in part.path.stem.split("-")[1:])
            if first > step:
                part.path.unlink()
            elif last > step:
                # In place first, then the name: killed between the two, no row is lost or there twice. A part that adds
                # rows may have that name already; the seal tells what a part covers, whatever it is called.
                _write(part.table.filter(pc.field("step") <= step), part.path, part.facts(end=step), part.suites)
                if not (shorter := part.path.with_name(_part_name(first, step))).exists():
                    part.path.rename(shorter)

    def seal(self) -> None:
        """Seals the parts that an earlier version wrote, while run.json says with what chunk that was."""
        if jax.process_index() == 0:
            for part in _read_parts(_files(self.directory))[0]:
                if not part.sealed:
                    _write(part.table, part.path, {**part.facts(), "written": part.written}, {})

    def drop_suites(self, names: Collection[str]) -> None:
        """Drops all rows and arrays of these suites and evals. Damaged parts stay as they are."""
        if not names or jax.process_index() != 0:
            return
        array_files(self.directory).drop(names)
        for part in _read_parts(_files(self.directory))[0]:
            kept = part.table.filter(~pc.field("suite").isin(list(names)))
            if not kept.num_rows:
                part.path.unlink()
            elif kept.num_rows < part.table.num_rows:
                _write(kept, part.path, part.facts(), part.suites)


def array_files(directory: pathlib.Path) -> ArrayFiles:
    """Returns the array files beside the table in a directory."""
    return ArrayFiles(directory / "arrays")


def _part_name(first: int, last: int) -> str:
    return f"part-{first:09d}-{last:09d}.parquet"


def _write(table: pa.Table, path: pathlib.Path, facts: dict, suites: Mapping[str, str]) -> None:
    """Writes a part, with what its suites mean, and the time in ns where it counts."""
    measured = set(pc.unique(table["suite"]).to_pylist())
    facts = {**facts, "suites": {name: digest for name, digest in suites.items() if name in measured}}
    write_table(table, path, {"written": time.time_ns(), **facts} if in_bucket(path) else facts)


def read_metrics(where: str | pathlib.Path, reached: int = -1) -> pa.Table:
    """Returns all rows of a directory of parts, or of a glob such as "runs/*/metrics/*.parquet".

    reached: a step up to which a directory must have its rows, such as that of a checkpoint. Columns and rows are in
    canonical order; a column that some parts lack is null there. Raises FileNotFoundError when there is no part,
    DamagedMetrics when parts are damaged or missing.
    """
    where = as_path(where)
    files = _files(where)
    parts, damaged = _read_parts(files, where)
    is_directory = "*" not in str(where) and where.suffix != ".parquet"
    damage = Damage(tuple(damaged.values()), tuple(_gaps(parts, reached)) if is_directory else ())
    if not parts and not damage.faults and reached <= 0:
        raise FileNotFoundError(f"no metrics in {where}: it holds no parquet part (has the run reached an evaluation?)")
    if damage:
        raise DamagedMetrics(
            f"{where}: {damage}; the command that trains the run (icl train, icl sweep run) makes what is missing again"
        )
    runs: dict[pathlib.Path, list[_Part]] = {}
    for part in parts:
        runs.setdefault(part.path.parent, []).append(part)
    return _canonical(concat_tables([_rows(mine) for mine in runs.values()]))


def measured_suites(directory: pathlib.Path) -> dict[str, str]:
    """Returns the digests of what the suites mean that a run's good parts have rows of, as the parts say."""
    parts, _ = _read_parts(_files(directory), directory)
    return {name: digest for part in parts for name, digest in part.suites.items()}


def damage_of(directory: pathlib.Path, reached: int) -> Damage:
    """Returns what is wrong with a run's metrics up to the step `reached`."""
    parts, damaged = _read_parts(_files(directory), directory)
    return Damage(tuple(damaged.values()), tuple(_gaps(parts, reached)))


def _files(where: pathlib.Path) -> list[pathlib.Path]:
    """The parts of a directory, or the files of a glob, in order."""
    if "*" not in str(where):
        found = children(where) if where.is_dir() or in_bucket(where) else [where] if where.exists() else []
        return sorted(path for path in found if path == where or _PART.fullmatch(path.name))
    if in_bucket(where):
        scheme = str(where).partition("://")[0]
        return sorted(as_path(f"{scheme}://{name}") for name in filesystem(where).glob(str(where)))
    return sorted(map(pathlib.Path, glob.glob(str(where))))


def _read_parts(
    files: list[pathlib.Path], where: pathlib.Path | None = None
) -> tuple[list[_Part], dict[pathlib.Path, str]]:
    """The parts that are good, and what is wrong with the others.

    where: what to list again when a file has gone meanwhile, as its rows are in another one then.
    """
    for _ in range(_LOOKS):
        try:
            return _read_all(files)
        except FileNotFoundError:
            if where is None:
                raise
            files = _files(where)
    return _read_all(files)


def _read_all(files: list[pathlib.Path]) -> tuple[list[_Part], dict[pathlib.Path, str]]:
    def read(path: pathlib.Path) -> _Part | str:
        try:
            return _read(path)
        except DamagedFile as fault:
            return str(fault)

    if files and in_bucket(files[0]):  # side by side, each in one request
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            found = list(pool.map(read, files))
    else:
        found = [read(path) for path in files]
    good = _spaced([part for part in found if isinstance(part, _Part)])
    return good, {path: fault for path, fault in zip(files, found, strict=True) if isinstance(fault, str)}


def _read(path: pathlib.Path) -> _Part:
    table, facts = read_table(path)
    covers, written, suites = _covered(path, table, facts), int(facts.get("written", 0)), facts.get("suites", {})
    return _Part(path, table, covers, written, suites, is_sealed(facts))


def _covered(path: pathlib.Path, table: pa.Table, facts: dict) -> Stretch | None:
    """The stretch of a part: as it says itself or, where it has no seal, as its training rows tell."""
    if is_sealed(facts):
        return (facts["after"], facts["last"]) if "after" in facts else None
    steps = np.unique(table.filter(pc.field("suite") == "train")["step"].to_numpy())
    name = _PART.fullmatch(path.name)
    if not len(steps) or not name:
        return None
    if pc.min(table["step"]).as_py() == 0:
        return -1, int(name[2])
    return int(steps[0]) - (int(steps[1] - steps[0]) if len(steps) > 1 else _UNKNOWN), int(name[2])


def _spaced(parts: list[_Part]) -> list[_Part]:
    """The parts with the beginning of stretches filled in that a single logged step does not tell: a chunk before
    it, as run.json has it, else as far from it as the nearest logged step."""
    is_unknown = lambda part: part.covers is not None and part.covers[0] < -_UNKNOWN // 2
    if not any(map(is_unknown, parts)):
        return parts
    try:
        chunk = read_record(parts[0].path.parent.parent / "run.json", "")["plan"]["chunk"]
    except (OSError, ValueError, KeyError, TypeError):
        logged = np.unique(np.concatenate([part.table["step"].to_numpy() for part in parts]))
        chunk = int(np.diff(logged).min()) if len(logged) > 1 else int(logged[0])
    begun = lambda part: (max(part.covers[0] + _UNKNOWN - chunk, -1), part.covers[1])
    return [dataclasses.replace(part, covers=begun(part)) if is_unknown(part) else part for part in parts]


def _gaps(parts: list[_Part], reached: int) -> list[Stretch]:
    """The stretches up to `reached` that no part covers. A run may begin at a checkpoint of step 0."""
    stretches = sorted(part.covers for part in parts if part.covers)
    covered, gaps = -1, []
    for after, last in stretches:
        if after > max(covered, 0):
            gaps.append((covered, after))
        covered = max(covered, last)
    if reached > max(covered, 0):
        gaps.append((covered, reached))
    return gaps


def _rows(parts: list[_Part]) -> pa.Table:
    """The rows of one run; of rows that measure the same thing one: those of a part that adds to others or, in a
    bucket, those written last."""
    bucket = in_bucket(parts[0].path)
    order = (lambda part: part.written) if bucket else (lambda part: part.covers is None)
    table = concat_tables([part.table for part in sorted(parts, key=order)])
    stretches = sorted(part.covers for part in parts if part.covers)
    apart = all(end <= after for (_, end), (after, _) in itertools.pairwise(stretches))
    return table if apart and not bucket and len(stretches) in (0, len(parts)) else last_rows(table)


def last_rows(table: pa.Table) -> pa.Table:
    """Returns, of rows that measure the same thing, the last."""
    keys = [name for name in table.column_names if name != "value"]
    numbered = table.append_column("_row", pa.array(range(table.num_rows)))
    last = numbered.group_by(keys).aggregate([("_row", "max")])["_row_max"]
    return table.take(last.combine_chunks().sort())


def select(table: pa.Table, *, metric: str | None = None, suite: str | None = None, **where) -> dict:
    """Returns the columns, as numpy arrays by name, of the rows with this metric, suite and coordinates."""
    for name, wanted in {"metric": metric, "suite": suite, **where}.items():
        if wanted is not None:
            table = table.filter(pc.field(name) == wanted)
    return {name: table[name].to_numpy() for name in table.column_names}


class TensorBoardWriter:
    """Logs tidy rows for TensorBoard, each member as a run of its own.

    members: a label per member, such as "p_bursty=0.9 init=1"; it names the sub-directory.
    first_step: events later than this, left by a run that was killed, are hidden by TensorBoard.
    """

    def __init__(self, directory: str | pathlib.Path, members: Iterable[str], first_step: int = 0):
        from tensorboardX import SummaryWriter  # slow to import, and off by default

        safe = (re.sub(r"[^\w=.,+-]+", "_", label).strip("_") or "member" for label in members)
        self._writers = [
            SummaryWriter(str(as_path(directory) / f"{index:03d}_{label}"), purge_step=first_step + 1)
            for index, label in enumerate(safe)
        ]

    def append(self, rows: Iterable[Mapping]) -> None:
        """Logs `train/<metric>` and `eval/<suite>/<metric>`; coordinates follow as `/<name>_<value>`."""
        for row in rows:
            if not math.isfinite(row["value"]):
                continue  # not measured there, such as a restricted accuracy where no answer is in context
            head = "train" if row["suite"] == "train" else f"eval/{row['suite']}"
            others = (n for n in row if n not in _TYPES and not n.startswith(("hyper/", "seed/")))
            tail = "".join(f"/{name}_{row[name]}" for name in others if row[name] is not None)
            self._writers[row["member"]].add_scalar(f"{head}/{row['metric']}{tail}", row["value"], row["step"])

    def close(self) -> None:
        """Writes out what is buffered."""
        for writer in self._writers:
            writer.close()
