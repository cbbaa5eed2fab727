"""The certified optimum of a slot: problem P3 with full knowledge of the slot."""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.gains import best_shares, gain_curves
from dtmarl.optimum.problem import (
    LinkTerms,
    SlotOptimum,
    SlotProblem,
    divide,
    link_terms,
    namespace,
    put_rows,
    system_delay,
    total,
)
from dtmarl.optimum.several import several_stations
from dtmarl.optimum.sharing import share


class _Solution(NamedTuple):
    split: Array  # [E, M, N]
    allocation: Array  # [E, M, N]
    bound_s: Array  # [E] on the sum of the users' delays


def slot_optimum(problem: SlotProblem, *, tolerance: float = 1e-6) -> SlotOptimum:
    """Split and allocation of least system delay, with a bound that certifies them.

    Environments in which every user has at most one base station are solved to the tolerance:
    their base stations separate, and each is solved by `dtmarl.optimum.sharing`. Environments in
    which some user has several are solved approximately by `dtmarl.optimum.several`, and the
    difference between delay and bound says how well. A user that cannot gain by offloading keeps
    its task. The bounds hold up to rounding, which is that of the delay of computing locally.

    An environment's result does not depend, in any bit, on the others in the batch.

    Args:
        problem: a batch of slots.
        tolerance: largest relative gap with one base station per user.

    Raises:
        ValueError: if the tolerance is negative.

    Example:
        One user, 10 s of work, 1 s over the link and 1 s at the base station:

        >>> import numpy as np
        >>> link = np.ones((1, 1, 1))
        >>> problem = SlotProblem(
        ...     association_mask=link > 0, rate_bytes_per_s=10 * link, task_bytes=10 * link[0],
        ...     overhead_bytes=0 * link, retrain_work=0 * link[0], free_flop_per_s=10 * link[0],
        ...     work_flop_per_byte=1.0, local_flop_per_s=1.0, user_mask=link[0] > 0,
        ... )
        >>> optimum = slot_optimum(problem)
        >>> print(f"{optimum.delay_s[0]:.3f} s, {optimum.split[0, 0, 0]:.3f} offloaded")
        1.667 s, 0.833 offloaded
    """
    if not tolerance >= 0.0:
        raise ValueError(f"tolerance: expected a number that is not negative, got {tolerance}")
    xp = namespace(problem.task_bytes)
    terms = link_terms(problem)
    link = problem.association_mask & problem.user_mask[:, None, :]
    if 0 in link.shape:
        none = xp.zeros_like(terms.overhead_s)
        delay = system_delay(problem, none, none)
        return SlotOptimum(delay, delay, none, none)

    solution = _one_station(problem, terms, tolerance)
    several = xp.any(xp.sum(xp.astype(link, xp.int64), axis=1) > 1, axis=-1)
    (rows,) = xp.nonzero(several)
    if rows.shape[0]:
        found = several_stations(
            *(xp.take(part, rows, axis=0) for part in terms),
            retrain_work=xp.take(problem.retrain_work, rows, axis=0),
            free_flop_per_s=xp.take(problem.free_flop_per_s, rows, axis=0),
        )
        solution = _Solution(
            *(put_rows(several, new, old) for new, old in zip(found, solution, strict=True))
        )

    delay = system_delay(problem, solution.split, solution.allocation)
    users = xp.sum(xp.astype(problem.user_mask, xp.int64), axis=-1)
    users = xp.astype(xp.maximum(users, xp.ones_like(users)), xp.float64)
    # Where the bound is attained, rounding may leave it an ulp above the delay.
    bound = xp.minimum(solution.bound_s / users, delay)
    return SlotOptimum(delay, bound, solution.split, solution.allocation)


def _one_station(problem: SlotProblem, terms: LinkTerms, tolerance: float) -> _Solution:
    """Solution if every user has at most one base station: the base stations separate."""
    xp = namespace(problem.task_bytes)
    num_environments, num_stations, num_users = terms.usable_mask.shape
    rows = num_environments * num_stations
    shape = terms.usable_mask.shape

    def per_link(values: Array) -> Array:
        return xp.reshape(xp.broadcast_to(values, shape), (rows, num_users))

    usable = per_link(terms.usable_mask)
    local = per_link(terms.local_s[:, None, :])
    work = per_link(terms.work_flop[:, None, :])
    overhead = xp.where(usable, per_link(terms.overhead_s), 0.0)
    transfer = per_link(terms.transfer_s)
    free = xp.reshape(problem.free_flop_per_s, (rows,))
    retrain = per_link(problem.retrain_work[:, None, :])
    curves = gain_curves(local, overhead, transfer, work, retrain, usable, free)
    gains = xp.isfinite(curves.threshold)
    shared = share(curves, free, total(xp.where(gains, local, 0.0), -1), tolerance)
    allocation = best_shares(curves, shared.served_mask, free)
    # With λ fixed, local and offloaded time are equal at this split.
    room = xp.where(allocation > 0.0, (local - overhead) * allocation, 0.0)
    split = divide(room, (local + transfer) * allocation + work, 0.0)

    unaided = xp.maximum(terms.local_s, terms.floor_s)
    bound = total(unaided, -1) - total(
        xp.reshape(shared.bound_s, (num_environments, num_stations)), -1
    )
    return _Solution(xp.reshape(split, shape), xp.reshape(allocation, shape), bound)
