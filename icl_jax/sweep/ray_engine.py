"""The engine for many machines: the populations of a sweep as Ray tasks (`icl sweep run CONFIG --engine=ray`).

All that matters is in the sweep's directory, which every machine sees under the same path. The driver starts a
task for each population that is not done there; it may die and be started again, on another cluster too.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

from icl_jax.storage.paths import absolute, as_path, as_run_path
from icl_jax.sweep import worker
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import Job, is_done, job_from_json, reached
from icl_jax.sweep.plan import halves
from icl_jax.sweep.ray_cluster import Share, choose_share, connect, import_ray, machines
from icl_jax.sweep.ray_tasks import AGAIN, check_shared, prepare, run_population
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.status import state_of
from icl_jax.sweep.worker import Say, Tally
from icl_jax.training.display import duration
from icl_jax.training.signals import GracefulStop

TRIES = 5  # deaths of a population's process, with no new checkpoint between them, until it is given up
_TICK_S = 1.0
_GRACE_S = 120.0  # for running populations to save when the driver is told to stop


def run(
    sheet: Sheet, out: str | pathlib.Path, say: Say, *, most: int = 0, address: str = "", chips: int = 0, cpus: int = 0
) -> Tally:
    """Runs a sweep, or goes on with it, on a Ray cluster, and returns how many populations are done.

    most: members of a population at most (0: as many as fit); address: of the cluster (`ray_cluster.connect`);
    chips, cpus: of a task (`ray_cluster.choose_share`). ValueError for what cannot run, before anything is written.
    """
    out = absolute(as_run_path(out))
    connect(address)
    try:
        found = machines()
        share = choose_share(found, chips, cpus)
        say(f"Ray: {len(found)} machine(s); a population has {share} to itself")
        with GracefulStop() as stop:
            stages = _prepared(sheet, out, share, most, say, stop)
            return Tally(stopped=True) if stages is None else _run_all(stages, share, say, stop)
    finally:
        import_ray().shutdown()


def _run_all(stages: "list[tuple[Folder, list[Job]]]", share: Share, say: Say, stop: GracefulStop) -> Tally:
    """Runs one stage after another."""
    outcome, failed = Tally(), 0
    for folder, jobs in stages:
        if len(stages) > 1:
            say(f"stage {folder.name}" if folder.is_stage else f"{folder.name}, after its stages")
        outcome = _Driver(folder, share, jobs, say).run(stop)
        if outcome.stopped:
            return outcome
        failed += outcome.failed
    return Tally(outcome.done, failed)


def _prepared(
    sheet: Sheet, out: pathlib.Path, share: Share, most: int, say: Say, stop: GracefulStop
) -> list[tuple[Folder, list[Job]]] | None:
    """The populations of the sweep and its stages, in order, worked out by a task; None: stopped."""
    task = share.task(prepare)
    found = _patiently(lambda: task.remote(sheet, str(out), most, os.getcwd(), share.kind), say, stop)
    if found is None:
        return None
    for text in found[1]:
        say(text)
    stages = [(Folder(as_path(place)), [job_from_json(job) for job in jobs]) for place, jobs in found[0]]
    for folder, _ in stages:
        check_shared(folder)
    return stages


def _patiently(start: Callable, say: Say, stop: GracefulStop):
    """What a task returns, started again when its process dies; None: stopped. What it raises is raised here."""
    ray = import_ray()
    for left in reversed(range(TRIES)):
        task = start()
        while not ray.wait([task], timeout=_TICK_S)[0]:
            if stop.requested:
                _cancel([task])
                return None
        try:
            return ray.get(task)
        except ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except ray.exceptions.RayError as error:
            if not left:
                raise ValueError(f"the sweep could not be planned, {TRIES} times over; {_first_line(error)}") from None
            say(f"planning was lost and is tried again; {_first_line(error)}")


def _cancel(tasks: list) -> None:
    """Running populations stop as at Ctrl-C, with a checkpoint."""
    ray = import_ray()
    for task in tasks:
        ray.cancel(task)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=_GRACE_S)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@dataclasses.dataclass(eq=False)
class _Task:
    """A task in Ray's hands. before: the note of a killed attempt at its population; begun: it has left its own."""

    job: Job
    before: dict | None
    begun: bool = False


