"""The model's components: frontends, encoders, cores and heads. Imports no JAX."""

from icl_jax.registry import Axes, CoreComponent, FrontendComponent, ModelComponent, Reads, register, shared
from icl_jax.spec import ModelSpec

register(
    FrontendComponent(
        role="frontend",
        name="pairs",
        doc="Item-label pairs: an encoder for items, a table for labels.",
        build="icl_jax.models.frontends.pairs:pairs_frontend",
        parts=("encoder",),
        sections=("model.width", "model.dtype", "model.labels", "model.positions"),
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


def _transformer_sites(model: ModelSpec) -> dict[str, Axes]:
    scores: Axes = ("layer", "sequence", "head", "query", "key")
    stream: Axes = ("layer", "sequence", "token", "width")
    heads: Axes = ("layer", "sequence", "token", "head", "component")
    return {
        "attn_scores": scores,
        "attn_probs": scores,
        "head_out": ("layer", "sequence", "head", "token", "component"),
        "attn_out": stream,
        **({"mlp_out": stream} if model.mlp_ratio else {}),
        "resid": stream,
        **{site: heads for site in ("q", "k", "v")},
        **({"q_rot": heads, "k_rot": heads} if model.positions == "rotary" else {}),
    }


def _transformer_state(model: ModelSpec, width: int, tokens: int) -> int:
    """Keys and values of all tokens."""
    return 2 * model.num_layers * width * tokens


def _transformer_flops(model: ModelSpec, width: int, tokens: int) -> int:
    """Queries, keys, values and output; scores and mixtures with all tokens, as they are computed; the MLP."""
    attention = 2 * 4 * width**2 + 2 * 2 * width * tokens
    return model.num_layers * (attention + 2 * 2 * model.mlp_ratio * width**2)


register(
    CoreComponent(
        role="core",
        name="transformer",
        doc="Causal transformer, pre-norm or without norms, with MLPs or attention only.",
        build="icl_jax.models.cores.transformer:transformer",
        sections=(*_LAYERS, "model.num_heads", "model.mlp_ratio", "model.norm", "model.positions"),
        hypers=shared("decay_attention", "decay_mlp"),
        reads={"decay_mlp": Reads(lambda spec: spec.model.mlp_ratio > 0, "model.mlp_ratio above 0")},
        decay={"mlp": "mlp", "*": "attention"},
        sites=_transformer_sites,
        rotary=True,
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
            sites=lambda model: sites,
            state_size=lambda model, width, tokens: carries * model.num_layers * width,
            flops=lambda model, width, tokens: 2 * products * model.num_layers * width**2,
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
            sections=("model.tied", "model.dtype", *_fields),
            hypers=shared("decay_mlp"),
            reads=_reads,
            decay={"*": "mlp"},
        )
    )
