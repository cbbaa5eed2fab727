"""Slots of the environment as problems P3: as they are, and as the twin believes them to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.optimum.best_split import best_split
from dtmarl.optimum.problem import (
    SlotOptimum,
    SlotProblem,
    divide,
    link_terms,
    namespace,
    system_delay,
    total,
)
from dtmarl.optimum.stations import compact_links
from dtmarl.physics import compute
from dtmarl.twin import mirror, model
from dtmarl.types import Action, State


def true_problem(config: ScenarioConfig, states: Sequence[State]) -> SlotProblem:
    """P3 of slots as they truly are, under the frame decisions in force.

    What `dtmarl.dynamics.slot_outcome` makes of an action is `action_delay_s` of this problem.

    Args:
        config: the scenario.
        states: at the slots, before they are played; their environments become the rows.
    """
    gather = _gatherer(config, states)
    rate = gather(lambda state, s: state.frame.rate_bytes_per_s[s])
    return _problem(
        config,
        states,
        link_mask=gather(lambda state, s: state.control.link_mask) & (rate > 0.0),
        rate_bytes_per_s=rate,
        task_bytes=gather(lambda state, s: state.frame.task_bytes[s]),
        free_flop_per_s=gather(lambda state, s: state.frame.free_flop_per_s[s]),
        user_mask=gather(lambda state, s: state.frame.present_mask),
    )


def believed_problem(config: ScenarioConfig, states: Sequence[State]) -> SlotProblem:
    """P3 of slots with the twin's rates, task sizes and free compute instead of the true ones.

    Links that the twin expects in outage, or to a base station without free compute, carry nothing.

    Args:
        config: the scenario.
        states: at the slots, before they are played; their environments become the rows.
    """
    gather = _gatherer(config, states)
    gain_db = gather(lambda state, s: state.twin.mirror.gain_db[s])
    rate = model.rate_estimate_bytes_per_s(config, gain_db)
    free = gather(lambda state, s: state.twin.mirror.free_flop_per_s[s])
    user = gather(lambda state, s: mirror.at_slot(state.twin.mirror, s).present_mask)
    associated = gather(lambda state, s: state.control.association_mask)
    task = gather(lambda state, s: state.twin.mirror.task_bytes[s])
    return _problem(
        config,
        states,
        link_mask=associated & (rate > 0.0) & (free > 0.0)[:, :, None],
        rate_bytes_per_s=rate,
        task_bytes=namespace(task).where(user, task, 0.0),
        free_flop_per_s=free,
        user_mask=user,
    )


def any_association(config: ScenarioConfig, problem: SlotProblem) -> SlotProblem:
    """The problem with every link there is, for `clairvoyant_bound_s`.

    Results are sent over every link that is used; model and twin may have been there all along.

    Args:
        config: the scenario.
        problem: a slot under some association.
    """
    xp = namespace(problem.task_bytes)
    every = problem.user_mask[:, None, :] & (problem.rate_bytes_per_s > 0.0)
    overhead = xp.zeros_like(problem.overhead_bytes) + config.traffic.result_bytes
    return dataclasses.replace(problem, association_mask=every, overhead_bytes=overhead)


def action_delay_s(problem: SlotProblem, action: Action) -> Array:
    """System delay (11a) of agents' weights in a problem, [E] in seconds.

    Args:
        problem: the slots, true or believed.
        action: the weights of every slot, [E, ...].
    """
    link = problem.association_mask
    offloaded = compute.offloaded_bytes(problem.task_bytes, action.split_weight, link)
    power = compute.allocation_flop_per_s(problem.free_flop_per_s, action.allocation_weight, link)
    task = problem.task_bytes[:, None, :] + 0.0 * offloaded
    return system_delay(problem, divide(offloaded, task, 0.0), power)


def optimal_weights(problem: SlotProblem, optimum: SlotOptimum) -> Action:
    """Weights in [0, 1], float32, with which agents reach an optimum, up to rounding.

    Every associated user is served with some weight (`compute.SMALLEST_WEIGHT`), so that compute
    that the optimum denies to somebody cannot be denied altogether. The split is the best one for
    the compute that these very weights bring about.

    Args:
        problem: the slots.
        optimum: its solution.
    """
    xp = namespace(problem.task_bytes)
    most = xp.max(optimum.allocation, axis=2)[:, :, None] + 0.0 * optimum.allocation
    allocation_weight = xp.astype(divide(optimum.allocation, most, 0.0), xp.float32)
    power = compute.allocation_flop_per_s(
        problem.free_flop_per_s,
        xp.astype(allocation_weight, xp.float64),
        problem.association_mask,
    )
    links = compact_links(*link_terms(problem), problem.retrain_work)
    narrow = links.order[:, : links.transfer_s.shape[1]]
    split = links.to_stations(best_split(links, xp.take_along_axis(power, narrow, axis=1)))
    local = 1.0 - total(split, 1)
    weight = xp.concat([local[:, None, :], split], axis=1)
    weight = weight / xp.max(weight, axis=1)[:, None, :]
    return Action(
        allocation_weight=allocation_weight,
        split_weight=xp.astype(xp.permute_dims(weight, (0, 2, 1)), xp.float32),
    )


def _gatherer(
    config: ScenarioConfig, states: Sequence[State]
) -> Callable[[Callable[[State, int], Array]], Array]:
    """A function that collects [E, ...] arrays from each state and its slot of the frame."""
    if not states:
        raise ValueError("states: expected at least one, got none")
    xp = namespace(states[0].recall)

    def gather(part: Callable[[State, int], Array]) -> Array:
        rows = [part(state, state.slot % config.slots_per_frame) for state in states]
        return rows[0] if len(rows) == 1 else xp.concat(rows, axis=0)

    return gather


def _problem(
    config: ScenarioConfig,
    states: Sequence[State],
    *,
    link_mask: Array,
    rate_bytes_per_s: Array,
    task_bytes: Array,
    free_flop_per_s: Array,
    user_mask: Array,
) -> SlotProblem:
    """The problem with the overheads and the retraining of the decisions in force."""
    gather = _gatherer(config, states)
    xp = namespace(task_bytes)
    moving = xp.astype(gather(lambda state, s: state.control.new_link_mask), xp.float64)
    return SlotProblem(
        association_mask=link_mask,
        rate_bytes_per_s=rate_bytes_per_s,
        task_bytes=task_bytes,
        overhead_bytes=config.traffic.result_bytes + config.traffic.migration_bytes * moving,
        retrain_work=gather(lambda state, s: state.control.retrain_work),
        free_flop_per_s=free_flop_per_s,
        work_flop_per_byte=config.compute.work_flop_per_byte,
        local_flop_per_s=config.compute.user_flop_per_s,
        user_mask=user_mask,
    )
