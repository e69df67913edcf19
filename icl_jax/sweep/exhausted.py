"""Noticing that memory ran out, by the runtime's own error or the kernel's killer, and that a disk is full."""

import errno
import pathlib

import jax

# What XLA and the devices' allocators say of memory; "RESOURCE_EXHAUSTED" alone may also be a full disk or a quota.
_MEMORY = ("memory", "allocat", "hbm")
_DISK = ("no space left on device", "disk quota exceeded")
COUNTERS = (
    "/sys/fs/cgroup/memory.events",  # this container's, cgroup v2
    "/sys/fs/cgroup/memory/memory.oom_control",  # this container's, cgroup v1
    "/proc/vmstat",  # the whole machine's
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that a device or the host ran out of memory.

    Only the runtime's own errors count: a full disk or a service's quota may carry the same words.
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = str(error).lower()
        exhausted = "resource_exhausted" in text or "out of memory" in text
        return exhausted and any(word in text for word in _MEMORY) and not any(word in text for word in _DISK)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def is_disk_full(error: BaseException | None) -> bool:
    """Returns whether an error, or one that it came from, means that there is no room on a disk."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(word in str(error).lower() for word in _DISK):
            return True
        error = error.__cause__
    return False


def kernel_kills() -> int:
    """Returns how often the kernel has killed a process for its memory, in this container where it counts
    that, else on this machine; 0 where it counts nothing."""
    for counter in COUNTERS:
        path = pathlib.Path(counter)
        counts = dict(line.split()[:2] for line in path.read_text().splitlines()) if path.is_file() else {}
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0
