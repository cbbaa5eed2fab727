"""Balanced splits: local and offloaded parts finish together, given the share a user expects."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.envs.observation import unscaled_rate
from dtmarl.physics import learning
from dtmarl.policies.rule import Rule
from dtmarl.types import UPDATE_PLANS


class _Balanced(Rule):
    """Each user splits its task so that all parts finish together, for its expected share."""

    def _expected_share(self, rows: Array) -> Array:
        """Part of each base station's free compute a user counts on, [..., M]."""
        raise AssertionError("a balanced rule says which share it expects")

    def split(self, rows: Array) -> Array:
        """Bytes for each place so that transmission, computation and local work end together.

        With a_m seconds per byte over base station m, b seconds per byte at home and a fixed
        time o_m before the first byte, x_m = (T - o_m) / a_m and x_local = T / b, where T is such
        that the parts add up to the task.
        """
        xp = namespace(rows)
        block = {name: rows[..., where] for name, where in self.mu_layout.slices.items()}
        compute, traffic = self.scenario.compute, self.scenario.traffic
        task = block["task"] * traffic.task_bytes_max
        rate = xp.maximum(unscaled_rate(block["rate"]), 1.0)
        free = block["free_compute"] * compute.site_flop_per_s
        speed = xp.maximum(free * self._expected_share(rows), 1.0)
        per_byte_s = 1.0 / rate + compute.work_flop_per_byte / speed
        local_per_byte_s = compute.work_flop_per_byte / compute.user_flop_per_s
        overhead = traffic.result_bytes + traffic.migration_bytes * block["moving"]
        start_s = overhead / rate

        pace = block["associated"] / per_byte_s
        total_pace = xp.sum(pace, axis=-1, keepdims=True) + 1.0 / local_per_byte_s
        finish_s = (task + xp.sum(pace * start_s, axis=-1, keepdims=True)) / total_pace
        remote = pace * xp.maximum(finish_s - start_s, 0.0)
        local = xp.maximum(task - xp.sum(remote, axis=-1, keepdims=True), 0.0)
        weights = xp.concat([local, remote], axis=-1)
        return weights / xp.maximum(xp.max(weights, axis=-1, keepdims=True), 1.0)


class EqualShareBalanced(_Balanced):
    """Equal shares; each user balances for an equal share."""

    def allocate(self, rows: Array) -> Array:
        """The same weight for every user."""
        return np.ones((*rows.shape[:-1], self.scenario.max_users))

    def _expected_share(self, rows: Array) -> Array:
        users = rows[..., self.mu_layout.slices["num_associated"]] * self.scenario.max_users
        return 1.0 / namespace(rows).maximum(users, 1.0)


class RootShareBalanced(_Balanced):
    """Shares in proportion to sqrt(Q·(1 + c·w·δ)); each user balances for its own share."""

    def allocate(self, rows: Array) -> Array:
        """Weights in proportion to the square root of each user's work."""
        root = self._root_work(rows, self.bs_layout.slices)
        xp = namespace(rows)
        return root / xp.maximum(xp.max(root, axis=-1, keepdims=True), 1.0)

    def _expected_share(self, rows: Array) -> Array:
        xp = namespace(rows)
        own = self._root_work(rows, self.mu_layout.slices)
        traffic = self.scenario.traffic
        largest_work = max(
            learning.update_plan(name, self.scenario.learning).work for name in UPDATE_PLANS
        )
        unit = self.scenario.max_users * (traffic.task_bytes_max * (1.0 + largest_work)) ** 0.5
        demand = rows[..., self.mu_layout.slices["demand"]] * unit
        return xp.minimum(own / xp.maximum(demand, 1.0), 1.0)

    def _root_work(self, rows: Array, slices: dict[str, slice]) -> Array:
        """sqrt(Q·(1 + c·w·δ)) of the users in an observation."""
        xp = namespace(rows)
        load = rows[..., slices["training"]]  # c·w·δ / (1 + c·w·δ)
        task = rows[..., slices["task"]] * self.scenario.traffic.task_bytes_max
        return xp.sqrt(task / (1.0 - load))
