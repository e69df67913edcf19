"""`icl ...`: commands over the Python interface."""

from icl_jax.cli.main import main

__all__ = ["main"]
