"""Two environments that keep every rule of the conformance kit, and one planted fault a class.

`FAULTS` pairs each fault with the one rule that has to catch it. `FAR_REACHING` holds faults that
several rules catch.
"""

import copy
import math
import random
import sys
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from pettingzoo import ParallelEnv

CENTRE = np.zeros(2)


class Meadow(ParallelEnv):
    """Walkers on a meadow and its gate: walker_3 arrives late, walker_0 leaves early."""

    metadata: ClassVar = {
        "name": "meadow_v0",
        "render_modes": ["rgb_array"],
        "constant_observations": {"walker": [4]},
    }
    last_step = 12

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode
        self.possible_agents = ["gate_0", "walker_0", "walker_1", "walker_2", "walker_3"]
        self.agents = []
        box = Box(-10.0, 10.0, (5,), np.float32)
        self._observation_spaces = dict.fromkeys(self.possible_agents, box)
        self._action_spaces = {
            name: Discrete(3) if name == "gate_0" else Box(-1.0, 1.0, (2,), np.float32)
            for name in self.possible_agents
        }
        self.state_space = Box(-10.0, 10.0, (10,), np.float32)
        self._rng = np.random.default_rng()
        self.is_closed = False

    def observation_space(self, agent):
        return self._observation_spaces[agent]

    def action_space(self, agent):
        return self._action_spaces[agent]

    def reset(self, seed=None, options=None):
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._time = 0
        self._places = {name: self._rng.uniform(-1, 1, 2) for name in self.possible_agents}
        self._effort = dict.fromkeys(self.possible_agents, 0.0)
        self._arrival = int(self._rng.integers(2, 4))
        self._departure = int(self._rng.integers(6, 9))
        self.agents = [name for name in self.possible_agents if name != "walker_3"]
        return self._observe_all(self.agents), self._inform_all(self.agents)

    def step(self, actions):
        if not self.agents:
            raise RuntimeError("the episode is over: call reset")
        self._check(actions)
        before = self.agents
        self._time += 1
        for name in before:
            self._move(name, actions[name])
        self.agents = self._present(before)
        everyone = [*before, *(name for name in self.agents if name not in before)]
        is_over = self._time >= self.last_step
        observations = self._observe_all(everyone)
        rewards = {name: self._reward(name, name in before) for name in everyone}
        terminations = {name: self._is_leaving(name) for name in everyone}
        truncations = dict.fromkeys(everyone, is_over)
        if is_over:
            self.agents = []
        return observations, rewards, terminations, truncations, self._inform_all(everyone)

    def state(self):
        everywhere = np.concatenate([*self._places.values()])
        return np.clip(everywhere, -10, 10).astype(np.float32)

    def render(self):
        frame = np.zeros((8, 8, 3), dtype=np.uint8)
        for x, y in self._places.values():
            frame[int(y + 4) % 8, int(x + 4) % 8] = 255
        return frame

    def close(self):
        self.is_closed = True

    def _check(self, actions):
        if set(actions) != set(self.agents):
            raise ValueError(f"expected actions for {self.agents}, got {list(actions)}")
        for name, action in actions.items():
            if not self._action_spaces[name].contains(action):
                raise ValueError(f"expected an action of {name}'s space, got {action}")

    def _move(self, name, action):
        action = action / 2 if name == "gate_0" else action
        self._effort[name] = float(np.linalg.norm(action))
        moved = self._places[name] + 0.1 * action + 0.01 * self._rng.normal(size=2)
        self._places[name] = np.clip(moved, -9, 9)

    def _is_leaving(self, name):
        return name == "walker_0" and self._time == self._departure

    def _present(self, before):
        return [
            name
            for name in self.possible_agents
            if (name in before or (name == "walker_3" and self._time == self._arrival))
            and not self._is_leaving(name)
        ]

    def _reward(self, name, has_acted):
        return float(-np.abs(self._places[name]).sum()) if has_acted else 0.0

    def _observe(self, name):
        x, y = self._places[name]
        kind = 1.0 if name.startswith("walker") else math.sin(self._time)
        clock = self._time / self.last_step
        return np.array([x, y, clock, self._effort[name], kind], dtype=np.float32)

    def _observe_all(self, names):
        return {name: self._observe(name) for name in names}

    def _inform_all(self, names):
        return {name: {"time": self._time, "at": self._places[name].copy()} for name in names}


