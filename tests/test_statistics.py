"""Laws of the statistics over runs: intervals cover, and onset, decay and modes are those found by hand."""

import numpy as np
import pytest
from scipy import stats
from sweep_table import results

from icl_jax.claims.series import Series
from icl_jax.claims.statistics import acquisition, acquisitions, bimodality, interval, summarise


def acquire(values, floor=0.5, ceiling=1.0, steps=None, diverged=np.inf):
    steps = np.arange(len(values)) * 100 if steps is None else np.asarray(steps)
    line = lambda v: Series("c", {}, {}, steps, np.broadcast_to(np.asarray(v, float), steps.shape), diverged)
    return acquisition(line(values), line(floor), line(ceiling))


def test_the_interval_is_the_one_of_student():
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * np.sqrt(2.5 / 5)  # t(4, .975) from the tables
    np.testing.assert_allclose((mean, low, high), (3, 3 - half, 3 + half), rtol=1e-7)
    np.testing.assert_allclose(interval([0.0, 2.0], level=0.5)[2], 1 + 1.0)  # t(1, .75) = 1, standard error 1
    assert interval([0.25] * 6) == (0.25, 0.25, 0.25)


def test_an_interval_takes_two_values():
    mean, low, high = interval([0.3])
    assert mean == 0.3 and np.isnan(low) and np.isnan(high)
    assert np.isnan(interval([])).all() and np.isnan(interval([np.nan])).all()


def test_intervals_of_columns_leave_out_runs_without_a_value():
    values = np.array([[0.1, 0.5, np.nan], [0.3, np.nan, np.nan], [0.8, 0.9, 0.7]])
    together = np.array(interval(values))
    for column, alone in zip(values.T, together.T, strict=True):
        np.testing.assert_array_equal(interval(column[np.isfinite(column)]), alone)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_mean_of_normal_values(n):
    _, low, high = interval(np.random.default_rng(n).normal(2, 3, (n, 20_000)))
    assert abs(np.mean((low < 2) & (high > 2)) - 0.95) < 0.006  # 4 standard errors


def test_onset_is_the_first_sustained_crossing_of_half_way():
    assert acquire([0.5, 0.6, 0.7, 0.75, 0.9]).onset == 300
    assert acquire([0.5, 0.9, 0.6, 0.8, 0.8]).onset == 300  # one high evaluation is no onset
    assert acquire([0.5, 0.5, 0.5, 0.9]).onset == 300  # to the end
    assert acquire([0.8, 0.8, 0.5, 0.5]).onset == 0
    assert acquire([0.5, 0.6, 0.8, 0.8], floor=0.5, ceiling=0.8).onset == 200
    assert acquire([0.5, 0.6, 0.8, 0.8], floor=[0.5, 0.5, 0.7, 0.7], ceiling=1.0).censored
    assert acquire([0.6, 0.9, 0.9], floor=0.5, ceiling=0.5).censored  # nothing to acquire


def test_a_run_without_an_onset_is_censored_at_its_last_step():
    run = acquire([0.5, 0.9, 0.5, 0.6])
    assert run.censored and np.isnan(run.onset) and run.restricted_onset == 300
    assert np.isnan(run.half_decay) and np.isnan(run.abruptness)
    assert acquire([0.5, 0.9, 0.9, 0.6]).restricted_onset == 100


def test_peak_and_half_decay():
    run = acquire([0.5, 0.8, 0.9, 0.9, 0.75, 0.7, 0.65, 0.9])
    assert (run.peak, run.peak_step, run.half_decay, run.final) == (0.9, 200, 500, 0.9)  # half way down: .7
    assert np.isnan(acquire([0.5, 0.8, 0.9, 0.75]).half_decay)
    assert acquire([0.5, 0.8, 0.9, 0.75], floor=[0.5, 0.5, 0.5, 0.6]).half_decay == 300
    assert np.isnan(acquire([0.9, 0.9, 0.9]).half_decay)


def test_abruptness_is_the_time_from_a_quarter_to_three_quarters():
    ramp = np.linspace(0.5, 1.0, 11)
    np.testing.assert_allclose(acquire(ramp).abruptness, 500)
    np.testing.assert_allclose(acquire([0.5, 0.5, 1.0, 1.0]).abruptness, 50)  # half of one interval
    np.testing.assert_allclose(acquire([0.7, 0.5, 1.0, 1.0]).abruptness, 50)  # the last rise, not an earlier blip
    np.testing.assert_allclose(acquire(ramp, steps=np.arange(11) ** 2).abruptness, 56.5 - 6.5)
    assert np.isnan(acquire([0.5, 0.75, 0.8, 0.8]).abruptness)  # never at three quarters
    assert np.isnan(acquire([0.9, 0.9]).abruptness)  # the rise was not seen


def test_values_after_a_divergence_do_not_count():
    run = acquire([0.5, 0.9, 0.9, np.nan, np.nan], diverged=250)
    assert run.diverged and run.onset == 100 and run.last_step == 200 and np.isnan(run.final)
    assert np.isnan(acquire([0.5, 0.9, np.nan], diverged=150).onset)  # nobody knows whether it was sustained
    assert acquire([0.5, 0.9]).onset == 100
    never = acquire([np.nan, np.nan], diverged=0)
    assert never.diverged and never.censored and np.isnan(never.peak)


