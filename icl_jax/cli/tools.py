"""`icl bench` and `icl doctor`: what this machine does and what it offers."""

import importlib.metadata
import platform
from argparse import Namespace

import jax
from rich.console import Console
from rich.table import Table

from icl_jax.bench import run_benchmarks
from icl_jax.data.banks import describe_banks
from icl_jax.devices import cache_dir, compilation_cache, cpu_cores, memory_limit
from icl_jax.runs.rundir import PACKAGES

MORE_PACKAGES = ("ml-collections", "tensorflow-datasets", "pyarrow")


def bench(words: list[str], flags: Namespace) -> None:
    """icl bench [NAME...]"""
    run_benchmarks(words)


def doctor(words: list[str], flags: Namespace) -> None:
    """icl doctor: devices, versions, memory and banks."""
    table = Table(title="icl doctor", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, text in [*_devices(), *_versions()]:
        table.add_row(name, text)
    table.add_section()
    for name, available, detail in describe_banks():
        table.add_row(f"bank {name}", f"{'[green]available[/]' if available else '[yellow]not here[/]'}: {detail}")
    Console().print(table)


def _devices() -> list[tuple[str, str]]:
    devices = jax.devices()
    kinds = ", ".join(sorted({d.device_kind for d in devices}))
    limit = memory_limit()
    rows = [
        ("devices", f"{len(devices)} x {devices[0].platform} ({kinds}), {jax.process_count()} process(es)"),
        ("cores", str(cpu_cores())),
        ("host memory", f"{limit / 2**30:.1f} GiB" if limit else "unknown"),
    ]
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        rows.append(("device memory", f"{stats['bytes_limit'] / 2**30:.1f} GiB each"))
    cache = compilation_cache() or str(cache_dir() / "xla")
    return [*rows, ("compilation cache", cache)]


def _versions() -> list[tuple[str, str]]:
    rows = [("python", platform.python_version())]
    for name in (*PACKAGES, *MORE_PACKAGES):
        rows.append((name, importlib.metadata.version(name)))
    return rows
