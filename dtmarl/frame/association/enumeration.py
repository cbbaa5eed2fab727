"""Every association with one base station per user, each solved as a slot: for tests and tables."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array
from dtmarl.frame.association.frame_objective import expected_slot_problem
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    ExpectedSlot,
    single_site_mask,
)
from dtmarl.optimum import slot_optimum

MOST_ASSOCIATIONS = 100_000
"""Associations of one environment; more are refused."""

_AT_ONCE = 8_192


def enumeration(problem: AssociationProblem) -> AssociationResult:
    """The best association, by certified slot optima of all of them; `nodes` is their number.

    Certified: as for `exact`, to the tolerance of the slot optimum, 1e-6, without any search.

    Raises:
        ValueError: the problem was made without its `expected_slot`, or an environment has more
            than `MOST_ASSOCIATIONS` associations.
    """
    num_envs, num_sites, num_users = problem.cost_s.shape
    site = np.zeros((num_envs, num_users), dtype=np.int64)
    value, bound = np.full(num_envs, np.inf), np.full(num_envs, np.inf)
    nodes = np.zeros(num_envs, dtype=np.int64)
    for e in range(num_envs):
        present = np.flatnonzero(problem.present_mask[e])
        number = num_sites**present.size
        if number > MOST_ASSOCIATIONS:
            raise ValueError(
                f"problem: expected at most {MOST_ASSOCIATIONS} associations, got "
                f"{num_sites}^{present.size} in environment {e}"
            )
        nodes[e] = number
        for first in range(0, number, _AT_ONCE):
            index = np.arange(first, min(first + _AT_ONCE, number))
            sites = np.zeros((index.size, num_users), dtype=np.int64)
            sites[:, present] = index[:, None] // num_sites ** np.arange(present.size) % num_sites
            repeated = _repeated(problem, e, index.size)
            mask = single_site_mask(sites, repeated.present_mask, num_sites)
            optimum = slot_optimum(expected_slot_problem(repeated, mask))
            best = int(optimum.delay_s.argmin())
            if optimum.delay_s[best] < value[e]:
                value[e], site[e] = optimum.delay_s[best], sites[best]
            bound[e] = min(bound[e], optimum.lower_bound_s.min())
    mask = single_site_mask(site, problem.present_mask, num_sites)
    return AssociationResult(association_mask=mask, value_s=value, bound_s=bound, nodes=nodes)


def _repeated(problem: AssociationProblem, e: int, number: int) -> AssociationProblem:
    """One environment many times."""

    def many(values: Array) -> Array:
        return np.broadcast_to(values[e], (number, *values.shape[1:]))

    slot = problem.expected_slot
    if slot is not None:
        slot = ExpectedSlot(*(part if isinstance(part, float) else many(part) for part in slot))
    return AssociationProblem(
        cost_s=many(problem.cost_s),
        demand_flop_per_s=many(problem.demand_flop_per_s),
        capacity_flop_per_s=many(problem.capacity_flop_per_s),
        distance_m=many(problem.distance_m),
        gain_db=many(problem.gain_db),
        present_mask=many(problem.present_mask),
        expected_slot=slot,
    )
