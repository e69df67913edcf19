"""The host's side of a run: chunks, evaluations, checkpoints, progress, stopping.

The host looks in at chunk boundaries only. Order at a boundary: metrics are flushed, then the state
is saved, so that a checkpoint never stands for rows that are not there; on resume rows later than the
restored step are dropped and written again, equal to the first time. Rows that are missing before that step are
made again first, from the last good checkpoint before them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Num

from icl_jax.headlines import Headline
from icl_jax.members import Member
from icl_jax.storage.checkpoint import Checkpoints, DamagedCheckpoint
from icl_jax.storage.metrics import MetricsWriter, Stretch
from icl_jax.training.display import Progress
from icl_jax.training.effects import Effects
from icl_jax.training.feed import Feeder
from icl_jax.training.parallel import anywhere
from icl_jax.training.population import Population, compiled_chunk
from icl_jax.training.rows import Scores, changed_rows, member_columns, train_rows
from icl_jax.training.signals import GracefulStop


@dataclasses.dataclass(frozen=True)
class Course:
    """Intervals in steps (all multiples of `chunk`) and what is shown."""

    num_steps: int
    chunk: int
    eval_every: int
    save_every: int
    headlines: tuple[Headline, ...]


@dataclasses.dataclass
class RunEnd:
    """How a run ended. state: numpy, flat member axis; diverged: (M,) step or -1; stopped: by a signal."""

    step: int
    state: object
    diverged: np.ndarray
    stopped: bool


def train_population(
    population: Population,
    course: Course,
    members: list[Member],
    writer: MetricsWriter,
    checkpoints: Checkpoints,
    progress: Progress,
    *,
    initial: Callable | None = None,
    meta: dict | None = None,
    on_rows: Callable[[list[dict]], None] = lambda rows: None,
    gaps: Sequence[Stretch] = (),
) -> RunEnd:
    """Trains to course.num_steps from the newest good checkpoint, if any, and returns the outcome.

    initial: function of the fresh state (collected form) to the state to start from. gaps: stretches of which the
    metrics lack the rows (see `store.damage_of`), trained again first. SIGTERM and Ctrl-C end the run at the next
    chunk boundary with a checkpoint; a stretch that is trained again then begins anew.
    """
    loop = _Loop(population, course, members, writer, checkpoints, progress, meta or {}, on_rows)
    with GracefulStop() as stop:
        loop.begin(initial, any(gap[0] < gap[1] for gap in gaps))
        if all(loop.mend(gap, initial, stop) for gap in gaps):
            loop.train(stop)
        return RunEnd(loop.step, loop.collected_state(), loop.diverged, loop.stopped)


class _Loop:
    """State of the host loop between chunks."""

    def __init__(self, population, course, members, writer, checkpoints, progress, meta, on_rows):
        self.population, self.course, self.members = population, course, members
        self.writer, self.checkpoints, self.progress = writer, checkpoints, progress
        self.meta, self.on_rows = meta, on_rows
        self.layout = population.program.layout
        self.columns = [member_columns(m) for m in members]
        self.effects = Effects()
        self.step = 0
        self.saved_step = None
        self.written = -1  # rows up to this step are on disk, or were not asked for
        self.stopped = False
        self.last_loss = None
        self.headlines: list[np.ndarray | None] = [None] * len(course.headlines)

    def begin(self, initial, mends: bool) -> None:
        """Makes, loads or resumes the state, where what is on disk then ends, and compiles, if there is anything to
        train. mends: some of what is there is to be made again."""
        self.progress.phase("compiling")
        self._place(initial)
        self.checkpoints.set_aside_damaged()
        self.feeder = Feeder(self.population, self.course.num_steps)
        if self.step < self.course.num_steps or mends:
            fed = self.feeder.look(self.step if self.step < self.course.num_steps else 0)
            self.chunk = compiled_chunk(self.population, self.state, self.fixed, fed)
        self.writer.truncate_after(self.written)

    def _place(self, initial, before: int | None = None) -> None:
        """Takes the newest good checkpoint (with `before`: that is not after this step), else a fresh state."""
        self.state, self.fixed = self.population.fresh()
        like = self.layout.collect(self.state)
        self.saved_step, state = self._restored(like, before)
        self.step = self.saved_step or 0
        self.written = -1 if self.saved_step is None else self.saved_step
        if state is None and initial is not None:
            state = initial(like)
        if state is not None:
            self.state = self.layout.spread(state)
        self.diverged = self.layout.collect(self.state.diverged)

    def _restored(self, like, before: int | None):
        """(step, state) of a good checkpoint, (None, None) where there is none."""
        if before is None:
            return self.checkpoints.restore(like)[:2] if self.checkpoints.steps() else (None, None)
        for step in reversed([step for step in self.checkpoints.steps() if step <= before]):
            with contextlib.suppress(DamagedCheckpoint):
                return self.checkpoints.restore(like, step)[:2]
        return None, None

    def mend(self, gap: Stretch, initial, stop: GracefulStop) -> bool:
        """Makes the rows of a stretch again; False when a signal stopped it."""
        after, last = gap[0], min(gap[1], self.step)
        if after >= last:
            return True  # beyond the newest good checkpoint: to be trained anyway
        self._place(initial, before=after)
        self.writer.begin_after(after)
        self.written = after
        if self.step == 0 and after < 0:
            self.evaluate()
        while self.step < last:
            self.advance("training again")
            if anywhere(stop.requested):
                self.stopped = True
                return False
        self.writer.flush(last)
        self._place(initial)
        self.writer.truncate_after(self.step)
        return True

    def train(self, stop: GracefulStop) -> None:
        """Trains to the last step, or until a signal stops it, and saves there."""
        if self.saved_step is None:
            self.evaluate()
            if (self.diverged >= 0).any():  # what it starts from had, in an earlier stage
                self._write(train_rows(self.step, {"diverged": self.diverged}))
        stopping = False
        while self.step < self.course.num_steps and not stopping:
            self.advance("training")
            stopping = anywhere(stop.requested)
            if self.step % self.course.save_every == 0:
                self.save(force=False)
        self.stopped = self.step < self.course.num_steps
        self.finish()

    def advance(self, phase: str) -> None:
        """Runs one chunk and what is due after it."""
        self.state, metrics = self.chunk(self.state, self.feeder.take(self.step))
        self.step += self.course.chunk
        metrics, self.diverged = self.layout.collect((metrics, self.state.diverged))
        self.progress.phase(phase)
        changed = metrics.pop("changed", np.empty((len(self.members), 0)))
        acts = self.population.acts("training", self.step - self.course.chunk, self.step)
        self.effects.look("training", acts, changed)
        rows = train_rows(self.step, metrics | {"diverged": self.diverged})
        self._write([*rows, *changed_rows(self.step, list(acts), changed)])
        if self.step % self.course.eval_every == 0 and self.step > self.written:
            self.evaluate()
        self.last_loss = metrics["loss"]
        self._show(self.last_loss, "running")

    def _show(self, loss, word: str) -> None:
        status = [f"diverged at {d}" if d >= 0 else word for d in self.diverged]
        self.progress.update(self.step, loss, self.headlines, status)

    def evaluate(self) -> None:
        """Runs the evals that are due and keeps the headlines for the display."""
        self.progress.phase("evaluating")
        results = self.population.measure(self.state, self.fixed, self.step)
        acts = self.population.acts("evals", self.step, self.step)
        for e in self.population.evals:
            if e.name in results and e.axes.get("changed", ())[-1:] == ("patch",):
                self.effects.look("evals", acts, results[e.name]["changed"])
        scores = Scores(self.step, self.population.evals, results, self.columns)
        if self.step > self.written:
            scores.write_arrays(self.writer)
        rows = scores.rows()
        self._write(rows)
        for place, shown in enumerate(self.course.headlines):
            found = headline(rows, shown, len(self.members))
            self.headlines[place] = self.headlines[place] if found is None else found

    def save(self, force: bool) -> None:
        """Flushes the metrics, then saves the state (asynchronously unless forced)."""
        self.writer.flush(self.step)
        self.checkpoints.save(self.step, self.collected_state(), meta=self.meta, force=force)
        self.saved_step = self.step

    def finish(self) -> None:
        """Saves where the run ends and waits until it is on disk."""
        self.progress.phase("saving")
        self.save(force=True)
        self.checkpoints.wait()
        complete = "done" if self.step >= self.course.num_steps else "stopped"
        self._show(self.last_loss, complete)
        self.progress.phase(complete)

    def collected_state(self):
        return self.layout.collect(self.state)

    def _write(self, rows: list[dict]) -> None:
        if self.step > self.written:
            self.writer.append([{**self.columns[row["member"]], **row} for row in rows])
            self.on_rows(rows)


def headline(rows: list[dict], shown: Headline, num_members: int) -> Num[np.ndarray, "M"] | None:
    """One headline per member, (M,), or None when it was not evaluated."""
    mine = [r for r in rows if r["suite"] == shown.suite and r["metric"] == shown.metric]
    found = {r["member"]: r["value"] for r in mine if all(str(r[axis]) == str(label) for axis, label in shown.at)}
    return np.asarray([found[m] for m in range(num_members)]) if found else None
