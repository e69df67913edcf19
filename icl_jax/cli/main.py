"""`icl`: from what was typed to the command that does it."""

import importlib
import importlib.metadata
import os
import signal
import sys
import types
from typing import NoReturn

from icl_jax.cli.commands import COMMANDS
from icl_jax.cli.flags import Command, note, parse
from icl_jax.names import suggest

_HELP = ("-h", "--help", "help")


def main(argv: list[str] | None = None) -> None:
    """Runs a command; a ValueError or an OSError ends it with its message and exit code 2."""
    typed = list(sys.argv if argv is None else argv)[1:]
    try:
        _main(typed)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # of `icl ... | head`
        sys.stderr.close()
        sys.exit(1)
    except (ValueError, OSError) as error:
        print(f"icl: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "CheckpointError":  # its module imports JAX
            raise
        print(f"icl: {error}", file=sys.stderr)
        sys.exit(2)


def _main(typed: list[str]) -> None:
    if typed[:1] == ["help"]:
        typed = [*typed[1:], "--help"]
    if not typed or typed[0] in _HELP:
        print(overview())
        return
    if typed[0] == "--version":
        print(f"icl_jax {importlib.metadata.version('icl_jax')}")
        return
    command, rest = find(typed)
    if command is None:
        print(overview(typed[0]))
        return
    words, flags = parse(command, rest, note)
    module, _, function = command.run.partition(":")
    run = getattr(_imported(module), function)
    run(words, flags)


def _imported(name: str) -> types.ModuleType:
    """A module, which may import JAX. An interrupt ends the process: raised in JAX's own callbacks it would be lost."""
    before = signal.signal(signal.SIGINT, _leave)
    try:
        return importlib.import_module(name)
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_) -> NoReturn:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(130)  # nothing is written while modules are imported


def find(typed: list[str]) -> tuple[Command | None, list[str]]:
    """Returns the command that begins what was typed, and the rest; None where it is a group's name with --help.
    ValueError for none."""
    by_name = {command.name: command for command in COMMANDS}
    for length in (2, 1):
        if (name := " ".join(typed[:length])) in by_name:
            return by_name[name], typed[length:]
    mine = [name.split()[1] for name in by_name if name.startswith(f"{typed[0]} ")]
    if not mine:
        raise ValueError(f"unknown command {typed[0]!r}{suggest(typed[0], {name.split()[0] for name in by_name})}")
    if len(typed) == 1:
        raise ValueError(f"icl {typed[0]} what? {', '.join(mine)}")
    if typed[1] in _HELP:
        return None, []
    raise ValueError(f"icl {typed[0]}: unknown {typed[1]!r}{suggest(typed[1], mine)}")


def overview(group: str = "") -> str:
    """Returns the commands, or those of a group, one a line."""
    shown = [command for command in COMMANDS if not group or command.name.split()[0] == group]
    lines = [f"  icl {command.name} {command.words}".rstrip() for command in shown]
    wide = max(map(len, lines))
    listed = [f"{line.ljust(wide)}  {command.doc}" for line, command in zip(lines, shown, strict=True)]
    head = "icl_jax: grow, dissect and tune in-context learning." if not group else f"icl {group}"
    about = "CONFIG is FILE or FILE:SCALE; --set FIELD=VALUE changes a field. `icl COMMAND --help` explains a command."
    return "\n".join([head, "", *listed, "", about])
