"""The frame of every rule: stacks the agents' observations, and hands each its action."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.envs.observation import Layout, Observations


class Rule(ABC):
    """A policy in which row by row an observation becomes an action.

    A rule sees rows, not agents: what it returns for a row depends on that row alone.
    """

    scenario: ScenarioConfig
    bs_layout: Layout
    mu_layout: Layout

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Learn the scenario's constants and the layout of its observations."""
        layouts = Observations(scenario)
        self.scenario, self.bs_layout, self.mu_layout = scenario, layouts.bs, layouts.mu

    def act(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """One action for each agent that has an observation."""
        actions: dict[str, Array] = {}
        for kind, decide in (("bs_", self.allocate), ("mu_", self.split)):
            agents = [agent for agent in observations if agent.startswith(kind)]
            if agents:
                rows = np.stack([observations[agent] for agent in agents]).astype(np.float64)
                weights = decide(rows).astype(np.float32)
                actions.update(zip(agents, weights, strict=True))
        return actions

    def act_batch(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """Weights of all environments, ``bs`` [E, M, N] and ``mu`` [E, N, 1 + M]."""
        return {"bs": self.allocate(observations["bs"]), "mu": self.split(observations["mu"])}

    @abstractmethod
    def allocate(self, rows: Array) -> Array:
        """Weights [..., N] of base stations over users from their observations [..., bs.size]."""

    @abstractmethod
    def split(self, rows: Array) -> Array:
        """Weights [..., 1 + M] of users from their observations [..., mu.size], local first."""
