"""Evaluating policies: the same worlds for everyone, means with intervals, and their provenance.

    report = dtmarl.evaluate("root-balanced", "paper-v0", seeds=range(20))
    report.mean("system_delay_s"), report.interval("system_delay_s")
    report.difference(dtmarl.evaluate("fixed-split", "paper-v0"), "system_delay_s")

A seed fixes everything in the world that no decision influences, so reports on the same seeds are
compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.provenance import Provenance, checked_seeds, provenance_of
from dtmarl.evaluation.report import Curve, Report
from dtmarl.evaluation.rollout import CURVES, METRICS, EpisodeRecord, rollout, rollouts
from dtmarl.evaluation.statistics import Estimate
from dtmarl.frame.controller import Controller
from dtmarl.frame.controller import controller as find_controller
from dtmarl.policies import Policy
from dtmarl.policies import policy as find_policy
from dtmarl.scenarios import scenario as find_scenario

__all__ = [
    "CURVES",
    "METRICS",
    "Curve",
    "EpisodeRecord",
    "Estimate",
    "Provenance",
    "Report",
    "evaluate",
    "rollout",
    "rollouts",
]


def evaluate(
    policy: str | Policy,
    scenario: str | ScenarioConfig = "paper-v0",
    *,
    seeds: Iterable[int] = range(20),
    controller: str | Controller = "proposed",
    progress: bool = False,
    workers: int = 1,
) -> Report:
    """Play one episode per seed and report on them.

    Args:
        policy: a registered name, ``package.module:Class``, or a policy. Its `reset` has to undo
            what earlier episodes left in it.
        scenario: a scenario's id or configuration.
        seeds: of the episodes; the same seed is the same world for every policy and controller.
        controller: the frame layer: a scheme's name or a controller.
        progress: whether to show a bar on stderr.
        workers: processes to play in; the results do not depend on it. With more than one, a
            policy that is an object has to be picklable, and a script keeps its own work under
            ``if __name__ == "__main__":``.

    Raises:
        ValueError: an argument is not one of these, or the policy gives an impossible action.
    """
    config = find_scenario(scenario)
    frame_layer = find_controller(controller)
    checked = checked_seeds(seeds)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers: expected a positive integer, got {workers!r}")
    origin = provenance_of(policy, find_policy(policy), config, frame_layer, checked)
    records = rollouts(
        policy,
        config,
        frame_layer,
        checked,
        workers=workers,
        progress=progress,
        label=f"{origin.policy} / {origin.controller}",
    )
    return Report.from_records(origin, config, records)
