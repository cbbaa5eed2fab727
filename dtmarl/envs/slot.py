"""The slot environment: a PettingZoo shell around `dtmarl.dynamics` with one environment (E = 1).

It plays slots only. Its caller is the frame layer: it looks at `twin_view` and calls `begin_frame`
before slot 0, S, 2S, … (`dtmarl.envs.frame.FrameEnv` does so with a controller).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv

from dtmarl.accuracy import ENGINES, AccuracyEngine
from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.envs.actions import pack_actions
from dtmarl.envs.observation import Observations
from dtmarl.envs.simulation import Simulation
from dtmarl.randomness import EnvironmentStreams
from dtmarl.types import Action, FrameDecision, SlotOutcome, State, TwinView

AgentDict = dict[str, Any]
StepResult = tuple[AgentDict, AgentDict, AgentDict, AgentDict, AgentDict]

ABSENT_AGENTS = ("omit", "idle")
RENDER_MODES = ("rgb_array", "human")


class SlotEnv(ParallelEnv):  # type: ignore[misc]
    """Base stations and users in time slots.

    Agents are ``bs_0 … bs_{M-1}`` then ``mu_0 … mu_{N-1}``; `possible_agents` has all of them and
    `agents` those present. A base station's action is one weight in [0, 1] per user, which share
    its free compute among its associated users; a user's is 1 + M weights, which split its task
    over itself and its base stations. Weights outside [0, 1] are clipped. All agents receive the
    same reward, minus the system delay over the scenario's reference delay.

    Args:
        config: the scenario.
        slots_per_decision: how long a frame decision is in force; divides `slots_per_frame`.
        accuracy: an accuracy engine or its name; None takes the scenario's.
        absent_agents: ``"omit"`` leaves absent users out of `agents`; ``"idle"`` keeps them in,
            with zero observations and ignored actions.
        render_mode: None, ``"rgb_array"`` or ``"human"``.

    Raises:
        ValueError: an argument is not one of these.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        *,
        slots_per_decision: int | None = None,
        accuracy: str | AccuracyEngine | None = None,
        absent_agents: str = "omit",
        render_mode: str | None = None,
    ) -> None:
        period = config.slots_per_frame if slots_per_decision is None else slots_per_decision
        if type(period) is not int or period < 1 or config.slots_per_frame % period:
            raise ValueError(
                f"slots_per_decision: expected a divisor of slots_per_frame = "
                f"{config.slots_per_frame}, got {slots_per_decision!r}"
            )
        if absent_agents not in ABSENT_AGENTS:
            raise ValueError(
                f"absent_agents: expected one of {ABSENT_AGENTS}, got {absent_agents!r}"
            )
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(
                f"render_mode: expected None or one of {RENDER_MODES}, got {render_mode!r}"
            )
        self.config = config
        self.slots_per_decision = period
        self.absent_agents = absent_agents
        self.render_mode = render_mode
        self.metadata: dict[str, Any] = {
            "name": config.id,
            "render_modes": list(RENDER_MODES),
            "render_fps": 5,
            "is_parallelizable": True,
        }
        self._bs_names = [f"bs_{m}" for m in range(config.num_base_stations)]
        self._mu_names = [f"mu_{n}" for n in range(config.max_users)]
        self.possible_agents = self._bs_names + self._mu_names
        self._user_index = {name: n for n, name in enumerate(self._mu_names)}
        self.agents: list[str] = []
        self._engine = engine_for(config, accuracy)
        self.layouts = Observations(config)
        self._observation_spaces = {
            **{name: _box(*self.layouts.bs.bounds) for name in self._bs_names},
            **{name: _box(*self.layouts.mu.bounds) for name in self._mu_names},
        }
        self._action_spaces = {
            **{name: _unit_box(config.max_users) for name in self._bs_names},
            **{name: _unit_box(1 + config.num_base_stations) for name in self._mu_names},
        }
        self.state_space = _box(*self.layouts.state.bounds)
        self._simulation: Simulation | None = None
        self._outcome: SlotOutcome | None = None
        self._action: Action | None = None
        self._acted: list[str] = []
        self._decision: FrameDecision | None = None

    def observation_space(self, agent: str) -> Box:
        """The Box of an agent's observation; its blocks are in `layouts`."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Box:
        """The Box of an agent's weights."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[AgentDict, AgentDict]:
        """Start an episode.

        Args:
            seed: seeds the environment's random stream; None continues the present one.
            options: none are defined; others are ignored, as PettingZoo's own suite asks.

        Raises:
            ValueError: the seed is not a non-negative integer, or options is not a mapping.
        """
        if seed is not None and (
            isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0
        ):
            raise ValueError(f"seed: expected None or a non-negative integer, got {seed!r}")
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"options: expected None or a mapping, got {options!r}")
        streams = None
        if self._simulation is None or seed is not None:
            streams = EnvironmentStreams(self.config, [None if seed is None else int(seed)])
        if self._simulation is None:
            assert streams is not None
            self._simulation = Simulation(
                self.config, self._engine, streams, self.slots_per_decision, self.layouts
            )
        else:
            self._simulation.reset(streams)
        self._outcome = self._action = self._decision = None
        self.agents = self._present_agents()
        return self._observe(self.agents), {agent: {} for agent in self.agents}

    def twin_view(self) -> TwinView:
        """What the twin shows the frame layer, arrays with E = 1; what it learns, at frame ends."""
        return self._running().twin_view()

    def begin_frame(self, decision: FrameDecision) -> AgentDict:
        """Bring a frame decision into force; required before slots 0, S, 2S and so on.

        Args:
            decision: association and retraining; see `FrameDecision`.

        Returns:
            The agents' observations with the decision in force.

        Raises:
            RuntimeError: not at the start of a frame, or already decided.
            ValueError: the decision breaks a rule; nothing changes.
        """
        simulation = self._running()
        if not simulation.decision_due:
            raise RuntimeError(
                f"begin_frame: expected at slots that are multiples of {self.slots_per_decision}, "
                f"once each; this is slot {simulation.state.slot}"
            )
        simulation.begin_frame(decision)
        self._decision = decision
        return self._observe(self.agents)

    def step(self, actions: Mapping[str, Any]) -> StepResult:
        """Play one slot.

        Args:
            actions: weights of every agent in `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that acted
            and of those that arrived. A user that leaves is terminated; at the time limit all
            are truncated.

        Raises:
            RuntimeError: before `reset`, after the episode, or without a frame decision.
            ValueError: an agent is missing or unknown, or an action is not finite weights of its
                space's shape. The environment is as before and can go on.
        """
        self.play(actions)
        return self.result()

    def play(self, actions: Mapping[str, Any]) -> None:
        """The first half of `step`: play one slot; a frame decision fits between the halves.

        Args:
            actions: as for `step`, which says what is raised.
        """
        simulation = self._running()
        if simulation.decision_due:
            raise RuntimeError(
                f"step: slot {simulation.state.slot} starts a frame; expected "
                "begin_frame(decision) first"
            )
        self._action = action = self.pack(actions)
        self._outcome = simulation.play(action)
        self._acted = self.agents
        if simulation.over:
            self.agents = []
        elif simulation.state.slot % self.config.slots_per_frame == 0:
            self.agents = self._present_agents()

    def result(self) -> StepResult:
        """The second half of `step`: what the slot brought to those who acted or arrived.

        Nobody arrives at the end of the episode, and who would leave then is truncated instead.
        """
        outcome = self._outcome
        if outcome is None:
            raise RuntimeError("result: no slot was played yet: expected play(actions) first")
        over = not self.agents
        present = self._acted if over else self.agents
        involved, here, acted = self._acted, set(present), set(self._acted)
        if present != self._acted:
            involved = [agent for agent in self.possible_agents if agent in here | acted]
        reward = float(-outcome.system_delay_s[0] / self.config.reference_delay_s)
        infos = self._infos(self._acted, outcome)
        return (
            self._observe(involved),
            # Who has just arrived took no part in the slot.
            {agent: reward if agent in acted else 0.0 for agent in involved},
            {agent: agent not in here for agent in involved},
            dict.fromkeys(involved, over),
            {agent: infos[agent] if agent in acted else {} for agent in involved},
        )

    def pack(self, actions: Mapping[str, Any]) -> Action:
        """The agents' weights as arrays, checked; absent users keep everything local.

        Raises:
            RuntimeError: before `reset` or after the episode.
            ValueError: as `step` does.
        """
        self._running()
        return pack_actions(self.config, self.agents, self._user_index, actions)

    def state(self) -> Array:
        """The twin's whole state for centralised critics, [state_space.shape] float32."""
        return self.layouts.global_state(self._begun().state)[0]

    @property
    def decision_due(self) -> bool:
        """Whether this slot starts a frame that has no decision yet."""
        return self._begun().decision_due

    @property
    def outcome(self) -> SlotOutcome | None:
        """What happened in the newest slot, arrays with E = 1; None right after a reset."""
        return self._outcome

    @property
    def action(self) -> Action | None:
        """The weights that were played in the newest slot, held ones too; None after a reset."""
        return self._action

    @property
    def decision(self) -> FrameDecision | None:
        """The frame decision in force, with its certificate; None before the first."""
        return self._decision

    @property
    def snapshot(self) -> State:
        """The true state, for rendering, analysis and oracles; no decision may read it."""
        return self._begun().state

    def render(self) -> Array | None:
        """A map of the network: [H, W, 3] uint8 for ``"rgb_array"``, a window for ``"human"``.

        None, with a warning, without a render mode.

        Raises:
            RuntimeError: before `reset`.
            ImportError: matplotlib is missing.
        """
        from dtmarl.envs.render import draw

        return draw(self)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self.render_mode == "human":
            from dtmarl.envs.render import close

            close(self)

    def _running(self) -> Simulation:
        simulation = self._begun()
        if not self.agents:
            raise RuntimeError("the episode is over: expected reset() first")
        return simulation

    def _begun(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the environment has no episode yet: expected reset() first")
        return self._simulation

    def _present_agents(self) -> list[str]:
        if self.absent_agents == "idle":
            return list(self.possible_agents)
        present = self._begun().state.frame.present_mask[0]
        return self._bs_names + [
            name for name, here in zip(self._mu_names, present.tolist(), strict=True) if here
        ]

    def _observe(self, agents: list[str]) -> AgentDict:
        bs, mu = self._begun().observe()
        # Copies: the frame's array holds the coming slots too, and callers may write to theirs.
        rows = dict(zip(self.possible_agents, (*bs[0].copy(), *mu[0]), strict=True))
        return rows if len(agents) == len(rows) else {agent: rows[agent] for agent in agents}

    def _infos(self, agents: list[str], outcome: SlotOutcome) -> AgentDict:
        """Unscaled figures of the slot; a user's are its own, a base station's the network's."""
        system_delay = float(outcome.system_delay_s[0])
        delay = (outcome.delay_s[0] + outcome.retrain_delay_s[0]).tolist()
        accuracy, breakout = outcome.accuracy[0].tolist(), outcome.breakout_mask[0].tolist()
        here = outcome.present_mask[0].tolist()
        users = max(sum(here), 1)
        mean_accuracy = sum(a for a, is_here in zip(accuracy, here, strict=True) if is_here) / users
        breakouts = sum(breakout) / users
        infos: AgentDict = {}
        for agent in agents:
            n = self._user_index.get(agent)
            infos[agent] = (
                {"system_delay_s": system_delay, "accuracy": mean_accuracy, "breakout": breakouts}
                if n is None
                else {
                    "system_delay_s": system_delay,
                    "delay_s": delay[n],
                    "accuracy": accuracy[n],
                    "breakout": breakout[n],
                }
            )
        return infos


def engine_for(config: ScenarioConfig, which: str | AccuracyEngine | None) -> AccuracyEngine:
    """The accuracy engine of an environment, checked against its scenario."""
    if which is None:
        which = config.learning.engine
    if isinstance(which, str):
        if which not in ENGINES:
            raise ValueError(f"accuracy: expected one of {sorted(ENGINES)}, got {which!r}")
        which = ENGINES[which].load()
    if not all(hasattr(which, name) for name in ("base_recall", "initial_recall", "update")):
        raise ValueError(f"accuracy: expected one of {sorted(ENGINES)} or an engine, got {which!r}")
    if len(which.base_recall) != config.learning.num_classes:
        raise ValueError(
            f"LearningConfig.num_classes: the accuracy engine knows {len(which.base_recall)} "
            f"classes, got {config.learning.num_classes}"
        )
    return which


def _box(low: Array, high: Array) -> Box:
    return Box(low, high, dtype=np.float32)


def _unit_box(size: int) -> Box:
    return Box(0.0, 1.0, shape=(size,), dtype=np.float32)
