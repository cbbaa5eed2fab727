"""Rules on the interface: names, spaces, keys and types of what comes back."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from dtmarl.testing.episode import Env, retrace
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting


@rule
def metadata(setting: Setting) -> None:
    """`metadata` has a name and lists the render mode; agents are counted rightly."""
    with setting.opened() as env:
        described = getattr(env, "metadata", None)
        if not isinstance(described, Mapping) or not isinstance(described.get("name"), str):
            raise Violation(expected="metadata with a 'name'", found=repr(described))
        modes = described.get("render_modes", [])
        if not isinstance(modes, list | tuple) or not all(isinstance(m, str) for m in modes):
            raise Violation(expected="metadata['render_modes'] to list strings", found=repr(modes))
        mode = getattr(env, "render_mode", None)
        if mode is not None and mode not in modes:
            raise Violation(
                expected=f"render_mode {mode!r} in metadata['render_modes']", found=repr(modes)
            )
        env.reset(seed=setting.seed)
        for count, names in (("max_num_agents", "possible_agents"), ("num_agents", "agents")):
            expected, found = len(getattr(env, names)), getattr(env, count)
            if found != expected:
                raise Violation(expected=f"{count} = {expected}, as {names}", found=repr(found))


@rule
def spaces(setting: Setting) -> None:
    """Each possible agent has one observation and one action space: always the same object."""
    with setting.opened() as env:
        first = _all_spaces(env)
        _require_same_spaces(first, env, None)
        last = len(setting.reference.steps) - 1
        for step in retrace(env, setting.reference, "in a second instance"):
            if step.index in (0, 1, last):
                _require_same_spaces(first, env, step.index)


def _all_spaces(env: Env) -> dict[tuple[str, Any], Space[Any]]:
    found = {}
    for agent in env.possible_agents:
        for name in ("observation_space", "action_space"):
            try:
                space = getattr(env, name)(agent)
            except Exception as error:
                raise Violation(
                    agent=agent,
                    expected=f"{name} for every possible agent",
                    found=f"{type(error).__name__}: {error}",
                ) from error
            if not isinstance(space, Space):
                raise Violation(agent=agent, expected=f"{name} to be a Space", found=repr(space))
            found[name, agent] = space
    return found


def _require_same_spaces(
    first: dict[tuple[str, Any], Space[Any]], env: Env, step: int | None
) -> None:
    for (name, agent), space in first.items():
        if getattr(env, name)(agent) is not space:
            raise Violation(
                agent=agent,
                step=step,
                expected=f"{name} to return the same object at each call",
                found="another object",
            )


@rule
def agents(setting: Setting) -> None:
    """`possible_agents` is fixed and without duplicates; `agents` is a part of it, in its order."""
    with setting.opened() as env:
        fixed = tuple(env.possible_agents)
    if len(set(fixed)) != len(fixed) or not fixed:
        raise Violation(expected="possible_agents without duplicates", found=repr(list(fixed)))
    for step in setting.recorded_steps():
        if step.possible != fixed:
            raise Violation(
                step=step.index,
                expected=f"possible_agents to stay {list(fixed)}",
                found=repr(list(step.possible)),
            )
        in_order = [agent for agent in fixed if agent in step.after]
        if list(step.after) != in_order:
            raise Violation(
                step=step.index,
                expected=f"agents to be a part of possible_agents in its order, {in_order}",
                found=repr(list(step.after)),
            )


@rule
def reset_result(setting: Setting) -> None:
    """`reset` takes seed and options, or neither, and returns two dicts keyed by `agents`."""
    with setting.opened() as env:
        for arguments in ({}, {"seed": setting.seed}, {"seed": setting.seed, "options": {}}):
            result = env.reset(**arguments)
            if not env.agents:
                raise Violation(step=0, expected="agents after reset", found="none")
            for name, found in zip(("observations", "infos"), result, strict=True):
                _require_keys(name, found, env.agents, 0)
            _require_info_dicts(result[1], 0)


def _require_keys(name: str, found: Any, expected: Any, step: int) -> None:
    if not isinstance(found, dict):
        raise Violation(step=step, expected=f"{name} in a dict", found=type(found).__name__)
    for agent in [a for a in expected if a not in found] + [a for a in found if a not in expected]:
        raise Violation(
            agent=agent,
            step=step,
            expected=f"{name} for exactly {list(expected)}",
            found=f"for {list(found)}",
        )


def _require_info_dicts(infos: dict[Any, Any], step: int) -> None:
    for agent, info in infos.items():
        if not isinstance(info, dict):
            raise Violation(
                agent=agent, step=step, expected="a dict as info", found=type(info).__name__
            )


@rule
def step_result(setting: Setting) -> None:
    """`step` returns five dicts, keyed by the agents before the step and those that arrived."""
    for step in setting.recorded_steps():
        if step.index:
            expected = [*step.before, *(a for a in step.after if a not in step.before)]
            for name in ("observations", "rewards", "terminations", "truncations", "infos"):
                _require_keys(name, getattr(step, name), expected, step.index)


@rule
def step_types(setting: Setting) -> None:
    """Rewards are finite floats, terminations and truncations truth values, infos dicts."""
    for step in setting.recorded_steps():
        if step.index == 0:
            continue
        for agent, reward in step.rewards.items():
            if not isinstance(reward, float | np.floating) or not math.isfinite(reward):
                raise Violation(
                    agent=agent,
                    step=step.index,
                    expected="a finite float as reward",
                    found=f"{type(reward).__name__} {reward!r}",
                )
        for name in ("terminations", "truncations"):
            for agent, flag in getattr(step, name).items():
                if not isinstance(flag, bool | np.bool_):
                    raise Violation(
                        agent=agent,
                        step=step.index,
                        expected=f"a bool in {name}",
                        found=f"{type(flag).__name__} {flag!r}",
                    )
        _require_info_dicts(step.infos, step.index)


@rule
def close(setting: Setting) -> None:
    """`close` may be called twice, and before the first reset."""
    unused = setting.make_env()
    _close_twice(unused, "before the first reset")
    used = setting.make_env()
    for _ in itertools.islice(retrace(used, setting.reference, "in a second instance"), 2):
        pass
    _close_twice(used, "after a step")


def _close_twice(env: Env, when: str) -> None:
    closed = 0
    try:
        env.close()
        closed += 1
        env.close()
    except Exception as error:
        raise Violation(
            expected=f"close to do no harm, once or twice, {when}",
            found=f"{type(error).__name__} the {('first', 'second')[closed]} time: {error}",
        ) from error


@rule
def pettingzoo_api_test(setting: Setting) -> None:
    """PettingZoo's own `parallel_api_test` passes."""
    from pettingzoo.test import parallel_api_test

    with setting.opened() as env, contextlib.redirect_stdout(io.StringIO()):
        for agent in env.possible_agents:
            env.action_space(agent).seed(setting.seed)
        with warnings.catch_warnings():
            # It warns, wrongly, when a possible agent stays away for a whole episode.
            warnings.simplefilter("ignore")
            parallel_api_test(env, num_cycles=setting.max_steps)
