"""Rules on wrong actions: they are refused, and a refusal leaves no trace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dtmarl.testing import spaces, trees
from dtmarl.testing.episode import Actions, Env, follow, retrace
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting
from dtmarl.testing.values import kind_of

STRANGER = "no_such_agent"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Wrong actions for one step of the reference episode."""

    what: str
    agent: Any
    step: int
    actions: Actions


@rule
def rejects_nan(setting: Setting) -> str | None:
    """An action with a NaN is refused."""
    return _require_refusal(setting, _spoiled(setting, spaces.with_nan))


@rule
def rejects_wrong_shape(setting: Setting) -> str | None:
    """An action of the wrong shape is refused, even where it would broadcast."""
    return _require_refusal(setting, _spoiled(setting, spaces.with_wrong_shape))


@rule
def rejects_outside_discrete(setting: Setting) -> str | None:
    """A choice that a discrete space does not have is refused."""
    return _require_refusal(setting, _spoiled(setting, spaces.outside_discrete))


@rule
def rejects_unknown_agent(setting: Setting) -> str | None:
    """An action for an agent that does not exist is refused."""
    return _require_refusal(setting, _for_strangers(setting))


@rule
def rejects_absent_agent(setting: Setting) -> str | None:
    """An action for an agent that has not arrived, or has left, is refused."""
    return _require_refusal(setting, _for_absent(setting))


@rule
def rejects_missing_agent(setting: Setting) -> str | None:
    """Actions without one of the agents present are refused."""
    return _require_refusal(setting, _with_missing(setting))


@rule
def refusals_leave_no_trace(setting: Setting) -> str | None:
    """After wrong actions were refused, the episode goes on as if they had never come."""
    refused = 0
    for case in _all_cases(setting):
        with setting.opened() as env:
            _play_up_to(env, setting, case.step)
            if _accepts(env, case):
                continue
            refused += 1
            what = f"after actions were refused for agent {case.agent!r}: {case.what}"
            follow(env, setting.reference, what, start=case.step)
    return None if refused else "no wrong actions were refused"


def _require_refusal(setting: Setting, cases: Iterator[Case]) -> str | None:
    tried = 0
    for tried, case in enumerate(cases, start=1):  # noqa: B007 the count outlives the loop
        with setting.opened() as env:
            _play_up_to(env, setting, case.step)
            if _accepts(env, case):
                raise Violation(
                    agent=case.agent,
                    step=case.step,
                    expected=f"an exception for wrong actions: {case.what}",
                    found="none",
                )
    return None if tried else "no such action is possible here"


def _accepts(env: Env, case: Case) -> bool:
    try:
        env.step(trees.copied(case.actions))
    except Exception:
        return False
    return True


def _play_up_to(env: Env, setting: Setting, step: int) -> None:
    for _ in itertools.islice(retrace(env, setting.reference, "in a second instance"), step):
        pass


def _all_cases(setting: Setting) -> Iterator[Case]:
    return itertools.chain(
        _spoiled(setting, spaces.with_nan),
        _spoiled(setting, spaces.with_wrong_shape),
        _spoiled(setting, spaces.outside_discrete),
        _for_strangers(setting),
        _for_absent(setting),
        _with_missing(setting),
    )


def _middle(setting: Setting) -> tuple[int, Actions]:
    steps = setting.reference.steps
    if len(steps) < 2:
        raise Violation(expected="agents that act", found="none after reset", step=0)
    step = steps[max(1, len(steps) // 3)]
    return step.index, step.actions


def _spoiled(setting: Setting, spoil: spaces.Spoil) -> Iterator[Case]:
    index, actions = _middle(setting)
    one_of_each_kind = {kind_of(agent): agent for agent in actions}.values()
    with setting.opened() as env:
        action_spaces = {agent: env.action_space(agent) for agent in one_of_each_kind}
    for agent, space in action_spaces.items():
        for what, wrong in spaces.spoiled(space, actions[agent], spoil):
            yield Case(what=what, agent=agent, step=index, actions={**actions, agent: wrong})


def _for_strangers(setting: Setting) -> Iterator[Case]:
    index, actions = _middle(setting)
    extra = next(iter(actions.values()))
    yield Case(
        what="an agent that does not exist",
        agent=STRANGER,
        step=index,
        actions={**actions, STRANGER: extra},
    )


def _for_absent(setting: Setting) -> Iterator[Case]:
    seen: set[Any] = set()
    tried: set[str] = set()
    with setting.opened() as env:
        for step in setting.reference.steps[1:]:
            seen.update(step.before)
            for agent in step.possible:
                what = "an agent that has left" if agent in seen else "an agent not arrived"
                if agent in step.before or what in tried:
                    continue
                tried.add(what)
                space = env.action_space(agent)
                action = spaces.corner(space, lambda shape: False)
                wrong = {**step.actions, agent: action}
                yield Case(what=what, agent=agent, step=step.index, actions=wrong)


def _with_missing(setting: Setting) -> Iterator[Case]:
    index, actions = _middle(setting)
    for agent in {next(iter(actions)): None, next(reversed(actions)): None}:
        fewer = {name: action for name, action in actions.items() if name != agent}
        yield Case(what="no action for this agent", agent=agent, step=index, actions=fewer)
