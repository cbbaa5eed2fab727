"""What no association could have been below: a bound over every choice of links.

For any prices μ >= 0 of the base stations' compute, no association, split and allocation has a
smaller sum of delays than Σ_n φ_n(μ) - Σ_m μ_m F_m, where φ_n is the least delay plus price of
compute that user n can have with any set of links. Without overheads φ_n is known exactly:

- A task part moves without loss from a link to one with cheaper compute, so that the best set of
  links is that of the cheapest ones, up to some number of them.
- All of them finish together with the local part, at T = L_n: with a slack link the cost is linear
  in T. Then T = (1 + Σ s_m/b_m)/A with A = 1/D + Σ 1/b_m for compute times s_m, and the cost
  T + κ·max s_m + Σ μ_m W (T/s_m - 1)/b_m is convex in log s, with s_m = min(q·sqrt(μ_m W), τ).
- Where that optimum uses a link backwards (s_m > T) fewer links are better, so that φ_n is the
  least over the sets where it does not. With κ = 0 it is ((1 + C)² / A) - Σ μ_m W/b_m with
  C = Σ sqrt(μ_m W)/b_m; with κ > 0 one equation in τ/q is left.

An overhead a is at least its part a·x of the task that is sent, so that b + a may stand for b.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.problem import SlotProblem, divide, link_terms, namespace, put_rows, total

PRICE_STEPS = 8
"""Prices that are tried; the best ones give the bound, so that their number is one of quality."""

_HALVINGS = 32
_LEAST_PRICE = 1e-9  # of the dearest base station's; where nobody pays, everybody would join


class _Users(NamedTuple):
    """Users and their links, as times and work; values of absent users are harmless constants."""

    pace: Array  # [E, M, N] 1/b, 0 where there is no link
    local_s: Array  # [E, N] D
    root_work: Array  # [E, N] sqrt(W)
    retrain_work: Array  # [E, N] κ


class _Demand(NamedTuple):
    """What users ask for at some prices."""

    cost_s: Array  # [E, N] delay plus price; φ where nothing is retrained
    root_price: Array  # [E, M] sqrt(μ) that would make this demand meet the capacities


def clairvoyant_bound_s(problem: SlotProblem) -> Array:
    """System delay (11a) that no association, split and allocation can be below, [E] in seconds.

    Retraining is taken as given. Links with a positive rate and free compute may be used in any
    number by any user; only what is sent over a link has to pay its overhead.

    Args:
        problem: slots; `association_mask` says which links an association may choose from.
    """
    xp = namespace(problem.task_bytes)
    terms = link_terms(problem)
    free = problem.free_flop_per_s
    if 0 in terms.usable_mask.shape:
        bound = total(terms.local_s, 1)
    else:
        users = _users(problem, terms.local_s, terms.work_flop)
        root_price = _seek_price(users, free)
        cost = xp.where(terms.local_s > 0.0, _least_cost_s(users, root_price), 0.0)
        bound = total(cost, 1) - total(root_price * root_price * free, 1)
        bound = xp.maximum(bound, xp.zeros_like(bound))
    number = xp.astype(total(xp.astype(problem.user_mask, xp.int64), 1), xp.float64)
    return bound / xp.maximum(number, xp.ones_like(number))


def _users(problem: SlotProblem, local_s: Array, work_flop: Array) -> _Users:
    xp = namespace(local_s)
    rate = problem.rate_bytes_per_s
    link = problem.association_mask & (rate > 0.0) & (problem.free_flop_per_s > 0.0)[:, :, None]
    link = link & (local_s > 0.0)[:, None, :]
    sent = xp.where(link, problem.task_bytes[:, None, :] + problem.overhead_bytes, 1.0)
    return _Users(
        xp.where(link, rate / sent, 0.0),
        xp.where(local_s > 0.0, local_s, 1.0),
        xp.sqrt(xp.where(local_s > 0.0, work_flop, 1.0)),
        problem.retrain_work,
    )


def _seek_price(users: _Users, free_flop_per_s: Array) -> Array:
    """sqrt(μ) [E, M] at which the demand about meets the capacities.

    The bound is concave in the prices, and with the sets of links kept quadratic in their roots:
    Newton's method, with the step halved where it does not help.
    """
    xp = namespace(free_flop_per_s)
    best = _root_price(users, users.pace, free_flop_per_s)
    demand = _demand(users, best, free_flop_per_s)
    value = _value_s(demand, best, free_flop_per_s)
    goal = demand.root_price
    step = xp.ones_like(value)
    for _ in range(PRICE_STEPS):
        tried = best + step[:, None] * (goal - best)
        demand = _demand(users, tried, free_flop_per_s)
        tried_value = _value_s(demand, tried, free_flop_per_s)
        better = tried_value > value
        value = xp.where(better, tried_value, value)
        best = xp.where(better[:, None], tried, best)
        goal = xp.where(better[:, None], demand.root_price, goal)
        step = xp.where(better, xp.ones_like(step), 0.5 * step)
    return best


def _value_s(demand: _Demand, root_price: Array, free_flop_per_s: Array) -> Array:
    return total(demand.cost_s, 1) - total(root_price * root_price * free_flop_per_s, 1)


def _demand(users: _Users, root_price: Array, free_flop_per_s: Array) -> _Demand:
    """The cheapest sets of links if all of a user's links share its retraining alike."""
    xp = namespace(root_price)
    order = xp.argsort(root_price, axis=1)
    pace = _by(order, users.pace)
    root = xp.take_along_axis(root_price, order, axis=1)[:, :, None] * users.root_work[:, None, :]
    width = xp.cumulative_sum(pace, axis=1)
    slope = 1.0 / users.local_s[:, None, :] + width
    paid = xp.cumulative_sum(pace * root, axis=1)
    burden = xp.sqrt(1.0 + users.retrain_work[:, None, :] * divide(slope, width, 0.0))
    cost = (1.0 + paid * paid + 2.0 * paid * burden) / slope
    cost = cost - xp.cumulative_sum(pace * root * root, axis=1)
    forwards = (pace > 0.0) & (root * slope < burden + paid)
    cost = xp.where(forwards, cost, xp.inf)
    place = xp.argmin(cost, axis=1)[:, None, :]
    cheapest = xp.take_along_axis(cost, place, axis=1)
    served = cheapest < users.local_s[:, None, :]
    rank = xp.cumulative_sum(xp.ones_like(order), axis=1)[:, :, None] - 1
    chosen = xp.where(served & (rank <= place), pace, 0.0)
    return _Demand(
        xp.where(served, cheapest, users.local_s[:, None, :])[:, 0, :],
        _root_price(users, _by(xp.argsort(order, axis=1), chosen), free_flop_per_s),
    )


