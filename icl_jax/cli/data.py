"""`icl data ...`, `icl import ...`."""

import pathlib
from argparse import Namespace

from icl_jax.data.banks import describe_banks, prepare_bank
from icl_jax.runs import api, sampling, transfer
from icl_jax.runs import config as cfg
from icl_jax.runs.config import config_of


def show(words: list[str], flags: Namespace) -> None:
    """icl data show CONFIG"""
    config = config_of(words[0], flags.set)
    count = len(cfg.members_of(config))
    if not 0 <= flags.member < count:
        raise ValueError(f"--member={flags.member}: the config has members 0 to {count - 1}")
    sample = sampling.sample(config, flags.num_sequences or 512, member=flags.member)
    for name, value in sample.statistics().items():
        print(f"{name:32s} {value}")
    shown = f"member {flags.member} of {count}" + ("; --member=K shows another" if count > 1 else "")
    print(f"{sampling.show(sample, flags.to)} ({shown})")


def banks(words: list[str], flags: Namespace) -> None:
    """icl data banks [CONFIG]"""
    if not words and (flags.set or flags.to):
        raise ValueError(f"icl data banks {'--set' if flags.set else '--to'}: it is about a config's bank; name one")
    for name, available, detail in describe_banks():
        print(f"{name:12s} {'available' if available else 'not here'}: {detail}")
    if words:
        print(sampling.show_bank(config_of(words[0], flags.set), flags.to or "bank.png"))


def prepare(words: list[str], flags: Namespace) -> None:
    """icl data prepare BANK"""
    print(prepare_bank(words[0], flags.data_dir))


def embed(words: list[str], flags: Namespace) -> None:
    """icl data embed RUN"""
    run = api.load_run(words[0])
    print(transfer.embed(run, flags.to or str(run.directory / "embeddings.npz"), member=flags.member, step=flags.step))


def import_hf(words: list[str], flags: Namespace) -> None:
    """icl import hf DIR"""
    _import_language_model(words[0], flags)


def import_gguf(words: list[str], flags: Namespace) -> None:
    """icl import gguf FILE"""
    _import_language_model(words[0], flags)


def _import_language_model(path: str, flags: Namespace) -> None:
    from icl_jax.runs.imported import import_language_model  # it loads what texts need

    name = pathlib.Path(path).expanduser().resolve().stem if pathlib.Path(path).exists() else path
    run = import_language_model(path, flags.to or f"runs/{name}", flags.dtype)
    print(f"{run.directory}: {run.config.model.num_layers} layers; look inside: icl dissect {run.directory}")


def import_chan2022(words: list[str], flags: Namespace) -> None:
    """icl import chan2022 FILE --to=DIR"""
    if not flags.to:
        raise ValueError("icl import chan2022: name the directory of the new run with --to=DIR")
    run = transfer.import_chan2022(words[0], flags.to, image_size=flags.image_size)
    model = f"{run.config.model.num_layers}-layer {run.config.model.core}"
    print(f"{run.directory}: {model}; evaluate it with: icl eval {run.directory}")
