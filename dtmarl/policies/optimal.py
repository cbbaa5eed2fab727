"""Policies that solve every slot: on the truth, as an anchor, and on what agents observe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.envs.observation import Layout, Observations, unscaled_rate
from dtmarl.optimum.problem import SlotProblem, namespace
from dtmarl.optimum.slots import optimal_weights, true_problem
from dtmarl.optimum.solve import slot_optimum
from dtmarl.types import Action

if TYPE_CHECKING:
    from dtmarl.envs.slot import SlotEnv


class Oracle:
    """Solves every slot on the truth: an upper anchor, not a competitor.

    It is told apart by `uses_truth`; evaluations hand it the environment by `watch`. Where the
    frame layer holds the first action of a frame, its solutions of later slots are not played.
    """

    uses_truth = True

    def __init__(self) -> None:
        self._env: SlotEnv | None = None

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Forget the environment of the last episode."""
        self._env = None

    def watch(self, env: SlotEnv) -> None:
        """Look at this environment's true state from now on."""
        self._env = env

    def act(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """The optimum of the slot, for each agent that has an observation.

        Raises:
            RuntimeError: it has no environment to look at.
        """
        if self._env is None:
            raise RuntimeError(
                "oracle: expected watch(env) between reset and act, as it acts on the true state"
            )
        problem = true_problem(self._env.config, [self._env.snapshot])
        return _by_agent(optimal_weights(problem, slot_optimum(problem)), observations)


class TwinOptimum:
    """Solves every slot as the twin believes it to be, from all agents' observations together.

    A central controller: no agent could decide so from its own observation, but together the users'
    hold all of a slot's problem, and nothing of them is true beyond what the twin knows.
    """

    scenario: ScenarioConfig
    mu_layout: Layout

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Learn the scenario's constants and the layout of its observations."""
        self.scenario, self.mu_layout = scenario, Observations(scenario).mu

    def act(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """The optimum of the believed slot, for each agent that has an observation."""
        rows = np.zeros((1, self.scenario.max_users, self.mu_layout.size))
        for agent, row in observations.items():
            kind, _, index = agent.partition("_")
            if kind == "mu":
                rows[0, int(index)] = row
        return _by_agent(self._solve(rows), observations)

    def act_batch(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """Weights of all environments, ``bs`` [E, M, N] and ``mu`` [E, N, 1 + M]."""
        action = self._solve(observations["mu"])
        return {"bs": action.allocation_weight, "mu": action.split_weight}

    def _solve(self, rows: Array) -> Action:
        problem = self._problem(rows)
        return optimal_weights(problem, slot_optimum(problem))

    def _problem(self, rows: Array) -> SlotProblem:
        """P3 as the users' observations [E, N, mu.size] have it; rows of absent users are zero."""
        xp = namespace(rows)
        rows = xp.astype(rows, xp.float64)
        block = {name: rows[..., where] for name, where in self.mu_layout.slices.items()}
        compute, traffic = self.scenario.compute, self.scenario.traffic
        task = block["task"][..., 0] * traffic.task_bytes_max
        load = block["training"][..., 0]  # c·w·δ / (1 + c·w·δ)
        # Every user is told the same of the base stations.
        free = xp.max(block["free_compute"], axis=1) * compute.site_flop_per_s

        def by_link(name: str) -> Array:
            return xp.permute_dims(block[name], (0, 2, 1))

        rate = unscaled_rate(by_link("rate"))
        # Believed in outage, or down: nothing is sent there, results and models neither.
        works = (rate > 0.0) & (free > 0.0)[:, :, None]
        return SlotProblem(
            association_mask=(by_link("associated") > 0.5) & works,
            rate_bytes_per_s=rate,
            task_bytes=task,
            overhead_bytes=traffic.result_bytes + traffic.migration_bytes * by_link("moving"),
            retrain_work=load / (1.0 - load),
            free_flop_per_s=free,
            work_flop_per_byte=compute.work_flop_per_byte,
            local_flop_per_s=compute.user_flop_per_s,
            user_mask=task > 0.0,
        )


def _by_agent(action: Action, observations: Mapping[str, Array]) -> dict[str, Array]:
    """The first environment's weights of each agent that has an observation."""
    weights = {"bs": action.allocation_weight[0], "mu": action.split_weight[0]}
    actions = {}
    for agent in observations:
        kind, _, index = agent.partition("_")
        actions[agent] = weights[kind][int(index)]
    return actions