class Workshop(ParallelEnv):
    """Nested observation and action spaces, an action mask, no arrivals, state or frames."""

    metadata: ClassVar = {"name": "workshop_v0", "render_modes": []}

    def __init__(self):
        self.possible_agents = ["smith_0", "smith_1", "clerk_0"]
        self.agents = []
        smith = Dict({"heat": Box(0, 1, (2,), np.float64), "tools": MultiBinary(3)})
        clerk = Dict(
            {
                "desk": Tuple((Discrete(100), MultiDiscrete([50, 50]))),
                "action_mask": Box(0, 1, (4,), np.int8),
            }
        )
        self._observation_spaces = {"smith_0": smith, "smith_1": smith, "clerk_0": clerk}
        self._action_spaces = {
            "smith_0": Dict({"hit": Tuple((Box(0, np.inf, (), np.float32), Discrete(2)))}),
            "smith_1": MultiDiscrete([3, 4]),
            "clerk_0": Discrete(4),
        }

    def observation_space(self, agent):
        return self._observation_spaces[agent]

    def action_space(self, agent):
        return self._action_spaces[agent]

    def reset(self, seed=None, options=None):
        if seed is not None or not hasattr(self, "_rng"):
            self._rng = np.random.default_rng(seed)
        self._time = 0
        self.agents = list(self.possible_agents)
        return self._observe(), {name: {} for name in self.agents}

    def step(self, actions):
        if not self.agents:
            return {}, {}, {}, {}, {}
        if set(actions) != set(self.agents):
            raise ValueError("actions for others than the agents")
        for name, action in actions.items():
            values = list(_flat(action))
            if not self._action_spaces[name].contains(action) or not np.isfinite(values).all():
                raise ValueError("not in the action space")
        if not self._mask[actions["clerk_0"]]:
            raise ValueError("masked")
        self._time += 1
        results = (
            self._observe(),
            {name: float(np.sum(list(_flat(actions[name])))) for name in self.agents},
            dict.fromkeys(self.agents, self._time == 6),
            dict.fromkeys(self.agents, False),
            {
                name: {"comment": object(), "nested": {"count": [self._time]}}
                for name in self.agents
            },
        )
        if self._time == 6:
            self.agents = []
        return results

    def _observe(self):
        self._mask = self._rng.integers(0, 2, 4).astype(np.int8)
        self._mask[self._rng.integers(4)] = 1
        desk = (int(self._rng.integers(100)), self._rng.integers(0, 50, 2))
        smiths = {
            name: {
                "heat": self._rng.random(2),
                "tools": self._rng.integers(0, 2, 3).astype(np.int8),
            }
            for name in self.possible_agents[:2]
        }
        return {**smiths, "clerk_0": {"desk": desk, "action_mask": self._mask.copy()}}


def _flat(action):
    if isinstance(action, dict):
        action = tuple(action.values())
    if isinstance(action, tuple):
        for part in action:
            yield from _flat(part)
    else:
        yield from np.ravel(action)


class Nameless(Meadow):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "constant_observations": {"walker": [4]}}


class Miscounted(Meadow):
    @property
    def max_num_agents(self):
        return 99


class UnlistedRenderMode(Meadow):
    metadata: ClassVar = {**Meadow.metadata, "render_modes": ["human"]}


class SpaceMadeAnew(Meadow):
    def action_space(self, agent):
        return copy.deepcopy(self._action_spaces[agent])


class SpacesMadeAnewAtReset(Meadow):
    def reset(self, seed=None, options=None):
        self._observation_spaces = copy.deepcopy(self._observation_spaces)
        return super().reset(seed)


class ShuffledAgents(Meadow):
    def _present(self, before):
        return super()._present(before)[::-1]


class ReordersAtReset(Meadow):
    def reset(self, seed=None, options=None):
        self.possible_agents = sorted(self.possible_agents, reverse=True)
        return super().reset(seed)


