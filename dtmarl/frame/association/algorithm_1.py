"""Algorithm 1: the association of P2 by LP relaxation and branch and bound.

HiGHS solves it. Before that come the cases that need no tree: every user's best base station, where
it fits, is optimal and is its own bound, and few users are solved by looking at all associations at
once, many times faster than a solver starts. Where no association fits the capacities, the
excess is kept small at a price instead of giving up.
"""

from __future__ import annotations

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
_MOST_ASSOCIATIONS = 100_000


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
        solution = (
            solve_by_best_choice(*instance)
            or solve_by_enumeration(*instance)
            or solve_by_branch_and_bound(*instance)
        )
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


def solve_by_best_choice(cost_s: Array, demand: Array, capacity: Array) -> Solution | None:
    """The optimum if every user's best site fits the capacities, else None.

    Args:
        cost_s: [M, N].
        demand: [N] compute that each user takes.
        capacity: [M].
    """
    best = cost_s.argmin(axis=0)
    load = np.bincount(best, weights=demand, minlength=capacity.size)
    if (load > capacity * (1.0 + _SLACK)).any():
        return None
    value = float(cost_s[best, np.arange(best.size)].sum())
    return best, value, value, 0


def solve_by_enumeration(cost_s: Array, demand: Array, capacity: Array) -> Solution | None:
    """The optimum over all associations with one site per user; None if too many, or none fits."""
    num_sites, num_users = cost_s.shape
    if float(num_sites) ** num_users > _MOST_ASSOCIATIONS:
        return None
    # User by user, each association so far branches into one for each site.
    total, load = np.zeros(1), np.zeros((num_sites, 1))
    for n in range(num_users):
        total = (total[:, None] + cost_s[:, n]).reshape(-1)
        added = demand[n] * np.eye(num_sites)[:, None, :]
        load = (load[:, :, None] + added).reshape(num_sites, -1)
    fits = (load <= (capacity * (1.0 + _SLACK))[:, None]).all(axis=0)
    if not fits.any():
        return None
    choice = int(np.where(fits, total, np.inf).argmin())
    value = float(total[choice])
    return np.array(np.unravel_index(choice, (num_sites,) * num_users)), value, value, 0


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
