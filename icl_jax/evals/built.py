"""The evals beside the suites that a spec names, built and checked before anything is compiled."""

from icl_jax.names import check_file_name
from icl_jax.registry import find, resolved_options
from icl_jax.spec import RunSpec
from icl_jax.storage.arrays import MOST, size_of
from icl_jax.storage.columns import REDUCTION, coordinates


def build_evals(spec: RunSpec, source) -> tuple:
    """Returns the evals beside the suites (`icl_jax.training.protocols.Eval`). source: of the run."""
    return tuple(_build(name, more, spec, source) for name, more in spec.evals.more)


def _build(name: str, more, spec: RunSpec, source):
    component = find("eval", more.use)
    built = component.builder()(name, spec, source, resolved_options(component, dict(more.options)))
    if built.name != name:
        raise ValueError(
            f"evals.more.{name}: eval {more.use!r} calls itself {built.name!r}; its builder is told {name!r}"
        )
    return built


def check_evals(evals: tuple) -> None:
    """Raises ValueError for two evals of one name and for axes that the table cannot have as columns."""
    names = [e.name for e in evals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two evals are called {twice[0]!r}; give one of them another name")
    for e in evals:
        for metric, axes in e.axes.items():
            for axis in axes:
                _check_axis(f"eval {e.name!r}: axis {axis!r} of {metric}", axis, e.coords.get(axis, ()), e.name)
            if size_of({axis: e.coords[axis] for axis in axes}) > MOST:
                check_file_name(f"eval {e.name!r}: {metric} is kept in a file of its name; the metric", metric)


def _check_axis(which: str, axis: str, labels: tuple, name: str) -> None:
    is_suites = (name, axis) == ("suites", "suite")
    if axis == REDUCTION or not (coordinates([axis]) or is_suites):
        raise ValueError(f"{which} is called as a column of the table; rename it")
    if not labels:
        raise ValueError(f"{which} has no labels; give it some in coords")
    if len(set(labels)) != len(labels):
        raise ValueError(f"{which} has the same label twice; a row must say which it is")


def axes_of(evals: tuple) -> dict[str, dict[str, dict[str, tuple]]]:
    """Returns suite or eval -> metric -> axis -> labels."""
    found = {}
    for e in evals:
        metrics = {metric: {axis: tuple(e.coords[axis]) for axis in axes} for metric, axes in e.axes.items()}
        if e.name != "suites":
            found[e.name] = metrics
            continue
        own = {metric: {a: labels for a, labels in axes.items() if a != "suite"} for metric, axes in metrics.items()}
        found |= dict.fromkeys(e.coords["suite"], own)
    return found
