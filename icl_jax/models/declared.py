"""The model's components: frontends, encoders, cores and heads. Imports no JAX."""

from collections.abc import Mapping
from typing import Any

from icl_jax.registry import Axes, CoreComponent, FrontendComponent, ModelComponent, Reads, register, shared
from icl_jax.spec import ModelSpec, Option

register(
    FrontendComponent(
        role="frontend",
        name="pairs",
        doc="Item-label pairs: an encoder for items, a table for labels.",
        build="icl_jax.models.frontends.pairs:pairs_frontend",
        parts=("encoder",),
        sections=(
            "model.width",
            "model.dtype",
            "model.labels",
            "model.pair_order",
            "model.item_tokens",
            "model.separator",
            "model.positions",
        ),
        fields={
            "model.concat_mix": Reads(lambda spec: spec.model.labels == "concatenated", "model.labels 'concatenated'"),
            "model.position_scale": Reads(
                lambda spec: spec.model.positions == "sinusoidal", "model.positions 'sinusoidal'"
            ),
            "model.num_position_slots": Reads(
                lambda spec: spec.model.positions == "onehot", "model.positions 'onehot'"
            ),
        },
        hypers=shared("decay_embeddings"),
        decay={"embedder": "embeddings"},
    )
)

register(
    FrontendComponent(
        role="frontend",
        name="text",
        doc="Tokens of texts, looked up in a table.",
        build="icl_jax.models.frontends.text:text_frontend",
        sections=("model.width", "model.dtype", "model.positions", "model.weights", "model.untrained"),
        options={"num_positions": Option(0, "tokens that it can read at most (0: any; learned: needed)", least=0)},
        hypers=shared("decay_embeddings"),
        decay={"embedder": "embeddings"},
    )
)

for _name, _fields, _doc in (
    ("resnet", ("model.encoder_flatten",), "A small bottleneck ResNet (Chan et al. 2022)."),
    ("mlp", ("model.encoder_width",), "Flatten, dense, ReLU, dense."),
    ("linear", (), "Flatten, one dense layer."),
    ("embedding", (), "A row of a table per symbol."),
    ("identity", (), "Vectors as they are, symbols one-hot."),
):
    register(
        ModelComponent(
            role="encoder",
            name=_name,
            doc=_doc,
            build=f"icl_jax.models.frontends.encoders:{_name}",
            sections=("model.dtype", *_fields),
            hypers={} if _name == "identity" else shared("decay_encoder"),
            decay={} if _name == "identity" else {"*": "encoder"},
            batch_stats=_name == "resnet",
        )
    )


_LAYERS = ("model.num_layers", "model.dtype")


def _transformer_sites(model: ModelSpec, options: Mapping[str, Any]) -> dict[str, Axes]:
    scores: Axes = ("layer", "sequence", "head", "query", "key")
    stream: Axes = ("layer", "sequence", "token", "width")
    heads: Axes = ("layer", "sequence", "token", "head", "component")
    shared: Axes = ("layer", "sequence", "token", "kv_head", "component") if options["kv_heads"] else heads
    has_mlp = model.mlp_ratio or options["mlp_width"]
    return {
        "attn_scores": scores,
        "attn_probs": scores,
        "head_out": ("layer", "sequence", "head", "token", "component"),
        "attn_out": stream,
        **({"mlp_out": stream} if has_mlp else {}),
        "resid": stream,
        "q": heads,
        "k": shared,
        "v": shared,
        **({"q_rot": heads, "k_rot": shared} if model.positions == "rotary" else {}),
    }


def _head_widths(model: ModelSpec, options: Mapping[str, Any], width: int) -> tuple[int, int]:
    """Of all queries, and of all keys (or values)."""
    head = options["head_width"] or width // model.num_heads
    return model.num_heads * head, (options["kv_heads"] or model.num_heads) * head


def _transformer_state(model: ModelSpec, options: Mapping[str, Any], width: int, tokens: int) -> int:
    """Keys and values of all tokens."""
    return 2 * model.num_layers * _head_widths(model, options, width)[1] * tokens


