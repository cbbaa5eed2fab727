"""Association without optimisation: the nearest site, or the strongest."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    mean_cost_s,
    single_site_mask,
)


def nearest(problem: AssociationProblem) -> AssociationResult:
    """Every user goes to the site nearest to its believed position."""
    return _result(problem, namespace(problem.distance_m).argmin(problem.distance_m, axis=1))


def strongest(problem: AssociationProblem) -> AssociationResult:
    """Every user goes to the site that it hears best."""
    return _result(problem, namespace(problem.gain_db).argmax(problem.gain_db, axis=1))


def _result(problem: AssociationProblem, site: Array) -> AssociationResult:
    xp = namespace(problem.cost_s)
    num_sites = problem.cost_s.shape[1]
    association = single_site_mask(site, problem.present_mask, num_sites)
    return AssociationResult(
        association_mask=association,
        value_s=mean_cost_s(problem, association),
        bound_s=xp.full_like(problem.cost_s[:, 0, 0], -xp.inf),
        nodes=xp.zeros_like(site[:, 0]),
    )
