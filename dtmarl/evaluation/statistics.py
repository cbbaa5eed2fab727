"""Means over seeds and how sure they are: bootstrap intervals with a fixed generator.

The interval is the bias-corrected and accelerated (BCa) bootstrap of `scipy.stats`. Where BCa is
undefined it gives way to the percentile bootstrap; values that are all the same give an interval
of no width; a single seed says nothing about the spread and gives NaN on both sides.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from dtmarl.backend import Array

CONFIDENCE = 0.95
NUM_RESAMPLES = 9999
_GENERATOR_SEED = 0x2411


class Estimate(NamedTuple):
    """A mean, or a ratio of means, over seeds with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN: None stands for an undefined bound."""
        return {
            name: None if math.isnan(part) else part
            for name, part in zip(self._fields, self, strict=True)
        }


def mean_interval(values: Array, *, num_resamples: int = NUM_RESAMPLES) -> tuple[Array, Array]:
    """Both ends of the 95 % interval of the mean over the first axis.

    Args:
        values: [seeds, ...] finite numbers.
        num_resamples: bootstrap resamples.

    Returns:
        Two arrays [...].
    """
    samples = np.asarray(values, dtype=np.float64)
    if len(samples) < 2:
        nothing = np.full(samples.shape[1:], np.nan)
        return nothing, nothing
    low, high = _bootstrap((samples,), np.mean, num_resamples)
    same = np.ptp(samples, axis=0) == 0.0
    return np.where(same, samples[0], low), np.where(same, samples[0], high)


def mean_estimate(values: Array) -> Estimate:
    """The mean of the values of the seeds, [seeds], with its interval."""
    low, high = mean_interval(values)
    return Estimate(float(np.mean(values)), float(low), float(high))


def ratio_estimate(numerator: Array, denominator: Array) -> Estimate:
    """Ratio of two means over the same seeds, [seeds] each, with its interval; seeds stay paired.

    Raises:
        ValueError: a denominator is not positive.
    """
    above, below = (np.asarray(part, dtype=np.float64) for part in (numerator, denominator))
    if not (below > 0.0).all():
        raise ValueError(f"denominator: expected positive values, got {below.min()!r}")
    value = float(above.mean() / below.mean())
    if len(above) < 2:
        return Estimate(value, np.nan, np.nan)
    if np.ptp(above / below) == 0.0:
        return Estimate(value, value, value)
    low, high = _bootstrap((above, below), _ratio_of_means, NUM_RESAMPLES)
    return Estimate(value, float(low), float(high))


def _ratio_of_means(above: Array, below: Array, axis: int) -> Array:
    return np.mean(above, axis=axis) / np.mean(below, axis=axis)


def _bootstrap(
    samples: tuple[Array, ...], statistic: Callable[..., Array], num_resamples: int
) -> tuple[Array, Array]:
    from scipy.stats import bootstrap  # half of the package's import time, were it at the top

    def interval(method: Literal["BCa", "percentile"]) -> tuple[Array, Array]:
        result = bootstrap(
            samples,
            statistic,
            axis=0,
            paired=len(samples) > 1,
            vectorized=True,
            n_resamples=num_resamples,
            confidence_level=CONFIDENCE,
            method=method,
            random_state=np.random.default_rng(_GENERATOR_SEED),
        )
        return result.confidence_interval.low, result.confidence_interval.high

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # BCa says so where it is undefined; that is handled here
        low, high = interval("BCa")
        if np.isfinite(low).all() and np.isfinite(high).all():
            return low, high
        other_low, other_high = interval("percentile")
    defined = np.isfinite(low) & np.isfinite(high)
    return np.where(defined, low, other_low), np.where(defined, high, other_high)
