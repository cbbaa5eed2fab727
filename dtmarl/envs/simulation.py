"""Episodes of E environments in lockstep: the state, its noise, and what is known ahead.

Shells put agents around it: `dtmarl.envs.slot` one environment and dicts, `dtmarl.envs.vector` many
and arrays. Both meet exactly these calls in this order.
"""

from __future__ import annotations

from dtmarl import dynamics
from dtmarl.accuracy import AccuracyEngine
from dtmarl.backend import Array, to_numpy
from dtmarl.config import ScenarioConfig
from dtmarl.envs.observation import Ahead, Observations
from dtmarl.frame.controller import Controller
from dtmarl.randomness import Noise, Streams
from dtmarl.twin import model
from dtmarl.types import Action, FrameDecision, SlotOutcome, State, TwinView


class Simulation:
    """E environments from a reset to the end of their episodes, which all end together.

    Args:
        config: the scenario.
        engine: what retraining does.
        streams: gives every environment its numbers.
        slots_per_decision: how long a frame decision is in force; divides `slots_per_frame`.
        layouts: of observations; those of the scenario.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        engine: AccuracyEngine,
        streams: Streams,
        slots_per_decision: int,
        layouts: Observations,
    ) -> None:
        self._config = config
        self._engine = engine
        self._streams = streams
        self._period = slots_per_decision
        self._layouts = layouts
        self._frame_noise: Noise
        self._ahead: Ahead | None
        self._decision_slot: int
        self.state: State
        self.reset()

    def reset(self, streams: Streams | None = None) -> None:
        """Start new episodes.

        Args:
            streams: to take the numbers from; None goes on with the present ones.
        """
        self._streams = streams or self._streams
        noise = self._streams.draw_reset()
        self._frame_noise = self._streams.draw_frame()
        self.state = dynamics.initial_state(self._config, self._engine, noise, self._frame_noise)
        self._ahead = None
        self._decision_slot = -1

    @property
    def decision_due(self) -> bool:
        """Whether the present slot starts a frame that has no decision yet."""
        return self.state.slot % self._period == 0 and self._decision_slot != self.state.slot

    @property
    def over(self) -> bool:
        """Whether the episodes have ended."""
        return self.state.slot == self._config.slots_per_episode

    def twin_view(self) -> TwinView:
        """What the twin shows the frame layer."""
        state = self.state
        return model.view(
            self._config, state.scene, state.twin, state.control, state.slot, self._period
        )

    def decision_of(self, controller: Controller) -> FrameDecision:
        """What a frame controller decides on the twin's view."""
        view = self.twin_view()
        if not getattr(controller, "takes_tensors", False):
            view = TwinView(*(part if isinstance(part, int) else to_numpy(part) for part in view))
        return controller.decide(self._config, view)

    def begin_frame(self, decision: FrameDecision) -> None:
        """Bring a frame decision into force.

        Raises:
            ValueError: the decision breaks a rule; nothing changes.
        """
        self.state = dynamics.begin_frame(self._config, self.state, decision)
        self._ahead = None
        self._decision_slot = self.state.slot

    def play(self, action: Action) -> SlotOutcome:
        """Play one slot; where a frame ends, the world and the twin enter the next."""
        config = self._config
        next_slot = self.state.slot + 1
        state, outcome = dynamics.step_slot(
            config, self._engine, self.state, action, self._frame_noise,
            closes_decision=next_slot % self._period == 0,
        )  # fmt: skip
        if next_slot % config.slots_per_frame == 0:
            self._frame_noise = self._streams.draw_frame()
            state = dynamics.enter_frame(config, state, self._frame_noise)
        self.state = state
        if self.decision_due:
            self._ahead = None  # what was known ahead ends with the decision
        return outcome

    def observe(self) -> tuple[Array, Array]:
        """What every agent sees, [E, M, bs.size] and [E, N, mu.size] float32.

        The first is a view on what is known ahead, of which each slot has a part of its own.
        """
        if self._ahead is None:
            num_slots = 1 if self.decision_due else self._period
            self._ahead = self._layouts.ahead(self.state, num_slots)
        return self._layouts.agents(self.state, self._ahead)
