"""What one run hands to another: its encoder as a bank, and the original's parameters as a run."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax import config as cfg
from icl_jax import rundir
from icl_jax.api import Run, load_run, member_variables
from icl_jax.data.banks import render
from icl_jax.data.vectors import save_embeddings
from icl_jax.experiment import prepare_experiment
from icl_jax.initial import fit
from icl_jax.models.import_chan2022 import load_chan2022
from icl_jax.train.checkpoint import Checkpoints
from icl_jax.train.population import abstract_state
from icl_jax.train.step import RUNNING


def embed(run: Run, path: str | pathlib.Path, *, member: int = 0, step: int | None = None) -> pathlib.Path:
    """Writes the outputs of a run's item encoder for its whole bank as an embeddings bank; returns its path.

    Outputs are standardised per component. Class order, holdout and origin are recorded in the file,
    so that classes held out from the run stay held out.
    """
    experiment = prepare_experiment(run.config)
    program, bank = experiment.program, experiment.bank
    if bank.num_exemplars < 1 or bank.item_kind != "image":
        raise ValueError(f"bank {bank.name!r} has {bank.item_kind} items: only images are embedded")
    at, state, _ = Checkpoints(run.directory / "checkpoints").restore(step=step)
    variables = member_variables(state, member)
    arrays = jax.tree.map(np.asarray, bank.arrays)

    @jax.jit
    def encode(classes):
        exemplars = jnp.broadcast_to(jnp.arange(bank.num_exemplars), (len(classes), bank.num_exemplars))
        ids = jnp.broadcast_to(classes[:, None], exemplars.shape)
        keys = jnp.zeros((len(classes), 2), jnp.uint32)
        items = render(program.spec.bank, arrays, ids, exemplars, keys, 0.0)
        return program.model.encode(variables, items)

    blocks = np.array_split(np.arange(bank.num_classes), max(1, bank.num_classes // 64))
    outputs = np.concatenate([np.asarray(encode(b)) for b in blocks])
    outputs = (outputs - outputs.mean((0, 1))) / (outputs.std((0, 1)) + 1e-6)
    origin = f"{run.directory.name} step {at} member {member}"
    save_embeddings(
        path, outputs, experiment.orders[member], experiment.program.spec.task.num_holdout, origin, bank.groups
    )
    return pathlib.Path(path)


def import_chan2022(path: str | pathlib.Path, out: str | pathlib.Path) -> Run:
    """Returns a new run at step 0 with the original implementation's parameters.

    path: .npz with keys `params/<haiku module>/<name>` and `state/...`; the architecture is read off
    the shapes. The run's data are the 2022 preset's, on Omniglot at the parameters' image size (or on
    symbols). ValueError when keys are missing or unknown, or `out` holds something else.
    """
    model, facts, variables = load_chan2022(path)
    experiment = prepare_experiment(_chan2022_config(model, facts))
    fresh = abstract_state(experiment.population())
    imported = jax.tree.map(lambda x: np.asarray(x)[None], variables)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), fresh)
    state = zeros.replace(
        diverged=np.full(1, RUNNING, np.int32),
        params=fit(zeros.params, imported["params"], str(path)),
        stats=fit(zeros.stats, imported["stats"], str(path)),
    )
    directory = pathlib.Path(out)
    rundir.claim(directory, experiment)
    checkpoints = Checkpoints(directory / "checkpoints")
    checkpoints.save(0, state, meta={"identity": experiment.identity, "origin": str(path)}, force=True)
    checkpoints.close()
    return load_run(directory)


def _chan2022_config(model, facts: dict):
    """The 2022 preset with the imported model; splits cut to as many classes as it has labels."""
    config = cfg.default_config()
    config.name = "chan2022_import"
    config.model.update(dataclasses.asdict(model))
    symbols = facts["items"].kind == "symbol"
    config.bank.name = "symbols" if symbols else "omniglot"
    if symbols:
        config.bank.num_classes = facts["items"].num_classes
    else:
        config.bank.image_size, config.bank.ink = facts["items"].shape[0], 0.0
    config.task.num_common, config.task.num_holdout = 10, 10
    config.task.num_labels, config.task.max_classes = facts["vocab_size"], facts["vocab_size"] - 10
    config.task.distinct_ways = False
    config.seeds.split = 1337
    config.evals.suites = ("chan2022_fewshot_holdout", "chan2022_no_support_zipfian")
    config.evals.icl, config.evals.iwl = config.evals.suites
    return config
