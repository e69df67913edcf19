"""Names of files and directories: what is local, what is in a bucket, what is refused."""

import importlib.util
import pathlib

import pytest

from icl_jax.storage import paths
from icl_jax.storage.paths import as_path, as_run_path, children, in_bucket


@pytest.fixture
def drivers(monkeypatch):
    """As if gcsfs and s3fs were installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize("name", ["runs/a", "/tmp/a", ".", "a:b", "fig2.py:paper", pathlib.Path("runs")])
def test_a_local_name_is_a_plain_path(name):
    assert as_path(name) == as_run_path(name) == pathlib.Path(name) and not in_bucket(as_path(name))


@pytest.mark.parametrize("text", ["gs://bucket/runs/a", "s3://bucket/a"])
def test_a_uri_keeps_its_slashes(drivers, text):
    path = as_path(text)
    assert in_bucket(path) and str(path) == text
    assert str(as_path(path) / "b") == f"{text}/b" and str(paths.absolute(path)) == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http://host/a", "http:// is not known; use a directory, or gs://"),
        ("gs:/bucket/a", "a slash is missing"),
        (pathlib.Path("gs://bucket/a"), "a slash is missing"),
    ],
)
def test_what_would_become_a_local_directory_is_refused(drivers, name, said):
    with pytest.raises(ValueError, match=said):
        as_path(name)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"gs:// needs gcsfs; pip install 'icl_jax\[gcs\]'"):
        as_path("gs://bucket/a")


def test_runs_are_refused_where_orbax_keeps_no_checkpoints(drivers):
    with pytest.raises(ValueError, match="checkpoints are kept in directories and gs:// buckets only"):
        as_run_path("s3://bucket/runs")


def test_children_of_what_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    assert children(tmp_path) == [tmp_path / "file"]
    assert children(tmp_path / "nothing") == children(tmp_path / "file") == []