def test_a_value_that_was_not_measured_is_no_divergence():
    run = acquire([0.5, 0.9, np.nan, 0.9, np.nan])
    assert not run.diverged and run.last_step == 400 and run.onset == 100 and run.is_complete(400)
    never = acquire([np.nan, np.nan])
    assert not never.diverged and never.last_step == 100
    (summary,) = summarise([never, acquire([0.5, 0.9])])
    assert (summary.runs, summary.unmeasured, summary.diverged, summary.unfinished) == (1, 1, 0, 0)
    assert summary.onset_mean == 100


def test_accuracy_and_bounds_are_of_the_same_steps():
    line = lambda steps: Series("c0", {}, {}, np.asarray(steps), np.ones(len(steps)))
    with pytest.raises(ValueError, match=r"c0.*different steps"):
        acquisition(line([0, 1]), line([0, 1]), line([0, 2]))


def test_bimodality_is_sarles_coefficient():
    values = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    # skewness 0; excess kurtosis -2 becomes (n-1)/((n-2)(n-3)) ((n+1)(-2) + 6) = 5/12 * -8
    np.testing.assert_allclose(bimodality(values), 1 / (-10 / 3 + 3 * 25 / 12))
    # 0, 0, 0, 0, 1: skewness 1.5 becomes 1.5 sqrt(20) / 3 = sqrt 5; excess kurtosis .25 becomes 4/6 (6/4 + 6) = 5
    np.testing.assert_allclose(bimodality([0, 0, 0, 0, 1]), 6 / (5 + 3 * 16 / 6))
    draw = np.random.default_rng(0)
    np.testing.assert_allclose(bimodality(draw.uniform(size=200_000)), 5 / 9, atol=0.01)
    np.testing.assert_allclose(bimodality(draw.normal(size=200_000)), 1 / 3, atol=0.02)
    assert np.isnan(bimodality([0, 0, 1, 1])) and np.isnan(bimodality([0.3] * 8))
    np.testing.assert_allclose(bimodality([*values, np.nan]), bimodality(values))


def emerging(labels, seed, step):
    """ICL at 1 from step 100 (2 + seed) on, at p = 1 alone; at p = .5 only for seeds 0 and 1, and it goes."""
    begin, p = 100 * (2 + seed), labels["p"]
    on = step >= begin and (p == 1 or (p == 0.5 and seed < 2 and step < begin + 300))
    return {"icl": 1.0 if on else 0.5}


def test_a_summary_counts_the_runs_without_an_onset():
    never, some, all_ = summarise(acquisitions(results(emerging, {"p": (0.0, 0.5, 1.0)}), "icl"))
    assert [s.labels for s in (never, some, all_)] == [{"p": 0.0}, {"p": 0.5}, {"p": 1.0}]
    assert (never.runs, some.runs, all_.runs) == (5, 5, 5)
    assert (never.onset_share, some.onset_share, all_.onset_share) == (0, 0.4, 1)
    assert (never.onset_mean, some.onset_mean, all_.onset_mean) == (1000, (200 + 300 + 3000) / 5, 400)
    assert np.isnan([never.onset_median, some.onset_median]).all() and all_.onset_median == 400
    assert (some.transient_share, all_.transient_share) == (1, 0) and np.isnan(never.transient_share)
    assert some.half_decay_median == 550 and (all_.peak_mean, all_.peak_step_median) == (1, 400)
    assert all_.abruptness_median == 50 and (never.final_mean, all_.final_median) == (0.5, 1)
    assert np.isnan(all_.bimodality)


def test_the_median_onset_stands_while_most_runs_have_one():
    curve = lambda labels, seed, step: {"icl": 1.0 if seed < 3 and step >= 100 * (2 + seed) else 0.5}
    (summary,) = summarise(acquisitions(results(curve, {"p": (1.0,)}), "icl"))
    assert summary.onset_median == 400 and summary.onset_share == 0.6
    np.testing.assert_allclose(summary.bimodality, bimodality([1, 1, 1, 0.5, 0.5]))


def test_diverged_and_unfinished_runs_are_counted_and_leave_the_numbers():
    diverged = lambda labels, seed: 450 if seed == 0 else -1
    table = results(emerging, {"p": (1.0,)}, seeds=range(6), diverged=diverged)
    runs = acquisitions(table.slice(0, table.num_rows - 20), "icl")  # the last run lacks its last steps
    (summary,) = summarise(runs)
    assert (summary.runs, summary.diverged, summary.unfinished) == (4, 1, 1)
    assert summary.onset_mean == np.mean([300, 400, 500, 600]) and summary.final_mean == 1
    (late,) = summarise(runs, end=5000)
    assert (late.runs, late.unfinished) == (0, 5) and np.isnan([late.onset_mean, late.final_mean]).all()


def test_a_suite_without_bounds_has_no_acquisition():
    with pytest.raises(ValueError, match="'train' has no floor"):
        table = results(emerging, {"p": (1.0,)})
        rows = [row | {"metric": "accuracy"} if row["metric"] == "loss" else row for row in table.to_pylist()]
        acquisitions(type(table).from_pylist(rows), "train")


def test_the_correction_of_bimodality_is_that_of_the_moments():
    """The same coefficient from k-statistics, an independent route to the unbiased moments."""
    values = np.random.default_rng(1).gamma(2.0, size=9)
    k2, k3 = stats.kstat(values, 2), stats.kstat(values, 3)
    k4 = stats.kstat(values, 4)
    expected = ((k3 / k2**1.5) ** 2 + 1) / (k4 / k2**2 + 3 * 8**2 / (7 * 6))
    np.testing.assert_allclose(bimodality(values), expected)
