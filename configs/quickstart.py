"""Quickstart: burstiness makes in-context learning, on two CPU cores, in minutes.

Chan et al. 2022, figure 2, in small: one population of 4 values of p_bursty x 2 seeds, trained as one
program on Omniglot where it is found, else on procedurally drawn glyphs.

    icl train configs/quickstart.py

Two CPU cores: 65 s with cold caches, 0.95 GB (glyphs: 7 to 40 s more, once, to draw them). Measured at
the end, mean over seeds; ICL is accuracy on held-out classes (floor .50), IWL on trained ones (.04):

    p_bursty                                0     .5     .9      1
    Omniglot, these 2 seeds       ICL     .52    .63    .91    .96
                                  IWL     .97    .81    .17    .00
    Omniglot, seeds 2, 3, 4       ICL     .51    .64    .92    .94     (also other splits and eval sets)
                                  IWL     .97    .81    .14    .00
    glyphs, these 2 seeds         ICL     .47    .66    .94    .97
                                  IWL     .95    .80    .17    .00
    glyphs, seeds 2, 3, 4         ICL     .49    .62    .93    .95
                                  IWL     .96    .81    .16    .00

At p_bursty .5 in-context learning comes first (.74 on Omniglot at step 750) and fades: transience.
For other seeds: --set seeds.init=2,3,4 --set seeds.data=2,3,4.
"""

from icl_jax import default_config


def get_config():
    config = default_config()
    config.name = "quickstart"

    config.bank.name = "auto"
    config.bank.image_size = 14

    config.task.context_len = 8
    config.task.num_holdout = 100
    config.task.num_labels = 32

    config.model.core = "transformer"
    config.model.num_layers = 2
    config.model.mlp_ratio = 0
    config.model.positions = "learned"
    config.model.encoder = "mlp"
    config.model.labels = "concatenated"

    config.train.batch_size = 32
    config.train.num_steps = 4000
    config.train.schedule = "cosine"

    config.hypers.p_bursty = (0.0, 0.5, 0.9, 1.0)
    config.hypers.num_classes = 256
    config.hypers.learning_rate = 3e-3
    config.hypers.warmup_steps = 200
    config.hypers.final_lr_fraction = 0.05
    config.seeds.init = (0, 1)
    config.seeds.data = (0, 1)

    config.evals.every = 250
    config.evals.suites = ("fewshot_holdout", "no_support_zipfian", "flipped", "broken")
    return config
