"""`icl bench`, `icl doctor`."""

from argparse import Namespace

from rich.console import Console

from icl_jax.bench import run_benchmarks
from icl_jax.cli import doctor as checkup


def bench(words: list[str], flags: Namespace) -> None:
    """icl bench [NAME...]"""
    run_benchmarks(words)


def doctor(words: list[str], flags: Namespace) -> None:
    """icl doctor"""
    Console().print(checkup.report())
