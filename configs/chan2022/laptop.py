"""The laptop scale of Chan et al. 2022: what figures 2 to 6 share where two CPU cores are all there is.

The paper's sequences (8 pairs and a query; bursty: 2 ways x 3 shots and 2 more; loss on the query) on
Omniglot at 14x14 pixels, or on procedurally drawn glyphs where Omniglot is not found. 256 training classes
share 32 labels, 100 classes are held out. A two-layer encoder and 2 attention-only layers read one token
per pair, item and label side by side (an option of the release): no previous-token step has to be learned
first, and thousands of steps show what takes the paper's network hundreds of thousands.

    icl train configs/chan2022/laptop.py

ICL is the accuracy on held-out classes whose labels the context shows (2 ways x 4 shots, labels redrawn,
floor .50), IWL on trained classes that the context does not show (argmax over all labels, floor .03).
The files of the figures give numbers on Omniglot, 5 seeds. On glyphs the ends of figures 3 to 6 come out alike
(one seed: classes 100 / 1,500 ICL .61 / .98, multiplicity 1 / 10 .63 / .78, one / all drawings .78 / .96,
Zipf exponent 0 / 1 / 3 .99 / .97 / .55 with IWL of common classes .00 / .94 / .45).
"""

from icl_jax import load_variant


def get_config():
    config = load_variant(__file__, "../quickstart.py")
    config.name = "chan2022_laptop"
    config.hypers.p_bursty = 0.9
    config.seeds.init = config.seeds.data = 0

    # 512 sequences a member leave a sd of .02 at chance: too coarse for five seeds and bounds of .05.
    config.evals.every = 500
    config.evals.num_sequences = 2048
    config.evals.suites = ("fewshot_holdout", "no_support_zipfian", "flipped")

    config.checkpoint.every = 1000
    config.runtime.tensorboard = False
    config.runtime.figures = False
    return config
