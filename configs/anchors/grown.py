"""Do label tokens anchor the answers of grown models? In-context, in-weights and mixed ones, dissected as they learn.

    icl sweep run configs/anchors/grown.py --report              one-token pairs, 2 to 4 layers; labels before items
    icl sweep run configs/anchors/grown.py:parts --report        items of two tokens and a separator
    icl sweep run configs/anchors/grown.py:omniglot --report     features learned from Omniglot

The network, bank and optimiser of `reddy2023/base.py` with a linear encoder and two heads, 2,400 steps; 8 pairs of 2
classes that were never trained, answers over the labels shown (floor .50). In context: p_B 1, 1,024 classes; weights:
p_B 0, 64 classes. Mixed: p_B 0, p_C .5, 128 classes. An edge "a -> b" is cut (b does not read a) in all layers.
Bounds were set on seeds 100 and 101 and are judged on 0 to 4; means of these, accuracy on classes never trained:

    arm, layers        whole  item->label  label->query  item->query  | labels alone  random slots  forerunners
    in context, 2       .99      .49           .53           .95      |     .95           .53           .53
    in context, 3       .99      .51           .57           .93      |     .93           .57           .57
    in context, 4       .99      .47           .54           .90      |     .90           .54           .54
    mixed, 2            .99      .49           .52           .98      |     .98           .52           .52
    label first, 2      .99      .98           .96           .49      |     .49           .96           .96

With labels after items, as many cuts at near tokens leave .95 to .99, as many random edges .90 or more. So label
tokens are anchors: they gather their item, questions read them and little else, and their keys and values alone keep
most of what the whole context gives, a little less with depth (4 layers cost .036 more than 2, -.007 to .079:
undecided for a margin of .08). But it is not the label that matters: with labels before items the anchor is the item,
the pair's last token, and labels alone are worth nothing. In-weights learners (IWL 1.00) lose nothing by any cut;
mixed ones need the labels of fresh classes (.52 without) and hardly those of trained ones.

Which comes first? The flow from labels to the question, beyond near tokens, is e times as large (log ratio 1) 440
steps before the onset of ICL (329 to 551), that from items to labels 340 steps before (229 to 451); in-weights
learners never get there (-.5). Early flow from labels is no in-context learning yet: at step 300 accuracy is .51, and
with labels before items questions read labels too (log ratio .8), then turn to items (-8.8): they guess a label that
is shown, as Reddy 2023 describes. In mixed learners both flows rise together, to 1 at steps 800 to 900, where
accuracy is .54 to .56.

Parts: an item is two tokens, a separator stands before its label and asks for the query's, so that text, forerunner
and label differ; the mixture with 2 ways x 4 shots, loss on all labels. In 3 layers four of five seeds learn in
context (.99) and in weights, one learns neither by 2,400 steps, so that 3 of 9 claims hold and 6 are undecided. Of
the four, accuracy:

    item->label  forerunner->label  item->forerunner  label->query  forerunner->query  item->query  query's own item
        .50             .99               .95              .47             .99              .72            .46

and of what is kept alone: labels + separators .83, labels .74, separators .48, random slots .49. So a grown model's
label reads its item over the forerunner's head: the information is at the label and never at the token before it,
which Cho et al. 2025 found to hold it first in language models. As many near tokens cut off from items leave .76.
Anchors lose more here (.83 of .99), and encoded each alone they, and the whole context too, are worth nothing (.51,
.49). In 4 layers one of five seeds learns in context by then (cuts as above, labels + separators .67), so that what
is claimed of learners fails. With 4 ways x 2 shots, tried first, five seeds learned in weights alone by 2,400 steps;
without fixed labels to learn beside fresh ones (p_C 0, .8 or 1) no lead learned in context by 3,000. The Omniglot
scale is stated and was not run.
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
PARTS = {**MIXED, "hypers.ways": 2, "hypers.shots": 4, "task.loss": "all"}
PARTS |= {"model.item_tokens": 2, "model.separator": True}


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
    config.evals.more = _evals(FRESH, TRAINED, 100, parts=scale == "parts")
    config.train.num_steps, config.evals.every, config.checkpoint.every = 2_400, 100, 2_400
    return config


def get_sweep(scale="gaussian"):
    layers = lambda *depths: grid.over("model.num_layers", depths, "layers")
    named = lambda *arms: grid.named("arm", {arm: ARMS[arm] for arm in arms})
    if scale == "omniglot":
        order = {"in context": {}, "label first": {"model.pair_order": "label_first"}}
        return grid.product(grid.named("arm", order), grid.seeds(5))
    if scale == "parts":
        return grid.product(grid.named("arm", {"parts": PARTS}), layers(3, 4), grid.seeds(5))
    deep = grid.product(named("in context"), layers(2, 3, 4))
    return grid.product(grid.chain(deep, grid.product(named(*list(ARMS)[1:]), layers(2))), grid.seeds(5))


def _evals(fresh, trained, every, parts=False):
    """every: steps between two runs of flow, of which onsets are read off; of the others three times as many."""
    of = {"suite": fresh, "num_prompts": 128, "every": 3 * every}
    cuts = ("item -> label", "label -> query", "item -> query")
    if parts:
        cuts += ("forerunner -> label", "item -> forerunner", "forerunner -> query", "query_text -> query")
    return {
        "flow": {**of, "num_prompts": 64, "of": "logit_difference", "flows": cuts[:3], "every": every},
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
    config.evals.more = _evals("fewshot_holdout", TRAINED, 400)
    config.train.num_steps, config.evals.every, config.checkpoint.every = 3_600, 400, 3_600
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
    return {"gaussian": _pairs_claims, "parts": _parts_claims, "omniglot": _omniglot_claims}[scale]()


def _cut(edge, use="edges", cut="label"):
    """Accuracy when an edge is cut in all layers."""
    return claims.final(use, "accuracy", coords={"edge": edge, "layers": "all", "cut": cut})


def _kept(method):
    return claims.final("compress", "accuracy", coords={"method": method})


def _read(layer):
    """Flow from labels to the question beyond that from near tokens, in a layer."""
    return {"control": "near", "flow": "label -> query", "layer": layer}


def _anchored(name, at):
    """What is claimed of in-context learners whose labels come after items of one token."""
    within = lambda what, of, **bounds: claims.within(f"{name}: {what}", of, at, **bounds)
    beside = _cut("label -> query", cut="near").minus(_cut("label -> query"))
    return [
        within("it learns in context", claims.final("icl"), low=0.9),
        within("labels that read no item are of no use", _cut("item -> label"), high=0.6),
        within("questions need labels", _cut("label -> query"), high=0.7),
        within("more than near tokens", beside, low=0.2),
        within("they hardly need items", _cut("item -> query"), low=0.8),
        within("labels alone keep most of it", _kept("labels"), low=0.8),
        within("random slots do not", _kept("labels").minus(_kept("random slots")), low=0.2),
    ]


def _pairs_claims():
    arm = lambda name, layers=2: {"arm": name, "layers": layers}
    context, weights, mixed, first = (arm(name) for name in ARMS)
    lost = claims.final("trained", "accuracy_uncut").minus(_cut("label -> query", "trained"))
    late, early = _read(1), {"control": "near", "flow": "item -> label", "layer": 0}
    ratio = lambda of: claims.final("flow", "log_ratio", coords=of)
    after_icl = lambda of: claims.reaches("flow", 1.0, "log_ratio", of).minus(claims.onset("icl"))
    cost = _kept("whole context").minus(_kept("labels"))
    return [
        *_anchored("In context", context),
        *_anchored("Mixed", mixed),
        claims.within("In weights: no ICL", claims.final("icl"), weights, 0.45, 0.57),
        claims.within("In weights: IWL", claims.final("iwl"), weights, low=0.9),
        claims.within("Mixed: IWL", claims.final("iwl"), mixed, low=0.8),
        claims.within("In weights: trained classes need no labels", lost, weights, high=0.05),
        claims.within("In context: trained classes need labels", lost, context, low=0.2),
        claims.larger("Mixed: they need them less than in context", lost, context, mixed, by=0.1),
        claims.within("In context: late flow from labels (log ratio)", ratio(late), context, low=3.0),
        claims.within("In weights: none beyond near tokens", ratio(late), weights, high=1.0),
        claims.within(
            "Flow from labels to questions does not follow the onset of ICL", after_icl(late), context, high=0
        ),
        claims.within("Flow from items to labels does not follow it", after_icl(early), context, high=0),
        claims.same("Anchors alone cost as much at 4 layers as at 2", cost, arm("in context", 4), context, margin=0.08),
        claims.within("Label first: it learns in context", claims.final("icl"), first, low=0.9),
        claims.within("Label first: items need their labels", _cut("label -> query"), first, low=0.8),
        claims.within("Label first: questions read the pair's last token", _cut("item -> query"), first, high=0.6),
        claims.within("Label first: labels alone keep nothing", _kept("labels"), first, high=0.6),
        claims.within("Label first: the pair's last tokens alone keep it", _kept("forerunners"), first, low=0.9),
    ]


def _parts_claims():
    found = []
    for layers in (3, 4):
        within = lambda what, of, layers=layers, **bounds: claims.within(
            f"{layers} layers: {what}", of, {"arm": "parts", "layers": layers}, **bounds
        )
        found += [
            within("it learns in context", claims.final("icl"), low=0.9),
            within("labels read the item itself", _cut("item -> label"), high=0.6),
            within("they do without the token before them", _cut("forerunner -> label"), low=0.9),
            within("which needs no item", _cut("item -> forerunner"), low=0.9),
            within("questions read labels", _cut("label -> query"), high=0.7),
            within("and no forerunner", _cut("forerunner -> query"), low=0.9),
            within("labels and separators alone keep most of it", _kept("labels + format"), low=0.75),
            within("more than random slots", _kept("labels + format").minus(_kept("random slots")), low=0.2),
            within("forerunners alone keep none", _kept("forerunners"), high=0.6),
        ]
    return found


def _omniglot_claims():
    return _anchored("In context", {"arm": "in context"})
