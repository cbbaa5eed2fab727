"""``dtmarl evaluate``: one policy under one controller."""

from __future__ import annotations

import argparse
from typing import Any

from dtmarl.cli import arguments
from dtmarl.evaluation import evaluate
from dtmarl.evaluation.table import report_table
from dtmarl.frame.controller import CONTROLLERS
from dtmarl.policies import POLICIES


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="play episodes with a policy and report on them",
        description="Play one episode per seed; report means with 95 % intervals over the seeds.",
    )
    parser.add_argument(
        "policy", metavar="POLICY", help=f"one of {', '.join(POLICIES)}, or package.module:Class"
    )
    parser.add_argument(
        "--controller",
        default="proposed",
        help=f"frame layer: one of {', '.join(CONTROLLERS)} (default: %(default)s)",
    )
    parser.add_argument("--out", metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw delay and accuracy over slots; needs matplotlib"
    )
    arguments.add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate, print, and write what was asked for."""
    if options.plot is not None:
        from dtmarl import plotting

        plotting.check_target(options.plot)  # before the work, not after it
    report = evaluate(
        options.policy,
        options.scenario,
        seeds=options.seeds,
        controller=options.controller,
        progress=arguments.shows_progress(options),
        workers=options.workers,
    )
    if options.out is not None:
        report.save(options.out)
    if options.plot is not None:
        plotting.plot_reports([report], options.plot)
    print(report.to_json() if options.json else report_table(report), end="\n" * options.json)
    return 0
