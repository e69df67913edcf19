"""Which benchmarks there are; their figures are printed as they come."""

import platform

import jax
from rich.console import Console

from icl_jax.bench import base, dissect, generators, population, steps, sweep
from icl_jax.devices import cpu_cores, enable_compilation_cache
from icl_jax.names import suggest

BENCHMARKS = {
    "generators": generators.bench,
    "population": population.bench,
    "steps": steps.bench,
    "sweep": sweep.bench,
    "base": base.bench,
    "dissect": dissect.bench,
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
        console.print(f"{name}: compiling and measuring ...")
        for row in BENCHMARKS[name]():
            console.print(f"  {row.name:<42} {row.value:>12,.1f} {row.unit:<16} {row.note}", soft_wrap=True)
