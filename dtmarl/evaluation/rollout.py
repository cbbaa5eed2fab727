"""One policy under one controller through one episode per seed, in this process or in several."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.envs.frame import FrameEnv
from dtmarl.envs.make import parallel_env
from dtmarl.envs.slot import AgentDict
from dtmarl.evaluation.bounds import episode_bounds
from dtmarl.frame.controller import Controller
from dtmarl.policies import Policy, is_anchor
from dtmarl.policies import policy as find_policy
from dtmarl.scenarios import scenario as find_scenario


class EpisodeRecord(NamedTuple):
    """What happened in an episode, slot by slot; T slots."""

    seed: int
    num_users: Array  # [T] users in the network
    system_delay_s: Array  # [T] eq (11a)
    accuracy: Array  # [T] mean expected accuracy of the users
    breakout_rate: Array  # [T] share of the users whose accuracy constraint is violated
    retrain_rate: Array  # [T] share of the users under retraining
    handover_rate: Array  # [T] share of the users that move to a base station, per frame
    slot_bound_s: Array  # [T] no action has less delay under the frame decision in force
    clairvoyant_bound_s: Array  # [T] no association and action has less delay
    expected_delay_s: Array  # [T] delay that the twin expects of the action that was played


CURVES = (
    "system_delay_s",
    "accuracy",
    "breakout_rate",
    "retrain_rate",
    "handover_rate",
    "slot_bound_s",
    "clairvoyant_bound_s",
)
"""The per-slot quantities of an `EpisodeRecord` that reports keep."""

METRICS = {
    "system_delay_s": "mean system delay of a slot, eq (11a)",
    "median_delay_s": "median system delay of a slot",
    "accuracy": "mean accuracy over users and slots",
    "breakout_rate": "share of user-slots below the accuracy threshold",
    "peak_breakout_rate": "largest share of users that break out in one slot",
    "breakout_jump": "largest rise of that share from one slot to the next",
    "retrain_rate": "share of user-frames under retraining",
    "handover_rate": "moves to another base station per user and frame",
    "optimality_gap": "delay above the optimum of its slots, same frame decisions",
    "clairvoyant_gap": "delay above a lower bound over all associations too",
    "twin_gap": "delay above what the twin expects of the same actions",
    "twin_error": "mean distance of the two, slot by slot, over the expected",
    "slot_bound_s": "certified lower bound behind optimality_gap",
    "clairvoyant_bound_s": "lower bound behind clairvoyant_gap",
}
"""What `dtmarl.evaluate` reports for each episode, and what it is."""


def rollout(
    policy: str | Policy,
    scenario: str | ScenarioConfig,
    controller: str | Controller,
    seed: int,
) -> EpisodeRecord:
    """Play one episode; the seed fixes the world, whatever policy and controller do in it.

    Args:
        policy: a registered name, ``package.module:Class``, or a policy.
        scenario: a scenario's id or configuration.
        controller: the frame layer: a scheme's name or a controller.
        seed: of the world and of the policy's own numbers.

    Raises:
        ValueError: an argument is not one of these, or the policy gives an impossible action.
    """
    config = find_scenario(scenario)
    agent = find_policy(policy)
    env = parallel_env(config, controller=controller)
    observations = begin_episode(agent, env, seed)
    slots, states, played = [], [], []
    before = None
    while env.agents:
        states.append(env.unwrapped.snapshot)
        association = states[-1].control.association_mask[0]
        moved = np.zeros(config.max_users)
        if before is not None:
            moved = (association & ~before).any(axis=0) & before.any(axis=0)
        before = association
        actions = agent.act({name: observations[name] for name in env.agents})
        observations, *_ = env.step(actions)
        played.append(env.unwrapped.action)
        outcome = env.unwrapped.outcome
        here = outcome.present_mask[0]
        slots.append(
            (
                here.sum(),
                outcome.system_delay_s[0],
                *(
                    part[0][here].mean()
                    for part in (outcome.accuracy, outcome.breakout_mask, outcome.retrain_mask)
                ),
                moved[here].mean() * config.slots_per_frame,
            )
        )
    return EpisodeRecord(
        seed,
        *np.asarray(slots, dtype=np.float64).T,
        **episode_bounds(config, states, played)._asdict(),
    )


def begin_episode(policy: Policy, env: FrameEnv, seed: int) -> AgentDict:
    """Prepare policy and environment for an episode; only an anchor is shown the environment.

    Args:
        policy: of the agents.
        env: of the episode.
        seed: of the world and of the policy's own numbers.

    Returns:
        The first observations.
    """
    policy.reset(env.unwrapped.config, seed)
    observations, _ = env.reset(seed=seed)
    if is_anchor(policy):
        policy.watch(env.unwrapped)
    return observations


def episode_metrics(record: EpisodeRecord) -> dict[str, float]:
    """The `METRICS` of one episode; shares and accuracy weigh each user-slot the same."""
    users = record.num_users / record.num_users.sum()
    return {
        "system_delay_s": float(record.system_delay_s.mean()),
        "median_delay_s": float(np.median(record.system_delay_s)),
        "accuracy": float((users * record.accuracy).sum()),
        "breakout_rate": float((users * record.breakout_rate).sum()),
        "peak_breakout_rate": float(record.breakout_rate.max()),
        "breakout_jump": float(np.diff(record.breakout_rate).max(initial=0.0)),
        "retrain_rate": float((users * record.retrain_rate).sum()),
        "handover_rate": float((users * record.handover_rate).sum()),
        "optimality_gap": _excess(record.system_delay_s, record.slot_bound_s),
        "clairvoyant_gap": _excess(record.system_delay_s, record.clairvoyant_bound_s),
        "twin_gap": _excess(record.system_delay_s, record.expected_delay_s),
        "twin_error": float(
            np.abs(record.system_delay_s - record.expected_delay_s).sum()
            / record.expected_delay_s.sum()
        ),
        "slot_bound_s": float(record.slot_bound_s.mean()),
        "clairvoyant_bound_s": float(record.clairvoyant_bound_s.mean()),
    }


def _excess(delay_s: Array, reference_s: Array) -> float:
    """Relative excess of an episode's delay: a ratio of sums, so that no short slot dominates."""
    return float(delay_s.sum() / reference_s.sum() - 1.0)


def rollouts(
    policy: str | Policy,
    scenario: str | ScenarioConfig,
    controller: str | Controller,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    progress: bool = False,
    label: str = "",
) -> list[EpisodeRecord]:
    """`rollout` for each seed, in the order of the seeds.

    Args:
        policy: as for `rollout`; one that is an object has to be picklable if workers > 1.
        scenario: as for `rollout`.
        controller: as for `rollout`.
        seeds: one episode each.
        workers: processes; they are spawned, so a script that asks for more than one keeps its
            own work under ``if __name__ == "__main__":``.
        progress: whether to show a bar on stderr.
        label: what the bar says.
    """
    play = partial(rollout, policy, scenario, controller)

    def collect(records: Iterable[EpisodeRecord]) -> list[EpisodeRecord]:
        bar = tqdm(
            records,
            total=len(seeds),
            desc=label,
            unit="episode",
            disable=not progress,
            file=sys.stderr,
            leave=False,
        )
        return list(bar)

    if workers == 1:
        return collect(map(play, seeds))
    executor = ProcessPoolExecutor(
        min(workers, len(seeds)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_leave_interrupts_to_the_parent,
    )
    try:
        return collect(executor.map(play, seeds))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
