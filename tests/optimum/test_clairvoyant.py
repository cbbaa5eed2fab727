"""The bound over all associations: below everything that can be done, and not far below."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from other_optimisers import by_slsqp
from scipy.optimize import minimize
from slot_cases import KINDS, one_environment, random_problem

from dtmarl.optimum import SlotProblem, clairvoyant_bound_s, slot_optimum
from dtmarl.optimum.clairvoyant import _least_cost_s, _Users

Array = np.ndarray[Any, Any]


def every_link(problem: SlotProblem) -> SlotProblem:
    return dataclasses.replace(
        problem,
        association_mask=np.broadcast_to(
            problem.user_mask[:, None, :], problem.association_mask.shape
        ),
    )


def best_by_enumeration(problem: SlotProblem) -> tuple[float, int]:
    """Least delay over all associations of an environment with one to all stations per user."""
    _, m, n = problem.association_mask.shape
    sets = [s for s in itertools.product([False, True], repeat=m) if any(s)]
    masks = np.array(list(itertools.product(sets, repeat=n))).transpose(0, 2, 1)
    values = {
        name: np.repeat(value, len(masks), axis=0)
        for name in problem.__dataclass_fields__
        if not isinstance(value := getattr(problem, name), float)
    }
    values["association_mask"] = masks & values["user_mask"][:, None, :]
    optimum = slot_optimum(dataclasses.replace(problem, **values))
    return float(optimum.delay_s.min()), len(masks)


@pytest.mark.parametrize("kind", KINDS)
def test_no_association_is_below_it(kind: str) -> None:
    for seed, (stations, users) in enumerate([(2, 3), (3, 2), (1, 4)]):
        problem = every_link(
            random_problem(seed, num_stations=stations, num_users=users, kind=kind)
        )
        bound = float(clairvoyant_bound_s(problem)[0])
        least, number = best_by_enumeration(problem)
        assert number == (2**stations - 1) ** users
        assert bound <= least * (1.0 + 1e-9)
        assert bound > 0.0 or not problem.user_mask.any()


@pytest.mark.parametrize("kind", KINDS)
def test_slsqp_over_all_links_is_not_below_it(kind: str) -> None:
    rng = np.random.default_rng(4)
    for seed in range(500, 503):
        problem = every_link(random_problem(seed, num_stations=3, num_users=3, kind=kind))
        other = by_slsqp(problem, rng, num_starts=3)
        assert clairvoyant_bound_s(problem)[0] <= other * (1.0 + 1e-9)


@pytest.mark.parametrize("kind", ["paper", "congested", "fast"])
def test_it_is_not_far_below(kind: str) -> None:
    problem = every_link(
        random_problem(8, num_environments=8, num_stations=3, num_users=6, kind=kind)
    )
    without = dataclasses.replace(problem, overhead_bytes=0.0 * problem.overhead_bytes)
    optimum, bound = slot_optimum(without), clairvoyant_bound_s(without)
    assert np.all(bound <= optimum.delay_s * (1.0 + 1e-12))
    assert np.all(bound >= 0.99 * optimum.lower_bound_s)
    assert bound.mean() >= 0.995 * optimum.lower_bound_s.mean()


def test_it_is_the_optimum_with_one_station_and_no_retraining() -> None:
    problem = random_problem(3, num_environments=40, num_stations=1, num_users=6)
    problem = dataclasses.replace(
        problem,
        retrain_work=0.0 * problem.retrain_work,
        overhead_bytes=0.0 * problem.overhead_bytes,
    )
    bound, optimum = clairvoyant_bound_s(problem), slot_optimum(problem)
    np.testing.assert_allclose(bound, optimum.delay_s, rtol=1e-6)


def test_overheads_of_used_links_count() -> None:
    problem = every_link(random_problem(0, num_environments=16, num_stations=2, num_users=4))
    none, much = (
        clairvoyant_bound_s(
            dataclasses.replace(
                problem, overhead_bytes=np.full_like(problem.overhead_bytes, number)
            )
        )
        for number in (0.0, 5e6)
    )
    assert np.all(much > none * 1.001)


def user_cost(user: _Users, price: Array, split: Array, compute: Array) -> float:
    """Delay plus price of a user that sends parts and has them computed in these times."""
    transfer = 1.0 / user.pace[0, :, 0]
    used = split > 0.0
    arrival = np.where(used, split * transfer + compute, 0.0)
    finish = max(user.local_s[0, 0] * (1.0 - split.sum()), float(arrival.max()))
    paid = price * user.root_work[0, 0] ** 2 * split / compute
    return finish + user.retrain_work[0, 0] * np.where(used, compute, 0.0).max() + paid.sum()


def best_cost_by_simplex(user: _Users, price: Array) -> tuple[float, int]:
    """Least cost over all sets of links that finish together, and the size of the best set."""
    pace, local = user.pace[0, :, 0], float(user.local_s[0, 0])
    best, size = local, 0
    for number in range(1, 8):
        links = np.array([bool(number >> i & 1) for i in range(3)])

        def cost(z: Array, links: Array = links) -> float:
            compute = np.ones(3)
            compute[links] = np.exp(z)
            finish = 1.0 + (pace * compute)[links].sum()
            finish /= 1.0 / local + pace[links].sum()
            split = np.where(links, (finish - compute) * pace, 0.0)
            return 1e6 if split.min() < 0.0 else user_cost(user, price, split, compute)

        start = np.log(np.full(int(links.sum()), 0.3 / pace[links].sum() + 1.0))
        result = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9})
        result = minimize(cost, result.x, method="Nelder-Mead", options={"fatol": 1e-10})
        if result.fun < best:
            best, size = float(result.fun), int(links.sum())
    return best, size


@pytest.mark.parametrize("retrain_work", [0.0, 0.1, 0.75, 5.0])
def test_what_a_user_costs_at_least_is_exact(retrain_work: float) -> None:
    rng = np.random.default_rng([7, int(100 * retrain_work)])
    sizes = set()
    for _ in range(12):
        pace = np.exp(rng.uniform(np.log(0.005), np.log(1.0), 3))
        price = np.exp(rng.uniform(np.log(0.5), np.log(60.0), 3))
        retrain = np.array([[retrain_work]])
        user = _Users(pace[None, :, None], np.array([[70.0]]), np.ones((1, 1)), retrain)
        least = float(_least_cost_s(user, np.sqrt(price)[None, :])[0, 0])
        found, size = best_cost_by_simplex(user, price)
        assert least == pytest.approx(found, rel=1e-6)
        sizes.add(size)
        for _ in range(300):  # parts that do not finish together, some links not used at all
            split = rng.dirichlet(np.ones(4))[:3] * (rng.random(3) < 0.6)
            compute = np.exp(rng.uniform(np.log(0.5), np.log(70.0), 3))
            assert user_cost(user, price, split, compute) >= least * (1.0 - 1e-9)
    assert len(sizes) > 1


def test_it_does_not_depend_on_the_batch_and_needs_no_retraining_users() -> None:
    problem = every_link(random_problem(1, num_environments=12, num_stations=3, num_users=5))
    together = clairvoyant_bound_s(problem)
    for e in range(12):
        alone = clairvoyant_bound_s(one_environment(problem, e))
        assert alone.tobytes() == together[e : e + 1].tobytes()


def test_torch_gives_the_same() -> None:
    torch = pytest.importorskip("torch")
    for kind in ("paper", "few", "varied"):
        problem = every_link(random_problem(2, num_environments=6, num_stations=3, kind=kind))
        values = {
            name: value if isinstance(value, float) else torch.from_numpy(np.array(value))
            for name in problem.__dataclass_fields__
            for value in [getattr(problem, name)]
        }
        bound = clairvoyant_bound_s(SlotProblem(**values))
        np.testing.assert_allclose(bound.numpy(), clairvoyant_bound_s(problem), rtol=1e-9)


def changed(**values: Any) -> SlotProblem:
    problem = random_problem(6, num_environments=3, num_stations=2, num_users=4)
    return dataclasses.replace(
        problem, **{n: np.full_like(getattr(problem, n), v) for n, v in values.items()}
    )


@pytest.mark.parametrize(
    "values",
    [
        {"rate_bytes_per_s": 0.0},
        {"free_flop_per_s": 0.0},
        {"association_mask": False},
    ],
)
def test_where_nothing_can_be_offloaded_it_is_the_local_delay(values: dict[str, Any]) -> None:
    problem = changed(**values)
    local = problem.task_bytes * problem.work_flop_per_byte / problem.local_flop_per_s
    np.testing.assert_allclose(clairvoyant_bound_s(problem), local.mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("values", [{"user_mask": False}, {"task_bytes": 0.0}])
def test_with_nothing_to_do_it_is_zero(values: dict[str, Any]) -> None:
    assert clairvoyant_bound_s(changed(**values)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("num_stations", "num_users"), [(0, 3), (2, 0), (0, 0)])
def test_empty_networks(num_stations: int, num_users: int) -> None:
    shape = (2, num_stations, num_users)
    problem = SlotProblem(
        association_mask=np.ones(shape, dtype=bool),
        rate_bytes_per_s=np.ones(shape),
        task_bytes=np.ones((2, num_users)),
        overhead_bytes=np.zeros(shape),
        retrain_work=np.zeros((2, num_users)),
        free_flop_per_s=np.ones((2, num_stations)),
        work_flop_per_byte=3.0,
        local_flop_per_s=1.0,
        user_mask=np.ones((2, num_users), dtype=bool),
    )
    expected = 3.0 if num_users else 0.0
    assert clairvoyant_bound_s(problem).tolist() == [expected, expected]
