"""icl_jax: grow, dissect and tune in-context learning."""

import importlib
from typing import TYPE_CHECKING, Any

from icl_jax.devices import configure_cpu

configure_cpu()  # before JAX looks for devices

if TYPE_CHECKING:
    from icl_jax import plugins
    from icl_jax.claims import statements as claims
    from icl_jax.runs.api import Run, evaluate, load_run, train
    from icl_jax.runs.config import default_config, load_config, load_variant, override
    from icl_jax.runs.sampling import sample, show
    from icl_jax.runs.transfer import embed, import_chan2022
    from icl_jax.sweep import grid
    from icl_jax.sweep.grid import Stage

__all__ = [
    "Run",
    "Stage",
    "claims",
    "default_config",
    "embed",
    "evaluate",
    "grid",
    "import_chan2022",
    "load_config",
    "load_run",
    "load_variant",
    "override",
    "plugins",
    "sample",
    "show",
    "train",
]

# Imported when they are first asked for: the commands' help does without JAX.
_FROM = {
    "icl_jax.runs.api": ("Run", "evaluate", "load_run", "train"),
    "icl_jax.runs.config": ("default_config", "load_config", "load_variant", "override"),
    "icl_jax.runs.sampling": ("sample", "show"),
    "icl_jax.sweep.grid": ("Stage",),
    "icl_jax.runs.transfer": ("embed", "import_chan2022"),
}
_MODULES = {"claims": "icl_jax.claims", "grid": "icl_jax.sweep.grid", "plugins": "icl_jax.plugins"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = importlib.import_module(_MODULES[name])
    elif module := next((module for module, names in _FROM.items() if name in names), ""):
        found = getattr(importlib.import_module(module), name)
    else:
        raise AttributeError(f"module 'icl_jax' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
