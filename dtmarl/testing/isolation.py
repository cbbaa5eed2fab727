"""Rules on memory: what passes between caller and environment is not shared by them afterwards."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dtmarl.testing import trees
from dtmarl.testing.episode import retrace
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting

Array = np.ndarray[Any, Any]


@rule
def fresh_observations(setting: Setting) -> None:
    """Observations share no memory across agents and steps, and stay as they were returned."""
    kept: list[tuple[int, trees.Path, Array, Array]] = []
    previous: list[tuple[trees.Path, Array]] = []
    with setting.opened() as env:
        for step in retrace(env, setting.reference, "with all observations kept"):
            current = trees.arrays(step.observations)
            pairs = itertools.chain(
                itertools.combinations(current, 2), itertools.product(current, previous)
            )
            for (path, array), (other_path, other) in pairs:
                if np.may_share_memory(array, other) and np.shares_memory(array, other):
                    raise Violation(
                        agent=path[0],
                        step=step.index,
                        expected="an observation in memory of its own",
                        found=f"{trees.written(path)} sharing memory with "
                        f"{trees.written(other_path)} of this step or the one before",
                    )
            kept += [(step.index, path, array, array.copy()) for path, array in current]
            previous = current
    for index, path, array, copy in kept:
        changed = trees.difference(copy, array)
        if changed is not None:
            raise Violation(
                agent=path[0],
                step=index,
                expected=f"{trees.written(path)} to stay as returned, {changed[1]}",
                found=f"later {changed[2]}",
            )


@rule
def results_not_kept(setting: Setting) -> None:
    """What a caller does to returned observations, infos and dicts does not reach the future."""
    with setting.opened() as env:
        for step in retrace(
            env, setting.reference, "after earlier returned values were overwritten"
        ):
            for returned in (
                step.observations,
                step.infos,
                step.rewards,
                step.terminations,
                step.truncations,
            ):
                trees.overwrite(returned)


@rule
def actions_not_kept(setting: Setting) -> None:
    """What a caller does to actions once they are passed does not reach the future."""
    with setting.opened() as env:
        for step in retrace(env, setting.reference, "after earlier actions were overwritten"):
            trees.overwrite(step.actions)


@rule
def actions_unaltered(setting: Setting) -> None:
    """`step` does not alter the actions that it is given."""
    trajectory = setting.reference
    with setting.opened() as env:
        for step in retrace(env, trajectory, "in a second instance"):
            given = trajectory.steps[step.index].actions
            changed = trees.difference(given, step.actions)
            if changed is not None:
                path, expected, found = changed
                raise Violation(
                    agent=path[0] if path else None,
                    step=step.index,
                    expected=f"actions left as given, {expected}",
                    found=found,
                )
