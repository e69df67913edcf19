"""`icl sweep ...` and `icl report ...`: thin commands over icl_jax.sweep."""

import pathlib
import sys

from absl import flags
from rich.console import Console

from icl_jax.names import suggest
from icl_jax.paths import as_path
from icl_jax.sweep import commands
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.results import results_table, write_results
from icl_jax.sweep.sheet import Sheet, load_sheet, parse_changes
from icl_jax.sweep.sweep import folder_of
from icl_jax.sweep.worker import Outcome
from icl_jax.training.signals import GracefulStop

STOPPED = 75  # exit code of what a signal ended before its last step ("try again later", sysexits.h)

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "sweeps", "sweep: directory of sweeps, or gs://...; each has one of its name in it.")
flags.DEFINE_multi_string("set", [], "sweep: FIELD=VALUE, changes a field of the config; may be repeated.")
flags.DEFINE_integer("index", 0, "sweep run: which share of the populations this task takes (array jobs).")
flags.DEFINE_integer("count", 1, "sweep run: how many such tasks there are.")
flags.DEFINE_integer("width", 0, "sweep: members of a population at most (0: as many as fit in memory).")
flags.DEFINE_enum("engine", "local", ["local", "ray"], "sweep run: this process, or tasks on a Ray cluster.")
flags.DEFINE_string("ray_address", "", "engine ray: of the cluster (default: this machine's, or one started here).")
flags.DEFINE_integer("chips", 0, "engine ray: TPU chips or GPUs of a population (0: all of a machine).")
flags.DEFINE_integer("cpus", 0, "engine ray: cores of a population (0: all of a machine; with chips: 1).")
flags.DEFINE_bool("measure", False, "sweep plan: compile and time a chunk of each population.")
flags.DEFINE_bool("report", False, "sweep run: write the report at the end, of all sweeps named.")


def sweep(args: list[str]) -> None:
    """icl sweep plan|run|status|results CONFIG..."""
    actions = {"plan": _plan, "run": _run, "status": _status, "results": _results}
    if not args or args[0] not in actions:
        unknown = f"unknown {args[0]!r}{suggest(args[0], actions)}" if args else "plan, run, status or results"
        raise ValueError(f"icl sweep: {unknown}")
    if len(args) < 2:
        raise ValueError(f"usage: icl sweep {args[0]} CONFIG..., FILE or FILE:SCALE")
    actions[args[0]](args[1:])


def _plan(args: list[str]) -> None:
    for sheet, out in _sheets(args):
        commands.show_plan(sheet, out, _console(), most=FLAGS.width, measure=FLAGS.measure)


def _run(args: list[str]) -> None:
    commands.check_width(FLAGS.width)
    commands.check_share(FLAGS.index, FLAGS.count)
    if FLAGS.engine == "ray" and FLAGS.count != 1:
        raise ValueError(f"--count={FLAGS.count}: --engine=ray deals out the populations itself; leave it out")
    sheets, failed = _sheets(args), 0
    with GracefulStop() as stop:
        for sheet, out in sheets:
            if stop.requested or (outcome := _run_one(sheet, out)).stopped:
                print("stopped; the same command goes on from there")
                sys.exit(STOPPED)
            failed += outcome.failed
    if FLAGS.report:
        _report([folder_of(sheet, out) for sheet, out in sheets])
    if failed:
        print("the same command tries what failed again; `icl sweep status` says why it failed", file=sys.stderr)
        sys.exit(1)


def _run_one(sheet: Sheet, out: pathlib.Path) -> Outcome:
    if FLAGS.engine == "local":
        return commands.run(sheet, out, _console(), most=FLAGS.width, index=FLAGS.index, count=FLAGS.count)
    place = {"address": FLAGS.ray_address, "chips": FLAGS.chips, "cpus": FLAGS.cpus}
    return commands.run_on_ray(sheet, out, _console(), most=FLAGS.width, **place)


def _status(args: list[str]) -> None:
    for sheet, out in _sheets(args):
        commands.watch_status(sheet, out, _console())


def _results(args: list[str]) -> None:
    if len(args) != 1 or not FLAGS.to:
        raise ValueError("usage: icl sweep results DIR --to=results.parquet (or .csv)")
    table = results_table(_folder(args[0]))
    write_results(table, FLAGS.to)
    print(f"{FLAGS.to}: {table.num_rows:,} rows")


def report(args: list[str]) -> None:
    """icl report DIR... [--to=DIR]"""
    if not args:
        raise ValueError("usage: icl report DIR... [--to=DIR]")
    _report([_folder(arg) for arg in args])


def _report(folders: list[Folder]) -> None:
    """One sweep's report lies with it, that of several beside them."""
    beside = folders[0].directory if len(folders) == 1 else folders[0].directory.parent
    paths = commands.report(folders, as_path(FLAGS.to or beside / "report"))
    print(f"{paths[0]} (claims.md and {len(paths) - 2} figure files beside it)")


def _sheets(args: list[str]) -> list[tuple[Sheet, pathlib.Path]]:
    """Each sweep and the directory of sweeps that it is in. A sweep's own directory stands for its config file."""
    changes, found = parse_changes(FLAGS.set), []
    for arg in args:
        if as_path(arg).is_dir():
            folder = Folder(as_path(arg))
            about = folder.read()
            sheet = load_sheet(about["source"], about["changes"] | changes)
            if folder_of(sheet, folder.directory.parent) != folder:
                raise ValueError(
                    f"{folder.directory}: the sweep of {about['source']} is called {sheet.name!r} and lies in a "
                    "directory of that name; rename this one, or set the config's name"
                )
            found.append((sheet, folder.directory.parent))
        else:
            found.append((load_sheet(arg, changes), as_path(FLAGS.out)))
    return found


def _folder(arg: str) -> Folder:
    """A sweep's directory, named itself or by its config file."""
    if as_path(arg).is_dir():
        return Folder(as_path(arg))
    return folder_of(load_sheet(arg, parse_changes(FLAGS.set)), FLAGS.out)


def _console() -> Console:
    """A file or a pipe has no width of its own."""
    return Console() if sys.stdout.isatty() else Console(width=150)
