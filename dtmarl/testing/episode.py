"""Play an episode, write it down, and play it again holding every value against the record."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from pettingzoo import ParallelEnv

from dtmarl.testing import spaces, trees
from dtmarl.testing.outcome import Violation

Style = Literal["random", "low", "high", "corners"]
Env: TypeAlias = "ParallelEnv[Any, Any, Any]"
Actions: TypeAlias = "dict[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one call of `step` was given and gave; `index` 0 is the reset."""

    index: int
    actions: Actions
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    possible: tuple[Any, ...]
    observations: Any
    infos: Any
    rewards: Any = field(default_factory=dict)
    terminations: Any = field(default_factory=dict)
    truncations: Any = field(default_factory=dict)

    def of(self, dictionary: Any, agent: Any) -> Any:
        """An agent's value in one of the returned dicts, or None where there is none."""
        return dictionary.get(agent) if isinstance(dictionary, dict) else None

    def is_done(self, agent: Any) -> bool:
        """Whether this step marks the agent terminated or truncated."""
        return bool(self.of(self.terminations, agent) or self.of(self.truncations, agent))

    def compared(self) -> dict[str, Any]:
        """What has to be identical when the step is repeated."""
        return {
            "agents": list(self.after),
            "observations": self.observations,
            "rewards": self.rewards,
            "terminations": self.terminations,
            "truncations": self.truncations,
            "infos": trees.numeric_leaves(self.infos),
        }


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A recorded episode; `seed` is what the reset was given."""

    seed: int | None
    steps: tuple[Step, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the episode ended, rather than the recording."""
        return not self.steps[-1].after


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Draws actions: each agent has its own space and stream, so no order of agents matters."""

    env: Env
    seed: int
    style: Style
    _spaces: dict[Any, spaces.AnySpace] = field(default_factory=dict)
    _streams: dict[Any, np.random.Generator] = field(default_factory=dict)

    def draw(self, step: Step) -> Actions:
        """An action for every agent present after the step."""
        return {agent: self._draw_one(agent, step) for agent in step.after}

    def _draw_one(self, agent: Any, step: Step) -> Any:
        if agent not in self._spaces:
            entropy = zlib.crc32(f"{self.seed}/{agent}".encode())
            self._spaces[agent] = copy.deepcopy(self.env.action_space(agent))
            self._spaces[agent].seed(entropy)
            self._streams[agent] = np.random.default_rng(entropy)
        space, stream = self._spaces[agent], self._streams[agent]
        for told in (step.of(step.observations, agent), step.of(step.infos, agent)):
            if isinstance(told, dict) and "action_mask" in told:
                return space.sample(mask=told["action_mask"])
        if self.style == "random":
            return space.sample()
        if self.style == "corners":
            return spaces.corner(space, lambda shape: stream.random(shape) < 0.5)
        return spaces.corner(space, lambda shape: np.full(shape, self.style == "high"))


def begin(env: Env, seed: int | None) -> Step:
    """Reset the environment; the step holds what it returned, uncopied."""
    outcome = env.reset(seed=seed)
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise Violation(expected="reset to return two dicts", found=f"{outcome!r:.200}", step=0)
    return Step(
        index=0,
        actions={},
        before=(),
        after=tuple(env.agents),
        possible=tuple(env.possible_agents),
        observations=outcome[0],
        infos=outcome[1],
    )


def advance(env: Env, index: int, actions: Actions, what: str = "at any time") -> Step:
    """Step the environment; the step holds what it was given and returned, uncopied.

    Raises:
        Violation: the environment raises, or returns no five things; `what` is the circumstance.
    """
    before = tuple(env.agents)
    try:
        outcome = env.step(actions)
    except Exception as error:
        raise Violation(
            expected=f"step to accept actions from the agents' spaces {what}",
            found=f"{type(error).__name__}: {error}",
            step=index,
        ) from error
    if not isinstance(outcome, tuple) or len(outcome) != 5:
        raise Violation(expected="step to return five dicts", found=f"{outcome!r:.200}", step=index)
    return Step(
        index=index,
        actions=actions,
        before=before,
        after=tuple(env.agents),
        possible=tuple(env.possible_agents),
        observations=outcome[0],
        rewards=outcome[1],
        terminations=outcome[2],
        truncations=outcome[3],
        infos=outcome[4],
    )


def _snapshot(step: Step, actions: Actions) -> Step:
    return replace(
        step,
        actions=actions,
        observations=trees.copied(step.observations),
        rewards=trees.copied(step.rewards),
        terminations=trees.copied(step.terminations),
        truncations=trees.copied(step.truncations),
        infos=trees.copied(step.infos),
    )


def play(
    env: Env, seed: int | None, *, action_seed: int, max_steps: int, style: Style = "random"
) -> Iterator[tuple[Step, Actions]]:
    """Play until no agents are left, or `max_steps`: each step, uncopied, and the actions drawn."""
    actor = Actor(env=env, seed=action_seed, style=style)
    step = begin(env, seed)
    yield step, {}
    while step.after and step.index < max_steps:
        actions = actor.draw(step)
        step = advance(env, step.index + 1, trees.copied(actions))
        yield step, actions


def record(
    env: Env, seed: int | None, *, action_seed: int, max_steps: int, style: Style = "random"
) -> Trajectory:
    """Play an episode, as `play` does, and copy everything down."""
    played = play(env, seed, action_seed=action_seed, max_steps=max_steps, style=style)
    return Trajectory(seed=seed, steps=tuple(_snapshot(*each) for each in played))


def retrace(
    env: Env,
    trajectory: Trajectory,
    what: str,
    *,
    start: int = 0,
    arrange: Callable[[Actions], Actions] = dict,
) -> Iterator[Step]:
    """Repeat a recorded episode from step `start`, comparing each step and then yielding it.

    The yielded step is the environment's own, uncopied, so that the caller may disturb it.

    Args:
        env: the environment, fresh if `start` is 0, else just after step `start - 1`.
        trajectory: the record.
        what: the circumstance, for the message: "in a second instance".
        start: the first step to repeat; 0 is the reset.
        arrange: applied to each dict of actions first.

    Raises:
        Violation: at the first value that differs from the record.
    """
    for wanted in trajectory.steps[start:]:
        if wanted.index == 0:
            step = begin(env, trajectory.seed)
        else:
            step = advance(env, wanted.index, arrange(trees.copied(wanted.actions)), what)
        found = trees.difference(wanted.compared(), step.compared())
        if found is not None:
            path, expected, came = found
            if path[0] == "infos" and len(path) > 1:
                path = (path[0], *path[1])
            names_agent = len(path) > 1 and path[0] != "agents"
            raise Violation(
                agent=path[1] if names_agent else None,
                step=wanted.index,
                expected=f"{trees.written(path)} as first recorded, {expected}, {what}",
                found=came,
            )
        yield step


def follow(env: Env, trajectory: Trajectory, what: str, *, start: int = 0) -> None:
    """Repeat a recorded episode to its end; see `retrace`."""
    for _ in retrace(env, trajectory, what, start=start):
        pass
