"""A worker: takes populations that nobody works on, one after another, until all are done."""

import dataclasses
import socket
import time
from collections.abc import Callable

import jax

from icl_jax.names import few
from icl_jax.sweep.exhausted import is_disk_full, is_out_of_memory, kernel_kills
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.handover import waits_for
from icl_jax.sweep.inherit import hand_down
from icl_jax.sweep.job import Job, is_done, reached, run_job
from icl_jax.sweep.plan import halves
from icl_jax.training.signals import GracefulStop

POLL_S = 2.0  # between looks at populations that others hold
DONE, SPLIT, FAILED, STOPPED = "done", "split", "failed", "stopped"  # how an attempt ends

Say = Callable[[str], None]


@dataclasses.dataclass
class Tally:
    """Counts of populations after a worker's turn; stopped: a signal ended it."""

    done: int = 0
    failed: int = 0
    stopped: bool = False


def work(
    folder: Folder, jobs: Callable[[], list[Job]], *, mine: Callable[[Job], bool], say: Say, progress: bool
) -> Tally:
    """Runs populations until all of `mine` are done or have failed here once. One that takes something from an earlier
    stage waits for that.

    jobs: gives the populations as the plan has them now (a population that runs out of memory is replaced
    by its halves); mine: which of them this worker takes (array jobs).
    """
    tried: set[str] = set()
    said: list[str] = []
    with GracefulStop() as stop:
        while waiting := [job for job in jobs() if mine(job) and job.id not in tried and not is_done(folder, job)]:
            if stop.requested:
                break
            needs = {job.id: waits_for(folder, job.planned.members, job.start, job.features) for job in waiting}
            taken = _take_one(folder, [job for job in waiting if not needs[job.id]], jobs, say, progress)
            if (missing := sorted({run for job in waiting for run in needs[job.id]})) and not taken and missing != said:
                said = missing
                say(f"waiting for {few(missing)}")
            if taken:
                tried.add(taken)
            else:
                time.sleep(POLL_S)
        outcome = _outcome(folder, [job for job in jobs() if mine(job)])
        return Tally(stopped=True) if stop.requested and outcome.failed else outcome


def _take_one(folder: Folder, waiting: list[Job], jobs: Callable[[], list[Job]], say: Say, progress: bool) -> str:
    """Runs the first population that nobody else has, and returns its id; "" when others have all of them."""
    for job in waiting:
        with folder.claim(job.id) as claimed:
            if claimed and not is_done(folder, job) and _current(job, jobs()):
                say(_headline(folder, job, jobs()))
                attempt(folder, job, say, progress)
                return job.id  # much may have changed meanwhile: look again
    return ""


def _current(job: Job, jobs: list[Job]) -> Job | None:
    """The job, unless another worker has split its population since it was listed."""
    return next((other for other in jobs if other.id == job.id), None)


def attempt(folder: Folder, job: Job, say: Say, progress: bool) -> str:
    """Runs a population that this process has claimed and returns how that ended.

    "done"; "split": memory ran out, and two of half the width take its place in the plan; "failed": for another
    reason, which is recorded; "stopped": by a signal. OSError when the disk is full.
    """
    if _killed_for_memory(folder, job):
        folder.forget_attempt(job.id)  # a single member cannot be split: its next attempt is a fresh one
        return split(folder, job, "the kernel killed it for its memory", say)
    folder.note_attempt(job.id, kernel_kills=kernel_kills(), step=max(_step(folder, job), 0))
    try:
        finished = run_job(folder, job, progress=progress)
    except Exception as error:  # whatever it is, the other populations must not be lost with it
        if is_out_of_memory(error):
            return split(folder, job, "it ran out of memory", say)
        if is_disk_full(error):  # so would the others be stopped, and the record of it
            raise OSError(f"{str(error) or 'the disk is full'}; the same command goes on when there is room") from error
        if is_done(folder, job):  # by another worker, as in a bucket no lock keeps two apart
            return DONE
        return fail(folder, job, f"{type(error).__name__}: {error}", say)
    finally:
        folder.forget_attempt(job.id)
        jax.clear_caches()  # compiled programs of this population would stay in memory
    folder.forget_failure(job.id)
    return DONE if finished else STOPPED


def _killed_for_memory(folder: Folder, job: Job) -> bool:
    """Whether the last attempt here ended by the kernel's killer: it left its note, and the count has grown."""
    before = folder.attempt(job.id)
    if before is None or before["host"] != socket.gethostname():
        return False
    return kernel_kills() > before["kernel_kills"]


def split(folder: Folder, job: Job, why: str, say: Say) -> str:
    """Puts two populations of half the width in the place of one that this process has claimed, to go on from where
    it is; returns "split", or "failed" for a single member."""
    width = len(job.planned.cells)
    try:
        parts = halves(job.planned)
    except ValueError as error:
        return fail(folder, job, str(error), say)
    for part in parts:
        hand_down(folder, job.planned, part)
    folder.record_failure(
        job.id, error=f"{why} with {width} members; planned anew as two of half the width", step=_step(folder, job)
    )
    while not folder.add_to_plan(parts, folder.plan_parts(), replaces=(job.id,)):
        time.sleep(0.1)  # another worker added something else: only the holder of a population splits it
    say(f"{job.id}: {why} with {width} members; goes on as {' and '.join(str(len(p.cells)) for p in parts)}")
    return SPLIT


def fail(folder: Folder, job: Job, error: str, say: Say) -> str:
    """Records why a population did not finish; returns "failed"."""
    folder.record_failure(job.id, error=error, step=_step(folder, job))
    say(f"{job.id} failed: {error}")
    return FAILED


def _step(folder: Folder, job: Job) -> int:
    return reached(folder.run_directory(job.id))


def _headline(folder: Folder, job: Job, jobs: list[Job]) -> str:
    number = [other.id for other in jobs].index(job.id) + 1
    done = sum(is_done(folder, other) for other in jobs)
    at = f", from step {step:,}" if (step := _step(folder, job)) > 0 else ""
    return f"population {number} of {len(jobs)} ({done} done): {len(job.planned.cells)} members{at}"


def _outcome(folder: Folder, jobs: list[Job]) -> Tally:
    done = sum(is_done(folder, job) for job in jobs)
    return Tally(done, len(jobs) - done)
