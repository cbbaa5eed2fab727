"""The frame wrapper: plays the frame layer around a slot environment with a controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pettingzoo.utils import BaseParallelWrapper

from dtmarl.envs.slot import AgentDict, SlotEnv, StepResult
from dtmarl.frame.controller import Controller


class FrameEnv(BaseParallelWrapper):  # type: ignore[misc]
    """A slot environment whose frame decisions a controller takes, from the twin's view alone.

    Args:
        env: the slot environment.
        controller: decides before slot 0, S, 2S, …; see `dtmarl.frame.controller.Controller`.
    """

    env: SlotEnv

    def __init__(self, env: SlotEnv, controller: Controller) -> None:
        super().__init__(env)
        self.controller = controller
        self._held_actions: dict[str, Any] = {}

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[AgentDict, AgentDict]:
        """Start an episode and take its first frame decision; see `SlotEnv.reset`."""
        _, infos = self.env.reset(seed=seed, options=options)
        return self._decide(), infos

    def step(self, actions: Mapping[str, Any]) -> StepResult:
        """Play one slot, then decide if a frame begins; see `SlotEnv.step`."""
        if self.controller.holds_actions():
            self.env.pack(actions)  # what is not used has to be right all the same
            actions = self._held_actions or {a: np.array(w) for a, w in actions.items()}
            self._held_actions = actions
        if self.env.agents and self.env.decision_due:
            self._decide()  # the controller failed when it was due; the slot before is lost
        self.env.play(actions)
        if self.env.agents and self.env.decision_due:
            self._decide()
        return self.env.result()

    def _decide(self) -> AgentDict:
        self._held_actions = {}
        decision = self.controller.decide(self.env.config, self.env.twin_view())
        return self.env.begin_frame(decision)
