"""Unit conversions: the only place where log scales and bits turn into linear values and bytes."""

from __future__ import annotations

import math

from dtmarl.backend import Array, namespace

BITS_PER_BYTE = 8.0
_LN10_OVER_10 = math.log(10.0) / 10.0


def dbm_to_w(power_dbm: float) -> float:
    """Power in watt of a level in dBm.

    >>> dbm_to_w(30.0)
    1.0
    """
    return float(10.0 ** ((power_dbm - 30.0) / 10.0))


def db_to_linear(ratio_db: Array) -> Array:
    """Linear power ratio of a ratio in dB, any shape."""
    xp = namespace(ratio_db)
    return xp.exp(ratio_db * _LN10_OVER_10)


def linear_to_db(ratio: Array) -> Array:
    """Ratio in dB of a positive linear power ratio, any shape."""
    xp = namespace(ratio)
    return xp.log(ratio) / _LN10_OVER_10
