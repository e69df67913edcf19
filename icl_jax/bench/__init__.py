"""`icl bench`: speed, measured. Ratios come from one run of one benchmark: machines are noisy."""

from icl_jax.bench.run import run_benchmarks

__all__ = ["run_benchmarks"]
