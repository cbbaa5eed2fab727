"""The paper's four schemes on the same worlds, and what becomes of its three claims.

    python eval/compare_schemes.py                      # runs, writes the JSON, prints Markdown
    python eval/compare_schemes.py --show FILE.json     # prints what is there, runs nothing

Every scheme plays with the same agents' policy, so schemes differ in their frame layer, training
data and timescales alone. A claim holds, or does not hold, where the 95 % interval of the paired
measure lies on one side of the paper's limit; else it is undecided.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.evaluation.claims import Claim, paper_claims
from dtmarl.evaluation.comparison import REFERENCE_POLICY
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.table import per_cent, with_interval

RESULTS = Path(__file__).parent / "results"


def run(
    scenario: str, policy: str, seeds: range | list[int], workers: int
) -> dict[str, dtmarl.Report]:
    """A report on each scheme, by its name."""
    return {
        name: dtmarl.evaluate(
            policy,
            scenario,
            seeds=seeds,
            controller=name,
            workers=workers,
            progress=sys.stderr.isatty(),
        )
        for name in dtmarl.SCHEMES
    }


def to_json(schemes: Mapping[str, dtmarl.Report]) -> str:
    """Reports with their provenance, and the claims; what `from_json` reads."""
    content = {
        "schemes": {name: json.loads(report.to_json()) for name, report in schemes.items()},
        "claims": [claim.to_dict() for claim in paper_claims(schemes)],
    }
    return json.dumps(content, allow_nan=False)


def from_json(path: Path) -> dict[str, dtmarl.Report]:
    """The reports in a file of results.

    Raises:
        ValueError: it is not a file of this program.
    """
    try:
        content = json.loads(path.read_text())
        return {
            name: dtmarl.Report.from_json(json.dumps(content["schemes"][name]))
            for name in dtmarl.SCHEMES
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected results of this program: {error!r}") from error


def to_markdown(schemes: Mapping[str, dtmarl.Report]) -> str:
    """The table of the schemes and that of the claims."""
    origin = next(iter(schemes.values())).provenance
    lines = [
        f"`{origin.scenario}` ({origin.scenario_hash}), policy `{origin.policy}`, "
        f"{len(origin.seeds)} seeds, dtmarl {origin.dtmarl_version}; means with 95 % intervals.",
        "",
        "| scheme | mean delay (s) | median delay (s) | accuracy (%) | break-outs (%) "
        "| largest rise (%) | retraining (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in schemes.items():
        cells = [
            with_interval(report.estimate("system_delay_s")),
            with_interval(report.estimate("median_delay_s")),
            *(
                per_cent(report.estimate(metric))
                for metric in ("accuracy", "breakout_rate", "breakout_jump", "retrain_rate")
            ),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| figure | the paper says | measured, paired by seed | verdict |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {c.figure} | {c.statement} | {c.measure}: {measured(c)} | {c.verdict} |"
        for c in paper_claims(schemes)
    ]
    above = curve_shares(schemes)
    lines += ["", "Slots in which the proposed scheme's mean accuracy is above: " + above + "."]
    return "\n".join(lines) + "\n"


def measured(claim: Claim) -> str:
    """The estimate behind a claim, differences of shares in percentage points."""
    if claim.measure.startswith(("mean delay", "median delay")):
        return f"{with_interval(claim.estimate)} (paper: below {claim.limit:g})"
    return f"{per_cent(claim.estimate)} points (paper: above 0)"


def curve_shares(schemes: Mapping[str, dtmarl.Report]) -> str:
    """Share of slots in which the proposed scheme's mean accuracy curve is the higher one.

    Slots in which both are the same, as before the first retraining, count for neither.
    """
    proposed = schemes["proposed"].curves["accuracy"].mean
    parts = []
    for name, report in schemes.items():
        if name == "proposed":
            continue
        other = report.curves["accuracy"].mean
        above = sum(a > b for a, b in zip(proposed, other, strict=True))
        below = sum(a < b for a, b in zip(proposed, other, strict=True))
        parts.append(f"{name} in {above} of {above + below}")
    return "; ".join(parts)


def main() -> int:
    """Run or read, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="paper-v0")
    parser.add_argument("--policy", default=REFERENCE_POLICY)
    parser.add_argument("--seeds", type=read_seeds, default=range(20), help="such as 0:20")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: eval/results/schemes_<scenario>.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print results that are there")
    options = parser.parse_args()
    try:
        if options.show is not None:
            schemes = from_json(options.show)
        else:
            schemes = run(options.scenario, options.policy, options.seeds, options.workers)
            out = options.out or RESULTS / f"schemes_{options.scenario}.json"
            write_atomically(out, to_json(schemes) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(schemes), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
