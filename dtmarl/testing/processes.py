"""Does an episode depend on PYTHONHASHSEED? Two processes play it, and the digests are compared."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from dtmarl.testing import trees
from dtmarl.testing.episode import Env, Step
from dtmarl.testing.outcome import ConformanceError
from dtmarl.testing.setting import Setting

RULE = "across_processes"
HASH_SEEDS = ("1", "2")


def load_factory(target: str) -> Callable[[], Env]:
    """The function that `"package.module:function"` names.

    Raises:
        ValueError: the text is not of that form, or nothing callable is found there.
    """
    module_name, colon, attributes = target.partition(":")
    if not (module_name and colon and attributes):
        raise ValueError(f"target: expected 'package.module:function', got {target!r}")
    try:
        found: Any = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target: expected an importable function, got {target!r}: {error}") from (
            error
        )
    if not callable(found):
        raise ValueError(f"target: expected a function, got {target!r}: a {type(found).__name__}")
    factory: Callable[[], Env] = found
    return factory


def check_across_processes(
    target: str, seed: int = 0, *, max_steps: int = 1000, timeout_s: float = 600.0
) -> None:
    """Play one episode in two processes that differ in PYTHONHASHSEED alone, and compare.

    The order of keys counts here, unlike in the other rules: an order taken from a set is what
    changes between processes, and whoever iterates over the dicts meets it.

    Args:
        target: where the environment is built, as `"package.module:function"`.
        seed: of the episode and of the actions.
        max_steps: the episode is cut off here.
        timeout_s: wall-clock limit for a process.

    Raises:
        ConformanceError: the episodes differ, or one of the processes fails.
        ValueError: `target` is not of that form.
        subprocess.TimeoutExpired: a process takes longer than `timeout_s`.
    """
    load_factory(target)
    command = [
        sys.executable,
        "-c",
        "from dtmarl.testing.processes import main; main()",
        *(target, str(seed), str(max_steps)),
    ]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for hash_seed in HASH_SEEDS
    ]
    outputs = []
    try:
        for process in processes:
            output, complaint = process.communicate(timeout=timeout_s)
            if process.returncode:
                raise _error(None, None, "the episode to be played", complaint.strip()[-500:])
            outputs.append([json.loads(line) for line in output.splitlines() if line[:1] == "["])
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    for index, (one, two) in enumerate(zip_longest(*outputs)):
        if one != two:
            _raise_difference(index, one, two)


def _raise_difference(index: int, one: list[Any] | None, two: list[Any] | None) -> None:
    expected = f"the same step whatever PYTHONHASHSEED is, with {HASH_SEEDS[0]}"
    if one is None or two is None:
        lengths = ["no such step" if part is None else "a step" for part in (one, two)]
        raise _error(None, index, f"{expected} {lengths[0]}", lengths[1])
    for (name, entries), (_, other_entries) in zip(one, two, strict=True):
        order, other_order = ([agent for agent, _ in part] for part in (entries, other_entries))
        if order != other_order:
            raise _error(None, index, f"{expected} {name} of {order}", f"{name} of {other_order}")
        for (agent, digest), (_, other_digest) in zip(entries, other_entries, strict=True):
            if digest != other_digest:
                raise _error(agent, index, f"{expected} {name} {digest}", f"{name} {other_digest}")


def _error(agent: str | None, step: int | None, expected: str, found: str) -> ConformanceError:
    return ConformanceError(RULE, expected=expected, found=found, agent=agent, step=step)


def _digests(step: Step) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each thing that a step returned, the agents in order, each with a digest of its part."""
    agents = [(str(agent), "") for agent in step.after]
    returned = {
        name: [(str(agent), _digest(part)) for agent, part in getattr(step, name).items()]
        for name in ("observations", "rewards", "terminations", "truncations", "infos")
    }
    return [("agents", agents), *returned.items()]


def _digest(tree: Any) -> str:
    hasher = hashlib.sha256()
    trees.digest_into(hasher, tree)
    return f"(digest {hasher.hexdigest()[:12]})"


def main() -> None:
    """Play the episode named on the command line and print a line of digests for each step."""
    target, seed, max_steps = sys.argv[1:]
    setting = Setting(load_factory(target), seed=int(seed), max_steps=int(max_steps))
    for step in setting.reference.steps:
        print(json.dumps(_digests(step)))
