"""Remakes the goldens of language models: `python tests/golden/language/make.py`, with torch and transformers.

Each family gets a directory with a tiny random model as transformers saves it, and what that model computes.
"""

import pathlib
import shutil

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
SIZES = dict(vocab_size=61, hidden_size=32, num_attention_heads=4, max_position_embeddings=24)
OLD_NAMES = dict(vocab_size=61, n_embd=32, n_head=4, n_positions=24)
NEOX = dict(**SIZES, intermediate_size=48, rotary_pct=0.5)
CONFIGS = {
    "gpt2": transformers.GPT2Config(**OLD_NAMES, n_layer=3, n_inner=48),
    "gptj": transformers.GPTJConfig(**OLD_NAMES, n_layer=2, n_inner=64, rotary_dim=4),
    "neox_parallel": transformers.GPTNeoXConfig(**NEOX, num_hidden_layers=2, use_parallel_residual=True),
    "neox_sequential": transformers.GPTNeoXConfig(**NEOX, num_hidden_layers=2, use_parallel_residual=False),
    "llama": transformers.LlamaConfig(
        **SIZES, num_hidden_layers=3, intermediate_size=40, num_key_value_heads=2, rms_norm_eps=1e-4, rope_theta=500.0
    ),
    "llama_tied": transformers.LlamaConfig(
        **SIZES | {"hidden_size": 16}, num_hidden_layers=2, intermediate_size=64, head_dim=6, tie_word_embeddings=True
    ),
}
SHARDED = "llama"


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Draws every parameter, so that nothing can be swapped or left out unseen; gains are around 1."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_gain = parameter.ndim == 1 and name.endswith("weight")
        drawn = torch.randn(parameter.shape) * (0.3 if parameter.ndim == 1 else 0.2) + is_gain
        parameter.data = drawn.bfloat16().float()  # as saved


def expected(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """What the model computes from fixed tokens."""
    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 11))
    with torch.no_grad():
        out = model(torch.tensor(ids), output_hidden_states=True, output_attentions=True)
    stack = lambda tensors: np.stack([t.numpy() for t in tensors])
    return {
        "input_ids": ids.astype(np.int32),
        "logits": out.logits.numpy(),
        "hidden_states": stack(out.hidden_states),
        "attentions": stack(out.attentions),
    }


def make(name: str, seed: int) -> None:
    """Writes the directory of one model."""
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager").float().eval()
    randomise(model, seed)
    arrays = expected(model)
    model.bfloat16().save_pretrained(directory, max_shard_size="24KB" if name == SHARDED else "1GB")
    (directory / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(directory / "expected.npz", **arrays)


if __name__ == "__main__":
    for seed, name in enumerate(CONFIGS):
        make(name, seed)
