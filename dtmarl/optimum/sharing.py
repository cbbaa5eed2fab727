"""Sharing one base station's compute among users whose gains are sums of hyperbolas.

A user served with power λ gains α - β²/(λ + γ) seconds, or nothing if that is negative. Where it
has to retrain, it gains nothing until λ exceeds some positive power: the gain is then not concave,
which of the users to serve is a genuine choice, and the Lagrangian bound alone leaves a gap. So:

- for a given set of users, the best shares and their value have a closed form, λ = βθ - γ with one
  θ = (F + Σγ)/Σβ for all (1/θ² is the multiplier of the capacity);
- without a given set, the Lagrangian dual picks the users whose threshold is below θ, exactly,
  by sorting thresholds;
- branch and bound over the users at the threshold closes the gap, to a tolerance.

Rows [P] are independent problems, one for each environment and base station.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.gains import Curves
from dtmarl.optimum.problem import divide, namespace, put_rows, total

MOST_NODES = 256
"""Open nodes kept for one row; the bound stays valid if some have to be dropped."""

_ROWS_AT_ONCE = 256
_FEASIBLE = 1.0 + 1e-12


class Shared(NamedTuple):
    """Who is served, what that gains, and what no choice can exceed."""

    served_mask: Array  # [P, N]
    gain_s: Array  # [P]
    bound_s: Array  # [P] at least the gain of every choice


class _Relaxed(NamedTuple):
    bound_s: Array  # [...]
    served_mask: Array  # [..., N]
    marginal: Array  # [...] index of the next user to serve; N if none is left
    gap_mask: Array  # [...] the dual would serve part of that user


def share(curves: Curves, free_flop_per_s: Array, local_s: Array, tolerance: float) -> Shared:
    """The best set of users to serve at each base station.

    Args:
        curves: [P, N].
        free_flop_per_s: [P].
        local_s: [P] delay that the gains are taken from: the sum over the row's users.
        tolerance: gap to be left at most, relative to the delay that remains.
    """
    xp = namespace(free_flop_per_s)
    relaxed = _relax(curves, free_flop_per_s)
    served, gain = _better_rounding(curves, relaxed, free_flop_per_s)
    bound = xp.maximum(relaxed.bound_s, gain)
    hard = bound - gain > tolerance * (local_s - gain)
    (rows,) = xp.nonzero(hard)
    if rows.shape[0] == 0:
        return Shared(served, gain, bound)

    solved = []
    for start in range(0, rows.shape[0], _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        some_curves = Curves(*(xp.take(c, some, axis=0) for c in curves))
        free, local = (xp.take(values, some, axis=0) for values in (free_flop_per_s, local_s))
        solved.append(_branch(some_curves, free, local, tolerance))
    better = [xp.concat(parts, axis=0) for parts in zip(*solved, strict=True)]
    return Shared(
        put_rows(hard, better[0], served),
        put_rows(hard, better[1], gain),
        # Both bounds hold; the first one may be the smaller if nodes had to be dropped.
        xp.minimum(put_rows(hard, better[2], bound), bound),
    )


def _relax(curves: Curves, free_flop_per_s: Array) -> _Relaxed:
    """The Lagrangian dual of the capacity, at its minimum over θ."""
    xp = namespace(free_flop_per_s)
    count = curves.threshold.shape[-1]
    order = xp.argsort(curves.threshold, axis=-1)
    threshold, beta, gamma = (
        xp.take_along_axis(values, order, axis=-1)
        for values in (curves.threshold, curves.beta, curves.gamma)
    )
    # Users are served in the order of their thresholds for as long as their demand fits.
    theta = divide(
        free_flop_per_s[..., None] + xp.cumulative_sum(gamma, axis=-1),
        xp.cumulative_sum(beta, axis=-1),
        xp.inf,
    )
    fits = (theta >= threshold) & xp.isfinite(threshold)
    number = xp.sum(xp.astype(fits, xp.int64), axis=-1)[..., None]
    last = xp.ones_like(number)
    marginal = xp.take_along_axis(xp.concat([order, last * count], axis=-1), number, axis=-1)
    next_threshold = xp.take_along_axis(
        xp.concat([threshold, last * xp.inf], axis=-1), number, axis=-1
    )
    served = xp.isfinite(curves.threshold) & (
        (curves.threshold < next_threshold)
        | ((curves.threshold == next_threshold) & (_index(xp, curves) < marginal))
    )
    sum_alpha, sum_beta, supply = _sums(curves, served, free_flop_per_s)
    theta = divide(supply, sum_beta, xp.inf)
    next_threshold = next_threshold[..., 0]
    gap = theta > next_threshold
    price = 1.0 / xp.minimum(theta, next_threshold)
    bound = sum_alpha - 2.0 * sum_beta * price + supply * price * price
    return _Relaxed(bound, served, marginal[..., 0], gap)


def _index(xp: Any, curves: Curves) -> Array:
    # Made from the data, so that it lives on the same device.
    return xp.cumulative_sum(xp.ones_like(curves.alpha, dtype=xp.int64), axis=-1) - 1


def _sums(curves: Curves, mask: Array, free_flop_per_s: Array) -> tuple[Array, Array, Array]:
    xp = namespace(free_flop_per_s)
    alpha, beta, gamma = (total(xp.where(mask, c, 0.0), -1) for c in curves[:3])
    return alpha, beta, free_flop_per_s + gamma


def _value(curves: Curves, served: Array, free_flop_per_s: Array) -> Array:
    """Gain of a set with its best shares; -inf where a user of it would gain less than nothing."""
    xp = namespace(free_flop_per_s)
    alpha, beta, supply = _sums(curves, served, free_flop_per_s)
    gain = alpha - divide(beta * beta, supply, 0.0)
    theta = divide(supply, beta, xp.inf)
    entry = xp.max(xp.where(served, divide(curves.beta, curves.alpha, 0.0), 0.0), axis=-1)
    return xp.where(entry <= theta * _FEASIBLE, gain, -xp.inf)


def _better_rounding(
    curves: Curves, relaxed: _Relaxed, free_flop_per_s: Array
) -> tuple[Array, Array]:
    """The dual's users with or without the marginal one, whichever gains more, or nobody."""
    xp = namespace(free_flop_per_s)
    served = relaxed.served_mask
    more = served | (
        (_index(xp, curves) == relaxed.marginal[..., None]) & relaxed.gap_mask[..., None]
    )
    gain, gain_more = (_value(curves, mask, free_flop_per_s) for mask in (served, more))
    served = xp.where((gain_more > gain)[..., None], more, served)
    gain = xp.maximum(gain, gain_more)
    helps = gain > 0.0
    return served & helps[..., None], xp.where(helps, gain, 0.0)


