"""Flags of a command, and its words: told apart, checked, explained. Imports no JAX, so that help is instant."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from icl_jax.names import suggest


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of a command. kind: of its value; bool: it takes none; list: values with commas between; tuple: it may be
    repeated. short: what its value is called in help."""

    name: str
    doc: str
    default: Any = None
    kind: type = str
    choices: tuple[str, ...] = ()
    short: str = ""


@dataclasses.dataclass(frozen=True)
class Command:
    """name: its words, such as "sweep run"; doc: one line; words: what follows it, such as "CONFIG..." ("...": one or
    more; brackets: none will do); run: "module:function" of (words, flags); example: what one would type; takes_config:
    its word is a config, of which --set changes fields."""

    name: str
    doc: str
    words: str
    run: str
    example: str
    flags: tuple[Flag, ...] = ()
    takes_config: bool = False

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        """Returns its flags and, where it takes a config, --set."""
        return (*self.flags, SET) if self.takes_config else self.flags


SET = Flag("set", "change a field of the config; may be repeated", (), tuple, short="FIELD=VALUE")
_OLD_CONFIG = "--config"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog}: {message}; see {self.prog} --help")


def parse(command: Command, argv: Sequence[str], note: Callable[[str], None]) -> tuple[list[str], argparse.Namespace]:
    """Returns (words, flags) of what follows a command. ValueError for flags and words that it does not know.

    note: takes a hint about an old spelling. --help prints and exits.
    """
    parser = _parser(command)
    argv = _today(command, list(argv), note) if command.takes_config else list(argv)
    flags, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    if unknown:
        name = unknown[0].partition("=")[0]
        known = [f"--{flag.name}" for flag in command.all_flags] + ["--help"]
        raise ValueError(f"icl {command.name}: unknown flag {unknown[0]}{suggest(name, known)}")
    _check_words(command, rest)
    for flag in command.all_flags:
        if flag.kind is tuple:
            setattr(flags, flag.name, getattr(flags, flag.name) or [])
    return rest, flags


def _parser(command: Command) -> _Parser:
    parser = _Parser(
        prog=f"icl {command.name}",
        usage=f"icl {command.name} {command.words} [flags]".replace("  ", " "),
        description=command.doc[:1].upper() + command.doc[1:] + ".",
        epilog=f"example:  {command.example}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag in command.all_flags:
        _add(parser, flag)
    return parser


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    default = "" if flag.default in (None, "", (), [], False) else f" (default: {flag.default})"
    about: dict[str, Any] = {"dest": flag.name, "help": f"{flag.doc}{default}".replace("%", "%%")}
    if flag.kind is bool:
        parser.add_argument(f"--{flag.name}", action="store_true", **about)
        return
    short = flag.short or flag.name.upper()
    if flag.kind is tuple:
        parser.add_argument(f"--{flag.name}", action="append", metavar=short, **about)
        return
    kind = _names if flag.kind is list else flag.kind
    choices = flag.choices or None
    parser.add_argument(
        f"--{flag.name}", type=kind, default=flag.default, choices=choices, metavar=None if choices else short, **about
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _check_words(command: Command, words: list[str]) -> None:
    """As many words as the command takes."""
    usage = f"usage: icl {command.name} {command.words}, such as: {command.example}"
    wanted = command.words.split()
    least = sum(not word.startswith("[") for word in wanted)
    if len(words) < least:
        raise ValueError(f"icl {command.name}: {wanted[len(words)].strip('.')} is missing; {usage}")
    if len(words) > len(wanted) and not command.words.endswith(("...", "...]")):
        raise ValueError(f"icl {command.name}: it does not take {words[len(wanted)]!r}; {usage}")


def _today(command: Command, argv: list[str], note: Callable[[str], None]) -> list[str]:
    """Old spellings as they are today: --config=FILE (or --config FILE) as a word, --config.FIELD=VALUE as --set."""
    found, files, rest = [], [], iter(argv)
    for word in rest:
        if word == _OLD_CONFIG:
            files.append(next(rest, ""))
        elif word.startswith(f"{_OLD_CONFIG}="):
            files.append(word.partition("=")[2])
        elif word.startswith(f"{_OLD_CONFIG}."):
            found += ["--set", word.removeprefix(f"{_OLD_CONFIG}.")]
        else:
            found.append(word)
    if [*files, *found] != argv:
        note(f"hint: today this is spelt: {shlex.join(['icl', *command.name.split(), *files, *found])}")
    return [*files, *found]


def note(text: str) -> None:
    """Prints a line for the reader beside the output."""
    print(text, file=sys.stderr)
