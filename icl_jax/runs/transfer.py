"""What one run hands to another: its encoder as a bank, and the original's parameters as a run."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from icl_jax.data.banks import Bank, render
from icl_jax.data.cache import file_digest
from icl_jax.data.source import check_exemplars
from icl_jax.data.vectors import save_embeddings
from icl_jax.models.build import Model
from icl_jax.models.frontends.layout import token_layout
from icl_jax.models.importers.chan2022 import load_chan2022
from icl_jax.runs import config as cfg
from icl_jax.runs import rundir
from icl_jax.runs.api import Run, experiment_of, load_run, member_variables
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.initial import OfRun
from icl_jax.spec import ModelSpec, RunSpec
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.locks import sole_writer
from icl_jax.storage.paths import as_path, as_run_path
from icl_jax.training.population import abstract_state
from icl_jax.training.step import RUNNING, Program

BLOCK = 64  # classes encoded at a time
OMNIGLOT_CLASSES = 1623


def embed(run: Run, path: str | pathlib.Path, *, member: int = 0, step: int | None = None) -> pathlib.Path:
    """Writes the outputs of a run's item encoder for its whole bank as an embeddings bank; returns its path.

    Outputs are standardised per component. Class order, holdout and origin are recorded in the file,
    so that classes held out from the run stay held out.

    >>> path = icl_jax.embed(run, directory / "features.npz", member=1)
    >>> numpy.load(path)["embeddings"].shape  # classes, exemplars, width
    (24, 4, 16)
    >>> learned = icl_jax.override(config, {"bank.name": "embeddings", "bank.path": str(path)})
    >>> icl_jax.sample(learned, 8).batch.inputs.items.shape
    (8, 5, 16)
    """
    experiment = experiment_of(run)
    program = experiment.program
    bank = check_exemplars(program.source, "to embed a bank").loaded
    if bank.item_kind != "image":
        raise ValueError(f"bank {bank.name!r} has {bank.item_kind} items: only images are embedded")
    if not 0 <= member < len(run.members):
        raise ValueError(f"member {member}: the run has members 0 to {len(run.members) - 1}")
    path = as_path(path)
    if path.suffix != ".npz":
        raise ValueError(f"embeddings are written as .npz, not as {str(path)!r}; change the file's name")
    at, state, _ = Checkpoints(run.directory / "checkpoints").restore(step=step)
    variables = member_variables(state, member)
    outputs = _encode_bank(program, experiment.model, bank, variables)
    outputs = (outputs - outputs.mean((0, 1))) / (outputs.std((0, 1)) + 1e-6)
    origin = f"{run.directory.name} step {at} member {member}"
    save_embeddings(path, outputs, experiment.orders[member], program.spec.task.num_holdout, origin, bank.groups)
    return path


def num_features(spec: RunSpec) -> int:
    """Returns how many features `embed` makes of an item: the width of its tokens, without position slots."""
    place = token_layout(spec.model, spec.task.context_len, spec.task.task_token)
    return spec.model.item_tokens * place.content


def _encode_bank(program: Program, encoder: Model, bank: Bank, variables: dict) -> np.ndarray:
    """Returns the encoder's outputs (classes, exemplars, width) of a bank of images, without pixel noise."""

    @jax.jit
    def encode(variables, arrays, classes):
        ids = jnp.broadcast_to(classes[:, None], (BLOCK, bank.num_exemplars))
        exemplars = jnp.broadcast_to(jnp.arange(bank.num_exemplars), ids.shape)
        keys = jnp.zeros((BLOCK, 2), jnp.uint32)
        return encoder.encode(variables, render(program.spec.bank, arrays, ids, exemplars, keys, 0.0))

    arrays = jax.device_put(bank.arrays)
    classes = np.arange(-(-bank.num_classes // BLOCK) * BLOCK) % bank.num_classes  # whole blocks: one program
    outputs = [np.asarray(encode(variables, arrays, b), np.float32) for b in classes.reshape(-1, BLOCK)]
    return np.concatenate(outputs)[: bank.num_classes]


def import_chan2022(path: str | pathlib.Path, out: str | pathlib.Path, *, image_size: int = 0) -> Run:
    """Returns a new run at step 0 with the original implementation's parameters.

    path: .npz with keys `params/<haiku module>/<name>` and `state/...`; the architecture is read off
    the shapes. image_size: pixels a side (0: of the file's `examples`, else 105), which a ResNet's
    parameters do not tell. The run's data are the 2022 preset's, on Omniglot (with 8 x classes where
    it has more labels than Omniglot has classes) or on symbols. ValueError when keys are missing or
    unknown, or `out` holds something else.

    >>> numpy.savez(directory / "params.npz", **{"params/transformer/linear/w": numpy.zeros((64, 1623))})
    >>> icl_jax.import_chan2022(directory / "params.npz", directory / "chan")
    Traceback (most recent call last):
        ...
    ValueError: no sequence model found: none of transformer_block, lstm, vanilla_rnn among the parameters
    """
    model, facts, variables = load_chan2022(path)
    config = _chan2022_config(model, facts, image_size)
    content = file_digest([pathlib.Path(path)])[:16]
    experiment = prepare_experiment(config, origin=content)
    fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(experiment.population()))
    origin = OfRun(str(path), "", 0, jax.tree.map(lambda x: np.asarray(x)[None], variables))
    state = dataclasses.replace(origin.apply(fresh), diverged=np.full(1, RUNNING, np.int32))
    directory = as_run_path(out)
    found = rundir.look(directory)
    if found:
        rundir.check_same(directory, found, experiment)
    said = rundir.describe(experiment, found, experiment.identity, content)
    with sole_writer(directory), Checkpoints(directory / "checkpoints") as checkpoints:
        rundir.write(directory, said)
        checkpoints.save(0, state, meta=rundir.facts(said) | {"imported": str(path)}, force=True)
    return load_run(directory)


def _chan2022_config(model: ModelSpec, facts: dict, image_size: int) -> ConfigDict:
    """The 2022 preset's data and optimiser with the imported model; splits cut to as many classes as it has labels."""
    config = cfg.default_config()
    config.name = "chan2022_import"
    config.model.update(dataclasses.asdict(model))
    items, num_labels = facts["items"], facts["vocab_size"]
    if items.kind == "symbol":
        config.bank.name, config.bank.num_classes = "symbols", items.num_classes
    else:
        config.bank.name, config.bank.ink = "omniglot", 0.0
        config.bank.image_size = image_size or items.shape[0]
        config.bank.augment = num_labels > OMNIGLOT_CLASSES
    config.task.context_len = facts["context_len"]
    config.task.num_common, config.task.num_holdout = (100, 80) if config.bank.augment else (10, 10)
    config.task.num_labels = num_labels
    config.task.max_classes = num_labels - config.task.num_holdout
    config.task.distinct_ways = False
    config.train.schedule = "rsqrt"
    config.hypers.learning_rate, config.hypers.warmup_steps = 3e-4, 4000
    config.seeds.split = 1337
    config.evals.suites = ("chan2022_fewshot_holdout", "chan2022_no_support_zipfian")
    config.evals.icl, config.evals.iwl = config.evals.suites
    return config
