"""Algorithm 1: the association of P2 by LP relaxation and branch and bound.

HiGHS solves it; before that, the cases in which few users have to leave their best base station
are solved and certified directly, which is a hundred times faster. Where no association fits the
capacities, the excess is kept small at a price instead of giving up.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from dtmarl.backend import Array
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    single_site_mask,
)

_SLACK = 1e-9  # relative; capacities are estimates, not knife edges


def algorithm_1(problem: AssociationProblem) -> AssociationResult:
    """The optimal association of P2 with its bound, environment by environment."""
    num_envs, num_sites, num_users = problem.cost_s.shape
    site = np.zeros((num_envs, num_users), dtype=np.int64)
    value, bound = np.zeros(num_envs), np.zeros(num_envs)
    nodes = np.zeros(num_envs, dtype=np.int64)
    for e in range(num_envs):
        present = np.flatnonzero(problem.present_mask[e])
        if present.size == 0:
            continue
        instance = (
            problem.cost_s[e][:, present],
            problem.demand_flop_per_s[e, present],
            problem.capacity_flop_per_s[e],
        )
        solution = solve_with_few_moves(*instance) or solve_by_branch_and_bound(*instance)
        site[e, present], value[e], bound[e], nodes[e] = solution
        value[e] /= present.size
        bound[e] /= present.size
    return AssociationResult(
        association_mask=single_site_mask(site, problem.present_mask, num_sites),
        value_s=value,
        bound_s=bound,
        nodes=nodes,
    )


Solution = tuple[Array, float, float, int]
"""Site of each user [N], objective, lower bound, branch-and-bound nodes."""


def solve_with_few_moves(cost_s: Array, demand: Array, capacity: Array) -> Solution | None:
    """The optimum if at most two users have to leave their best site, else None.

    Every solution in which three or more users are away from their best site costs at least the
    three smallest regrets on top of the unconstrained optimum; a feasible solution with at most
    two moves that is not above that is optimal.

    Args:
        cost_s: [M, N].
        demand: [N] compute that each user takes.
        capacity: [M].
    """
    num_sites, num_users = cost_s.shape
    users = np.arange(num_users)
    best = cost_s.argmin(axis=0)
    unconstrained = cost_s[best, users].sum()
    limit = capacity + _SLACK * capacity.max()
    load = np.bincount(best, weights=demand, minlength=num_sites)
    if (load <= limit).all():
        return best, float(unconstrained), float(unconstrained), 0
    if num_sites < 2:
        return None
    moves = _moves(num_sites, num_users)
    target = (best[moves.user] + moves.step) % num_sites
    regret = cost_s[target, moves.user] - cost_s[best[moves.user], moves.user]
    change = np.zeros((moves.user.size, num_sites))
    rows = np.arange(moves.user.size)
    change[rows, best[moves.user]] = -demand[moves.user]
    change[rows, target] = demand[moves.user]
    # Pairs (a, a) stand for a single move, so that one list holds both cases.
    single = moves.first == moves.second
    total_change = change[moves.first] + np.where(single[:, None], 0.0, change[moves.second])
    total_regret = regret[moves.first] + np.where(single, 0.0, regret[moves.second])
    feasible = (load + total_change <= limit).all(axis=1)
    if not feasible.any():
        return None
    choice = int(np.where(feasible, total_regret, np.inf).argmin())
    if num_users > 2:
        least = regret.reshape(num_users, num_sites - 1).min(axis=1)
        if total_regret[choice] > np.partition(least, 2)[:3].sum():
            return None
    site = best.copy()
    for move in (moves.first[choice], moves.second[choice]):
        site[moves.user[move]] = target[move]
    value = float(unconstrained + total_regret[choice])
    return site, value, value, 0


def solve_by_branch_and_bound(cost_s: Array, demand: Array, capacity: Array) -> Solution:
    """The optimum of P2 by HiGHS, at least one site per user (11d); see the module on capacity."""
    num_sites, num_users = cost_s.shape
    size = num_sites * num_users
    price = 10.0 * cost_s.max(axis=0).sum() / max(float(demand.min()), 1.0)
    scale = max(float(capacity.max()), 1.0)  # keeps the constraint matrix near one
    # Unknowns: v_mn site by site, then the excess of each site over its capacity.
    columns = np.arange(size)
    serve = csr_array(
        (np.ones(size), (columns % num_users, columns)), (num_users, size + num_sites)
    )
    load = csr_array(
        (
            np.concatenate([np.tile(demand, num_sites) / scale, -np.ones(num_sites)]),
            (
                np.concatenate([columns // num_users, np.arange(num_sites)]),
                np.arange(size + num_sites),
            ),
        ),
        (num_sites, size + num_sites),
    )
    for largest_excess in (0.0, np.inf):
        excess = np.full(num_sites, largest_excess)
        solution = milp(
            np.concatenate([cost_s.ravel(), np.full(num_sites, price * scale)]),
            integrality=np.concatenate([np.ones(size), np.zeros(num_sites)]),
            bounds=Bounds(0.0, np.concatenate([np.ones(size), excess])),
            constraints=[
                LinearConstraint(serve, 1.0, np.inf),
                LinearConstraint(load, -np.inf, capacity / scale * (1.0 + _SLACK)),
            ],
        )
        if solution.x is not None:
            break
    else:
        raise RuntimeError(f"association: HiGHS found no solution: {solution.message}")
    # Costs are positive, so an optimal solution serves every user exactly once.
    site = solution.x[:size].reshape(num_sites, num_users).argmax(axis=0)
    return site, float(solution.fun), float(solution.mip_dual_bound), int(solution.mip_node_count)


class _Moves:
    """Index arrays of all moves and pairs of moves for a problem size."""

    def __init__(self, num_sites: int, num_users: int) -> None:
        count = num_users * (num_sites - 1)
        self.user = np.repeat(np.arange(num_users), num_sites - 1)
        self.step = np.tile(np.arange(1, num_sites), num_users)
        first, second = np.triu_indices(count)
        keep = (first == second) | (self.user[first] != self.user[second])
        self.first, self.second = first[keep], second[keep]


@lru_cache(maxsize=64)
def _moves(num_sites: int, num_users: int) -> _Moves:
    return _Moves(num_sites, num_users)
