"""Agent-steps per second of the vector environment, beside peers in the same run, and its bounds.

Every system plays whole episodes with random actions on one thread, in turns, so that a slow moment
of the machine hits all of them; figures are medians over the turns. The run keeps to one core where
the system can say so. A dtmarl agent-step is one of a base station or of a user that is there.
Everything is on: frame layer, twin, resets.

    python benchmarks/vector.py [--compile] [--turns 3] [--seconds 3] [--json FILE]
    python benchmarks/vector.py --links        # cost per link, from 30 to a million
    python benchmarks/vector.py --device cuda --compile --no-peers
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from peers import Play, installed_peers

import dtmarl
from dtmarl import SCHEMES

PHASES = {
    "noise": ("randomness.py:draw_frame", "randomness.py:draw_reset"),
    "world: movement, contexts, channels": ("world.py:advance_frame",),
    "twin: reports": ("mirror.py:advance_frame",),
    "slot physics": ("dynamics.py:slot_outcome",),
    "frame end: retraining, learning": ("dynamics.py:close_decision",),
    "frame layer: view, decision": ("vector.py:_decide",),
    "observations": ("vector.py:_observations",),
    "actions: checks": ("vector.py:_packed",),
}
COMPILED_PHASES = {
    "frame end; noise, world, twin": ("compiled_simulation.py:_turned",),
    "frame layer: view, decision": ("vector.py:_decide",),
    "resets": ("compiled_simulation.py:reset",),
    "observations after a decision": ("vector.py:_observations",),
    "actions: checks": ("vector.py:_packed",),
}
LINKS = ((3, 10), (10, 30), (30, 100), (100, 300), (300, 1000), (1000, 1000))
"""Base stations and users of `--links`."""
LINKS_AT_ONCE = 30_000
"""Of all environments of a batch, at least; so that calls cost little beside what they do."""


def dtmarl_player(num_envs: int, **options: Any) -> tuple[Play, dtmarl.envs.vector.VectorEnv]:
    env = dtmarl.vector_env("paper-v0", num_envs=num_envs, **options)
    env.reset(seed=0)
    actions = env.sample_actions(seed=0)

    def play() -> int:
        steps = 0
        for _ in range(env.config.slots_per_frame):
            *_, infos = env.step(actions)
            steps += int(infos["mu_acted"].sum())
        return steps + env.config.slots_per_frame * num_envs * env.config.num_base_stations

    return play, env


def agent_steps_per_s(play: Play, seconds: float) -> float:
    start = time.perf_counter()
    steps = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        steps += play()
    return steps / elapsed


def phase_shares(play: Play, phases: dict[str, tuple[str, ...]], frames: int) -> dict[str, float]:
    """Share of the time in the functions of each phase, by the profiler."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(frames):
        play()
    profile.disable()
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    shares = {}
    for label, places in phases.items():
        found = [
            row[3]
            for (path, _, name), row in stats.stats.items()  # type: ignore[attr-defined]
            if f"{Path(path).name}:{name}" in places
        ]
        shares[label] = sum(found) / total
    shares["everything else, slots first of all"] = 1.0 - sum(shares.values())
    return shares


def nbytes(tree: Any) -> int:
    """Bytes of all arrays in a state."""
    if isinstance(tree, tuple):
        return sum(nbytes(part) for part in tree)
    return int(getattr(tree, "nbytes", 0))


def copy_bytes_per_s() -> float:
    """Bytes read and written by the best of several large copies, one thread."""
    source = np.ones(1 << 26, dtype=np.uint8)
    target = np.empty_like(source)
    best = min(timed(lambda: np.copyto(target, source)) for _ in range(10))
    return 2.0 * source.nbytes / best


