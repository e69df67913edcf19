"""Chan et al. 2022, the published setting: Omniglot at 105x105, ResNet and 12-layer transformer.

Faithful to the released configuration: 8 pairs and a query, p_bursty 0.9 with a Zipfian core (2 ways x
3 shots) and Zipfian remainder, 1,603 rare + 10 common classes trained on and 10 held out, labels by
position in the class order (seed 1337), Adam with peak 3e-4 after 4,000 warm-up steps and then
inverse square root, batch 32, 500,000 steps, loss on the query. Also as released: ways drawn with
replacement (which caps its in-context score at 0.95), ink 0 on paper 1, batch statistics per device,
matmul precision left to the device. Not applied, as in the release: the configured gradient clip. Other
than in the release, the labels of the 10 held-out classes, which no example has, are not in the softmax.
With statistics per device a member stays on one device; runtime.batch_shards splits its batch.

    icl train configs/chan2022/base.py

831,479 parameters. For a GPU or TPU: a step takes about 0.8 s on two CPU cores (batch_shards 2). Published
(figure 2, read off): in-context accuracy on held-out classes well above 0.5 for p_bursty 0.9, and an
independent replication peaks at 0.96 for p_bursty 0.9 and 1, 0.54 for 0 (chance 0.5).
"""

from icl_jax import default_config


def get_config():
    config = default_config()
    config.name = "chan2022_base"

    config.bank.name = "omniglot"
    config.bank.image_size = 105
    config.bank.exemplars = "all"
    config.bank.ink = 0.0

    config.task.context_len = 8
    config.task.num_common = 10
    config.task.num_holdout = 10
    config.task.distinct_ways = False

    config.model.core = "transformer"
    config.model.num_layers = 12
    config.model.encoder = "resnet"
    config.model.positions = "sinusoidal"
    config.model.sync_batch_stats = False
    config.model.precision = "default"

    config.train.batch_size = 32
    config.train.num_steps = 500_000
    config.train.schedule = "rsqrt"

    config.hypers.p_bursty = 0.9
    config.hypers.learning_rate = 3e-4
    config.hypers.warmup_steps = 4000
    config.seeds.split = 1337

    config.evals.suites = (
        "chan2022_fewshot_holdout",
        "chan2022_fewshot_rare",
        "chan2022_fewshot_common",
        "chan2022_fewshot_zipfian",
        "chan2022_no_support_rare",
        "chan2022_no_support_common",
        "chan2022_no_support_zipfian",
    )
    config.evals.icl = "chan2022_fewshot_holdout"
    config.evals.iwl = "chan2022_no_support_zipfian"
    config.evals.every = 5000
    config.evals.num_sequences = 1000
    config.evals.batch_size = 100

    config.checkpoint.every = 5000
    config.checkpoint.keep_every = 50_000
    return config
