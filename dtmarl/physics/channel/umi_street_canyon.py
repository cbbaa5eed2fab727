"""3GPP TR 38.901 Urban Micro, street canyon: path loss, line of sight, shadowing, Rician factor."""

from __future__ import annotations

import math

from dtmarl.backend import Array, namespace
from dtmarl.config import RadioConfig

_SPEED_OF_LIGHT_M_PER_S = 3.0e8  # the value that table 7.4.1-1 prescribes
_EFFECTIVE_ENVIRONMENT_HEIGHT_M = 1.0  # h_E of table 7.4.1-1, note 1, for UMi
_SHORTEST_DISTANCE_M = 10.0  # below it table 7.4.1-1 does not apply


class UmiStreetCanyon:
    """UMi street canyon of TR 38.901; links shorter than 10 m have the loss of 10 m."""

    line_of_sight_correlation_m = 50.0  # table 7.6.3.1-2
    shadowing_std_db = (4.0, 7.82)  # table 7.4.1-1
    shadowing_correlation_m = (10.0, 13.0)  # table 7.5-6
    rician_k = (10.0 ** (9.0 / 10.0), 0.0)  # mean of K_R, table 7.5-6; Rayleigh when obstructed

    def line_of_sight_probability(self, distance_m: Array) -> Array:
        """Line-of-sight probability, table 7.4.2-1, [..., M, N]."""
        xp = namespace(distance_m)
        far = xp.maximum(distance_m, 18.0)
        ratio = 18.0 / far
        return ratio + xp.exp(far * (-1.0 / 36.0)) * (1.0 - ratio)

    def path_loss_db(
        self, distance_m: Array, line_of_sight_mask: Array, radio: RadioConfig
    ) -> Array:
        """Path loss, table 7.4.1-1, [..., M, N] in dB."""
        xp = namespace(distance_m)
        flat = xp.maximum(distance_m, _SHORTEST_DISTANCE_M)
        height_squared = (radio.site_height_m - radio.user_height_m) ** 2
        log_carrier_ghz = math.log10(radio.carrier_hz / 1e9)
        log_distance = 0.5 * xp.log10(flat * flat + height_squared)  # of the slant distance

        breakpoint_m = (
            4.0
            * (radio.site_height_m - _EFFECTIVE_ENVIRONMENT_HEIGHT_M)
            * (radio.user_height_m - _EFFECTIVE_ENVIRONMENT_HEIGHT_M)
            * radio.carrier_hz
            / _SPEED_OF_LIGHT_M_PER_S
        )
        near_db = 32.4 + 21.0 * log_distance + 20.0 * log_carrier_ghz
        far_db = (
            32.4
            + 40.0 * log_distance
            + 20.0 * log_carrier_ghz
            - 9.5 * math.log10(breakpoint_m**2 + height_squared)
        )
        line_of_sight_db = xp.where(flat <= breakpoint_m, near_db, far_db)
        obstructed_db = (
            35.3 * log_distance + 22.4 + 21.3 * log_carrier_ghz - 0.3 * (radio.user_height_m - 1.5)
        )
        return xp.where(
            line_of_sight_mask, line_of_sight_db, xp.maximum(line_of_sight_db, obstructed_db)
        )
