"""Rules on comings and goings: how an episode ends, how agents leave and arrive."""

from __future__ import annotations

from typing import Any

from dtmarl.testing import trees
from dtmarl.testing.episode import Actions, Env, follow
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting


@rule
def ends(setting: Setting) -> None:
    """An episode ends within `max_steps`, with every agent terminated or truncated."""
    for trajectory in setting.recordings:
        last = trajectory.steps[-1]
        if not trajectory.is_complete:
            raise Violation(
                step=last.index,
                expected=f"no agents left after at most {setting.max_steps} steps",
                found=repr(list(last.after)),
            )
        for agent in last.before:
            if not last.is_done(agent):
                raise Violation(
                    agent=agent,
                    step=last.index,
                    expected="termination or truncation in the last step",
                    found="neither",
                )


@rule
def step_after_end(setting: Setting) -> str | None:
    """A step after the end raises or returns nothing for nobody; it does not go on."""
    if not setting.reference.is_complete:
        return f"no end within {setting.max_steps} steps"
    last = setting.reference.steps[-1]
    with setting.opened() as env:
        follow(env, setting.reference, "in a second instance")
        given: list[Actions] = [{}, trees.copied(last.actions)]
        for actions in given:
            found = _what_follows_the_end(env, actions)
            if found is not None:
                raise Violation(
                    step=last.index + 1,
                    expected="an exception, or five empty dicts, after the end",
                    found=found,
                )
    return None


def _what_follows_the_end(env: Env, actions: Actions) -> str | None:
    try:
        result = env.step(actions)
    except Exception:
        result = ({},) * 5
    if result != ({},) * 5:
        return f"{result!r:.200}"
    return f"agents {list(env.agents)}" if env.agents else None


@rule
def departures(setting: Setting) -> None:
    """An agent leaves `agents` in the step that marks it done, and in no other."""
    for step in setting.recorded_steps():
        for agent in step.before if step.after else ():
            if step.is_done(agent) != (agent not in step.after):
                raise Violation(
                    agent=agent,
                    step=step.index,
                    expected="an agent to be done exactly when it leaves agents",
                    found=f"done: {step.is_done(agent)}, still in agents: {agent in step.after}",
                )


@rule
def no_return(setting: Setting) -> None:
    """An agent that has left does not come back within the episode."""
    for trajectory in setting.recordings:
        left: dict[Any, int] = {}
        for step in trajectory.steps:
            for agent in step.after:
                if agent in left:
                    raise Violation(
                        agent=agent,
                        step=step.index,
                        expected=f"an agent that left in step {left[agent]} to stay away",
                        found="it in agents",
                    )
            left.update((a, step.index) for a in step.before if a not in step.after)


@rule
def arrivals(setting: Setting) -> str | None:
    """An agent that arrives is neither done nor rewarded yet: it has not acted."""
    arrived = False
    for step in setting.recorded_steps():
        for agent in step.after if step.index else ():
            if agent in step.before:
                continue
            arrived = True
            reward = step.of(step.rewards, agent) or 0.0
            if reward != 0.0 or step.is_done(agent):
                raise Violation(
                    agent=agent,
                    step=step.index,
                    expected="an arriving agent with reward 0 and not done",
                    found=f"reward {reward!r}, done: {step.is_done(agent)}",
                )
    return None if arrived else "no agent arrived"
