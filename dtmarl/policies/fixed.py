"""A fixed split and equal shares: local only, offload all, and everything between."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.policies.rule import Rule


class FixedSplit(Rule):
    """Offloads a fixed part of each task, evenly over the user's base stations; equal shares.

    Args:
        offloaded: part of the task that is offloaded, in [0, 1].
    """

    def __init__(self, *, offloaded: float) -> None:
        if not isinstance(offloaded, int | float) or not 0.0 <= offloaded <= 1.0:
            raise ValueError(f"offloaded: expected a number in [0, 1], got {offloaded!r}")
        self.offloaded = offloaded

    def allocate(self, rows: Array) -> Array:
        """The same weight for every user."""
        return np.ones((*rows.shape[:-1], self.scenario.max_users))

    def split(self, rows: Array) -> Array:
        """The fixed part to the associated base stations, the rest local."""
        xp = namespace(rows)
        associated = rows[..., self.mu_layout.slices["associated"]]
        count = xp.sum(associated, axis=-1, keepdims=True)
        remote = self.offloaded * associated / xp.maximum(count, 1.0)
        return xp.concat([1.0 - xp.sum(remote, axis=-1, keepdims=True), remote], axis=-1)
