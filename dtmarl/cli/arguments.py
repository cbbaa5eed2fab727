"""Arguments that several commands share, and their reading."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def seeds(text: str) -> Sequence[int]:
    """Seeds of ``0:20`` (a range without its end), ``0:20:5`` (with a step) or ``1,5,7``.

    >>> list(seeds("0:3")), list(seeds("1,5"))
    ([0, 1, 2], [1, 5])

    Raises:
        argparse.ArgumentTypeError: it is none of these, or an empty range.
    """
    try:
        if ":" not in text:
            return [int(part) for part in text.split(",")]
        parts = [int(part) for part in text.split(":")]
        if len(parts) > 3:
            raise ValueError("too many colons")
        found = range(*parts)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a range such as 0:20 or a list such as 1,5,7, got {text!r}"
        ) from error
    if not found:
        raise argparse.ArgumentTypeError(f"expected a range with seeds in it, got {text!r}")
    return found


def names(text: str) -> list[str]:
    """Names of ``a,b``.

    Raises:
        argparse.ArgumentTypeError: one is empty.
    """
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names such as a,b, got {text!r}")
    return found


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that play episodes."""
    parser.add_argument("--scenario", default="paper-v0", help="id (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=seeds, default=range(20), help="such as 0:20 or 1,5,7 (default: 0:20)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    add_json_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes on stderr")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """The option for machine-readable output."""
    parser.add_argument("--json", action="store_true", help="JSON on stdout, and nothing else")


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to show progress bars: on a terminal, unless asked not to."""
    return sys.stderr.isatty() and not options.quiet


def note(options: argparse.Namespace, message: str) -> None:
    """Tell the user something beside the results."""
    if not options.quiet:
        print(message, file=sys.stderr)
