"""What `icl sweep` and `icl report` do, for terminals: plan, run, status, results, report."""

import contextlib
import pathlib
import shlex
import sys
import time
from collections.abc import Callable

import pyarrow.compute as pc
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from icl_jax.claims.statements import claims_from_json
from icl_jax.devices import enable_compilation_cache
from icl_jax.headlines import shown_of
from icl_jax.report.data import SweepData
from icl_jax.report.page import write_report
from icl_jax.runs import rundir
from icl_jax.runs.config import default_config
from icl_jax.runs.runplan import config_to_json
from icl_jax.sweep import ray_engine
from icl_jax.sweep.estimate import Cost, cost_of
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.job import Job, config_for, is_done
from icl_jax.sweep.results import EMPTY, NoResults, results_table
from icl_jax.sweep.sheet import Sheet
from icl_jax.sweep.status import status_table
from icl_jax.sweep.sweep import Sweep, folder_of, open_sweep
from icl_jax.sweep.worker import Say, Tally, work
from icl_jax.training.display import duration

_REFRESH_S = 2.0


def show_plan(sheet: Sheet, out: str | pathlib.Path, console: Console, *, most: int = 0, measure: bool = False) -> None:
    """Prints what a run would do and cost; writes nothing."""
    check_width(most)
    enable_compilation_cache()
    order = open_sweep(sheet, out).in_order()
    for sweep in order:
        sweep.check()
    for sweep in order:
        _show_plan(sweep, console, most, measure)


def _show_plan(sweep: Sweep, console: Console, most: int, measure: bool) -> None:
    note = lambda text: console.print(f"[dim]{text}[/]", highlight=False)
    kept = sweep.jobs()
    left = [job for job in kept if not is_done(sweep.folder, job)]
    if len(left) < len(kept):
        note(f"{sweep.name}: {len(kept) - len(left)} populations are done and not counted here")
    by_id = {cell.id: cell for cell in sweep.cells}
    left += [Job(new, config_for(by_id[new.cells[0]], new)) for new in sweep.proposed(most, note, compiles=measure)]
    costs = [cost_of(job, measure) for job in left]
    console.print(plan_table(costs, sweep.name))
    console.print(_totals(costs, len(sweep.cells)), highlight=False)


def plan_table(costs: list[Cost], name: str) -> Table:
    """Returns the populations of a plan, for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold", title=name, title_justify="left")
    table.add_column("population")
    for title in ("members", "parameters", "devices", "steps", "sequences", "memory a device", "disk", "time"):
        table.add_column(title, justify="right")
    for cost in costs:
        planned = cost.planned
        shards = f" (batch over {planned.batch_shards})" if planned.batch_shards > 1 else ""
        table.add_row(
            planned.id,
            str(len(planned.cells)),
            f"{cost.parameters:,}",
            f"{planned.devices}{shards}",
            f"{cost.steps:,}",
            f"{len(planned.cells) * cost.steps * cost.batch_size:,}",
            _bytes(planned.bytes),
            _bytes(cost.disk),
            "-" if cost.seconds is None else duration(cost.seconds),
        )
    return table


def _totals(costs: list[Cost], cells: int) -> str:
    steps = sum(len(c.planned.cells) * c.steps for c in costs)
    disk = _bytes(sum(cost.disk for cost in costs))
    text = f"{cells} cells; {len(costs)} programs to run; {steps:,} member-steps; {disk} on disk"
    seconds = [c.seconds for c in costs if c.seconds is not None]
    if costs and len(seconds) == len(costs):
        return f"{text}; {duration(sum(seconds))} in all on this machine, compilation apart"
    return f"{text}; memory of what is new is an estimate, without compiling: --measure compiles, and tells the time"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def run(
    sheet: Sheet,
    out: str | pathlib.Path,
    console: Console,
    *,
    most: int = 0,
    index: int = 0,
    count: int = 1,
    progress: bool = True,
) -> Tally:
    """Runs a sweep, or goes on with it: the share `index` of `count` of its populations (an array job)."""
    check_width(most)
    check_share(index, count)
    enable_compilation_cache()
    say_of = lambda name: lambda text: console.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)
    if count == 1 and not folder_of(sheet, out).has_locks:
        say_of(sheet.name)(
            "no locks in a bucket: where several workers share this sweep, give each its --index and --count"
        )
    order, outcome, failed = open_sweep(sheet, out).in_order(), Tally(), 0
    for sweep in order:
        sweep.check()  # all of them, before the first is written
    for sweep in order:
        sweep.fix(most, say_of(sweep.name))
    for sweep in order:
        outcome = _run(sweep, say_of(sweep.name), index, count, progress)
        if outcome.stopped:
            return outcome
        failed += outcome.failed
    return Tally(outcome.done, failed)


def _run(sweep: Sweep, say: Say, index: int, count: int, progress: bool) -> Tally:
    """Runs the share `index` of `count` of a sweep that is planned."""
    jobs = sweep.jobs()
    members = sum(len(job.planned.cells) for job in jobs)
    done = sum(is_done(sweep.folder, job) for job in jobs)
    say(f"{len(sweep.cells)} cells, {members} members in {len(jobs)} populations, {done} of them done")
    if unused := sweep.unused():
        say(
            f"{unused} cells of the plan are not asked for now (they stay on disk): what decides a run has changed, "
            "such as a setting, room for ways or labels, or the number of steps under a schedule that ends with them"
        )
    outcome = work(sweep.folder, sweep.jobs, mine=share_of(sweep.folder, index, count), say=say, progress=progress)
    if not outcome.stopped:
        say(f"{outcome.done} populations done, {outcome.failed} failed")
    return outcome


def run_on_ray(sheet: Sheet, out: str | pathlib.Path, console: Console, **options) -> Tally:
    """Runs a sweep, or goes on with it, on a Ray cluster; options: see `ray_engine.run`."""
    check_width(options.get("most", 0))
    say = lambda text: console.print(f"{sheet.name}: {text}", highlight=False, markup=False, soft_wrap=True)
    return ray_engine.run(sheet, out, say, **options)


def check_width(most: int) -> None:
    """Raises ValueError for a largest width of populations that is none."""
    if most < 0:
        raise ValueError(f"--width {most}: members of a population at most; use 1 or more, or 0 for as many as fit")


def check_share(index: int, count: int) -> None:
    """Raises ValueError for a share of the populations that there is not."""
    if count < 1:
        raise ValueError(f"--count {count}: the number of array tasks; use 1 or more")
    if not 0 <= index < count:
        raise ValueError(f"--index {index} --count {count}: the index goes from 0 to {count - 1}")


def share_of(folder: Folder, index: int, count: int) -> Callable[[Job], bool]:
    """Returns which populations task `index` of `count` takes. Those that took the place of a split one count as
    that one, so that tasks that start before and after a split agree."""
    check_share(index, count)
    place: dict[str, int] = {}
    for number, planned in enumerate(folder.plan(split=False)):
        for cell in planned.cells:
            place.setdefault(cell, number)
    return lambda job: place.get(job.planned.cells[0], 0) % count == index


def watch_status(sheet: Sheet, out: str | pathlib.Path, console: Console) -> None:
    """Prints the state of a sweep; on a terminal, keeps it up to date until all is done (Ctrl-C leaves)."""
    order = open_sweep(sheet, out).in_order()
    view = lambda: Group(*(status_table(s.folder, s.jobs(), len(s.unplanned()), s.name) for s in order))
    if not sys.stdout.isatty():
        console.print(view())
        return
    # Ctrl-C is the way out
    with contextlib.suppress(KeyboardInterrupt), Live(view(), console=console, auto_refresh=False) as live:
        while not all(s.is_done() for s in order):
            time.sleep(_REFRESH_S)
            live.update(view(), refresh=True)


def report(folders: list[Folder], out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the page and the figures of one or several sweeps, each after its stages; returns their paths."""
    return write_report([load_data(each) for folder in folders for each in (*folder.stages(), folder)], out)


