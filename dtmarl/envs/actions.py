"""The way in: the agents' dict of weights becomes the arrays that physics works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.types import Action


def pack_actions(
    config: ScenarioConfig,
    agents: Sequence[str],
    user_index: Mapping[str, int],
    actions: Mapping[str, Any],
) -> Action:
    """The agents' weights as arrays with E = 1, checked; absent users keep everything local.

    Args:
        config: the scenario.
        agents: those that act: all base stations, then users.
        user_index: index of each user by name.
        actions: weights of each of the agents; those outside [0, 1] are clipped.

    Raises:
        ValueError: an agent is missing or unknown, or an action is not finite floats of its shape.
    """
    if not isinstance(actions, Mapping):
        raise ValueError(f"actions: expected a mapping by agent, got {type(actions).__name__}")
    if actions.keys() != set(agents):
        missing = [agent for agent in agents if agent not in actions]
        unknown = [agent for agent in actions if agent not in agents]
        raise ValueError(
            f"actions: expected one for each of agents; missing {missing}, unknown {unknown}"
        )
    m, n = config.num_base_stations, config.max_users
    try:
        weights = [np.asarray(actions[agent]) for agent in agents]
    except ValueError as error:
        raise ValueError(f"actions: expected an array of floats for each: {error}") from error
    shapes = [(n if i < m else 1 + m,) for i in range(len(weights))]
    if [array.shape for array in weights] != shapes or any(
        array.dtype.kind != "f" for array in weights
    ):
        _refuse_form(agents, weights, shapes)
    flat = np.concatenate(weights, dtype=np.float64)
    if not np.isfinite(flat).all():
        for agent, array in zip(agents, weights, strict=True):
            if not np.isfinite(array).all():
                raise ValueError(f"actions[{agent!r}]: expected finite weights, got {array}")
    flat = np.minimum(np.maximum(flat, 0.0), 1.0)
    split = np.zeros((1, n, 1 + m))
    split[0, [user_index[agent] for agent in agents[m:]]] = flat[m * n :].reshape(-1, 1 + m)
    return Action(allocation_weight=flat[: m * n].reshape(1, m, n), split_weight=split)


def _refuse_form(agents: Sequence[str], weights: list[Array], shapes: list[tuple[int]]) -> None:
    for agent, array, shape in zip(agents, weights, shapes, strict=True):
        if array.shape != shape or array.dtype.kind != "f":
            raise ValueError(
                f"actions[{agent!r}]: expected floats with shape {shape}, got {array.dtype} "
                f"with shape {array.shape}"
            )
