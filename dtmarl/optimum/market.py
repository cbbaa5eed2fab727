"""Prices of the base stations' compute, moved until demand meets supply."""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.problem import divide, namespace
from dtmarl.optimum.stations import Links


class Market(NamedTuple):
    """Prices on their way, with a step of each station's own."""

    price: Array  # [E, M]
    step: Array  # [E, M]
    excess: Array  # [E, M] ratio of demand to supply less one, of the step before


def open_market(price: Array) -> Market:
    """A market at its first prices [E, M]."""
    xp = namespace(price)
    return Market(price, xp.ones_like(price), xp.zeros_like(price))


def adjust(
    market: Market, links: Links, chosen_mask: Array, power: Array, free_flop_per_s: Array
) -> Market:
    """Prices moved towards equal demand and supply, by steps that shrink when they overshoot.

    With one link, λ + W/(D + b) falls with the square root of the price; users that can turn to
    another station, and users that come and go, react more strongly.
    """
    xp = namespace(power)
    span = links.local_s[:, None, :] + links.transfer_s
    offset = links.work_flop[:, None, :] * xp.where(chosen_mask, 1.0, 0.0) / span
    offset = links.station_total(offset)
    ratio = divide(links.station_total(power) + offset, free_flop_per_s + offset, 1.0)
    ratio = xp.minimum(xp.maximum(ratio, xp.full_like(ratio, 0.5)), xp.full_like(ratio, 2.0))
    excess = ratio - 1.0
    overshot = excess * market.excess < 0.0
    step = market.step * xp.where(overshot, 0.5, 1.2)
    step = xp.minimum(xp.maximum(step, xp.full_like(step, 0.01)), xp.full_like(step, 1.5))
    return Market(market.price * (1.0 + step * excess), step, excess)
