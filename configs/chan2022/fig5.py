"""Figure 5 of Chan et al. 2022: within-class variation makes in-context learning.

One drawing per class, the same with pixel noise of sd .1 and .5, and all 20 drawings; 5 seeds.

    icl sweep run configs/chan2022/fig5.py

Two CPU cores: 80,000 member-steps in 4.5 minutes; 0.9 GB. Omniglot, mean +- sd over seeds 0 to 4, at the end (ICL
from .50, IWL from .03 by chance); flipped: trained classes with exchanged labels, 1 where the context decides, 0
where the weights do:

    variation      single       noise .1     noise .5     all
    ICL            .76 +- .01   .74 +- .01   .84 +- .01   .91 +- .01
    ICL, at 500    .81          .86          .64          .80
    flipped        .01 +- .00   .01 +- .00   .83 +- .00   .90 +- .01
    IWL           1.00 +- .00  1.00 +- .00   .05 +- .00   .15 +- .01

Five claims hold. One fails: noise of sd .1 ends with .023 (.003 to .043) less ICL than none, not more. It is the
scale: such noise slows the weights of this network (IWL at 500 .49, without noise .87), so that ICL peaks higher,
but does not keep them from taking over (at the end 1.00, flipped .01). From sd .2 on ICL gains: .81 (IWL .86), at
.3 .88 (.46); seeds 10 and 11.

    icl sweep run configs/chan2022/fig5.py:paper

is the published run: 1,613 classes, 500,000 steps, for accelerators; not run yet.
"""

from icl_jax import claims, grid, load_variant

SCALES = ("laptop", "paper")
SINGLE = {"bank.exemplars": "single"}
VARIATION = {
    "single": SINGLE,
    "noise 0.1": {**SINGLE, "hypers.noise_scale": 0.1},
    "noise 0.5": {**SINGLE, "hypers.noise_scale": 0.5},
    "all": {"bank.exemplars": "all"},
}


def get_config(scale="laptop"):
    paper = scale == "paper"
    config = load_variant(__file__, "base.py" if paper else "laptop.py")
    config.name = "chan2022_fig5_paper" if paper else "chan2022_fig5"
    if not paper:
        config.evals.num_sequences = 8192  # what weak noise does is a matter of hundredths
    return config


def get_sweep(scale="laptop"):
    return grid.product(grid.named("variation", VARIATION), grid.seeds(5))  # the paper ran 3 seeds [T]


def get_claims(scale="laptop"):
    icl, iwl = claims.final("icl"), claims.final("iwl")
    single, weak, strong, drawings = ({"variation": name} for name in VARIATION)
    if scale == "paper":
        return [  # [T] more variation: ICL up, IWL down
            claims.larger("All drawings make more ICL than one", icl, at=drawings, than=single),
            claims.larger("Weak noise makes more ICL than none", icl, at=weak, than=single),
            claims.larger("Strong noise makes more ICL than none", icl, at=strong, than=single),
            claims.larger("One drawing is learned in the weights, 20 are less so", iwl, at=single, than=drawings),
        ]
    return [
        claims.larger("All drawings make more ICL than one", icl, at=drawings, than=single, by=0.05),
        claims.larger("Weak noise makes more ICL than none", icl, at=weak, than=single),
        claims.larger("Strong noise makes more ICL than none", icl, at=strong, than=single),
        claims.larger("All drawings make more ICL than weak noise", icl, at=drawings, than=weak, by=0.05),
        claims.larger("One drawing is learned in the weights, 20 are not", iwl, at=single, than=drawings, by=0.5),
        claims.larger("Strong noise keeps the weights from learning", iwl, at=single, than=strong, by=0.5),
    ]
