"""Figure 2 of Chan et al. 2022 with interleaved tokens, the paper's own layout, on learned features.

Interleaved tokens ask for a step that concatenated ones do not: a label must first attend to the item before it.
On two cores that step forms within thousands of updates when the items are learned features, and not on
pixels. So an encoder is trained first (concatenated labels, 12,000 classes: 1,500 characters x 8 flips and
rotations) and applied to every drawing; classes held out from it stay held out. Its data decide what the
features are good for, so three kinds are compared at p_bursty .9: from an in-context run (p_bursty 1), from an
in-weights run (p_bursty 0), and pixels.

    icl sweep run configs/chan2022/fig2_interleaved.py

1,600 classes, 32 labels, linear encoder, 2 attention-only layers, loss on the query; 5 seeds.

Two CPU cores: 120,000 member-steps and two encoders of 6,000 steps in 7 minutes; 1.7 GB. Omniglot, mean +- sd over
seeds 0 to 4, at the end (ICL from .50, IWL from .04 by guessing):

    features     in context                                            in weights   pixels
    p_bursty     0            .5           .9           1              .9           .9
    ICL          .51 +- .01   .73 +- .02   .90 +- .02   .92 +- .01     .66 +- .01   .50 +- .01
    IWL          .11 +- .01   .01 +- .00   .00 +- .00   .00 +- .00     .00 +- .00   .00 +- .00

All six claims hold. What features were learned for decides: an encoder trained where only the context answers
gives in-context learning that pixels do not give, and one trained where only the weights answer lies between.
"""

from icl_jax import Stage, claims, grid, load_variant

P_BURSTY = (0.0, 0.5, 0.9, 1.0)
ENCODERS = grid.named("features", {"in context": {"hypers.p_bursty": 1.0}, "in weights": {"hypers.p_bursty": 0.0}})
LEARNED = {"bank.name": "features", "bank.augment": False, "bank.path": "stage:encoders"}


def get_config():
    config = load_variant(__file__, "laptop.py")
    config.name = "chan2022_fig2_interleaved"
    config.bank.augment = True
    config.task.num_holdout = 800
    config.model.labels = "interleaved"
    config.model.encoder = "linear"
    config.hypers.num_classes = 1600
    config.hypers.learning_rate = 1e-3
    config.evals.custom.icl_select = {"kind": "fewshot", "classes": "holdout"}
    return config


def get_stages():
    """The runs whose encoders give the features."""
    config = load_variant(__file__, "laptop.py")
    config.bank.augment = True
    config.task.num_holdout = 800
    config.train.num_steps = 6000
    config.hypers.num_classes = 12_000
    return {"encoders": Stage(config, ENCODERS)}


def get_sweep():
    kinds = grid.named("features", {"in context": LEARNED, "in weights": LEARNED, "pixels": {}})
    of_kind = {point.labels["features"]: [point] for point in kinds}
    burstiness = grid.product(of_kind["in context"], grid.over("hypers.p_bursty", P_BURSTY))
    others = grid.product([*of_kind["in weights"], *of_kind["pixels"]], grid.over("hypers.p_bursty", (0.9,)))
    return grid.product(grid.chain(burstiness, others), grid.seeds(5))


def get_claims():
    icl = claims.final("icl")
    at = lambda features, p: {"features": features, "p_bursty": p}
    learned = {"features": "in context"}
    return [
        claims.trend("ICL rises with burstiness", icl, over="p_bursty", at=learned),
        claims.larger(
            "Bursty data make in-context learning", icl, at("in context", 1.0), than=at("in context", 0.0), by=0.2
        ),
        claims.within("Without burstiness ICL is at chance", icl, at("in context", 0.0), 0.45, 0.55),
        claims.within("On pixels ICL stays at chance", icl, at("pixels", 0.9), 0.45, 0.55),
        claims.larger(
            "Features of an in-context run beat pixels", icl, at("in context", 0.9), than=at("pixels", 0.9), by=0.2
        ),
        claims.larger(
            "Features of an in-context run beat those of an in-weights run",
            icl,
            at("in context", 0.9),
            than=at("in weights", 0.9),
            by=0.05,
        ),
    ]
