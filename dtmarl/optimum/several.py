"""A good point and a valid bound where users may split their task over several base stations.

For a given set of links of each user, all of them finishing with its local part, the user's delay
L_n is linear in the compute times s_m = x_m·W/λ_m, and the power each link needs is a posynomial
of them: with the capacities the slot is a geometric program, convex in log s, and a fixed-point
iteration on its optimality conditions, with a price per base station, solves it. Which links to
use is the part that is not convex. The prices are first sought with every user free to choose the
cheapest of all its sets of links; the sets chosen on the way are then frozen, solved, and the best
one is kept. The prices give the bound, see `dtmarl.optimum.price_bound`.
"""

from __future__ import annotations

from typing import NamedTuple

from array_api_compat import array_namespace

from dtmarl.backend import Array
from dtmarl.optimum.best_split import best_split, offload_delay_s
from dtmarl.optimum.price_bound import cheapest_s
from dtmarl.optimum.problem import divide, total
from dtmarl.optimum.stations import SET_LINKS, Links, compact_links, set_masks, whole_sets

PRICE_STEPS = 80
"""Iterations in which users are free to choose their links."""

FROZEN_STEPS = 40
"""Iterations with the links of each user fixed."""

_SNAPSHOTS = (49, 59, 69, 79)
_FULL_STEPS = 20  # price steps before they shrink
_SETTLING_STEPS = 30
_ELEMENTS_AT_ONCE = 2_000_000


class _Plan(NamedTuple):
    """Where the fixed-point iteration of one set of links stands."""

    finish_s: Array  # [..., N] T
    weight_s: Array  # [..., N] ν, delay saved per unit of task taken off the user
    share: Array  # [..., A, N] λ/W
    value_s: Array  # [..., N] delay plus price of the compute used; inf where x < 0 would be needed


class _Snapshot(NamedTuple):
    """Sets of links chosen at some prices, and where the iteration stood."""

    chosen_mask: Array  # [E, A, N]
    finish_s: Array  # [E, N]
    weight_s: Array  # [E, N]
    price: Array  # [E, M]


