"""Figures and the page of a dissected run: what flows where, what can be cut, read, left out or weighed.

Every figure shows a quantity beside its control (near or random tokens in the place of labels, a calibrated answer, the
whole context): alone, none of them says anything about anchors.
"""
