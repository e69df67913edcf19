"""Do label tokens anchor the answers of grown models? In-context, in-weights and mixed ones, dissected as they learn.

icl sweep run configs/anchors/grown.py --report              one-token pairs, 2 to 6 layers; label before item
icl sweep run configs/anchors/grown.py:parts --report        items of two tokens and a separator
icl sweep run configs/anchors/grown.py:omniglot --report     features learned from Omniglot
"""

from icl_jax import Stage, claims, grid, load_variant

SCALES = ("gaussian", "parts", "omniglot")
FRESH, TRAINED = "fresh_two_ways", "trained_two_ways"
CONTEXT = {"hypers.p_bursty": 1.0, "hypers.ways": 2, "hypers.shots": 4}
WEIGHTS = {"hypers.num_classes": 64, "hypers.p_bursty": 0.0}
MIXED = {"hypers.num_classes": 128, "hypers.p_bursty": 0.0, "hypers.p_fresh": 0.5}
ARMS = {
    "in context": CONTEXT,
    "in weights": WEIGHTS,
    "mixed": MIXED,
    "label first": {**CONTEXT, "model.pair_order": "label_first"},
}
PARTS = {**MIXED, "model.item_tokens": 2, "model.separator": True, "task.loss": "all"}


def get_config(scale="gaussian"):
    if scale == "omniglot":
        return _omniglot()
    config = load_variant(__file__, "../reddy2023/base.py")
    config.name = f"anchors_grown_{scale}"
    config.task.fresh = True
    config.model.encoder = "linear"
    config.model.num_position_slots = 40 if scale == "parts" else 24
    config.model.width = 32 + config.model.num_position_slots
    config.model.num_heads = 2
    config.evals.custom.trained_two_ways = {"classes": "zipfian", "labels": "fixed", "ways": 2}
    config.evals.suites = (FRESH, "no_support_zipfian", TRAINED)
    config.evals.more = _evals(FRESH, TRAINED, parts=scale == "parts")
    config.train.num_steps, config.evals.every, config.checkpoint.every = 2_400, 300, 2_400
    return config


def get_sweep(scale="gaussian"):
    layers = lambda *depths: grid.over("model.num_layers", depths, "layers")
    named = lambda *arms: grid.named("arm", {arm: ARMS[arm] for arm in arms})
    if scale == "omniglot":
        order = {"in context": {}, "label first": {"model.pair_order": "label_first"}}
        return grid.product(grid.named("arm", order), grid.seeds(5))
    if scale == "parts":
        return grid.product(grid.named("arm", {"parts": PARTS}), layers(3, 4), grid.seeds(5))
    deep = grid.product(named("in context"), layers(2, 4, 6))
    return grid.product(grid.chain(deep, grid.product(named(*list(ARMS)[1:]), layers(2))), grid.seeds(5))


def _evals(fresh, trained, parts):
    of = {"suite": fresh, "num_prompts": 128}
    cuts = ("item -> label", "label -> query", "item -> query")
    if parts:
        cuts += ("forerunner -> label", "item -> forerunner", "forerunner -> query", "query_text -> query")
    return {
        "flow": {**of, "num_prompts": 64, "of": "logit_difference", "flows": cuts[:3]},
        "edges": {**of, "edges": cuts, "layers": ("all",)},
        "trained": {**of, "use": "edges", "suite": trained, "edges": cuts[1:3], "layers": ("all",)},
        "compress": of,
    }


def _omniglot():
    config = load_variant(__file__, "../chan2022/fig2_interleaved.py")
    config.name = "anchors_grown_omniglot"
    config.bank.name, config.bank.augment, config.bank.path = "features", False, "stage:encoders"
    config.hypers.p_bursty = 1.0
    config.evals.custom = {TRAINED: {"classes": "zipfian", "labels": "fixed", "ways": 2}}
    config.evals.suites = ("fewshot_holdout", "no_support_zipfian", TRAINED)
    config.evals.more = _evals("fewshot_holdout", TRAINED, parts=False)
    config.train.num_steps, config.evals.every, config.checkpoint.every = 4_000, 500, 4_000
    return config


def get_stages(scale="gaussian"):
    """The run whose encoder gives the features, as in `chan2022/fig2_interleaved.py`."""
    if scale != "omniglot":
        return {}
    config = load_variant(__file__, "../chan2022/laptop.py")
    config.bank.augment = True
    config.task.num_holdout = 800
    config.train.num_steps = 6_000
    config.hypers.num_classes, config.hypers.p_bursty = 12_000, 1.0
    return {"encoders": Stage(config)}


def get_claims(scale="gaussian"):
    return []
