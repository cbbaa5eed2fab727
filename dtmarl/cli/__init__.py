"""The command line: ``dtmarl scenarios | show | evaluate | compare | check``.

Exit status 0: done; 1: a check failed; 2: wrong use; 130: interrupted. Errors go to stderr, and
with ``--json`` nothing but JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dtmarl.cli import check, compare, evaluate, scenarios

_DESCRIPTION = """\
Multi-agent environments for two-timescale, digital-twin-assisted edge computing.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; those of this process if None.

    Returns:
        The exit status.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed its help or what is wrong
        return int(stop.code or 0)
    # A policy or factory of one's own is looked for where the command is given.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"dtmarl {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dtmarl {options.command}: interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    from dtmarl import __version__

    parser = argparse.ArgumentParser(prog="dtmarl", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"dtmarl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (scenarios, evaluate, compare, check):
        module.add_to(commands)
    return parser
