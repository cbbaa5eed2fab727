"""P2 for many environments at once, where the optimum is near everybody's best base station.

If every user's best base station fits the capacities, it is the optimum. Else somebody moves, and
each move has a regret, what it costs beyond the user's best. All ways to move one user are looked
at, then two, then three; moving one more would cost at least as many of the smallest regrets, so
that a way that costs no more than these is proved to be the optimum. The rest is left to a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, product
from math import comb

import numpy as np

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
    num_moves: int,
    cost_s: Array,
    demand: Array,
    capacity: Array,
    present_mask: Array,
    ways: Sequence[Array] | None = None,
) -> tuple[Array, Array]:
    """The best association with at most so many users off their best, and where it is proved.

    Args:
        num_moves: how many users may move, 1 to N.
        cost_s: [E, M, N].
        demand: [E, N] compute that each user takes.
        capacity: [E, M].
        present_mask: [E, N].
        ways: from `all_ways`, which no compiled graph can hold.

    Returns:
        Base station of each user [E, N], and whether no association is better [E].
    """
    xp = namespace(cost_s)
    num_envs, num_sites, num_users = cost_s.shape
    demand = xp.where(present_mask, demand, 0.0)
    best = xp.argmin(cost_s, axis=1)
    site = count_to(num_sites, best)
    here = best[:, None, :] == site[:, None]
    room = capacity * (1.0 + SLACK) - _load(best, demand, num_sites)
    least = xp.min(cost_s, axis=1)
    regret = xp.where(present_mask[:, None, :], cost_s - least[:, None, :], xp.inf)

    # Options o = (m, n): user n goes to m, at its regret, or stays.
    options = (num_envs, num_sites * num_users)
    price = xp.reshape(xp.where(here, 0.0, regret), options)
    arrives = xp.astype(site[:, None] == site, demand.dtype)
    leaves = xp.astype(here, demand.dtype)
    change = demand[:, None, None, :] * (arrives[..., None] - leaves[:, :, None, :])
    change = xp.reshape(change, (num_envs, num_sites, options[1]))  # at each base station
    if ways is None:
        ways = [constant(way, best) for way in all_ways(num_sites, num_users, num_moves)]
    total = _sum_over(price, ways)  # [E, W]
    for m in range(num_sites):
        fits = _sum_over(change[:, m], ways) <= room[:, m, None]
        total = xp.where(fits, total, xp.inf)
    chosen = xp.argmin(total, axis=1)
    found = xp.take_along_axis(total, chosen[:, None], axis=1)[:, 0]
    moved = best
    for way in ways:
        option = xp.take(way, chosen, axis=0)
        goes = count_to(num_users, best) == (option % num_users)[:, None]
        moved = xp.where(goes, (option // num_users)[:, None], moved)

    proved = xp.isfinite(found)
    if num_users > num_moves:
        smallest = xp.min(xp.where(here, xp.inf, regret), axis=1)
        one_more = xp.sum(xp.sort(smallest, axis=-1)[:, : num_moves + 1], axis=-1)
        proved = proved & (found <= one_more)
    return moved, proved


def num_ways(num_sites: int, num_users: int, num_moves: int) -> int:
    """How many ways `few_moves` looks at."""
    return int(comb(num_users, num_moves) * num_sites**num_moves)


@lru_cache(maxsize=8)
def all_ways(num_sites: int, num_users: int, num_moves: int) -> tuple[Array, ...]:
    """Options of all ways to move: one array [W] of options for each of the users that move."""
    users = np.array(list(combinations(range(num_users), num_moves)))
    sites = np.array(list(product(range(num_sites), repeat=num_moves)))
    options = sites * num_users + users[:, None, :]
    return tuple(options.reshape(-1, num_moves).T)


def _sum_over(values: Array, ways: Sequence[Array]) -> Array:
    """Sum of the values [E, O] of the options of each way, [E, W]."""
    xp = namespace(values)
    total = xp.take(values, ways[0], axis=1)
    for way in ways[1:]:
        total = total + xp.take(values, way, axis=1)
    return total


def _load(site: Array, demand: Array, num_sites: int) -> Array:
    xp = namespace(demand)
    placed = site[:, None, :] == count_to(num_sites, site)[:, None]
    nothing = constant(0.0, demand)
    return xp.where(placed, demand[:, None, :], nothing).sum(axis=-1)
