"""Random slots for the tests of the optimum, paper-like and far from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtmarl.optimum import SlotProblem

KINDS = ("paper", "congested", "scarce", "fast", "varied", "migrating", "few")


def random_problem(
    seed: int,
    *,
    num_environments: int = 1,
    num_stations: int = 2,
    num_users: int = 4,
    kind: str = "paper",
    several: bool = False,
) -> SlotProblem:
    """A batch of slots of one kind; with `several`, users have one to all of the stations."""
    rng = np.random.default_rng([seed, KINDS.index(kind), num_stations, num_users])
    shape = (num_environments, num_stations, num_users)
    users = (num_environments, num_users)
    station = rng.integers(0, num_stations, users)
    association = np.arange(num_stations)[:, None] == station[:, None, :]
    if several:
        association |= rng.random(shape) < 0.6
    values: dict[str, Any] = {
        "association_mask": association,
        "rate_bytes_per_s": np.exp(rng.uniform(np.log(1e5), np.log(2e7), shape)),
        "task_bytes": rng.uniform(10e6, 20e6, users),
        "overhead_bytes": np.full(shape, 1e4),
        "retrain_work": 0.75 * (rng.random(users) < 0.3),
        "free_flop_per_s": rng.uniform(40e9, 50e9, shape[:2]),
        "work_flop_per_byte": 24.2e3,
        "local_flop_per_s": 5e9,
        "user_mask": np.ones(users, dtype=bool),
    }
    if kind == "congested":
        values["retrain_work"] = np.full(users, 0.75)
        values["free_flop_per_s"] = rng.uniform(10e9, 20e9, shape[:2])
    elif kind == "scarce":
        values["retrain_work"] = rng.uniform(0.0, 3.0, users)
        values["free_flop_per_s"] = rng.uniform(1e9, 10e9, shape[:2])
    elif kind == "fast":
        values["rate_bytes_per_s"] = rng.uniform(1e7, 1e8, shape)
        values["free_flop_per_s"] = rng.uniform(1e11, 1e12, shape[:2])
    elif kind == "varied":
        values["task_bytes"] = np.exp(rng.uniform(np.log(1e4), np.log(1e8), users))
        values["work_flop_per_byte"] = np.exp(rng.uniform(np.log(1e3), np.log(1e5), users))
        values["local_flop_per_s"] = np.exp(rng.uniform(np.log(5e8), np.log(5e10), users))
        values["retrain_work"] = rng.choice([0.0, 0.1, 0.75, 5.0], users)
    elif kind == "migrating":
        values["overhead_bytes"] = 1e4 + 44.7e6 * (rng.random(shape) < 0.4)
    elif kind == "few":
        values["user_mask"] = rng.random(users) < 0.6
        values["association_mask"] = association & (rng.random(shape) < 0.8)
    return SlotProblem(**values).validated()


def one_environment(problem: SlotProblem, index: int) -> SlotProblem:
    """One row of a batch, as a batch of its own."""
    fields = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    return SlotProblem(
        **{k: v if isinstance(v, float) else v[index : index + 1] for k, v in fields.items()}
    )
