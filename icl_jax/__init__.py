"""icl_jax: grow, dissect and tune in-context learning."""

from icl_jax.devices import configure_cpu

configure_cpu()  # before JAX looks for devices

from icl_jax.api import Run, evaluate, load_run, train  # noqa: E402
from icl_jax.config import default_config, load_config, load_variant, override  # noqa: E402
from icl_jax.report import claims  # noqa: E402
from icl_jax.sampling import sample, show  # noqa: E402
from icl_jax.sweep import grid  # noqa: E402
from icl_jax.transfer import embed, import_chan2022  # noqa: E402

__all__ = [
    "Run",
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
    "sample",
    "show",
    "train",
]
