"""In-context learning is transient: it rises, then fades while the weights learn (Singh et al. 2023, arXiv 2311.08360).

8 pairs and a query on Omniglot, weight decay 0 and two values of L2 on all weights. At the paper's length ICL decays
though every sequence is bursty, and L2 of up to 1e-4 keeps it. The laptop's network (that of chan2022's laptop scale:
one token per pair, two attention-only layers) does not get there in thousands of steps on bursty sequences alone,
so half of its sequences are iid.

    icl sweep run configs/singh2023/transience.py          256 classes, p_bursty .5, Adam 3e-3, 8,000 steps
    icl sweep run configs/singh2023/transience.py:paper    1,600 classes, 12 layers, Adam 3e-4, 5e7 steps (accelerators)

Other than in the paper's fixed-feature runs, a ResNet is trained jointly; the bursty core has 2 ways x 3 shots, and 2
more pairs are iid, as there.

Laptop: 120,000 member-steps, 4 minutes on two cores. Omniglot, seeds 0 to 4, means:
    step                               1,000    4,000    8,000
    ICL (floor .50), without L2          .70      .61      .56
    IWL (floor .04), without L2          .18      .69      .87
    labels exchanged, without L2         .43      .07      .02
    ICL, IWL, exchanged, L2 1e-4    .72 .17 .46   .62 .67 .08   .57 .84 .02
    ICL, IWL, exchanged, L2 1e-3    .71 .17 .46   .64 .58 .13   .58 .72 .04
All 5 claims hold: ICL peaks at .70 (.69 to .71) and decays by .14 (.12 to .16). L2 of 1e-3 slows the weights (IWL .15
lower in the end, .10 to .19) and delays the decay a little; at the paper's scale it removes it.
"""

from icl_jax import claims, default_config, grid, load_variant

SCALES = ("laptop", "paper")
L2 = {"laptop": (0.0, 1e-4, 1e-3), "paper": (0.0, 1e-5, 1e-4)}


def get_config(scale="laptop"):
    config = _paper_network() if scale == "paper" else _laptop_network()
    config.train.weight_decay = "l2"
    # Other sequences of the ICL suite's kind: the peak of ICL is found on these and read off on those.
    config.evals.custom.icl_select = {"kind": "fewshot", "classes": "holdout"}
    config.evals.suites = ("fewshot_holdout", "no_support_zipfian", "flipped")
    config.runtime.tensorboard = False
    config.runtime.figures = False
    return config


def _laptop_network():
    config = load_variant(__file__, "../chan2022/laptop.py")
    config.name = "singh2023_transience"
    config.train.schedule, config.hypers.final_lr_fraction = "constant", 0.0
    config.train.num_steps = 8_000
    config.hypers.p_bursty = 0.5
    config.checkpoint.every = 4_000
    return config


def _paper_network():
    config = default_config()
    config.name = "singh2023_transience_paper"
    config.bank.name = "omniglot"
    config.bank.image_size = 105
    config.task.num_holdout = 23
    config.hypers.p_bursty = 1.0
    config.model.num_layers = 12
    config.model.encoder = "resnet"
    config.train.num_steps = 50_000_000
    config.hypers.learning_rate = 3e-4
    config.evals.every = 20_000
    config.checkpoint.every = 200_000
    return config


def get_sweep(scale="laptop"):
    modules = ("attention", "mlp", "encoder", "embeddings")
    decays = {value: {f"hypers.decay_{module}": value for module in modules} for value in L2[scale]}
    return grid.product(grid.named("l2", decays), grid.seeds(5))


def get_claims(scale="laptop"):
    peak, decay = claims.peak("icl", select="icl_select"), claims.decay("icl", select="icl_select")
    none, most = {"l2": 0}, {"l2": L2[scale][-1]}
    ordinal = [
        claims.within("ICL rises", peak, none, low=0.62),
        claims.within("ICL decays", decay, none, low=0.05),
        claims.within("IWL rises meanwhile", claims.final("iwl"), none, low=0.5),
        claims.within("In the end the weights decide where the two disagree", claims.final("flipped"), none, high=0.2),
    ]
    laptop = [claims.larger("L2 slows the weights", claims.final("iwl"), at=none, than=most, by=0.1)]
    paper = [claims.larger("L2 keeps ICL", claims.final("icl"), at=most, than=none, by=0.1)]
    return ordinal + (paper if scale == "paper" else laptop)
