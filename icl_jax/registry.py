"""What there is to choose from: every component under its role and name, declared without JAX.

A component says what it needs to be chosen, checked and listed: its own options, the hypers it reads and when,
its checks, its sites, and what builds it. Who reads a hyper, which values a field takes and which groups weight
decay knows are derived from that. The package's own declarations are in the modules `declared` of its rooms; a
component of one's own is `register`ed the same way.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from icl_jax.names import suggest
from icl_jax.spec import HYPERS, SECTIONS, Hyper, Option, PartsSpec, RunSpec, options_of

_DECLARED = tuple(f"icl_jax.{room}.declared" for room in ("data", "models", "training", "evals", "dissect"))

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Reads:
    """When a component reads a hyper or a field: `when` of the run's spec, and in words what that takes.

    >>> from icl_jax import registry
    >>> clips = registry.find("optimiser", "adam").reads["clip_norm"]
    >>> clips.needs
    'train.clip True'
    """

    when: Callable[[RunSpec], bool]
    needs: str


@dataclass(frozen=True, kw_only=True)
class Component:
    """One implementation of a role.

    build: what builds it, "module:function" or the function itself. Its arguments are, for an objective, the spec of
    the run; for a schedule (spec of training, hypers, step from 1 as float, steps of warm-up, at least 1) -> learning
    rate; for the other roles see their class. options: fields of its own, set in a config as options.ROLE.FIELD.
    hypers: those that it may read, all of them; reads: of these, the ones that it reads in some specs only. sections:
    of the config that decide it, beside its name and its options, whole ("task") or by field ("model.width"); fields:
    those that it reads in some specs only, by field.
    checks: functions of the spec that raise ValueError for what cannot be built.

    >>> from icl_jax import registry
    >>> cosine = registry.find("schedule", "cosine")
    >>> cosine.build, sorted(cosine.hypers)
    ('icl_jax.training.optim:cosine', ['final_lr_fraction', 'learning_rate', 'warmup_steps'])
    """

    role: str
    name: str
    doc: str
    build: str | Callable = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    hypers: Mapping[str, Hyper] = field(default_factory=dict)
    reads: Mapping[str, Reads] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    fields: Mapping[str, Reads] = field(default_factory=dict)
    checks: tuple[Callable[[RunSpec], None], ...] = ()

    def builder(self) -> Callable:
        """Returns what builds the component; imports its module.

        >>> from icl_jax import registry
        >>> registry.find("schedule", "cosine").builder().__name__
        'cosine'
        """
        return load(self.build)


@dataclass(frozen=True, kw_only=True)
class SourceComponent(Component):
    """Where sequences come from. build(spec, members) -> `training.protocols.Source`.

    parts: roles that it needs a component of (exemplars: a bank). digest: spec -> digest of the data it stands on.
    resolve: spec -> spec, in which defaults that depend on the machine are concrete. room: (spec, largest value of
    each hyper) -> fields of `task` raised to what that needs in the program. tables: hypers that decide what `prepare`
    gives; suites: whether the suites of `icl_jax.evals` can be drawn from it, as from `data.source.Exemplars`.

    >>> from icl_jax import registry
    >>> source = registry.find("source", "exemplars")
    >>> source.parts, source.suites
    (('bank',), True)
    """

    digest: str | Callable
    parts: tuple[str, ...] = ()
    resolve: str | Callable = ""
    room: Callable[[RunSpec, Mapping[str, float]], dict[str, Any]] | None = None
    tables: tuple[str, ...] = ()
    suites: bool = False


@dataclass(frozen=True, kw_only=True)
class BankComponent(Component):
    """Which items exist. build(bank spec) -> `data.banks.Bank`; render: from ids to items, see `data.banks.render`
    (symbols: their ids are the items). Its fields are those of section `bank`, all of them unless `sections` says
    which.

    item_kind: image | vector | symbol. makes_fresh: it can make up classes; own_noise: its items have noise of their
    own (hyper noise_scale); num_classes: the default (0: as many as its data have); reloads: its file may change
    between two runs of a process; of_members: build takes the members too, as what they take decides it. find: bank
    spec -> the same with where its data lie on this machine, ValueError where they are not; prepare: directory -> what
    was done there to make them, in words; detail: for listings.

    >>> from icl_jax import registry
    >>> {name: bank.item_kind for name, bank in registry.components("bank").items()}
    {'omniglot': 'image', 'glyphs': 'image', 'gaussian': 'vector', 'symbols': 'symbol', ...}
    """

    sections: tuple[str, ...] = ("bank",)
    item_kind: str
    render: str | Callable = ""
    find: str | Callable = ""
    prepare: str | Callable = ""
    makes_fresh: bool = False
    own_noise: bool = False
    num_classes: int = 0
    reloads: bool = False
    of_members: bool = False
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelComponent(Component):
    """A part of the network with parameters.

    An encoder: build(spec of the model, shape of an item, number of symbols, width, options) -> an NNX module, called
    with (items, train, mean). A head: build(spec of the model, width, vocab_size, options) -> `models.build.Head`.
    decay: part of a parameter's path -> group of weight decay ("*": all others), with a hyper decay_GROUP each.
    batch_stats: it keeps moving averages of batch moments.

    >>> from icl_jax import registry
    >>> [name for name, encoder in registry.components("encoder").items() if encoder.batch_stats]
    ['resnet']
    >>> registry.find("core", "transformer").decay  # its MLPs by hyper decay_mlp, all else by decay_attention
    {'mlp': 'mlp', '*': 'attention'}
    """

    decay: Mapping[str, str] = field(default_factory=dict)
    batch_stats: bool = False


@dataclass(frozen=True, kw_only=True)
class FrontendComponent(ModelComponent):
    """From inputs to tokens. build(spec of the model, facts of the inputs, options) -> `models.build.Frontend`.

    parts: roles that it needs a component of, each an attribute of the same name.

    >>> from icl_jax import registry
    >>> registry.find("frontend", "pairs").parts
    ('encoder',)
    """

    parts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CoreComponent(ModelComponent):
    """From tokens to hidden states. build(spec of the model, width, options) -> `models.build.Core`.

    sites: (spec of the model, options) -> axes of each site that it taps. state_size: (spec of the model, options,
    width, tokens) -> numbers carried per sequence from one token to the next; flops: the same arguments ->
    floating-point operations per token, forward, in a sequence of so many tokens. rotary: it can have rotary positions;
    cached: it is called with a `models.cache.Cache` too.

    >>> from icl_jax import registry
    >>> transformer = registry.find("core", "transformer")
    >>> options = registry.resolved_options(transformer, {})
    >>> transformer.sites(config.model, options)["attn_probs"]
    ('layer', 'sequence', 'head', 'query', 'key')
    >>> transformer.flops(config.model, options, 16, 9)  # width 16, 9 tokens; per token
    5248
    """

    sites: Callable[[Any, Mapping[str, Any]], Mapping[str, Axes]]
    state_size: Callable[[Any, Mapping[str, Any], int, int], int]
    flops: Callable[[Any, Mapping[str, Any], int, int], int]
    rotary: bool = False
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimiserComponent(Component):
    """An optimiser of optax. optax_name: its name there; arguments: hyper -> its argument there.

    >>> from icl_jax import registry
    >>> registry.find("optimiser", "momentum").arguments
    {'b1': 'momentum'}
    """

    optax_name: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvalComponent(Component):
    """A measurement beside the suites. build(name, spec of the run, source, options) -> `training.protocols.Eval`.

    suites: options -> names of the suites on whose sequences it looks, which the run must have. digest: options -> of
    the data that it stands on, such as a file of prompts. The two, and its options, are what its numbers mean.

    >>> from icl_jax import registry
    >>> registry.find("eval", "positions").doc
    "Loss and accuracy at each item of a suite's sequences, from the first of the context to the query."
    """

    suites: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    digest: Callable[[Mapping[str, Any]], str] | None = None


_COMPONENTS: dict[tuple[str, str], Component] = {}
# role -> (section, field) of the config that names its component
FIELDS = {
    o.role: (section, name)
    for section, spec in {**SECTIONS, "parts": PartsSpec}.items()
    for name, o in options_of(spec).items()
    if o.role
}


_CLASSES: dict[str, type] = {
    "source": SourceComponent,
    "bank": BankComponent,
    "frontend": FrontendComponent,
    "encoder": ModelComponent,
    "core": CoreComponent,
    "head": ModelComponent,
    "objective": Component,
    "optimiser": OptimiserComponent,
    "schedule": Component,
    "eval": EvalComponent,
}
EVAL_FIELDS = ("use", "every")  # of an eval in a config, beside the options of its component
_WITHOUT_OPTIONS = ("bank", "optimiser", "schedule")  # nobody hands theirs on


def register(component: Component) -> Component:
    """Adds a component, and the hypers that nobody has declared yet; returns it.

    One that the same function builds takes the place of the former, so that a file may be read twice. Raises
    ValueError for a name in use, for what a component of its role cannot say, and for a hyper that another component
    declares differently.

    >>> from icl_jax.registry import Component, components, register, shared
    >>> half = lambda train, h, step, warmup: h["learning_rate"] / 2
    >>> reads = shared("learning_rate")
    >>> added = register(Component(role="schedule", name="half", doc="Half the peak.", build=half, hypers=reads))
    >>> list(components("schedule"))  # as config.train.schedule may name them
    ['constant', 'rsqrt', 'cosine', 'linear', 'half']
    """
    if not _origin(component).startswith("icl_jax.") and not isinstance(component, OptimiserComponent):
        _load_declared()  # the package's own names are taken
    _check_declaration(component)
    key = (component.role, component.name)
    if key in _COMPONENTS and _origin(_COMPONENTS[key]) != _origin(component):
        raise ValueError(f"there is a {component.role} {component.name!r} already; give yours another name")
    for name, hyper in component.hypers.items():
        if HYPERS.get(name, hyper) != hyper:
            raise ValueError(f"{component.role} {component.name!r} declares hyper {name!r} otherwise than others do")
    if owner := _OWNER[-1]:
        _OWNERS[key] = owner
    HYPERS.update(component.hypers)
    _COMPONENTS[key] = component
    return component


_OWNER = [""]  # of what is registered now; the last one counts
_OWNERS: dict[tuple[str, str], str] = {}  # role, name -> owner


@contextlib.contextmanager
def owned_by(owner: str) -> Iterator[None]:
    """Notes that what is registered in the block belongs to an owner, for `forget`. The package's own comes first.

    >>> from icl_jax import registry
    >>> with registry.owned_by("me"):
    ...     added = registry.register(registry.Component(role="schedule", name="half", doc="Half.", build="mine:half"))
    >>> registry.owner_of(added), registry.roles_of("me")
    ('me', {'schedule'})
    """
    _load_declared()
    _OWNER.append(owner)
    try:
        yield
    finally:
        _OWNER.pop()


def forget(owner: str) -> None:
    """Removes the components of an owner, and the hypers that no other component declares.

    >>> from icl_jax import registry
    >>> with registry.owned_by("me"):
    ...     added = registry.register(registry.Component(role="schedule", name="half", doc="Half.", build="mine:half"))
    >>> registry.forget("me")
    >>> list(registry.components("schedule"))
    ['constant', 'rsqrt', 'cosine', 'linear']
    """
    brought = _brought({owner})
    for key in [key for key, whose in _OWNERS.items() if whose == owner]:
        del _COMPONENTS[key], _OWNERS[key]
    declared = {name for component in _COMPONENTS.values() for name in component.hypers}
    for name in brought - declared:
        del HYPERS[name]


def _brought(owners: set[str]) -> set[str]:
    """The hypers that some owners' components declare and none of the package's does."""
    of_package = {name for key, c in _COMPONENTS.items() if key not in _OWNERS for name in c.hypers}
    return {n for key, c in _COMPONENTS.items() if _OWNERS.get(key) in owners for n in c.hypers} - of_package


def brought_by_others(owners: Iterable[str]) -> set[str]:
    """Returns the hypers that other owners than these have brought, and these do not declare.

    >>> from icl_jax import registry
    >>> entry = plugins.load(plugin)
    >>> registry.brought_by_others([])
    {'power'}
    """
    mine = set(owners)
    return _brought(set(_OWNERS.values()) - mine) - _brought(mine)


def roles_of(owner: str) -> set[str]:
    """Returns the roles of which an owner has registered components.

    >>> from icl_jax import registry
    >>> entry = plugins.load(plugin)
    >>> registry.roles_of("icl_plugin_falling")
    {'schedule'}
    """
    return {role for (role, _), whose in _OWNERS.items() if whose == owner}


def owner_of(component: Component) -> str:
    """Returns the owner of a component, "" for none.

    >>> from icl_jax import registry
    >>> entry = plugins.load(plugin)
    >>> [registry.owner_of(registry.find("schedule", name)) for name in ("falling", "cosine")]
    ['icl_plugin_falling', '']
    """
    return _OWNERS.get((component.role, component.name), "")


def _origin(component: Component) -> str:
    """What builds a component, in words."""
    build = component.build or getattr(component, "optax_name", "")
    return build if isinstance(build, str) else f"{build.__module__}.{build.__qualname__}"


def _check_declaration(component: Component) -> None:
    """Raises ValueError for what a component of its role cannot say."""
    who = f"{component.role} {component.name!r}"
    if component.role not in _CLASSES:
        raise ValueError(
            f"component {component.name!r}: unknown role {component.role!r}{suggest(component.role, _CLASSES)}"
        )
    if not isinstance(component, _CLASSES[component.role]):
        raise ValueError(f"{who} is a {type(component).__name__}: declare a {_CLASSES[component.role].__name__}")
    if not _origin(component):
        raise ValueError(f"{who} does not say what builds it; give build")
    if component.options and component.role in _WITHOUT_OPTIONS:
        raise ValueError(f"{who} declares options, which nothing hands to a {component.role}; read a hyper or a field")
    for name in component.options.keys() & set(EVAL_FIELDS if component.role == "eval" else ()):
        raise ValueError(f"{who} declares option {name!r}, which every eval has; give it another name")
    for name, option in component.options.items():
        option_value(f"default of option {name!r} of {who}:", option.default, option)
    decays = {f"decay_{group}" for group in getattr(component, "decay", {}).values()}
    read = decays | component.reads.keys() | {*getattr(component, "tables", ()), *getattr(component, "arguments", ())}
    for name in read - component.hypers.keys():
        raise ValueError(f"{who} reads hyper {name!r} and does not declare it")
    fields = {f"{section}.{name}" for section, spec in SECTIONS.items() for name in options_of(spec)}
    for name in (*component.sections, *component.fields):
        if name not in {*SECTIONS, *fields}:
            raise ValueError(
                f"{who} reads {name!r}, which no section of a config is{suggest(name, [*SECTIONS, *fields])}"
            )
    for role in getattr(component, "parts", ()):
        if role not in FIELDS:
            raise ValueError(f"{who} needs a component of unknown role {role!r}{suggest(role, FIELDS)}")


def shared(*names: str) -> dict[str, Hyper]:
    """Returns hypers that exist, by name, for a component that reads them too. ValueError for one that does not.

    >>> from icl_jax import registry
    >>> registry.shared("learning_rate", "warmup_steps")["warmup_steps"].doc
    'steps of linear warm-up'
    """
    if unknown := [name for name in names if name not in HYPERS]:
        raise ValueError(f"there is no hyper {unknown[0]!r}{suggest(unknown[0], HYPERS)}")
    return {name: HYPERS[name] for name in names}


def load(target: str | Callable) -> Callable:
    """Returns the function "module:function" names, or the function itself. ValueError for another text.

    >>> from icl_jax import registry
    >>> registry.load("math:sqrt")(4)
    2.0
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    if not name:
        raise ValueError(f"{target!r} names no function; write it as module:function")
    return getattr(importlib.import_module(module), name)


