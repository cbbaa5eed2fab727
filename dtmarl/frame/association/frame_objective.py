"""The frame's delay as a function of the association, with congestion.

An association is worth what the agents can make of it. Here that is the certified optimum of the
frame's *expected slot*: the twin's expected rates and free compute, each user's mean task, and a
slot's part of what a new link moves. This is the certainty-equivalent reading of "expectation over
the frame". The mean over slots whose rates scatter around the twin's is another; with it the true
delay on paper-v0 came out the same, 0.00 s [-0.13, 0.13] of 32.7 s (`eval/association_value.py`).

With one base station per user the stations separate (`dtmarl.optimum`). A user that is served by
m with power λ needs D - (α - β²/(λ + γ)) seconds, one that is not served needs D. For a set T of
served users the best shares leave

    V_m(T) = Σ α - (Σ β)² / (F_m + Σ γ)

seconds less than computing locally, wherever no user of T would lose by it, that is, where
max β/α <= (F_m + Σ γ) / Σ β. So the association problem is to choose disjoint sets T_m of greatest
Σ_m V_m(T_m): users in no set are associated where it costs least, and every set's value is a
formula. The solvers of this package search these sets, and so their certificates cover every
association with one base station per user and every split and allocation under it. They do not
cover users that are associated with several, which (11d) allows and which can be faster.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.frame.association.problem import AssociationProblem, AssociationResult
from dtmarl.optimum import SlotProblem, slot_optimum
from dtmarl.optimum.gains import gain_curves
from dtmarl.optimum.problem import divide, namespace, total

_FEASIBLE = 1.0 + 1e-12  # rounding allowed where a set is checked for users that would lose


class Curves(NamedTuple):
    """Gain curves of every link, rows [R] of environments or otherwise.

    Attributes:
        alpha: [R, M, N] α; like β and γ zero on links over which the user cannot gain.
        beta: [R, M, N] β.
        gamma: [R, M, N] γ.
        entry: [R, M, N] β/α, the θ below which the user would lose; inf where it cannot gain.
    """

    alpha: Array
    beta: Array
    gamma: Array
    entry: Array


class FrameObjective(NamedTuple):
    """Gain curves, the compute they share, and what users cost that are not served.

    Attributes:
        curves: [E, M, N].
        free_flop_per_s: [E, M] F, 1 where there is none.
        unserved_s: [E, N] least delay without being served, 0 for absent users.
        idle_site: [E, N] where that is, the strongest of several.
        num_users: [E] users present, at least 1.
        present_mask: [E, N].
    """

    curves: Curves
    free_flop_per_s: Array
    unserved_s: Array
    idle_site: Array
    num_users: Array
    present_mask: Array

    def take(self, rows: Array) -> FrameObjective:
        """Some environments, by their index."""
        xp = namespace(rows)
        curves = Curves(*(xp.take(part, rows, axis=0) for part in self.curves))
        return FrameObjective(curves, *(xp.take(part, rows, axis=0) for part in self[1:]))

    @property
    def local_sum_s(self) -> Array:
        """Sum of the users' delays if none is served, [E]."""
        return total(self.unserved_s, -1)

    def delay_s(self, gain_s: Array) -> Array:
        """System delay that a gain Σ_m V_m leaves, [E]."""
        return (self.local_sum_s - gain_s) / self.num_users


def frame_objective(problem: AssociationProblem) -> FrameObjective:
    """The gain curves of a problem.

    A link that the twin expects to be in outage, and one to a base station that is down, carry
    nothing, neither tasks nor what a new link moves.

    Raises:
        ValueError: the problem was made without its `expected_slot`.
    """
    slot = problem.expected_slot
    if slot is None:
        raise ValueError("problem: expected one with an expected_slot, got None")
    xp = namespace(slot.task_bytes)
    present = problem.present_mask
    free = problem.capacity_flop_per_s
    up = (slot.rate_bytes_per_s > 0.0) & (free > 0.0)[:, :, None] & present[:, None, :]
    rate = xp.where(up, slot.rate_bytes_per_s, 1.0)
    overhead = xp.where(up, slot.overhead_bytes, 0.0) / rate
    task = xp.where(present, slot.task_bytes, 0.0)
    work = (task * slot.work_flop_per_byte)[:, None, :] + 0.0 * overhead
    local = work / slot.local_flop_per_s
    usable = up & (overhead < local)
    retrain = xp.where(present, slot.retrain_work, 0.0)[:, None, :] + 0.0 * overhead
    transfer = xp.where(usable, task[:, None, :], 1.0) / rate
    compute = xp.where(free > 0.0, free, 1.0)
    curves = gain_curves(local, overhead, transfer, work, retrain, usable, compute)
    gains = xp.isfinite(curves.threshold)
    alone = xp.maximum(local, overhead)
    unserved = xp.min(alone, axis=1)
    least = alone <= unserved[:, None, :]
    alive = least & (free > 0.0)[:, :, None]
    candidates = xp.where(xp.any(alive, axis=1)[:, None, :], alive, least)
    users = xp.sum(xp.astype(present, xp.int64), axis=-1)
    return FrameObjective(
        curves=Curves(
            curves.alpha,
            curves.beta,
            curves.gamma,
            xp.where(gains, divide(curves.beta, curves.alpha, xp.inf), xp.inf),
        ),
        free_flop_per_s=compute,
        unserved_s=unserved,
        idle_site=xp.argmax(xp.where(candidates, problem.gain_db, -xp.inf), axis=1),
        num_users=xp.astype(xp.maximum(users, xp.ones_like(users)), local.dtype),
        present_mask=present,
    )


