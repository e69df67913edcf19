"""Refuses tasks that cannot be drawn, before anything is compiled."""

from typing import Protocol

from icl_jax.data.vocab import max_train_classes, needed_labels
from icl_jax.registry import check_options, components, find
from icl_jax.spec import TaskSpec, hyper_defaults


class BankFacts(Protocol):
    """What a task needs to know about a bank."""

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def item_kind(self) -> str: ...


def validate_task(task: TaskSpec, bank: BankFacts, hypers: dict[str, float]) -> None:
    """Checks a task against its bank and the (largest) values of its hypers.

    Raises:
      ValueError: naming the value, the limit and the way out.
    """
    h = hyper_defaults() | hypers
    check_options("task", task)
    _check_bank(task, bank, h)
    _check_split(task, bank.num_classes, h)
    sizes = _pool_sizes(task, bank.num_classes, h)
    pools = _used_pools(task, h)
    for pool, use in pools.items():
        if sizes[pool] < 1:
            raise ValueError(f"{use} needs {pool} classes, and there are none; set task.num_{pool}")
    _check_core(task, h, {pool: sizes[pool] for pool in _core_pools(task, h)})
    _check_labels(task, bank.num_classes, h)


def banks_that_make_fresh() -> str:
    """Returns "bank 'gaussian'": those that can make up classes."""
    return f"bank {' or '.join(repr(name) for name, bank in components('bank').items() if bank.makes_fresh)}"


def _check_bank(task: TaskSpec, bank: BankFacts, h: dict) -> None:
    if h["p_fresh"] > 0 and not task.fresh:
        raise ValueError(f"p_fresh {h['p_fresh']:g} needs task.fresh=True (and {banks_that_make_fresh()})")
    if (task.fresh or task.core_classes == "fresh") and not find("bank", bank.name).makes_fresh:
        raise ValueError(f"fresh classes need {banks_that_make_fresh()}, the bank is {bank.name!r}; unset task.fresh")
    if task.random_rare and bank.item_kind != "image":
        raise ValueError(f"task.random_rare needs a bank of images, bank {bank.name!r} has {bank.item_kind}s; unset it")
    if task.pixel_noise and bank.item_kind == "symbol":
        raise ValueError(
            f"noise is added to images and vectors, bank {bank.name!r} has symbols; set hypers.noise_scale to 0 "
            "and task.pixel_noise to False"
        )


def _check_split(task: TaskSpec, num_classes: int, h: dict) -> None:
    limit = max_train_classes(task, num_classes)
    if task.max_classes and limit + task.num_holdout > num_classes:
        raise ValueError(
            f"{limit} training classes (task.max_classes) + {task.num_holdout} held out = "
            f"{limit + task.num_holdout} > {num_classes} classes of the bank; lower task.max_classes or "
            "task.num_holdout, or take a bank with more classes (augmentation gives 8 times as many)"
        )
    if limit < 1:
        raise ValueError(
            f"task.num_holdout {task.num_holdout} leaves none of the bank's {num_classes} classes to train on; lower it"
        )
    if h["num_classes"] > limit:
        raise ValueError(
            f"num_classes {h['num_classes']:g} > {limit}, the most training classes of this task; "
            "lower it, or raise task.max_classes (or lower task.num_holdout)"
        )
    num_train = int(h["num_classes"]) or limit
    if task.num_common > num_train:
        raise ValueError(
            f"task.num_common {task.num_common} > {num_train} training classes; "
            "lower task.num_common or raise num_classes"
        )


def _pool_sizes(task: TaskSpec, num_classes: int, h: dict) -> dict[str, int]:
    num_train = int(h["num_classes"]) or max_train_classes(task, num_classes)
    rare = num_train - task.num_common
    return {"rare": rare, "common": task.num_common, "holdout": task.num_holdout, "zipfian": num_train}


def _core_mixture(task: TaskSpec, h: dict) -> dict[str, str]:
    """Returns the pools of mixed cores, each with the pool of its remainder."""
    zipf, common = h["p_bursty_zipfian"], h["p_bursty_common"]
    if zipf + common > 1:
        raise ValueError(f"p_bursty_zipfian {zipf:g} + p_bursty_common {common:g} > 1; lower one of them")
    shares = {"zipfian": (zipf, "zipfian"), "common": (common, "rare"), "rare": (1 - zipf - common, "common")}
    return {pool: remainder for pool, (share, remainder) in shares.items() if share > 1e-6}


