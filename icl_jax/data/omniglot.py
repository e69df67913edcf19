"""Omniglot (Lake et al. 2015): 1,623 characters x 20 drawings of 105 x 105 pixels, from TFDS or the two zips.

Both readers give the same arrays: class = TFDS label (number of the character over both parts of the
release, from 0), drawings in the order of the 20 drawers, ink 1 on paper 0.
"""

import collections
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from icl_jax.data.cache import cached, file_digest
from icl_jax.data.images import area_resample

NUM_CLASSES, NUM_DRAWINGS, SIZE = 1623, 20, 105
ZIPS = ("images_background.zip", "images_evaluation.zip")
SPLITS = ("train", "test")
SCHEMA = 1  # of the cached arrays
WAYS = (
    "Three ways to get it: (1) set TFDS_DATA_DIR or bank.data_dir to a TFDS directory that holds omniglot in "
    "array_record form; (2) `icl data prepare omniglot --data_dir=DIR` makes one (extra data-prep, network); "
    f"(3) put the release's {ZIPS[0]} and {ZIPS[1]} (github.com/brendenlake/omniglot, folder python) in a "
    "directory and set bank.data_dir to it. Bank 'glyphs' needs no data: bank.name = 'glyphs'"
)

Drawing = tuple[int, int, bytes]  # class, drawer (from 0), PNG


@dataclasses.dataclass(frozen=True)
class Location:
    """Where Omniglot is: `files` decide its content, `kind` is tfds or zips."""

    kind: str
    data_dir: pathlib.Path
    files: tuple[pathlib.Path, ...]


def find_omniglot(data_dir: str = "") -> Location:
    """Returns where Omniglot is: in `data_dir`, or if "" in TFDS_DATA_DIR, then in ~/tensorflow_datasets.

    Raises:
      ValueError: it is in none of them, or in a form that only TensorFlow reads; says how to get it.
    """
    if data_dir:
        places = [data_dir]
    else:
        places = [os.environ.get("TFDS_DATA_DIR", ""), "~/tensorflow_datasets"]
    places = [pathlib.Path(p).expanduser() for p in places if p]
    for place in places:
        if location := _find_tfds(place) or _find_zips(place):
            return location
    problems = "; ".join(_problem(place) for place in places)
    raise ValueError(f"bank 'omniglot': {problems}. {WAYS}")


def _find_tfds(place: pathlib.Path) -> Location | None:
    for version in reversed(_versions(place)):
        if _file_format(version) == "array_record":
            files = [
                *version.glob("*.labels.txt"),
                *(f for s in SPLITS for f in version.glob(f"omniglot-{s}.*")),
            ]
            return Location("tfds", place, tuple(sorted(files)))
    return None


def _find_zips(place: pathlib.Path) -> Location | None:
    files = tuple(place / name for name in ZIPS)
    return Location("zips", place, files) if all(f.is_file() for f in files) else None


def _versions(place: pathlib.Path) -> list[pathlib.Path]:
    return sorted(info.parent for info in place.glob("omniglot/*/dataset_info.json"))


def _file_format(version: pathlib.Path) -> str:
    with _reading(version / "dataset_info.json") as file:
        return json.loads(file.read_text()).get("fileFormat", "tfrecord")


@contextlib.contextmanager
def _reading(file: pathlib.Path) -> Iterator[pathlib.Path]:
    """Says which file is damaged; zip, TFDS and ArrayRecord raise errors of many kinds and name none."""
    try:
        yield file
    except Exception as error:
        fault = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"bank 'omniglot': {file} is damaged ({fault}); get it anew") from error


def _problem(place: pathlib.Path) -> str:
    if not place.is_dir():
        return f"no directory {place}"
    if versions := _versions(place):
        return f"{versions[-1]} is in {_file_format(versions[-1])} form, which only TensorFlow reads"
    return f"no omniglot/ and no {' and '.join(ZIPS)} in {place}"


def load_omniglot(location: Location, size: int) -> dict[str, np.ndarray]:
    """Returns all drawings at a size, decoded once and kept in the user's cache directory.

    {"bits": uint8 (1623, 20, 1379)} packed at 105 pixels, else {"pixels": uint8 (1623, 20, size^2)}, 255 =
    ink, by area resampling; "alphabet": int32 (1623,); "alphabet_names": text (50,), sorted.
    """
    key = f"{SCHEMA} {file_digest(list(location.files))}"
    read = read_tfds if location.kind == "tfds" else read_zips
    full = lambda: cached("omniglot", key, lambda: _decode(location, read))
    return full() if size == SIZE else cached("omniglot", f"{key} {size}", lambda: _resized(full(), size))


