"""`icl dissect`."""

from argparse import Namespace

from icl_jax.runs import api, dissection, rundir
from icl_jax.runs.config import load_config
from icl_jax.storage.paths import as_path


def dissect(words: list[str], flags: Namespace) -> None:
    """icl dissect RUN"""
    over = dissection.checkpoints_in(words[0]) if flags.over_checkpoints and not _is_run(words[0]) else {}
    run = over[max(over)] if over else api.load_run(words[0])
    is_language = bool(run.config.model.weights)
    given = [name for name in ("task", "data") if getattr(flags, name)]
    if given and (flags.config or not is_language):
        why = "the config says it" if flags.config else f"{run.directory} is no language model"
        raise ValueError(f"icl dissect --{given[0]}: {why}; leave it out")
    if flags.over_checkpoints and is_language and not over:
        raise ValueError(
            f"icl dissect --over_checkpoints: {run.directory} is one imported model; name the directory that holds "
            "those of several steps"
        )
    if not flags.config and is_language and not flags.task:
        raise ValueError("icl dissect: name the text task of the prompts, such as --task=sst2, or a --config")
    if not all(seed.isdigit() for seed in flags.seeds) or not flags.seeds:
        raise ValueError(f"icl dissect --seeds={','.join(flags.seeds)}: give whole numbers, such as 0,1,2")
    evals = dissection.analyses_of(load_config(flags.config)) if flags.config else None
    evals = evals or dissection.default_evals(run, flags.task, flags.prompts)
    if flags.data:
        evals = {name: {**fields, "data": flags.data} for name, fields in evals.items()}
    how = {"seeds": tuple(map(int, flags.seeds)), "untrained": flags.untrained}
    how["over_checkpoints"] = flags.over_checkpoints and not over
    for path in dissection.dissect(over or run, evals, flags.to or None, **how):
        print(path)


def _is_run(directory: str) -> bool:
    return (as_path(directory) / rundir.FILE).exists()
