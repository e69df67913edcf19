"""Reads parameters trained with the released code of Chan et al. 2022.

A checkpoint is one .npz with an array per parameter and per moving average, named as in Haiku:
`params/<module>/<name>` and `state/<module>/~/{mean_ema,var_ema}/{average,hidden,counter}`. Heads are
not visible in the shapes; the release has 8.
"""

import math
import pathlib
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.inputs import ItemShape, PairFacts
from icl_jax.models.build import Model, num_params
from icl_jax.spec import ModelSpec

NUM_HEADS = 8
RESNET = "input_embedder/simple_res_net/~"
ATTENTION = "self_attention_block/causal_self_attention"
CELLS = {"transformer": "transformer_block", "lstm": "lstm", "rnn": "vanilla_rnn"}
MODULES = {  # our module: Haiku's, side by side
    "norm_attention": ("layer_norm",),
    "attention/qkv": (f"{ATTENTION}/linear", f"{ATTENTION}/linear_1", f"{ATTENTION}/linear_2"),
    "attention/out": (f"{ATTENTION}/linear_3",),
    "norm_mlp": ("layer_norm_1",),
    "mlp/hidden": ("dense_block/linear",),
    "mlp/out": ("dense_block/linear_1",),
    "norm": ("layer_norm",),
    "gates": ("linear",),
    "input": ("linear",),
    "hidden": ("linear_1",),
    "out": ("linear",),
}
LAST_CONV = f"{RESNET}/block_group_3/~/block_1/~/conv_2/w"
IMAGE_SHAPE = (105, 105, 1)


def load_chan2022(path: str | pathlib.Path) -> tuple[ModelSpec, dict, dict]:
    """Returns (spec, facts, variables) of a checkpoint of the released code.

    facts: items (ItemShape), vocab_size, context_len, num_params: what `build` needs beside the spec.
    context_len comes from the file's `examples`, where it holds them (else 8).
    Raises ValueError naming arrays that are missing, not understood or of another shape.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole .npz file ({error}); export the checkpoint again") from error
    params = _under(arrays, "params/")
    if not params:
        raise ValueError(f"{path}: no arrays named params/<module>/<name>; is this a Chan et al. 2022 export?")
    spec, facts = infer(params, arrays.get("examples"))
    model = Model(spec, PairFacts(facts["items"], facts["vocab_size"], facts["context_len"]))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    variables = {
        "params": convert(params, shapes["params"], spec.core),
        "stats": convert(_under(arrays, "state/"), shapes["stats"], spec.core),
    }
    return spec, {**facts, "num_params": num_params(variables["params"])}, variables


def infer(params: dict[str, np.ndarray], examples: np.ndarray | None = None) -> tuple[ModelSpec, dict]:
    """Returns (spec, facts) from the parameters' names and shapes."""
    core, num_layers = _core(params)
    table = _get(params, "input_embedder/embs")
    readout = _get(params, "transformer/linear/w" if core == "transformer" else "rnn/linear/w")
    width = table.shape[1]
    encoder, items = _encoder(params, examples, width)
    hidden = params.get("transformer/transformer_block/dense_block/linear/w")
    concatenated = readout.shape[0] == 2 * width
    spec = ModelSpec(
        core=core,
        num_layers=num_layers,
        width=width,
        num_heads=NUM_HEADS,
        mlp_ratio=4 if hidden is None else hidden.shape[1] // hidden.shape[0],
        encoder=encoder,
        encoder_flatten=encoder == "resnet" and _get(params, LAST_CONV).shape[-1] != width,
        labels="concatenated" if concatenated else "interleaved",
        concat_mix=not concatenated,
        sync_batch_stats=False,
    )
    context_len = 8 if examples is None else examples.shape[1] - 1
    return spec, {"items": items, "vocab_size": readout.shape[1], "context_len": context_len}


