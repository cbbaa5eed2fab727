"""Plays episodes and writes down everything that comes out; and other things that tests share."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from dtmarl import scenario
from dtmarl.policies import policy
from dtmarl.testing import trees

PERFECT_TWIN = {
    "sync_period_slots": 1,
    "sync_delay_slots": 0,
    "sync_loss": 0.0,
    "position_noise_m": 0.0,
    "gain_noise_db": 0.0,
    "gain_memory": 0.0,
    "task_noise": 0.0,
    "task_loss": 0.0,
}
"""Fields of a twin that knows every slot as it is."""


class Slot(NamedTuple):
    """What a reset (`actions` empty) or a step gave."""

    actions: dict[str, Any]
    agents: tuple[str, ...]
    observations: dict[str, Any]
    rewards: dict[str, float]
    terminations: dict[str, bool]
    truncations: dict[str, bool]
    infos: dict[str, Any]
    outcome: dict[str, Any]


def short(which, frames=2, **changes):
    """A scenario cut down to a few frames of four slots; an outage needs three."""
    config = scenario(which)
    if config.outage.enabled:
        frames = max(frames, 3)
        changes["outage"] = {"duration_frames": 1}
    return config.replace(slots_per_frame=4, frames_per_episode=frames, **changes)


def play(env, seed=None, which_policy="random", policy_seed=0) -> Iterator[Slot]:
    """Slot by slot through an episode; the reset comes first."""
    acting = policy(which_policy)
    acting.reset(env.unwrapped.config, policy_seed)
    observations, infos = env.reset(seed=seed)
    yield Slot({}, tuple(env.agents), trees.copied(observations), {}, {}, {}, infos, {})
    while env.agents:
        actions = acting.act({agent: observations[agent] for agent in env.agents})
        observations, *rest = env.step(actions)
        yield Slot(
            actions,
            tuple(env.agents),
            *trees.copied((observations, *rest)),
            outcome=trees.copied(env.unwrapped.outcome._asdict()),
        )


def episode(env, seed=None, which_policy="random", policy_seed=0) -> list[Slot]:
    """A whole episode."""
    return list(play(env, seed, which_policy, policy_seed))


def replay(env, slots, seed) -> list[Slot]:
    """The same actions again."""
    observations, infos = env.reset(seed=seed)
    found = [Slot({}, tuple(env.agents), trees.copied(observations), {}, {}, {}, infos, {})]
    for slot in slots[1:]:
        result = trees.copied(env.step(slot.actions))
        outcome = trees.copied(env.unwrapped.outcome._asdict())
        found.append(Slot(slot.actions, tuple(env.agents), *result, outcome=outcome))
    return found


def assert_same(expected, found):
    """Equal bit for bit, dtypes included."""
    assert trees.difference(as_dicts(expected), as_dicts(found)) is None


def as_dicts(slots):
    return [slot._asdict() if isinstance(slot, Slot) else slot for slot in slots]


def equal_weights(env) -> dict[str, Any]:
    """The same valid action for each present agent, without a policy."""
    return {
        agent: np.full(env.action_space(agent).shape, 0.5, dtype=np.float32) for agent in env.agents
    }


def refused(attempt, message, error=ValueError):
    """The attempt raises exactly this error, and its message begins like this."""
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        attempt()
    assert type(caught.value) is error
