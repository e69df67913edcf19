"""8 x classes by flips and rotations: 12,984 classes, 12,700 rare + 100 common, 80 held out (figures 3, 6).

The 8 transforms of a character stay together in the class order, so no rotated twin of a training
class is held out. 104 classes are neither trained nor held out, as in the release. Everything else
as in base.py.

    icl train configs/chan2022/augmented.py
"""

from icl_jax import load_variant


def get_config():
    config = load_variant(__file__, "base.py")
    config.name = "chan2022_augmented"
    config.bank.augment = True
    config.task.num_common = 100
    config.task.num_holdout = 80
    config.task.max_classes = 12_800
    return config
