"""Test session set-up: 8 virtual CPU devices, quick compiles, data by one environment variable.

ICL_SHARED names the directory that holds `data/` and `golden/`. Without it tests that need real data or the
large goldens skip and say so; with ICL_REQUIRE_DATA=1 (CI, where both exist) such a skip is a failure. The
small goldens are in the repository, see golden/README.md.
"""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if os.environ["JAX_PLATFORMS"] == "cpu" and "xla_backend_optimization_level" not in os.environ["XLA_FLAGS"]:
    # Tests compile many programs and run each for a moment: unoptimised machine code halves their time.
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("icl_jax", "shapes.checked")

jax.config.update("jax_numpy_rank_promotion", "raise")


def _missing(what: str):
    if os.environ.get("ICL_REQUIRE_DATA"):
        pytest.fail(f"{what}, and ICL_REQUIRE_DATA is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Directory with data/ and golden/."""
    path = pathlib.Path(os.environ.get("ICL_SHARED", ""))
    if not os.environ.get("ICL_SHARED") or not (path / "golden").is_dir():
        _missing("ICL_SHARED does not name a directory with golden/ and data/")
    return path


@pytest.fixture(scope="session")
def chan2022(request):
    """Path by name of a golden of the original implementation: a small one of the repository, or "large/<name>"."""

    def path(name: str) -> pathlib.Path:
        if name.startswith("large/"):
            root = request.getfixturevalue("shared_dir")  # here and not above: where it skips, small ones are tested
        else:
            root = pathlib.Path(__file__).parent
        return root / "golden" / "chan2022" / f"{name.removeprefix('large/')}.npz"

    return path


@pytest.fixture(scope="session")
def omniglot_dir(shared_dir) -> pathlib.Path:
    """TFDS data_dir holding omniglot/3.0.0."""
    path = shared_dir / "data" / "tfds"
    if not (path / "omniglot").is_dir():
        _missing(f"no Omniglot in {path}")
    return path
