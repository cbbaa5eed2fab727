from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dtmarl.optimum import SlotProblem, slot_optimum


def slot(num_stations: int = 1, num_users: int = 1, **changes: Any) -> SlotProblem:
    """Users that need 10 s alone, or 1 s over a link and 1 s of a whole station."""
    shape, users = (1, num_stations, num_users), (1, num_users)
    values: dict[str, Any] = {
        "association_mask": np.ones(shape, dtype=bool),
        "rate_bytes_per_s": np.full(shape, 10.0),
        "task_bytes": np.full(users, 10.0),
        "overhead_bytes": np.zeros(shape),
        "retrain_work": np.zeros(users),
        "free_flop_per_s": np.full(shape[:2], 10.0),
        "work_flop_per_byte": 1.0,
        "local_flop_per_s": 1.0,
        "user_mask": np.ones(users, dtype=bool),
    }
    return SlotProblem(**{**values, **changes}).validated()


def assert_all_local(problem: SlotProblem, delay: float) -> None:
    optimum = slot_optimum(problem)
    assert optimum.delay_s[0] == pytest.approx(delay, rel=1e-12)
    assert optimum.lower_bound_s[0] == pytest.approx(delay, rel=1e-12)
    np.testing.assert_array_equal(optimum.split, np.zeros(problem.association_mask.shape))


def test_one_user_by_hand() -> None:
    # Local and offloaded time are equal: 10 (1 - x) = x + x.
    optimum = slot_optimum(slot())
    assert optimum.split[0, 0, 0] == pytest.approx(10 / 12, rel=1e-12)
    assert optimum.delay_s[0] == pytest.approx(20 / 12, rel=1e-12)
    assert optimum.allocation[0, 0, 0] == pytest.approx(10.0, rel=1e-12)


def test_one_user_that_retrains_by_hand() -> None:
    optimum = slot_optimum(slot(retrain_work=np.array([[3.0]])))
    assert optimum.split[0, 0, 0] == pytest.approx(10 / 12, rel=1e-12)
    assert optimum.delay_s[0] == pytest.approx(20 / 12 + 3 * 10 / 12, rel=1e-12)


def test_two_stations_for_one_user_by_hand() -> None:
    # 10 (1 - 2x) = 2x.
    optimum = slot_optimum(slot(num_stations=2))
    assert optimum.delay_s[0] == pytest.approx(20 / 22, rel=1e-6)
    assert optimum.lower_bound_s[0] == pytest.approx(20 / 22, rel=1e-4)
    assert optimum.lower_bound_s[0] <= 20 / 22 * (1 + 1e-12)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_local_is_better(num_stations: int) -> None:
    # The whole station takes longer for retraining than the user alone for everything.
    retrains = np.array([[11.0 * num_stations]])
    assert_all_local(slot(num_stations, retrain_work=retrains), 10.0)
    # The overhead alone takes longer than the whole task.
    overhead = np.full((1, num_stations, 1), 20.0)
    assert_all_local(slot(num_stations, overhead_bytes=overhead, local_flop_per_s=10.0), 2.0)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_no_users(num_stations: int) -> None:
    absent = slot(num_stations, 3, user_mask=np.zeros((1, 3), dtype=bool))
    assert_all_local(absent, 0.0)
    assert_all_local(slot(num_stations, 0), 0.0)


def test_no_stations() -> None:
    assert_all_local(slot(0, 2), 10.0)


def test_no_environments() -> None:
    none: Any = np.zeros
    problem = SlotProblem(
        association_mask=none((0, 2, 3), dtype=bool),
        rate_bytes_per_s=none((0, 2, 3)),
        task_bytes=none((0, 3)),
        overhead_bytes=none((0, 2, 3)),
        retrain_work=none((0, 3)),
        free_flop_per_s=none((0, 2)),
        work_flop_per_byte=1.0,
        local_flop_per_s=1.0,
        user_mask=none((0, 3), dtype=bool),
    )
    optimum = slot_optimum(problem)
    assert optimum.delay_s.shape == (0,)
    assert optimum.split.shape == (0, 2, 3)


