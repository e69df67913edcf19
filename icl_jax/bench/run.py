"""Which benchmarks there are, and their table."""

import platform

import jax
from rich.console import Console
from rich.table import Table

from icl_jax.bench import base, generators, population, steps, sweep
from icl_jax.devices import cpu_cores, enable_compilation_cache
from icl_jax.names import suggest

BENCHMARKS = {
    "generators": generators.bench,
    "population": population.bench,
    "steps": steps.bench,
    "sweep": sweep.bench,
    "base": base.bench,
}
ACCELERATOR_ONLY = ("base",)  # run on CPU only when named: hours there


def run_benchmarks(names: list[str]) -> None:
    """Runs the named benchmarks (all by default) and prints their figures as they come."""
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"unknown benchmark {name!r}{suggest(name, BENCHMARKS)}")
    enable_compilation_cache()
    console = Console()
    console.print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {cpu_cores()} cores, {platform.machine()}")
    on_cpu = jax.default_backend() == "cpu"
    chosen = names or [name for name in BENCHMARKS if not (on_cpu and name in ACCELERATOR_ONLY)]
    for name in chosen:
        table = Table("figure", "value", "unit", "note", title=name, title_justify="left")
        for row in BENCHMARKS[name]():
            table.add_row(row.name, f"{row.value:,.1f}", row.unit, row.note)
        console.print(table)
