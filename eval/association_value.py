"""What congestion-aware association is worth in true delay, over whole episodes.

    python eval/association_value.py                      # runs, writes the JSON, prints Markdown
    python eval/association_value.py --show FILE.json     # prints what is there, runs nothing

Every solver plays the same worlds with the same agents' policy under the proposed scheme; what
differs is the association alone. Three things beside it, on paper-v0:

- *sampled rates*: exact on the mean of 16 slots whose channel gains scatter around the twin's by
  5 dB, instead of on the one expected slot: another reading of "expectation over the frame";
- *the frame itself*: the same on the frame's true slots, which nobody knows before: what a better
  forecast could bring at most;
- a bound on what associating users with several base stations could bring.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import mean_estimate
from dtmarl.frame.association import exact
from dtmarl.frame.association.frame_objective import (
    Curves,
    expected_slot_problem,
    frame_objective,
)
from dtmarl.frame.association.partitions import Base, best_disjoint, best_within, set_values
from dtmarl.frame.association.problem import (
    AssociationProblem,
    ExpectedSlot,
    association_problem,
    single_site_mask,
)
from dtmarl.twin.model import rate_estimate_bytes_per_s

RESULTS = Path(__file__).parent / "results"
SOLVERS = ("exact", "local-search", "algorithm-1", "strongest", "nearest")
POLICIES = ("root-balanced", "twin-optimum")
SCENARIOS = ("paper-v0", "hotspot-v0")
NUM_SAMPLES = 16
SPREAD_DB = 5.0


class OnSlots:
    """The proposed scheme with exact association on the mean of several slots.

    Attributes:
        env: whose true frame is looked at; None samples rates around the twin's.
    """

    def __init__(self) -> None:
        self.env: Any = None
        self.scheme = dtmarl.Scheme(association="exact")

    def slots_per_decision(self, config: dtmarl.ScenarioConfig) -> int:
        """S."""
        return config.slots_per_frame

    def holds_actions(self) -> bool:
        """False."""
        return False

    def decide(self, config: dtmarl.ScenarioConfig, view: dtmarl.TwinView) -> dtmarl.FrameDecision:
        """Threshold rule (15), then the association that is best on the mean of the slots."""
        decision = self.scheme.decide(config, view)
        work = config.learning.pass_work * config.learning.training_fraction
        problem = association_problem(config, view, np.where(decision.retrain_mask, work, 0.0))
        if self.env is not None:
            frame = self.env.unwrapped.snapshot.frame
            rate, free = frame.rate_bytes_per_s[:, 0], frame.free_flop_per_s[:, 0]
            task = frame.task_bytes[:, 0]
        else:
            scatter = np.random.default_rng(view.slot).standard_normal(
                (NUM_SAMPLES, *view.gain_db.shape[1:])
            )
            rate = rate_estimate_bytes_per_s(config, view.gain_db + SPREAD_DB * scatter)
            free = np.repeat(view.free_flop_per_s, NUM_SAMPLES, axis=0)
            task = np.repeat(view.mean_task_bytes, NUM_SAMPLES, axis=0)
        return dataclasses.replace(
            decision, association_mask=best_on_mean(problem, rate, free, task)
        )


def best_on_mean(
    problem: AssociationProblem, rate: np.ndarray, free: np.ndarray, task: np.ndarray
) -> np.ndarray:
    """The association [1, M, N] of least mean delay over slots [K, ...], by looking at all."""
    samples = rate.shape[0]

    def each(part: np.ndarray) -> np.ndarray:
        return np.repeat(part, samples, axis=0)

    slot = problem.expected_slot
    slots = AssociationProblem(
        cost_s=each(problem.cost_s),
        demand_flop_per_s=each(problem.demand_flop_per_s),
        capacity_flop_per_s=free,
        distance_m=each(problem.distance_m),
        gain_db=each(problem.gain_db),
        present_mask=each(problem.present_mask),
        expected_slot=ExpectedSlot(
            rate, task, each(slot.overhead_bytes), each(slot.retrain_work),
            slot.work_flop_per_byte, slot.local_flop_per_s,
        ),
    )  # fmt: skip
    objective = frame_objective(slots)
    num_sites, num_users = objective.curves.alpha.shape[1:]
    values = []
    for m in range(num_sites):
        curves = Curves(*(part[:, m, :].T for part in objective.curves))
        supply = objective.free_flop_per_s[:, m]
        table = set_values(curves, Base(0.0 * supply, 0.0 * supply, supply, 0.0 * supply))
        values.append(best_within(table, num_users).mean(axis=1, keepdims=True))
    served = best_disjoint(values, num_users).served
    idle = frame_objective(problem).idle_site
    return single_site_mask(
        np.where(served < num_sites, served, idle), problem.present_mask, num_sites
    )


def delay_s(policy_name: str, scenario: str, controller: Any, seed: int) -> float:
    """Mean system delay of an episode."""
    env = dtmarl.parallel_env(scenario, controller=controller)
    if getattr(controller, "sees_truth", False):
        controller.env = env
    policy = dtmarl.POLICIES[policy_name]()
    policy.reset(env.unwrapped.config, seed)
    observations, _ = env.reset(seed=seed)
    delays = []
    while env.agents:
        observations, *_ = env.step(policy.act({a: observations[a] for a in env.agents}))
        delays.append(float(env.unwrapped.outcome.system_delay_s[0]))
    return float(np.mean(delays))


class OnTruth(OnSlots):
    """Sees the frame before it happens."""

    sees_truth = True


def measure(scenario: str, policy: str, seeds: list[int]) -> dict[str, Any]:
    """Delays by row and seed, and what each row is above exact, paired."""
    rows: dict[str, Any] = {name: dtmarl.Scheme(association=name) for name in SOLVERS}
    if scenario == "paper-v0":
        rows |= {"exact, sampled rates": OnSlots(), "exact, the frame itself": OnTruth()}
    delays: dict[str, np.ndarray] = {}
    for name, controller in rows.items():
        begin = time.perf_counter()
        delays[name] = np.array([delay_s(policy, scenario, controller, seed) for seed in seeds])
        if sys.stderr.isatty():
            taken = time.perf_counter() - begin
            mean = delays[name].mean()
            print(f"{scenario} {policy} {name}: {mean:.2f} s, in {taken:.0f} s", file=sys.stderr)
    best = delays["exact"]
    return {
        name: {
            "delay_s": mean_estimate(values).to_dict(),
            "above_exact_s": mean_estimate(values - best).to_dict(),
            "above_exact": mean_estimate((values - best) / best.mean()).to_dict(),
            "worse_seeds": int((values > best * (1.0 + 1e-9)).sum()),
            "by_seed_s": [round(float(value), 4) for value in values],
        }
        for name, values in delays.items()
    }


def several_stations(scenario: str, seeds: list[int]) -> dict[str, Any]:
    """How far the expected slot could be below exact's with several base stations per user.

    Every user may use all links, and nothing has to be moved: the lower bound of that slot holds
    for every association.
    """
    config = dtmarl.scenario(scenario)
    scheme = dtmarl.Scheme(association="exact")
    ratio = []
    for seed in seeds:
        env = dtmarl.parallel_env(config, controller=scheme)
        policy = dtmarl.POLICIES["root-balanced"]()
        policy.reset(config, seed)
        observations, _ = env.reset(seed=seed)
        while env.agents:
            if env.unwrapped.snapshot.slot % config.slots_per_frame == 0:
                view = env.unwrapped.twin_view()
                problem = association_problem(config, view, np.zeros(view.mean_task_bytes.shape))
                links = np.broadcast_to(view.present_mask[:, None, :], view.gain_db.shape)
                slot = expected_slot_problem(problem, links)
                free_of_charge = dataclasses.replace(slot, overhead_bytes=0.0 * slot.overhead_bytes)
                bound = dtmarl.slot_optimum(free_of_charge).lower_bound_s
                ratio.append(float((bound / exact(problem).value_s)[0]))
            observations, *_ = env.step(policy.act({a: observations[a] for a in env.agents}))
    return {"decisions": len(ratio), "mean": float(np.mean(ratio)), "least": float(np.min(ratio))}


def markdown(content: dict[str, Any]) -> str:
    """A table for each scenario and policy."""
    lines = []
    for part in content["parts"]:
        lines += [
            f"{part['scenario']}, policy {part['policy']}, {len(content['seeds'])} seeds:",
            "",
            "| association | delay (s) | above exact (s) | above exact (%) | worse on |",
            "|---|---|---|---|---|",
        ]
        for name, row in part["rows"].items():
            delay, above, share = (row[k] for k in ("delay_s", "above_exact_s", "above_exact"))
            differs = name != "exact"
            lines.append(
                f"| {name} | {delay['value']:.2f} [{delay['low']:.2f}, {delay['high']:.2f}] | "
                + (f"{above['value']:+.2f} [{above['low']:+.2f}, {above['high']:+.2f}] | "
                   f"{100 * share['value']:+.1f} [{100 * share['low']:+.1f}, "
                   f"{100 * share['high']:+.1f}] | {row['worse_seeds']} |" if differs else "| | |")
            )  # fmt: skip
        lines.append("")
    several = content["several_stations"]
    lines.append(
        f"Several base stations per user (paper-v0, {several['decisions']} decisions): the "
        f"expected slot could be at most {100 * (1 - several['mean']):.1f} % below exact's on "
        f"average, {100 * (1 - several['least']):.1f} % in the worst case, moving free of charge."
    )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=read_seeds, default=list(range(40)))
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: both")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="default: both")
    parser.add_argument(
        "--several-seeds", type=int, default=5, help="of the seeds, for several base stations"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "association_value.json")
    parser.add_argument("--show", type=Path, help="print this file instead of measuring")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(arguments.show.read_text(encoding="utf-8"))))
        return
    seeds = list(arguments.seeds)
    content = {
        "seeds": seeds,
        "parts": [
            {"scenario": scenario, "policy": policy, "rows": measure(scenario, policy, seeds)}
            for scenario in arguments.scenario or SCENARIOS
            for policy in arguments.policy or POLICIES
        ],
        "several_stations": several_stations("paper-v0", seeds[: arguments.several_seeds]),
    }
    write_atomically(arguments.out, json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(markdown(content))


if __name__ == "__main__":
    main()
