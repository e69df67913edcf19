"""Results too large for the tidy table, in files beside it: arrays/EVAL/METRIC-STEP.npz, each whole or not at all."""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icl_jax.storage.files import local, remove_tree, replacing
from icl_jax.storage.paths import children, in_bucket
from icl_jax.storage.sealed import DamagedFile

MOST = 10_000  # numbers of a member that a metric may have in the table
_FILE = re.compile(r"(.+)-(\d+)\.npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """An array with names for its axes, but for the first, which is over members, and labels along them.

    values: (members, *axes); coords: axis -> labels.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    coords: dict[str, tuple]


def size_of(coords: Mapping[str, Sequence]) -> int:
    """Returns the numbers of one member."""
    return math.prod(map(len, coords.values()))


class ArrayFiles:
    """The array files of a run."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory

    def _file(self, name: str, metric: str, step: int) -> pathlib.Path:
        return self.directory / name / f"{metric}-{step:09d}.npz"

    def write(self, name: str, metric: str, step: int, found: Labelled) -> None:
        """Writes what the eval `name` gave at a step; of the same step again it takes the place of the former."""
        about = json.dumps({"axes": found.axes, "coords": found.coords}, default=_plain)
        with replacing(self._file(name, metric, step)) as temporary:
            np.savez(temporary, values=found.values, about=np.asarray(about))

    def read(self, name: str, metric: str, step: int) -> Labelled:
        """Returns what was written. DamagedFile where it is not there as it was."""
        path = self._file(name, metric, step)
        try:
            with local(path) as file, np.load(file, allow_pickle=False) as saved:  # zip checks each member's CRC
                values, about = saved["values"], json.loads(str(saved["about"]))
        except FileNotFoundError:
            raise DamagedFile(f"{path} is missing; score that step anew (icl_jax.evaluate)") from None
        except Exception as error:  # of many kinds, for damaged bytes
            raise DamagedFile(f"{path} is damaged ({error}); score that step anew (icl_jax.evaluate)") from None
        return Labelled(values, tuple(about["axes"]), {axis: tuple(labels) for axis, labels in about["coords"].items()})

    def there(self) -> list[tuple[str, str, int]]:
        """Returns (eval, metric, step) of each file."""
        files = [path for folder in children(self.directory) for path in children(folder)]
        found = [(path.parent.name, _FILE.fullmatch(path.name)) for path in files if not path.name.startswith(".")]
        return sorted((name, match[1], int(match[2])) for name, match in found if match)

    def truncate_after(self, step: int) -> None:
        """Removes what is later than a step; in a bucket nothing, as it might be another worker's."""
        if in_bucket(self.directory):
            return
        for leftover in self.directory.glob("*/.*.tmp*"):
            leftover.unlink()
        for name, metric, at in self.there():
            if at > step:
                self._file(name, metric, at).unlink()

    def drop(self, names: Collection[str]) -> None:
        """Removes all that these evals gave."""
        for name in names:
            remove_tree(self.directory / name)

    def hand_down(self, target: "ArrayFiles", members: np.ndarray) -> None:
        """Writes these members' share of each file that is good into the target."""
        for name, metric, step in self.there():
            try:
                found = self.read(name, metric, step)
            except DamagedFile:
                continue
            target.write(name, metric, step, dataclasses.replace(found, values=found.values[members]))


def _plain(label) -> object:
    return label.item() if isinstance(label, np.generic) else list(label)


def from_table(table: pa.Table, coordinates: Sequence[str]) -> Labelled:
    """Returns the rows of one eval, metric and step as an array. coordinates: those columns that may be axes; the ones
    without a null are. Numbers that the table does not have are NaN."""
    axes = tuple(name for name in coordinates if table[name].null_count == 0)
    coords = {axis: tuple(sorted(pc.unique(table[axis]).to_pylist())) for axis in axes}
    members, rows = np.unique(table["member"].to_numpy(), return_inverse=True)
    values = np.full((len(members), *map(len, coords.values())), np.nan)
    places = [pc.index_in(table[axis], pa.array(coords[axis], table[axis].type)).to_numpy() for axis in axes]
    values[(rows, *places)] = table["value"].to_numpy()
    return Labelled(values, axes, coords)