def _load_declared() -> None:
    for module in _DECLARED:
        importlib.import_module(module)


def components(role: str) -> dict[str, Any]:
    """Returns the components of a role by name, in the order of their registration.

    >>> from icl_jax import registry
    >>> list(registry.components("core"))
    ['transformer', 'lstm', 'gru', 'rnn']
    """
    _load_declared()
    return {name: c for (of, name), c in _COMPONENTS.items() if of == role}


def find(role: str, name: str) -> Any:
    """Returns a component. ValueError, with the nearest name, where there is none.

    >>> from icl_jax import registry
    >>> registry.find("core", "transformer").doc
    'Causal transformer, pre-norm or without norms, with MLPs or attention only.'
    >>> registry.find("core", "transfomer")
    Traceback (most recent call last):
        ...
    ValueError: unknown model.core 'transfomer'; did you mean 'transformer'?
    """
    known = components(role)
    if name not in known:
        where = ".".join(FIELDS[role]) if role in FIELDS else role
        raise ValueError(f"unknown {where} {name!r}{suggest(name, known) if known else '; none is registered'}")
    return known[name]


def chosen(spec: RunSpec) -> dict[str, Any]:
    """Returns the component of each role that a run has.

    >>> from icl_jax import registry
    >>> from icl_jax.runs.config import run_spec
    >>> {role: component.name for role, component in registry.chosen(run_spec(config)).items()}
    {'source': 'exemplars', 'frontend': 'pairs', 'core': 'transformer', 'head': 'linear', 'objective': 'labels',
     'optimiser': 'adam', 'schedule': 'constant', 'bank': 'glyphs', 'encoder': 'linear'}
    """
    roles = ["source", "frontend", "core", "head", "objective", "optimiser", "schedule"]
    found = {}
    for role in roles:
        section, name = FIELDS[role]
        found[role] = find(role, getattr(getattr(spec, section), name))
        roles += getattr(found[role], "parts", ())  # the loop goes on with them
    return found