def _dominance(curves: Curves, free_flop_per_s: Array) -> Array:
    """[P, N, N] True at [i, k] if some optimum that serves k also serves i.

    That is so if user i gains at least as much as k from every power that k would get: if only k
    were served, i could take its place. The difference of two curves is a quadratic in λ over a
    positive denominator. Requiring i to come first in the order of thresholds changes nothing but
    ties, and makes the relation free of cycles even after rounding.
    """
    xp = namespace(free_flop_per_s)
    first = Curves(*(c[:, :, None] for c in curves))
    second = Curves(*(c[:, None, :] for c in curves))
    lead = first.alpha - second.alpha
    square_1, square_2 = first.beta**2, second.beta**2
    linear = lead * (first.gamma + second.gamma) - square_1 + square_2
    constant = lead * first.gamma * second.gamma - square_1 * second.gamma + square_2 * first.gamma

    def least_at(power: Array) -> Array:
        return (lead * power + linear) * power + constant

    low = xp.maximum(divide(square_2, second.alpha, 0.0) - second.gamma, xp.zeros_like(square_2))
    high = free_flop_per_s[:, None, None]
    # The vertex is a minimum only if lead > 0; elsewhere the ends decide.
    vertex = xp.minimum(xp.maximum(divide(-linear, 2.0 * lead, 0.0), low), high)
    above = (least_at(low) >= 0.0) & (least_at(high) >= 0.0) & (least_at(vertex) >= 0.0)
    index = _index(xp, curves)
    before = (first.threshold < second.threshold) | (
        (first.threshold == second.threshold) & (index[:, :, None] < index[:, None, :])
    )
    return above & before & (first.alpha > 0.0) & (second.alpha > 0.0)


