"""Many environments at once: arrays instead of dicts, the same physics, NumPy or torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from dtmarl.accuracy import AccuracyEngine
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.envs.observation import Observations
from dtmarl.envs.simulation import Simulation
from dtmarl.envs.slot import engine_for
from dtmarl.frame.controller import Controller
from dtmarl.randomness import EnvironmentStreams, Streams
from dtmarl.types import Action, SlotOutcome, State

BACKENDS = ("numpy", "torch")
NOISES = ("pcg64", "counter")

Arrays = dict[str, Array]


class VectorEnv:
    """E environments in lockstep, each with its frame layer; see `dtmarl.vector_env`.

    Base stations' arrays are [E, M, …], users' [E, N, …]; absent users have zero observations and
    ignored actions. All agents of an environment share its reward. Episodes have one length, so
    that all environments end in the same step, which resets them: it returns the first
    observations of the new episodes, and the last of the old ones in `infos`.

    Args:
        config: the scenario.
        num_envs: E.
        controller: the frame layer, asked for all environments at once.
        accuracy: an accuracy engine or its name; None takes the scenario's.
        backend: ``"numpy"`` or ``"torch"``.
        device: of the torch backend.
        dtype: of the physics, ``"float32"`` or ``"float64"``; observations are float32.
        noise: ``"pcg64"`` for the numbers of `dtmarl.parallel_env`, ``"counter"`` (torch) for
            numbers that are made where they are used.
        compile: compile the torch backend's functions.

    Raises:
        ValueError: an argument is not one of these.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        num_envs: int,
        controller: Controller,
        *,
        accuracy: str | AccuracyEngine | None = None,
        backend: str = "numpy",
        device: str = "cpu",
        dtype: str | None = None,
        noise: str | None = None,
        compile: bool = False,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs: expected a whole number of at least 1, got {num_envs!r}")
        if backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {BACKENDS}, got {backend!r}")
        on_torch = backend == "torch"
        dtype = dtype or ("float32" if on_torch else "float64")
        noise = noise or ("counter" if on_torch else "pcg64")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
        if noise not in NOISES or (noise == "counter" and not on_torch):
            raise ValueError(
                f"noise: expected 'pcg64', or with torch one of {NOISES}, got {noise!r} with "
                f"backend {backend!r}"
            )
        if not on_torch and (device != "cpu" or compile or dtype != "float64"):
            raise ValueError(
                "device, compile, dtype: expected 'cpu', False and 'float64' with backend "
                f"'numpy', got {device!r}, {compile!r} and {dtype!r}"
            )
        self.config = config
        self.num_envs = int(num_envs)
        self.controller = controller
        self.slots_per_decision = controller.slots_per_decision(config)
        self.backend, self.device = backend, device
        self.layouts = Observations(config)
        m, n = config.num_base_stations, config.max_users
        self.single_observation_space = {
            "bs": Box(*self.layouts.bs.bounds, dtype=np.float32),
            "mu": Box(*self.layouts.mu.bounds, dtype=np.float32),
        }
        self.single_action_space = {
            "bs": Box(0.0, 1.0, shape=(n,), dtype=np.float32),
            "mu": Box(0.0, 1.0, shape=(1 + m,), dtype=np.float32),
        }
        self.action_shapes = {"bs": (self.num_envs, m, n), "mu": (self.num_envs, n, 1 + m)}
        if on_torch:
            from dtmarl.envs.torch_streams import check_device

            check_device(device)
        self._engine = engine_for(config, accuracy)
        if compile and not isinstance(self._engine, ProfileEngine):
            raise ValueError(
                "compile: expected False with an accuracy engine other than 'profile', got True"
            )
        self._dtype, self._noise, self._compile = dtype, noise, compile
        self._simulation: Simulation | None = None
        self._held: Action | None = None

    def reset(self, seed: int | Sequence[int] | None = None) -> tuple[Arrays, Arrays]:
        """Start new episodes in every environment.

        Args:
            seed: environment i gets seed + i, or the i-th of a sequence; None continues the
                present streams of numbers.

        Returns:
            Observations ``bs`` [E, M, …] and ``mu`` [E, N, …], and infos with ``mu_mask`` [E, N].

        Raises:
            ValueError: the seed is not one of these.
        """
        streams = None
        if self._simulation is None or seed is not None:
            streams = self._new_streams(self._seeds(seed))
        if self._simulation is None:
            self._simulation = self._new_simulation(streams)
        else:
            self._simulation.reset(streams)
        self._decide()
        return self._observations(), {"mu_mask": self._present()}

    def step(self, actions: Mapping[str, Array]) -> tuple[Arrays, Array, Array, Array, Arrays]:
        """Play one slot everywhere; a frame that begins is decided, an episode that ends reset.

        Args:
            actions: weights ``bs`` [E, M, N] and ``mu`` [E, N, 1 + M] of the backend; those
                outside [0, 1] are clipped.

        Returns:
            Observations; rewards [E]; terminated [E], always False; truncated [E], True at the
            time limit; infos. `infos` has ``mu_mask`` [E, N], users that the observations are of,
            ``mu_acted`` [E, N], users that the slot was of, and of the slot ``system_delay_s``
            [E], ``delay_s``, ``accuracy`` and ``breakout`` [E, N]. At the time limit it also has
            ``final_obs`` and ``final_mu_mask``, the old episodes' last observations.

        Raises:
            RuntimeError: before `reset`.
            ValueError: an action is missing, unknown, not finite, or of another shape, kind or
                backend. The environments are as before and can go on.
        """
        simulation = self._begun()
        action = self._packed(actions)
        if simulation.decision_due:  # the controller failed when it was asked
            self._decide()
            simulation.observe()  # what is known ahead begins with the decision
        if self.controller.holds_actions():
            # A copy, as the caller's arrays are the caller's.
            action = self._held = self._held or Action(*map(self._copy, action))
        outcome = simulation.play(action)
        infos = {
            "mu_acted": self._copy(outcome.present_mask),
            "system_delay_s": outcome.system_delay_s,
            "delay_s": outcome.delay_s + outcome.retrain_delay_s,
            "accuracy": outcome.accuracy,
            "breakout": outcome.breakout_mask,
        }
        over = simulation.over
        if over:
            # Nobody arrives or leaves as an episode ends: its last observations are of who acted.
            infos |= {
                "final_obs": self._observations(),
                "final_mu_mask": self._copy(outcome.present_mask),
            }
            simulation.reset()
        if simulation.decision_due:
            self._decide()
        infos["mu_mask"] = self._present()
        rewards = -outcome.system_delay_s / self.config.reference_delay_s
        truncated = self._flags(outcome, over)
        return self._observations(), rewards, self._flags(outcome, False), truncated, infos

    def sample_actions(self, seed: int | None = None) -> Arrays:
        """Uniform weights of every agent, in the backend's arrays.

        Args:
            seed: of the choice; None takes fresh entropy.
        """
        generator = np.random.default_rng(seed)
        drawn = {
            kind: generator.random(shape, dtype=np.float32)
            for kind, shape in self.action_shapes.items()
        }
        return {kind: self._to_backend(array) for kind, array in drawn.items()}

    def state(self) -> Array:
        """The twins' whole states for centralised critics, [E, state.size] float32."""
        return self.layouts.global_state(self._begun().state)

    @property
    def snapshot(self) -> State:
        """The true states, for analysis and oracles; no decision may read them."""
        return self._begun().state

    def _new_streams(self, seeds: list[int | None]) -> Streams:
        if self.backend == "numpy":
            return EnvironmentStreams(self.config, seeds)
        from dtmarl.envs.torch_streams import torch_streams

        return torch_streams(self.config, seeds, self._noise, self._dtype, self.device)

    def _new_simulation(self, streams: Any) -> Simulation:
        kind: type[Simulation] = Simulation
        if self._compile:
            from dtmarl.envs.compiled_simulation import CompiledSimulation

            kind = CompiledSimulation
        return kind(self.config, self._engine, streams, self.slots_per_decision, self.layouts)

    def _begun(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the environments have no episode yet: expected reset() first")
        return self._simulation

    def _decide(self) -> None:
        simulation = self._begun()
        self._held = None
        simulation.begin_frame(simulation.decision_of(self.controller))

    def _observations(self) -> Arrays:
        bs, mu = self._begun().observe()
        return {"bs": bs, "mu": mu}

    def _present(self) -> Array:
        return self._copy(self._begun().state.frame.present_mask)

    @staticmethod
    def _copy(array: Array) -> Array:
        """For callers, who may write to it, of what belongs to the state."""
        return namespace(array).asarray(array, copy=True)

    @staticmethod
    def _flags(outcome: SlotOutcome, value: bool) -> Array:
        xp = namespace(outcome.system_delay_s)
        return xp.full_like(outcome.system_delay_s, value, dtype=xp.bool)

    def _to_backend(self, array: Array) -> Array:
        if self.backend == "numpy":
            return array
        import torch

        return torch.from_numpy(array).to(self.device)

    def _packed(self, actions: Mapping[str, Array]) -> Action:
        """The weights, checked and clipped, in the dtype of the physics."""
        if not isinstance(actions, Mapping) or actions.keys() != self.action_shapes.keys():
            got = list(actions) if isinstance(actions, Mapping) else type(actions).__name__
            raise ValueError(f"actions: expected a mapping with 'bs' and 'mu', got {got}")
        like = self._begun().state.recall
        xp = namespace(like)
        packed = {}
        for kind, shape in self.action_shapes.items():
            array = actions[kind]
            if not isinstance(array, type(like)):
                raise ValueError(
                    f"actions[{kind!r}]: expected an array of backend {self.backend!r}, got "
                    f"{type(array).__name__}"
                )
            if tuple(array.shape) != shape or not xp.isdtype(array.dtype, "real floating"):
                raise ValueError(
                    f"actions[{kind!r}]: expected floats with shape {shape}, got {array.dtype} "
                    f"with shape {tuple(array.shape)}"
                )
            array = array if self.backend == "numpy" else array.detach()
            # Two numbers say nearly always that nothing has to be done, and nan is in both.
            low, high = float(xp.min(array)), float(xp.max(array))
            if not (math.isfinite(low) and math.isfinite(high)):
                row = int(xp.argmin(xp.astype(xp.isfinite(array).reshape(-1), xp.int64)))
                where = tuple(int(i) for i in np.unravel_index(row, shape))
                raise ValueError(
                    f"actions[{kind!r}]: expected finite weights, got {float(array[where])} at "
                    f"{where}"
                )
            packed[kind] = xp.astype(array, like.dtype, copy=False)
            if low < 0.0 or high > 1.0:
                packed[kind] = xp.clip(packed[kind], 0.0, 1.0)
        return Action(allocation_weight=packed["bs"], split_weight=packed["mu"])

    def _seeds(self, seed: int | Sequence[int] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        seeds = []
        if _is_whole(seed):
            seeds = [int(seed) + e for e in range(self.num_envs)]  # type: ignore[arg-type]
        elif isinstance(seed, Sequence | np.ndarray) and all(map(_is_whole, seed)):
            seeds = [int(one) for one in seed]
        if len(seeds) != self.num_envs or min(seeds) < 0:
            raise ValueError(
                f"seed: expected None, a non-negative integer or {self.num_envs} of them, got "
                f"{seed!r}"
            )
        return list(seeds)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)
