"""Laws of claims: verdicts are those worked out by hand, errors are rare at the stated rate, nothing is dropped."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pyarrow
import pytest
from scipy.stats import spearmanr
from sweep_table import results

from icl_jax import claims
from icl_jax.claims.judge import Bound, _extremes
from icl_jax.claims.statistics import interval
from icl_jax.headlines import Headline

HEADLINES = (Headline("ICL", "headline_icl"), Headline("IWL", "headline_iwl"))

P, NONE, ALL = "p_bursty", {"p_bursty": 0}, {"p_bursty": 1}
ICL = claims.final("icl")
T4 = 2.7764451 / math.sqrt(5)  # half a 95 % interval of 5 values, in standard deviations


def simple(labels, seed, step):
    """Final ICL .5 + .4 p + .01 seed p; IWL .9 - .4 p; "chosen" peaks at step 500, ICL at 700 (+.05)."""
    p = labels.get(P, 1.0)
    rise = min(step, 500) / 500
    icl = 0.5 + (0.4 + 0.01 * seed) * p * rise + (0.05 if step == 700 else 0)
    return {"headline_icl": icl, "headline_iwl": 0.9 - 0.4 * p, "chosen": rise - 0.1 * (step > 500)}


def table_of(curve=simple, labels=None, **how):
    return results(curve, {P: (0.0, 0.5, 1.0)} if labels is None else labels, **how)


def verdict(claim, table=None, **how):
    (found,) = claims.judge([claim], table_of() if table is None else table, HEADLINES, **how)
    return found


def of_values(values, labels=None, suite="headline_icl"):
    """A table in which run (labels, seed) ends at values[label of P][seed]."""
    curve = lambda named, seed, step: {suite: values[named[P]][seed], "headline_iwl": 0.5}
    return results(curve, labels or {P: tuple(values)}, seeds=range(len(next(iter(values.values())))), steps=(0, 100))


def test_larger_is_the_interval_of_the_paired_difference():
    found = verdict(claims.larger("burstiness", ICL, ALL, NONE, by=0.2))
    half = T4 * np.std([0, 0.01, 0.02, 0.03, 0.04], ddof=1)
    np.testing.assert_allclose((found.effect, found.low, found.high), (0.42, 0.42 - half, 0.42 + half))
    assert (found.n, found.verdict) == (5, "holds")
    assert found.statistic == "final ICL: p_bursty 1 minus p_bursty 0" and found.bound == "> 0.2"
    assert found.effect_text == "0.420 (0.400 to 0.440)" and found.reason == "the whole interval is inside the bound"


@pytest.mark.parametrize(("by", "expected"), [(0.39, "holds"), (0.42, "undecided"), (0.45, "fails")])
def test_larger_holds_fails_or_is_undecided_by_where_the_interval_lies(by, expected):
    assert verdict(claims.larger("x", ICL, ALL, NONE, by=by)).verdict == expected


def test_seeds_are_paired():
    """A difference of .1 in each seed is plain although seeds differ by ten times that."""
    seeds = np.arange(5.0)
    table = of_values({0.0: seeds, 1.0: seeds + 0.1 + np.array([0.01, -0.01, 0, 0.01, -0.01])})
    assert verdict(claims.larger("paired", ICL, ALL, NONE), table).verdict == "holds"
    shuffled = of_values({0.0: seeds, 1.0: seeds[::-1] + 0.1})
    assert verdict(claims.larger("crossed", ICL, ALL, NONE), shuffled).verdict == "undecided"


def test_an_equal_difference_in_every_seed_decides():
    equal = of_values({0.0: [0.5] * 5, 1.0: [0.75] * 5})
    assert verdict(claims.larger("x", ICL, ALL, NONE, by=0.2), equal).verdict == "holds"
    found = verdict(claims.larger("more than nothing", ICL, NONE, NONE), equal)
    assert (found.effect, found.low, found.high, found.verdict) == (0, 0, 0, "fails")  # 0 is not above 0


def test_larger_than_several_is_larger_than_the_largest_of_each_seed():
    table = of_values({0.0: [0.1, 0.3, 0.1, 0.3, 0.1], 0.5: [0.2] * 5, 1.0: [0.6] * 5})
    found = verdict(claims.larger("best of both", ICL, ALL, [NONE, {P: 0.5}], by=0.1), table)
    np.testing.assert_allclose(found.effect, np.mean([0.4, 0.3, 0.4, 0.3, 0.4]))
    assert found.statistic.endswith("p_bursty 1 minus the largest of (p_bursty 0; p_bursty 0.5)")


def test_within_includes_its_ends():
    table = of_values({0.0: [0.5] * 5, 1.0: [0.5, 0.6, 0.7, 0.8, 0.9]})
    cases = [(NONE, 0.5, 0.6, "holds"), (NONE, 0.4, 0.5, "holds"), (NONE, 0.51, 1, "fails"), (NONE, 0, 0.4, "fails")]
    cases += [(ALL, 0.5, 1, "holds"), (ALL, 0.6, 1, "undecided"), (ALL, 0.6, 0.8, "undecided")]
    for at, low, high, expected in cases:
        found = verdict(claims.within("x", ICL, at, low=low, high=high), table)
        assert (found.verdict, found.bound) == (expected, f"{low:g} to {high:g}")
    assert verdict(claims.within("x", ICL, NONE, low=0.2), table).bound == "at least 0.2"
    assert verdict(claims.within("x", ICL, NONE, high=0.2), table).bound == "at most 0.2"


def test_same_is_equivalence_and_not_the_lack_of_a_difference():
    noisy = of_values({0.0: [0.5] * 5, 1.0: [0.3, 0.7, 0.5, 0.2, 0.8]})
    assert verdict(claims.larger("no difference", ICL, ALL, NONE), noisy).verdict == "undecided"
    assert verdict(claims.same("nor the same", ICL, ALL, NONE, margin=0.05), noisy).verdict == "undecided"
    close = of_values({0.0: [0.5] * 5, 1.0: [0.51, 0.49, 0.5, 0.52, 0.49]})
    assert verdict(claims.same("same", ICL, ALL, NONE, margin=0.05), close).verdict == "holds"
    for sign in (1, -1):
        far = of_values({0.0: [0.5] * 5, 1.0: 0.5 + sign * np.array([0.2, 0.21, 0.19, 0.2, 0.2])})
        found = verdict(claims.same("far", ICL, ALL, NONE, margin=0.05), far)
        assert (found.verdict, found.bound) == ("fails", "within ±0.05")


def test_trend_is_the_rank_correlation_of_each_seed():
    rows = {0.0: [1, 1, 4, 1, 2], 1.0: [2, 2, 3, 1, 2], 2.0: [3, 4, 2, 2, 2], 10.0: [4, 3, 1, 2, 2]}
    expected = [1.0, 0.8, -1.0, 4 / math.sqrt(20), 0.0]  # swap: 1 - 6*2/60; ties: ranks 1.5 1.5 3.5 3.5; constant: 0
    found = verdict(claims.trend("x", ICL, over=P), of_values(rows))
    np.testing.assert_allclose(found.effect, np.mean(expected))
    np.testing.assert_allclose(found.effect - found.low, T4 * np.std(expected, ddof=1))
    assert found.high == 1, "Student's t would say 1.33, which no correlation is"
    assert found.verdict == "undecided" and found.statistic == "final ICL: rank correlation with p_bursty"


def test_trends_rise_fall_or_are_flat():
    rising, falling = (claims.trend("x", claims.final(s), P, rising=up) for s, up in (("icl", True), ("iwl", False)))
    for claim, bound in ((rising, "> 0"), (falling, "< 0")):
        found = verdict(claim)
        assert (found.verdict, found.bound, abs(found.effect)) == ("holds", bound, 1)
        wrong = dataclasses.replace(claim, rising=not claim.rising)
        assert verdict(wrong).verdict == "fails"
    flat = of_values({0.0: [0.5] * 5, 1.0: [0.5] * 5})
    assert verdict(rising, flat).verdict == "fails" and verdict(rising, flat).effect == 0


def test_each_statistic_is_the_number_worked_out_by_hand():
    """At p = 1, seed s: ICL rises to .9 + .01 s at step 500, is .05 higher at 700 alone; "chosen" peaks at 500."""
    value = lambda of: verdict(claims.within("x", of, ALL, low=-9)).effect
    np.testing.assert_allclose(value(ICL), 0.92)
    np.testing.assert_allclose(value(claims.peak("icl")), 0.97)
    np.testing.assert_allclose(value(claims.peak("icl", select="chosen")), 0.92)
    np.testing.assert_allclose(value(claims.decay("icl")), 0.05)
    np.testing.assert_allclose(value(claims.decay("chosen")), 0.1)
    np.testing.assert_allclose(value(claims.decay("icl", select="chosen")), 0.0, atol=1e-12)
    np.testing.assert_allclose(value(claims.at("icl", 200)), 0.5 + 0.42 * 0.4)
    np.testing.assert_allclose(value(claims.final("icl", metric="share")), 0.84)
    np.testing.assert_allclose(value(claims.onset("icl")), (2 * 400 + 3 * 300) / 5)  # (.4 + .01 s) step / 500 >= .25
    np.testing.assert_allclose(value(claims.final("headline_icl")), 0.92)
    np.testing.assert_allclose(value(claims.reaches("icl", 0.8)), 400)  # (.4 + .01 s) step / 500 >= .3
    np.testing.assert_allclose(value(claims.reaches("icl", 0.96)), 1000)  # once only, at 700
    np.testing.assert_allclose(value(ICL.minus(claims.final("iwl"))), 0.92 - 0.5)
    np.testing.assert_allclose(value(claims.reaches("chosen", 0.5).minus(claims.onset("icl"))), 300 - 340)


def test_a_step_that_was_not_come_to_has_no_difference():
    late = claims.reaches("icl", 0.96)
    for of in (late.minus(claims.onset("icl")), claims.onset("icl").minus(late)):
        found = verdict(claims.within("x", of, ALL, low=-9))
        assert found.verdict == "undecided" and "5 of 5 runs have no value" in found.reason
    alone = verdict(claims.within("x", late, ALL, high=1000))
    assert alone.verdict == "undecided" and "could overturn it" in alone.reason


def test_a_difference_with_a_diverged_run_is_between_its_ends():
    table = table_of(diverged=lambda named, seed: 50 if named[P] == 1 and seed == 0 else -1)
    found = verdict(claims.within("x", ICL.minus(claims.final("iwl")), ALL, high=1.0), table)
    assert "count as 1, the least favourable" in found.reason  # 1 - 0
    found = verdict(claims.within("x", ICL.minus(claims.final("iwl")), ALL, low=-1.0), table)
    assert "count as -1, the least favourable" in found.reason


def test_a_run_without_an_onset_counts_as_its_end():
    found = verdict(claims.larger("onset is later without bursts", claims.onset("icl"), NONE, ALL, by=100))
    np.testing.assert_allclose(found.effect, 1000 - (2 * 400 + 3 * 300) / 5)
    assert found.verdict == "holds" and "5 of 10 runs had no onset and count as their last step" in found.reason
    for claim in (
        claims.larger("x", claims.onset("iwl"), NONE, ALL),
        claims.same("x", claims.onset("icl"), NONE, {P: 0.25}, margin=10),
    ):
        lines = lambda labels, seed, step: {"headline_icl": 0.5, "headline_iwl": 0.5}
        flat = verdict(claim, table_of(lines, {P: (0.0, 0.25, 1.0)}))
        assert flat.verdict == "undecided" and "could overturn it" in flat.reason


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (claims.larger("a delay of unknown size is no failure", claims.onset("icl"), NONE, ALL, by=900), "undecided"),
        (claims.larger("later onsets at 0 only confirm that", claims.onset("icl"), ALL, NONE, by=0), "fails"),
        (claims.within("before the end", claims.onset("icl"), NONE, high=1000), "undecided"),
        (claims.within("not before 900", claims.onset("icl"), NONE, low=900), "holds"),
        (claims.within("before 500", claims.onset("icl"), NONE, high=500), "fails"),
        (claims.same("two of which neither came", claims.onset("icl"), NONE, {P: 0.25}, margin=50), "undecided"),
        (claims.trend("two that never came may be in any order", claims.onset("icl"), P, rising=False), "undecided"),
        (claims.trend("whatever that order", claims.onset("icl"), P, rising=False, at={"of": "one"}), "holds"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_verdict_that_a_later_onset_could_overturn_is_none(claim, expected):
    """At p 0 no run has an onset by the last step, 1,000; nor has one at p .25, but for label "one"."""

    def lines(labels, seed, step):
        slow = 0.0 if labels["of"] == "two" else 0.6
        share = {0.0: 0.0, 0.25: slow, 1.0: 1.0}[labels[P]] * min(step, 500) / 500
        return {"headline_icl": 0.5 + 0.5 * share, "headline_iwl": 0.5}

    labels = {P: (0.0, 0.25, 1.0), "of": ("one", "two")}
    if "of" not in claim_settings(claim):
        labels["of"] = ("two",)
    found = verdict(claim, table_of(lines, labels))
    assert found.verdict == expected, found.reason


def claim_settings(claim) -> set[str]:
    return {name for setting in (claim.at, getattr(claim, "as_", {})) for name in setting}


def draws(labels, seed, step):
    """Draw 2 is best on "chosen", draw 0 on the headline; draw 3 would be best and diverges."""
    chosen = {0: 0.3, 1: 0.5, 2: 0.6 + 0.01 * seed, 3: 0.9}[int(labels["draw"])]
    icl = {0: 0.9, 1: 0.1, 2: 0.7, 3: 1.0}[int(labels["draw"])] - (0.5 if labels["net"] == "rnn" else 0)
    return {"headline_icl": icl, "headline_iwl": 0.1, "chosen": chosen}


def test_the_best_draw_is_chosen_on_another_suite():
    labels = {"net": ("transformer", "rnn"), "draw": (0.0, 1.0, 2.0, 3.0)}
    table = table_of(draws, labels, diverged=lambda named, seed: 50 if named["draw"] == 3 else -1)
    claim = claims.larger("x", ICL.best_of("draw", select="chosen"), {"net": "transformer"}, {"net": "rnn"}, by=0.2)
    found = verdict(claim, table)
    np.testing.assert_allclose(found.effect, 0.5)
    assert found.verdict == "holds" and "10 of 40 runs diverged" in found.reason
    assert found.statistic == "final ICL of the best draw on chosen: net transformer minus net rnn"
    alone = verdict(claims.within("x", claim.of, {"net": "transformer"}, low=0), table)
    np.testing.assert_allclose(alone.effect, 0.7)


def test_a_draw_that_the_choosing_suite_has_not_seen_leaves_the_claim_open():
    labels = {"net": ("rnn",), "draw": (0.0, 1.0, 2.0)}
    claim = claims.within("x", ICL.best_of("draw", select="chosen"), {"net": "rnn"}, low=0)
    assert verdict(claim, table_of(draws, labels)).verdict == "holds"
    rows = table_of(draws, labels).to_pylist()
    late = [r for r in rows if not (r["suite"] == "chosen" and r["label/draw"] == 2 and r["seed/init"] == 3)]
    found = verdict(claim, type(table_of()).from_pylist(late))
    assert found.verdict == "undecided" and "1 of 15 runs unfinished" in found.reason


def test_a_unit_needs_every_draw_that_another_has():
    table = table_of(draws, {"net": ("rnn",), "draw": (0.0, 1.0, 2.0)}, seeds=range(6))
    rows = [r for r in table.to_pylist() if not (r["label/draw"] == 2 and r["seed/init"] == 4)]
    claim = claims.within("x", ICL.best_of("draw", select="chosen"), {"net": "rnn"}, low=0)
    found = verdict(claim, type(table).from_pylist(rows))
    assert found.n == 5 and "runs missing at net rnn with seed 4" in found.reason


def test_best_of_takes_another_suite_and_a_statistic_of_which_more_is_better():
    for of, problem in (
        (lambda: ICL.best_of("draw", select="icl"), "chooses on the suite it reports"),
        (lambda: claims.onset("icl").best_of("draw", select="iwl"), "not the best onset"),
        (lambda: claims.final("icl", metric="loss").best_of("draw", select="iwl"), "not the best loss"),
    ):
        with pytest.raises(ValueError, match=problem):
            of()
    by_name = claims.within("x", ICL.best_of(P, select="headline_icl"), {}, low=0)
    assert "chooses on the suite it reports" in verdict(by_name).reason


def test_fewer_than_five_seeds_are_undecided_and_say_so():
    claim = claims.larger("x", ICL, ALL, NONE, by=0.2)
    four = verdict(claim, table_of(seeds=range(4)))
    assert (four.n, four.verdict) == (4, "undecided") and "4 seeds, and a verdict takes at least 5" in four.reason
    np.testing.assert_allclose(four.effect, 0.415)
    one = verdict(claim, table_of(seeds=[3]))
    assert one.n == 1 and one.effect_text == "0.430" and np.isnan(one.low)


def half_diverged(values, at=50):
    """A table in which run (p, seed) ends at values[p][seed], or diverges at step `at` where that is None."""
    known = {p: [0.9 if v is None else v for v in mine] for p, mine in values.items()}
    curve = lambda named, seed, step: {"headline_icl": known[named[P]][seed], "headline_iwl": 0.5}
    diverged = lambda named, seed: at if values[named[P]][seed] is None else -1
    return results(curve, {P: tuple(values)}, seeds=range(10), steps=(0, 100), diverged=diverged)


@pytest.mark.parametrize(
    ("claim", "expected", "counted_as"),
    [
        (claims.within("five of ten at .9, five died", ICL, ALL, low=0.8), "fails", "0"),
        (claims.within("nor are they small", ICL, ALL, high=0.6), "fails", "1"),
        (claims.within("nor in between", ICL, ALL, low=0.2, high=0.97), "undecided", "0"),
        (claims.larger("the larger one died", ICL, ALL, NONE, by=0.2), "undecided", "0"),
        (claims.larger("the smaller one died", ICL, NONE, ALL, by=-0.6), "holds", "1"),
        (claims.larger("the largest of the others died", ICL, NONE, [ALL, NONE], by=-0.6), "holds", "1"),
        (claims.same("an equivalence", ICL, ALL, NONE, margin=0.45), "undecided", "1"),
        (claims.trend("a trend that death would turn", ICL, over=P), "undecided", "0"),
        (claims.within("a loss has no upper limit", claims.final("icl", "loss"), ALL, high=9), "undecided", ""),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_diverged_run_counts_with_the_value_least_favourable_to_the_claim(claim, expected, counted_as):
    """Ten seeds: at p 1 five end at .9 and five diverge before they are measured; at p 0 all end at .5."""
    rows = half_diverged({0.0: [0.5] * 10, 1.0: [0.9] * 5 + [None] * 5}).to_pylist()
    rows += [r | {"metric": "loss", "value": 1.0} for r in rows if r["metric"] == "accuracy"]
    found = verdict(claim, type(table_of()).from_pylist(rows))
    assert found.verdict == expected, found.reason
    if counted_as:
        assert found.n == 10, "no seed is dropped"
        count = f"5 of {10 if isinstance(claim, claims.within) else 20} runs diverged"
        assert f"{count} and count as {counted_as}, the least favourable to the claim" in found.reason
    else:
        assert "has no limit to count them with" in found.reason and np.isnan(found.effect)


def test_the_mean_with_diverged_runs_is_the_one_worked_out_by_hand():
    table = half_diverged({0.0: [0.5] * 10, 1.0: [0.9] * 8 + [None] * 2})
    of = lambda claim: verdict(claim, table).effect
    np.testing.assert_allclose(of(claims.within("x", ICL, ALL, low=0)), 0.72)
    np.testing.assert_allclose(of(claims.larger("x", ICL, ALL, NONE)), 0.22)
    np.testing.assert_allclose(of(claims.larger("x", ICL, NONE, ALL)), 0.5 - 0.92)
    share = claims.within("floor .5, ceiling 1: from -1 to 1", claims.final("icl", "share"), ALL, low=-2)
    np.testing.assert_allclose(of(share), (8 * 0.8 - 2) / 10)


def test_what_was_measured_before_a_run_diverged_is_used():
    """At p 1 each run stands at .9 up to step 500 and diverges at 550."""
    curve = lambda named, seed, step: {"headline_icl": 0.5 + 0.4 * (step >= 200), "headline_iwl": 0.5, "chosen": 0.1}
    table = results(curve, {P: (1.0,)}, diverged=lambda named, seed: 550)
    value = lambda of, **bounds: verdict(claims.within("x", of, ALL, **bounds), table)
    before = value(claims.at("icl", 500), low=0.85)
    assert (before.verdict, before.n, before.reason) == ("holds", 5, "the whole interval is inside the bound")
    assert value(claims.at("icl", 600), low=0.85).verdict == "fails"
    assert value(claims.onset("icl"), low=200, high=200).verdict == "holds"
    peak = value(claims.peak("icl"), low=0.9)
    assert peak.verdict == "holds" and "5 of 5 runs diverged and count as 0.9" in peak.reason
    assert value(claims.peak("icl"), high=0.95).effect == 1, "it might have come to more"
    np.testing.assert_allclose(value(claims.decay("icl"), low=0.2).effect, 0)
    np.testing.assert_allclose(value(claims.decay("icl"), high=0.2).effect, 1)
    np.testing.assert_allclose(value(claims.decay("icl", select="chosen"), low=0).effect, -1)
    later = value(claims.peak("icl", select="chosen"), low=0.8)
    assert later.verdict == "fails" and later.effect == 0, "the other suite might have peaked where it was low"


def test_a_rank_correlation_is_least_between_the_others():
    """Five seeds rise over three levels; one falls, and its middle run diverged: .5 there is worse than 0 or 1."""
    rise, fall = [0.2, 0.5, 0.8], [0.8, None, 0.2]
    values = {float(level): [rise[level] + 0.001 * s for s in range(5)] + [fall[level]] for level in range(3)}
    table = half_diverged({p: [*mine, *mine[:4]] for p, mine in values.items()})
    found = verdict(claims.trend("x", ICL, over=P), table)
    worst = half_diverged({p: [0.5 if v is None else v for v in [*mine, *mine[:4]]] for p, mine in values.items()})
    np.testing.assert_allclose(found.effect, verdict(claims.trend("x", ICL, over=P), worst).effect)
    assert "1 of 30 runs diverged" in found.reason
    np.testing.assert_allclose(found.effect, (9 - 1) / 10)


def test_a_value_that_widens_the_interval_counts_too():
    """Peaks of .520 to .523, and one of .524 at least: at 1 the interval is far wider, and reaches below the bound."""
    curve = lambda named, seed, step: {"headline_icl": 0.52 + 0.001 * seed, "headline_iwl": 0.5}
    table = results(curve, {P: (1.0,)}, diverged=lambda named, seed: 150 if seed == 4 else -1)
    found = verdict(claims.within("x", claims.peak("icl"), ALL, low=0.5), table)
    assert found.verdict == "undecided" and "1 of 5 runs diverged and count as 1" in found.reason


def test_many_diverged_runs_of_one_seed_are_weighed_or_leave_the_trend_open():
    levels = tuple(float(level) for level in range(9))
    curve = lambda named, seed, step: {"headline_icl": 0.1 * named[P], "headline_iwl": 0.5}
    for dead, expected in ((1, "holds"), (3, "undecided"), (7, "undecided")):
        diverged = lambda named, seed, dead=dead: 50 if seed == 0 and named[P] < dead else -1
        found = verdict(claims.trend("x", ICL, over=P), results(curve, {P: levels}, diverged=diverged))
        assert found.verdict == expected, found.reason
        assert ("too many to weigh" in found.reason) == (dead == 7)


def test_a_rank_correlation_is_that_of_scipy():
    draw = np.random.default_rng(0)
    values = draw.integers(0, 4, (6, 200)) / 4
    values[:, 0], values[2, 1] = 0.5, np.nan
    levels = np.array([0.0, 0.1, 1.0, 5.0, 6.0, 9.0])
    settings = [{P: level} for level in levels]
    found = claims.trend("x", ICL, over=P).effect(values, settings)
    assert found[0] == 0 and np.isnan(found[1])
    expected = [spearmanr(levels, column).statistic for column in values.T[2:]]
    np.testing.assert_allclose(found[2:], expected, atol=1e-12)


def test_the_ends_of_a_trend_are_those_of_every_way_to_come_out():
    """Peaks that are known from below only: the smallest and the largest correlation against brute force."""
    draw, claim = np.random.default_rng(1), claims.trend("x", ICL, over=P)
    grid = np.linspace(0, 1, 41)
    for _ in range(20):
        low = draw.integers(0, 40, 4) / 40
        unsure = np.arange(4) < draw.integers(1, 4)
        high = np.where(unsure, 1.0, low)
        settings = [{P: float(level)} for level in range(4)]
        least, most = (claim.effect(values[:, None], settings)[0] for values in _extremes(claim, settings, low, high))
        choices = [grid[grid >= low[i]] if unsure[i] else low[i : i + 1] for i in range(4)]
        every = claim.effect(np.array(list(itertools.product(*choices))).T, settings)
        assert least <= every.min() + 1e-9 and most >= every.max() - 1e-9


@pytest.mark.parametrize("late", [50, 0])
def test_an_onset_of_a_run_that_died_at_once_may_have_come_any_time(late):
    """Also where it was not evaluated before: the suite was added later."""
    rows = table_of(seeds=range(6), diverged=lambda named, seed: late if seed == 5 else -1).to_pylist()
    table = type(table_of()).from_pylist([r for r in rows if r["step"] > 0 or r["suite"] == "train"])
    found = verdict(claims.within("x", claims.onset("icl"), ALL, high=400), table)
    assert found.verdict == "undecided" and found.n == 6 and "1 of 6 runs had no onset" in found.reason


@pytest.mark.parametrize("metric", ["accuracy", "floor", "ceiling"])
def test_an_onset_of_what_was_not_measured_is_unmeasured(metric):
    rows = table_of().to_pylist()
    nan = lambda r: r["suite"] == "headline_icl" and r["metric"] == metric and r["step"] < 500
    table = type(table_of()).from_pylist([r | ({"value": float("nan")} if nan(r) else {}) for r in rows])
    found = verdict(claims.within("x", claims.onset("icl"), ALL, low=200), table)
    assert found.verdict == "undecided" and "5 of 5 runs have no value (NaN)" in found.reason


def test_a_run_that_diverged_without_an_onset_is_censored_there():
    table = table_of(diverged=lambda named, seed: 150 if named[P] == 1 else -1)
    found = verdict(claims.within("x", claims.onset("icl"), ALL, low=0, high=1000), table)
    assert found.effect == 100 and found.verdict == "undecided" and "5 of 5 runs had no onset" in found.reason


def test_a_metric_without_a_value_is_unmeasured_and_not_a_divergence():
    rows = table_of(diverged=lambda named, seed: 50 if seed == 4 else -1).to_pylist()
    nan = lambda r: r["label/p_bursty"] == 1 and r["metric"] == "share" and r["step"] == 1000
    table = type(table_of()).from_pylist([r | ({"value": float("nan")} if nan(r) else {}) for r in rows])
    found = verdict(claims.within("x", claims.final("icl", "share"), ALL, low=0), table)
    assert found.verdict == "undecided" and found.reason.startswith("4 of 5 runs have no value (NaN)")
    assert "1 of 5 runs diverged" in found.reason
    assert verdict(claims.within("x", claims.peak("icl", metric="share"), ALL, low=0), table).verdict == "undecided"


def test_every_metric_has_limits_to_count_diverged_runs_with():
    from icl_jax.claims.measure import LIMITS
    from icl_jax.evals.metrics import OF_SUITE

    assert set(OF_SUITE) - {"share"} <= set(LIMITS)  # a share's follow from its floor and ceiling


def test_when_all_draws_of_a_seed_diverged_the_best_of_them_did_too():
    labels = {"net": ("rnn",), "draw": (0.0, 1.0)}
    table = table_of(draws, labels, diverged=lambda named, seed: 50 if seed == 2 else -1)
    of = ICL.best_of("draw", select="chosen")
    found = verdict(claims.within("x", of, {"net": "rnn"}, low=-1), table)
    assert found.n == 5 and "2 of 10 runs diverged and count as 0" in found.reason


# --- training metrics ---


def loss_by_chunk(chunk: int, end=1000):
    """A table in which the loss at step t is t, logged as means over chunks."""
    rows = [r for r in table_of(labels={P: (1.0,)}).to_pylist() if r["metric"] != "loss"]
    heads = {r["cell"]: {k: v for k, v in r.items() if k not in ("step", "suite", "metric", "value")} for r in rows}
    for head in heads.values():
        for step in range(chunk, end + 1, chunk):
            value = float(np.arange(step - chunk + 1, step + 1).mean())
            rows.append(head | {"step": step, "suite": "train", "metric": "loss", "value": value})
    return type(table_of()).from_pylist(rows)


@pytest.mark.parametrize("chunk", [10, 50, 100, 200])
def test_a_training_statistic_is_of_its_window_whatever_the_chunk(chunk):
    table = loss_by_chunk(chunk)
    value = lambda of: verdict(claims.within("x", of, ALL, low=0), table).effect
    np.testing.assert_allclose(value(claims.final("train", "loss", window=200)), np.arange(801, 1001).mean())
    np.testing.assert_allclose(value(claims.final("train", "loss", window=1000)), np.arange(1, 1001).mean())
    np.testing.assert_allclose(value(claims.at("train", 600, "loss", window=400)), np.arange(201, 601).mean())
    np.testing.assert_allclose(value(claims.peak("train", metric="loss", window=400)), np.arange(601, 1001).mean())
    np.testing.assert_allclose(value(claims.decay("train", metric="loss", window=400)), 0)


def test_a_training_statistic_states_its_window():
    of = claims.final("train", "loss", window=200)
    found = verdict(claims.within("x", of, ALL, low=0), loss_by_chunk(100))
    assert found.statistic == "final loss on train, mean of 200 steps: p_bursty 1"
    odd = verdict(claims.within("x", claims.final("train", "loss", window=250), ALL, low=0), loss_by_chunk(100))
    assert odd.verdict == "undecided" and "no window of 250 steps ends at step 1,000" in odd.reason
    unsaid = claims.within("x", claims.final("train", metric="loss"), ALL, low=0)
    assert "states no window" in verdict(unsaid, loss_by_chunk(100)).reason  # a sweep of an earlier version
    planned = chained()[1]
    with pytest.raises(ValueError, match=r"states no window.*window=STEPS"):
        check(planned, claims.within("x", unsaid.of, {P: 0.5}, low=0))
    for window in (150, 2000):
        wrong = claims.final("train", "loss", window=window)
        with pytest.raises(ValueError, match=f"window {window} .* not a multiple of evals.every 100"):
            check(planned, claims.within("x", wrong, {P: 0.5}, low=0))
    with pytest.raises(ValueError, match="for suite 'train' alone"):
        claims.Statistic("final", "icl", window=100)


def test_missing_runs_are_named():
    rows = [r for r in table_of(seeds=range(6)).to_pylist() if not (r["label/p_bursty"] == 0 and r["seed/init"] == 2)]
    found = verdict(claims.larger("x", ICL, ALL, NONE), type(table_of()).from_pylist(rows))
    assert found.n == 5 and "runs missing at p_bursty 0 with seed 2" in found.reason


def test_an_unfinished_sweep_is_undecided():
    claim = claims.larger("x", ICL, ALL, NONE, by=0.2)
    rows = table_of(seeds=range(7)).to_pylist()
    behind = lambda r: r["label/p_bursty"] == 1 and r["seed/init"] == 6 and r["step"] > 300
    found = verdict(claim, type(table_of()).from_pylist([r for r in rows if not behind(r)]))
    assert found.verdict == "undecided" and found.reason.startswith("1 of 14 runs unfinished")
    assert found.n == 6 and found.effect > 0.4  # the others are shown, the half trained one is not among them
    late = verdict(claim, num_steps=2000)
    assert (late.verdict, late.n) == ("undecided", 0) and "10 of 10 runs unfinished" in late.reason
    others = claims.trend("x", ICL, over=P, at={})
    assert verdict(others, num_steps=1000).verdict == "holds"


def test_a_run_is_done_when_its_suite_is_evaluated_as_far_as_that_of_the_others():
    claim = claims.within("x", ICL, ALL, low=0.8)
    rows = table_of(seeds=range(6)).to_pylist()
    of = lambda seed, step: lambda r: r["suite"] == "headline_icl" and r["seed/init"] in seed and r["step"] > step
    sparse = verdict(claim, type(table_of()).from_pylist([r for r in rows if not of(range(6), 800)(r)]))
    assert (sparse.verdict, sparse.n) == ("holds", 6)
    killed = verdict(claim, type(table_of()).from_pylist([r for r in rows if not of([5], 900)(r)]))
    assert (killed.verdict, killed.n) == ("undecided", 5) and "1 of 6 runs unfinished" in killed.reason


def test_planned_runs_without_results_are_unfinished():
    planned = {f"{i:016x}": ({P: p}, {"init": s}) for i, (p, s) in enumerate((p, s) for p in (0, 1) for s in range(5))}
    table = table_of(labels={P: (0, 1)})
    seeds = {"data": 0, "eval": 0, "split": 0}
    planned = {
        cell: (labels, {**{n: s["init"] for n in seeds}, **s, "split": 0}, 1000)
        for cell, (labels, s) in planned.items()
    }
    claim = claims.trend("x", ICL, over=P)
    assert verdict(claim, table, planned=planned).verdict == "holds"
    more = planned | {f"new{s}": ({P: 2}, {"init": s, "data": s, "eval": s, "split": 0}, 1000) for s in range(5)}
    assert "5 of 15 runs unfinished" in verdict(claim, table, planned=more).reason
    empty = type(table).from_pylist([])
    assert verdict(claim, empty, planned=more).reason == "no run has results yet"


def test_runs_may_end_at_different_steps():
    """The number of steps may be swept: each run is done at its own."""
    rows = [r for r in table_of(labels={P: (0, 1)}).to_pylist() if r["label/p_bursty"] == 1 or r["step"] <= 400]
    table = type(table_of()).from_pylist(rows)
    claim = claims.trend("x", ICL, over=P)
    assert verdict(claim, table).reason.startswith("5 of 10 runs unfinished")
    seeds = {r["cell"]: {n: r[f"seed/{n}"] for n in ("init", "data", "eval", "split")} for r in rows}
    ends = {r["cell"]: ({P: r["label/p_bursty"]}, 1000 if r["label/p_bursty"] else 400) for r in rows}
    planned = {cell: (labels, seeds[cell], end) for cell, (labels, end) in ends.items()}
    assert verdict(claim, table, planned=planned).verdict == "holds"


def test_the_unit_is_the_tuple_of_the_seeds_that_vary():
    rows = []
    for init in range(2):
        for data in range(3):
            for row in table_of(labels={P: (0.0, 1.0)}, seeds=[0]).to_pylist():
                rows.append(row | {"cell": f"{row['cell']}{init}{data}", "seed/init": init, "seed/data": data})
    found = verdict(claims.larger("x", ICL, ALL, NONE, by=0.2), type(table_of()).from_pylist(rows))
    assert (found.n, found.verdict) == (6, "holds")


BAD = [
    (claims.within("x", ICL, {"p_burst": 1}, low=0), "no label 'p_burst'; did you mean 'p_bursty'?"),
    (claims.within("x", ICL, {P: 0.9}, low=0), "no run has p_bursty 0.9; there are 0, 0.5, 1"),
    (claims.within("x", ICL, {P: 0, "net": "rnn"}, low=0), "no run has p_bursty 0, net rnn together"),
    (claims.within("x", ICL, {"net": "lsmt"}, low=0), "no run has net lsmt; did you mean 'lstm'?"),
    (claims.within("x", ICL, {P: 1}, low=0), "differ in 'net' (lstm, rnn); name 'net' in the setting, or reduce"),
    (claims.within("x", claims.final("headline_ilc"), {P: 0.5}, low=0), "suite 'headline_ilc'; did you mean"),
    (claims.within("x", claims.peak("icl", select="chosn"), {P: 0.5}, low=0), "suite 'chosn'; did you mean 'chosen'"),
    (claims.within("x", ICL.best_of("drew", "chosen"), {P: 0.5}, low=0), "no label 'drew'"),
    (claims.trend("x", ICL, over="net"), "label 'net' is text (lstm, rnn)"),
    (claims.trend("x", ICL, over=P), "differ in 'net'"),
    (claims.trend("x", ICL, over=P, at={"net": "lstm", P + "x": 1}), "no label 'p_burstyx'"),
    (claims.trend("x", ICL, over="depth"), "no label 'depth'"),
    (claims.trend("x", ICL, over=P, at={P + "y": None, "net": "rnn"}), "no label 'p_burstyy'"),
    (claims.larger("x", ICL, {"net": "rnn"}, [{P: 0}, {P: 7}]), "no run has p_bursty 7"),
]
MISFIT = {(0.0, "lstm"), (0.5, "lstm"), (1.0, "lstm"), (1.0, "rnn")}  # a chain of grids: rnn at 1 alone


def chained():
    table = table_of(labels={P: (0.0, 0.5, 1.0), "net": ("lstm", "rnn")})
    rows = [r for r in table.to_pylist() if (r["label/p_bursty"], r["label/net"]) in MISFIT]
    seeds = {row["cell"]: {n: row[f"seed/{n}"] for n in ("init", "data", "eval", "split")} for row in rows}
    labels = {row["cell"]: {P: row["label/p_bursty"], "net": row["label/net"]} for row in rows}
    return type(table).from_pylist(rows), {cell: (labels[cell], seeds[cell], 1000) for cell in seeds}


@pytest.mark.parametrize(("claim", "problem"), BAD)
def test_a_claim_that_does_not_fit_is_caught_before_any_run_and_undecided_after(claim, problem):
    table, planned = chained()
    good = claims.within("good", ICL, {P: 0.5}, low=0)
    bad, fine = claims.judge([claim, good], table, HEADLINES)
    assert (bad.verdict, bad.n, bad.effect_text) == ("undecided", 0, "-") and problem in bad.reason
    assert fine.verdict == "holds"
    check(planned, good)
    with pytest.raises(ValueError) as error:
        check(planned, good, claim)
    assert "claim 'x': " in str(error.value) and problem in str(error.value)


def check(planned, *found):
    suites = ["headline_icl", "headline_iwl", "chosen"]
    claims.check_claims(found, planned, suites, ("accuracy", "share"), 100, HEADLINES)


@pytest.mark.parametrize(
    ("of", "problem"),
    [
        (claims.at("icl", 250), "no evaluation at step 250: they come every 100 steps up to 1000; use 200"),
        (claims.at("icl", 1100), "use 1000"),
        (claims.final("icl", metric="acuracy"), "no metric 'acuracy'; did you mean 'accuracy'"),
        (ICL.minus(claims.final("icl", metric="acuracy")), "no metric 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_steps_and_metrics_that_will_not_be_measured_are_caught_before_any_run(of, problem):
    with pytest.raises(ValueError, match="claim 'x': no ") as error:
        check(chained()[1], claims.within("x", of, {P: 0.5}, low=0))
    assert problem in str(error.value)
    check(chained()[1], claims.within("x", claims.final("train", "loss", window=100), {P: 0.5}, low=0))


@pytest.mark.parametrize(
    ("of", "problem"),
    [
        (claims.onset("train"), "onset of 'train': floor and ceiling are of suites"),
        (claims.onset("along"), "onset of 'along': floor and ceiling are of suites"),
        (claims.peak("icl", select="along"), "accuracy of 'along' cannot choose for 'headline_icl'"),
        (claims.final("icl", "copied").best_of("draw", select="train"), "no metric 'copied'"),
        (claims.peak("along", "chosen", coords={"position": 1}), "of 'chosen' are not its axes"),
        (
            claims.final("along", coords={"position": 1}).best_of("draw", select="chosen"),
            "of 'chosen' are not its axes",
        ),
    ],
)
def test_what_cannot_be_chosen_by_is_caught_before_any_run(of, problem):
    suites = ("headline_icl", "headline_iwl", "chosen")
    with pytest.raises(ValueError) as error:
        planned = chained()[1]
        claims.check_claims(
            [claims.within("x", of, {P: 0.5}, low=0)], planned, suites, ("accuracy",), 100, HEADLINES, {"along": 100}
        )
    assert problem in str(error.value)


def test_a_setting_of_several_layers_finds_their_label():
    table = table_of(labels={P: (0.5,), "layers": ("0,1", "all")})
    for layers in ((0, 1), [0, 1], range(2), np.arange(2), ()):
        assert verdict(claims.within("x", ICL, {"layers": layers}, low=0), table).n == 5


def test_runs_that_end_where_they_begin_are_finished():
    rows = table_of(labels={P: (1.0,)}).to_pylist()
    rows += [r | {"cell": f"{r['cell']}-0", "label/p_bursty": 0.0} for r in rows if r["step"] == 0]
    seeds = lambda r: {"init": r["seed/init"], "data": r["seed/data"]}
    planned = {r["cell"]: ({P: r["label/p_bursty"]}, seeds(r), r["step"]) for r in rows}
    judged = verdict(claims.within("x", ICL, NONE, low=-1), pyarrow.Table.from_pylist(rows), planned=planned)
    assert judged.n == 5 and "unfinished" not in judged.reason


def test_what_only_results_can_show_is_undecided():
    for of, problem in (
        (claims.at("icl", 250), "no evaluation of 'headline_icl' at step 250; the nearest: 200, 300"),
        (claims.final("icl", metric="acuracy"), "no metric 'acuracy'; did you mean 'accuracy'"),
        (ICL.minus(claims.final("icl", metric="acuracy")), "no metric 'acuracy'; did you mean 'accuracy'"),
        (claims.onset("train"), "suite 'train' has no metric 'accuracy'"),
    ):
        assert problem in verdict(claims.within("x", of, ALL, low=0)).reason


def test_two_runs_with_the_same_labels_and_seeds_are_no_unit():
    rows = table_of().to_pylist()
    table = type(table_of()).from_pylist(rows + [r | {"cell": "again"} for r in rows if r["cell"] == rows[0]["cell"]])
    assert "with the same labels" in verdict(claims.within("x", ICL, NONE, low=0), table).reason


def test_a_setting_finds_numbers_by_value_and_missing_labels_by_none():
    table = table_of(labels={P: (0.1 * 3,), "flag": ("True",)})
    assert verdict(claims.within("x", ICL, {P: 0.3, "flag": True}, low=0), table).n == 5
    rows = [r | {"label/classes": None if r["label/p_bursty"] == 0.5 else 100.0} for r in table_of().to_pylist()]
    found = verdict(claims.within("x", ICL, {"classes": None}, low=0), type(table).from_pylist(rows))
    np.testing.assert_allclose(found.effect, 0.71)
    assert found.statistic == "final ICL: classes none"


ALL_KINDS = [
    claims.larger("a", ICL, ALL, NONE, by=0.2),
    claims.larger("b", claims.final("icl", metric="loss"), {"net": "lstm"}, [{"net": "rnn"}, {"net": None}]),
    claims.within("c", claims.peak("icl", select="chosen"), {}, low=0.5),
    claims.within("d", claims.at("chosen", 500), {P: np.float32(0.5)}, low=0.25, high=0.5),
    claims.same("e", claims.decay("iwl", select="chosen"), ALL, NONE, margin=0.05),
    claims.trend("f", claims.onset("icl"), over=P, rising=False, at={"net": "rnn"}),
    claims.trend("g", claims.peak("icl").best_of("draw", select="chosen"), over=P),
    claims.within("i", claims.reaches("along", 0.5, "loss", {"position": 3}).minus(claims.onset("icl")), {}, high=0),
    claims.within("h", claims.at("along", 500, "loss", coords={"position": 3, "set": "a"}), {}, low=0),
]


@pytest.mark.parametrize("claim", ALL_KINDS, ids=lambda c: c.name)
def test_claims_are_data(claim):
    text = json.dumps(claims.claims_to_json([claim]), allow_nan=False)
    (back,) = claims.claims_from_json(json.loads(text))
    assert back == claim and type(back) is type(claim)


def test_unknown_kinds_and_fields_are_named():
    (row,) = claims.claims_to_json([claims.within("c", ICL.best_of("draw", select="chosen"), {}, low=0.5)])
    for change, problem in (
        ({"kind": "withn"}, "unknown kind 'withn'; did you mean 'within'"),
        ({"lo": 1}, "claim 'c': unknown field 'lo'; did you mean 'low'"),
        ({"of": {"kind": "finall", "suite": "icl"}}, "unknown statistic 'finall'; did you mean 'final'"),
        ({"of": {"kind": "final", "suit": "icl"}}, "statistic 'final': unknown field 'suit'"),
        ({"of": {"kind": "final"}}, "field 'suite' is missing"),
        ({"of": row["of"] | {"best": {"label": "draw", "selct": "x"}}}, "best: unknown field 'selct'"),
    ):
        with pytest.raises(ValueError, match=problem.replace("?", r"\?")):
            claims.claims_from_json([row | change])
    with pytest.raises(ValueError, match="claim 'c': field 'at' is missing"):
        claims.claims_from_json([{k: v for k, v in row.items() if k != "at"}])


def test_a_claim_that_makes_no_sense_is_refused():
    for make, problem in (
        (lambda: claims.same("x", ICL, ALL, NONE, margin=0), "margin 0 must be above 0"),
        (lambda: claims.within("x", ICL, ALL), "give low, high or both"),
        (lambda: claims.within("x", ICL, ALL, low=0.6, high=0.4), "between 0.6 and 0.4"),
        (lambda: claims.larger("x", ICL, ALL, []), "than names no setting"),
        (lambda: claims.reaches("icl", math.nan), "'reaches' takes a number"),
        (lambda: dataclasses.replace(ICL, level=0.5), "with level 0.5: 'reaches' takes a number, the others take none"),
        (lambda: ICL.minus(ICL.minus(ICL)), "leave best_of and a second minus out"),
        (lambda: claims.larger("x", "icl", ALL, NONE), "of 'icl' is no statistic"),
        (lambda: claims.larger("x", ICL, 1, NONE), "setting 1 is no dict"),
        (lambda: claims.trend("x", ICL, over=P, at=ALL), "over and at both name 'p_bursty'"),
        (lambda: claims.trend("x", ICL.best_of(P, select="iwl"), over=P), "over and best_of both name"),
    ):
        with pytest.raises(ValueError, match=problem):
            make()


SIMULATIONS, SD = 8000, 0.05


def shares(claim, shift: float) -> dict[str, float]:
    """Shares of the verdicts on 5 paired normal differences with mean `shift`, seed effects added to both."""
    draw = np.random.default_rng(7)
    seeds = draw.normal(0, 1, (1, 5, SIMULATIONS))
    values = seeds + draw.normal(0, SD, (2, 5, SIMULATIONS)) + np.array([shift, 0]).reshape(2, 1, 1)
    effects = np.stack([claim.effect(values[..., k], claim.settings({})) for k in range(SIMULATIONS)], 1)
    _, low, high = interval(effects)
    found = [claim.bound().verdict(*ends) for ends in zip(low, high, strict=True)]
    return {v: found.count(v) / SIMULATIONS for v in ("holds", "fails", "undecided")}


def test_a_null_claim_of_larger_rarely_holds():
    null = shares(claims.larger("x", ICL, ALL, NONE), shift=0.0)
    assert abs(null["holds"] - 0.025) < 0.007 and abs(null["fails"] - 0.025) < 0.007  # 4 standard errors
    assert shares(claims.larger("x", ICL, ALL, NONE, by=0.3), shift=0.3)["holds"] < 0.032
    assert shares(claims.larger("x", ICL, ALL, NONE), shift=0.3)["holds"] > 0.99


def test_a_difference_as_large_as_the_margin_is_rarely_called_the_same():
    claim = claims.same("x", ICL, ALL, NONE, margin=0.2)
    assert shares(claim, shift=0.2)["holds"] < 0.032 and shares(claim, shift=-0.2)["holds"] < 0.032
    assert shares(claim, shift=0.0)["holds"] > 0.75 and shares(claim, shift=0.5)["fails"] > 0.99
    vague = claims.same("x", ICL, ALL, NONE, margin=0.02)  # below the noise: it must not hold by chance
    assert shares(vague, shift=0.02)["holds"] < 0.032


def test_bounds_split_intervals_in_three():
    open_, closed = Bound(0, 1, "", strict=True), Bound(0, 1, "")
    assert [open_.verdict(0, 0.5), open_.verdict(-1, 0), open_.verdict(0.1, 0.9)] == ["undecided", "fails", "holds"]
    assert [closed.verdict(0, 1), closed.verdict(-1, 0), closed.verdict(1.1, 2)] == ["holds", "undecided", "fails"]


# Any metric, at coordinates --------------------------------------------------------------------------------


def with_positions():
    """`along` has a loss at three positions, with a value of its own each: p + position / 10 + seed / 100."""
    rows = table_of().to_pylist()
    first = [row for row in rows if (row["suite"], row["metric"]) == ("train", "loss")]
    value = lambda row, k: row["label/p_bursty"] + k / 10 + row["seed/init"] / 100
    here = {"suite": "along", "metric": "loss", "set": "a"}
    along = [{**row, **here, "position": k, "value": value(row, k)} for row in first for k in (0, 1, 2)]
    return type(table_of()).from_pylist([{**row, "position": None, "set": None} for row in rows] + along)


@pytest.mark.parametrize("position", [0, 2, "2", np.int32(1)])
def test_a_statistic_is_taken_at_its_coordinates(position):
    of = claims.final("along", "loss", coords={"set": "a", "position": position})
    found = verdict(claims.larger("x", of, ALL, NONE, by=0.5), with_positions())
    assert found.verdict == "holds" and found.effect == pytest.approx(1.0) and found.n == 5
    level = verdict(claims.within("x", of, NONE, low=0), with_positions())
    assert level.effect == pytest.approx(int(position) / 10 + 0.02)
    assert f"final loss on along at position {position}, set a" in found.statistic


@pytest.mark.parametrize(
    ("coords", "problem"),
    [
        ({}, "loss of 'along' is one number for each position, set; say at which (position: 0, 1, 2; set: a)"),
        ({"position": 1}, "is one number for each position, set; say at which (set: a)"),
        ({"position": 1, "layer": 0}, "has no axis 'layer'; it has position, set"),
        ({"position": 7, "set": "a"}, "has no position 7; it has 0, 1, 2"),
        ({"position": 1, "set": "b"}, "has no set 'b'; it has a"),
        ({"position": 1.5, "set": "a"}, "has no position 1.5; it has 0, 1, 2"),
    ],
)
def test_coordinates_that_are_not_there_leave_a_claim_undecided(coords, problem):
    found = verdict(claims.within("x", claims.final("along", "loss", coords=coords), NONE, low=0), with_positions())
    assert found.verdict == "undecided" and problem in found.reason
    whole = verdict(claims.within("x", claims.final("icl", coords={"position": 1}), NONE, low=0), with_positions())
    assert "has no axis 'position'; it has none" in whole.reason


def test_a_headline_stands_for_its_eval_metric_and_coordinates():
    titled = (*HEADLINES, Headline("Second item", "along", "loss", (("position", 1), ("set", "a"))))
    judged = lambda of: claims.judge([claims.within("x", of, NONE, low=0)], with_positions(), titled)[0]
    assert judged(claims.final("second ITEM")).effect == pytest.approx(0.12)
    assert judged(claims.final("Second item", coords={"position": 2})).effect == pytest.approx(0.22)
    assert judged(claims.final("ICL")).effect == pytest.approx(judged(ICL).effect)
    assert "has no metric 'floor'" in judged(claims.final("second item", "floor")).reason


@pytest.mark.parametrize(
    "of, problem",
    [
        (claims.onset("surprise"), "onset of metric 'loss': floor and ceiling are accuracies"),
        (claims.final("surprise").best_of("draw", select="flipped"), "not the best loss"),
        (claims.final("surprise").best_of("draw", select="headline_icl"), "chooses on the suite it reports"),
    ],
)
def test_what_a_statistic_cannot_be_it_cannot_be_by_a_headline_either(of, problem):
    titled = (*HEADLINES, Headline("Surprise", "headline_icl", "loss"))
    claim = claims.within("x", of, {P: 1.0}, low=0)
    with pytest.raises(ValueError, match=problem):
        claims.check_claims([claim], chained()[1], ("headline_icl", "flipped"), ("accuracy", "loss"), 100, titled)
    assert problem in claims.judge([claim], table_of(labels={P: (1.0,)}), titled)[0].reason


def test_a_metric_that_is_named_is_meant_whatever_the_headline_shows():
    titled = (*HEADLINES, Headline("Surprise", "headline_icl", "loss"))
    rows = table_of(labels={P: (1.0,)}).to_pylist()
    rows += [r | {"metric": "loss", "value": 7.0} for r in rows if r["metric"] == "accuracy"]
    judged = lambda of: claims.judge([claims.within("x", of, ALL, low=0)], pyarrow.Table.from_pylist(rows), titled)[0]
    assert judged(claims.final("surprise")).effect == 7
    assert judged(claims.final("surprise", "accuracy")).effect == pytest.approx(judged(ICL).effect)
    assert judged(claims.final("surprise", "accuracy")).statistic.startswith("final Surprise accuracy")


def test_claims_about_other_evals_are_checked_as_far_as_the_config_tells():
    planned = chained()[1]
    of = lambda **how: claims.within("x", claims.at("along", 400, "loss", **how), {P: 0.5}, low=0)
    how = ("headline_icl",), ("accuracy",), 100, HEADLINES[:1]
    claims.check_claims([of(coords={"position": 1})], planned, *how, {"along": 200})
    whole = claims.within("x", claims.final("icl", coords={"layer": 1}), {P: 0.5}, low=0)
    for claim, more, problem in (
        (of(), {}, "no suite 'along'"),
        (of(), {"along": 300}, "no evaluation at step 400: they come every 300 steps"),
        (whole, {}, "are not its axes; it has none"),
    ):
        with pytest.raises(ValueError) as error:
            claims.check_claims([claim], planned, *how, more)
        assert problem in str(error.value)
