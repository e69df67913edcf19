"""icl_jax: grow, dissect and tune in-context learning.

Docstrings show by example what comes back, and the tests run each of them (`tests/test_examples.py`), in the
repository's root. They assume `import icl_jax, numpy`, `from icl_jax import claims, grid, plugins`, and

- config: of 4 members, hyper p_bursty 0 and 1 with 2 seeds each: 24 classes of 4 glyphs of 8 x 8 pixels, 8 labels, 4
  item-label pairs before the query; a transformer of 2 layers of 2 heads and width 16; 20 steps, evaluated every 10;
- directory: a `pathlib.Path` to write to; run: `icl_jax.train(config, directory / "tiny")`;
- results, headlines: the table of a made-up sweep over p_bursty 0, .5 and 1 with 5 seeds each, and the two of config;
- language: a tiny language model that was imported, with random weights and a tokenizer of letters;
- plugin: a file that registers a schedule, "falling", with a hyper of its own, power.
"""

import importlib
from typing import TYPE_CHECKING, Any

from icl_jax.devices import configure_cpu

configure_cpu()  # before JAX looks for devices

if TYPE_CHECKING:
    from icl_jax import plugins
    from icl_jax.claims import statements as claims
    from icl_jax.runs.api import Run, evaluate, load_run, train
    from icl_jax.runs.config import default_config, load_config, load_variant, override
    from icl_jax.runs.imported import import_language_model, language_config
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
    "import_language_model",
    "language_config",
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
    "icl_jax.runs.imported": ("import_language_model", "language_config"),
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