def evals_of(spec: RunSpec) -> list[EvalComponent]:
    """Returns the components of a run's evals beside the suites."""
    return [find("eval", more.use) for _, more in spec.evals.more]


def has_batch_stats(spec: RunSpec) -> bool:
    """Returns whether a run's network keeps moving averages of batch moments."""
    return any(getattr(component, "batch_stats", False) for component in chosen(spec).values())


def resolved_options(component: Component, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all options of a component: the values that were set, defaults else."""
    return {name: o.default for name, o in component.options.items()} | dict(values)


def check_options(where: str, spec: Any) -> None:
    """Raises ValueError for a field of a spec outside its choices or below its least value."""
    for name, known in options_of(type(spec)).items():
        check_option(f"{where}.{name}", getattr(spec, name), known)


def check_option(where: str, value: Any, known: Option) -> None:
    """Raises ValueError for a value that an option does not take."""
    if known.choices and value not in known.choices:
        raise ValueError(f"unknown {where} {value!r}{suggest(str(value), map(str, known.choices))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} {value} is no finite number; give one")
    if known.least is not None and value < known.least:
        raise ValueError(f"{where} {value} must be at least {known.least}; raise it")
    if known.most is not None and value > known.most:
        raise ValueError(
            f"{where} {value:,} is more than {known.most:,}, the most that any machine could hold; lower it"
        )


def option_value(where: str, value: Any, known: Option) -> Any:
    """Returns a value of an option of a component's own as the option's default is typed, checked: numbers of numpy as
    Python's, lists as tuples all the way down. ValueError for a value of another type."""
    value, kind = _plain(value), type(known.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{where} {value!r} is no {kind.__name__}, as its default {known.default!r} is")
    check_option(where, value, known)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    return value.item() if hasattr(value, "item") else value


def check_chosen(spec: RunSpec) -> None:
    """Raises ValueError for components and options that do not exist, and what the components' own checks refuse."""
    found = chosen(spec)
    for role, values in spec.options:
        if role not in found:
            raise ValueError(f"options.{role}: this run has no component of that role{suggest(role, found)}")
        for name, _ in values:
            if name not in found[role].options:
                known = found[role].options
                close = suggest(name, known) if known else "; it has none"
                raise ValueError(f"options.{role}.{name}: {role} {found[role].name!r} has no such option{close}")
    for section in SECTIONS:
        check_options(section, getattr(spec, section))
    for component in [*found.values(), *evals_of(spec)]:
        for check in component.checks:
            check(spec)


def unread_fields(spec: RunSpec) -> dict[str, str]:
    """Returns the fields that are set in a spec though nothing in it reads them, with what it would take, or who is
    there.

    >>> from icl_jax import registry
    >>> from icl_jax.runs.config import run_spec
    >>> registry.unread_fields(run_spec(icl_jax.override(config, {"model.concat_mix": False})))
    {'model.concat_mix': "it needs model.labels 'concatenated'"}
    """
    found, read = chosen(spec), fields_read(spec)
    parts = ", ".join(f"{role} {c.name!r}" for role, c in found.items() if role in _WITH_SECTIONS)
    unread = {}
    for section, kind in SECTIONS.items():
        for name in options_of(kind):
            path, is_set = f"{section}.{name}", getattr(getattr(spec, section), name) != getattr(kind(), name)
            if is_set and not {section, path} & read:
                needs = dict.fromkeys(c.fields[path].needs for c in found.values() if path in c.fields)
                unread[path] = f"it needs {' or '.join(needs)}" if needs else parts
    return unread


def fields_read(spec: RunSpec) -> set[str]:
    """Returns the fields, and the whole sections, that something in a spec reads.

    >>> from icl_jax import registry
    >>> from icl_jax.runs.config import run_spec
    >>> sorted(name for name in registry.fields_read(run_spec(config)) if name.startswith("bank"))
    ['bank.augment', 'bank.exemplars', ..., 'bank.name', 'bank.num_classes', 'bank.num_exemplars', 'bank.seed']
    """
    found = chosen(spec)
    everything = [*found.values(), *evals_of(spec)]
    read = {section for component in everything for section in component.sections}
    read |= {name for c in everything for name, reads in c.fields.items() if reads.when(spec)}
    return read | {".".join(FIELDS[role]) for role in found} | _OF_ALL


def check_fields(spec: RunSpec) -> None:
    """Raises ValueError for a field that is set though nothing in this spec reads it."""
    for name, why in unread_fields(spec).items():
        raise ValueError(f"{name} is set, and nothing here reads it ({why}); leave it out")


# Fields that the network and the trainer read, whatever their components.
_OF_ALL = {"model.precision", "model.sync_batch_stats", "train"}
_WITH_SECTIONS = ("source", "bank", "frontend", "encoder", "core", "head", "objective")


def unread_hypers(spec: RunSpec, names: Iterable[str]) -> dict[str, str]:
    """Returns those of the hypers that nothing in a spec reads, with what it would take to have each of them read.

    >>> from icl_jax import registry
    >>> from icl_jax.runs.config import run_spec
    >>> registry.unread_hypers(run_spec(config), ["learning_rate", "clip_norm"])
    {'clip_norm': 'train.clip True'}
    """
    found = [*chosen(spec).values(), *evals_of(spec)]
    unread = {}
    for name in names:
        readers = [c for c in found if name in c.hypers]
        if any(name not in c.reads or c.reads[name].when(spec) for c in readers):
            continue
        unread[name] = " or ".join(dict.fromkeys(c.reads[name].needs for c in readers)) or _who_reads(name)
    return unread


def _who_reads(hyper: str) -> str:
    """Fields that choose a component that reads a hyper: "train.optimiser 'adam', 'nadam'"."""
    by_field: dict[str, list[str]] = {}
    for role in _CLASSES:
        names = [repr(name) for name, c in components(role).items() if hyper in c.hypers]
        if names:
            by_field[".".join(FIELDS.get(role, ("evals", "more")))] = names
    return "; or ".join(f"{where} {', '.join(names)}" for where, names in by_field.items())


def decay_hypers() -> set[str]:
    """Returns the hypers of all groups of weight decay that some component has."""
    everything = [c for role in FIELDS for c in components(role).values()]
    return {f"decay_{group}" for c in everything for group in getattr(c, "decay", {}).values()}
