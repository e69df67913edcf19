"""Smoke: the quickstart's program in its smallest form, for CI and for a first look.

    icl train configs/smoke.py

2 members, 40 steps on glyphs, well under a minute on two CPU cores. It shows that everything runs; it
is far too short to learn anything.
"""

from icl_jax import load_variant


def get_config():
    config = load_variant(__file__, "quickstart.py")
    config.name = "smoke"
    config.bank.name = "glyphs"
    config.bank.num_classes = 80
    config.task.num_holdout = 16
    config.task.num_labels = 16
    config.hypers.num_classes = 64
    config.hypers.p_bursty = (0.0, 1.0)
    config.seeds.init = 0
    config.seeds.data = 0
    config.train.num_steps = 40
    config.hypers.warmup_steps = 20
    config.evals.every = 20
    config.evals.num_sequences = 64
    config.evals.batch_size = 64
    config.checkpoint.every = 20
    return config