def _core_pools(task: TaskSpec, h: dict) -> tuple[str, ...]:
    """Returns the pools from which ways are drawn."""
    if task.kind in ("iid", "no_support") or task.core_classes == "fresh":
        return ()
    if task.kind == "mixed":
        return ("rare",) if h["p_fewshot"] > 0 else ()
    if task.kind == "bursty" and h["p_bursty"] == 0:
        return ()
    return tuple(_core_mixture(task, h)) if task.core_classes == "mixture" else (task.core_classes,)


def _used_pools(task: TaskSpec, h: dict) -> dict[str, str]:
    """Returns every pool that is drawn from, and what for."""
    cores = _core_pools(task, h)
    pools = {pool: f"a core of {pool} classes" for pool in cores}
    mixture = task.kind in ("bursty", "fewshot") and task.core_classes == "mixture"
    if mixture and cores and h["shots"] * h["ways"] < task.context_len:
        remainders = _core_mixture(task, h)
        pools |= {remainders[pool]: f"the remainder beside a core of {pool} classes" for pool in cores}
    if task.kind == "bursty" and h["p_bursty"] < 1 and task.non_bursty != "zipfian":
        pools["common"] = f"task.non_bursty {task.non_bursty!r}"
    if task.kind == "mixed" and h["p_fewshot"] < 1:
        pools["common"] = "task.kind 'mixed'"
    if task.kind in ("iid", "no_support") and task.core_classes not in ("mixture", "fresh"):
        pools[task.core_classes] = f"task.kind {task.kind!r}"
    return pools


def _check_core(task: TaskSpec, h: dict, sizes: dict[str, int]) -> None:
    """sizes: number of classes of each pool that ways are drawn from."""
    ways, shots = int(h["ways"]), int(h["shots"])
    if ways > task.max_ways:
        raise ValueError(f"ways {ways} > task.max_ways {task.max_ways}; lower ways or raise task.max_ways")
    if sizes and ways * shots > task.context_len:
        raise ValueError(
            f"ways {ways} x shots {shots} = {ways * shots} > context_len {task.context_len}; "
            "lower ways or shots, or raise task.context_len"
        )
    for pool, size in sizes.items():
        if task.distinct_ways and ways > size:
            raise ValueError(
                f"{ways} distinct ways cannot be drawn from {size} {pool} classes; "
                "lower ways, take more classes, or set task.distinct_ways=False"
            )


def _check_labels(task: TaskSpec, num_classes: int, h: dict) -> None:
    _check_holdout_labels(task, h)
    ways, needed = int(h["ways"]), needed_labels(task, num_classes)
    if h["multiplicity"] > task.max_multiplicity:
        raise ValueError(
            f"multiplicity {h['multiplicity']:g} > task.max_multiplicity {task.max_multiplicity}; "
            "lower it or raise task.max_multiplicity"
        )
    if task.max_multiplicity > 1 and 0 < task.num_labels < needed:
        raise ValueError(
            f"task.num_labels {task.num_labels} < {needed}, which max_multiplicity {task.max_multiplicity} "
            "needs: labels are either shared by classes or several per class; set task.num_labels to 0 or "
            "max_multiplicity to 1"
        )
    if task.core_labels == "symbols" and task.num_symbols < ways:
        raise ValueError(
            f"task.num_symbols {task.num_symbols} < ways {ways}; "
            "raise task.num_symbols, or set task.core_labels to 'dynamic'"
        )
    labels = min(task.num_labels or needed, int(h["num_classes"]) or needed)
    if task.core_labels == "dynamic" and labels < ways:
        raise ValueError(
            f"dynamic labels 0 to {ways - 1} need {ways} class labels, and {labels} are in use; lower ways"
        )


def _check_holdout_labels(task: TaskSpec, h: dict) -> None:
    """Held-out classes own no label, so training on them needs labels drawn anew for each sequence."""
    if task.kind in ("iid", "no_support") and task.core_classes == "holdout":
        raise ValueError(
            f"task.core_classes 'holdout' with task.kind {task.kind!r}: held-out classes have no label of their own; "
            "use core_classes 'zipfian', 'rare' or 'common', or task.kind 'fewshot' with core_labels 'dynamic'"
        )
    if "holdout" in _core_pools(task, h) and task.core_labels == "fixed":
        raise ValueError(
            "task.core_classes 'holdout' with task.core_labels 'fixed': held-out classes have no label of their own; "
            "set task.core_labels to 'dynamic' or 'symbols', or core_classes to 'zipfian', 'rare' or 'common'"
        )
