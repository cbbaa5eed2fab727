"""P2 for many environments at once, where the optimum is near everybody's best base station.

If every user's best base station fits the capacities, it is the optimum. Else somebody moves, and
each move has a regret, what it costs beyond the user's best. All ways to move at most two users are
looked at; moving three costs at least the three smallest regrets, so that a way that costs no more
than these is proved to be the optimum. What is not proved is left to a solver with a tree.
"""

from __future__ import annotations

from dtmarl.backend import Array, constant, count_to, namespace

SLACK = 1e-9
"""Relative excess over a capacity that is let pass; capacities are estimates, not knife edges."""


def best_choice(
    cost_s: Array, demand: Array, capacity: Array, present_mask: Array
) -> tuple[Array, Array]:
    """Every user's best base station, [E, N], and whether that fits all capacities, [E].

    Args:
        cost_s: [E, M, N].
        demand: [E, N] compute that each user takes.
        capacity: [E, M].
        present_mask: [E, N].
    """
    xp = namespace(cost_s)
    site = xp.argmin(cost_s, axis=1)
    load = _load(site, xp.where(present_mask, demand, 0.0), cost_s.shape[1])
    return site, xp.all(load <= capacity * (1.0 + SLACK), axis=-1)


def few_moves(
    cost_s: Array, demand: Array, capacity: Array, present_mask: Array
) -> tuple[Array, Array]:
    """The best association with at most two users away from their best, and where it is proved.

    Args:
        cost_s: [E, M, N].
        demand: [E, N] compute that each user takes.
        capacity: [E, M].
        present_mask: [E, N].

    Returns:
        Base station of each user [E, N], and whether no association is better [E].
    """
    xp = namespace(cost_s)
    num_envs, num_sites, num_users = cost_s.shape
    if num_users < 2:
        return xp.argmin(cost_s, axis=1), ~xp.any(present_mask | ~present_mask, axis=-1)
    demand = xp.where(present_mask, demand, 0.0)
    best = xp.argmin(cost_s, axis=1)
    here = best[:, None, :] == count_to(num_sites, best)[:, None]
    room = capacity * (1.0 + SLACK) - _load(best, demand, num_sites)
    least = xp.min(cost_s, axis=1)
    regret = xp.where(present_mask[:, None, :], cost_s - least[:, None, :], xp.inf)

    # Options o = (m, n): user n goes to m, at its regret, or stays; two of different users each.
    options = (num_envs, num_sites * num_users)
    user = count_to(options[1], best) % num_users
    price = xp.reshape(xp.where(here, 0.0, regret), options)
    ordered = user[:, None] < user
    total = xp.where(ordered, price[:, :, None] + price[:, None, :], xp.inf)  # [E, O, O]
    site = count_to(num_sites, best)
    for m in range(num_sites):
        arrives = xp.astype(site == m, demand.dtype)[:, None]
        leaves = xp.astype(best == m, demand.dtype)[:, None, :]
        change = xp.reshape(demand[:, None, :] * (arrives - leaves), options)
        fits = change[:, :, None] + change[:, None, :] <= room[:, m, None, None]
        total = xp.where(fits, total, xp.inf)
    flat = xp.reshape(total, (num_envs, -1))
    chosen = xp.argmin(flat, axis=1)
    found = xp.take_along_axis(flat, chosen[:, None], axis=1)[:, 0]
    moved = best
    for option in (chosen // options[1], chosen % options[1]):
        goes = count_to(num_users, best) == (option % num_users)[:, None]
        moved = xp.where(goes, (option // num_users)[:, None], moved)

    if num_users == 2:
        return moved, xp.isfinite(found)
    smallest = xp.min(xp.where(here, xp.inf, regret), axis=1)
    three = xp.sum(xp.sort(smallest, axis=-1)[:, :3], axis=-1)
    return moved, xp.isfinite(found) & (found <= three)


def _load(site: Array, demand: Array, num_sites: int) -> Array:
    xp = namespace(demand)
    placed = site[:, None, :] == count_to(num_sites, site)[:, None]
    nothing = constant(0.0, demand)
    return xp.where(placed, demand[:, None, :], nothing).sum(axis=-1)
