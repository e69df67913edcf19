"""How many members fit: the compiler's own count (or an estimate) at two widths, a straight line between them."""

import dataclasses
import hashlib
import importlib.metadata
import resource

import jax

from icl_jax.devices import cache_dir, memory_limit
from icl_jax.members import Member
from icl_jax.runs.experiment import Experiment
from icl_jax.storage.files import write_text
from icl_jax.sweep.liveness import estimated_bytes
from icl_jax.training.parallel import DeviceLayout
from icl_jax.training.population import Population, program_bytes

SHARE = 0.8  # of a device's memory that a population may take; the rest is the runtime's, and fragmentation


def budget(num_devices: int) -> int | None:
    """Returns the bytes that a population may take on one device, None where nothing is known."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(SHARE * stats["bytes_limit"])
    limit = memory_limit()
    if limit is None:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(SHARE * max(limit - used, 0) / num_devices)


def bytes_at(experiment: Experiment, width: int, compiles: bool = True) -> int:
    """Returns the peak bytes on one device of the programs of a population `width` members wide there.

    Compiling them takes a while, so the number is kept in the user's cache directory. compiles False: where it is not
    there yet, an estimate (`liveness`).
    """
    layout = experiment.program.layout
    count = width * layout.num_groups
    population = _resized(experiment, DeviceLayout(count, layout.num_devices, layout.batch_shards)).population()
    path = cache_dir() / "memory" / f"{_key(population)}.txt"
    if path.is_file():
        return int(path.read_text())
    if not compiles:
        return estimated_bytes(population)
    needed = program_bytes(population)
    write_text(path, str(needed))
    return needed


def _key(population: Population) -> str:
    """Of what decides the programs: specs, shapes, versions and the kind of device."""
    shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), (population.inputs, population.shared))
    versions = [importlib.metadata.version(name) for name in ("icl_jax", "jax", "jaxlib")]
    program, device = population.program, jax.devices()[0].device_kind
    facts = (
        program.spec,
        program.layout,
        program.decays,
        program.table_schedule,
        program.accumulate,
        shapes,
        versions,
        device,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _resized(experiment: Experiment, layout: DeviceLayout) -> Experiment:
    count = layout.num_members
    index = [i % len(experiment.members) for i in range(count)]
    members: list[Member] = [experiment.members[i] for i in index]
    program = dataclasses.replace(experiment.program, layout=layout)
    return dataclasses.replace(experiment, members=members, program=program)


def fitting_width(experiment: Experiment, limit: int | None, compiles: bool = True) -> tuple[int, int]:
    """Returns (members per device that fit, at most those there are; bytes on a device at that width).

    compiles: as in `bytes_at`. ValueError when not even one member fits.
    """
    width = experiment.program.layout.width
    needed = bytes_at(experiment, width, compiles)
    if limit is None or needed <= limit:
        return width, needed
    one = bytes_at(experiment, 1, compiles)
    if one > limit:
        raise ValueError(
            f"one member needs {one / 2**30:.2f} GiB on a device, {limit / 2**30:.2f} GiB are free for it: use a "
            "smaller model or batch, runtime.batch_shards, or another machine"
        )
    each = (needed - one) / max(width - 1, 1)
    fits = max(1, int((limit - one) / each) + 1)
    return min(fits, width - 1), int(one + each * (fits - 1))