class _Driver:
    """Keeps tasks going until every population is done or has failed, and says how they go."""

    def __init__(self, folder: Folder, share: Share, jobs: list[Job], say: Say):
        self.folder, self.share, self.say = folder, share, say
        self.task = share.task(run_population)
        self.jobs = jobs
        self.done = {job.id for job in jobs if is_done(folder, job)}
        self.failed: set[str] = set()
        self.tasks: dict[object, _Task] = {}  # by Ray's references
        self.held: list[Job] = []  # by other workers, or by a process whose death has not been noticed
        self.deaths: dict[str, tuple[int, int]] = {}  # id -> (step, how many there)

    def run(self, stop: GracefulStop) -> Tally:
        """Runs what is left until all is done or has failed, or a signal stops it."""
        members = sum(len(job.planned.cells) for job in self.jobs)
        self.say(f"{members} members in {len(self.jobs)} populations, {len(self.done)} of them done")
        for job in self._left():
            self._start(job)
        while (self.tasks or self.held) and not stop.requested:
            self._wait()
        if stop.requested:
            self.say("stopping; what runs saves first")
            _cancel(list(self.tasks))
            return Tally(stopped=True)
        self.say(f"{len(self.done)} populations done, {len(self.failed)} failed")
        return Tally(len(self.done), len(self.failed))

    def _start(self, job: Job) -> None:
        before = self.folder.attempt(job.id)
        task = self.task.remote(job.to_json(), str(self.folder.directory), os.getcwd(), self.share.kind)
        self.tasks[task] = _Task(job, before)

    def _wait(self) -> None:
        """Waits a moment, or until a task ends; says what has begun and what has ended; starts what is free again."""
        ended = []
        if self.tasks:
            ended, _ = import_ray().wait(list(self.tasks), timeout=_TICK_S)
        else:
            time.sleep(_TICK_S)
        self._announce()
        for task in ended:
            self._end(self.tasks.pop(task).job, task)
        held, self.held = self.held, []
        for job in held:
            if self.folder.claimed(job.id):
                self.held.append(job)
            else:
                self._start(job)

    def _announce(self) -> None:
        """Says what has begun. Ray takes tasks in order, so only as many are looked at as there is room for."""
        waiting = [task for task in self.tasks.values() if not task.begun]
        room = self.share.places(machines()) - (len(self.tasks) - len(waiting))
        for task in waiting[: max(room, 0)]:
            note = self.folder.attempt(task.job.id)
            if note and note != task.before:
                task.begun = True
                at = f", from step {note['step']:,}" if note["step"] else ""
                self.say(f"{self._name(task.job)} on {note['host']}: {len(task.job.planned.cells)} members{at}")

    def _name(self, job: Job) -> str:
        return f"population {self.jobs.index(job) + 1} of {len(self.jobs)}"

    def _end(self, job: Job, task) -> None:
        word, said = self._result(job, task)
        for text in said:
            self.say(text)
        if word == worker.DONE:
            self.done.add(job.id)
            self.say(f"{self._name(job)} is done; {self._counts()}")
        elif word == worker.FAILED:
            self.failed.add(job.id)
            self.say(self._counts())
        elif word == worker.SPLIT:
            self._replace(job)
        else:
            self.held.append(job)

    def _result(self, job: Job, task) -> tuple[str, list[str]]:
        """How a task ended; that of a lost one is worked out and recorded here."""
        ray = import_ray()
        try:
            word, said = ray.get(task)
        except ray.exceptions.OutOfMemoryError:
            return self._as_holder(
                job, lambda say: worker.split(self.folder, job, "its machine ran out of memory", say)
            )
        except ray.exceptions.RayTaskError as error:  # it did not come to train
            return self._given_up(job, _first_line(error.cause or error))
        except ray.exceptions.RayError as error:
            return self._lost(job, _first_line(error))
        return self._lost(job, "it was told to stop") if word == worker.STOPPED else (word, said)

    def _lost(self, job: Job, why: str) -> tuple[str, list[str]]:
        step = reached(self.folder.run_directory(job.id))
        before, times = self.deaths.get(job.id, (step, 0))
        self.deaths[job.id] = step, (times + 1 if step == before else 1)
        if self.deaths[job.id][1] >= TRIES:
            return self._given_up(job, f"its process died {TRIES} times at step {max(step, 0):,}; {why}")
        return AGAIN, [f"{self._name(job)} was lost and is tried again from step {max(step, 0):,}; {why}"]

    def _given_up(self, job: Job, error: str) -> tuple[str, list[str]]:
        return self._as_holder(job, lambda say: worker.fail(self.folder, job, error, say))

    def _as_holder(self, job: Job, record: Callable[[Say], str]) -> tuple[str, list[str]]:
        """Records what a task could not; not while another worker has the population."""
        said: list[str] = []
        with self.folder.claim(job.id) as claimed:
            return (record(said.append) if claimed else AGAIN), said

    def _replace(self, job: Job) -> None:
        """Puts the parts of a population that was split in its place."""
        parts = [Job(planned, job.config) for planned in halves(job.planned)]
        place = self.jobs.index(job)
        self.jobs[place : place + 1] = parts
        for part in parts:
            self._start(part)

    def _left(self) -> list[Job]:
        return [job for job in self.jobs if job.id not in self.done | self.failed]

    def _counts(self) -> str:
        parts = [f"{len(self.done)} of {len(self.jobs)} done"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if (seconds := self._seconds_left()) is not None:
            parts.append(f"about {duration(seconds)} left")
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        """Of all that is left, at the rate of what runs now."""
        running = [state_of(self.folder, task.job) for task in self.tasks.values() if task.begun]
        rate = sum(state.members * (state.rate or 0) for state in running)
        reach = lambda job: max(reached(self.folder.run_directory(job.id)), 0)
        steps = sum(len(job.planned.cells) * (job.steps - reach(job)) for job in self._left())
        return steps / rate if rate else None
