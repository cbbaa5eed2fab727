"""The Lagrangian bound of the association problem: what compute is worth at each base station.

At prices μ_m = p_m² of the base stations' compute, a user's best link gains it at most
h_mn = max over λ of α - β²/(λ + γ) - μ_m λ, or nothing. For any prices,

    Σ_n max_m h_mn(p_m) + Σ_m F_m p_m²

is at least what any disjoint sets gain, because capacity is all that ties users together. The best
prices are sought by letting demand meet supply, p_m = Σ wβ / (F_m + Σ wγ), with shares w of users
between links of nearly the same worth; "nearly" becomes narrower step by step, and steps shorter
the more users are about to change their mind. Each price on the way gives a valid bound, and the
least is kept. It is not tight: users are indivisible.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.frame.association.frame_objective import Curves
from dtmarl.optimum.problem import divide, namespace, total

_FIRST_WIDTH = 0.5
_WIDTH_RATIO = 0.9
_LAST_WIDTH = 1e-5
_RELUCTANCE = 8.0  # how much those about to change count in the curvature


class Options(NamedTuple):
    """Users' links, and what they may choose: rows [R] are environments or nodes of a tree.

    Attributes:
        curves: [R, M, N].
        free_flop_per_s: [R, M].
        allowed_mask: [R, M, N] links that the user may be served over.
        idle_mask: [R, N] whether it may also go unserved.
    """

    curves: Curves
    free_flop_per_s: Array
    allowed_mask: Array
    idle_mask: Array


class Priced(NamedTuple):
    """The best bound found."""

    bound_s: Array  # [R] no choice of sets gains more
    price: Array  # [R, M] p, square root of seconds per FLOP
    worth_s: Array  # [R, M, N] h at these prices; -inf where not allowed
    chosen_s: Array  # [R, N] the largest of h and, where allowed, 0


def worth(options: Options, price: Array) -> Array:
    """h_mn at prices p [R, M], [R, M, N]; -inf where not allowed.

    A user that is served does not lose by it, so that where the best λ would bring it a loss, the
    least λ that does not is the best.
    """
    xp = namespace(price)
    curves = options.curves
    p = price[:, :, None]
    served = curves.alpha + p * (curves.gamma * p - 2.0 * curves.beta)
    link = options.allowed_mask & xp.isfinite(curves.entry)
    entry = xp.where(link, curves.entry, 0.0)
    least = curves.beta * entry - curves.gamma  # β²/α - γ
    served = xp.where(p * entry <= 1.0, served, -(p * p) * least)
    return xp.where(link, served, -xp.inf)


def price_bound(
    options: Options,
    price: Array | None = None,
    *,
    steps: int = 70,
    first_width: float = _FIRST_WIDTH,
) -> Priced:
    """The least bound over prices.

    Args:
        options: links and choices. A user without any choice makes its row's bound -inf.
        price: [R, M] to start from; None starts from users spread evenly.
        steps: prices to try.
        first_width: of "nearly the same worth", relative to the largest α; smaller where the
            first price is good already.
    """
    curves = options.curves
    xp = namespace(curves.alpha)
    free = options.free_flop_per_s
    if price is None:
        count = float(free.shape[1])
        price = total(curves.beta, -1) / (count * free + total(curves.gamma, -1))
    first = xp.max(curves.alpha, axis=(1, 2))
    width = first_width
    best: Priced | None = None
    for _ in range(steps):
        found = _bound_at(options, price)
        best = found if best is None else _lower(best, found)
        near = xp.where(first > 0.0, first, 1.0)[:, None, None] * width
        share = 1.0 - (found.chosen_s[:, None, :] - found.worth_s) / near
        share = xp.maximum(share, xp.zeros_like(share))
        share = share * share
        idle = xp.where(options.idle_mask, 1.0 - found.chosen_s / near[:, 0, :], 0.0)
        idle = xp.maximum(idle, xp.zeros_like(idle))
        share = share * divide(idle * 0.0 + 1.0, total(share, 1) + idle * idle, 0.0)[:, None, :]
        # Nobody takes compute that brings a loss.
        p = price[:, :, None]
        takes = xp.where(xp.isfinite(curves.entry), curves.entry, 0.0) * p <= 1.0
        taking = xp.where(takes, share, 0.0)
        slope = free * price + total(taking * (curves.gamma * p - curves.beta), -1)
        # Users near a choice move away from a station as its price rises.
        leaving = taking * (1.0 - share) * (curves.beta - curves.gamma * p) ** 2 / near
        curvature = free + total(taking * curves.gamma + _RELUCTANCE * leaving, -1)
        price = xp.maximum(price - slope / curvature, 0.0 * price)
        width = max(width * _WIDTH_RATIO, _LAST_WIDTH)
    assert best is not None
    return best


def _bound_at(options: Options, price: Array) -> Priced:
    xp = namespace(price)
    served = worth(options, price)
    chosen = xp.max(served, axis=1)
    chosen = xp.where(options.idle_mask, xp.maximum(chosen, xp.zeros_like(chosen)), chosen)
    bound = total(chosen, -1) + total(options.free_flop_per_s * price * price, -1)
    return Priced(bound, price, served, chosen)


def _lower(first: Priced, second: Priced) -> Priced:
    xp = namespace(first.price)
    better = second.bound_s < first.bound_s
    return Priced(
        xp.where(better, second.bound_s, first.bound_s),
        xp.where(better[:, None], second.price, first.price),
        xp.where(better[:, None, None], second.worth_s, first.worth_s),
        xp.where(better[:, None], second.chosen_s, first.chosen_s),
    )
