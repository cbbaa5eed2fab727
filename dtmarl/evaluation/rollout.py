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
from dtmarl.envs.make import parallel_env
from dtmarl.frame.controller import Controller
from dtmarl.policies import Policy
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


CURVES = ("system_delay_s", "accuracy", "breakout_rate", "retrain_rate", "handover_rate")
"""The per-slot quantities of an `EpisodeRecord`."""

METRICS = {
    "system_delay_s": "mean system delay of a slot, eq (11a)",
    "median_delay_s": "median system delay of a slot",
    "accuracy": "mean accuracy over users and slots",
    "breakout_rate": "share of user-slots below the accuracy threshold",
    "peak_breakout_rate": "largest share of users that break out in one slot",
    "breakout_jump": "largest rise of that share from one slot to the next",
    "retrain_rate": "share of user-frames under retraining",
    "handover_rate": "moves to another base station per user and frame",
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
    agent.reset(config, seed)
    observations, _ = env.reset(seed=seed)
    slots = []
    before = None
    while env.agents:
        association = env.unwrapped.snapshot.control.association_mask[0]
        moved = np.zeros(config.max_users)
        if before is not None:
            moved = (association & ~before).any(axis=0) & before.any(axis=0)
        before = association
        actions = agent.act({name: observations[name] for name in env.agents})
        observations, *_ = env.step(actions)
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
    return EpisodeRecord(seed, *np.asarray(slots, dtype=np.float64).T)


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
    }


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