class DoubledAgent(Meadow):
    def __init__(self):
        super().__init__()
        self.possible_agents = [*self.possible_agents, "walker_1"]

    def _present(self, before):
        return list(dict.fromkeys(super()._present(before)))

    def reset(self, seed=None, options=None):
        super().reset(seed)
        self.agents = list(dict.fromkeys(self.agents))
        return self._observe_all(self.agents), self._inform_all(self.agents)


class ResetWithoutInfo(Meadow):
    def reset(self, seed=None, options=None):
        observations, infos = super().reset(seed)
        del infos["walker_2"]
        return observations, infos


class ResetWithAbsent(Meadow):
    def reset(self, seed=None, options=None):
        observations, infos = super().reset(seed)
        return {**observations, "walker_3": self._observe("walker_3")}, infos


class ResetWithTextAsInfo(Meadow):
    def reset(self, seed=None, options=None):
        observations, infos = super().reset(seed)
        return observations, {**infos, "walker_1": "ready"}


class CommonInfo(Meadow):
    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {**infos, "common": {}}


class UnannouncedArrival(Meadow):
    def step(self, actions):
        before = self.agents
        observations, *rest = super().step(actions)
        return {name: observations[name] for name in before}, *rest


class NoFinalObservation(Meadow):
    def step(self, actions):
        observations, *rest = super().step(actions)
        return {k: v for k, v in observations.items() if not self._is_leaving(k)}, *rest


class IntegerReward(Meadow):
    def _reward(self, name, has_acted):
        return int(super()._reward(name, has_acted))


class InfiniteReward(Meadow):
    def _reward(self, name, has_acted):
        return math.inf if self._time == 4 and has_acted else super()._reward(name, has_acted)


class IntegerFlag(Meadow):
    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        truncations = {name: int(flag) for name, flag in truncations.items()}
        return observations, rewards, terminations, truncations, infos


class NoInfo(Meadow):
    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, dict.fromkeys(infos)


class DoublePrecision(Meadow):
    def _observe(self, name):
        return super()._observe(name).astype(np.float64)


class OutsideAtCorners(Meadow):
    def _observe(self, name):
        observation = super()._observe(name)
        if name != "gate_0" and self._effort[name] > 1.414:
            observation[3] = 11.0
        return observation


class NanAtEnd(Meadow):
    def _observe(self, name):
        observation = super()._observe(name)
        if self._time == self.last_step:
            observation[0] = np.nan
        return observation


class ConstantElement(Meadow):
    def _observe(self, name):
        observation = super()._observe(name)
        observation[3] = 0.25
        return observation


class ConstantPerAgent(Meadow):
    def _observe(self, name):
        observation = super()._observe(name)
        observation[2] = int(name[-1])
        return observation


class WrongState(Meadow):
    def state(self):
        return super().state().astype(np.float64)


class StateInPlace(Meadow):
    def state(self):
        self._buffer = getattr(self, "_buffer", np.empty(10, np.float32))
        self._buffer[:] = super().state()
        return self._buffer


class StatesInRotation(Meadow):
    def state(self):
        self._ring = getattr(self, "_ring", [np.empty(10, np.float32) for _ in range(3)])
        self._ring = [*self._ring[1:], self._ring[0]]
        self._ring[0][:] = super().state()
        return self._ring[0]


class NoisyState(Meadow):
    def state(self):
        noise = np.random.default_rng().normal(size=10)
        return (super().state() + 0.1 * noise).astype(np.float32)


class StateDrawsNumbers(Meadow):
    def state(self):
        state = super().state()
        self._rng.bit_generator.advance(1)
        return state


class FloatFrame(Meadow):
    def render(self):
        return super().render() / 255


class RenderDrawsNumbers(Meadow):
    def render(self):
        self._rng.random()
        return super().render()


class LeftOver(Meadow):
    _wind = 0.0

    def reset(self, seed=None, options=None):
        result = super().reset(seed)
        self._wind = self._wind * 0.5
        return result

    def _move(self, name, action):
        super()._move(name, action)
        self._wind += 0.001
        self._places[name] += self._wind


class LeftOverWhenCutShort(Meadow):
    _wind = 0.0

    def _move(self, name, action):
        super()._move(name, action)
        self._wind = (self._wind + 0.001) if self._time < self.last_step else 0.0
        self._places[name] += self._wind


