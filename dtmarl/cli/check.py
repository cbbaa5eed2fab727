"""``dtmarl check``: the conformance kit on anyone's environment."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from dtmarl import testing
from dtmarl.cli import arguments


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help="hold a PettingZoo ParallelEnv against the conformance rules",
        description="Hold a PettingZoo ParallelEnv against the conformance rules; exit status 1 "
        "if it breaks one.",
    )
    parser.add_argument(
        "factory", metavar="MODULE:FACTORY", help="a function that returns a new environment"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--episodes", type=int, default=40, help="for the value rules (default: %(default)s)"
    )
    parser.add_argument(
        "--max-steps", type=int, default=1000, help="of an episode (default: %(default)s)"
    )
    parser.add_argument(
        "--rules", type=arguments.names, metavar="A,B", help="run these alone, of the list below"
    )
    parser.add_argument(
        "--skip", type=arguments.names, default=[], metavar="A,B", help="rules to leave out"
    )
    arguments.add_json_option(parser)
    parser.epilog = f"rules: {', '.join([*testing.RULES, _ACROSS])}"
    parser.set_defaults(run=run)


_ACROSS = "across_processes"


def run(options: argparse.Namespace) -> int:
    """Run the rules, print a line for each, and say by the exit status whether all passed."""
    known = [*testing.RULES, _ACROSS]
    chosen = known if options.rules is None else options.rules
    for name in [*chosen, *options.skip]:
        if name not in known:
            raise ValueError(f"rules: expected names among {known}, got {name!r}")
    factory = testing.load_factory(options.factory)
    wanted = [name for name in chosen if name not in options.skip]
    results = [
        {"rule": result.rule, "passed": result.passed, "message": str(result.error or result.note)}
        for result in testing.run_rules(
            factory,
            options.seed,
            episodes=options.episodes,
            max_steps=options.max_steps,
            rules=[name for name in wanted if name != _ACROSS],
        )
    ]
    if _ACROSS in wanted:
        message = ""
        try:
            testing.check_across_processes(
                options.factory, options.seed, max_steps=options.max_steps
            )
        except testing.ConformanceError as error:
            message = str(error)
        results.append({"rule": _ACROSS, "passed": not message, "message": message})
    failed = sum(not result["passed"] for result in results)
    if options.json:
        content = {"factory": options.factory, "passed": not failed, "rules": results}
        print(json.dumps(content, indent=1))
    else:
        for result in results:
            if result["passed"]:
                note = f" (nothing to check: {result['message']})" if result["message"] else ""
                print(f"ok    {result['rule']}{note}")
            else:
                print(f"FAIL  {result['message']}")
        print(f"{len(results) - failed} of {len(results)} rules kept")
    if failed and options.json:
        print(f"dtmarl check: {failed} of {len(results)} rules broken", file=sys.stderr)
    return 1 if failed else 0
