"""Language models that were trained elsewhere, as runs: their weights beside the config, frozen and shared."""

import dataclasses
import pathlib
import warnings
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from icl_jax.data.text.tokenizers import Tokenizer, load_tokenizer, tokenizer_json
from icl_jax.data.text.tokens import tokens_of
from icl_jax.inputs import TextFacts, Tokens
from icl_jax.models.build import Model, num_params
from icl_jax.models.importers.language import Imported, read_language_model
from icl_jax.models.taps import Patch
from icl_jax.runs import api, rundir
from icl_jax.runs import config as cfg
from icl_jax.storage.locks import sole_writer
from icl_jax.storage.paths import as_run_path, children
from icl_jax.storage.weights import FOLDER, read_facts, write_weights

_PROMPT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is"
_MOST_OFF = 1e-4  # of a row of attention from 1


def import_language_model(path: str | pathlib.Path, out: str | pathlib.Path, dtype: str = "float32") -> api.Run:
    """Makes a run of a language model: of a directory with config.json and safetensors, or of a GGUF file.

    path: the directory or the file, or the name of an installed package that ships one GGUF file. dtype: of the weights
    and the computation, float32 or bfloat16. The network is tested before anything is written: rows of attention sum to
    1, an edit changes the logits, and of a text they say more than chance does (a warning, where not). Nothing is
    fetched. ValueError for files that are missing, damaged or not understood, and for an `out` that holds something
    else.

    >>> icl_jax.import_language_model(directory / "nowhere", directory / "new")
    Traceback (most recent call last):
        ...
    ValueError: ...nowhere...
    """
    directory = as_run_path(out)
    _check_free(directory)
    found = read_language_model(path, dtype)
    tokenizer = tokenizer_json(found.tokenizer) if found.tokenizer else ""
    config = config_of(found, directory)
    tested = self_test(found, load_tokenizer(tokenizer) if tokenizer else None)
    with sole_writer(directory):
        facts = {"family": found.family, "vocab_size": found.vocab_size, "num_params": num_params(found.params)}
        write_weights(directory / FOLDER, found.params, tokenizer, {**facts, "source": found.source, "tested": tested})
    return api.train(config, directory, progress=False)


def _check_free(directory: pathlib.Path) -> None:
    """The directory holds nothing, or weights of an import that was interrupted."""
    names = [child.name for child in children(directory) if not child.name.startswith(".")]
    if rundir.FILE in names:
        raise ValueError(f"{directory} holds a run already; choose another directory with --to=DIR, or delete it")
    if other := [name for name in names if name != FOLDER]:
        raise ValueError(f"{directory} is not empty ({other[0]} is there); choose another directory with --to=DIR")


def language_config(directory: str | pathlib.Path) -> ConfigDict:
    """Returns a config that looks at an imported model, which a config file begins with: no evals, its weights where
    they lie. directory: of the run that `icl import` made. ValueError where there is none.

    >>> config = icl_jax.language_config(language.directory)
    >>> config.evals.more.answers = {"task": "sst2"}
    >>> icl_jax.language_config(directory / "nowhere")
    Traceback (most recent call last):
        ...
    ValueError: ...nowhere holds no imported model ... make one with `icl import hf` or `icl import gguf`
    """
    read_facts(directory)
    return api.load_run(directory).config


def config_of(found: Imported, directory: pathlib.Path) -> ConfigDict:
    """Returns the config of an imported model, whose weights lie in a run's directory."""
    config = cfg.default_config()
    config.name = directory.name
    config.parts.source = config.parts.frontend = "text"
    config.model.update(dataclasses.asdict(found.model) | {"weights": str(directory)})
    for role, options in found.options.items():
        config.options[role] = ConfigDict(options)
    config.train.num_steps = 0
    config.evals.suites, config.evals.icl, config.evals.iwl = (), "", ""
    config.runtime.tensorboard = config.runtime.figures = False
    return config


def self_test(found: Imported, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Returns what the network says to a text: token ids, the ten likeliest next ones with their logits, and the mean
    loss along it in nats. ValueError for a tokenizer of other weights, for attention whose rows do not sum to 1, for
    logits that are no numbers and for an edit that changes nothing; a warning where chance says as much."""
    if tokenizer and tokenizer.vocab_size > found.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the weights {found.vocab_size}: they do not belong "
            "together; take both from one model"
        )
    ids = tokenizer.encode(_PROMPT) if tokenizer else list(range(min(found.vocab_size, 16)))
    ids = ids[: found.num_positions or None]
    options = tuple((role, tuple(sorted(own.items()))) for role, own in sorted(found.options.items()))
    model = Model(found.model, TextFacts(found.vocab_size), "text", options)
    edit = Patch("attn_probs", "multiply", value=0.5)
    plain, edited = jax.device_get(_tested(model, found.params, tokens_of([ids]), edit))
    rows = np.abs(plain.taps["attn_probs"].sum(-1) - 1).max()
    if not np.isfinite(plain.logits).all() or rows > _MOST_OFF:
        raise ValueError(
            f"the network does not work: rows of attention are off 1 by {rows:.2g}, and of the logits "
            f"{np.isnan(plain.logits).mean():.0%} are no numbers; are the weights those of the config?"
        )
    if np.array_equal(plain.logits, edited.logits):
        raise ValueError("halving all attention changes no logit: the weights are not those of this network")
    log_probs = np.asarray(jax.nn.log_softmax(plain.logits[0].astype(np.float32)))
    loss = -float(np.mean(log_probs[np.arange(len(ids) - 1), ids[1:]]))
    if tokenizer and loss > np.log(found.vocab_size):
        warnings.warn(
            f"of a plain text the model says less than chance ({loss:.1f} nats a token, chance "
            f"{np.log(found.vocab_size):.1f}): an untrained model, or not its own tokenizer",
            stacklevel=3,
        )
    last = plain.logits[0, -1]
    top = np.argsort(-last, kind="stable")[:10]
    return {"ids": ids, "top": top.tolist(), "logits": [float(last[i]) for i in top], "loss": loss}


def _tested(model: Model, params: dict, tokens: Tokens, edit: Patch):
    """Outputs at all tokens as it is, with what attention gives, and edited."""

    @jax.jit
    def both(params, tokens, places):
        how = {"shared": params, "logits_at": places}
        variables = {"params": params, "stats": {}}
        plain = model.apply(variables, tokens, record=("attn_probs",), **how)
        return plain, model.apply(variables, tokens, patches=(edit,), **how)

    return both(params, tokens, np.arange(tokens.ids.shape[1], dtype=np.int32)[None])