def _by(order: Array, values: Array) -> Array:
    """Rows of the base stations [E, M, N] in another order [E, M]."""
    xp = namespace(values)
    return xp.take_along_axis(values, xp.broadcast_to(order[:, :, None], values.shape), axis=1)


def _root_price(users: _Users, pace: Array, free_flop_per_s: Array) -> Array:
    """sqrt(μ) at which the bound is largest while users keep these links, [E, M].

    Setting the derivative by sqrt(μ) to zero gives one linear equation for each base station.
    """
    xp = namespace(pace)
    width = total(pace, 1)
    slope = 1.0 / users.local_s + width
    burden = xp.sqrt(1.0 + users.retrain_work * divide(slope, width, 0.0))
    paid = pace * users.root_work[:, None, :]
    right = total(paid * (burden / slope)[:, None, :], 2)
    own = free_flop_per_s + total(paid * users.root_work[:, None, :], 2)
    idle = own <= 0.0  # neither compute nor users
    shared = paid / slope[:, None, :]
    mixed = xp.stack(
        [total(paid[:, m : m + 1, :] * shared, 2) for m in range(pace.shape[1])], axis=1
    )
    diagonal = _eye(xp, mixed) * xp.where(idle, 1.0, own)[:, :, None]
    root_price = xp.linalg.solve(diagonal - mixed, right[:, :, None])[:, :, 0]
    return xp.maximum(root_price, _LEAST_PRICE * xp.max(root_price, axis=1)[:, None])


