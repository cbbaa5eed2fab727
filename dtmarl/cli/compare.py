"""``dtmarl compare``: policies and controllers on the same worlds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dtmarl.cli import arguments
from dtmarl.evaluation import Report
from dtmarl.evaluation.comparison import choose_entries, compare, to_json
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.table import comparison_table


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare policies and controllers on the same worlds",
        description=(
            "Evaluate every policy with every controller on the same seeds. Without --policies "
            "and --controllers: the four schemes with root-balanced, then all baselines with the "
            "proposed scheme. Each finished row is kept in DIR, so an interrupted comparison goes "
            "on where it stopped; rows whose scenario, seeds and code are unchanged are not run "
            "again."
        ),
    )
    parser.add_argument("--policies", type=arguments.names, metavar="A,B", help="names")
    parser.add_argument("--controllers", type=arguments.names, metavar="A,B", help="schemes")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--fresh", action="store_true", help="run finished rows again as well")
    arguments.add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare; write rows, table, JSON and figures into the folder; print the table or the JSON."""
    note = partial(arguments.note, options)
    folder = Path(options.out)
    try:
        reports = compare(
            choose_entries(options.policies, options.controllers),
            options.scenario,
            seeds=options.seeds,
            out=folder,
            workers=options.workers,
            progress=arguments.shows_progress(options),
            fresh=options.fresh,
            notify=note,
        )
    except KeyboardInterrupt:
        note(f"finished rows are in {folder}; the same command goes on from there")
        raise
    table, content = comparison_table(reports), to_json(reports)
    write_atomically(folder / "table.txt", table)
    write_atomically(folder / "comparison.json", content + "\n")
    print(content if options.json else table, end="\n" * options.json, flush=True)
    try:
        figures = _draw(reports, folder)
    except ImportError as error:
        note(f"no figures: {error}")
        figures = []
    files = ["table.txt", "comparison.json", *(path.name for path in figures)]
    note(f"in {folder}: {', '.join(files)}, and one JSON file for each row")
    return 0


def _draw(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Means of all rows; curves of the controllers and of the policies, where they can be told."""
    from dtmarl import plotting

    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(f"policy {report.provenance.policy}", []).append(report)
        groups.setdefault(f"controller {report.provenance.controller}", []).append(report)
    figures = [plotting.plot_means(reports, folder / "means.png")]
    several = {name: group for name, group in groups.items() if len(group) > 1}
    for name, group in (several or {"all": list(reports)}).items():
        first = group[0].provenance
        kind = name.split(" ")[0]
        file_name = {
            "policy": f"controllers--{_plain(first.policy)}.png",
            "controller": f"policies--{_plain(first.controller)}.png",
            "all": "curves.png",
        }[kind]
        figures.append(plotting.plot_reports(group, folder / file_name))
    return figures


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