def load_data(folder: Folder) -> SweepData:
    """Returns a sweep as its report reads it, from its directory alone."""
    found = folder.read()
    try:
        table = results_table(folder)
    except NoResults:
        table = EMPTY
    labels = tuple(dict.fromkeys(name for cell in found["cells"] for name in cell["labels"]))
    return SweepData(
        found["name"],
        found["title"],
        found["doc"],
        found["config"],
        _environment(folder) | {"command": _command(folder, found)},
        table,
        labels,
        claims_from_json(found["claims"]),
        shown_of(found["config"]["evals"]),
        _status(folder, found, table),
        {cell["id"]: (cell["labels"], cell["seeds"], cell["steps"]) for cell in found["cells"]},
        config_to_json(default_config()),
    )


def _environment(folder: Folder) -> dict:
    """Versions and devices of the populations' runs: the values of all of them where they differ."""
    found: dict[str, dict] = {}
    for planned in folder.plan():
        with contextlib.suppress(ValueError):  # not begun, or damaged, as `results_table` has said
            for name, value in rundir.read(folder.run_directory(planned.id))["environment"].items():
                found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _command(folder: Folder, found: dict) -> str:
    """What was typed to run the sweep; of a stage, the sweep that it is a stage of."""
    if folder.is_stage:
        folder = Folder(folder.whole)
        found = folder.read()
    place = folder.directory.parent
    out = [] if str(place) == "sweeps" else ["--out", str(place)]
    changes = [word for field, value in found["changes"].items() for word in ("--set", f"{field}={value}")]
    return shlex.join(["icl", "sweep", "run", found["source"], *out, *changes])


def _status(folder: Folder, found: dict, table) -> dict[str, int]:
    """Counts of cells by state."""
    last = table.group_by("cell").aggregate([("step", "max")]).to_pylist()
    reached = {row["cell"]: row["step_max"] for row in last}
    diverged = table.filter((pc.field("metric") == "diverged") & (pc.field("value") >= 0))
    failed = [planned for planned in folder.plan() if folder.failure(planned.id)]
    return {
        "cells": len(found["cells"]),
        "done": sum(reached.get(cell["id"], -1) >= cell["steps"] for cell in found["cells"]),
        "diverged": len(pc.unique(diverged["cell"])),
        "failed": sum(len(planned.cells) for planned in failed),
        "steps": max(cell["steps"] for cell in found["cells"]),
    }
