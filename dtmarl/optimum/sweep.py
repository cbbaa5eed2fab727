"""The optimum of given sets of links, by a fixed-point iteration on its optimality conditions.

All links of a user's set finish with its local part, at T = L_n. Then T is linear in the compute
times s_m = x_m·W/λ_m, and the power a link needs is a posynomial of them: with the capacities the
slot is a geometric program, convex in log s, and prices of the stations' compute take it apart
into users. A user that retrains may use further links in part: they finish earlier and compute
exactly as long as its longest link does.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.market import adjust, open_market
from dtmarl.optimum.problem import divide, namespace, total
from dtmarl.optimum.stations import Links, set_masks

TIGHT_STEPS = 40
"""Sweeps with whole sets only."""

PARTIAL_STEPS = 80
"""Sweeps in which further links may be used in part."""

_SETTLING_STEPS = 30
_FIRST_PARTIAL_SPLIT = 0.02


class Plan(NamedTuple):
    """Where the iteration stands after a sweep."""

    finish_s: Array  # [..., N] T
    weight_s: Array  # [..., N] ν, delay saved per unit of task taken off the user
    compute_s: Array  # [..., A, N] s, 0 for links that are not in the set
    longest_s: Array  # [..., N] τ, the largest s; inf where nothing is retrained
    share: Array  # [..., A, N] λ/W
    value_s: Array  # [..., N] delay plus price of the compute used; inf where x < 0 would be needed


class Chosen(NamedTuple):
    """Sets of links, prices, and where to start from."""

    mask: Array  # [E, A, N]
    finish_s: Array  # [E, N]
    weight_s: Array  # [E, N]
    price: Array  # [E, M]


def sweep(
    links: Links,
    chosen_mask: Array,
    price: Array,
    finish_s: Array,
    weight_s: Array,
    partial_split: Array | None = None,
) -> Plan:
    """One sweep over the optimality conditions.

    Args:
        links: with a leading axis for sets, if `chosen_mask` has one.
        chosen_mask: [..., A, N] links that finish at T.
        price: [..., A, N] μ·W.
        finish_s: [..., N] T to start from.
        weight_s: [..., N] ν to start from.
        partial_split: [..., A, N] x of links used in part, zero for others.
    """
    xp = namespace(price)
    zero = xp.zeros_like(price)
    partial = zero if partial_split is None else partial_split
    per_transfer = xp.where(chosen_mask, 1.0, 0.0) / links.transfer_s
    overhead = links.overhead_s
    left = finish_s[..., None, :] - overhead
    square = xp.where(chosen_mask, price * xp.maximum(left, xp.zeros_like(left)), 0.0)
    paid = total(price * partial, -2)
    longest = _longest_compute_s(links, square, per_transfer, weight_s, paid)
    compute = xp.minimum(longest[..., None, :], xp.sqrt(square / weight_s[..., None, :]))
    compute = xp.where(chosen_mask, compute, 0.0)

    slope = 1.0 / links.local_s + total(per_transfer, -2)
    taken = total(partial, -2) - total((overhead + compute) * per_transfer, -2)
    finish = (1.0 - taken) / slope
    weight = (1.0 + total(divide(price * per_transfer, compute, 0.0), -2)) / slope
    # Where L_n cannot go below the overheads, ν is what makes the links just suffice.
    needed = total(left * per_transfer, -2) - (1.0 - links.floor_s / links.local_s)
    correction = divide(total(compute * per_transfer, -2), needed, 0.5)
    weight = xp.where(finish < links.floor_s, weight_s * _within(correction, 0.5, 2.0), weight)
    finish = xp.minimum(xp.maximum(finish, links.floor_s), links.local_s)

    room = finish[..., None, :] - overhead - compute
    share = divide(room * per_transfer, compute, 0.0)
    share = share + divide(partial, longest[..., None, :] + zero, 0.0)
    retrains = links.retrain_work > 0.0
    delay = finish + xp.where(retrains, links.retrain_work * xp.max(compute, axis=-2), 0.0)
    negative = xp.any(chosen_mask & (room < 0.0), axis=-2)
    value = xp.where(negative, xp.inf, delay + total(price * share, -2))
    return Plan(finish, weight, compute, longest, share, value)


def _within(values: Array, low: float, high: float) -> Array:
    xp = namespace(values)
    return xp.minimum(xp.maximum(values, xp.full_like(values, low)), xp.full_like(values, high))


def _longest_compute_s(
    links: Links, square: Array, per_transfer: Array, weight_s: Array, paid: Array
) -> Array:
    """τ at which a longer largest compute time costs as much retraining as it saves, [..., N].

    It solves Σ_m max(0, c_m/τ² - ν)/b_m + p/τ² = κ, with p paid for the links used in part. The
    left side is the largest over all sets of links of the same sum without the max, so that 1/τ²
    is the smallest of the sets' solutions.
    """
    xp = namespace(square)
    inverse = divide(links.retrain_work + 0.0 * paid, paid, xp.inf)
    for index in range(square.shape[-2]):
        joins = square >= square[..., index : index + 1, :]
        width = total(xp.where(joins, per_transfer, 0.0), -2)
        height = total(xp.where(joins, per_transfer * square, 0.0), -2) + paid
        solution = divide(links.retrain_work + weight_s * width, height, xp.inf)
        inverse = xp.minimum(inverse, solution)
    inverse = xp.where(links.retrain_work > 0.0, inverse, 0.0)
    return xp.where(inverse > 0.0, 1.0 / xp.sqrt(xp.where(inverse > 0.0, inverse, 1.0)), xp.inf)


def start(links: Links, chosen_mask: Array, price: Array) -> tuple[Array, Array]:
    """T and ν from which the sweeps begin: the optimum if all links compute equally long.

    Args:
        links: with a leading axis for sets, if `chosen_mask` has one.
        chosen_mask: [..., A, N].
        price: [..., A, N] μ·W.
    """
    xp = namespace(price)
    per_transfer = xp.where(chosen_mask, 1.0, 0.0) / links.transfer_s
    width = total(per_transfer, -2)
    slope = 1.0 / links.local_s + width
    earliest = (1.0 + total(links.overhead_s * per_transfer, -2)) / slope
    left = earliest[..., None, :] - links.overhead_s
    left = xp.maximum(left, xp.zeros_like(left))
    # T = earliest + σ·s, and the powers cost Σ μW·(T - a - s)/(b·s).
    share = width / slope
    square = divide(total(price * left * per_transfer, -2), share + links.retrain_work, 0.0)
    compute = xp.where(square > 0.0, xp.sqrt(square), 0.5 * links.local_s)
    finish = xp.minimum(earliest + share * compute, links.local_s)
    weight = (1.0 + total(price * per_transfer, -2) / compute) / slope
    return xp.maximum(finish, links.floor_s), weight


def settle(links: Links, price: Array) -> Plan:
    """Every set of links at fixed prices [E, M], with an axis for the sets of `set_masks`."""
    sets = links.with_sets()
    chosen = set_masks(links.usable_mask)
    per_link = links.of_station(price)[:, None, ...]
    finish, weight = start(sets, chosen, per_link)
    plan = sweep(sets, chosen, per_link, finish, weight)
    for _ in range(_SETTLING_STEPS):
        plan = sweep(sets, chosen, per_link, plan.finish_s, plan.weight_s)
    return plan


def tight_optimum(
    links: Links, chosen: Chosen, free_flop_per_s: Array
) -> tuple[Chosen, Plan, Array]:
    """The sets solved, the last sweep, and the power [E, A, N] they ask for."""
    market = open_market(chosen.price)
    finish, weight = chosen.finish_s, chosen.weight_s
    for _ in range(TIGHT_STEPS):
        plan = sweep(links, chosen.mask, links.of_station(market.price), finish, weight)
        finish, weight = plan.finish_s, plan.weight_s
        power = _power(links, chosen.mask, plan)
        market = adjust(market, links, chosen.mask, power, free_flop_per_s)
    return Chosen(chosen.mask, finish, weight, market.price), plan, power


def partial_optimum(
    links: Links, chosen: Chosen, plan: Plan, free_flop_per_s: Array
) -> tuple[Chosen, Array]:
    """The same with further links used in part, by the users that retrain.

    A link is worth more of the task while ν·τ exceeds μ·W. Links of the set for which that is not
    so are used in part from here on, except the user's best one.
    """
    xp = namespace(free_flop_per_s)
    market = open_market(chosen.price)
    retrains = (xp.any(chosen.mask, axis=1) & (links.retrain_work > 0.0))[:, None, :]
    price = links.of_station(market.price)
    worth = divide(plan.weight_s[:, None, :] * plan.compute_s, price, 0.0)
    best = worth >= xp.max(worth, axis=1)[:, None, :]
    leaves = chosen.mask & retrains & (worth < 1.0) & ~best
    split = (plan.finish_s[:, None, :] - links.overhead_s - plan.compute_s) / links.transfer_s
    joins = links.usable_mask & retrains & ~chosen.mask
    partial = xp.where(leaves, split, xp.where(joins, _FIRST_PARTIAL_SPLIT, 0.0))
    partial = xp.maximum(partial, xp.zeros_like(partial))
    tight = chosen.mask & ~leaves
    finish, weight = plan.finish_s, plan.weight_s
    for _ in range(PARTIAL_STEPS):
        price = links.of_station(market.price)
        plan = sweep(links, tight, price, finish, weight, partial)
        finish, weight = plan.finish_s, plan.weight_s
        used = tight | (partial > 0.0)
        power = _power(links, used, plan)
        market = adjust(market, links, used, power, free_flop_per_s)
        longest = xp.where(retrains, plan.longest_s[:, None, :], 0.0)
        most = (finish[:, None, :] - links.overhead_s - longest) / links.transfer_s
        worth = divide(weight[:, None, :] * longest, price, 1.0)
        partial = xp.minimum(partial * xp.sqrt(_within(worth, 0.5, 2.0)), most)
        partial = xp.maximum(partial, xp.zeros_like(partial))
    return Chosen(tight, finish, weight, market.price), power


def _power(links: Links, used_mask: Array, plan: Plan) -> Array:
    xp = namespace(plan.share)
    share = xp.maximum(plan.share, xp.zeros_like(plan.share))
    return xp.where(used_mask, share, 0.0) * links.work_flop[:, None, :]