def several_stations(
    usable_mask: Array,
    overhead_s: Array,
    transfer_s: Array,
    floor_s: Array,
    local_s: Array,
    work_flop: Array,
    *,
    retrain_work: Array,
    free_flop_per_s: Array,
) -> tuple[Array, Array, Array]:
    """Split and allocation, and a lower bound on the sum of the users' delays.

    Args:
        usable_mask: [E, M, N] links that can carry part of a task.
        overhead_s: [E, M, N] a.
        transfer_s: [E, M, N] b.
        floor_s: [E, N] no delay is below it; below `local_s` where a link is usable.
        local_s: [E, N] D.
        work_flop: [E, N] W.
        retrain_work: [E, N] κ.
        free_flop_per_s: [E, M] F.

    Returns:
        split [E, M, N], allocation [E, M, N] in FLOP/s, bound [E] in seconds.
    """
    xp = array_namespace(local_s)
    arrays = (
        usable_mask,
        overhead_s,
        transfer_s,
        floor_s,
        local_s,
        work_flop,
        retrain_work,
        free_flop_per_s,
    )
    num_rows, num_stations, num_users = usable_mask.shape
    # The bound looks at about 50 cells for each link; memory is the limit, not speed.
    step = max(1, _ELEMENTS_AT_ONCE // (50 * num_stations * num_users))
    parts = [
        _solve(*(values[start : start + step] for values in arrays))
        for start in range(0, num_rows, step)
    ]
    split, allocation, bound = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
    return split, allocation, bound


def _solve(
    usable_mask: Array,
    overhead_s: Array,
    transfer_s: Array,
    floor_s: Array,
    local_s: Array,
    work_flop: Array,
    retrain_work: Array,
    free_flop_per_s: Array,
) -> tuple[Array, Array, Array]:
    xp = array_namespace(local_s)
    links = compact_links(
        usable_mask, overhead_s, transfer_s, floor_s, local_s, work_flop, retrain_work
    )
    few = links.first(SET_LINKS)
    unaided = xp.maximum(local_s, floor_s)
    helped = xp.any(few.usable_mask, axis=1)

    price = _first_price(few, free_flop_per_s)
    price, snapshots = _seek_price(few, price, free_flop_per_s)

    best = total(unaided, -1)
    best_split_, best_power, best_price = few.zeros(), few.zeros(), price
    for snapshot in snapshots:
        new_price, power = _solve_frozen(few, snapshot, free_flop_per_s)
        power = _fit(few, power, free_flop_per_s)
        split = best_split(few, power)
        delay = total(xp.where(helped, offload_delay_s(few, split, power), unaided), -1)
        better = delay < best
        best = xp.where(better, delay, best)
        best_split_ = xp.where(better[:, None, None], split, best_split_)
        best_power = xp.where(better[:, None, None], power, best_power)
        best_price = xp.where(better[:, None], new_price, best_price)

    bound = None
    for candidate in (price, best_price):
        centres = _settle(few, candidate)
        cheapest = xp.where(
            helped, cheapest_s(links, links.of_station(candidate), centres), unaided
        )
        value = total(cheapest, -1) - total(candidate * free_flop_per_s, -1)
        bound = value if bound is None else xp.maximum(bound, value)
    return few.to_stations(best_split_), few.to_stations(best_power), bound


def _first_price(links: Links, free_flop_per_s: Array) -> Array:
    """Prices if each link were its user's only one, its work shared among the user's links."""
    xp = array_namespace(free_flop_per_s)
    span = links.local_s[:, None, :] + links.transfer_s
    area = (links.local_s[:, None, :] - links.overhead_s) * links.work_flop[:, None, :]
    beta = xp.sqrt(area * (links.local_s[:, None, :] + links.retrain_work[:, None, :] * span))
    number = xp.sum(xp.astype(links.usable_mask, xp.float64), axis=1)[:, None, :]
    share = xp.where(links.usable_mask, 1.0, 0.0) / xp.maximum(number, xp.ones_like(number)) / span
    demand = links.station_total(beta * share)
    supply = free_flop_per_s + links.station_total(links.work_flop[:, None, :] * share)
    return divide(demand, supply, 0.0) ** 2


def _sweep(
    links: Links, chosen_mask: Array, price: Array, finish_s: Array, weight_s: Array
) -> _Plan:
    """One sweep over the optimality conditions of given sets of links, all of them in use.

    Args:
        links: with a leading axis for sets, if `chosen_mask` has one.
        chosen_mask: [..., A, N].
        price: [..., A, N] seconds for the whole of W at 1 FLOP/s.
        finish_s: [..., N] T to start from.
        weight_s: [..., N] ν to start from.
    """
    xp = array_namespace(price)
    per_transfer = xp.where(chosen_mask, 1.0, 0.0) / links.transfer_s
    overhead = links.overhead_s
    left = finish_s[..., None, :] - overhead
    square = xp.where(chosen_mask, price * xp.maximum(left, xp.zeros_like(left)), 0.0)
    longest = _longest_compute_s(links, square, per_transfer, weight_s)
    compute = xp.minimum(longest[..., None, :], xp.sqrt(square / weight_s[..., None, :]))
    compute = xp.where(chosen_mask, compute, 0.0)

    slope = 1.0 / links.local_s + total(per_transfer, -2)
    finish = (1.0 + total((overhead + compute) * per_transfer, -2)) / slope
    paid = divide(price * per_transfer, compute, 0.0)
    weight = (1.0 + total(paid, -2)) / slope
    # Where L_n cannot go below the overheads, ν is what makes the links just suffice.
    needed = total(left * per_transfer, -2) - (1.0 - links.floor_s / links.local_s)
    correction = divide(total(compute * per_transfer, -2), needed, 0.5)
    correction = xp.minimum(xp.maximum(correction, 0.5 + 0.0 * correction), 2.0 + 0.0 * correction)
    weight = xp.where(finish < links.floor_s, weight_s * correction, weight)
    finish = xp.minimum(xp.maximum(finish, links.floor_s), links.local_s)

    room = finish[..., None, :] - overhead - compute
    share = divide(room * per_transfer, compute, 0.0)
    retraining = xp.where(links.retrain_work > 0.0, xp.max(compute, axis=-2), 0.0)
    value = finish + links.retrain_work * retraining + total(price * share, -2)
    negative = xp.any(chosen_mask & (room < 0.0), axis=-2)
    return _Plan(finish, weight, share, xp.where(negative, xp.inf, value))


def _longest_compute_s(links: Links, square: Array, per_transfer: Array, weight_s: Array) -> Array:
    """τ at which a longer largest compute time costs as much retraining as it saves, [..., N].

    It solves Σ_m max(0, c_m/τ² - ν)/b_m = κ, whose left side is the largest over all sets of
    links of the same sum without the max: 1/τ² is the smallest of the sets' solutions.
    """
    xp = array_namespace(square)
    inverse = xp.full_like(weight_s, xp.inf)
    for index in range(square.shape[-2]):
        joins = square >= square[..., index : index + 1, :]
        width = total(xp.where(joins, per_transfer, 0.0), -2)
        height = total(xp.where(joins, per_transfer * square, 0.0), -2)
        solution = divide(links.retrain_work + weight_s * width, height, xp.inf)
        inverse = xp.minimum(inverse, solution)
    return xp.where(links.retrain_work > 0.0, 1.0 / xp.sqrt(inverse), xp.inf)


def _start(links: Links, chosen_mask: Array) -> tuple[Array, Array]:
    """T and ν of every set of links from which the sweeps begin, [E, S, N]."""
    xp = array_namespace(links.local_s)
    num_rows, num_sets, _, num_users = chosen_mask.shape
    half = xp.broadcast_to(0.5 * links.local_s, (num_rows, num_sets, num_users))
    return xp.maximum(half, links.floor_s), half


def _settle(links: Links, price: Array) -> Array:
    """L_n of every set of links at fixed prices, [E, S, N]."""
    sets = links.with_sets()
    chosen = set_masks(links.usable_mask)
    value = links.of_station(price)[:, None, ...]
    finish, weight = _start(sets, chosen)
    for _ in range(_SETTLING_STEPS):
        finish, weight, _, _ = _sweep(sets, chosen, value, finish, weight)
    return finish


def _seek_price(
    links: Links, price: Array, free_flop_per_s: Array
) -> tuple[Array, list[_Snapshot]]:
    """Prices at which the cheapest sets of links meet the capacities about, and some of the sets."""
    xp = array_namespace(price)
    sets = links.with_sets()
    chosen = set_masks(links.usable_mask)
    whole = whole_sets(links.usable_mask)
    finish, weight = _start(sets, chosen)
    snapshots = []
    mean = xp.zeros_like(price)
    for step in range(PRICE_STEPS):
        per_link = links.of_station(price)[:, None, ...]
        finish, weight, share, value = _sweep(sets, chosen, per_link, finish, weight)
        value = xp.where(whole, value, xp.inf)
        place = xp.argmin(value, axis=1)[:, None, :]
        pays = xp.take_along_axis(value, place, axis=1)[:, 0, :] < links.local_s
        deep = xp.broadcast_to(
            place[:, :, None, :], (place.shape[0], 1, chosen.shape[2], place.shape[2])
        )
        now = xp.take_along_axis(chosen, deep, axis=1)[:, 0, ...] & pays[:, None, :]
        power = xp.take_along_axis(share, deep, axis=1)[:, 0, ...]
        power = xp.where(now, power, 0.0) * links.work_flop[:, None, :]
        if step in _SNAPSHOTS:
            start = (xp.take_along_axis(v, place, axis=1)[:, 0, :] for v in (finish, weight))
            snapshots.append(_Snapshot(now, *start, price))
        if step >= PRICE_STEPS // 2:
            mean = mean + price / (PRICE_STEPS - PRICE_STEPS // 2)
        change = _price_change(links, now, power, free_flop_per_s)
        # Whole users come and go with a small change of price; smaller steps settle that.
        late = max(0, step - _FULL_STEPS)
        price = price * (1.0 + (change - 1.0) / (1.0 + late / 6.0))
    return mean, snapshots


def _solve_frozen(links: Links, snapshot: _Snapshot, free_flop_per_s: Array) -> tuple[Array, Array]:
    """Prices and power of the optimum with given sets of links."""
    chosen_mask, finish, weight, price = snapshot
    xp = array_namespace(price)
    power = links.zeros()
    for _ in range(FROZEN_STEPS):
        finish, weight, share, _ = _sweep(
            links, chosen_mask, links.of_station(price), finish, weight
        )
        power = xp.maximum(share, xp.zeros_like(share)) * links.work_flop[:, None, :]
        power = xp.where(chosen_mask, power, 0.0)
        price = price * _price_change(links, chosen_mask, power, free_flop_per_s)
    return price, power


def _price_change(links: Links, chosen_mask: Array, power: Array, free_flop_per_s: Array) -> Array:
    """Factor on each price that brings demand towards the capacity: λ + W/b falls with the price.

    λ + W/b = W·(T - a)/(b·s), and s grows with the square root of the price.
    """
    xp = array_namespace(power)
    span = links.local_s[:, None, :] + links.transfer_s
    offset = links.work_flop[:, None, :] * xp.where(chosen_mask, 1.0, 0.0) / span
    offset = links.station_total(offset)
    ratio = divide(links.station_total(power) + offset, free_flop_per_s + offset, 1.0)
    return xp.minimum(xp.maximum(ratio, xp.full_like(ratio, 0.5)), xp.full_like(ratio, 2.0))


def _fit(links: Links, power: Array, free_flop_per_s: Array) -> Array:
    """The same proportions within the capacities, exactly in floating point too."""
    xp = array_namespace(power)
    slack = 1.0 - 4.0 * (power.shape[-1] + 1) * float(xp.finfo(power.dtype).eps)
    scale = divide(free_flop_per_s * slack, links.station_total(power), 0.0)
    return power * links.spread(scale)
