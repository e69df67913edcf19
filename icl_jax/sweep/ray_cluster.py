"""A Ray cluster as sweeps see it: how to reach one, and what a task gets of a machine."""

import contextlib
import dataclasses
import logging
import math
import os
import socket
from collections.abc import Callable
from typing import Any

CHIPS = ("TPU", "GPU")  # Ray's names; of the two, a task takes what comes first in the cluster
_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}  # TPU chips of a task, as they lie on their host
_CARRIED = ("TFDS_DATA_DIR", "JAX_COMPILATION_CACHE_DIR")  # of the driver's environment: paths on shared disks
_ANSWER_S = 10.0
_STORE_BYTES = 80 * 2**20  # Ray's object store, of which next to nothing is needed


def import_ray() -> Any:
    """Returns the module ray. ValueError when it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--engine=ray needs Ray ({error}): pip install 'icl_jax[ray]'") from None
    return ray


def connect(address: str = "") -> None:
    """Joins the cluster at HOST:PORT; "": that of RAY_ADDRESS or of this machine, and where none is, or "local", one
    started here for as long as this process lives. Ray's own output stays in its log files.

    ValueError when no cluster answers.
    """
    address = address or os.environ.get("RAY_ADDRESS", "auto")
    if address not in ("auto", "local"):
        _check_answers(address)
        _init(address=address)
        return
    if address == "auto":
        with contextlib.suppress(ConnectionError):
            _init(address=address)
            return
    _init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES)


def _init(**options) -> None:
    ray = import_ray()
    with contextlib.suppress(AttributeError):  # a paragraph for each process that dies; Ray has no setting for it
        ray._private.worker._worker_logs_enabled = False
    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes, and then end the process."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address} ({error}): give HOST:PORT as `ray start --head` prints it, or leave "
            "out --ray_address to start one here"
        ) from None


def machines() -> list[dict[str, float]]:
    """Returns the resources (by Ray's names: CPU, GPU, TPU, ...) of each living machine."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]


@dataclasses.dataclass(frozen=True)
class Share:
    """What a task gets: cores and, of a kind in CHIPS, whole chips (kind "": it trains on its cores)."""

    cpus: int
    chips: int = 0
    kind: str = ""

    def task(self, function: Callable) -> Any:
        """Returns a Ray task that runs the function in a fresh process, in which JAX sees the share alone. One whose
        process dies is not run again: who started it hears of that."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "max_calls": 1, "max_retries": 0}
        if self.kind == "GPU":
            options["num_gpus"] = self.chips
        elif self.kind:
            options["resources"] = {self.kind: self.chips}
        return import_ray().remote(**options, runtime_env={"env_vars": self.environment()})(function)

    def environment(self) -> dict[str, str]:
        """Returns the environment variables of a task."""
        carried = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        if self.kind == "TPU":  # a host of a slice would wait for the others: here it is a machine by itself
            return carried | {"TPU_CHIPS_PER_HOST_BOUNDS": _BOUNDS[self.chips], "TPU_HOST_BOUNDS": "1,1,1"}
        if self.kind:
            return carried
        # as `devices.configure_cpu`, for the task's cores; Ray fills in the machine's own flags, and XLA heeds the last
        flags = f"--xla_force_host_platform_device_count={self.cpus} --xla_cpu_multi_thread_eigen=false"
        return carried | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "${XLA_FLAGS} " + flags}

    def places(self, found: list[dict[str, float]]) -> int:
        """Returns how many tasks the machines have room for at a time."""
        return sum(
            int(min(m.get("CPU", 0) // self.cpus, m.get(self.kind, 0) // self.chips if self.chips else math.inf))
            for m in found
        )

    def __str__(self) -> str:
        return f"{self.chips} {self.kind}(s)" if self.kind else f"{self.cpus} core(s)"


def choose_share(found: list[dict[str, float]], chips: int = 0, cpus: int = 0) -> Share:
    """Returns what a task gets: the chips or the cores asked for, else all chips of the smallest machine that has
    any, else all its cores. ValueError when no machine has as many."""
    kind = next((kind for kind in CHIPS if any(machine.get(kind) for machine in found)), "")
    if chips and not kind:
        raise ValueError(f"--chips={chips}: no machine of the cluster has TPUs or GPUs; use --cpus, or add one")
    if kind and (chips or not cpus):
        share = Share(cpus or 1, chips or _smallest(found, kind), kind)
    else:
        share = Share(cpus or _smallest(found, "CPU"))
    if not share.places(found):
        raise ValueError(
            f"a task of {share.cpus} cores and {share.chips} chips: no machine has as many; they have {_said(found)}"
        )
    if kind == "TPU" and share.chips and share.chips not in _BOUNDS:
        raise ValueError(f"--chips={share.chips}: a task can have {', '.join(map(str, _BOUNDS))} TPU chips of a host")
    return share


def _smallest(found: list[dict[str, float]], resource: str) -> int:
    return int(min((machine[resource] for machine in found if machine.get(resource, 0) >= 1), default=1))


def _said(found: list[dict[str, float]]) -> str:
    return "; ".join(
        ", ".join(f"{machine[name]:g} {name}" for name in ("CPU", *CHIPS) if machine.get(name)) or "nothing"
        for machine in found
    )
