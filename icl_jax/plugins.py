"""Plugins: Python files in which a user registers components of their own (`icl_jax.registry`). Imports no JAX.

`default_config(plugins=[FILE])` runs them and lists them in the config, by path and digest of their text. The digest is
part of what a run is, so another text is another run; that of a file of evals alone is part of what these measure, so
another text is scored anew. What was written by a run with plugins finds them again where they lie, if their text is
the same; text that came with a run is never run.
"""

import hashlib
import linecache
import pathlib
import sys
import types
from collections.abc import Iterable, Mapping, Sequence

from icl_jax import registry

_TEXTS: dict[str, str] = {}  # digest -> text, of all that were run here
_ACTIVE: dict[str, str] = {}  # name -> digest of the text whose components are registered

Entry = Mapping[str, str]  # {"path", "digest"}


def load(path: str | pathlib.Path) -> dict[str, str]:
    """Runs a file, so that what it registers can be chosen, and returns its entry in a config.

    A file of the same name that was run before, with another text, gives way, with all that it registered. ValueError
    where there is no such file and for whatever goes wrong in it.

    >>> entry = plugins.load(plugin)
    >>> entry
    {'path': '.../falling.py', 'digest': '...'}
    >>> icl_jax.default_config(plugins=[plugin]).hypers.power  # a hyper that it declares, at its default
    (0.5,)
    >>> plugins.load(directory / "none.py")
    Traceback (most recent call last):
        ...
    ValueError: plugin .../none.py cannot be read: ... No such file or directory: ...
    """
    path = pathlib.Path(path).absolute()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"plugin {path} cannot be read: {error}") from None
    entry = {"path": str(path), "digest": _digest(text)}
    _activate(entry, text)
    return entry


def load_all(paths: Iterable[str | pathlib.Path]) -> tuple[dict[str, str], ...]:
    """Returns the entries of several files (`load`). ValueError for two of one name.

    >>> [sorted(entry) for entry in plugins.load_all([plugin])]
    [['digest', 'path']]
    >>> plugins.load_all([plugin, plugin])
    Traceback (most recent call last):
        ...
    ValueError: two plugins are called 'falling', by which what they register is told apart; rename one
    """
    if isinstance(paths, str | pathlib.Path):
        raise ValueError(f"plugins {str(paths)!r}: give a list of files, such as plugins=[{str(paths)!r}]")
    paths = [pathlib.Path(path) for path in paths]
    names = [path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two plugins are called {twice[0]!r}, by which what they register is told apart; rename one")
    return tuple(load(path) for path in paths)


def require(entries: Iterable[Entry]) -> None:
    """Sees that the plugins of a config are registered. ValueError for one whose text is not found.

    >>> config = icl_jax.default_config(plugins=[plugin])
    >>> plugins.require(config.plugins)
    >>> plugins.require([{"path": "lost.py", "digest": "0123456789abcdef"}])
    Traceback (most recent call last):
        ...
    ValueError: plugin lost.py (digest 0123456789abcdef) is not there: bring that text back, or run it first ...
    """
    for entry in entries:
        if not isinstance(entry, Mapping) and not hasattr(entry, "items"):
            raise ValueError(f"config.plugins has {entry!r}: name files in default_config(plugins=[...])")
        if _ACTIVE.get(_name(entry)) != entry["digest"]:
            _activate(entry, _TEXTS.get(entry["digest"]) or _found(entry))


def digests(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Returns the digests of those plugins of a config that decide what a run is: not of those that register evals
    alone, whose digest is part of what these measure (`digest_of`).

    >>> entry = plugins.load(plugin)
    >>> plugins.digests([entry]) == (entry["digest"],)
    True
    """
    return tuple(sorted(e["digest"] for e in entries if registry.roles_of(_owner(_name(e))) != {"eval"}))


def digest_of(component: registry.Component) -> str:
    """Returns the digest of the plugin that registered a component, "" for none.

    >>> from icl_jax import registry
    >>> entry = plugins.load(plugin)
    >>> plugins.digest_of(registry.find("schedule", "falling")) == entry["digest"]
    True
    >>> plugins.digest_of(registry.find("schedule", "cosine"))
    ''
    """
    owner = registry.owner_of(component)
    return next((digest for name, digest in _ACTIVE.items() if _owner(name) == owner), "")


def foreign_hypers(entries: Iterable[Entry]) -> set[str]:
    """Returns the hypers that plugins have brought which a config does not name: it is to be read without them.

    >>> entry = plugins.load(plugin)  # it declares a hyper, power
    >>> plugins.foreign_hypers([]), plugins.foreign_hypers([entry])
    ({'power'}, set())
    """
    return registry.brought_by_others(_owner(_name(entry)) for entry in entries)


def texts(entries: Iterable[Entry]) -> dict[str, str]:
    """Returns the text of each plugin of a config, by name; they were loaded here.

    >>> entry = plugins.load(plugin)
    >>> plugins.texts([entry]) == {"falling": plugin.read_text()}
    True
    """
    return {_name(entry): _TEXTS[entry["digest"]] for entry in entries}


def accept(entries: Sequence[Entry], found: Mapping[str, str]) -> None:
    """Registers plugins whose `texts` another process of the same user sends, such as a sweep's driver.

    >>> entry = plugins.load(plugin)
    >>> plugins.accept([entry], plugins.texts([entry]))  # what a worker does with what its driver sends
    """
    for entry in entries:
        _activate(entry, found[_name(entry)])


def _name(entry: Entry) -> str:
    return pathlib.PurePath(entry["path"]).stem


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _found(entry: Entry) -> str:
    path = pathlib.Path(entry["path"])
    text = path.read_text() if path.is_file() else None
    if text is None or _digest(text) != entry["digest"]:
        is_now = "is not there" if text is None else "has another text now"
        raise ValueError(
            f"plugin {path} (digest {entry['digest']}) {is_now}: bring that text back, or run it first with "
            f"icl_jax.plugins.load(FILE), from plugins/{_name(entry)}.py in the run's directory if you trust it"
        )
    return text


def _activate(entry: Entry, text: str) -> None:
    """Runs a text, unless it is what is registered, in the place of an earlier one of its name."""
    name, digest = _name(entry), entry["digest"]
    if _ACTIVE.get(name) == digest:
        return
    registry.forget(_owner(name))
    _ACTIVE.pop(name, None)
    try:
        with registry.owned_by(_owner(name)):
            _run(name, entry["path"], text)
    except Exception as error:
        registry.forget(_owner(name))
        raise ValueError(f"plugin {entry['path']}: {type(error).__name__}: {error}") from error
    _ACTIVE[name], _TEXTS[digest] = digest, text


def _owner(name: str) -> str:
    return f"icl_plugin_{name}"


def _run(name: str, path: str, text: str) -> None:
    module = types.ModuleType(_owner(name))
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)  # tracebacks show this text
    exec(compile(text, path, "exec"), module.__dict__)
