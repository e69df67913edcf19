"""Makes the goldens of language models: tiny random networks of each family and what transformers gives for them.

python tests/golden/language/make.py   (needs torch and transformers: pip install 'icl_jax[parity]')
"""

import pathlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTJConfig, GPTNeoXConfig, LlamaConfig

HERE = pathlib.Path(__file__).parent
SMALL = {"vocab_size": 37, "tie_word_embeddings": False}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "bos_token_id": 0, "eos_token_id": 0}
HF = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 24}
FAMILIES = {
    "gpt2": GPT2Config(**GPT, vocab_size=37, tie_word_embeddings=True),
    "gptj": GPTJConfig(**GPT, **SMALL, rotary_dim=2),
    "gpt_neox": GPTNeoXConfig(**HF, **SMALL, intermediate_size=24, rotary_pct=0.5),
    "gpt_neox_sequential": GPTNeoXConfig(
        **HF, **SMALL, intermediate_size=24, rotary_pct=1.0, use_parallel_residual=False
    ),
    "llama": LlamaConfig(**HF, **SMALL, intermediate_size=20, num_key_value_heads=2),
    "llama_tied": LlamaConfig(**HF, vocab_size=37, tie_word_embeddings=True, intermediate_size=20, head_dim=6),
}


def make(name: str, config) -> None:
    torch.manual_seed(len(name))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases too, so that none is forgotten
            parameter.copy_(parameter.mean() * 0.9 + 0.25 * torch.randn_like(parameter))
    ids = torch.randint(0, 37, (2, 11))
    with torch.no_grad():
        out = model(ids, output_hidden_states=True, output_attentions=True)
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(
        folder / "expected.npz",
        input_ids=ids.numpy().astype(np.int32),
        logits=out.logits.numpy(),
        hidden_states=torch.stack(out.hidden_states).numpy(),
        attentions=torch.stack(out.attentions).numpy(),
    )


if __name__ == "__main__":
    for name, config in FAMILIES.items():
        make(name, config)