def test_absent_users_do_not_count() -> None:
    present = np.array([[True, False]])
    both = np.array([[[True, True]]])
    optimum = slot_optimum(slot(1, 2, user_mask=present, association_mask=both))
    assert optimum.delay_s[0] == pytest.approx(20 / 12, rel=1e-12)
    assert optimum.allocation[0, 0, 1] == 0.0


@pytest.mark.parametrize("num_stations", [1, 2])
def test_no_association(num_stations: int) -> None:
    nothing = np.zeros((1, num_stations, 1), dtype=bool)
    assert_all_local(slot(num_stations, association_mask=nothing), 10.0)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_no_free_compute(num_stations: int) -> None:
    assert_all_local(slot(num_stations, free_flop_per_s=np.zeros((1, num_stations))), 10.0)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_no_task_and_no_work(num_stations: int) -> None:
    assert_all_local(slot(num_stations, task_bytes=np.zeros((1, 1))), 0.0)
    assert_all_local(slot(num_stations, work_flop_per_byte=0.0), 0.0)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_zero_rate_carries_nothing(num_stations: int) -> None:
    still = np.zeros((1, num_stations, 1))
    assert_all_local(slot(num_stations, rate_bytes_per_s=still), 10.0)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_overhead_over_a_zero_rate_never_arrives(num_stations: int) -> None:
    rate = np.full((1, num_stations, 2), 10.0)
    rate[0, 0, 0] = 0.0
    overhead = np.full((1, num_stations, 2), 1e-3)
    problem = slot(num_stations, 2, rate_bytes_per_s=rate, overhead_bytes=overhead)
    optimum = slot_optimum(problem)
    assert optimum.delay_s[0] == optimum.lower_bound_s[0] == math.inf
    assert np.all(np.isfinite(optimum.split))
    assert np.all(np.isfinite(optimum.allocation))


def test_one_zero_rate_leaves_the_other_station() -> None:
    rate = np.array([[[0.0], [10.0]]])
    optimum = slot_optimum(slot(2, rate_bytes_per_s=rate))
    assert optimum.delay_s[0] == pytest.approx(20 / 12, rel=1e-6)
    assert optimum.split[0, 0, 0] == 0.0


@pytest.mark.parametrize("num_stations", [1, 2])
def test_overhead_is_paid_even_if_nothing_is_offloaded(num_stations: int) -> None:
    # 15 s of overhead is more than the 10 s of local work that offloading could shorten.
    assert_all_local(slot(num_stations, overhead_bytes=np.full((1, num_stations, 1), 150.0)), 15.0)


def test_overhead_of_another_station_is_a_floor() -> None:
    overhead = np.array([[[0.0], [50.0]]])  # 5 s
    optimum = slot_optimum(slot(2, overhead_bytes=overhead))
    assert optimum.delay_s[0] == pytest.approx(5.0, rel=1e-6)
    assert optimum.lower_bound_s[0] == pytest.approx(5.0, rel=1e-4)


@pytest.mark.parametrize("num_stations", [1, 2])
def test_extreme_magnitudes(num_stations: int) -> None:
    for rate, free in ((1e-6, 10.0), (1e12, 10.0), (10.0, 1e-9), (10.0, 1e15), (1e12, 1e15)):
        optimum = slot_optimum(
            slot(
                num_stations,
                2,
                rate_bytes_per_s=np.full((1, num_stations, 2), rate),
                free_flop_per_s=np.full((1, num_stations), free),
                retrain_work=np.array([[0.0, 0.75]]),
            )
        )
        assert 0.0 < optimum.delay_s[0] <= 10.0 * (1.0 + 1e-12)
        assert 0.0 <= optimum.lower_bound_s[0] <= optimum.delay_s[0]
        if num_stations == 1:
            # The bound is a difference from the 10 s that local computation takes.
            gap = optimum.delay_s[0] - optimum.lower_bound_s[0]
            assert gap <= 1e-6 * optimum.delay_s[0] + 1e-14