def association_delay_s(problem: AssociationProblem, association_mask: Array) -> Array:
    """Optimal system delay of the frame's expected slot under an association, [E] in seconds.

    Args:
        problem: with its `expected_slot`.
        association_mask: [E, M, N], of any solver; users may have several base stations, whose
            slot is then solved approximately.

    Raises:
        ValueError: the problem was made without its `expected_slot`.
    """
    return slot_optimum(expected_slot_problem(problem, association_mask)).delay_s


def expected_slot_problem(problem: AssociationProblem, association_mask: Array) -> SlotProblem:
    """The frame's expected slot under an association [E, M, N].

    Raises:
        ValueError: the problem was made without its `expected_slot`.
    """
    slot = problem.expected_slot
    if slot is None:
        raise ValueError("problem: expected one with an expected_slot, got None")
    xp = namespace(slot.task_bytes)
    up = (slot.rate_bytes_per_s > 0.0) & (problem.capacity_flop_per_s > 0.0)[:, :, None]
    return SlotProblem(
        association_mask=association_mask,
        rate_bytes_per_s=slot.rate_bytes_per_s,
        task_bytes=slot.task_bytes,
        overhead_bytes=xp.where(up, slot.overhead_bytes, 0.0),
        retrain_work=xp.where(problem.present_mask, slot.retrain_work, 0.0),
        free_flop_per_s=problem.capacity_flop_per_s,
        work_flop_per_byte=slot.work_flop_per_byte,
        local_flop_per_s=slot.local_flop_per_s,
        user_mask=problem.present_mask,
    )


def set_value_s(alpha: Array, beta: Array, supply: Array, entry: Array) -> Array:
    """V of a set, from its Σα, Σβ, F + Σγ and largest β/α; -inf where one of it would lose."""
    xp = namespace(alpha)
    possible = xp.isfinite(entry)
    feasible = possible & (xp.where(possible, entry, 0.0) * beta <= supply * _FEASIBLE)
    return xp.where(feasible, alpha - beta * beta / supply, -xp.inf)


def station_index(objective: FrameObjective) -> Array:
    """0, …, M - 1 on the objective's device."""
    xp = namespace(objective.free_flop_per_s)
    ones = xp.ones_like(objective.free_flop_per_s[0, :], dtype=xp.int64)
    return xp.cumulative_sum(ones) - 1


def gain_of_sets_s(objective: FrameObjective, served: Array) -> Array:
    """Σ_m V_m(T_m), [E]; -inf where a served user would lose.

    Args:
        objective: of the frame.
        served: [E, N] station that serves each user, M where none does.
    """
    xp = namespace(served)
    member = served[:, None, :] == station_index(objective)[None, :, None]
    alpha, beta, gamma, entry = (xp.where(member, part, 0.0) for part in objective.curves)
    supply = objective.free_flop_per_s + total(gamma, -1)
    value = set_value_s(total(alpha, -1), total(beta, -1), supply, xp.max(entry, axis=-1))
    return total(value, -1)


def result_of_sets(
    objective: FrameObjective, served: Array, bound_gain_s: Array, nodes: Array
) -> AssociationResult:
    """The association that serves given sets, and its certificate.

    Args:
        objective: of the frame.
        served: [E, N] station that serves each user, M where none does.
        bound_gain_s: [E] what no choice of sets gains more than.
        nodes: [E] branch-and-bound nodes.
    """
    xp = namespace(served)
    num_sites = objective.free_flop_per_s.shape[1]
    site = xp.where(served < num_sites, served, objective.idle_site)
    mask = site[:, None, :] == station_index(objective)[None, :, None]
    gain = gain_of_sets_s(objective, served)
    value = objective.delay_s(gain)
    return AssociationResult(
        association_mask=mask & objective.present_mask[:, None, :],
        value_s=value,
        bound_s=objective.delay_s(xp.maximum(bound_gain_s, gain)),
        nodes=nodes,
    )
