"""All 20 drawings of each class (figure 2 and most others): what base.py sets.

Everything else as in base.py.

    icl train configs/chan2022/all_exemplars.py
"""

from icl_jax import load_variant


def get_config():
    config = load_variant(__file__, "base.py")
    config.name = "chan2022_all_exemplars"
    config.bank.exemplars = "all"
    return config
