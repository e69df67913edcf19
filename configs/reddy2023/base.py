"""Reddy 2023 (arXiv 2312.03002): the Gaussian bank, the network and the optimiser of the phase diagrams.

8 item-label pairs and a query. K classes share L = 32 labels; an item is (mu + eps n) / sqrt(1 + eps^2). A bursty
sequence (share p_B) shows 8 / B classes B times each, the query's among them; the others are drawn one by one, so that
the query's class need not be shown. A share p_C of sequences is of classes and labels made up for them. Two attention-
only layers of one head without layer norm, residual, one-hot positions shifted at random, 3 ReLU layers and a
linear one on the last token; loss on the query.

    icl train configs/reddy2023/base.py             laptop: D 32, 32 slots, batch 32, Adam 3e-3, 3,000 steps
    icl train configs/reddy2023/base.py:paper       D 63, 65 slots, batch 128, SGD .01, 150,000 steps

Other than in the paper: label vectors are learned, from sd .02 (there: fixed, as long as items), attention has biases
and an output product, a bursty sequence's B copies do not share their place with iid items. ICL is read on fresh
classes, 2 ways x 4 shots, over the two labels shown (floor .5 whatever B); `reddy_fresh` is the paper's own reading
(8 / B ways, over all labels), `reddy_shifted` trained classes whose labels are moved on by one, and IWL asks for a
trained class that the context does not show.
"""

from icl_jax import default_config

SCALES = ("laptop", "paper")


def get_config(scale="laptop"):
    paper = scale == "paper"
    config = default_config()
    config.name = "reddy2023_paper" if paper else "reddy2023"

    config.bank.name = "gaussian"
    config.bank.num_classes = 4160
    config.bank.dim = 63 if paper else 32
    config.task.kind = "bursty"
    config.task.context_len = 8
    config.task.max_ways = 8
    config.task.num_labels = 32
    config.task.num_holdout = 64
    config.hypers.num_classes = 1024
    config.hypers.p_bursty = 1.0
    config.hypers.ways = 4
    config.hypers.shots = 2
    config.hypers.noise_scale = 0.1

    config.model.num_layers = 2
    config.model.num_heads = 1
    config.model.mlp_ratio = 0
    config.model.norm = "none"
    config.model.encoder = "identity"
    config.model.positions = "onehot"
    config.model.num_position_slots = 65 if paper else 32
    config.model.width = config.bank.dim + config.model.num_position_slots
    config.model.readout = "mlp"

    config.train.batch_size = 128 if paper else 32
    config.train.num_steps = 150_000 if paper else 3_000
    config.train.optimiser = "sgd" if paper else "adam"
    config.hypers.learning_rate = 0.01 if paper else 3e-3
    if paper:  # parameters shrink by 1e-6 a step
        config.hypers.decay_attention = config.hypers.decay_mlp = 1e-4

    config.evals.custom.fresh_two_ways = {"classes": "fresh", "ways": 2}
    config.evals.suites = ("fresh_two_ways", "no_support_zipfian", "reddy_fresh", "reddy_shifted")
    config.evals.icl = "fresh_two_ways"
    config.evals.every = 3_000 if paper else 300
    config.checkpoint.every = 10 * config.evals.every
    config.runtime.tensorboard = False
    config.runtime.figures = False
    return config