def convert(arrays: dict[str, np.ndarray], template: dict, core: str) -> dict:
    """Returns the arrays (params, gradients or state, named as in Haiku) as a tree like the template.

    Raises ValueError naming arrays that are missing, left over or of another shape.
    """
    used: set[str] = set()

    def leaf(path, want):
        keys = [p.key for p in path]
        stacked = "layers" in keys
        names = [haiku_names(keys, core, i) for i in range(want.shape[0] if stacked else 1)]
        used.update(name for layer in names for name in layer)
        values = [_joined(arrays, layer, want.shape[1:] if stacked else want.shape) for layer in names]
        return jnp.asarray(np.stack(values) if stacked else values[0], jnp.float32)

    tree = jax.tree_util.tree_map_with_path(leaf, template)
    twins = {name.replace("mean_ema/counter", "var_ema/counter") for name in used}  # always equal
    unknown = sorted(set(arrays) - used - twins)
    if unknown:
        raise ValueError(f"{len(unknown)} arrays not understood: {', '.join(unknown[:5])}")
    return tree


def haiku_names(path: list[str], core: str, layer: int = 0) -> tuple[str, ...]:
    """Returns the names of the Haiku arrays that make one of our leaves (of one layer), side by side."""
    *modules, leaf = path
    part, modules = modules[0], [m for m in modules[1:] if m != "layers"]
    if leaf == "table":
        return ("input_embedder/embs" if part == "embedder" else "input_embedder/embed/embeddings",)
    if part == "encoder" and modules != ["out"]:
        return (f"{RESNET}/{_resnet_module(modules)}/{_resnet_leaf(leaf)}",)
    root = "transformer" if core == "transformer" else "rnn"
    base = {"encoder": "input_embedder", "readout": root}.get(part, root)
    if "layers" in path:
        base = f"{root}/{CELLS[core]}" + (f"_{layer}" if layer else "")
    names = {"kernel": "w", "scale": "scale", "bias": "offset" if modules[-1].startswith("norm") else "b"}
    return tuple(f"{base}/{m}/{names[leaf]}" for m in MODULES["/".join(modules)])


def _resnet_module(modules: list[str]) -> str:
    """initial_conv, or group_0_block_1 / conv_2."""
    *block, layer = modules
    layer = layer.replace("norm", "batchnorm")
    return "".join(re.sub(r"group_(\d)_block_(\d)", r"block_group_\1/~/block_\2/~/", b) for b in block) + layer


def _resnet_leaf(leaf: str) -> str:
    if leaf == "counter":
        return "~/mean_ema/counter"
    if leaf in ("kernel", "scale", "bias"):
        return {"kernel": "w", "scale": "scale", "bias": "offset"}[leaf]
    moment, kind = leaf.split("_")
    return f"~/{moment}_ema/{kind}"


def _joined(arrays: dict[str, np.ndarray], names: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    parts = [_get(arrays, name) for name in names]
    value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    if value.shape[:3] == (1, 1, 1) and len(shape) == 1:  # batch norms keep the image's axes
        value = value.reshape(-1)
    if value.shape != shape:
        raise ValueError(f"{' + '.join(names)}: shape {value.shape}, expected {shape}")
    return value


def _core(params: dict[str, np.ndarray]) -> tuple[str, int]:
    """(core, number of layers)."""
    for core, module in CELLS.items():
        root = "transformer" if core == "transformer" else "rnn"
        found = {m[0] for m in (re.match(rf"{root}/{module}(_\d+)?/", name) for name in params) if m}
        if found:
            return core, len(found)
    raise ValueError(f"no sequence model found: none of {', '.join(CELLS.values())} among the parameters")


def _encoder(params: dict[str, np.ndarray], examples: np.ndarray | None, width: int) -> tuple[str, ItemShape]:
    """(encoder, what it reads); the image size is that of `examples`, else what the shapes imply."""
    shape = None if examples is None else examples.shape[2:]
    if "input_embedder/embed/embeddings" in params:
        return "embedding", ItemShape("symbol", (), len(params["input_embedder/embed/embeddings"]))
    if "input_embedder/linear/w" in params:
        side = math.isqrt(len(params["input_embedder/linear/w"]))
        return "linear", ItemShape("image", shape or (side, side, 1))
    _get(params, f"{RESNET}/initial_conv/w")
    return "resnet", ItemShape("image", shape or IMAGE_SHAPE)


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _get(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"array {name!r} is missing")
    return arrays[name]
