import math

import numpy as np
import pytest
from scipy.stats import norm, t

from dtmarl.evaluation.statistics import mean_estimate, mean_interval, ratio_estimate


def test_interval_agrees_with_student_t_on_normal_data():
    values = norm.ppf((np.arange(200) + 0.5) / 200.0, loc=7.0, scale=2.0)
    half = t.ppf(0.975, 199) * values.std(ddof=1) / math.sqrt(200)
    value, low, high = mean_estimate(values)
    assert value == pytest.approx(7.0)
    assert low == pytest.approx(7.0 - half, abs=0.02)
    assert high == pytest.approx(7.0 + half, abs=0.02)


def test_interval_covers_the_true_mean_about_95_times_in_100():
    samples = np.random.default_rng(5).exponential(size=(40, 400))
    low, high = mean_interval(samples, num_resamples=999)
    covered = ((low <= 1.0) & (high >= 1.0)).mean()
    assert 0.89 <= covered <= 0.98


def test_interval_leans_towards_the_heavy_tail():
    values = np.exp(1.5 * norm.ppf((np.arange(30) + 0.5) / 30.0))
    value, low, high = mean_estimate(values)
    assert high - value > 1.3 * (value - low)


def test_interval_is_the_same_every_time():
    values = np.random.default_rng(0).normal(size=20)
    assert mean_estimate(values) == mean_estimate(values)


def test_one_seed_gives_no_interval():
    value, low, high = mean_estimate(np.array([3.0]))
    assert value == 3.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0 / 3.0])
def test_equal_values_give_an_interval_of_no_width(value):
    assert mean_estimate(np.full(7, value))[1:] == (value, value)


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.0, 0.0, 1.0], [0.0] * 19 + [1.0]])
def test_small_and_lopsided_samples_give_finite_intervals_around_the_mean(values):
    value, low, high = mean_estimate(np.array(values))
    assert low <= value <= high
    assert min(values) <= low < high <= max(values)


def test_columns_are_independent():
    columns = np.random.default_rng(1).normal(size=(12, 3))
    columns[:, 1] = 4.0
    low, high = mean_interval(columns)
    assert (low[1], high[1]) == (4.0, 4.0)
    alone = mean_interval(columns[:, 2])
    assert low[2] == pytest.approx(alone[0], abs=0.03)
    assert high[2] == pytest.approx(alone[1], abs=0.03)


def test_ratio_keeps_pairs():
    below = np.random.default_rng(2).uniform(1.0, 9.0, size=20)
    value, low, high = ratio_estimate(0.3 * below + 1e-3 * np.sin(np.arange(20)), below)
    assert value == pytest.approx(0.3, abs=1e-3)
    assert high - low < 1e-3  # unpaired, it would be about 0.15
    assert ratio_estimate(0.5 * below, below) == pytest.approx((0.5, 0.5, 0.5))


def test_ratio_refuses_a_denominator_of_zero():
    with pytest.raises(ValueError, match="positive"):
        ratio_estimate(np.ones(3), np.array([1.0, 0.0, 2.0]))
