"""What a user costs at least when compute has a price: the Lagrangian bound for several links.

For any prices μ >= 0 of the base stations' compute, no feasible point has a smaller sum of delays
than Σ_n φ_n(μ) - Σ_m μ_m F_m, where φ_n is the least delay plus price of compute that user n can
have on its own. φ_n is bounded from below, not just estimated:

- Fix the set K of links in use. Unless L_n equals its floor, all of them finish at T = L_n: with a
  slack link the cost is linear in T, so that T can move until the link is tight or not used.
- For a fixed T, and multipliers ν >= 0 of Σ_m x_m >= 1 - T/D and η_m >= 0, Σ_m η_m <= κ, of
  s_m <= τ, the least Lagrangian has a closed form, and is a lower bound of the cost at that T.
- With the multipliers fixed it is concave in T, so that over an interval it is least at an end.
  Any multipliers give a valid bound; good ones are those of one end. Intervals that shrink
  geometrically towards the best T make the bound tight where it matters.
- At T equal to the floor, the cost is bounded over intervals of τ instead.

φ_n is the least over all sets and intervals, and of not offloading at all.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.problem import divide, namespace, total
from dtmarl.optimum.stations import SET_LINKS, Links

_CELLS = tuple(1e-3 ** (1.0 - i / 23) for i in range(24))  # ends of intervals, from the centre
_HALVINGS = 16
_MOST_PASSES = 4
_FLOOR_RATIO = 1.15  # of the ends of intervals of τ
_FLOOR_CELLS = 50


class _Set(NamedTuple):
    """One set of links of every user, with an axis for cells: [E, 1, ...]."""

    per_transfer: Array  # [E, 1, A, N] 1/b in the set, else 0
    optional_mask: Array  # [E, 1, A, N] links that may as well be left out
    overhead_s: Array  # [E, 1, A, N]
    transfer_s: Array  # [E, 1, A, N]
    price: Array  # [E, 1, A, N] μW
    local_s: Array  # [E, 1, N]
    retrain_work: Array  # [E, 1, N]
    passes: int  # of the search for multipliers; each may find further links to leave out


def cheapest_s(links: Links, price: Array, centre_s: Array) -> Array:
    """φ_n, at most the least delay plus price of compute that each user can have, [E, N].

    Args:
        links: of users with at least one usable link; others give meaningless values.
        price: [E, A, N] μ of the link's base station times W.
        centre_s: [E, S, N] for each set about the T where it is cheapest; only the quality
            depends on it.
    """
    xp = namespace(price)
    usable = links.usable_mask
    width = usable.shape[1]
    best = links.local_s  # nothing offloaded
    inverse = xp.where(usable, 1.0, 0.0) / links.transfer_s
    number_of_sets = 2 ** min(width, SET_LINKS)
    # With more links than sets are made of, the others may be in any set.
    for number in range(0 if width > SET_LINKS else 1, number_of_sets):
        members = [i >= SET_LINKS or bool(number >> i & 1) for i in range(width)]
        optional = [i >= SET_LINKS for i in range(width)]
        whole = usable[:, 0, :] | ~usable[:, 0, :]
        for index in range(width):
            if members[index] and not optional[index]:
                whole = whole & usable[:, index, :]
        chosen = _Set(
            _columns(inverse, members)[:, None, ...],
            _columns(usable, optional)[:, None, ...],
            links.overhead_s[:, None, ...],
            links.transfer_s[:, None, ...],
            price[:, None, ...],
            links.local_s[:, None, :],
            links.retrain_work[:, None, :],
            min(sum(members), _MOST_PASSES),
        )
        centre = centre_s[:, max(number - 1, 0), :]
        cost = _set_cost_s(chosen, links.floor_s, centre)
        best = xp.where(whole, xp.minimum(best, cost), best)

    # T at its floor is a case of its own only where some set could finish earlier.
    earliest = _earliest_s(inverse, links.overhead_s, links.local_s)
    binding = (links.retrain_work > 0.0) & (links.floor_s >= earliest)
    if bool(xp.any(binding)):
        best = xp.where(binding, xp.minimum(best, _floor_cost_s(links, price)), best)
    return best


def _columns(values: Array, keep: list[bool]) -> Array:
    """The array with zeros (False) in the links that are not kept."""
    xp = namespace(values)
    none = xp.zeros_like(values[:, 0, :])
    return xp.stack([values[:, i, :] if keep[i] else none for i in range(len(keep))], axis=1)


def _earliest_s(per_transfer: Array, overhead_s: Array, local_s: Array) -> Array:
    """Smallest T with which a set of links can take 1 - T/D of the task, with infinite compute."""
    slope = 1.0 / local_s + total(per_transfer, -2)
    return (1.0 + total(overhead_s * per_transfer, -2)) / slope


def _set_cost_s(chosen: _Set, floor_s: Array, centre_s: Array) -> Array:
    """Bound on the cost of a user that uses this set, T above its floor, [E, N]."""
    xp = namespace(floor_s)
    high = chosen.local_s[:, 0, :]
    earliest = _earliest_s(chosen.per_transfer, chosen.overhead_s, chosen.local_s)[:, 0, :]
    low = xp.minimum(xp.maximum(floor_s, earliest), high)
    centre = xp.minimum(xp.maximum(centre_s, low), high)
    down = [centre - part * (centre - low) for part in reversed(_CELLS[:-1])]
    up = [centre + part * (high - centre) for part in _CELLS[:-1]]
    edges = xp.stack([low, *down, centre, *up, high], axis=1)
    begin, end = edges[:, :-1, :], edges[:, 1:, :]
    # The split cannot exceed 1 - T/D: matters where b is shorter than the cell.
    left = begin[:, :, None, :] - chosen.overhead_s
    most = (1.0 - begin / chosen.local_s)[:, :, None, :] * chosen.transfer_s
    least_compute = xp.maximum(1.0 - divide(most, left, 1.0), xp.zeros_like(left))
    bound = begin
    # Below the centre the end's multipliers are the better ones, unless b is short.
    for at in (begin, end):
        weight, retrain_weight = _multipliers(chosen, at)
        costs = (
            _lagrangian_s(chosen, finish, weight, retrain_weight, least_compute)
            for finish in (begin, end)
        )
        bound = xp.maximum(bound, xp.minimum(*costs))
    return xp.min(bound, axis=1)


def _multipliers(chosen: _Set, finish_s: Array) -> tuple[Array, Array]:
    """ν [E, G, N] and η [E, G, A, N] of the cheapest way to finish at T with the set.

    With c = μW(T - a), the compute times are min(q·sqrt(c), τ, T - a). For r = τ/q the first two
    limits give everything in closed form, and r follows by bisection; links at the third limit
    take nothing, and another pass leaves them out.
    """
    xp = namespace(finish_s)
    left = finish_s[:, :, None, :] - chosen.overhead_s
    left = xp.maximum(left, xp.zeros_like(left))
    per_transfer = xp.broadcast_to(chosen.per_transfer, left.shape)
    square = xp.where(per_transfer > 0.0, chosen.price * left, 0.0)
    root = xp.sqrt(square)
    kappa = chosen.retrain_work
    room = total(left * per_transfer, 2)
    smallest = 1e-9 * room
    room = room - (1.0 - finish_s / chosen.local_s)
    active = per_transfer
    weight, compute = room, left
    for _ in range(chosen.passes):
        time = xp.maximum(room - total(left * (per_transfer - active), 2), smallest)
        width, height = total(active, 2), total(square * active, 2)
        target = kappa * time * time
        low, high = xp.zeros_like(time), xp.max(xp.where(active > 0.0, root, 0.0), axis=2)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            excess = divide(square, (middle * middle)[:, :, None, :], 1.0) - 1.0
            excess = total(xp.maximum(excess, xp.zeros_like(excess)) * active, 2)
            spread = total(xp.minimum(root, middle[:, :, None, :]) * active, 2)
            below = excess * spread * spread > target
            low, high = xp.where(below, middle, low), xp.where(below, high, middle)
        spread = total(xp.minimum(root, high[:, :, None, :]) * active, 2)
        # Retraining so costly that T is longer than needed: ν = 0.
        idle = (kappa > 0.0) & (width * width * height <= target)
        scale = divide(time, spread, 0.0)
        longest = xp.where(idle, xp.sqrt(divide(height, kappa, 0.0)), high * scale)
        weight = xp.where(idle, 0.0, divide(spread * spread, time * time, 0.0))
        timed = divide(root, xp.sqrt(weight)[:, :, None, :], xp.inf)
        retrains = xp.broadcast_to((kappa > 0.0)[:, :, None, :], timed.shape)
        limit = xp.where(retrains, longest[:, :, None, :], xp.inf)
        compute = xp.minimum(timed, limit)
        full = compute >= left
        retrain_weight = divide(square, (longest * longest)[:, :, None, :], 0.0)
        retrain_weight = (retrain_weight - weight[:, :, None, :]) * active
        active = xp.where(full, 0.0, per_transfer)
    retrain_weight = xp.maximum(retrain_weight, xp.zeros_like(retrain_weight))
    scale = divide(kappa + 0.0 * weight, total(retrain_weight, 2), 0.0)
    return weight, retrain_weight * scale[:, :, None, :]


def _lagrangian_s(
    chosen: _Set, finish_s: Array, weight: Array, retrain_weight: Array, least_compute: Array
) -> Array:
    """Least Lagrangian at T, [E, G, N].

    Link m contributes the most of ν·x - η·s - μW·x/s over x = (T - a - s)/b. In z = s/(T - a) it
    is homogeneous, hence the most of linear functions of T, hence convex in T.

    Args:
        chosen: the set.
        finish_s: [E, G, N] T.
        weight: [E, G, N] ν.
        retrain_weight: [E, G, A, N] η.
        least_compute: [E, G, A, N] smallest z that any T of the cell allows.
    """
    xp = namespace(finish_s)
    left = finish_s[:, :, None, :] - chosen.overhead_s
    left = xp.maximum(left, xp.zeros_like(left))
    nu = weight[:, :, None, :]
    slope = left * (nu + retrain_weight * chosen.transfer_s)
    part = xp.sqrt(divide(chosen.price + 0.0 * slope, slope, 1.0))
    part = xp.minimum(xp.maximum(part, least_compute), xp.ones_like(part))
    split = (1.0 - part) * chosen.per_transfer
    paid = divide(chosen.price * split, part, 0.0)
    gain = left * (nu * split - retrain_weight * part) - paid
    gain = xp.where(chosen.optional_mask, xp.maximum(gain, xp.zeros_like(gain)), gain)
    gain = xp.where(chosen.per_transfer > 0.0, gain, 0.0)
    return finish_s + weight * (1.0 - finish_s / chosen.local_s) - total(gain, 2)


def _floor_cost_s(links: Links, price: Array) -> Array:
    """Bound on the cost with T at its floor, any links, any of them slack, [E, N].

    For a fixed τ the least cost is convex in the split: ν alone closes it. For a fixed ν, what a
    link gains, (ν - μW/τ)·x with x at most (T - a - τ)/b and 1 - T/D, is 0 up to τ = μW/ν and
    concave from there on, so that tangents at both ends of an interval of τ bound it.
    """
    xp = namespace(price)
    tau = [links.local_s * _FLOOR_RATIO**-i for i in range(_FLOOR_CELLS)]
    end = xp.stack(tau, axis=1)
    begin = xp.stack([*tau[1:], xp.zeros_like(links.local_s)], axis=1)
    floor = links.floor_s[:, None, :]
    needed = 1.0 - floor / links.local_s[:, None, :]
    usable = links.usable_mask[:, None, ...]
    left = floor[:, :, None, :] - links.overhead_s[:, None, ...]
    cost = price[:, None, ...]
    inverse = xp.where(usable, 1.0, 0.0) / links.transfer_s[:, None, ...]
    root = xp.sqrt(cost * left)

    middle = 0.5 * (begin + end)[:, :, None, :]
    low, high = 1e-6 + 0.0 * end, 1e6 + 0.0 * end
    low, high = low * links.local_s[:, None, :], high * links.local_s[:, None, :]
    for _ in range(32):
        nu = xp.sqrt(low * high)
        compute = xp.minimum(middle, root / xp.sqrt(nu)[:, :, None, :])
        pays = nu[:, :, None, :] * compute > cost
        taken = total(xp.where(pays, (left - compute) * inverse, 0.0), 2)
        enough = taken >= needed
        low, high = xp.where(enough, low, nu), xp.where(enough, nu, high)

    nu = high[:, :, None, :]
    all_on_link = left - needed[:, :, None, :] * links.transfer_s[:, None, ...]
    first = cost / nu  # τ from which the link pays
    live = usable & (first < left)
    last = xp.maximum(root / xp.sqrt(nu), all_on_link)  # τ beyond which it does not use more
    last = xp.maximum(last, first)

    def tangent(tau: Array) -> tuple[Array, Array]:
        at = xp.minimum(xp.maximum(tau[:, :, None, :], first), last)
        rate = divide(cost + 0.0 * at, at, 0.0)
        split = xp.minimum((left - at) * inverse, needed[:, :, None, :] + 0.0 * at)
        gain = (nu - rate) * split
        slope = divide(rate, at, 0.0) * split
        slope = slope - xp.where(at < all_on_link, 0.0, nu - rate) * inverse
        return xp.where(live, gain, 0.0), xp.where(live, slope, 0.0)

    gain, slope = tangent(begin)
    none_yet = begin[:, :, None, :] < first
    gain = xp.where(none_yet, 0.0, gain)
    slope = xp.where(begin[:, :, None, :] >= last, 0.0, slope)
    slope = xp.where(end[:, :, None, :] <= first, 0.0, slope)
    gain_end, slope_end = tangent(end)
    slope_end = xp.where(none_yet | (end[:, :, None, :] >= last), 0.0, slope_end)
    kappa = links.retrain_work[:, None, :]
    value, value_end = kappa * begin - total(gain, 2), kappa * end - total(gain_end, 2)
    rise, rise_end = kappa - total(slope, 2), kappa - total(slope_end, 2)
    width = end - begin
    meet = divide(value - value_end + rise_end * width, rise_end - rise, 0.0)
    meet = xp.minimum(xp.maximum(meet, xp.zeros_like(meet)), width)

    def above(step: Array) -> Array:
        return xp.maximum(value + rise * step, value_end + rise_end * (step - width))

    least = xp.minimum(xp.minimum(above(0.0 * width), above(width)), above(meet))
    bound = floor + high * needed + least
    return xp.min(xp.maximum(bound, floor + 0.0 * bound), axis=1)
