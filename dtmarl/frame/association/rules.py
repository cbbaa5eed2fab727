"""Association without optimisation: the nearest site, or the strongest."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    mean_cost_s,
    single_site_mask,
)


def nearest(problem: AssociationProblem) -> AssociationResult:
    """Every user goes to the site nearest to its believed position."""
    return _result(problem, problem.distance_m.argmin(axis=1))


def strongest(problem: AssociationProblem) -> AssociationResult:
    """Every user goes to the site that it hears best."""
    return _result(problem, problem.gain_db.argmax(axis=1))


def _result(problem: AssociationProblem, site: Array) -> AssociationResult:
    num_envs, num_sites, _ = problem.cost_s.shape
    association = single_site_mask(site, problem.present_mask, num_sites)
    return AssociationResult(
        association_mask=association,
        value_s=mean_cost_s(problem, association),
        bound_s=np.full(num_envs, -np.inf),
        nodes=np.zeros(num_envs, dtype=np.int64),
    )
