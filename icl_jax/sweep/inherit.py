"""What the halves of a population take over from it: nothing that its members have reached is lost by a split."""

import pathlib
import warnings

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.runs import rundir
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.storage.files import remove_tree
from icl_jax.storage.metrics import MetricsWriter, array_files, read_metrics
from icl_jax.storage.sealed import write_record
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.plan import Planned


def hand_down(folder: Folder, whole: Planned, part: Planned) -> None:
    """Gives a part of a population its members' share of the checkpoints and metrics, as a run of its own.

    To be called before the part is planned: until then nobody else looks at it, so that one that was killed
    here is done again from the start. Damaged checkpoints are left out.
    """
    source, target = folder.run_directory(whole.id), folder.run_directory(part.id)
    steps = Checkpoints(source / "checkpoints").steps()
    if not steps:
        return  # it never got as far as that
    try:
        table, about = read_metrics(source / "metrics", steps[-1]), rundir.read(source)
    except (ValueError, FileNotFoundError) as fault:
        warnings.warn(f"{fault}: its parts start anew", stacklevel=2)
        return
    if _is_further(target, steps[-1]):
        return
    remove_tree(target)  # of an attempt that was killed here
    about |= {"identity": part.id, "members": rundir.members_to_json(list(part.members))}
    members = np.array([whole.cells.index(cell) for cell in part.cells])
    _checkpoints(source / "checkpoints", target / "checkpoints", members, rundir.facts(about))
    _metrics(table, target / "metrics", members, about.get("suites", {}))
    array_files(source / "metrics").hand_down(array_files(target / "metrics"), members)
    write_record(target / rundir.FILE, about)


def _is_further(target: pathlib.Path, step: int) -> bool:
    """Whether a part is a run already, as its run.json is written last, and has come as far."""
    try:
        rundir.read(target)
    except ValueError:
        return False
    return max(Checkpoints(target / "checkpoints").steps(), default=-1) >= step


def _checkpoints(source: pathlib.Path, target: pathlib.Path, members: np.ndarray, facts: dict) -> None:
    found = Checkpoints(source)
    with Checkpoints(target, keep_last=len(found.steps())) as mine:
        for step in found.steps():
            try:
                _, state, meta = found.restore(step=step)
            except DamagedCheckpoint:
                continue
            share = jax.tree.map(lambda leaf: leaf[members], state)
            mine.save(step, share, meta={**meta, **facts}, force=True)


def _metrics(table: pa.Table, target: pathlib.Path, members: np.ndarray, suites: dict[str, str]) -> None:
    places = pc.index_in(table["member"], pa.array(members, table["member"].type))
    table = table.set_column(table.column_names.index("member"), "member", places).filter(pc.is_valid(places))
    writer = MetricsWriter(target, suites)
    writer.begin_after(-1)
    writer.append_table(table)
    writer.flush(pc.max(table["step"]).as_py())
