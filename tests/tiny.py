"""The smallest config that has every part: shared by the tests of trainer, runs and commands."""

import socket

from icl_jax.inputs import PairFacts
from icl_jax.models.build import Model
from icl_jax.registry import unread_fields
from icl_jax.runs.config import default_config, run_spec


def pairs_model(spec, items, vocab_size, context_len, task_token=False):
    """Returns a model of item-label pairs, checked."""
    model = Model(spec, PairFacts(items, vocab_size, context_len, task_token))
    model.check("last")
    return model


def tiny_config(**changes):
    """Returns a config of 4 members (2 settings x 2 seeds) that compiles in seconds."""
    config = default_config()
    config.name = "tiny"
    config.bank.name, config.bank.num_classes, config.bank.dim = "gaussian", 24, 8
    config.task.num_holdout, config.task.num_labels, config.task.context_len = 8, 8, 4
    config.model.num_layers, config.model.width, config.model.num_heads = 2, 16, 2
    config.model.mlp_ratio, config.model.encoder, config.model.labels = 0, "linear", "concatenated"
    config.model.positions = "learned"
    config.train.batch_size, config.train.num_steps = 8, 20
    config.hypers.p_bursty = (0.0, 1.0)
    config.hypers.shots = 2
    config.hypers.learning_rate = 1e-2
    config.hypers.eps = 1e-3  # gradients that are zero but for rounding (keys' biases) stay small under Adam
    config.seeds.init, config.seeds.data = (0, 1), (0, 1)
    config.evals.every, config.evals.num_sequences, config.evals.batch_size = 10, 32, 32
    config.checkpoint.every = 10
    config.runtime.chunk_steps = 5
    config.runtime.tensorboard = config.runtime.figures = False
    for path, value in changes.items():
        room, field = path.split("__")
        config[room][field] = value
    defaults = default_config()
    for path in unread_fields(run_spec(config)):  # what other parts than the tiny ones do without
        room, field = path.split(".")
        if f"{room}__{field}" not in changes:
            config[room][field] = defaults[room][field]
    return config


def free_port() -> int:
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
