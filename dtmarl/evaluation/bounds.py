"""What an episode's delays are held against: certified bounds, and what the twin expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.optimum.clairvoyant import clairvoyant_bound_s
from dtmarl.optimum.slots import action_delay_s, any_association, believed_problem, true_problem
from dtmarl.optimum.solve import slot_optimum
from dtmarl.types import Action, State


class EpisodeBounds(NamedTuple):
    """Delays beside those of an episode's T slots."""

    slot_bound_s: Array  # [T] no action has less delay under the frame decision in force
    clairvoyant_bound_s: Array  # [T] no association and action has less delay
    expected_delay_s: Array  # [T] delay that the twin expects of the action that was played


def episode_bounds(
    config: ScenarioConfig, states: Sequence[State], played: Sequence[Action]
) -> EpisodeBounds:
    """Bounds and expectations of an episode, all slots in one batch.

    Every slot is taken as it came: with the retraining in force, and for `slot_bound_s` with the
    association in force and what its new links still had to move.

    Args:
        config: the scenario.
        states: at each slot, before it was played, E = 1.
        played: the weights of each slot.
    """
    problem = true_problem(config, states)
    xp = namespace(problem.task_bytes)
    action = Action(*(xp.concat(list(parts), axis=0) for parts in zip(*played, strict=True)))
    return EpisodeBounds(
        slot_bound_s=slot_optimum(problem).lower_bound_s,
        clairvoyant_bound_s=clairvoyant_bound_s(any_association(config, problem)),
        expected_delay_s=action_delay_s(believed_problem(config, states), action),
    )
