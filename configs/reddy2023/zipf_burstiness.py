"""Reddy 2023, figure 2: at Zipf exponent 1 in-context and in-weights learning live together.

Zipf exponent alpha of the classes against the share p_B of bursty sequences.

    icl sweep run configs/reddy2023/zipf_burstiness.py          laptop: K 4,000, B 4
    icl sweep run configs/reddy2023/zipf_burstiness.py:paper    the paper's network, optimiser and length; K 1,024, B 4

IWL is given as its share of the way from floor to ceiling, as the commonest label alone is right more often the
larger alpha is.

Laptop: 180,000 member-steps, 5 to 6 minutes on two quiet cores. Seeds 0 to 4, means of ICL (floor .50) and IWL (floor
.04, .03, .18, .54 by exponent); all 6 claims hold:

    alpha       0          .5          1         1.5
    p_B .5   .81 .02    .88 .03    .68 .59    .50 .93
    p_B .75  .99 .02    .99 .02    .89 .47    .50 .89
    p_B 1    .99 .01    .99 .01    .94 .09    .50 .71
"""

from icl_jax import claims, grid, load_variant

SCALES = ("laptop", "paper")


def get_config(scale="laptop"):
    config = load_variant(__file__, f"base.py:{scale}")
    config.name += "_zipf_burstiness"
    config.hypers.ways, config.hypers.shots = 2, 4
    config.hypers.num_classes = 1024 if scale == "paper" else 4000
    return config


def get_sweep(scale="laptop"):
    return grid.product(
        grid.over("hypers.zipf_exponent", (0.0, 0.5, 1.0, 1.5), "alpha"),
        grid.over("hypers.p_bursty", (0.5, 0.75, 1.0), "p_B"),
        grid.seeds(5),
    )


def get_claims(scale="laptop"):
    icl, iwl = claims.final("icl"), claims.final("iwl", metric="share")
    mixed = lambda alpha: {"alpha": alpha, "p_B": 0.75}
    return [
        claims.larger("Skewed classes end in-context learning", icl, at=mixed(0), than=mixed(1.5), by=0.2),
        claims.trend("IWL rises with the exponent", iwl, over="alpha", at={"p_B": 0.75}),
        claims.trend("ICL rises with the share of bursty sequences", icl, over="p_B", at={"alpha": 1}),
        claims.trend("IWL falls with the share of bursty sequences", iwl, over="p_B", rising=False, at={"alpha": 1}),
        claims.larger("Exponent 1 keeps ICL", icl, at=mixed(1), than=mixed(1.5), by=0.1),
        claims.larger("Exponent 1 has IWL too", iwl, at=mixed(1), than=mixed(0), by=0.1),
    ]
