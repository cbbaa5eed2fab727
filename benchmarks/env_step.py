"""Agent-steps per second of the PettingZoo environment, beside peers in the same run.

Every system plays whole episodes with random actions on one thread, in turns, so that a slow moment
of the machine hits all of them; the figure is the median over the turns. `--profile` also says
where this environment's time goes.

    python benchmarks/env_step.py [--turns 7] [--seconds 2] [--profile] [--json FILE]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np

import dtmarl

Play = Callable[[int], int]
"""Plays one episode with a seed and returns the agent-steps made."""

PHASES = {
    "world: movement, contexts, channels, load": "world.py:advance_frame",
    "noise": "randomness.py:draw_frame",
    "slot physics: delays, accuracy": "dynamics.py:slot_outcome",
    "twin: reports": "mirror.py:advance_frame",
    "frame end: retraining, what the twin learns": "dynamics.py:close_decision",
    "frame layer: view, decision": "frame.py:_decide",
    "observations": "slot.py:_observe",
    "actions: checks": "actions.py:pack_actions",
    "infos": "slot.py:_infos",
}


def dtmarl_player(scenario: str) -> Play:
    env = dtmarl.parallel_env(scenario)
    rng = np.random.default_rng(0)
    # Sampling is not what is measured: actions come from a table made before.
    table = [
        {
            agent: rng.random(env.action_space(agent).shape, dtype=np.float32)
            for agent in env.possible_agents
        }
        for _ in range(64)
    ]

    def play(seed: int) -> int:
        env.reset(seed=seed)
        steps = slot = 0
        while env.agents:
            actions = table[slot % len(table)]
            steps += len(env.agents)
            env.step({agent: actions[agent] for agent in env.agents})
            slot += 1
        return steps

    return play


def simple_spread_player(num_agents: int) -> Play:
    from mpe2 import simple_spread_v3

    env = simple_spread_v3.parallel_env(N=num_agents, max_cycles=100)
    rng = np.random.default_rng(0)
    table = rng.integers(0, 5, size=(64, num_agents))

    def play(seed: int) -> int:
        env.reset(seed=seed)
        steps = slot = 0
        while env.agents:
            steps += len(env.agents)
            env.step(dict(zip(env.agents, table[slot % 64], strict=True)))
            slot += 1
        return steps

    return play


def mobile_env_player() -> Play:
    import mobile_env  # noqa: F401  (registers its environments)

    env = gymnasium.make("mobile-small-central-v0")
    num_users = len(env.unwrapped.users)
    rng = np.random.default_rng(0)
    table = [[int(x) for x in row] for row in rng.integers(0, 4, size=(64, num_users))]

    def play(seed: int) -> int:
        env.reset(seed=seed)
        slot, done = 0, False
        while not done:
            _, _, terminated, truncated, _ = env.step(table[slot % 64])
            done = terminated or truncated
            slot += 1
        return slot * num_users

    return play


def agent_steps_per_s(play: Play, seconds: float, seed: int) -> float:
    start = time.perf_counter()
    steps = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        steps += play(seed)
        seed += 1
    return steps / elapsed


def phase_shares(play: Play) -> dict[str, float]:
    """Share of the time in each phase, by the profiler's cumulative times."""
    profile = cProfile.Profile()
    profile.enable()
    for seed in range(10):
        play(seed)
    profile.disable()
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    shares = {}
    for label, place in PHASES.items():
        file_name, function = place.split(":")
        found = [
            row[3]
            for (path, _, name), row in stats.stats.items()  # type: ignore[attr-defined]
            if name == function and Path(path).name == file_name
        ]
        if not found:
            raise LookupError(f"{place}: expected to be called, was not; see PHASES")
        shares[label] = sum(found) / total
    shares["everything else"] = 1.0 - sum(shares.values())
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    players: dict[str, Play] = {
        "dtmarl paper-v0 (8 to 13 agents)": dtmarl_player("paper-v0"),
        "MPE2 simple_spread (13 agents)": simple_spread_player(13),
        "mobile-env small (5 agents)": mobile_env_player(),
    }
    figures: dict[str, list[float]] = {name: [] for name in players}
    for play in players.values():
        play(0)
    for turn in range(arguments.turns):
        for name, play in players.items():
            figures[name].append(agent_steps_per_s(play, arguments.seconds, 1000 * turn))

    own, *_ = figures.values()
    print(f"{'agent-steps/s, one thread':<36} {'median':>10} {'min':>9} {'max':>9} {'ratio':>7}")
    for name, values in figures.items():
        ratio = statistics.median(a / b for a, b in zip(own, values, strict=True))
        print(
            f"{name:<36} {statistics.median(values):>10,.0f} {min(values):>9,.0f} "
            f"{max(values):>9,.0f} {ratio:>6.1f}x"
        )
    result = {"machine": platform.processor() or platform.machine(), "figures": figures}
    if arguments.profile:
        shares = phase_shares(players["dtmarl paper-v0 (8 to 13 agents)"])
        print("\nwhere dtmarl's time goes (profiled, so calls weigh more than they do)")
        for label, share in shares.items():
            print(f"  {label:<44} {share:>6.1%}")
        result["phases"] = shares
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
