"""Noticing that memory ran out: the runtime's own error, or the kernel's killer."""

import pathlib

_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that a device or the host ran out of memory."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS)


def kernel_kills() -> int:
    """Returns how often the kernel has killed a process of this container for its memory (0 where unknown)."""
    path = pathlib.Path("/sys/fs/cgroup/memory.events")
    if not path.is_file():
        return 0
    counts = dict(line.split() for line in path.read_text().splitlines())
    return int(counts.get("oom_kill", 0))
