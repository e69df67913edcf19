"""Noticing that memory ran out: the runtime's own error, or the kernel's killer."""

import pathlib

_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
COUNTERS = (
    "/sys/fs/cgroup/memory.events",  # this container's, cgroup v2
    "/sys/fs/cgroup/memory/memory.oom_control",  # this container's, cgroup v1
    "/proc/vmstat",  # the whole machine's
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that a device or the host ran out of memory."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS)


def kernel_kills() -> int:
    """Returns how often the kernel has killed a process for its memory, in this container where it counts
    that, else on this machine; 0 where it counts nothing."""
    for counter in COUNTERS:
        path = pathlib.Path(counter)
        counts = dict(line.split()[:2] for line in path.read_text().splitlines()) if path.is_file() else {}
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0
