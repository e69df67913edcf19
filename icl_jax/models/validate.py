"""Which models can be built, and clear errors for the others."""

import dataclasses
import math

from icl_jax.models import embed
from icl_jax.models.encoders import ENCODERS
from icl_jax.models.recurrent import CELLS
from icl_jax.models.resnet import last_channels
from icl_jax.names import check_least, suggest
from icl_jax.spec import ModelSpec

CHOICES = {
    "core": ("transformer", *CELLS),
    "norm": ("pre", "none"),
    "positions": ("sinusoidal", "learned", "rotary", "onehot", "none"),
    "encoder": ENCODERS,
    "labels": ("interleaved", "concatenated"),
    "readout": ("linear", "mlp"),
    "dtype": ("float32", "bfloat16"),
    "precision": ("default", "high", "highest"),
}
LEAST = {
    "num_layers": 1,
    "width": 1,
    "num_heads": 1,
    "mlp_ratio": 0,
    "num_position_slots": 0,
    "encoder_width": 1,
    "readout_layers": 0,
}


@dataclasses.dataclass(frozen=True)
class ItemShape:
    """What an item is: kind 'image' (H, W, C), 'vector' (D,) or 'symbol' () of num_classes symbols.

    Encoder 'embedding' looks a symbol up in a table; 'linear', 'mlp' and 'identity' read it one-hot.
    """

    kind: str
    shape: tuple[int, ...]
    num_classes: int = 0


def validate_model(
    spec: ModelSpec, items: ItemShape, context_len: int, loss: str = "query", task_token: bool = False
) -> None:
    """Raises ValueError for unknown names and for combinations that do not fit, with the way out."""
    for field, known in CHOICES.items():
        name = getattr(spec, field)
        if name not in known:
            raise ValueError(f"unknown model.{field} {name!r}{suggest(name, known)}")
    check_least("model", spec, LEAST)
    place = embed.layout(spec, context_len, task_token)
    _check_positions(spec, place)
    _check_heads(spec, place)
    _check_layout(spec, place, loss)
    _check_encoder(spec, items, place)


def _check_positions(spec: ModelSpec, place: embed.Layout) -> None:
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
    if spec.positions == "rotary" and spec.core != "transformer":
        raise ValueError(f"rotary positions need a transformer, not {spec.core!r}; use 'sinusoidal' or 'none'")


def _check_heads(spec: ModelSpec, place: embed.Layout) -> None:
    if spec.core != "transformer":
        return
    if place.core % spec.num_heads:
        fits = [h for h in range(1, place.core + 1) if place.core % h == 0]
        raise ValueError(
            f"model.num_heads {spec.num_heads} does not divide the core width {place.core}; use one of {fits}"
        )
    head = place.core // spec.num_heads
    if spec.positions == "rotary" and head % 2:
        raise ValueError(
            f"rotary positions need an even head size, not {place.core} / {spec.num_heads} = {head}; change num_heads"
        )


def _check_layout(spec: ModelSpec, place: embed.Layout, loss: str) -> None:
    if spec.labels == "concatenated" and loss != "query":
        raise ValueError(
            f"task.loss {loss!r} needs model.labels 'interleaved': a concatenated token already holds its own "
            "label; use task.loss 'query' or interleaved labels"
        )
    if spec.tied and place.core != place.content:
        raise ValueError(
            f"model.tied needs labels as wide as the core, not {place.content} and {place.core}; use positions "
            "other than 'onehot', and concat_mix=True with concatenated labels"
        )
    if spec.readout == "mlp" and spec.readout_layers < 1:
        raise ValueError(f"model.readout_layers {spec.readout_layers}: at least 1, or readout 'linear'")


def _check_encoder(spec: ModelSpec, items: ItemShape, place: embed.Layout) -> None:
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
            f"model.encoder 'identity': items of shape {shape} are not vectors of the {place.content} components "
            "a token takes; use 'linear'"
        )
    if items.kind != "symbol" and math.prod(items.shape) < 1:
        raise ValueError(f"empty items of shape {items.shape}")
