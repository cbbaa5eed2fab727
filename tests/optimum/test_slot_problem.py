from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scalar_slot
from slot_cases import KINDS, random_problem

from dtmarl.optimum import SlotProblem, slot_optimum, system_delay


def fields(problem: SlotProblem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in problem.__dataclass_fields__}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("several", [False, True])
def test_system_delay_is_that_of_the_scalar_model(kind: str, several: bool) -> None:
    rng = np.random.default_rng(7)
    for seed in range(15):
        problem = random_problem(
            seed, num_stations=1 + seed % 3, num_users=1 + seed % 6, kind=kind, several=several
        )
        link = problem.association_mask & problem.user_mask[:, None, :]
        split = np.where(link & (rng.random(link.shape) < 0.8), rng.random(link.shape), 0.0)
        split = split / np.maximum(split.sum(axis=1, keepdims=True), 1.0)
        share = rng.random(link.shape) + 0.01
        power = share / share.sum(axis=2, keepdims=True) * problem.free_flop_per_s[:, :, None]
        expected = scalar_slot.mean_delay(
            scalar_slot.lists(problem), split[0].tolist(), power[0].tolist()
        )
        assert system_delay(problem, split, power)[0] == pytest.approx(expected, rel=1e-12)


def test_optimum_reports_the_delay_of_its_own_point() -> None:
    for several in (False, True):
        problem = random_problem(1, num_stations=3, num_users=5, several=several)
        optimum = slot_optimum(problem)
        expected = scalar_slot.mean_delay(
            scalar_slot.lists(problem),
            optimum.split[0].tolist(),
            optimum.allocation[0].tolist(),
        )
        assert optimum.delay_s[0] == pytest.approx(expected, rel=1e-12)


def test_offloading_without_power_or_rate_takes_for_ever() -> None:
    problem = random_problem(0, num_stations=1, num_users=2)
    split = np.full((1, 1, 2), 0.5)
    assert system_delay(problem, split, np.zeros((1, 1, 2)))[0] == math.inf
    cut = SlotProblem(**{**fields(problem), "rate_bytes_per_s": np.zeros((1, 1, 2))})
    assert system_delay(cut, split, np.ones((1, 1, 2)))[0] == math.inf


BAD_SHAPES = [
    ("association_mask", np.ones((2, 4), dtype=bool), r"association_mask.*\[E, M, N\].*\(2, 4\)"),
    ("rate_bytes_per_s", np.ones((1, 4, 2)), r"rate_bytes_per_s.*\(1, 2, 4\).*\(1, 4, 2\)"),
    ("task_bytes", np.ones(4), r"task_bytes.*\(1, 4\).*\(4,\)"),
    ("task_bytes", 1.0, r"task_bytes.*\(1, 4\).*\(\)"),
    ("free_flop_per_s", np.ones((1, 4)), r"free_flop_per_s.*\(1, 2\).*\(1, 4\)"),
    ("retrain_work", np.ones((1, 4), dtype=np.float32), "retrain_work.*float64.*float32"),
    ("user_mask", np.ones((1, 4)), "user_mask.*bool.*float64"),
    ("work_flop_per_byte", np.ones((1, 3)), r"work_flop_per_byte.*\(1, 4\).*\(1, 3\)"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_SHAPES)
def test_construction_rejects_shapes_and_dtypes(name: str, value: Any, message: str) -> None:
    good = fields(random_problem(0))
    with pytest.raises(ValueError, match=message):
        SlotProblem(**{**good, name: value})


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["rate_bytes_per_s", "task_bytes", "overhead_bytes", "retrain_work", "free_flop_per_s"]
)
def test_validated_rejects_values(name: str, bad: float) -> None:
    good = fields(random_problem(0))
    value = good[name].copy()
    value.flat[-1] = bad
    with pytest.raises(ValueError, match=f"{name}.*{bad}"):
        SlotProblem(**{**good, name: value}).validated()


@pytest.mark.parametrize("value", [0.0, -1.0, np.zeros((1, 4))])
def test_validated_wants_users_that_compute(value: Any) -> None:
    good = fields(random_problem(0))
    with pytest.raises(ValueError, match=r"local_flop_per_s.*positive"):
        SlotProblem(**{**good, "local_flop_per_s": value}).validated()


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan])
def test_tolerance_is_not_negative(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        slot_optimum(random_problem(0), tolerance=tolerance)
