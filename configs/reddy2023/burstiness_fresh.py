"""Reddy 2023, figure 3 and beyond: sequences of fresh classes make in-context learning, with burstiness or without.

Share p_B of bursty sequences against share p_C of sequences whose classes and labels are made up for them. The
others keep their classes' labels, so that a network may learn both ways. The paper has p_C .8; the plane is ours.

    icl sweep run configs/reddy2023/burstiness_fresh.py          laptop: K 256, B 2
    icl sweep run configs/reddy2023/burstiness_fresh.py:paper    K 256, B 1, the paper's network, optimiser and length

Laptop, 180,000 member-steps, seeds 0 to 4: about 6 minutes on two quiet cores. ICL (floor .50) and IWL (.04), means:

    p_C           0           .25          .5           .75
    p_B 0      .51 1.00    .70 .97     .99 .91     .90 .02
    p_B .5     .50 1.00    .78 .91     .99 .42     .99 .02
    p_B 1      .52 .87     .97 .04     .99 .01     .99 .01

All six claims hold. ICL comes abruptly: from a quarter to three quarters of the way in 200 to 460 steps, half way at
1,740 to 2,940; in four of five seeds at p_B 0, p_C .75, where it is still to come in the fifth. At p_B 0, p_C .5
both are complete, and where they disagree (labels moved on by one) the context wins, .78.
"""

from icl_jax import claims, grid, load_variant

SCALES = ("laptop", "paper")
MUCH = {"laptop": 0.5, "paper": 0.8}  # p_C at which both abilities are claimed


def get_config(scale="laptop"):
    config = load_variant(__file__, f"base.py:{scale}")
    config.name += "_burstiness_fresh"
    config.hypers.num_classes = 256
    config.hypers.ways, config.hypers.shots = (8, 1) if scale == "paper" else (4, 2)
    return config


def get_sweep(scale="laptop"):
    shares = (0.0, 0.2, 0.4, 0.6, 0.8) if scale == "paper" else (0.0, 0.25, 0.5, 0.75)
    return grid.product(
        grid.over("hypers.p_bursty", (0.0, 0.5, 1.0), "p_B"), grid.over("hypers.p_fresh", shares, "p_C"), grid.seeds(5)
    )


def get_claims(scale="laptop"):
    icl, iwl, much = claims.final("icl"), claims.final("iwl"), MUCH[scale]
    ordinal = [
        claims.larger(
            f"Fresh classes make in-context learning at p_B {p:g}",
            icl,
            at={"p_B": p, "p_C": much},
            than={"p_B": p, "p_C": 0},
            by=0.2,
        )
        for p in (0, 1)
    ]
    both = {"p_B": 0, "p_C": much}
    return [
        *ordinal,
        claims.trend("IWL falls with the share of fresh sequences", iwl, over="p_C", rising=False, at={"p_B": 0}),
        claims.trend("IWL falls with the share of bursty sequences", iwl, over="p_B", rising=False, at={"p_C": much}),
        claims.within("Without burstiness both live together: ICL", icl, both, low=0.75),
        claims.within("Without burstiness both live together: IWL", iwl, both, low=0.5),
    ]
