"""Labelled texts: from a JSONL file, a directory of known sets (`datasets.json`), or a prepared TFDS set."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from icl_jax.names import few, suggest

TFDS = "tfds:"
FIELDS = (("text",), ("text1", "text2"))
# What TFDS sets call their texts and labels; the first that are all there count.
TFDS_FIELDS = (
    *FIELDS,
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("sentence",),
    ("description",),
)
TFDS_LABELS = ("label", "label-coarse")
WAYS = (
    'Give the path of a JSONL file with one {"text": ..., "label": ...} a line; or set data_dir to a directory that '
    "holds NAME.SPLIT.jsonl files, as by the environment variable ICL_TEXT_DIR; or name a prepared TFDS set, tfds:NAME"
)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled texts. texts: one or two of each example; labels: int32 (n,), the class of each; label_names: what the
    data calls each class; digest: SHA-256 of all of these. Made by `make_examples`."""

    texts: tuple[tuple[str, ...], ...]
    labels: Int32[np.ndarray, "n"]
    label_names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.texts)


def make_examples(
    texts: Sequence[str | Sequence[str]], labels: Sequence[int] | Int32[np.ndarray, "n"], label_names: Sequence[str]
) -> Examples:
    """Returns Examples of texts (or pairs of texts), their classes and the names of the classes.

    Raises:
      ValueError: no texts, another number of labels, or a label outside the names.
    """
    held = tuple((text,) if isinstance(text, str) else tuple(text) for text in texts)
    classes = [int(label) for label in labels]
    if not held or len(held) != len(classes):
        raise ValueError(f"{len(held)} texts and {len(classes)} labels; give as many of both, and at least one")
    for k, label in enumerate(classes):
        if not 0 <= label < len(label_names):
            raise ValueError(f"label {label} of text {k} is outside the {len(label_names)} classes {few(label_names)}")
    content = json.dumps([list(label_names), held, classes]).encode()
    return Examples(held, np.array(classes, np.int32), tuple(label_names), hashlib.sha256(content).hexdigest())


def load_examples(source: str, split: str, *, data_dir: str = "", label_names: Sequence[str] = ()) -> Examples:
    """Returns the examples of one split of a data set. Nothing is ever downloaded.

    source: one of
      path.jsonl  a file of {"text": ..., "label": ...} or {"text1", "text2", "label"} lines; a label is the number of
                  a class or its name. "{split}" in the path stands for the split; without it the file is the split.
      name        a set of data_dir, or if "" of ICL_TEXT_DIR: from the directory's datasets.json, or else its
                  file name.split.jsonl.
      tfds:name   a set prepared in data_dir, or if "" in TFDS_DATA_DIR or ~/tensorflow_datasets (array_record form).
    label_names: of the classes, in order. If (): those that the set declares; of a bare file all labels in it, sorted.
      Give them where a file lacks a class that another split has.

    Raises:
      ValueError: the set is not there (says where it was looked for and how to give it), or a line is no example
        (names the file and the line).
    """
    if source.startswith(TFDS):
        return _load_tfds(source.removeprefix(TFDS), split, data_dir, label_names)
    if source.endswith((".jsonl", ".json")) or os.sep in source:
        return read_jsonl(pathlib.Path(source.replace("{split}", split)).expanduser(), label_names)
    path, declared = _find(source, split, data_dir)
    return read_jsonl(path, label_names or declared)


def read_jsonl(path: pathlib.Path, label_names: Sequence[str] = ()) -> Examples:
    """Returns the examples of a JSONL file. For the arguments and errors see `load_examples`."""
    if not path.is_file():
        raise ValueError(f"no file {path}. {WAYS}")
    rows = list(_rows(path))
    if not rows:
        raise ValueError(f"{path} holds no examples; write one JSON object a line")
    names = tuple(label_names) or _names_of([label for _, _, label in rows])
    labels = [_class_of(label, names, where) for where, _, label in rows]
    return make_examples([texts for _, texts, _ in rows], labels, names)


def _rows(path: pathlib.Path) -> Iterator[tuple[str, tuple[str, ...], int | str]]:
    """Yields where each example is, its texts and its label."""
    fields: tuple[str, ...] = ()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            row = _parsed(line, where)
            fields = fields or next((f for f in FIELDS if f[0] in row), FIELDS[0])
            yield where, tuple(_text(row, field, where) for field in fields), _label(row, where)