def _branch(curves: Curves, free_flop_per_s: Array, local_s: Array, tolerance: float) -> Shared:
    """Branch and bound over sets of users, all rows at once, one level of their trees at a time."""
    xp = namespace(free_flop_per_s)
    dominance = _dominance(curves, free_flop_per_s)
    dominated_by = xp.permute_dims(dominance, (0, 2, 1))
    free = free_flop_per_s[:, None]
    every = Curves(*(c[:, None, :] for c in curves))

    forced = curves.alpha[:, None, :] < 0.0  # nobody
    barred = forced | ~xp.isfinite(every.threshold)
    open_mask = ~forced[:, :, 0]
    best_mask = forced[:, 0, :]
    best = xp.zeros_like(free_flop_per_s)
    closed_bound = xp.zeros_like(free_flop_per_s)
    while True:
        threshold = xp.where(barred, xp.inf, xp.where(forced, 0.0, every.threshold))
        node = Curves(
            xp.where(barred, 0.0, every.alpha),
            xp.where(barred, 0.0, every.beta),
            xp.where(barred, 0.0, every.gamma),
            threshold,
        )
        relaxed = _relax(node, free)
        rounded, gain = _better_rounding(node, relaxed, free)
        gain = xp.where(open_mask, gain, 0.0)
        place = xp.argmax(gain, axis=1)[:, None]
        gain = xp.take_along_axis(gain, place, axis=1)[:, 0]
        where = xp.broadcast_to(place[:, :, None], (place.shape[0], 1, rounded.shape[2]))
        rounded = xp.take_along_axis(rounded, where, axis=1)[:, 0, :]
        best_mask = xp.where((gain > best)[:, None], rounded, best_mask)
        best = xp.maximum(best, gain)

        within = relaxed.bound_s <= (best + tolerance * (local_s - best))[:, None]
        closed_bound = _raise(closed_bound, relaxed.bound_s, open_mask & within)
        undecided = ~forced & ~barred
        # Without a marginal user the bound is reached, unless a forced user would lose by it.
        reached = ~relaxed.gap_mask & (_value(node, relaxed.served_mask, free) > -xp.inf)
        open_mask = open_mask & ~within & ~reached & xp.any(undecided, axis=-1)
        if not bool(xp.any(open_mask)):
            return Shared(best_mask, best, xp.maximum(best, closed_bound))

        other = xp.argmax(xp.astype(undecided, xp.int64), axis=-1)
        user = xp.where(relaxed.gap_mask, relaxed.marginal, other)
        pick = _index(xp, node) == user[..., None]
        where = xp.broadcast_to(user[..., None], barred.shape)
        where = xp.minimum(where, xp.full_like(where, barred.shape[-1] - 1))
        more_forced = forced | pick | xp.take_along_axis(dominated_by, where, axis=1)
        more_barred = barred | pick | xp.take_along_axis(dominance, where, axis=1)
        forced, barred = (
            xp.concat([more_forced, forced], axis=1),
            xp.concat([barred, more_barred], axis=1),
        )
        open_mask = xp.concat([open_mask, open_mask], axis=1) & ~xp.any(forced & barred, axis=-1)

        bound = xp.concat([relaxed.bound_s, relaxed.bound_s], axis=1)
        bound = xp.where(open_mask, bound, -xp.inf)
        order = xp.argsort(-bound, axis=1)
        bound = xp.take_along_axis(bound, order, axis=1)
        open_mask = bound > -xp.inf
        width = int(xp.max(xp.sum(xp.astype(open_mask, xp.int64), axis=1)))
        if width > MOST_NODES:
            width = MOST_NODES
            closed_bound = _raise(closed_bound, bound[:, width:], open_mask[:, width:])
        width = max(width, 1)
        open_mask = open_mask[:, :width]
        where = xp.broadcast_to(order[:, :width, None], (order.shape[0], width, barred.shape[2]))
        forced, barred = (xp.take_along_axis(mask, where, axis=1) for mask in (forced, barred))


def _raise(bound: Array, values: Array, mask: Array) -> Array:
    xp = namespace(bound)
    return xp.maximum(bound, xp.max(xp.where(mask, values, -xp.inf), axis=1))
