"""`icl eval`: what there is, and a checkpoint scored on it. The listing does without JAX."""

from argparse import Namespace

from rich.console import Console
from rich.table import Table

from icl_jax.evals.suites import SUITES
from icl_jax.registry import components


def evaluate(words: list[str], flags: Namespace) -> None:
    """icl eval RUN"""
    if not flags.list and not words:
        raise ValueError("icl eval: RUN is missing; name a run's directory, such as: icl eval runs/quickstart")
    if flags.list and (
        given := [*words, *(f"--{n}" for n in ("suites", "step", "num_sequences") if getattr(flags, n))]
    ):
        raise ValueError(f"icl eval --list says what there is, whatever the run; leave {given[0]!r} out")
    console = Console(width=max(Console().width, 170))  # a narrow terminal wraps: numbers are not cut
    for table in [suites_table(), evals_table()] if flags.list else _scored(words[0], flags):
        console.print(table)


def _scored(directory: str, flags: Namespace) -> list[Table]:
    import pyarrow as pa  # these import JAX
    import pyarrow.compute as pc

    from icl_jax.members import varied
    from icl_jax.report.suites import eval_table, suite_table
    from icl_jax.runs import api

    run = api.load_run(directory)
    table = api.evaluate(run, flags.suites or None, step=flags.step, num_sequences=flags.num_sequences or None)
    beside = {*run.config.evals.more, *components("eval")}
    of = {name: table.filter(pc.field("suite") == name) for name in pc.unique(table["suite"]).to_pylist()}
    differ = varied(run.members)
    suites = [rows for name, rows in of.items() if name not in beside]
    tables = [suite_table(pa.concat_tables(suites), differ)] if suites else []
    tables += [eval_table(of[name], differ) for name in sorted(of.keys() & beside)]
    settings = max(len({tuple(m.settings()[name] for name in differ) for m in run.members}), 1)
    each = f"{len(run.members) // settings} members each" if differ else f"{len(run.members)} members"
    size = flags.num_sequences or run.config.evals.num_sequences
    tables[
        0
    ].title = f"step {pc.max(table['step']).as_py():,}; means over {each}; {size} sequences per suite and member"
    tables[0].title_justify = "left"
    return tables


def suites_table() -> Table:
    """Returns the named suites with their facts, for a terminal."""
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for title in ("suite", "context", "counts", "argmax over", "floor: best of", "ceiling"):
        shown.add_column(title)
    for name, suite in SUITES.items():
        shown.add_row(name, suite.context, suite.counts, suite.argmax, ", ".join(suite.floor), ", ".join(suite.ceiling))
    return shown


def evals_table() -> Table:
    """Returns the evals beside the suites with their options, for a terminal."""
    shown = Table(header_style="bold", box=None, pad_edge=False, title="in evals.more", title_justify="left")
    for title in ("eval", "measures", "options"):
        shown.add_column(title)
    for name, component in components("eval").items():
        options = (f"{field} {o.default!r}: {o.doc}" for field, o in component.options.items())
        shown.add_row(name, component.doc, "; ".join(options))
    return shown
