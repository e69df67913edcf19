"""Dissection: which way information takes through a network, and what of it can be cut, weighed or left out.

The analyses of Wang et al. 2023, "Label Words are Anchors" (arXiv 2305.14160), with the controls that they lack, for
grown models, whose label tokens are the label words, and for language models. Each is an eval
(`icl_jax.training.protocols.Eval`).
"""
