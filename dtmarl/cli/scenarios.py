"""``dtmarl scenarios`` and ``dtmarl show``: what there is, field by field."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from typing import Any

from dtmarl.cli import arguments
from dtmarl.config import ConfigGroup, ScenarioConfig
from dtmarl.envs.make import raw_env
from dtmarl.envs.observation import Layout
from dtmarl.scenarios import DESCRIPTIONS, SCENARIOS, scenario

_UNITS = {
    "flop_per_s": "FLOP/s",
    "flop_per_byte": "FLOP/byte",
    "bytes_per_s": "bytes/s",
    "m_per_s": "m/s",
    "bytes": "bytes",
    "bytes_min": "bytes",
    "bytes_max": "bytes",
    "dbm": "dBm",
    "db": "dB",
    "hz": "Hz",
    "s": "s",
    "m": "m",
    "w": "W",
    "slots": "slots",
    "frames": "frames",
    "images": "images",
}
_WIDTH = 80


def add_to(commands: Any) -> None:
    """Add both commands to the parser."""
    parser = commands.add_parser("scenarios", help="list the scenarios")
    arguments.add_json_option(parser)
    parser.set_defaults(run=run_scenarios)
    parser = commands.add_parser(
        "show", help="show a scenario's settings, agents, observations and actions"
    )
    parser.add_argument("scenario", metavar="SCENARIO", help="id, such as paper-v0")
    arguments.add_json_option(parser)
    parser.set_defaults(run=run_show)


def run_scenarios(options: argparse.Namespace) -> int:
    """List the scenarios."""
    rows = [
        {
            "id": name,
            "hash": config.hash,
            "summary": DESCRIPTIONS[name].splitlines()[0].partition(": ")[2],
        }
        for name, config in SCENARIOS.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(row["id"]) for row in rows)
        for row in rows:
            print(f"{row['id']:<{width}}  {row['summary']}")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Show one scenario."""
    content = describe(scenario(options.scenario))
    if options.json:
        print(json.dumps(content, indent=1, allow_nan=False))
    else:
        print("\n".join(_lines(content)))
    return 0


def describe(config: ScenarioConfig) -> dict[str, Any]:
    """A scenario as plain values: settings with units, agents, vectors block by block."""
    env = raw_env(config)
    layouts = env.layouts
    return {
        "id": config.id,
        "hash": config.hash,
        "description": DESCRIPTIONS.get(config.id, ""),
        "settings": _settings(config, ""),
        "agents": list(env.possible_agents),
        "observations": {"bs": _blocks(layouts.bs), "mu": _blocks(layouts.mu)},
        "state": _blocks(layouts.state),
        "actions": {
            "bs": {"size": config.max_users, "meaning": "weights in [0, 1]: share for each user"},
            "mu": {
                "size": 1 + config.num_base_stations,
                "meaning": "weights in [0, 1]: part kept local, then part for each base station",
            },
        },
    }


def unit(name: str) -> str:
    """The unit that a field's name ends in, or nothing.

    >>> unit("user_flop_per_s"), unit("sync_period_slots"), unit("sync_loss")
    ('FLOP/s', 'slots', '')
    """
    words = name.split("_")
    for start in range(1, len(words)):
        found = _UNITS.get("_".join(words[start:]))
        if found is not None:
            return found
    return ""


def _settings(group: ConfigGroup, prefix: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if isinstance(value, ConfigGroup):
            rows += _settings(value, f"{prefix}{field.name}.")
        else:
            rows.append(
                {
                    "name": prefix + field.name,
                    "value": value,
                    "unit": unit(field.name),
                    "doc": field.metadata["doc"],
                }
            )
    return rows


def _blocks(layout: Layout) -> list[dict[str, Any]]:
    return [
        {
            "name": block.name,
            "start": layout.slices[block.name].start,
            "stop": layout.slices[block.name].stop,
            "low": block.low,
            "high": block.high,
            "meaning": block.meaning,
        }
        for block in layout.blocks
    ]


def _lines(content: dict[str, Any]) -> list[str]:
    agents = content["agents"]
    kinds = {kind: [a for a in agents if a.startswith(kind)] for kind in ("bs", "mu")}
    lines = [f"{content['id']}  (hash {content['hash']})", ""]
    paragraphs = content["description"].split("\n\n")
    for paragraph in paragraphs:
        if paragraph.startswith("|"):
            continue  # the table of agents: said below, for this very configuration
        if "\n    " in paragraph:
            lines += [*paragraph.splitlines(), ""]
        elif paragraph:
            lines += [*textwrap.wrap(paragraph.removeprefix(f"{content['id']}: "), _WIDTH), ""]
    lines += ["Settings", "--------"]
    group = None
    for row in content["settings"]:
        prefix, _, name = row["name"].rpartition(".")
        if prefix != group:
            group = prefix
            lines += [f"{prefix}:"] if prefix else []
        value = f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"])
        head = f"  {name:<27}{value} {row['unit']}".rstrip()
        lines += _with_meaning(head, row["doc"], column=47)
    lines += ["", "Agents", "------"]
    for kind, members in kinds.items():
        size = content["observations"][kind][-1]["stop"]
        action = content["actions"][kind]
        lines.append(f"{members[0]} … {members[-1]}: {size} observed numbers")
        lines += textwrap.wrap(
            f"action: {action['size']} {action['meaning']}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
        )
    for title, blocks in (
        ("Observation of bs", content["observations"]["bs"]),
        ("Observation of mu", content["observations"]["mu"]),
        ("State for centralised critics", content["state"]),
    ):
        lines += ["", title, "-" * len(title)]
        for block in blocks:
            where = f"{block['start']}:{block['stop']}"
            bounds = f"[{block['low']:g}, {block['high']:g}]"
            head = f"  {where:<10}{block['name']:<18}{bounds:<10}"
            lines += _with_meaning(head, block["meaning"], column=41)
    return lines


def _with_meaning(head: str, meaning: str, *, column: int) -> list[str]:
    wrapped = textwrap.wrap(meaning, _WIDTH - column)
    first = f"{head:<{column - 1}} {wrapped[0]}"
    return [first, *(" " * column + line for line in wrapped[1:])]
