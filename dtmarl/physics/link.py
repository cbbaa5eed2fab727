"""The radio link: SNR, rate and transmission delay, eqs (1)–(3)."""

from __future__ import annotations

import math

from dtmarl.backend import Array, namespace
from dtmarl.config import RadioConfig
from dtmarl.units import BITS_PER_BYTE, dbm_to_w


def snr(gain: Array, radio: RadioConfig) -> Array:
    """Received signal-to-noise ratio r_mn of eq (1), linear.

    Args:
        gain: [..., M, N] linear power gain h.
        radio: transmit power ω and noise power σ².
    """
    return gain * (dbm_to_w(radio.transmit_power_dbm) / dbm_to_w(radio.noise_power_dbm))


def rate_bytes_per_s(gain: Array, radio: RadioConfig) -> Array:
    """Uplink rate R_mn of eq (2) over one link, without the indicator v, in bytes per second.

    Args:
        gain: [..., M, N] linear power gain h.
        radio: bandwidth and powers.
    """
    xp = namespace(gain)
    # log1p keeps the digits of a weak link, whose SNR is far below one.
    scale = radio.bandwidth_hz / (math.log(2.0) * BITS_PER_BYTE)
    return scale * xp.log1p(snr(gain, radio))


def usable_rate_bytes_per_s(gain: Array, radio: RadioConfig) -> Array:
    """Rate of eq (2) of a link that is not in outage, else 0, in bytes per second.

    Eq (2) has a rate for any link, so that a task sent over one that has just lost its line of
    sight would take days; a real link is lost below `outage_snr_db`.

    Args:
        gain: [..., M, N] linear power gain h.
        radio: bandwidth, powers and the SNR of outage.
    """
    xp = namespace(gain)
    lost_below = 10.0 ** (radio.outage_snr_db / 10.0)
    return xp.where(snr(gain, radio) >= lost_below, rate_bytes_per_s(gain, radio), 0.0)


def transmission_delay_s(
    offloaded_bytes: Array, overhead_bytes: Array, rate_bytes_per_s: Array, link_mask: Array
) -> Array:
    """Transmission delay L_mn^Trans of eq (3), [E, M, N] in seconds; 0 where v = 0.

    Args:
        offloaded_bytes: [E, M, N] Q_mn.
        overhead_bytes: [E, M, N] Q^D, plus model and twin where a new association moves them.
        rate_bytes_per_s: [E, M, N] R_mn, positive where v = 1.
        link_mask: [E, M, N] v.
    """
    xp = namespace(offloaded_bytes)
    rate = xp.where(link_mask, rate_bytes_per_s, 1.0)
    return xp.where(link_mask, (offloaded_bytes + overhead_bytes) / rate, 0.0)