def _parsed(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is no JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError(f'{where} is no JSON object; write {{"text": ..., "label": ...}}')
    return row


def _text(row: dict, field: str, where: str) -> str:
    if field not in row:
        raise ValueError(f"{where} has no field {field!r}, only {few(map(repr, row)) or 'none'}")
    if not isinstance(row[field], str) or not row[field].strip():
        raise ValueError(f"{where}: field {field!r} is {row[field]!r}, and should be a text that is not blank")
    return row[field]


def _label(row: dict, where: str) -> int | str:
    if "label" not in row:
        raise ValueError(f"{where} has no field 'label', only {few(map(repr, row))}")
    if isinstance(row["label"], bool) or not isinstance(row["label"], int | str):
        raise ValueError(f"{where}: label {row['label']!r} is neither the number of a class nor its name")
    return row["label"]


def _names_of(labels: list[int | str]) -> tuple[str, ...]:
    """Returns the names of the classes of a file that declares none."""
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels):
        return tuple(str(c) for c in range(max(numbers) + 1))
    return tuple(sorted({str(label) for label in labels}))


def _class_of(label: int | str, names: tuple[str, ...], where: str) -> int:
    if isinstance(label, int) and 0 <= label < len(names):
        return label
    if isinstance(label, str) and label in names:
        return names.index(label)
    raise ValueError(f"{where}: label {label!r} is outside the {len(names)} classes {few(names)}")


def _find(name: str, split: str, data_dir: str) -> tuple[pathlib.Path, tuple[str, ...]]:
    """Returns the file of a split of a known set, and the names of its classes if they are declared."""
    what = f"data set {name!r}"
    if not (given := data_dir or os.environ.get("ICL_TEXT_DIR", "")):
        raise ValueError(f"{what}: neither data_dir nor ICL_TEXT_DIR is set. {WAYS}")
    place = pathlib.Path(given).expanduser()
    if not place.is_dir():
        raise ValueError(f"{what}: no directory {place}. {WAYS}")
    declared = _declared(place)
    if name not in declared:
        plain = place / f"{name}.{split}.jsonl"
        if not plain.is_file():
            known = suggest(name, declared) if declared else ""
            raise ValueError(f"{what}, split {split!r}: no {plain.name} in {place}{known}. {WAYS}")
        return plain, ()
    splits = declared[name]["splits"]
    if split not in splits:
        raise ValueError(f"{what} has no split {split!r}{suggest(split, splits)}")
    return place / splits[split]["file"], tuple(declared[name]["label_names"])


def _declared(place: pathlib.Path) -> dict[str, dict]:
    """Returns what a directory's datasets.json says of each set; {} without one."""
    path = place / "datasets.json"
    if not path.is_file():
        return {}
    try:
        return {record["name"]: record for record in json.loads(path.read_text("utf-8"))["datasets"]}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); get it anew") from error


def _load_tfds(name: str, split: str, data_dir: str, label_names: Sequence[str]) -> Examples:
    places = [data_dir] if data_dir else [os.environ.get("TFDS_DATA_DIR", ""), "~/tensorflow_datasets"]
    places = [pathlib.Path(place).expanduser() for place in places if place]
    versions = [info.parent for place in places for info in sorted(place.glob(f"{name}/*/dataset_info.json"))[::-1]]
    if not versions:
        looked = " nor ".join(str(place / name) for place in places)
        raise ValueError(
            f"data set 'tfds:{name}' is not prepared: nothing in {looked}. Prepare it (once, with network and "
            f"TensorFlow): tfds.builder({name!r}, data_dir=..., file_format='array_record').download_and_prepare(); "
            f"or set data_dir. {WAYS}"
        )
    return read_tfds(versions[0], split, label_names)


def read_tfds(version: pathlib.Path, split: str, label_names: Sequence[str] = ()) -> Examples:
    """Returns the examples of a split of a prepared TFDS directory, such as glue/sst2/2.0.0.

    Raises:
      ValueError: it has no such split, is in a form that only TensorFlow reads, or has no texts with one class each.
    """
    import tensorflow_datasets as tfds

    form = json.loads((version / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
    if form != "array_record":
        raise ValueError(f"{version} is in {form} form, which only TensorFlow reads; prepare it as array_record")
    builder: Any = tfds.builder_from_directory(version)
    if split not in builder.info.splits:
        raise ValueError(f"{version} has no split {split!r}{suggest(split, builder.info.splits)}")
    features = builder.info.features
    fields = next((f for f in TFDS_FIELDS if all(field in features for field in f)), ())
    label = next((field for field in TFDS_LABELS if field in features), "")
    if not fields or not label:
        raise ValueError(
            f"{version} has the fields {few(features)}, and no text with one label among them; write it to a JSONL file"
        )
    source = builder.as_data_source(split=split)
    rows = source.__getitems__(list(range(len(source))))
    texts = [tuple(_decoded(row[field]) for field in fields) for row in rows]
    return make_examples(texts, [int(row[label]) for row in rows], label_names or tuple(features[label].names))


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8") if isinstance(text, bytes) else text