class DeafToSeeds(Meadow):
    def reset(self, seed=None, options=None):
        return super().reset(None if seed is None else 0)


class RepeatsLastSeed(Meadow):
    def reset(self, seed=None, options=None):
        self._last_seed = getattr(self, "_last_seed", 0) if seed is None else seed
        return super().reset(self._last_seed)


class FreshEntropyWhenUnseeded(Meadow):
    def reset(self, seed=None, options=None):
        if seed is None:
            self._rng = np.random.default_rng()
        return super().reset(seed)


class SharedByClass(Meadow):
    gain = 0.0

    def reset(self, seed=None, options=None):
        result = super().reset(seed)
        SharedByClass.gain = self._rng.random()
        return result

    def _reward(self, name, has_acted):
        return super()._reward(name, has_acted) * SharedByClass.gain


class OrderMatters(Meadow):
    def step(self, actions):
        observations, rewards, *rest = super().step(actions)
        rewards[next(iter(actions))] -= 1.0
        return observations, rewards, *rest


class PickleLosesStream(Meadow):
    def __getstate__(self):
        return {**self.__dict__, "_rng": np.random.default_rng(0)}

    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin


class Unpicklable(Meadow):
    def __reduce__(self):
        raise TypeError("cannot pickle")

    __deepcopy__ = PickleLosesStream.__deepcopy__


class DeepCopySharesStream(Meadow):
    def __deepcopy__(self, memo):
        memo[id(self._rng)] = self._rng
        return PickleLosesStream.__deepcopy__(self, memo)


class TouchesGlobalNumpy(Meadow):
    def _move(self, name, action):
        super()._move(name, action)
        np.random.random()  # noqa: NPY002 the planted fault


class SeedsGlobalRandomWhenMade(Meadow):
    def __init__(self):
        super().__init__()
        np.random.seed(0)  # noqa: NPY002 the planted fault


class SeedsGlobalRandomAtReset(Meadow):
    def reset(self, seed=None, options=None):
        random.seed(0)
        return super().reset(seed)


class ReadsGlobalRandom(Meadow):
    def _reward(self, name, has_acted):
        word = np.random.get_state()[1][0]  # noqa: NPY002 the planted fault
        return super()._reward(name, has_acted) * (1.0 + int(word) % 1000)


class ObservationInPlace(Meadow):
    def _observe(self, name):
        self._buffers = getattr(self, "_buffers", {})
        buffer = self._buffers.setdefault(name, np.empty(5, np.float32))
        buffer[:] = super()._observe(name)
        return buffer


class ObservationsInRotation(Meadow):
    def _observe(self, name):
        self._ring = getattr(self, "_ring", np.empty((3, 5, 5), np.float32))
        buffer = self._ring[self._time % 3, self.possible_agents.index(name)]
        buffer[:] = super()._observe(name)
        return buffer


class OneObservationForTwo(Meadow):
    def _observe_all(self, names):
        observations = super()._observe_all(names)
        return {**observations, "walker_2": observations["walker_1"]}


class KeepsObservations(Meadow):
    def _observe_all(self, names):
        self._returned = super()._observe_all(names)
        return dict(self._returned)

    def _move(self, name, action):
        super()._move(name, action)
        self._places[name] += 0.01 * self._returned[name][:2]


class KeepsInfos(Meadow):
    def _inform_all(self, names):
        self._returned = super()._inform_all(names)
        return self._returned

    def _move(self, name, action):
        super()._move(name, action)
        self._places[name] += 0.001 * self._returned.get(name, {"time": 99})["time"]


class KeepsActions(Meadow):
    def reset(self, seed=None, options=None):
        self._kept = {}
        return super().reset(seed)

    def step(self, actions):
        result = super().step(actions)
        self._kept = dict(actions)
        return result

    def _move(self, name, action):
        super()._move(name, action)
        self._places[name] += 0.01 * self._kept.get(name, CENTRE)


class AltersActions(Meadow):
    def _move(self, name, action):
        if name != "gate_0":
            action *= 0.5
        super()._move(name, action)


class AltersActionDict(Meadow):
    def step(self, actions):
        result = super().step(actions)
        actions.pop("gate_0")
        return result


