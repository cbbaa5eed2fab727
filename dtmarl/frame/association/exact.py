"""The best association with one base station per user, or how far from it the answer may be."""

from __future__ import annotations

import numpy as np

from dtmarl.frame.association.branch import branch_and_bound
from dtmarl.frame.association.frame_objective import (
    frame_objective,
    result_of_sets,
)
from dtmarl.frame.association.local_search import all_options, improved, rounded
from dtmarl.frame.association.partitions import MOST_USERS, Base, best_partition
from dtmarl.frame.association.prices import price_bound
from dtmarl.frame.association.problem import AssociationProblem, AssociationResult

MOST_NODES = 2_000
"""Branch-and-bound nodes of an environment, unless asked otherwise; fewer in large networks."""

_MOST_WORK = 800_000  # nodes times links
_MOST_PAIRS = 2_000_000  # of sets, at all stations


def exact(
    problem: AssociationProblem,
    *,
    node_limit: int | None = None,
    time_limit_s: float | None = None,
) -> AssociationResult:
    """The best association on the frame objective, environment by environment.

    With few users all disjoint sets are looked at (`partitions`), else branch and bound starts from
    what local search has found. Where a limit ends it, the result is the best association found,
    with the bound that holds; `nodes` counts branch-and-bound nodes.

    Certified: on the frame's expected slot no association with one base station per user, with any
    split and allocation, is below the bound, which is the value itself up to 1e-7 unless a limit
    was met. Not certified: associations with several base stations per user, and how the true
    slots will differ from the one that the twin expects.

    Args:
        problem: with its `expected_slot`.
        node_limit: nodes to look at in each environment; None for a number that depends on the
            network's size.
        time_limit_s: seconds of each environment; the result then depends on the machine. None
            for no limit.

    Raises:
        ValueError: the problem was made without its `expected_slot`, or a limit is negative.
    """
    if node_limit is not None and node_limit < 0:
        raise ValueError(
            f"node_limit: expected None or a number that is not negative, got {node_limit}"
        )
    if time_limit_s is not None and not time_limit_s >= 0.0:
        raise ValueError(
            f"time_limit_s: expected None or a number that is not negative, got {time_limit_s}"
        )
    objective = frame_objective(problem)
    num_envs, num_users = objective.unserved_s.shape
    num_sites = objective.free_flop_per_s.shape[1]
    if node_limit is None:
        node_limit = min(MOST_NODES, _MOST_WORK // (num_sites * max(num_users, 1)))
    gaining = np.isfinite(objective.curves.entry).any(axis=1).sum(axis=-1)
    few = (gaining <= MOST_USERS) & (num_sites * 3.0**gaining <= _MOST_PAIRS)

    served = np.full((num_envs, num_users), num_sites)
    bound = np.zeros(num_envs)
    nodes = np.zeros(num_envs, dtype=np.int64)
    if few.any():
        some = objective.take(np.flatnonzero(few))
        nothing = np.zeros_like(some.free_flop_per_s)
        best = best_partition(some.curves, Base(nothing, nothing, some.free_flop_per_s, nothing))
        served[few], bound[few] = best.served, best.gain_s
    for e in np.flatnonzero(~few):
        one = objective.take(np.array([e]))
        root = price_bound(all_options(one))
        start = improved(one, rounded(one, root))
        found = branch_and_bound(one, start, root, node_limit=node_limit, time_limit_s=time_limit_s)
        served[e], bound[e], nodes[e] = found.served[0], found.bound_s, found.nodes
    return result_of_sets(objective, served, bound, nodes)
