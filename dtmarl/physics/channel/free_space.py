"""Free space: Friis path loss, always line of sight, no shadowing. The simplest model there is."""

from __future__ import annotations

import math

from dtmarl.backend import Array, namespace
from dtmarl.config import RadioConfig

_SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


class FreeSpace:
    """Friis path loss with a strong direct path; a reference and a template for new models."""

    line_of_sight_correlation_m = 1.0  # the state never changes
    shadowing_std_db = (0.0, 0.0)
    shadowing_correlation_m = (1.0, 1.0)  # nothing to correlate
    rician_k = (100.0, 100.0)  # a direct path 20 dB above what is scattered

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """One everywhere, [..., M, N]."""
        return namespace(distance_m).ones_like(distance_m)

    def path_loss_db(
        self, distance_m: Array, line_of_sight_mask: Array, radio: RadioConfig
    ) -> Array:
        """20 log10(4 π d f / c) over the slant distance d, [..., M, N] in dB."""
        xp = namespace(distance_m)
        height_squared = (radio.site_height_m - radio.user_height_m) ** 2
        slant_squared = xp.maximum(distance_m * distance_m + height_squared, 1.0)
        constant_db = 20.0 * math.log10(4.0 * math.pi * radio.carrier_hz / _SPEED_OF_LIGHT_M_PER_S)
        return 10.0 * xp.log10(slant_squared) + constant_db