class TakesNan(Meadow):
    def step(self, actions):
        return super().step({k: np.nan_to_num(v) for k, v in actions.items()})


class Broadcasts(Meadow):
    def step(self, actions):
        actions = {
            name: action if name == "gate_0" else np.resize(action, 2)
            for name, action in actions.items()
        }
        return super().step(actions)


class ClipsChoices(Meadow):
    def step(self, actions):
        gate = actions.get("gate_0")
        if np.ndim(gate) == 0 and gate is not None:
            actions = {**actions, "gate_0": np.clip(gate, 0, 2)}
        return super().step(actions)


class IgnoresStrangers(Meadow):
    def step(self, actions):
        return super().step({k: v for k, v in actions.items() if k in self.possible_agents})


class IgnoresAbsent(Meadow):
    def step(self, actions):
        absent = set(self.possible_agents) - set(self.agents)
        return super().step({k: v for k, v in actions.items() if k not in absent})


class FillsIn(Meadow):
    def step(self, actions):
        idle = {name: np.zeros(2, np.float32) for name in self.agents}
        return super().step({**idle, "gate_0": 0, **actions} if self.agents else actions)


class RefusesTooLate(Meadow):
    def _check(self, actions):
        self._rng.random()
        places = copy.deepcopy(self._places)
        super()._check(actions)
        self._places = places


class ForgetsOnRefusal(Meadow):
    def _check(self, actions):
        try:
            super()._check(actions)
        except ValueError:
            self._effort = dict.fromkeys(self.possible_agents, 0.0)
            self._time = 0
            raise


class Endless(Meadow):
    last_step = 10**9


class EndsUnsaid(Meadow):
    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        return observations, rewards, terminations, dict.fromkeys(truncations, False), infos


class GoesOnAfterEnd(Meadow):
    def step(self, actions):
        if self.agents:
            return super().step(actions)
        observations = self._observe_all(actions)
        flags = dict.fromkeys(actions, True)
        return observations, dict.fromkeys(actions, 0.0), flags, flags, self._inform_all(actions)


class StartsAgainAfterEnd(Meadow):
    def step(self, actions):
        if not self.agents:
            self.reset()
            return {}, {}, {}, {}, {}
        return super().step(actions)


class NothingAfterEnd(Meadow):
    def step(self, actions):
        return super().step(actions) if self.agents else None


class LeavesUnsaid(Meadow):
    def step(self, actions):
        observations, rewards, terminations, *rest = super().step(actions)
        return observations, rewards, dict.fromkeys(terminations, False), *rest


class DoneButStays(Meadow):
    def _present(self, before):
        return [name for name in self.possible_agents if name in before or self._arrives(name)]

    def _arrives(self, name):
        return name == "walker_3" and self._time == self._arrival


class ComesBack(Meadow):
    def _present(self, before):
        present = super()._present(before)
        if self._time == self._departure + 2:
            present = [name for name in self.possible_agents if name in (*present, "walker_0")]
        return present


class RewardsArrival(Meadow):
    def _reward(self, name, has_acted):
        return super()._reward(name, has_acted) if has_acted else 1.0


class ArrivesDone(Meadow):
    def step(self, actions):
        before = self.agents
        observations, rewards, terminations, truncations, infos = super().step(actions)
        terminations = {name: name not in before or flag for name, flag in terminations.items()}
        return observations, rewards, terminations, truncations, infos


class ClosesOnce(Meadow):
    def close(self):
        if self.is_closed:
            raise RuntimeError("closed already")
        super().close()


class ClosesAfterReset(Meadow):
    def close(self):
        del self._places


class RefusesOptions(Meadow):
    def reset(self, seed=None, options=None):
        if options:
            raise ValueError(f"unknown options {options}")
        return super().reset(seed)


class TouchesGlobalTorch(Meadow):
    def _move(self, name, action):
        super()._move(name, action)
        sys.modules["torch"].rand(1)


class SpacesOfThosePresent(Meadow):
    def observation_space(self, agent):
        return {name: self._observation_spaces[name] for name in self.agents}[agent]


class StepsToNothing(Meadow):
    def step(self, actions):
        return super().step(actions)[:4]


