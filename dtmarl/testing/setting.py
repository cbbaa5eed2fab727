"""What the rules are run on: where environments come from, and the episodes recorded of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dtmarl.testing.episode import Env, Step, Style, Trajectory, record

STYLES: tuple[Style, ...] = ("random", "low", "high", "corners")


@dataclass(frozen=True)
class Setting:
    """What the rules are run on.

    Attributes:
        make_env: builds the environment. If it returns one and the same object each time, the
            rules work on deep copies of it.
        seed: seeds of episodes and actions count up from here.
        episodes: episodes over which an observation element has to change.
        max_steps: an episode has to end within this many steps.
        constant_observations: kind of agent → indices of elements of its flattened observation
            that may be constant, besides those in `metadata["constant_observations"]`.

    Raises:
        ValueError: a count is out of range, or `make_env` is not a function that returns an
            environment, new or at least one that can be copied.
    """

    make_env: Callable[[], Env]
    seed: int = 0
    episodes: int = 40
    max_steps: int = 1000
    constant_observations: Mapping[str, Collection[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.make_env):
            raise ValueError(
                "make_env: expected a function that returns an environment, "
                f"got {type(self.make_env).__name__}"
            )
        for name, least in (("seed", 0), ("episodes", 1), ("max_steps", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        object.__setattr__(self, "make_env", self._distinct())

    def _distinct(self) -> Callable[[], Env]:
        first, second = self.make_env(), self.make_env()
        for member in ("reset", "step", "possible_agents"):
            if not hasattr(first, member):
                raise ValueError(
                    f"make_env: expected it to return a ParallelEnv, got {type(first).__name__} "
                    f"without {member!r}"
                )
        if first is not second:
            for env in (first, second):
                _close(env)
            return self.make_env
        try:
            pristine = copy.deepcopy(first)
        except Exception as error:
            raise ValueError(
                "make_env: expected a new environment at each call, "
                f"got the same one, which cannot be copied ({error})"
            ) from error
        return lambda: copy.deepcopy(pristine)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Env]:
        """A new environment, closed afterwards."""
        env = self.make_env()
        try:
            yield env
        finally:
            _close(env)

    def record(self, offset: int = 0, style: Style = "random") -> Trajectory:
        """An episode of a new environment with seed `seed + offset`."""
        seed = self.seed + offset
        with self.opened() as env:
            return record(env, seed, action_seed=seed, max_steps=self.max_steps, style=style)

    @cached_property
    def reference(self) -> Trajectory:
        """The episode of the first seed under random actions."""
        return self.record()

    @cached_property
    def recordings(self) -> tuple[Trajectory, ...]:
        """An episode for each style of acting, each with its own seed; the reference first."""
        others = (self.record(i, style) for i, style in enumerate(STYLES[1:], start=1))
        return (self.reference, *others)

    def recorded_steps(self) -> Iterator[Step]:
        """All steps of the recordings, resets included."""
        for trajectory in self.recordings:
            yield from trajectory.steps


def _close(env: Env) -> None:
    # A close that raises is the business of the rule `close` alone.
    with contextlib.suppress(Exception):
        env.close()
