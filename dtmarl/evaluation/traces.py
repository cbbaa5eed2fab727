"""An episode slot by slot and user by user, as plain values: for comparing accuracy engines."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtmarl.accuracy import AccuracyEngine
from dtmarl.config import ScenarioConfig
from dtmarl.envs.make import parallel_env
from dtmarl.evaluation.rollout import begin_episode
from dtmarl.frame.controller import Controller
from dtmarl.policies import Policy
from dtmarl.policies import policy as find_policy


def trace(
    config: ScenarioConfig,
    policy: str | Policy,
    controller: str | Controller,
    seed: int,
    engine: AccuracyEngine,
) -> dict[str, list[Any]]:
    """Play one episode with a given accuracy engine.

    Args:
        config: the scenario.
        policy: of the agents, as for `dtmarl.evaluate`.
        controller: the frame layer.
        seed: of the world and the policy.
        engine: for this episode alone.

    Returns:
        ``present``, ``breakout`` and ``retrain`` as 0 or 1 and ``accuracy`` [T][N], and
        ``system_delay_s`` [T], in lists, for T slots and N users.
    """
    env = parallel_env(config, controller=controller, accuracy=engine)
    agent = find_policy(policy)
    observations = begin_episode(agent, env, seed)
    outcomes = []
    while env.agents:
        observations, *_ = env.step(agent.act({name: observations[name] for name in env.agents}))
        outcomes.append(env.unwrapped.outcome)
    return {
        "present": [outcome.present_mask[0].astype(int).tolist() for outcome in outcomes],
        "accuracy": [np.round(outcome.accuracy[0], 4).tolist() for outcome in outcomes],
        "breakout": [outcome.breakout_mask[0].astype(int).tolist() for outcome in outcomes],
        "retrain": [outcome.retrain_mask[0].astype(int).tolist() for outcome in outcomes],
        "system_delay_s": [round(float(outcome.system_delay_s[0]), 3) for outcome in outcomes],
    }
