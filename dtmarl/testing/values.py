"""Rules on values: observations, the global state and rendered frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtmarl.testing import trees
from dtmarl.testing.episode import retrace
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting
from dtmarl.testing.spaces import mismatch


@rule
def observations(setting: Setting) -> None:
    """Observations are in their spaces, exact in dtype and shape, finite; at action corners too."""
    with setting.opened() as env:
        for step in setting.recorded_steps():
            for agent, observation in step.observations.items():
                if agent not in step.possible:
                    continue
                wrong = mismatch(env.observation_space(agent), observation)
                if wrong is not None:
                    raise Violation(agent=agent, step=step.index, expected=wrong[0], found=wrong[1])


def kind_of(agent: Any) -> str:
    """The kind of an agent: its name up to the last underscore, `mu` for `mu_3`."""
    return str(agent).rpartition("_")[0] or str(agent)


@rule
def constant_observations(setting: Setting) -> None:
    """No element of the observation of a kind of agent is constant, unless declared to be."""
    first: dict[Any, np.ndarray[Any, Any]] = {}
    moved: dict[Any, np.ndarray[Any, Any]] = {}
    for offset in range(setting.episodes):
        for step in setting.record(offset).steps:
            for agent, observation in step.observations.items():
                numbers = trees.numeric_leaves(observation).values()
                flat = np.concatenate([np.ravel(x) for x in numbers] or [np.empty(0)])
                if agent not in first:
                    first[agent] = flat
                elif first[agent].shape == flat.shape:
                    moved[agent] = moved.get(agent, False) | (flat != first[agent])
    declared = _declared(setting)
    for kind in dict.fromkeys(map(kind_of, moved)):
        group = [agent for agent in moved if kind_of(agent) == kind]
        constant = np.ones(max(moved[agent].size for agent in group), dtype=bool)
        for agent in group:
            constant[: moved[agent].size] &= ~moved[agent]
        undeclared = sorted(set(np.flatnonzero(constant).tolist()) - declared.get(kind, set()))
        if undeclared:
            example = next(a for a in group if moved[a].size > undeclared[0])
            values = ", ".join(f"[{i}] = {first[example][i]}" for i in undeclared[:5])
            raise Violation(
                agent=example,
                expected=f"each observation element of kind {kind!r} to change within "
                f"{setting.episodes} episodes, or to be declared in "
                f"metadata['constant_observations'][{kind!r}]",
                found=f"constant elements {undeclared} ({values})",
            )


def _declared(setting: Setting) -> dict[str, set[int]]:
    with setting.opened() as env:
        of_env = getattr(env.unwrapped, "metadata", {}).get("constant_observations", {})
    kinds = {*of_env, *setting.constant_observations}
    return {
        kind: {*of_env.get(kind, ()), *setting.constant_observations.get(kind, ())}
        for kind in kinds
    }


@rule
def state(setting: Setting) -> str | None:
    """`state()` is in `state_space`, is a new array at each call, and changes nothing."""
    with setting.opened() as env:
        space = getattr(env, "state_space", None)
        if space is None:
            return "no state_space"
        earlier: list[tuple[int, Any, Any]] = []
        for step in retrace(env, setting.reference, "with state() called at each step"):
            once, again = env.state(), env.state()
            wrong = mismatch(space, once)
            if wrong is not None:
                raise Violation(step=step.index, expected=f"state(): {wrong[0]}", found=wrong[1])
            changed = trees.difference(once, again)
            if changed is not None:
                raise Violation(
                    step=step.index,
                    expected=f"state() to return the same twice, {changed[1]}",
                    found=changed[2],
                )
            for other in [again, *(old for _, old, _ in earlier[-1:])]:
                if any(
                    np.shares_memory(a, b)
                    for _, a in trees.arrays(once)
                    for _, b in trees.arrays(other)
                ):
                    raise Violation(
                        step=step.index,
                        expected="state() to return new memory at each call",
                        found="two results that share memory",
                    )
            earlier.append((step.index, once, trees.copied(once)))
        for index, kept, copy in earlier:
            if trees.difference(copy, kept) is not None:
                raise Violation(
                    step=index,
                    expected="state() as returned to stay as it is",
                    found="it altered later",
                )
    return None


@rule
def render(setting: Setting) -> str | None:
    """In mode `rgb_array`, frames are uint8 [height, width, 3], and rendering changes nothing."""
    with setting.opened() as env:
        mode = getattr(env, "render_mode", None)
        if mode != "rgb_array":
            return f"render_mode is {mode!r}"
        last = len(setting.reference.steps) - 1
        for step in retrace(env, setting.reference, "with render() called in between"):
            if step.index not in (0, 1, last // 2, last):
                continue
            frame = env.render()
            if not (
                isinstance(frame, np.ndarray)
                and frame.dtype == np.uint8
                and frame.ndim == 3
                and frame.shape[2] == 3
                and frame.size
            ):
                found = (
                    f"{frame.dtype} of shape {frame.shape}"
                    if isinstance(frame, np.ndarray)
                    else type(frame).__name__
                )
                raise Violation(
                    step=step.index,
                    expected="render() to return uint8 of shape (height, width, 3)",
                    found=found,
                )
    return None
