"""Identical exemplars: the first drawing of each class only (figure 5, no within-class variation).

Everything else as in base.py.

    icl train configs/chan2022/identical.py
"""

from icl_jax import load_variant


def get_config():
    config = load_variant(__file__, "base.py")
    config.name = "chan2022_identical"
    config.bank.exemplars = "single"
    return config
