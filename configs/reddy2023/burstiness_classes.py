"""Reddy 2023, figure 2: many copies in the context and many classes make in-context learning.

Burstiness B (copies of a class in the context; 0: iid sequences) against the number of classes K.

    icl sweep run configs/reddy2023/burstiness_classes.py          laptop
    icl sweep run configs/reddy2023/burstiness_classes.py:paper    the paper's network, optimiser and length

Laptop, 180,000 member-steps: 5 to 6 minutes on two quiet cores (8 on busy ones). ICL (floor .50) and IWL (.04),
seeds 0 to 4, means:

    B            0           1           2           4
    K 64     .50 1.00    .50  .99    .51 .97     .50 .92
    K 256    .51 1.00    .52  .99    .52 .87     .63 .13
    K 1,024  .51  .99    .52  .67    .99 .01     .99 .01

All seven claims hold. ICL is abrupt: at K 1,024, B 2 it is half there at step 1,740, and takes 200 steps from a
quarter to three quarters (B 4: 1,020 and 230). The paper's own reading, over all labels, is .17 there at step 900 (a
guess among the labels shown has .25) and ends at .95.
At K 256, B 4 neither is complete and seeds differ (.50 to .85). B 1 shows no ICL by 3,000 steps at any K.
"""

from icl_jax import claims, grid, load_variant

SCALES = ("laptop", "paper")
CLASSES = {"laptop": (64, 256, 1024), "paper": (128, 256, 512, 1024, 2048)}


def get_config(scale="laptop"):
    config = load_variant(__file__, f"base.py:{scale}")
    config.name += "_burstiness_classes"
    return config


def get_sweep(scale="laptop"):
    copies = {0: {"hypers.p_bursty": 0.0}} | {b: {"hypers.ways": 8 // b, "hypers.shots": b} for b in (1, 2, 4)}
    return grid.product(grid.named("B", copies), grid.over("hypers.num_classes", CLASSES[scale], "K"), grid.seeds(5))


def get_claims(scale="laptop"):
    icl, iwl = claims.final("icl"), claims.final("iwl")
    few, many = CLASSES[scale][0], CLASSES[scale][-2 if scale == "paper" else -1]
    ordinal = [
        claims.trend("ICL rises with burstiness", icl, over="B", at={"K": many}),
        claims.trend("IWL falls with burstiness", iwl, over="B", rising=False, at={"K": many}),
        claims.larger(
            "More classes make in-context learning", icl, at={"B": 2, "K": many}, than={"B": 2, "K": few}, by=0.2
        ),
        claims.trend("IWL falls with the number of classes", iwl, over="K", rising=False, at={"B": 2}),
        claims.within("Iid sequences teach no ICL", icl, {"B": 0, "K": many}, high=0.56),
    ]
    early = claims.at("reddy_fresh", 900)
    laptop = [
        claims.within("ICL is preceded by guessing a label of the context (1/4)", early, {"B": 2, "K": many}, 0.1, 0.3),
        claims.within(
            "Then most fresh sequences are solved", claims.final("reddy_fresh"), {"B": 2, "K": many}, low=0.7
        ),
    ]
    paper = [
        claims.within("ICL is complete at B 4", claims.final("reddy_fresh"), {"B": 4, "K": many}, low=0.9),
        claims.within("IWL is complete without burstiness", iwl, {"B": 0, "K": few}, low=0.9),
    ]
    return ordinal + (paper if scale == "paper" else laptop)