def _eye(xp: Any, square: Array) -> Array:
    index = xp.cumulative_sum(xp.ones_like(square), axis=1)
    return xp.astype(index == xp.cumulative_sum(xp.ones_like(square), axis=2), square.dtype)


def _least_cost_s(users: _Users, root_price: Array) -> Array:
    """φ_n, exactly but for rounding, [E, N]."""
    xp = namespace(root_price)
    cost = _demand(users, root_price, xp.ones_like(root_price)).cost_s
    order = xp.argsort(root_price, axis=1)
    pace = xp.permute_dims(_by(order, users.pace), (0, 2, 1))
    root = xp.take_along_axis(root_price, order, axis=1)[:, None, :] * users.root_work[:, :, None]
    retrains = xp.reshape(users.retrain_work > 0.0, (-1,))
    (rows,) = xp.nonzero(retrains)
    if not rows.shape[0]:
        return cost

    def some(values: Array) -> Array:
        flat = xp.reshape(values, (retrains.shape[0], *values.shape[2:]))
        return xp.take(flat, rows, axis=0)

    exact = _retraining_cost_s(
        some(pace), some(root), some(users.local_s), some(users.retrain_work)
    )
    return xp.reshape(put_rows(retrains, exact, xp.reshape(cost, (-1,))), cost.shape)


def _retraining_cost_s(pace: Array, root: Array, local_s: Array, retrain_work: Array) -> Array:
    """φ of users that retrain, [R], by bisection on z = τ/q.

    Args:
        pace: [R, M] 1/b, cheapest link first.
        root: [R, M] sqrt(μW).
        local_s: [R] D.
        retrain_work: [R] κ.
    """
    xp = namespace(pace)
    best = local_s
    for number in range(1, pace.shape[1] + 1):
        links, price = pace[:, :number], root[:, :number]
        slope = 1.0 / local_s + total(links, 1)
        highest = xp.max(xp.where(links > 0.0, price, 0.0), axis=1)
        low, high = xp.zeros_like(highest), highest
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            _, gain, capped = _at(links, price, middle)
            width, square = capped
            short = middle * middle * (width + retrain_work * slope / gain) < square
            low, high = xp.where(short, middle, low), xp.where(short, high, middle)
        ratio = xp.where(high > 0.0, high, 1.0)
        scale, gain, (width, _) = _at(links, price, ratio)
        longest = scale * ratio
        uncapped = xp.where(price > ratio[:, None], 0.0, links * price)
        finish = (1.0 + scale * total(uncapped, 1) + longest * width) / slope
        cost = finish * gain + retrain_work * longest - total(links * price * price, 1)
        forwards = (highest > 0.0) & (longest <= finish * (1.0 + 1e-9))
        best = xp.where(forwards & (cost < best), cost, best)
    return best


def _at(links: Array, price: Array, ratio: Array) -> tuple[Array, Array, tuple[Array, Array]]:
    """q, 1 + Σ μW/(b·s), and Σ 1/b and Σ μW/b of the links with s = τ, for τ/q, [R] each."""
    xp = namespace(links)
    is_capped = price > ratio[:, None]
    paid = total(xp.where(is_capped, 0.0, links * price), 1)
    width = total(xp.where(is_capped, links, 0.0), 1)
    square = total(xp.where(is_capped, links * price * price, 0.0), 1)
    per_ratio = divide(square, ratio, 0.0)
    bend = per_ratio - ratio * width
    scale = 0.5 * (xp.sqrt(bend * bend + 4.0) - bend)
    return scale, 1.0 + (paid + per_ratio) / scale, (width, square)