class DependsOnHash(Meadow):
    def _reward(self, name, has_acted):
        return super()._reward(name, has_acted) + (hash(name) % 1000 if has_acted else 0.0)


class OrderOfSet(Meadow):
    def _inform_all(self, names):
        return super()._inform_all(set(names))


class UnseededNoise(Meadow):
    def _move(self, name, action):
        super()._move(name, action)
        self._places[name] += np.random.default_rng().normal(size=2)


class GlobalNoise(Meadow):
    def _move(self, name, action):
        super()._move(name, action)
        self._places[name] += np.random.normal(size=2)  # noqa: NPY002 the planted fault


FAULTS = (
    ("metadata", Nameless),
    ("metadata", Miscounted),
    ("metadata", UnlistedRenderMode),
    ("spaces", SpaceMadeAnew),
    ("spaces", SpacesMadeAnewAtReset),
    ("agents", ShuffledAgents),
    ("agents", ReordersAtReset),
    ("agents", DoubledAgent),
    ("reset_result", ResetWithoutInfo),
    ("reset_result", ResetWithAbsent),
    ("reset_result", ResetWithTextAsInfo),
    ("step_result", CommonInfo),
    ("step_result", UnannouncedArrival),
    ("step_result", NoFinalObservation),
    ("step_types", IntegerReward),
    ("step_types", InfiniteReward),
    ("step_types", IntegerFlag),
    ("step_types", NoInfo),
    ("ends", Endless),
    ("ends", EndsUnsaid),
    ("step_after_end", GoesOnAfterEnd),
    ("step_after_end", StartsAgainAfterEnd),
    ("step_after_end", NothingAfterEnd),
    ("departures", LeavesUnsaid),
    ("departures", DoneButStays),
    ("no_return", ComesBack),
    ("arrivals", RewardsArrival),
    ("arrivals", ArrivesDone),
    ("observations", DoublePrecision),
    ("observations", OutsideAtCorners),
    ("observations", NanAtEnd),
    ("constant_observations", ConstantElement),
    ("constant_observations", ConstantPerAgent),
    ("state", WrongState),
    ("state", StateInPlace),
    ("state", StatesInRotation),
    ("state", NoisyState),
    ("state", StateDrawsNumbers),
    ("render", FloatFrame),
    ("render", RenderDrawsNumbers),
    ("same_seed", LeftOver),
    ("same_seed", LeftOverWhenCutShort),
    ("different_seeds", DeafToSeeds),
    ("unseeded_reset", RepeatsLastSeed),
    ("unseeded_reset", FreshEntropyWhenUnseeded),
    ("instances", SharedByClass),
    ("action_order", OrderMatters),
    ("pickling", PickleLosesStream),
    ("pickling", Unpicklable),
    ("deep_copies", DeepCopySharesStream),
    ("global_random_kept", TouchesGlobalNumpy),
    ("global_random_kept", SeedsGlobalRandomWhenMade),
    ("global_random_kept", SeedsGlobalRandomAtReset),
    ("global_random_unused", ReadsGlobalRandom),
    ("fresh_observations", ObservationInPlace),
    ("fresh_observations", ObservationsInRotation),
    ("fresh_observations", OneObservationForTwo),
    ("results_not_kept", KeepsObservations),
    ("results_not_kept", KeepsInfos),
    ("actions_not_kept", KeepsActions),
    ("actions_unaltered", AltersActions),
    ("actions_unaltered", AltersActionDict),
    ("rejects_nan", TakesNan),
    ("rejects_wrong_shape", Broadcasts),
    ("rejects_outside_discrete", ClipsChoices),
    ("rejects_unknown_agent", IgnoresStrangers),
    ("rejects_absent_agent", IgnoresAbsent),
    ("rejects_missing_agent", FillsIn),
    ("refusals_leave_no_trace", ForgetsOnRefusal),
    ("close", ClosesOnce),
    ("close", ClosesAfterReset),
    ("pettingzoo_api_test", RefusesOptions),
)

FAR_REACHING = (
    ("spaces", SpacesOfThosePresent),
    ("step_result", StepsToNothing),
    ("same_seed", UnseededNoise),
    ("same_seed", GlobalNoise),
    ("global_random_kept", GlobalNoise),
    ("global_random_unused", GlobalNoise),
)
