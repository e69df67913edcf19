"""`icl config`: every field of a config with its meaning, range and choices."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from icl_jax.registry import check_chosen, components
from icl_jax.runs import config as cfg
from icl_jax.runs.runplan import config_to_json
from icl_jax.sections import OTHER_SECTIONS
from icl_jax.spec import HYPERS, SECTIONS, SEEDS, Hyper, Option, PartsSpec, options_of

_OWN = {
    "name": Option("run", "of the run; a plain file name"),
    "out": Option("", "directory of the run (empty: runs/<name>)"),
    "plugins": Option((), "files with components of your own, see default_config(plugins=[...])"),
    "options": Option((), "role -> options of the component of that role"),
    "patches": Option((), "name -> fields of an intervention, see PatchSpec and PatchNumbers in icl_jax.spec"),
}
_SEED = Option((0,), "seeds of this stream; one for each replicate")


def show(words: list[str], flags: Namespace) -> None:
    """icl config [CONFIG]"""
    if not words and (flags.set or flags.changed):
        raise ValueError("icl config: name a config, whose fields are to be changed or compared with the defaults")
    console = Console() if sys.stdout.isatty() else Console(width=170)
    config = cfg.config_of(words[0], flags.set) if words else cfg.default_config()
    defaults = config_to_json(cfg.default_config(plugins=[entry["path"] for entry in config.plugins]))
    config = config_to_json(_checked(config))
    changed = [row for row in _rows(config, defaults) if row[1] != row[2]]
    if words:
        console.print(_table(f"{words[0]}: {len(changed)} fields differ from the defaults", changed, with_default=True))
    if not flags.changed:
        console.print(_table("All fields", list(_rows(config, defaults)), with_default=False))


def _checked(config: ConfigDict) -> ConfigDict:
    """The config, refused for what is wrong with it by itself: its data may be elsewhere."""
    concrete = cfg.override(config, {"bank.name": "glyphs"} if config.bank.name == "auto" else {})
    check_chosen(cfg.run_spec(concrete))
    cfg.members_of(config)
    return config


Row = tuple[str, Any, Any, str]  # field, value, default, meaning


def _rows(config: dict, defaults: dict) -> Iterator[Row]:
    """Every field, in the order of the sections."""
    for name, option in _OWN.items():
        yield name, config[name], defaults[name], option.doc
    for section, spec in {**SECTIONS, "parts": PartsSpec, **OTHER_SECTIONS}.items():
        for field, option in options_of(spec).items():
            yield f"{section}.{field}", config[section][field], defaults[section][field], meaning(option)
    for name, hyper in HYPERS.items():
        yield f"hypers.{name}", config["hypers"][name], defaults["hypers"][name], _range(hyper)
    for stream in SEEDS:
        yield f"seeds.{stream}", config["seeds"][stream], defaults["seeds"][stream], _SEED.doc


def meaning(option: Option) -> str:
    """Returns what a field means, with its choices and its range."""
    choices = components(option.role) if option.role else option.choices
    parts = [option.doc]
    parts += [f"[{', '.join(map(str, choices))}]"] if choices else []
    parts += [f"[at least {option.least:g}]"] if option.least is not None and option.most is None else []
    parts += [f"[{option.least:g} to {option.most:,}]"] if option.least is not None and option.most is not None else []
    return " ".join(parts)


def _range(hyper: Hyper) -> str:
    whole = ", whole" if hyper.whole else ""
    return f"{hyper.doc} [{hyper.low:g} to {hyper.high:g}{whole}]"


def _table(title: str, rows: list[Row], with_default: bool) -> Table:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    shown.add_column("field", no_wrap=True)
    for name in ("value", "default")[: 1 + with_default]:
        shown.add_column(name, max_width=32)
    shown.add_column("meaning")
    for field, value, default, doc in rows:
        values = [_shown(value), _shown(default)][: 1 + with_default]
        shown.add_row(Text(field), *map(Text, values), Text(doc))
    return shown


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if value else "()"
    return str(value) if value != "" else '""'
