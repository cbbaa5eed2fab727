"""Several policies and controllers on the same worlds; finished results are kept and reused."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.provenance import checked_seeds, provenance_of
from dtmarl.evaluation.report import Report
from dtmarl.evaluation.rollout import METRICS, rollouts
from dtmarl.frame.controller import SCHEMES
from dtmarl.frame.controller import controller as find_controller
from dtmarl.policies import POLICIES
from dtmarl.policies import policy as find_policy
from dtmarl.scenarios import scenario as find_scenario

REFERENCE_POLICY = "root-balanced"
REFERENCE_CONTROLLER = "proposed"


class Entry(NamedTuple):
    """A row of a comparison."""

    policy: str
    controller: str

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.policy} / {self.controller}"

    @property
    def file_name(self) -> str:
        """Of the entry's result; different entries have different ones."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", self.policy).strip("._")
        if plain != self.policy:
            plain += "-" + hashlib.sha256(self.policy.encode()).hexdigest()[:8]
        return f"{plain}--{self.controller}.json"


def choose_entries(
    policies: Iterable[str] | None = None, controllers: Iterable[str] | None = None
) -> tuple[Entry, ...]:
    """The rows of a comparison: every policy with every controller.

    Without policies, the reference rule; without controllers, the proposed scheme; without both,
    every scheme with the reference rule, then every baseline with the proposed scheme.
    """
    if policies is None and controllers is None:
        rows = [Entry(REFERENCE_POLICY, scheme) for scheme in SCHEMES]
        rows += [Entry(baseline, REFERENCE_CONTROLLER) for baseline in POLICIES]
    else:
        rows = [
            Entry(policy, controller)
            for policy in (policies or [REFERENCE_POLICY])
            for controller in (controllers or [REFERENCE_CONTROLLER])
        ]
    return tuple(dict.fromkeys(rows))


def compare(
    entries: Sequence[Entry],
    scenario: str | ScenarioConfig = "paper-v0",
    *,
    seeds: Iterable[int] = range(20),
    out: str | os.PathLike[str],
    workers: int = 1,
    progress: bool = False,
    fresh: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> list[Report]:
    """Evaluate each entry on the same seeds, one result file each.

    A result that is already in the folder with the same provenance (scenario, seeds, controller,
    policy, code) is taken from there, so an interrupted comparison goes on where it stopped.

    Args:
        entries: the rows, by `choose_entries`.
        scenario: a scenario's id or configuration.
        seeds: of the episodes.
        out: folder of the result files.
        workers: as for `dtmarl.evaluate`.
        progress: whether to show bars on stderr.
        fresh: whether to evaluate again what is already there.
        notify: is told of results that are reused or cannot be.

    Raises:
        ValueError: there is no such scenario, policy or controller, or the seeds are not right;
            nothing has been run then.
    """
    config = find_scenario(scenario)
    checked = checked_seeds(seeds)
    if not entries:
        raise ValueError("entries: expected at least one, got none")
    plan = []
    for entry in entries:
        frame_layer = find_controller(entry.controller)
        policy = find_policy(entry.policy)
        origin = provenance_of(entry.policy, policy, config, frame_layer, checked)
        plan.append((entry, frame_layer, origin))
    reports = []
    for entry, frame_layer, origin in plan:
        path = Path(out) / entry.file_name
        report = None if fresh else _stored(path, notify)
        if report is not None and report.provenance == origin:
            notify(f"{path}: finished before, kept")
        else:
            records = rollouts(
                entry.policy,
                config,
                frame_layer,
                checked,
                workers=workers,
                progress=progress,
                label=entry.label,
            )
            report = Report.from_records(origin, config, records)
            report.save(path)
        reports.append(report)
    return reports


def _stored(path: Path, notify: Callable[[str], None]) -> Report | None:
    if not path.exists():
        return None
    try:
        return Report.load(path)
    except ValueError as error:
        notify(f"{error}; evaluated again")
        return None


def to_json(reports: Sequence[Report]) -> str:
    """A comparison as JSON: every row's metrics, and its difference to the first row."""
    first = reports[0]
    rows: list[dict[str, Any]] = []
    for report in reports:
        row: dict[str, Any] = {
            "policy": report.provenance.policy,
            "uses_truth": report.provenance.uses_truth,
            "controller": report.provenance.controller,
            "metrics": report.summary(),
        }
        if report is not first:
            row["difference_to_first"] = {
                name: report.difference(first, name).to_dict() for name in METRICS
            }
        rows.append(row)
    origin = first.provenance
    content = {
        "scenario": origin.scenario,
        "scenario_hash": origin.scenario_hash,
        "seeds": list(origin.seeds),
        "dtmarl_version": origin.dtmarl_version,
        "numpy_version": origin.numpy_version,
        "rows": rows,
    }
    return json.dumps(content, allow_nan=False, indent=1)
