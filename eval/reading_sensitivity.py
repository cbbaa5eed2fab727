"""What each reading of the paper does to the results: one at a time is taken away.

    python eval/reading_sensitivity.py                  # runs, writes the JSON, prints Markdown
    python eval/reading_sensitivity.py --show FILE.json # prints what is there, runs nothing

The first table has the proposed scheme's metrics under the changed reading minus those of the
scenario as it is, paired by seed; the second has the measures behind the paper's claims under each
reading, with the verdict on each.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.evaluation.claims import paper_claims
from dtmarl.evaluation.comparison import REFERENCE_POLICY
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import Estimate
from dtmarl.evaluation.table import number

RESULTS = Path(__file__).parent / "results"

READINGS: dict[str, dict[str, dict[str, Any]]] = {
    "no migration": {"traffic": {"migration_bytes": 0.0}},
    "no shadowing": {"radio": {"shadowing": False}},
    "no fading": {"radio": {"fading": False}},
    "no own load": {"compute": {"own_load_max": 0.0}},
    "no drift": {"learning": {"context_switch_probability": 0.0, "context_follows_place": False}},
    "perfect twin": {
        "twin": {
            "sync_period_slots": 1,
            "sync_delay_slots": 0,
            "sync_loss": 0.0,
            "position_noise_m": 0.0,
            "gain_noise_db": 0.0,
            "gain_memory": 0.0,
            "velocity_gain": 1.0,
            "task_noise": 0.0,
            "task_loss": 0.0,
        }
    },
    "5 ms between slots": {"mobility": {"slot_spacing_s": 0.005}},
}
"""The changes to the scenario, by what they are called in the tables."""

METRICS = {
    "system_delay_s": ("mean delay (s)", 1.0),
    "handover_rate": ("handovers (per user, 100 frames)", 100.0),
    "accuracy": ("accuracy (points)", 100.0),
    "breakout_rate": ("break-outs (points)", 100.0),
    "retrain_rate": ("retraining (points)", 100.0),
}
"""Columns of the first table, and the factor to their unit."""


def run(
    scenario: str, policy: str, seeds: range | list[int], workers: int, names: list[str]
) -> dict[str, Any]:
    """The results as plain values."""
    base = dtmarl.scenario(scenario)
    configs = {"as it is": base} | {name: base.replace(**READINGS[name]) for name in names}
    steps = tqdm(total=len(configs) * len(dtmarl.SCHEMES), disable=not sys.stderr.isatty())
    readings: dict[str, Any] = {}
    reference = None
    for name, config in configs.items():
        schemes = {}
        for scheme in dtmarl.SCHEMES:
            schemes[scheme] = dtmarl.evaluate(
                policy, config, seeds=seeds, controller=scheme, workers=workers
            )
            steps.update()
        proposed = schemes["proposed"]
        reference = proposed if reference is None else reference
        readings[name] = {
            "changes": READINGS.get(name, {}),
            "scenario_hash": config.hash,
            "metrics": proposed.summary(),
            "difference": {
                metric: proposed.difference(reference, metric).to_dict() for metric in METRICS
            },
            "claims": [claim.to_dict() for claim in paper_claims(schemes)],
        }
    steps.close()
    assert reference is not None
    origin = reference.provenance
    return {
        "scenario": origin.scenario,
        "policy": origin.policy,
        "seeds": list(origin.seeds),
        "dtmarl_version": origin.dtmarl_version,
        "numpy_version": origin.numpy_version,
        "code_hash": origin.code_hash,
        "readings": readings,
    }


def from_json(path: Path) -> dict[str, Any]:
    """The results in a file.

    Raises:
        ValueError: it is not a file of this program.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        to_markdown(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected results of this program: {error!r}") from error
    return content


def to_markdown(content: dict[str, Any]) -> str:
    """Both tables."""
    readings = content["readings"]
    base, changed = readings["as it is"], {n: r for n, r in readings.items() if r["changes"]}
    lines = [
        f"`{content['scenario']}`, policy `{content['policy']}`, proposed scheme, "
        f"{len(content['seeds'])} seeds: change of the means, paired by seed, 95 % intervals.",
        "",
        "| reading | " + " | ".join(title for title, _ in METRICS.values()) + " |",
        "|---|" + "---|" * len(METRICS),
        "| as it is, the means | "
        + " | ".join(number(base["metrics"][m]["value"] * f) for m, (_, f) in METRICS.items())
        + " |",
    ]
    for name, reading in changed.items():
        cells = [cell(reading["difference"][m], factor) for m, (_, factor) in METRICS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    claims = base["claims"]
    lines += ["", "| reading | " + " | ".join(f"{c['figure']} {c['measure']}" for c in claims)]
    lines[-1] += " |"
    lines.append("|---|" + "---|" * len(claims))
    for name, reading in readings.items():
        cells = [
            f"{cell(claim, 1.0 if ' / ' in claim['measure'] else 100.0, signed=False)}: "
            f"{claim['verdict']}"
            for claim in reading["claims"]
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Differences of shares are in percentage points."]
    return "\n".join(lines) + "\n"


def cell(estimate: dict[str, Any], factor: float, *, signed: bool = True) -> str:
    """An estimate with its interval, in its unit."""
    nan = float("nan")
    decimals = 2 if factor == 1.0 else 1
    value, low, high = (
        # Adding zero turns a rounded −0 into 0.
        round(factor * (nan if estimate[part] is None else estimate[part]), decimals) + 0.0
        for part in Estimate._fields
    )
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text if low != low else f"{text} [{low:.{decimals}f}, {high:.{decimals}f}]"


def main() -> int:
    """Run or read, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="paper-v0")
    parser.add_argument("--policy", default=REFERENCE_POLICY)
    parser.add_argument("--seeds", type=read_seeds, default=range(20), help="such as 0:20")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--reading", action="append", choices=list(READINGS), help="this one alone; repeatable"
    )
    parser.add_argument("--out", type=Path, help="default: eval/results/readings_<scenario>.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print results that are there")
    options = parser.parse_args()
    try:
        if options.show is not None:
            content = from_json(options.show)
        else:
            content = run(
                options.scenario,
                options.policy,
                options.seeds,
                options.workers,
                options.reading or list(READINGS),
            )
            out = options.out or RESULTS / f"readings_{options.scenario}.json"
            write_atomically(out, json.dumps(content, allow_nan=False, indent=1) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(content), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
