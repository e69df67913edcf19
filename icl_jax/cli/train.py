"""`icl train`."""

import sys
from argparse import Namespace

from icl_jax.runs import api
from icl_jax.runs.config import config_of, load_module
from icl_jax.training.parallel import join_processes, primary

STOPPED = 75  # exit code of what a signal ended before its last step ("try again later", sysexits.h)


def train(words: list[str], flags: Namespace) -> None:
    """icl train CONFIG"""
    if flags.distributed:
        join_processes(flags.coordinator, flags.num_processes, flags.process_id)
    elif given := [n for n in ("coordinator", "num_processes", "process_id") if getattr(flags, n) is not None]:
        raise ValueError(f"--{given[0]} is for one of several processes; add --distributed")
    run = api.train(config_of(words[0], flags.set))
    if not primary():
        return
    if hasattr(load_module(words[0])[0], "get_sweep"):
        print(f"{words[0]} defines a sweep too: icl sweep run {words[0]}")
    steps = run.config.train.num_steps
    damage = run.damage() if run.step >= steps else None
    if damage or run.step < steps:
        lacks = f" ({damage})" if damage else ""
        print(f"stopped at step {run.step:,} of {steps:,}{lacks}; the same command goes on from there")
        sys.exit(STOPPED)
    print(run.summary())
    for path in run.figures:
        print(path)