def _decode(location: Location, read: Callable[[Location], Iterator[Drawing]]) -> dict[str, np.ndarray]:
    packed = np.zeros((NUM_CLASSES, NUM_DRAWINGS, SIZE, -(-SIZE // 8)), np.uint8)
    seen = np.zeros((NUM_CLASSES, NUM_DRAWINGS), bool)
    names = _character_names(location)
    for label, drawer, png in read(location):
        image = Image.open(io.BytesIO(png)).convert("1", dither=Image.Dither.NONE)
        packed[label, drawer] = np.frombuffer(image.tobytes(), np.uint8).reshape(packed.shape[2:])
        seen[label, drawer] = True
    if not seen.all() or len(names) != NUM_CLASSES:
        raise ValueError(
            f"Omniglot in {location.data_dir} has {seen.sum():,} drawings of {len(names):,} characters, "
            f"not {seen.size:,} of {NUM_CLASSES:,}; get the files again"
        )
    bits = np.stack([_pack_ink(rows) for rows in packed])
    alphabets, alphabet = np.unique([n.rpartition("_")[0] for n in names], return_inverse=True)
    return {"bits": bits, "alphabet": alphabet.astype(np.int32), "alphabet_names": alphabets}


def _pack_ink(rows: np.ndarray) -> np.ndarray:
    """Returns packed ink (20, 1379) of drawings (20, 105, 14) packed row by row with paper 1, as in a PNG."""
    paper = np.unpackbits(rows, axis=-1, count=SIZE).reshape(NUM_DRAWINGS, -1)
    return np.packbits(1 - paper, axis=-1)


def _resized(full: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    pixels = np.zeros((NUM_CLASSES, NUM_DRAWINGS, size**2), np.uint8)
    for c, bits in enumerate(full["bits"]):
        images = np.unpackbits(bits, axis=-1, count=SIZE**2).reshape(-1, SIZE, SIZE)
        pixels[c] = np.rint(255 * area_resample(images, size)).reshape(NUM_DRAWINGS, -1)
    return {"pixels": pixels, "alphabet": full["alphabet"], "alphabet_names": full["alphabet_names"]}


def _character_names(location: Location) -> list[str]:
    """Returns the name of each class, Alphabet_number."""
    if location.kind == "tfds":
        return (location.files[0].parent / "label.labels.txt").read_text().split()
    names = {}
    for path in location.files:
        with _reading(path), zipfile.ZipFile(path) as file:
            for name in file.namelist():
                if name.endswith(".png"):
                    _, alphabet, character, image = name.split("/")
                    number = int(character.removeprefix("character")) - 1
                    names[int(image.split("_")[0])] = f"{alphabet}_{number}"
    return [names[k] for k in sorted(names)]


def read_zips(location: Location) -> Iterator[Drawing]:
    """Yields the drawings of the zips: part/Alphabet/characterNN/LLLL_DD.png, class L - 1, drawer D - 1."""
    for path in location.files:
        with _reading(path), zipfile.ZipFile(path) as file:
            for name in file.namelist():
                if name.endswith(".png"):
                    label, drawer = name.rpartition("/")[2].removesuffix(".png").split("_")
                    yield int(label) - 1, int(drawer) - 1, file.read(name)


def read_tfds(location: Location) -> Iterator[Drawing]:
    """Yields the drawings of a prepared TFDS directory (array_record, read without TensorFlow)."""
    import tensorflow_datasets as tfds

    version = location.files[0].parent
    with _reading(version / "features.json"):
        builder: Any = tfds.builder_from_directory(version)
    names = _character_names(location)
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split in SPLITS:
        with _reading(version / f"omniglot-{split}.*"):
            source = builder.as_data_source(split=split, decoders=decoders)
            records = source.__getitems__(list(range(len(source))))
        labels = [int(r["label"]) for r in records]
        for label, drawer, record in zip(labels, _drawers(split, names, labels), records, strict=True):
            yield label, drawer, record["image"]


def _drawers(split: str, names: list[str], labels: list[int]) -> list[int]:
    """Returns the drawer of each record of a TFDS split, which the records themselves do not name.

    TFDS sorts a split's records by the md5 of the split's name and the record's key, and the keys of
    Omniglot end in the name of the drawing's file; so the order tells who drew what. A copy in another
    order gets its drawings numbered as they come.
    """
    hash_of = lambda key: hashlib.md5(f"{split}{key}".encode()).digest()
    ids = [(label, d) for label in sorted(set(labels)) for d in range(NUM_DRAWINGS)]
    key_of = lambda label, d: f"{names[label]}_{label + 1:04d}_{d + 1:02d}.png"
    ids.sort(key=lambda i: hash_of(key_of(*i)))
    if [label for label, _ in ids] == labels:
        return [d for _, d in ids]
    counts = collections.Counter()
    drawers = []
    for label in labels:
        drawers.append(counts[label])
        counts[label] += 1
    return drawers


def prepare_omniglot(data_dir: str = "") -> pathlib.Path:
    """Downloads Omniglot and writes it in TFDS's array_record form; returns where. Needs TensorFlow once.

    data_dir: "" means TFDS_DATA_DIR, then ~/tensorflow_datasets.

    Raises:
      ValueError: TensorFlow is not installed.
    """
    place = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if location := _find_tfds(place):
        return location.files[0].parent
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            "preparing Omniglot needs TensorFlow once (reading it does not): pip install icl_jax[data-prep]; "
            f"or put {ZIPS[0]} and {ZIPS[1]} (github.com/brendenlake/omniglot, folder python) in a directory "
            "and set bank.data_dir to it"
        )
    if versions := _versions(place):
        raise ValueError(f"{versions[-1]} holds Omniglot in another form; choose another --data_dir")
    import tensorflow_datasets as tfds

    builder = tfds.builder("omniglot", data_dir=place, file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)
