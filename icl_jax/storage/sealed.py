"""Files that carry their own digest, so that damage is found whenever they are read.

A *record* is a JSON object with a digest of its other fields under "sha256". A *sealed table* is a parquet file
whose metadata hold facts about it, a digest of the table's content among them, and a digest of the facts. What an
earlier version of icl_jax wrote has no seal and is taken as it is.
"""

import hashlib
import json
import pathlib
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from icl_jax.storage.files import local, read_text, replacing, write_text

SCHEMA = 2  # of records; those of schema 1 have no digest and are read too
_DIGEST = "sha256"
_FACTS, _FACTS_DIGEST, _TABLE = b"icl_jax", b"sha256", "table"  # in a parquet file's metadata; among the facts


class DamagedFile(ValueError):
    """A file is not what was written there."""


def write_record(path: pathlib.Path, fields: dict) -> None:
    """Writes a record, whole or not at all."""
    write_text(path, record_text(fields))


def record_text(fields: dict) -> str:
    """Returns the text of a record of JSON values (tuples become lists)."""
    fields = json.loads(json.dumps({**fields, "schema": SCHEMA}, default=list))
    fields.pop(_DIGEST, None)
    return json.dumps({**fields, _DIGEST: _record_digest(fields)}, indent=1)


def read_record(path: pathlib.Path, way_out: str, required: Collection[str] = ()) -> dict:
    """Returns the fields of a record. required: fields without which it is damaged.

    FileNotFoundError where there is none. DamagedFile, with the file's name and the way out, where it is not what
    was written. ValueError where a later version of icl_jax wrote it.
    """
    try:
        fields = json.loads(read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({error}); {way_out}") from None
    if not isinstance(fields, dict):
        raise DamagedFile(f"{path} is damaged (a {type(fields).__name__} where an object should be); {way_out}")
    schema = fields.get("schema", 1)
    if _DIGEST in fields:
        if fields.pop(_DIGEST) != _record_digest(fields):
            raise DamagedFile(f"{path} is damaged (its digest differs); {way_out}")
    elif schema == SCHEMA or not fields:
        raise DamagedFile(f"{path} is damaged (its digest is missing); {way_out}")
    if schema not in (1, SCHEMA):
        raise ValueError(
            f"{path} was written by another version of icl_jax (schema {schema}, this one reads up to {SCHEMA}); "
            "use that version, or another directory"
        )
    if missing := sorted(set(required) - fields.keys()):
        raise DamagedFile(f"{path} is damaged (it lacks {', '.join(missing)}); {way_out}")
    return fields


def _record_digest(fields: dict) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def write_table(table: pa.Table, path: pathlib.Path, facts: dict) -> None:
    """Writes a sealed table as parquet, whole or not at all. facts: JSON values that the seal covers too."""
    text = json.dumps({**facts, _TABLE: _table_digest(table)}).encode()
    metadata = {_FACTS: text, _FACTS_DIGEST: hashlib.sha256(text).hexdigest().encode()}
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def read_table(path: pathlib.Path) -> tuple[pa.Table, dict]:
    """Returns (table, facts); of a file without a seal the facts are what its metadata say.

    FileNotFoundError where there is none. DamagedFile where it is not what was written.
    """
    with local(path) as file:
        try:
            with pq.ParquetFile(file) as opened:
                table = opened.read()
            facts = _facts(table.schema.metadata or {})
            table = table.replace_schema_metadata(None)
            if is_sealed(facts) and facts[_TABLE] != _table_digest(table):
                raise ValueError("the digest of its rows differs")
        except FileNotFoundError:
            raise
        except Exception as error:  # Arrow raises many kinds for damaged bytes
            raise DamagedFile(f"{path} is damaged ({_first_line(error)})") from None
    return table, facts


def is_sealed(facts: dict) -> bool:
    """Returns whether facts of `read_table` were found to be what was written."""
    return _TABLE in facts


def _facts(metadata: dict[bytes, bytes]) -> dict:
    """The facts in a file's metadata, checked."""
    if _FACTS not in metadata and _FACTS_DIGEST not in metadata:
        return {name.decode(): value.decode() for name, value in metadata.items()}
    text, digest = metadata.get(_FACTS, b""), metadata.get(_FACTS_DIGEST)
    facts = json.loads(text)
    unsealed = digest is None and _TABLE not in facts  # by an earlier version
    if not unsealed and hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError("the digest of its facts differs")
    return facts


def _table_digest(table: pa.Table) -> str:
    """Of names, types and values, however the columns are cut into chunks."""
    digest = hashlib.sha256(f"{table.num_rows}".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"\n{name} {column.type}\n".encode())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            coded = column.combine_chunks().dictionary_encode()
            digest.update(repr(coded.dictionary.cast(pa.binary()).to_pylist()).encode())
            column = coded.indices
        nulls = pc.is_null(column).to_numpy(zero_copy_only=False)
        digest.update(np.packbits(nulls).data)
        digest.update(np.ascontiguousarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False)).data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
