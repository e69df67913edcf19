"""The results of a sweep as one tidy table: what is finished from the ledger, what is not from the runs."""

import pathlib
import warnings

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from icl_jax.runs import rundir
from icl_jax.runs.runplan import config_from_json, eval_digests, eval_spec
from icl_jax.storage.columns import coordinates
from icl_jax.storage.files import replacing
from icl_jax.storage.metrics import concat_tables, read_metrics
from icl_jax.storage.paths import as_path
from icl_jax.storage.sealed import DamagedFile
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import reached, read_entry, same_eval_seeds, with_cells
from icl_jax.sweep.plan import Planned

LABEL = "label/"
EMPTY = pa.schema(
    {"cell": pa.string(), "step": pa.int64(), "suite": pa.string(), "metric": pa.string(), "value": pa.float64()}
).empty_table()


class NoResults(ValueError):
    """A sweep has not reached an evaluation yet."""


def results_table(folder: Folder) -> pa.Table:
    """Returns all rows of the sweep's cells, one per measured number, in the order of the grid.

    Columns: cell; label/<swept quantity>; hyper/<name>; seed/<stream>; step; suite; coordinates; metric; value.
    Unfinished populations give the rows they have. NoResults when nothing has been measured yet.
    """
    about = folder.read()
    suites = eval_digests(eval_spec(config_from_json(about["config"])))
    tables = [table for planned in folder.plan() if (table := _population(folder, planned, suites)) is not None]
    if not tables:
        raise NoResults(f"{folder.directory}: no population has reached an evaluation yet; see `icl sweep status`")
    table = _labelled(concat_tables(tables), about["cells"])
    keys = ["_order", "step", "suite", "metric", *coordinates(table.column_names)]
    return table.sort_by([(key, "ascending") for key in keys]).drop_columns(["_order"])


def _population(folder: Folder, planned: Planned, suites: dict[str, str]) -> pa.Table | None:
    """The rows of a population; what was measured on a suite that means something else by now is left out.

    None, with a warning that names the file and the way out, where rows are damaged or missing.
    """
    try:
        if entry := read_entry(folder, planned.id):
            return _current(*entry, planned, suites)
    except DamagedFile as fault:
        warnings.warn(f"{fault}; until then the run itself is read", stacklevel=2)
    directory = folder.run_directory(planned.id)
    if (end := reached(directory)) < 0:
        return None  # not begun, or killed before its first checkpoint
    try:
        table = with_cells(read_metrics(directory / "metrics", end), planned)
        about = rundir.read(directory)
        return _current(table, {**about, "eval_seeds": rundir.eval_seeds(about)}, planned, suites)
    except FileNotFoundError:
        return None
    except ValueError as error:
        warnings.warn(f"{error}; its {len(planned.cells)} cells are left out", stacklevel=2)
        return None


def _current(table: pa.Table, facts: dict, planned: Planned, suites: dict[str, str]) -> pa.Table:
    measured = facts.get("suites", {})
    stale = [name for name, digest in measured.items() if suites.get(name, digest) != digest]
    if not same_eval_seeds(facts, planned):
        stale = list(measured)
    return table.filter(~pc.field("suite").isin(stale)) if stale else table


def _labelled(table: pa.Table, cells: list[dict]) -> pa.Table:
    """The rows of the sweep's own cells up to the steps asked for, with their labels and place in the grid."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["labels"]))
    columns = {name: [cell["labels"].get(name) for cell in cells] for name in names}
    place = pc.index_in(table["cell"], pa.array([cell["id"] for cell in cells]))
    steps = pa.array([cell["steps"] for cell in cells]).take(place)
    asked = pc.fill_null(pc.less_equal(table["step"], steps), False)  # a run may have gone on beyond
    table, place = table.filter(asked), place.filter(asked)
    for index, name in enumerate(names):
        table = table.add_column(1 + index, f"{LABEL}{name}", pa.array(columns[name]).take(place))
    return table.append_column("_order", place)


def _write_csv(table: pa.Table, path: pathlib.Path) -> None:
    """A text that a spreadsheet would take for a formula begins with a quote."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = pc.replace_substring_regex(table[field.name], r"^([=+@\t\r]|-[^0-9.])", r"'\1")
            table = table.set_column(index, field, texts)
    pyarrow.csv.write_csv(table, path)


def write_results(table: pa.Table, path: str | pathlib.Path) -> None:
    """Writes the table as .parquet or .csv. ValueError for another ending."""
    path = as_path(path)
    writers = {".parquet": pq.write_table, ".csv": _write_csv}
    if path.suffix not in writers:
        raise ValueError(f"--to {path}: its ending must be .parquet or .csv")
    with replacing(path) as temporary:
        writers[path.suffix](table, temporary)
