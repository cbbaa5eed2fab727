"""Uniform random weights: what an untrained policy does."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.policies.rule import Rule


class RandomWeights(Rule):
    """Every weight uniform in [0, 1], from the policy's own random stream."""

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Seed the stream."""
        super().reset(scenario, seed)
        # A key of its own keeps the policy's numbers apart from the environment's.
        self._generator = np.random.default_rng(np.random.SeedSequence([seed, 0x90C1]))

    def allocate(self, rows: Array) -> Array:
        """Random shares."""
        return self._generator.random((*rows.shape[:-1], self.scenario.max_users))

    def split(self, rows: Array) -> Array:
        """A random split."""
        return self._generator.random((*rows.shape[:-1], 1 + self.scenario.num_base_stations))
