"""How far every policy is from the certified optimum, and what the twin's faults cost.

    python eval/anchors.py                      # runs, writes the JSON, prints Markdown
    python eval/anchors.py --show FILE.json     # prints what is there, runs nothing

The optimality gap is the delay above the certified optimum of the very slots that were played,
under the same frame decisions. `oracle` solves every slot on the truth and shows how much of that
optimum can be reached; `twin-optimum` solves it on what agents observe. With a perfect twin what
is left of a gap is the policy's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.evaluation import METRICS, Provenance
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.table import per_cent, with_interval

RESULTS = Path(__file__).parent / "results"
REFERENCE = "twin-optimum"
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
SETTINGS = {
    "paper-v0, perfect twin": dtmarl.scenario("paper-v0").replace(
        name="paper-perfect-twin", twin=PERFECT_TWIN
    ),
    **{name: dtmarl.scenario(name) for name in ("paper-v0", "stale-twin-v0", "hotspot-v0")},
}
Results = dict[str, dict[str, dtmarl.Report]]


def run(seeds: range | list[int], controller: str, workers: int) -> Results:
    """Reports by setting and policy."""
    return {
        setting: {
            policy: dtmarl.evaluate(
                policy,
                config,
                seeds=seeds,
                controller=controller,
                workers=workers,
                progress=sys.stderr.isatty(),
            )
            for policy in dtmarl.POLICIES
        }
        for setting, config in SETTINGS.items()
    }


def to_json(results: Results) -> str:
    """Every seed's metrics with their provenance; what `from_json` reads."""
    content = {
        setting: {
            policy: {"provenance": asdict(report.provenance), "per_seed": dict(report.per_seed)}
            for policy, report in reports.items()
        }
        for setting, reports in results.items()
    }
    return json.dumps(content, allow_nan=False, indent=1)


def from_json(path: Path) -> Results:
    """The reports in a file of results, without curves.

    Raises:
        ValueError: it is not a file of this program, or its scenarios are no longer the same.
    """
    try:
        content = json.loads(path.read_text())
        return {
            setting: {
                policy: _report(config, content[setting][policy]) for policy in dtmarl.POLICIES
            }
            for setting, config in SETTINGS.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected results of this program: {error!r}") from error


def _report(config: dtmarl.ScenarioConfig, content: Mapping[str, Any]) -> dtmarl.Report:
    origin = {**content["provenance"], "seeds": tuple(content["provenance"]["seeds"])}
    if origin["scenario_hash"] != config.hash:
        raise ValueError(f"scenario {config.id} has changed")
    per_seed = {name: tuple(content["per_seed"][name]) for name in METRICS}
    provenance = Provenance(**origin)
    return dtmarl.Report(provenance=provenance, config=config, per_seed=per_seed, curves={})


def to_markdown(results: Results) -> str:
    """One table of gaps by setting, one for each setting with everything else."""
    first = next(iter(next(iter(results.values())).values())).provenance
    lines = [
        f"Optimality gap in %, controller `{first.controller}`, {len(first.seeds)} seeds, "
        f"dtmarl {first.dtmarl_version}; means with 95 % intervals.",
        "",
        f"| policy | {' | '.join(results)} |",
        f"|---|{'---|' * len(results)}",
    ]
    for policy in dtmarl.POLICIES:
        cells = [fine(reports[policy]) for reports in results.values()]
        lines.append(f"| {label(next(iter(results.values()))[policy])} | {' | '.join(cells)} |")
    for setting, reports in results.items():
        lines += ["", *details(setting, reports)]
    return "\n".join(lines) + "\n"


def details(setting: str, reports: Mapping[str, dtmarl.Report]) -> list[str]:
    """Delay, the other gaps, and the paired difference to the strongest honest baseline."""
    bounds = " and ".join(
        f"{with_interval(reports[REFERENCE].estimate(name))} s ({meaning})"
        for name, meaning in (
            ("slot_bound_s", "same frame decisions"),
            ("clairvoyant_bound_s", "any association"),
        )
    )
    lines = [
        f"{setting}: bounds of `{REFERENCE}`'s slots {bounds}",
        "",
        f"| policy | mean delay (s) | less {REFERENCE}'s (s) | clairvoyant gap (%) "
        "| twin gap (%) |",
        "|---|---|---|---|---|",
    ]
    for policy, report in reports.items():
        less = report.difference(reports[REFERENCE], "system_delay_s")
        cells = [
            with_interval(report.estimate("system_delay_s")),
            "" if policy == REFERENCE else with_interval(less),
            per_cent(report.estimate("clairvoyant_gap")),
            per_cent(report.estimate("twin_gap")),
        ]
        lines.append(f"| {label(report)} | {' | '.join(cells)} |")
    return lines


def label(report: dtmarl.Report) -> str:
    """The policy, marked where it acts on the truth."""
    return f"`{report.provenance.policy}`" + " (truth)" * report.provenance.uses_truth


def fine(report: dtmarl.Report) -> str:
    """The optimality gap in per cent, with three decimals where it is next to nothing."""
    gap = report.estimate("optimality_gap")
    if abs(gap.value) >= 1e-3:
        return per_cent(gap)
    return f"{100.0 * gap.value:.3f}, at most {100.0 * max(report.values('optimality_gap')):.3f}"


def main() -> int:
    """Run or read, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--controller", default="proposed")
    parser.add_argument("--seeds", type=read_seeds, default=range(20), help="such as 0:20")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "anchors.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print results that are there")
    options = parser.parse_args()
    try:
        if options.show is not None:
            results = from_json(options.show)
        else:
            results = run(options.seeds, options.controller, options.workers)
            write_atomically(options.out, to_json(results) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
