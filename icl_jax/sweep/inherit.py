"""What the halves of a population take over from it: nothing that its members have reached is lost by a split."""

import json
import pathlib

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax import rundir
from icl_jax.files import write_text
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.plan import Planned
from icl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.training.store import MetricsWriter, read_metrics


def hand_down(folder: Folder, whole: Planned, part: Planned) -> None:
    """Gives a part of a population its members' share of the checkpoints and metrics, as a run of its own.

    To be called before the part is planned: until then nobody else looks at it, so that one that was killed
    here is done again from the start. Damaged checkpoints are left out.
    """
    source, target = folder.run_directory(whole.id), folder.run_directory(part.id)
    if not Checkpoints(source / "checkpoints").steps():
        return  # it never got as far as that
    members = np.array([whole.cells.index(cell) for cell in part.cells])
    _checkpoints(source / "checkpoints", target / "checkpoints", members, part.id)
    _metrics(source / "metrics", target / "metrics", members)
    about = rundir.read(source) | {"identity": part.id, "members": rundir.members_to_json(list(part.members))}
    write_text(target / rundir.FILE, json.dumps(about, indent=1))


def _checkpoints(source: pathlib.Path, target: pathlib.Path, members: np.ndarray, identity: str) -> None:
    found = Checkpoints(source)
    with Checkpoints(target, keep_last=len(found.steps())) as mine:
        for step in found.steps():
            try:
                _, state, meta = found.restore(step=step)
            except DamagedCheckpoint:
                continue
            share = jax.tree.map(lambda leaf: leaf[members], state)
            mine.save(step, share, meta={**meta, "identity": identity}, force=True)


def _metrics(source: pathlib.Path, target: pathlib.Path, members: np.ndarray) -> None:
    try:
        table = read_metrics(source)
    except FileNotFoundError:
        return
    places = pc.index_in(table["member"], pa.array(members, table["member"].type))
    table = table.set_column(table.column_names.index("member"), "member", places).filter(pc.is_valid(places))
    writer = MetricsWriter(target)
    writer.append_table(table)
    writer.flush(pc.max(table["step"]).as_py())
