"""How far a sweep is: a table of its populations, from what is on disk."""

import dataclasses
import math
import time

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from icl_jax.headlines import headlines_of
from icl_jax.runs import rundir
from icl_jax.storage.columns import headline_rows
from icl_jax.storage.metrics import read_metrics, select
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import Job, done_facts, is_done, reached
from icl_jax.training.display import duration

STYLES = {"done": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "waiting": "dim"}


@dataclasses.dataclass(frozen=True)
class State:
    """One population now. word: done, running (in a bucket: or killed), failed, stopped (begun, nobody works on it)
    or waiting.

    scores: (members,) of each headline at its last evaluation on disk, or None; diverged: members; rate: steps/s of
    the attempt that runs, None where not known; error: why it failed, or what of it is damaged.
    """

    id: str
    word: str
    members: int
    step: int
    steps: int
    scores: tuple[np.ndarray | None, ...]
    diverged: int
    rate: float | None
    error: str


def state_of(folder: Folder, job: Job) -> State:
    """Returns the state of a population."""
    failure = folder.failure(job.id)
    step = max(reached(folder.run_directory(job.id)), 0)
    done = is_done(folder, job)
    if done:
        word, step = "done", (done_facts(folder, job.id) or {"steps": job.steps})["steps"]
    elif folder.claimed(job.id) or (not folder.has_locks and folder.attempt(job.id)):
        word = "running"
    else:
        word = "failed" if failure else "stopped" if step else "waiting"
    error = failure["error"] if failure and word == "failed" else ""
    try:
        scores, diverged = _scores(folder, job)
        if step and not done:
            rundir.read(folder.run_directory(job.id))
    except ValueError as fault:  # damaged, or gone
        scores, diverged, error = (), 0, "; ".join(filter(None, [error, str(fault)]))
    rate = _rate(folder, job, step) if word == "running" else None
    return State(job.id, word, len(job.planned.cells), step, job.steps, scores, diverged, rate, error)


def _scores(folder: Folder, job: Job) -> tuple[tuple[np.ndarray | None, ...], int]:
    directory = folder.run_directory(job.id)
    try:
        table = read_metrics(directory / "metrics", reached(directory))
    except FileNotFoundError:
        return (), 0
    found = []
    for headline in headlines_of(job.config.evals):
        rows = select(headline_rows(table, headline))
        newest = rows["step"] == rows["step"].max() if len(rows["step"]) else []
        found.append(rows["value"][newest] if len(rows["step"]) else None)
    rows = select(table, suite="train", metric="diverged")
    diverged = len(set(rows["member"][rows["value"] >= 0])) if len(rows["value"]) else 0
    return tuple(found), diverged


def _rate(folder: Folder, job: Job, step: int) -> float | None:
    attempt = folder.attempt(job.id)
    if attempt is None or step <= attempt["step"]:
        return None
    return (step - attempt["step"]) / max(time.time() - attempt["since"], 1e-9)


def status_table(folder: Folder, jobs: list[Job], unplanned: int = 0, name: str = "") -> Group:
    """Returns the table of a sweep's populations and a line that sums it up, for a terminal, under a name."""
    states = [state_of(folder, job) for job in jobs]
    table = Table(box=None, pad_edge=False, header_style="bold", title=name or folder.name, title_justify="left")
    titles = list(dict.fromkeys(headline.title for job in jobs for headline in headlines_of(job.config.evals)))
    shown = [f"{title} mean (min..max)" for title in titles]
    for name in ("population", "state", "members", "step", *shown, "diverged"):
        table.add_column(name, justify="left" if name in ("population", "state") else "right")
    for state in states:
        step = f"{state.step:,} / {state.steps:,}"
        scores = [_spread(values) for values in (*state.scores, *[None] * len(titles))][: len(titles)]
        row = [state.id, Text(state.word, STYLES[state.word]), str(state.members), step, *scores, str(state.diverged)]
        table.add_row(*row)
    errors = [Text(f"{state.id}: {state.error}", "red") for state in states if state.error]
    return Group(table, *errors, Text(summary(states, unplanned)))


def summary(states: list[State], unplanned: int = 0) -> str:
    """Returns a line: populations and cells done, member-steps, time left."""
    words = [state.word for state in states]
    counts = ", ".join(f"{words.count(word)} {word}" for word in STYLES if word in words)
    done = sum(state.members * min(state.step, state.steps) for state in states)
    total = sum(state.members * state.steps for state in states)
    parts = [f"{len(states)} populations: {counts}" if states else "nothing planned yet"]
    parts.append(f"{done:,} of {total:,} member-steps")
    if (left := _time_left(states)) is not None:
        parts.append(f"about {duration(left)} left")
    if unplanned:
        parts.append(f"{unplanned} cells not planned yet (icl sweep run plans them)")
    return "; ".join(parts)


def _time_left(states: list[State]) -> float | None:
    """Of all that is left, at the summed rate of what runs now."""
    rate = sum(state.members * state.rate for state in states if state.rate)
    left = sum(state.members * (state.steps - state.step) for state in states if state.word != "done")
    return left / rate if rate else None


def _spread(values: np.ndarray | None) -> str:
    if values is None or not np.isfinite(values).any():
        return "-"
    mean, low, high = np.nanmean(values), np.nanmin(values), np.nanmax(values)
    return f"{mean:.3f} ({low:.2f}..{high:.2f})" if not math.isclose(low, high) else f"{mean:.3f}"