def pin() -> None:
    """Keep to one core, where the system can say so: not every peer heeds a number of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def moved_bytes(env: dtmarl.envs.vector.VectorEnv) -> float:
    """Bytes an environment has to move in a slot: actions in, observations out, its state by frame.

    A frame's world and mirror are written once and read once, the rest of the state likewise.
    """
    actions = sum(array.nbytes for array in env.sample_actions(seed=0).values())
    sizes = {
        "bs": env.config.num_base_stations * env.layouts.bs.size,
        "mu": env.config.max_users * env.layouts.mu.size,
    }
    observations = 4 * env.num_envs * sum(sizes.values())
    state = nbytes(tuple(env.snapshot)) / env.config.slots_per_frame
    return (actions + observations + 2.0 * state) / env.num_envs


def measure_links(seconds: float) -> list[dict[str, float]]:
    """Time of a slot per link and environment memory, one environment on NumPy."""
    # The solvers' cost is not the physics': everybody goes to the strongest station.
    scheme = SCHEMES["proposed"].replace(name="strongest", association="strongest")
    rows = []
    print(f"{'M x N':>12} {'links':>9} {'ns/link/slot':>13} {'bytes/link':>11}")
    for m, n in LINKS:
        config = dtmarl.scenario("paper-v0").replace(num_base_stations=m, min_users=n, max_users=n)
        env = dtmarl.vector_env(
            config, num_envs=max(LINKS_AT_ONCE // (m * n), 1), controller=scheme
        )
        env.reset(seed=0)
        actions = env.sample_actions(seed=0)
        slots, start = 0, time.perf_counter()
        while slots < 10 or time.perf_counter() - start < seconds:
            env.step(actions)
            slots += 1
            if slots % 10 == 0 and time.perf_counter() - start >= seconds:
                break
        per_link = (time.perf_counter() - start) / slots / (m * n * env.num_envs)
        memory = nbytes(tuple(env.snapshot)) / env.num_envs / (m * n)
        row = {"base_stations": m, "users": n, "ns": 1e9 * per_link, "bytes": memory}
        rows.append(row)
        print(f"{m:>5} x {n:>4} {m * n:>9,} {row['ns']:>13.0f} {memory:>11.0f}")
    spread = max(row["ns"] for row in rows) / min(row["ns"] for row in rows)
    print(f"largest over smallest cost per link: {spread:.1f}")
    return rows


def measure_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    players: dict[str, Play] = {}
    envs = {}
    peers = installed_peers() if arguments.peers else {}
    for size in arguments.num_envs:
        variants: dict[str, dict[str, Any]] = {"NumPy": {}, "torch": {"backend": "torch"}}
        if arguments.device != "cpu":
            variants = {"torch": {"backend": "torch", "device": arguments.device}}
        if arguments.compile:
            variants["torch, compiled"] = {**variants["torch"], "compile": True}
        for label, options in variants.items():
            name = f"dtmarl paper-v0, {label}, E = {size:,}"
            players[name], envs[name] = dtmarl_player(size, **options)
        for peer, player in peers.items():
            players[f"{peer} simple_spread, E = {size:,}"] = player(size)
    figures: dict[str, list[float]] = {name: [] for name in players}
    for play in players.values():
        for _ in range(22):  # two episodes: every graph is compiled
            play()
    for _ in range(arguments.turns):
        for name, play in players.items():
            figures[name].append(agent_steps_per_s(play, arguments.seconds))
    print(f"{'agent-steps/s, one thread':<44} {'median':>11} {'min':>10} {'max':>10}")
    for name, values in figures.items():
        print(
            f"{name:<44} {statistics.median(values):>11,.0f} {min(values):>10,.0f} "
            f"{max(values):>10,.0f}"
        )
    result: dict[str, Any] = {"figures": figures}
    medians = {name: statistics.median(values) for name, values in figures.items()}
    ours = max(medians[name] for name in envs)
    result["ratios"] = {}
    for peer in peers:
        theirs = max(value for name, value in medians.items() if name.startswith(peer))
        result["ratios"][peer] = ours / theirs
        print(f"best of dtmarl over best of {peer}: {ours / theirs:.2f}")
    best = max(envs, key=lambda name: medians[name])
    env = envs[best]
    moved = moved_bytes(env)
    result["state_bytes"] = nbytes(tuple(env.snapshot)) / env.num_envs
    print(f"\n{best}\n  state of an environment: {result['state_bytes']:,.0f} bytes")
    if arguments.device == "cpu":
        bandwidth = copy_bytes_per_s()
        agents = ours / (bandwidth / moved)  # share of the bound times agents in an environment
        mean_agents = env.config.num_base_stations + 7.5  # of U{5..10} users
        result |= {"copy_bytes_per_s": bandwidth, "moved_bytes": moved}
        print(
            f"  bytes to move per slot and environment: {moved:,.0f}; copying "
            f"{bandwidth / 1e9:.1f} GB/s\n  share of the bandwidth bound: "
            f"{agents / mean_agents:.1%}"
        )
        result["phases"] = {}
        for variant, phases in (("NumPy", PHASES), ("compiled", COMPILED_PHASES)):
            names = [name for name in envs if variant in name]
            if names:  # of the largest batch; resets are once in eleven frames
                shares = phase_shares(players[names[-1]], phases, 22)
                result["phases"][names[-1]] = shares
                print(f"\nwhere the time goes, {names[-1]}")
                for label, share in shares.items():
                    print(f"  {label:<40} {share:>6.1%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of the whole run: {peak:,.0f} MiB")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 1024, 4096])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--compile", action="store_true", help="compiled graphs too; minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--links", action="store_true", help="cost per link instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pin()  # before any thread is started, which would keep what it had
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    if arguments.links:
        result["links"] = measure_links(arguments.seconds)
    else:
        result |= measure_speed(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
