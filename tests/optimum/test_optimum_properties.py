from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slot_cases import KINDS, one_environment, random_problem

from dtmarl.optimum import SlotOptimum, SlotProblem, slot_optimum

single = st.builds(
    random_problem,
    st.integers(0, 10_000),
    num_environments=st.integers(1, 3),
    num_stations=st.integers(1, 4),
    num_users=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
)
several = st.builds(
    random_problem,
    st.integers(0, 10_000),
    num_stations=st.integers(2, 4),
    num_users=st.integers(1, 5),
    kind=st.sampled_from(KINDS),
    several=st.just(True),
)
few_examples = settings(max_examples=12, derandomize=True, deadline=None)
many_examples = settings(max_examples=40, derandomize=True, deadline=None)


def changed(problem: SlotProblem, **changes: Any) -> SlotProblem:
    values = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    return SlotProblem(**{**values, **changes})


def assert_feasible(problem: SlotProblem, optimum: SlotOptimum) -> None:
    link = problem.association_mask & problem.user_mask[:, None, :]
    assert np.all((optimum.split >= 0.0) & (optimum.split <= 1.0))
    assert np.all(optimum.split[~link] == 0.0)
    assert np.all(optimum.allocation >= 0.0)
    assert np.all(optimum.allocation[~link] == 0.0)
    for e in range(link.shape[0]):
        for n in range(link.shape[2]):
            assert sum(Fraction(x) for x in optimum.split[e, :, n]) <= 1
        for m in range(link.shape[1]):
            power = optimum.allocation[e, m]
            capacity = problem.free_flop_per_s[e, m]
            # Exactly, and in floating point from either end.
            assert sum(Fraction(x) for x in power) <= Fraction(capacity)
            assert max(sum(power.tolist()), sum(power[::-1].tolist())) <= capacity
    assert np.all(optimum.lower_bound_s <= optimum.delay_s)
    assert np.all(optimum.lower_bound_s >= 0.0)


@many_examples
@given(single)
def test_point_is_feasible_to_the_last_bit(problem: SlotProblem) -> None:
    assert_feasible(problem, slot_optimum(problem))


@few_examples
@given(several)
def test_point_with_several_stations_is_feasible_to_the_last_bit(problem: SlotProblem) -> None:
    assert_feasible(problem, slot_optimum(problem))


def assert_same_delay(first: SlotOptimum, second: SlotOptimum, relative: float) -> None:
    np.testing.assert_allclose(second.delay_s, first.delay_s, rtol=relative)


@many_examples
@given(single, st.integers(-20, 20))
def test_units_of_bytes_and_work_do_not_matter(problem: SlotProblem, power: int) -> None:
    # A power of two, so that the scaled problem is the same to the last bit.
    scale = 2.0**power
    before = slot_optimum(problem)
    in_other_bytes = changed(
        problem,
        rate_bytes_per_s=problem.rate_bytes_per_s * scale,
        task_bytes=problem.task_bytes * scale,
        overhead_bytes=problem.overhead_bytes * scale,
        work_flop_per_byte=problem.work_flop_per_byte / scale,
    )
    after = slot_optimum(in_other_bytes)
    assert_same_delay(before, after, 1e-12)
    np.testing.assert_allclose(after.split, before.split, rtol=1e-9)
    in_other_work = changed(
        problem,
        free_flop_per_s=problem.free_flop_per_s * scale,
        work_flop_per_byte=problem.work_flop_per_byte * scale,
        local_flop_per_s=problem.local_flop_per_s * scale,
    )
    after = slot_optimum(in_other_work)
    assert_same_delay(before, after, 1e-9)


@many_examples
@given(single, st.integers(-20, 20))
def test_delay_scales_with_time(problem: SlotProblem, power: int) -> None:
    scale = 2.0**power
    slower = changed(
        problem,
        rate_bytes_per_s=problem.rate_bytes_per_s / scale,
        free_flop_per_s=problem.free_flop_per_s / scale,
        local_flop_per_s=problem.local_flop_per_s / scale,
    )
    before, after = slot_optimum(problem), slot_optimum(slower)
    np.testing.assert_allclose(after.delay_s, scale * before.delay_s, rtol=1e-6)
    np.testing.assert_allclose(after.lower_bound_s, scale * before.lower_bound_s, rtol=1e-6)


@many_examples
@given(single, st.randoms(use_true_random=False))
def test_order_of_stations_and_users_does_not_matter(problem: SlotProblem, random: Any) -> None:
    stations = list(range(problem.association_mask.shape[1]))
    users = list(range(problem.association_mask.shape[2]))
    random.shuffle(stations)
    random.shuffle(users)
    by_axes = {
        "EMN": ("association_mask", "rate_bytes_per_s", "overhead_bytes"),
        "EN": ("task_bytes", "retrain_work", "user_mask"),
    }
    changes = {n: getattr(problem, n)[:, stations][:, :, users] for n in by_axes["EMN"]}
    changes |= {n: getattr(problem, n)[:, users] for n in by_axes["EN"]}
    changes["free_flop_per_s"] = problem.free_flop_per_s[:, stations]
    for name in ("work_flop_per_byte", "local_flop_per_s"):
        value = getattr(problem, name)
        changes[name] = value if isinstance(value, float) else value[:, users]
    assert_same_delay(slot_optimum(problem), slot_optimum(changed(problem, **changes)), 2e-6)


@many_examples
@given(single)
def test_more_of_anything_useful_never_hurts(problem: SlotProblem) -> None:
    before = slot_optimum(problem)
    for name, factor in (
        ("free_flop_per_s", 1.5),
        ("rate_bytes_per_s", 1.5),
        ("retrain_work", 0.5),
        ("overhead_bytes", 0.5),
    ):
        after = slot_optimum(changed(problem, **{name: getattr(problem, name) * factor}))
        assert np.all(after.lower_bound_s <= before.delay_s * (1.0 + 1e-12)), name
        assert np.all(after.delay_s <= before.delay_s * (1.0 + 2e-6)), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_several", [False, True])
def test_a_row_does_not_depend_on_its_batch(kind: str, is_several: bool) -> None:
    problem = random_problem(
        4, num_environments=5, num_stations=3, num_users=9, kind=kind, several=is_several
    )
    if is_several:  # one row of another kind among them
        link = problem.association_mask.copy()
        link[2] &= np.cumsum(link[2], axis=0) == 1
        problem = changed(problem, association_mask=link)
    together = slot_optimum(problem)
    for e in range(5):
        alone = slot_optimum(one_environment(problem, e))
        for name in ("delay_s", "lower_bound_s", "split", "allocation"):
            np.testing.assert_array_equal(
                getattr(together, name)[e : e + 1], getattr(alone, name), strict=True
            )


@pytest.mark.parametrize("is_several", [False, True])
def test_memory_layout_does_not_matter(is_several: bool) -> None:
    problem = random_problem(
        6, num_environments=4, num_stations=3, num_users=11, several=is_several
    )
    values = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    other = {k: v if isinstance(v, float) else np.asfortranarray(v) for k, v in values.items()}
    expected, optimum = slot_optimum(problem), slot_optimum(SlotProblem(**other))
    for name in ("delay_s", "lower_bound_s", "split", "allocation"):
        np.testing.assert_array_equal(getattr(optimum, name), getattr(expected, name))
