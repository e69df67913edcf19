"""The one place that says how members and batches lie on devices.

One flat device axis. D devices form D / S groups; a group of S devices shares each of its members'
batches (gradients and batch statistics averaged over the group), and members are spread over groups:
S = 1 is "members over devices", S = D "batch over devices", anything between does both. pmap does not
nest, hence one axis with `axis_index_groups`. Nothing else in the package names a device.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.stages import Wrapped

AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class DeviceLayout:
    """How `num_members` members lie on `num_devices` devices (of all processes)."""

    num_members: int
    num_devices: int
    batch_shards: int

    @property
    def num_groups(self) -> int:
        return self.num_devices // self.batch_shards

    @property
    def width(self) -> int:
        """Members per device, padding included."""
        return -(-self.num_members // self.num_groups)

    def mean(self, tree):
        """Averages a member's values over its devices; called inside the mapped function."""
        if self.batch_shards == 1:
            return tree
        return jax.lax.pmean(tree, AXIS, axis_index_groups=self._device_groups())

    def sum(self, tree):
        """Sums a member's values over its devices; called inside the mapped function."""
        if self.batch_shards == 1:
            return tree
        return jax.lax.psum(tree, AXIS, axis_index_groups=self._device_groups())

    def _device_groups(self) -> list[list[int]]:
        shards = self.batch_shards
        return [list(range(g * shards, (g + 1) * shards)) for g in range(self.num_groups)]

    def shard_index(self) -> jax.Array | int:
        """Which part of its members' batches this device has; called inside the mapped function."""
        return 0 if self.batch_shards == 1 else jax.lax.axis_index(AXIS) % self.batch_shards

    def map(self, fn: Callable, donate: tuple[int, ...] = ()) -> Wrapped:
        """Returns `fn` (a function of one device's members) run on every device."""
        return jax.pmap(fn, axis_name=AXIS, devices=self._devices(), donate_argnums=donate)

    def spread(self, tree):
        """Returns the tree of (num_members, ...) arrays laid out as (local devices, width, ...)."""
        return jax.tree.map(lambda x: self._put(self._arrange(np.asarray(x))), tree)

    def spread_batches(self, of_member: Callable[[int], object]):
        """Returns whole batches of the members laid out as (local devices, steps, width, part of the batch, ...).

        of_member: number -> pytree of numpy arrays (steps, batch, ...); asked once for each member that this process
        has a part of.
        """
        made = functools.cache(of_member)
        local = range(len(self._local()))
        first = jax.process_index() * len(local) if jax.process_count() > 1 else 0

        def on_device(device: int):
            group, shard = divmod(first + device, self.batch_shards)
            members = [min(group * self.width + i, self.num_members - 1) for i in range(self.width)]
            trees = [made(m) for m in members]
            return jax.tree.map(lambda *x: np.stack([self._shard(b, shard) for b in x], axis=1), *trees)

        return jax.tree.map(lambda *x: self._put(np.stack(x)), *[on_device(d) for d in local])

    def _shard(self, batches: np.ndarray, shard: int) -> np.ndarray:
        """A shard's part of batches (steps, batch, ...)."""
        size = batches.shape[1] // self.batch_shards
        return batches[:, shard * size : (shard + 1) * size]

    def replicate(self, tree):
        """Returns the tree with one copy per local device: (local devices, ...)."""
        count = len(self._local())
        return jax.tree.map(lambda x: self._put(np.broadcast_to(np.asarray(x), (count, *np.shape(x)))), tree)

    def collect(self, tree):
        """Returns the tree of (num_members, ...) numpy arrays, padding dropped, on every process."""
        if jax.process_count() > 1:
            tree = multihost_utils.process_allgather(jax.tree.map(np.asarray, jax.device_get(tree)))
            tree = jax.tree.map(lambda x: x.reshape(self.num_devices, *x.shape[2:]), tree)
        return jax.tree.map(self._flatten, jax.device_get(tree))

    def _devices(self):
        """None: all devices, in pmap's own order."""
        return None if self.num_devices == jax.device_count() else jax.devices()[: self.num_devices]

    def _local(self) -> list:
        return jax.local_devices() if jax.process_count() > 1 else jax.devices()[: self.num_devices]

    def _arrange(self, x: np.ndarray) -> np.ndarray:
        """(num_members, ...) to this process's (local devices, width, ...); the last member pads."""
        index = np.minimum(np.arange(self.num_groups * self.width), self.num_members - 1)
        by_group = x[index].reshape(self.num_groups, self.width, *x.shape[1:])
        by_device = np.repeat(by_group, self.batch_shards, axis=0)
        count = len(self._local())
        first = jax.process_index() * count
        return by_device[first : first + count]

    def _put(self, x: np.ndarray) -> jax.Array:
        """Host array with a leading local-device axis onto those devices, as pmap wants it (donatable)."""
        mesh = jax.sharding.Mesh(np.asarray(self._local()), (AXIS,))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
        return jax.device_put(x, sharding)

    def _flatten(self, x) -> np.ndarray:
        first_of_group = np.asarray(x)[:: self.batch_shards]
        return first_of_group.reshape(-1, *first_of_group.shape[2:])[: self.num_members]


