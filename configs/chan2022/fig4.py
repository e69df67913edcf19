"""Figure 4 of Chan et al. 2022: labels that change from sequence to sequence make in-context learning.

Multiplicity 1, 2, 5 and 10: a class owns so many labels, and each sequence shows one of them; 5 seeds.

    icl sweep run configs/chan2022/fig4.py

Two CPU cores: 80,000 member-steps in 3 minutes; 0.9 GB. 100 classes, each with labels of its own (1,000 in all), so
few that with one label the weights win. Omniglot, mean +- sd over seeds 0 to 4 (ICL from .50, IWL from .01 by chance):

    multiplicity      1            2            5            10
    ICL, its peak    .66          .74          .81          .84
    ICL, at the end  .58 +- .01   .60 +- .01   .70 +- .01   .77 +- .01
    IWL, at the end  .99 +- .00   .94 +- .00   .77 +- .02   .55 +- .05

All four claims hold.

    icl sweep run configs/chan2022/fig4.py:paper

is the published run: 1,613 classes, 500,000 steps, for accelerators; not run yet.
"""

from icl_jax import claims, grid, load_variant

SCALES = ("laptop", "paper")
MULTIPLICITY = (1, 2, 5, 10)


def get_config(scale="laptop"):
    paper = scale == "paper"
    config = load_variant(__file__, "all_exemplars.py" if paper else "laptop.py")
    config.name = "chan2022_fig4_paper" if paper else "chan2022_fig4"
    if paper:
        config.task.multiplicity_by = "slot"  # as released
    else:  # so few classes that with one label each the weights win; each has labels of its own
        config.task.max_classes = 100
        config.hypers.num_classes = 100
        config.task.num_labels = 0
    return config


def get_sweep(scale="laptop"):
    return grid.product(grid.over("hypers.multiplicity", MULTIPLICITY), grid.seeds(5))


def get_claims(scale="laptop"):
    icl, iwl = claims.final("icl"), claims.final("iwl")
    one, ten = {"multiplicity": 1}, {"multiplicity": 10}
    ordinal = [  # [T] the paper's IWL panel is the weaker one
        claims.trend("ICL rises with multiplicity", icl, over="multiplicity"),
        claims.trend("IWL falls with multiplicity", iwl, over="multiplicity", rising=False),
    ]
    if scale == "paper":
        return [*ordinal, claims.larger("Ten labels a class make more ICL than one", icl, at=ten, than=one)]
    return [
        *ordinal,
        claims.larger("Ten labels a class make in-context learning", icl, at=ten, than=one, by=0.1),
        claims.larger("One label a class is learned in the weights", iwl, at=one, than=ten, by=0.2),
    ]
