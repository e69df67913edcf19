"""The same analyses by torch and transformers, on the same weights in float32 and the same prompts.

As one would write them there, without waste: no gradients but those asked for, logits at the question's token alone,
the fused attention wherever attention itself is not looked at, and what was read once is kept.
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from icl_jax.bench.subject import Subject
from icl_jax.models.importers import families

INSTALL = "pip install 'icl_jax[parity]'"


def is_installed() -> bool:
    """Returns whether torch and transformers are here."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class TorchSide:
    """The network of a subject in transformers, and its prompts. threads: for torch, of this whole process."""

    def __init__(self, subject: Subject, threads: int):
        self.torch = torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        config = _config(subject)
        state = {name: torch.from_numpy(x) for name, x in _state(subject, config)}
        self.fused, self.plain = (_network(config, state, kind) for kind in ("sdpa", "eager"))
        prompts, start = subject.prompts, int(subject.prompts.num_demonstration_tokens[0])
        tensor = lambda x: torch.from_numpy(np.ascontiguousarray(x)).long()
        self.whole, self.at = tensor(prompts.ids), tensor(prompts.length - 1)
        self.before, self.asked, self.start = self.whole[:1, :start], self.whole[:, start:], start
        self.classes, self.gold = tensor(prompts.class_tokens), tensor(prompts.gold)
        label = torch.from_numpy(prompts.sets["label"][:1, :start])
        earlier = torch.ones(start, start).tril(-1).bool()
        cut = ~torch.ones(start, start).tril().bool() | (earlier & label[0][:, None])
        self.mask = torch.zeros(1, 1, start, start).masked_fill(cut, float("-inf"))

    def forward(self) -> Any:
        """Returns the logits (B, vocab) at the token that asks, every prompt read whole."""
        with self.torch.no_grad():
            hidden = self.fused.model(self.whole, use_cache=False).last_hidden_state
            return self._logits(hidden, self.at)

    def saliency(self) -> Any:
        """Returns |sum over heads of A * dL/dA|, (L, B, T, T), as `icl_jax.dissect.flow` has it."""
        torch = self.torch
        start = self.plain.model.embed_tokens(self.whole).requires_grad_()  # so that attention is differentiable
        found = self.plain.model(inputs_embeds=start, use_cache=False, output_attentions=True)
        logits = self._logits(found.last_hidden_state, self.at)[:, self.classes]
        loss = torch.nn.functional.cross_entropy(logits, self.gold, reduction="sum")
        of_layers = torch.autograd.grad(loss, found.attentions)
        pairs = zip(found.attentions, of_layers, strict=True)
        return torch.stack([(a.detach() * g).sum(1).abs() for a, g in pairs])

    def isolated(self, layer: int) -> Any:
        """Returns the logits (B, vocab) where in a layer no label reads what is before it. Only demonstrations have
        labels, so that they are read with the cut, once, and the questions after them."""
        with self._cut_in(layer):
            keys_and_values = self.read_before()
        return self.after(keys_and_values)

    def read_before(self) -> list[tuple[Any, Any]]:
        """Returns keys and values of the demonstrations, of each layer."""
        with self.torch.no_grad():
            cache = self.fused.model(self.before, use_cache=True).cache
        return [(layer.keys, layer.values) for layer in cache.layers]

    def after(self, keys_and_values: Sequence[tuple[Any, Any]]) -> Any:
        """Returns the logits (B, vocab) of the questions alone, after what is kept of the demonstrations."""
        count, torch = len(self.asked), self.torch
        shared = [(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in keys_and_values]
        places = (self.start + torch.arange(self.asked.shape[1]))[None]
        cache = importlib.import_module("transformers").DynamicCache(shared)
        with torch.no_grad():
            found = self.fused.model(self.asked, position_ids=places, cache=cache, use_cache=True)
            return self._logits(found.last_hidden_state, self.at - self.start)

    def _logits(self, hidden: Any, at: Any) -> Any:
        return self.fused.lm_head(hidden[self.torch.arange(len(hidden)), at])

    @contextlib.contextmanager
    def _cut_in(self, layer: int) -> Iterator[None]:
        masked = lambda module, args, kwargs: (args, {**kwargs, "attention_mask": self.mask})
        hook = self.fused.model.layers[layer].register_forward_pre_hook(masked, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()


def _config(subject: Subject) -> dict[str, Any]:
    """The subject's config as Hugging Face has it."""
    model, core = subject.run.config.model, dict(subject.run.config.options.core)
    return {
        "model_type": "llama",
        "vocab_size": len(subject.weights["embedder"]["table"]),
        "hidden_size": model.width,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": core.get("kv_heads", model.num_heads),
        "head_dim": core.get("head_width", model.width // model.num_heads),
        "intermediate_size": core.get("mlp_width", model.mlp_ratio * model.width),
        "max_position_embeddings": subject.run.config.options.frontend.num_positions,
        "rms_norm_eps": core.get("norm_eps", 1e-5),
        "rope_parameters": {"rope_type": "default", "rope_theta": core.get("rotary_base", families.BASE)},
        "tie_word_embeddings": model.tied,
    }


def _state(subject: Subject, config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Our parameters by their names in transformers; the importer's way back."""
    decoder = families.read_config(config)
    for path in decoder.shapes():
        leaf = subject.weights
        for key in path.split("/"):
            leaf = leaf[key]
        leaf = np.asarray(leaf)
        for i, layer in enumerate(leaf if "/layers/" in path else leaf[None]):
            start = 0
            for name, shape in families.parts(decoder, path):
                turned = families.is_transposed(decoder, path)
                width = shape[0] if turned else shape[-1]
                part = layer[..., start : start + width]
                start += width
                prefix = "" if path.startswith("readout") else "model."
                yield f"{prefix}{name.format(i)}", np.array(part.T if turned else part)


def _network(config: dict[str, Any], state: dict[str, Any], attention: str) -> Any:
    """The network, whose parameters are these tensors and not copies. attention: "sdpa" or "eager"."""
    torch, transformers = map(importlib.import_module, ("torch", "transformers"))
    given = {name: value for name, value in config.items() if name != "model_type"}
    with torch.device("meta"):
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**given, attn_implementation=attention))
    network.load_state_dict(state, strict=False, assign=True)
    network.tie_weights()
    network.model.rotary_emb = type(network.model.rotary_emb)(network.config)  # its frequencies are no parameters
    return network.requires_grad_(False).eval()
