"""Channel models: one file each, and one line here.

A model gives the statistics of a link; `dtmarl.physics.channel.process` turns them into gains that
are correlated in space and time.
"""

from __future__ import annotations

from typing import Protocol

from dtmarl.backend import Array
from dtmarl.config import RadioConfig
from dtmarl.physics.channel.free_space import FreeSpace
from dtmarl.physics.channel.umi_street_canyon import UmiStreetCanyon

Pair = tuple[float, float]
"""A value with line of sight, and one without."""


class ChannelModel(Protocol):
    """Statistics of a link by its horizontal distance; arrays are [..., M, N].

    Attributes:
        line_of_sight_correlation_m: distance over which the line-of-sight state decorrelates.
        shadowing_std_db: standard deviation of log-normal shadowing.
        shadowing_correlation_m: distance over which shadowing decorrelates by 1/e.
        rician_k: linear Rician factor; 0 is Rayleigh fading.
    """

    line_of_sight_correlation_m: float
    shadowing_std_db: Pair
    shadowing_correlation_m: Pair
    rician_k: Pair

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """Probability that a link has line of sight, [..., M, N]."""

    def path_loss_db(
        self, distance_m: Array, line_of_sight_mask: Array, radio: RadioConfig
    ) -> Array:
        """Median path loss in dB, [..., M, N]."""


CHANNELS: dict[str, ChannelModel] = {
    "umi-street-canyon": UmiStreetCanyon(),
    "free-space": FreeSpace(),
}
"""Channel models by the name that `RadioConfig.channel` takes."""
