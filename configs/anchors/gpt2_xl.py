"""Label words are anchors, on GPT2-XL, the model of Wang et al. 2023: their figures 3 to 5 and tables 1 to 3.

    icl import hf gpt2-xl                # a directory with config.json, safetensors, tokenizer.json -> runs/gpt2-xl
    ICL_TEXT_DIR=TEXTS icl sweep run configs/anchors/gpt2_xl.py:sst2 configs/anchors/gpt2_xl.py:trec --report

Not run here, where there are no such weights: the claims are those of `smollm2.py`, at the same share of the depth. The
paper has, as means over SST-2, TREC, AG News and EmoC, one demonstration per class: accuracy 51.9, re-weighted 68.6;
anchors alone 45.0, with label loyalty 79.5 and word loyalty 62.2 (random slots 49.0 and 5.6; their GPT2-XL begins the
question at position 0 again, here "labels + format, restarted"). EmoC is of the user's own file, emoc.{split}.jsonl.
"""

import pathlib

from icl_jax.runs.config import load_module

_paper, _ = load_module(pathlib.Path(__file__).with_name("smollm2.py"))
_paper.MODEL, _paper.NAME, _paper.LATE = "runs/gpt2-xl", "anchors_gpt2_xl", 35  # of 48 layers
_paper.TASKS, _paper.FEW, _paper.MANY = ("sst2", "trec", "ag_news", "emoc"), 256, 872
SCALES = _paper.SCALES = (*_paper.TASKS, *_paper.ARMS, "roles", "untrained")
get_config, get_sweep, get_claims = _paper.get_config, _paper.get_sweep, _paper.get_claims
