"""Label words are anchors, on GPT-J-6B: figures 4 and 5 and table 2 of Wang et al. 2023.

    icl import hf gpt-j-6b --dtype=bfloat16              # -> runs/gpt-j-6b
    ICL_TEXT_DIR=TEXTS icl sweep run configs/anchors/gpt_j.py:sst2 configs/anchors/gpt_j.py:trec --report

Not run here, where there are no such weights: the claims are those of `smollm2.py`, at the same share of the depth. The
paper has, as means over SST-2, TREC, AG News and EmoC with one demonstration per class: accuracy 56.8; anchors alone
55.6, with label loyalty 89.1 and word loyalty 75.0 (random slots 49.0 and 2.2).
"""

import pathlib

from icl_jax.runs.config import load_module

_paper, _ = load_module(pathlib.Path(__file__).with_name("smollm2.py"))
_paper.MODEL, _paper.NAME, _paper.LATE = "runs/gpt-j-6b", "anchors_gpt_j", 20  # of 28 layers
_paper.TASKS, _paper.FEW, _paper.MANY = ("sst2", "trec", "ag_news", "emoc"), 256, 872
SCALES = _paper.SCALES = (*_paper.TASKS, *_paper.ARMS, "roles", "untrained")
get_config, get_sweep, get_claims = _paper.get_config, _paper.get_sweep, _paper.get_claims