def _transformer_flops(model: ModelSpec, options: Mapping[str, Any], width: int, tokens: int) -> int:
    """Queries, keys, values and output; scores and mixtures with all tokens, as they are computed; the MLP."""
    queries, keys = _head_widths(model, options, width)
    attention = 2 * (2 * queries + 2 * keys) * width + 2 * 2 * queries * tokens
    hidden = options["mlp_width"] or model.mlp_ratio * width
    return model.num_layers * (attention + 2 * (3 if options["mlp_kind"] == "swiglu" else 2) * hidden * width)


register(
    CoreComponent(
        role="core",
        name="transformer",
        doc="Causal transformer, pre-norm or without norms, with MLPs or attention only.",
        build="icl_jax.models.cores.transformer:transformer",
        sections=(*_LAYERS, "model.num_heads", "model.norm", "model.positions"),
        fields={
            "model.mlp_ratio": Reads(lambda s: not s.options_of("core").get("mlp_width"), "options.core.mlp_width 0")
        },
        options={
            "norm_kind": Option("layer", "norms of layers and root mean squares", choices=("layer", "rms")),
            "norm_eps": Option(1e-5, "added to a norm's variance", least=0.0),
            "mlp_kind": Option(
                "gelu_tanh", "activation of the MLPs; swiglu: with a gate", choices=("gelu_tanh", "gelu", "swiglu")
            ),
            "mlp_width": Option(0, "hidden units of the MLPs (0: model.mlp_ratio times the width)", least=0),
            "kv_heads": Option(0, "heads of keys and values, each read by several (0: as many)", least=0),
            "head_width": Option(0, "components of a head (0: the width over the heads)", least=0),
            "blocks": Option(
                "sequential",
                "the MLP reads what attention gave, or what it read; parallel_one_norm: by the same norm",
                choices=("sequential", "parallel", "parallel_one_norm"),
            ),
            "biases": Option("all", "of dense layers", choices=("all", "none", "mlp")),
            "rotary_dims": Option(0, "rotary: components of a head that turn (0: all)", least=0),
            "rotary_base": Option(10_000.0, "rotary: base of the wavelengths", least=1.0),
            "rotary_pairs": Option(
                "halves", "rotary: which components turn together", choices=("halves", "neighbours")
            ),
        },
        hypers=shared("decay_attention", "decay_mlp"),
        reads={"decay_mlp": Reads(lambda spec: spec.model.mlp_ratio > 0, "model.mlp_ratio above 0")},
        decay={"mlp": "mlp", "*": "attention"},
        sites=_transformer_sites,
        rotary=True,
        cached=True,
        state_size=_transformer_state,
        flops=_transformer_flops,
    )
)

_STATE: Axes = ("layer", "sequence", "token", "width")


def _register_recurrent(name: str, doc: str, sites: dict[str, Axes], carries: int, products: int) -> None:
    """products: of a vector with a width x width matrix, per token and layer."""
    register(
        CoreComponent(
            role="core",
            name=name,
            doc=doc,
            build=f"icl_jax.models.cores.recurrent:{name}",
            sections=_LAYERS,
            hypers=shared("decay_attention"),
            decay={"*": "attention"},
            sites=lambda model, options: sites,
            state_size=lambda model, options, width, tokens: carries * model.num_layers * width,
            flops=lambda model, options, width, tokens: 2 * products * model.num_layers * width**2,
        )
    )


_register_recurrent("lstm", "Long short-term memory.", {"cell": _STATE, "state": _STATE}, carries=2, products=8)
_register_recurrent("gru", "Gated recurrent units.", {"state": _STATE}, carries=1, products=6)
_register_recurrent("rnn", "Vanilla recurrent network with ReLU.", {"state": _STATE}, carries=1, products=2)

for _name, _fields, _doc, _reads in (
    (
        "linear",
        (),
        "One dense layer, or the label table.",
        {"decay_mlp": Reads(lambda s: not s.model.tied, "model.tied False")},
    ),
    ("mlp", ("model.readout_layers",), "ReLU layers and a dense one, or the label table.", {}),
):
    register(
        ModelComponent(
            role="head",
            name=_name,
            doc=_doc,
            build=f"icl_jax.models.heads:{_name}",
            options={"bias": Option(True, "of the dense layer to the logits, where it is not tied")},
            sections=("model.tied", "model.dtype", *_fields),
            hypers=shared("decay_mlp"),
            reads=_reads,
            decay={"*": "mlp"},
        )
    )