def choose_layout(
    num_members: int, batch_size: int, devices: int = 0, batch_shards: int = 0, *, may_split: bool = True
) -> DeviceLayout:
    """Returns the layout asked for, or the one with the least work per device where 0 is given.

    may_split: whether a batch may be shared without being asked to; not where batch statistics are per
    device, which would make results depend on the number of devices. Raises ValueError when the devices
    or the batch cannot be split that way.
    """
    available = jax.device_count()
    devices = devices or available
    if devices < 1 or batch_shards < 0:
        raise ValueError(f"runtime.devices {devices}, batch_shards {batch_shards}: use 0 (chosen) or more")
    if devices > available:
        raise ValueError(f"runtime.devices {devices} > {available} available; lower it or set it to 0 (all)")
    if jax.process_count() > 1 and devices != available:
        raise ValueError(f"runtime.devices {devices}: several processes use all {available} devices; set it to 0")
    if batch_shards:
        return _checked(DeviceLayout(num_members, devices, batch_shards), batch_size)
    # Averaging gradients costs something, so sharing a batch must save a fifth to be chosen.
    limit = devices if may_split else 1
    fits = [s for s in range(1, limit + 1) if devices % s == 0 and batch_size % s == 0]
    layouts = [DeviceLayout(num_members, devices, s) for s in fits]
    return min(layouts, key=_cost)


def _cost(layout: DeviceLayout) -> tuple[float, int]:
    work = layout.width / layout.batch_shards
    return (work * 1.2 if layout.batch_shards > 1 else work, layout.batch_shards)


def _checked(layout: DeviceLayout, batch_size: int) -> DeviceLayout:
    devices, shards = layout.num_devices, layout.batch_shards
    if devices % shards:
        raise ValueError(
            f"runtime.batch_shards {shards} does not divide {devices} devices; use {math.gcd(devices, shards)}"
        )
    if batch_size % shards:
        way = math.gcd(batch_size, shards)
        raise ValueError(
            f"train.batch_size {batch_size} over runtime.batch_shards {shards}: not whole; use {way} shards"
        )
    return layout


def local_batch(layout: DeviceLayout, batch_size: int) -> int:
    """Returns how many sequences of a member's batch one device draws."""
    return batch_size // layout.batch_shards


def anywhere(flag: bool) -> bool:
    """Returns whether the flag is set on any process: all must leave the loop at the same chunk."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(write: Callable[[], object]) -> None:
    """Runs `write` on the process that writes files; all others fail with it instead of waiting for ever."""
    error = None
    if primary():
        try:
            write()
        except Exception as caught:
            error = caught
    if anywhere(error is not None):
        raise error or ValueError("process 0 refused the run; its message says why")


def primary() -> bool:
    """Returns whether this process writes files and shows progress."""
    return jax.process_index() == 0


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Makes this process one of several; call it before JAX looks for devices. None: detected (pods, SLURM)."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id)
