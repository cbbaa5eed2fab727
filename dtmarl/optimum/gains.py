"""What a user gains from a base station's compute, as a function of how much of it.

With the best split for the power λ given, a user that is served gains α - β²/(λ + γ) seconds over
computing locally. For a set of users the best shares are λ = βθ - γ with one θ = (F + Σγ)/Σβ.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.problem import divide, namespace, total


class Curves(NamedTuple):
    """Gain curves α - β²/(λ + γ); all zero and the threshold infinite for users that cannot gain.

    Attributes:
        alpha: [..., N] seconds gained with unlimited power.
        beta: [..., N] square root of seconds times FLOP/s.
        gamma: [..., N] FLOP/s.
        threshold: [..., N] θ from which serving the user pays at the price 1/θ².
    """

    alpha: Array
    beta: Array
    gamma: Array
    threshold: Array


def gain_curves(
    local_s: Array,
    overhead_s: Array,
    transfer_s: Array,
    work_flop: Array,
    retrain_work: Array,
    usable_mask: Array,
    free_flop_per_s: Array,
) -> Curves:
    """Gain over computing locally when the split is the best one for the power given.

    The best split either offloads nothing or makes local and offloaded time equal, because the
    delay is piecewise linear in the split with its only kink there.

    Args:
        local_s: [..., N] D.
        overhead_s: [..., N] a.
        transfer_s: [..., N] b.
        work_flop: [..., N] W.
        retrain_work: [..., N] κ.
        usable_mask: [..., N].
        free_flop_per_s: [...] F.
    """
    xp = namespace(local_s)
    room = xp.where(usable_mask, local_s - overhead_s, 0.0)
    span = xp.where(usable_mask, local_s + transfer_s, 1.0)
    local = xp.where(usable_mask, local_s, 0.0)
    area = room * work_flop
    alpha = room * local / span
    beta = xp.sqrt(area * (local + retrain_work * span)) / span
    gamma = xp.where(usable_mask, work_flop, 0.0) / span
    pays = usable_mask & (alpha * (free_flop_per_s[..., None] + gamma) > beta * beta)
    threshold = divide(beta + xp.sqrt(area * retrain_work / span), alpha, xp.inf)
    return Curves(
        xp.where(pays, alpha, 0.0),
        xp.where(pays, beta, 0.0),
        xp.where(pays, gamma, 0.0),
        xp.where(pays, threshold, xp.inf),
    )


def best_shares(curves: Curves, served_mask: Array, free_flop_per_s: Array) -> Array:
    """Power of each served user, [..., N]; sums to at most the free power in floating point too."""
    xp = namespace(free_flop_per_s)
    beta = xp.where(served_mask, curves.beta, 0.0)
    gamma = xp.where(served_mask, curves.gamma, 0.0)
    theta = divide(free_flop_per_s + total(gamma, -1), total(beta, -1), 0.0)
    share = xp.maximum(beta * theta[..., None] - gamma, xp.zeros_like(beta))
    slack = 1.0 - 4.0 * (share.shape[-1] + 1) * float(xp.finfo(share.dtype).eps)
    scale = divide(free_flop_per_s * slack, total(share, -1), 0.0)
    return share * xp.minimum(scale, xp.ones_like(scale))[..., None]
