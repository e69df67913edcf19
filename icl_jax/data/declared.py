"""The data's components: the source of exemplar sequences and its banks. Imports no JAX."""

from collections.abc import Mapping
from typing import Any

from icl_jax.registry import BankComponent, Reads, SourceComponent, find, load, register, shared
from icl_jax.spec import RunSpec

# When exemplar sequences read a hyper


def _has_core(spec: RunSpec) -> bool:
    return spec.task.kind in ("bursty", "fewshot", "mixed")


def _is_fresh(spec: RunSpec) -> bool:
    return spec.task.fresh or spec.task.core_classes == "fresh"


def _is_mixture(spec: RunSpec) -> bool:
    return spec.task.kind in ("bursty", "fewshot") and spec.task.core_classes == "mixture"


def _reads_ways(spec: RunSpec) -> bool:
    return _has_core(spec) or _is_fresh(spec) or any(suite.ways == 0 for _, suite in spec.evals.suites)


def _reads_shots(spec: RunSpec) -> bool:
    suites = (suite for _, suite in spec.evals.suites)
    return _has_core(spec) or any(suite.kind == "bursty" and suite.shots == 0 for suite in suites)


def _room(spec: RunSpec, most: Mapping[str, float]) -> dict[str, Any]:
    """Sizes that decide the shapes of random draws and of the vocabulary, so they are part of what a run is."""
    task, own_noise = spec.task, find("bank", spec.bank.name).own_noise  # its items have that noise, whatever the task
    return {
        "max_ways": max(task.max_ways, int(most["ways"])),
        "max_multiplicity": max(task.max_multiplicity, int(most["multiplicity"])),
        "fresh": task.fresh or most["p_fresh"] > 0,
        "pixel_noise": task.pixel_noise or (most["noise_scale"] > 0 and not own_noise),
    }


_MIXTURE = Reads(_is_mixture, "task.kind 'bursty' or 'fewshot' with task.core_classes 'mixture'")

register(
    SourceComponent(
        role="source",
        name="exemplars",
        doc="Sequences of item-label pairs and a query, drawn on the device from a bank (Chan et al. 2022).",
        build="icl_jax.data.source:make_source",
        resolve="icl_jax.data.banks:resolve_spec",
        digest="icl_jax.data.banks:digest_of",
        parts=("bank",),
        sections=("task",),
        suites=True,
        tables=("num_classes", "zipf_exponent", "multiplicity"),
        room=_room,
        hypers=shared(
            "num_classes",
            "ways",
            "shots",
            "multiplicity",
            "p_bursty",
            "p_bursty_zipfian",
            "p_bursty_common",
            "p_fewshot",
            "p_fresh",
            "p_group_task",
            "zipf_exponent",
            "label_noise",
            "p_copy",
            "interim_weight",
        ),
        reads={
            "ways": Reads(_reads_ways, "task.kind 'bursty', 'fewshot' or 'mixed', or a suite with ways 0"),
            "shots": Reads(_reads_shots, "task.kind 'bursty', 'fewshot' or 'mixed', or a suite of kind 'bursty'"),
            "p_bursty": Reads(lambda spec: spec.task.kind == "bursty", "task.kind 'bursty'"),
            "p_bursty_zipfian": _MIXTURE,
            "p_bursty_common": _MIXTURE,
            "p_fewshot": Reads(lambda spec: spec.task.kind == "mixed", "task.kind 'mixed'"),
            "p_group_task": Reads(lambda spec: spec.task.task_token, "task.task_token True"),
            "interim_weight": Reads(lambda spec: spec.task.loss == "interim", "task.loss 'interim'"),
        },
    )
)


def _check_texts(spec: RunSpec) -> None:
    load("icl_jax.data.text.source:check_only_looks")(spec)


register(
    SourceComponent(
        role="source",
        name="text",
        doc="An imported language model's tokenizer, for prompts; nothing to train on.",
        build="icl_jax.data.text.source:text_source",
        digest="icl_jax.data.text.source:digest_of",
        sections=("model.weights",),
        checks=(_check_texts,),
    )
)

_NOISE = shared("noise_scale")
_IMAGES = ("bank.image_size", "bank.exemplars", "bank.augment", "bank.holdout_exemplars", "bank.ink")
# what omniglot has by itself is refused by it, with a hint
_SIZES = ("bank.num_classes", "bank.num_exemplars")
for _bank in (
    BankComponent(
        role="bank",
        name="omniglot",
        doc="Handwritten characters of 50 alphabets (Lake et al. 2015).",
        build="icl_jax.data.banks:load_omniglot",
        render="icl_jax.data.images:render_images",
        find="icl_jax.data.banks:find_omniglot",
        prepare="icl_jax.data.omniglot:prepare_omniglot",
        item_kind="image",
        sections=(*_IMAGES, *_SIZES, "bank.data_dir"),
        hypers=_NOISE,
        detail="1,623 classes x 20 drawings",
    ),
    BankComponent(
        role="bank",
        name="glyphs",
        doc="Characters drawn from a seed.",
        build="icl_jax.data.banks:load_glyphs",
        render="icl_jax.data.images:render_images",
        item_kind="image",
        num_classes=1623,
        sections=(*_IMAGES, *_SIZES, "bank.seed"),
        hypers=_NOISE,
        detail="drawn from a seed: 1,623 classes x 20 hands by default, any number on request",
    ),
    BankComponent(
        role="bank",
        name="gaussian",
        doc="Gaussian clusters (Reddy 2023).",
        build="icl_jax.data.banks:load_gaussian",
        render="icl_jax.data.vectors:render_gaussian",
        item_kind="vector",
        makes_fresh=True,
        own_noise=True,
        num_classes=2048,
        sections=("bank.num_classes", "bank.dim", "bank.seed"),
        hypers=_NOISE,
        detail="clusters (Reddy 2023): 2,048 classes, 64 components by default",
    ),
    BankComponent(
        role="bank",
        name="symbols",
        doc="Integers.",
        build="icl_jax.data.banks:load_symbols",
        item_kind="symbol",
        num_classes=1623,
        sections=("bank.num_classes",),
        detail="integers: 1,623 classes by default",
    ),
    BankComponent(
        role="bank",
        name="embeddings",
        doc="Vectors out of a file.",
        build="icl_jax.data.banks:load_embeddings",
        render="icl_jax.data.vectors:render_embeddings",
        item_kind="vector",
        reloads=True,
        hypers=_NOISE,
        detail="your array (classes, exemplars, dim) in bank.path: .npy, .npz or .h5",
    ),
    BankComponent(
        role="bank",
        name="features",
        doc="What the encoders of an earlier stage of the sweep make of their bank.",
        build="icl_jax.data.features:load_features",
        render="icl_jax.data.vectors:render_embeddings",
        item_kind="vector",
        of_members=True,
        hypers=_NOISE,
        detail='of an earlier stage of a sweep: bank.path "stage:NAME"',
    ),
):
    register(_bank)
