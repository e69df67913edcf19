"""What a sweep's Ray tasks do, each in a process of its own on some machine of the cluster."""

import contextlib
import os
import socket

import jax

from icl_jax.storage.paths import as_run_path
from icl_jax.sweep import worker
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import is_done, job_from_json
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.sweep import open_sweep

AGAIN = "again"  # how a task ends whose population another worker has: to be tried later


def prepare(sheet: Sheet, out: str, most: int, start: str, kind: str) -> tuple[list[tuple[str, list[dict]]], list[str]]:
    """Makes the plan on a task's devices, which the driver may not have.

    start: the driver's directory; kind: of chips the task has. Returns, of each stage and then of the sweep itself,
    the directory and the populations (see `Job.to_json`), and what there is to say.
    """
    _settle(start, kind)
    said: list[str] = []
    order = open_sweep(sheet, out).in_order()
    for sweep in order:
        sweep.check()
    for sweep in order:
        sweep.fix(most, said.append)
    return [(str(sweep.folder.directory), [job.to_json() for job in sweep.jobs()]) for sweep in order], said


def run_population(fields: dict, directory: str, start: str, kind: str) -> tuple[str, list[str]]:
    """Runs the population of `Job.to_json`. Returns how that ended (AGAIN, or see `worker.attempt`) and what there
    is to say. directory: the sweep's."""
    _settle(start, kind)
    folder, job, said = Folder(as_run_path(directory)), job_from_json(fields), []
    check_shared(folder)
    with folder.claim(job.id) as claimed:
        if not claimed:
            return AGAIN, said
        if all(planned.id != job.id for planned in folder.plan()):
            return worker.SPLIT, said  # by another worker
        if is_done(folder, job):
            return worker.DONE, said
        return worker.attempt(folder, job, said.append, progress=False), said


def check_shared(folder: Folder) -> None:
    """Raises ValueError where the sweep's directory is not the one that the plan was written to."""
    if not folder.plan_parts():
        raise ValueError(
            f"{folder.directory} on {socket.gethostname()} has no plan: it is not the directory that the other "
            "machines see; choose one that all share with --out=DIR"
        )


def _settle(start: str, kind: str) -> None:
    """Makes relative paths of the config start at the driver's directory. ValueError when JAX lacks the chips."""
    with contextlib.suppress(OSError):  # a machine may lack that directory, and the config relative paths
        os.chdir(start)
    if kind and jax.default_backend() == "cpu":
        raise ValueError(
            f"JAX on {socket.gethostname()} sees no {kind}: install icl_jax[tpu], [cuda13] or [cuda12] there, or train "
            "on cores with --cpus=N"
        )
