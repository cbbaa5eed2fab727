"""Algorithm 1: the association of P2 by LP relaxation and branch and bound.

HiGHS solves it. Before that come the cases that need no tree: those in which at most three users
have to leave their best base station (`few_moves`), for all environments together, and few users,
solved by looking at all associations at once, many times faster than a solver starts. Where no
association fits the capacities, the excess is kept small at a price instead of giving up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from dtmarl.backend import Array, constant, namespace, to_numpy
from dtmarl.frame.association.few_moves import SLACK, best_choice, few_moves, num_ways
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    single_site_mask,
)

_MOST_ASSOCIATIONS = 100_000
_MOST_MOVES = 3
_MOST_AT_ONCE = 2_000_000  # ways to move that are looked at in one go


def algorithm_1(problem: AssociationProblem) -> AssociationResult:
    """The optimal association of P2 with its bound; an environment's depends on no other's."""
    cost, demand, capacity, present = _instances(problem)
    site, settled = best_choice(cost, demand, capacity, present)
    return finish(problem, site, settled, moves_tried=0)


def at_most_one_move(problem: AssociationProblem, ways: Sequence[Array]) -> tuple[Array, Array]:
    """What `finish` goes on from, after one move: the same work for every environment.

    Args:
        problem: of all environments.
        ways: to move one user, from `all_ways`.

    Returns:
        Base station of each user [E, N], and whether no association is better [E].
    """
    instances = _instances(problem)
    best, fits = best_choice(*instances)
    moved, proved = few_moves(1, *instances, ways)
    return namespace(best).where(fits[:, None], best, moved), fits | proved


def finish(
    problem: AssociationProblem, site: Array, settled: Array, moves_tried: int
) -> AssociationResult:
    """Algorithm 1 from where few moves have brought it.

    Args:
        problem: of all environments.
        site: [E, N] base station of each user; written to.
        settled: [E] where this is the optimum.
        moves_tried: how many users may have moved.
    """
    instances = _instances(problem)
    cost, _, _, present = instances
    xp = namespace(cost)
    num_sites = cost.shape[1]
    hard = np.flatnonzero(~to_numpy(settled))
    for num_moves in range(moves_tried + 1, min(_MOST_MOVES, cost.shape[2]) + 1):
        ways = num_ways(num_sites, cost.shape[2], num_moves)
        if not hard.size or ways > _MOST_ASSOCIATIONS:
            break
        at_once = max(_MOST_AT_ONCE // ways, 1)
        left = []
        for start in range(0, hard.size, at_once):
            part = hard[start : start + at_once]
            rows = constant(part, cost, xp.int64)
            moved, proved = few_moves(
                num_moves, *(xp.take(array, rows, axis=0) for array in instances)
            )
            site[rows] = moved
            left.append(part[~to_numpy(proved)])
        hard = np.concatenate(left)
    trees = _solve_trees(hard, problem)
    for e, (sites, *_) in trees:
        here = constant(np.flatnonzero(to_numpy(present[e])), cost, xp.int64)
        site[e, here] = constant(sites, cost, xp.int64)
    users = xp.maximum(xp.astype(present, cost.dtype).sum(axis=-1), 1.0)
    association = single_site_mask(site, present, num_sites)
    value = xp.where(association, cost, 0.0).sum(axis=(1, 2)) / users
    bound = value
    nodes = xp.zeros_like(site[:, 0])
    if trees:
        value, bound = xp.asarray(value, copy=True), xp.asarray(value, copy=True)
    for e, (_, least, least_bound, count) in trees:
        value[e], bound[e], nodes[e] = least / users[e], least_bound / users[e], count
    return AssociationResult(
        association_mask=association, value_s=value, bound_s=bound, nodes=nodes
    )


def _instances(problem: AssociationProblem) -> tuple[Array, Array, Array, Array]:
    """Costs [E, M, N], zero for absent users, demand [E, N], capacity [E, M] and who is there."""
    present = problem.present_mask
    cost = namespace(present).where(present[:, None, :], problem.cost_s, 0.0)
    return cost, problem.demand_flop_per_s, problem.capacity_flop_per_s, present


def _solve_trees(rows: Array, problem: AssociationProblem) -> list[tuple[int, Solution]]:
    """The environments of these indices one by one, on NumPy: site of each present user."""
    trees = []
    for e in rows.tolist():
        present = np.flatnonzero(to_numpy(problem.present_mask[e]))
        instance = (
            to_numpy(problem.cost_s[e])[:, present].astype(np.float64),
            to_numpy(problem.demand_flop_per_s[e])[present].astype(np.float64),
            to_numpy(problem.capacity_flop_per_s[e]).astype(np.float64),
        )
        solution = solve_by_enumeration(*instance) or solve_by_branch_and_bound(*instance)
        trees.append((e, solution))
    return trees


Solution = tuple[Array, float, float, int]
"""Site of each user [N], objective, lower bound, branch-and-bound nodes."""


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
    fits = (load <= (capacity * (1.0 + SLACK))[:, None]).all(axis=0)
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
    scale = max(float(capacity.max()), float(demand.max()), 1.0)  # keeps coefficients near one
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
                LinearConstraint(load, -np.inf, capacity / scale * (1.0 + SLACK)),
            ],
        )
        if solution.x is not None:
            break
    else:
        raise RuntimeError(f"association: HiGHS found no solution: {solution.message}")
    # Costs are positive, so an optimal solution serves every user exactly once.
    site = solution.x[:size].reshape(num_sites, num_users).argmax(axis=0)
    return site, float(solution.fun), float(solution.mip_dual_bound), int(solution.mip_node_count)
