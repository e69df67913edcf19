"""The tidy table of a run: one row per measured number, in parquet part files.

Columns: member int32; hyper/<name> float64; seed/<name> int64; step int64; suite string; coordinates
(layer, head, ...: int64 or string, null where a metric has none); metric string; value float64.
Parquet cannot be appended to, so each flush writes a part of its own, whole or not at all.

On a disk a resumed run drops the rows that it will write again. In a bucket, where no lock keeps a second
worker away, nothing is dropped, as it might be the other's: of rows that measure the same thing the reader
takes those written last.
"""

import io
import math
import pathlib
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import duckdb
import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from icl_jax.files import local, replacing
from icl_jax.paths import as_path, children, filesystem, in_bucket

Rows = Sequence[Mapping] | Mapping[str, np.ndarray]
_TYPES = {
    "member": pa.int32(),
    "step": pa.int64(),
    "suite": pa.string(),
    "metric": pa.string(),
    "value": pa.float64(),
}
_PART = re.compile(r"part-(\d+)-(\d+)\.parquet")
_WRITTEN = b"written"  # in the metadata of a bucket's parts: when, in ns


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


class MetricsWriter:
    """Writes the tidy table of a run into a directory; of several processes only the first writes."""

    def __init__(self, directory: str | pathlib.Path):
        self.directory = as_path(directory)
        self._waiting: list[pa.Table] = []

    def append(self, rows: Rows) -> None:
        """Keeps rows (list of dicts, or dict of columns) until the next flush."""
        if len(rows):
            self.append_table(to_table(rows))

    def append_table(self, table: pa.Table) -> None:
        """Keeps a tidy table until the next flush."""
        self._waiting.append(table)

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
        if path.exists():  # the same steps flushed twice
            with local(path) as file:
                table = concat_tables([pq.read_table(file), table])
        _write(_canonical(table), path)  # sorting is stable: of equal rows those of now stay last

    def truncate_after(self, step: int) -> None:
        """Drops all rows later than `step`, so that a run resumed there writes them anew, once."""
        self._waiting = [table.filter(pc.field("step") <= step) for table in self._waiting]
        self._waiting = [table for table in self._waiting if table.num_rows]
        if in_bucket(self.directory) or not self.directory.is_dir() or jax.process_index() != 0:
            return
        for leftover in self.directory.glob(".*.tmp*"):
            leftover.unlink()
        for path in sorted(self.directory.glob("part-*.parquet")):
            first, last = (int(group) for group in _PART.fullmatch(path.name).groups())
            if first > step:
                path.unlink()
            elif last > step:
                # In place first, then the name: killed between the two, no row is lost or there twice.
                _write(pq.read_table(path).filter(pc.field("step") <= step), path)
                path.rename(path.with_name(_part_name(first, step)))

    def drop_suites(self, names: Collection[str]) -> None:
        """Drops all rows of these suites."""
        if not names or jax.process_index() != 0:
            return
        for path in children(self.directory):
            if _PART.fullmatch(path.name):
                self._rewrite(path, ~pc.field("suite").isin(list(names)))

    def _rewrite(self, path: pathlib.Path, keep: pc.Expression) -> None:
        with local(path) as file:
            table = pq.read_table(file)
        kept = table.filter(keep)
        if not kept.num_rows:
            path.unlink()
        elif kept.num_rows < table.num_rows:
            _write(kept, path)


def _part_name(first: int, last: int) -> str:
    return f"part-{first:09d}-{last:09d}.parquet"


def _write(table: pa.Table, path: pathlib.Path) -> None:
    if in_bucket(path):
        table = table.replace_schema_metadata({_WRITTEN: str(time.time_ns())})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_metrics(where: str | pathlib.Path) -> pa.Table:
    """Returns all rows of a directory of parts, or of a glob such as "runs/*/metrics/*.parquet".

    Columns and rows are in canonical order; a column that some parts lack is null there. Raises
    FileNotFoundError when there is no part.
    """
    where = as_path(where)
    if in_bucket(where):
        return _read_bucket(where)
    pattern = str(where / "part-*.parquet") if where.is_dir() else str(where)
    with duckdb.connect() as database:
        try:
            rows = database.read_parquet(pattern, union_by_name=True).to_arrow_table()
        except duckdb.IOException as error:
            if "No files found" not in str(error):
                raise
            raise _nothing(where) from None
    return _canonical(rows)


def _nothing(where: pathlib.Path) -> FileNotFoundError:
    return FileNotFoundError(f"no metrics in {where}: it holds no parquet part (has the run reached an evaluation?)")


def _read_bucket(where: pathlib.Path) -> pa.Table:
    """Of each directory the rows written last; parts are fetched side by side, each in one request."""
    files = filesystem(where)
    found = files.glob(str(where) if "*" in str(where) else f"{where}/part-*.parquet")
    if not found:
        raise _nothing(where)
    by_run: dict[str, list[pa.Table]] = {}
    for name, content in files.cat(found).items():
        by_run.setdefault(name.rpartition("/")[0], []).append(pq.read_table(io.BytesIO(content)))
    return _canonical(concat_tables([_newest(parts) for parts in by_run.values()]))


def _newest(parts: list[pa.Table]) -> pa.Table:
    written = lambda part: int(part.schema.metadata[_WRITTEN])
    return last_rows(concat_tables(sorted(parts, key=written)))


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
