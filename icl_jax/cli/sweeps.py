"""`icl sweep ...`, `icl report`."""

import pathlib
import sys
from argparse import Namespace

from rich.console import Console

from icl_jax.cli.train import STOPPED
from icl_jax.runs.config import parse_changes
from icl_jax.storage.paths import as_path
from icl_jax.sweep import commands
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.results import results_table, write_results
from icl_jax.sweep.sheet import Sheet, load_sheet
from icl_jax.sweep.sweep import folder_of
from icl_jax.sweep.worker import Tally
from icl_jax.training.signals import GracefulStop

SWEEPS = "sweeps"  # directory of sweeps


def plan(words: list[str], flags: Namespace) -> None:
    """icl sweep plan CONFIG..."""
    for sheet, out in _sheets(words, flags):
        commands.show_plan(sheet, out, _console(), most=flags.width, measure=flags.measure)


def run(words: list[str], flags: Namespace) -> None:
    """icl sweep run CONFIG..."""
    commands.check_width(flags.width)
    commands.check_share(flags.index, flags.count)
    _check_engine(flags)
    if flags.to and not flags.report:
        raise ValueError(f"--to={flags.to}: it is the directory of a report; add --report")
    sheets, failed = _sheets(words, flags), 0
    with GracefulStop() as stop:
        for sheet, out in sheets:
            if stop.requested or (outcome := _run_one(sheet, out, flags)).stopped:
                print("stopped; the same command goes on from there")
                sys.exit(STOPPED)
            failed += outcome.failed
    if flags.report:
        _report([folder_of(sheet, out) for sheet, out in sheets], flags.to)
    if failed:
        print("the same command tries what failed again; `icl sweep status` says why it failed", file=sys.stderr)
        sys.exit(1)


def _check_engine(flags: Namespace) -> None:
    if flags.engine == "ray" and flags.count != 1:
        raise ValueError(f"--count={flags.count}: --engine=ray deals out the populations itself; leave it out")
    if flags.engine == "local" and (given := [n for n in ("ray_address", "chips", "cpus") if getattr(flags, n)]):
        raise ValueError(f"--{given[0]} is for --engine=ray; add it, or leave the flag out")


def _run_one(sheet: Sheet, out: pathlib.Path, flags: Namespace) -> Tally:
    if flags.engine == "local":
        return commands.run(sheet, out, _console(), most=flags.width, index=flags.index, count=flags.count)
    place = {"address": flags.ray_address, "chips": flags.chips, "cpus": flags.cpus}
    return commands.run_on_ray(sheet, out, _console(), most=flags.width, **place)


def status(words: list[str], flags: Namespace) -> None:
    """icl sweep status CONFIG..."""
    for sheet, out in _sheets(words, flags):
        commands.watch_status(sheet, out, _console())


def results(words: list[str], flags: Namespace) -> None:
    """icl sweep results DIR --to=FILE"""
    if not flags.to:
        raise ValueError("icl sweep results: name the table with --to=results.parquet (or .csv)")
    table = results_table(_folder(words[0], flags))
    write_results(table, flags.to)
    print(f"{flags.to}: {table.num_rows:,} rows")


def report(words: list[str], flags: Namespace) -> None:
    """icl report DIR..."""
    _report([_folder(word, flags) for word in words], flags.to)


def _report(folders: list[Folder], to: str) -> None:
    """One sweep's report lies with it, that of several beside them."""
    beside = folders[0].directory if len(folders) == 1 else folders[0].directory.parent
    paths = commands.report(folders, as_path(to or beside / "report"))
    print(f"{paths[0]} (claims.md and {len(paths) - 2} figure files beside it)")


def _sheets(words: list[str], flags: Namespace) -> list[tuple[Sheet, pathlib.Path]]:
    """Each sweep and the directory of sweeps that it is in. A sweep's own directory stands for its config file."""
    changes, found = parse_changes(flags.set), []
    for arg in words:
        if as_path(arg).is_dir():
            folder = Folder(as_path(arg))
            about = folder.read()
            if folder.is_stage:
                raise ValueError(f"{arg} is a stage: it runs with its sweep, {folder.whole}")
            before = {field: value for field, value in about["changes"].items() if field != "out"}  # once taken in vain
            sheet = load_sheet(about["source"], before | changes)
            if folder_of(sheet, folder.directory.parent) != folder:
                raise ValueError(
                    f"{folder.directory}: the sweep of {about['source']} is called {sheet.name!r} and lies in a "
                    "directory of that name; rename this one, or set the config's name"
                )
            _check_no_out(arg, flags)
            found.append((sheet, folder.directory.parent))
        else:
            found.append((load_sheet(arg, changes), as_path(flags.out or SWEEPS)))
    names = [str(folder_of(sheet, out).directory) for sheet, out in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is named twice; name each sweep once, or give one another config.name")
    return found


def _folder(arg: str, flags: Namespace) -> Folder:
    """A sweep's directory, named itself or by its config file."""
    if as_path(arg).is_dir():
        _check_no_out(arg, flags)
        if flags.set:
            raise ValueError(f"--set {flags.set[0]}: {arg} is what was run already; leave it out")
        return Folder(as_path(arg))
    return folder_of(load_sheet(arg, parse_changes(flags.set)), flags.out or SWEEPS)


def _check_no_out(arg: str, flags: Namespace) -> None:
    if flags.out:
        raise ValueError(f"--out={flags.out}: {arg} is a sweep's own directory; leave one of the two out")


def _console() -> Console:
    """A file or a pipe has no width of its own."""
    return Console() if sys.stdout.isatty() else Console(width=150)
