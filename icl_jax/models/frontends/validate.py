"""Which item-label pairs a model can read, and clear errors for the others."""

import math

from icl_jax.inputs import ItemShape, PairFacts
from icl_jax.models.frontends.layout import TokenLayout, token_layout
from icl_jax.models.frontends.pairs import item_part
from icl_jax.models.frontends.resnet import last_channels
from icl_jax.names import suggest
from icl_jax.registry import check_options, find
from icl_jax.spec import ModelSpec


def validate_pairs(spec: ModelSpec, facts: PairFacts) -> None:
    """Raises ValueError for unknown names and for combinations that do not fit, with the way out."""
    check_options("model", spec)
    _check_order(spec)
    _check_parts(spec, facts.items)
    place = token_layout(spec, facts.context_len, facts.task_token)
    _check_positions(spec, place)
    if spec.tied and place.core != place.content:
        raise ValueError(
            f"model.tied needs labels as wide as the core, not {place.content} and {place.core}; use positions "
            "other than 'onehot', and concat_mix=True with concatenated labels"
        )
    _check_encoder(spec, item_part(spec, facts.items), place)


def _check_order(spec: ModelSpec) -> None:
    """Tokens of their own are those of interleaved labels."""
    concatenated = spec.labels == "concatenated"
    of_own = {
        "item_tokens": concatenated and spec.item_tokens > 1,
        "separator": concatenated and spec.separator,
        "pair_order": concatenated and spec.pair_order != "item_first",
    }
    for field in (field for field, is_wrong in of_own.items() if is_wrong):
        raise ValueError(
            f"model.{field} {getattr(spec, field)!r}: concatenated labels are one token with their items; use "
            "model.labels 'interleaved', or leave it out"
        )
    if spec.separator and spec.pair_order != "item_first":
        raise ValueError(
            f"model.separator stands between an item and the label after it, and model.pair_order is "
            f"{spec.pair_order!r}; use 'item_first', or leave the separator out"
        )


def _check_parts(spec: ModelSpec, items: ItemShape) -> None:
    if spec.item_tokens == 1:
        return
    if items.kind == "symbol":
        raise ValueError(f"model.item_tokens {spec.item_tokens}: symbols have no parts; leave it 1")
    if items.shape[0] % spec.item_tokens:
        can = ", ".join(str(n) for n in range(1, items.shape[0] + 1) if items.shape[0] % n == 0)
        raise ValueError(
            f"model.item_tokens {spec.item_tokens} does not divide the first axis, {items.shape[0]}, of items of "
            f"shape {items.shape}; use one of {can}"
        )


def _check_positions(spec: ModelSpec, place: TokenLayout) -> None:
    if spec.positions == "sinusoidal" and spec.position_scale <= 0:
        raise ValueError(f"model.position_scale {spec.position_scale} must be above 0; raise it")
    if spec.positions == "sinusoidal" and place.core % 2:
        raise ValueError(f"sinusoidal positions need an even core width, not {place.core}; change model.width")
    if spec.positions == "onehot" and place.slots < place.num_tokens:
        raise ValueError(
            f"model.num_position_slots {place.slots} < {place.num_tokens} tokens; raise it, or 0 for one per token"
        )
    if place.content < 1:
        raise ValueError(
            f"model.width {spec.width} leaves nothing beside {place.slots} one-hot position slots; raise the width"
        )
    if spec.positions == "rotary" and not find("core", spec.core).rotary:
        raise ValueError(f"rotary positions need a transformer, not {spec.core!r}; use 'sinusoidal' or 'none'")


def _check_encoder(spec: ModelSpec, items: ItemShape, place: TokenLayout) -> None:
    if items.kind not in ("image", "vector", "symbol"):
        raise ValueError(f"unknown kind of items {items.kind!r}{suggest(items.kind, ('image', 'vector', 'symbol'))}")
    needed = {"embedding": "symbol", "resnet": "image"}.get(spec.encoder, items.kind)
    if items.kind != needed:
        use = "'embedding', 'mlp' or 'linear'" if items.kind == "symbol" else "'mlp' or 'linear'"
        raise ValueError(f"model.encoder {spec.encoder!r} cannot read items of kind {items.kind!r}; use {use}")
    if spec.encoder == "resnet":
        last_channels(items.shape, place.content, spec.encoder_flatten)
    shape = (items.num_classes,) if items.kind == "symbol" else items.shape
    if spec.encoder == "identity" and shape != (place.content,):
        raise ValueError(
            f"model.encoder 'identity': {'items' if spec.item_tokens == 1 else 'parts of items'} of shape {shape} are "
            f"not vectors of the {place.content} components a token takes; use 'linear'"
        )
    if items.kind != "symbol" and math.prod(items.shape) < 1:
        raise ValueError(f"empty items of shape {items.shape}")
