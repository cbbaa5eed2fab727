"""Association solvers against enumeration, P2's numbers by hand, and the schemes of section IV."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import dtmarl
from dtmarl import SCHEMES, FrameDecision
from dtmarl.accuracy import ENGINES
from dtmarl.frame.association import SOLVERS, algorithm_1
from dtmarl.frame.association.algorithm_1 import (
    at_most_one_move,
    finish,
    solve_by_branch_and_bound,
    solve_by_enumeration,
)
from dtmarl.frame.association.few_moves import all_ways, best_choice, few_moves
from dtmarl.frame.association.problem import AssociationProblem, association_problem

SITES = 3
NUM_INSTANCES = 240
Instance = tuple[np.ndarray, np.ndarray, np.ndarray]


def instance(seed: int) -> Instance:
    """Costs, demands and capacities, in turn ample, tight and too small for any association."""
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 7))
    cost = rng.uniform(1.0, 60.0, (SITES, users)) * rng.choice([1.0, 1e3])
    demand = rng.uniform(1e9, 2e10, users)
    shares = rng.dirichlet(np.full(SITES, 3.0))
    total = demand.sum() * (3.0, 1.3, 1.02, 0.7)[seed % 4]
    capacity = shares * total
    if seed % 7 == 0:
        capacity[int(rng.integers(SITES))] = 0.0  # a site that is down
    return cost, demand, capacity


def load_of(sites: tuple[int, ...], demand: np.ndarray) -> np.ndarray:
    return np.bincount(sites, weights=demand, minlength=SITES)


def best_by_enumeration(cost: np.ndarray, demand: np.ndarray, capacity: np.ndarray) -> float | None:
    """Least cost over all single-site assignments within capacity; None where there is none."""
    users = range(demand.size)
    costs = [
        sum(cost[m, n] for m, n in zip(sites, users, strict=True))
        for sites in itertools.product(range(SITES), repeat=demand.size)
        if (load_of(sites, demand) <= capacity).all()
    ]
    return min(costs, default=None)


def problem_of(*instances: Instance) -> AssociationProblem:
    """Several instances as environments of one problem; absent users fill up."""
    most = max(demand.size for _, demand, _ in instances)
    e = len(instances)
    cost, demand = np.full((e, SITES, most), np.nan), np.full((e, most), np.nan)
    present = np.zeros((e, most), dtype=bool)
    for row, (c, d, _) in enumerate(instances):
        # Absent users lie between the present ones, where an index could go wrong.
        here = np.sort(np.random.default_rng(row).permutation(most)[: d.size])
        cost[row][:, here], demand[row, here], present[row, here] = c, d, True
    nothing = np.zeros_like(cost)
    capacity = np.stack([instance[2] for instance in instances])
    return AssociationProblem(cost, demand, capacity, nothing, nothing, present)


@pytest.mark.parametrize("first", range(0, NUM_INSTANCES, 40))
def test_algorithm_1_is_optimal_within_capacity(first: int) -> None:
    instances = [instance(seed) for seed in range(first, first + 40)]
    problem = problem_of(*instances)
    result = algorithm_1(problem)
    feasible = 0
    for e, (cost, demand, capacity) in enumerate(instances):
        association = result.association_mask[e]
        present = problem.present_mask[e]
        np.testing.assert_array_equal(association.sum(axis=0), present)
        sites = tuple(association[:, present].argmax(axis=0).tolist())
        best = best_by_enumeration(cost, demand, capacity)
        assert result.bound_s[e] <= result.value_s[e] * (1.0 + 1e-12)
        if best is None:
            continue
        feasible += 1
        assert (load_of(sites, demand) <= capacity * (1.0 + 1e-6)).all()
        total = sum(cost[m, n] for n, m in enumerate(sites))
        assert total == pytest.approx(best, rel=1e-9)
        assert result.value_s[e] == pytest.approx(best / demand.size, rel=1e-9)
        assert result.bound_s[e] == pytest.approx(best / demand.size, rel=1e-4)
    assert 10 <= feasible <= 38


@pytest.mark.parametrize("seed", range(0, NUM_INSTANCES, 3))
def test_each_way_to_the_optimum_is_right_by_itself(seed: int) -> None:
    cost, demand, capacity = instance(seed)
    best = best_by_enumeration(cost, demand, capacity)
    solution = solve_by_enumeration(cost, demand, capacity)
    assert (solution is None) == (best is None)
    if solution is not None:
        sites, value, bound, _ = solution
        assert value == pytest.approx(best, rel=1e-12)
        assert bound == value
        assert (load_of(tuple(sites), demand) <= capacity * (1.0 + 1e-8)).all()
    sites, value, bound, nodes = solve_by_branch_and_bound(cost, demand, capacity)
    assert nodes >= 0
    assert bound <= value * (1.0 + 1e-12)
    if best is not None:
        assert cost[sites, np.arange(demand.size)].sum() == pytest.approx(best, rel=1e-9)
        assert value == pytest.approx(best, rel=1e-9)
        assert (load_of(tuple(sites), demand) <= capacity * (1.0 + 1e-6)).all()


def test_algorithm_1_can_begin_with_one_move_everywhere() -> None:
    problem = problem_of(*(instance(seed) for seed in range(60)))
    ways = all_ways(*problem.cost_s.shape[1:], 1)
    site, settled = at_most_one_move(problem, ways)
    assert 0 < settled.sum() < settled.size
    got, expected = finish(problem, site, settled, moves_tried=1), algorithm_1(problem)
    np.testing.assert_allclose(got.value_s, expected.value_s, rtol=1e-12)
    np.testing.assert_array_equal(got.association_mask, expected.association_mask)


def test_what_few_moves_proves_is_the_optimum_and_it_proves_most() -> None:
    proofs = {"best choice": 0, "one move": 0, "two moves": 0, "three moves": 0, "none": 0}
    for first in range(0, NUM_INSTANCES, 40):
        instances = [instance(seed) for seed in range(first, first + 40)]
        problem = problem_of(*instances)
        cost = np.where(problem.present_mask[:, None, :], problem.cost_s, 0.0)
        given = (cost, problem.demand_flop_per_s, problem.capacity_flop_per_s)
        easy, fits = best_choice(*given, problem.present_mask)
        ways = {"best choice": (easy, fits)}
        for num_moves, name in enumerate(("one move", "two moves", "three moves"), start=1):
            ways[name] = few_moves(num_moves, *given, problem.present_mask)
        for e, (c, d, limit) in enumerate(instances):
            here = problem.present_mask[e]
            best = best_by_enumeration(c, d, limit)
            for site, proof in ways.values():
                if proof[e]:
                    sites = site[e, here]
                    assert c[sites, np.arange(d.size)].sum() == pytest.approx(best, rel=1e-9)
                    assert (load_of(tuple(sites), d) <= limit * (1.0 + 1e-8)).all()
            proofs[next((name for name, (_, proof) in ways.items() if proof[e]), "none")] += 1
    assert min(proofs.values()) >= 10, proofs


@pytest.mark.parametrize("seed", range(40))
def test_where_nothing_fits_cost_and_excess_are_weighed(seed: int) -> None:
    """The excess has a price of ten times the largest possible cost over the least demand."""
    cost, demand, _ = instance(seed)
    rng = np.random.default_rng(seed)
    capacity = rng.dirichlet(np.full(SITES, 3.0)) * demand.sum() * 0.7
    price = 10.0 * cost.max(axis=0).sum() / demand.min()
    totals = {
        sites: sum(cost[m, n] for n, m in enumerate(sites))
        + price * np.maximum(load_of(sites, demand) - capacity, 0.0).sum()
        for sites in itertools.product(range(SITES), repeat=demand.size)
    }
    sites, value, bound, _ = solve_by_branch_and_bound(cost, demand, capacity)
    assert bound <= value * (1.0 + 1e-12)
    assert value == pytest.approx(min(totals.values()), rel=1e-6)
    assert totals[tuple(sites.tolist())] == pytest.approx(min(totals.values()), rel=1e-6)


def test_ten_users_agree_with_enumeration() -> None:
    """Beyond what is enumerated by default: 3¹⁰ associations, all looked at here."""
    rng = np.random.default_rng(1)
    choices = np.indices((SITES,) * 10).reshape(10, -1)
    for _ in range(5):
        cost, demand = rng.uniform(10.0, 60.0, (SITES, 10)), rng.uniform(1e9, 2e10, 10)
        cost[0] *= 0.3  # everybody would like to go to the first site
        capacity = np.full(SITES, demand.sum() * 0.4)
        loads = np.stack([((choices == m) * demand[:, None]).sum(axis=0) for m in range(SITES)])
        totals = cost[choices, np.arange(10)[:, None]].sum(axis=0)
        best = totals[(loads <= capacity[:, None]).all(axis=0)].min()
        assert best > cost.min(axis=0).sum()
        result = algorithm_1(problem_of((cost, demand, capacity)))
        assert result.value_s[0] == pytest.approx(best / 10, rel=1e-9)
        assert result.bound_s[0] <= result.value_s[0] * (1.0 + 1e-12)


def test_an_empty_network_has_nothing_to_associate() -> None:
    problem = problem_of(instance(1))
    empty = AssociationProblem(
        problem.cost_s,
        problem.demand_flop_per_s,
        problem.capacity_flop_per_s,
        problem.distance_m,
        problem.gain_db,
        np.zeros_like(problem.present_mask),
    )
    result = algorithm_1(empty)
    assert not result.association_mask.any()
    assert result.value_s[0] == 0.0


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_every_solver_gives_each_present_user_a_site(name: str) -> None:
    # Up to forty users have too many associations to look at them all.
    env = dtmarl.raw_env("paper-v0" if name == "enumerate" else "hotspot-v0")
    env.reset(seed=2)
    view = env.twin_view()
    problem = association_problem(env.config, view, np.zeros_like(view.mean_task_bytes))
    result = SOLVERS[name](problem)
    np.testing.assert_array_equal(result.association_mask.sum(axis=1), view.present_mask)
    assert (result.bound_s <= result.value_s * (1.0 + 1e-12)).all()
    env.begin_frame(
        FrameDecision(
            association_mask=result.association_mask, retrain_mask=view.present_mask & False
        )
    )


def test_nearest_and_strongest() -> None:
    shape = (1, 2, 3)
    problem = AssociationProblem(
        cost_s=np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]),
        demand_flop_per_s=np.ones((1, 3)),
        capacity_flop_per_s=np.ones((1, 2)),
        distance_m=np.array([[[10.0, 90.0, 10.0], [50.0, 20.0, 70.0]]]),
        gain_db=np.array([[[-90.0, -80.0, -70.0], [-80.0, -95.0, -60.0]]]),
        present_mask=np.array([[True, True, False]]),
    )
    near = SOLVERS["nearest"](problem)
    expected = [[[True, False, False], [False, True, False]]]
    np.testing.assert_array_equal(near.association_mask, expected)
    assert near.value_s[0] == pytest.approx((1.0 + 5.0) / 2.0)
    strong = SOLVERS["strongest"](problem)
    expected = [[[False, True, False], [True, False, False]]]
    np.testing.assert_array_equal(strong.association_mask, expected)
    assert strong.value_s[0] == pytest.approx((4.0 + 2.0) / 2.0)
    assert near.association_mask.shape == shape


def played(scheme: str, num_slots: int) -> tuple[Any, list[dict[str, Any]]]:
    """What a scheme's environment did slot by slot under the random policy."""
    # Without outages the shares follow from the weights alone.
    config = dtmarl.scenario("paper-v0").replace(radio={"outage_snr_db": -300.0})
    env = dtmarl.parallel_env(config, controller=scheme)
    rng = np.random.default_rng(3)
    env.reset(seed=6)
    slots = []
    for _ in range(num_slots):
        before = env.unwrapped.snapshot
        env.step({agent: rng.random(env.action_space(agent).shape) for agent in env.agents})
        outcome = env.unwrapped.outcome
        slots.append(
            {
                "slot": before.slot,
                "control": before.control,
                "outcome": outcome,
                "shares": outcome.offloaded_bytes
                / np.maximum(outcome.offloaded_bytes.sum(axis=1) + outcome.local_bytes, 1.0)[
                    :, None
                ],
                "accuracy": before.twin.knowledge.slot_accuracy,
            }
        )
    return env, slots


def test_the_four_schemes_are_those_of_section_iv() -> None:
    assert list(SCHEMES) == ["proposed", "without-incremental", "without-twin", "single-timescale"]
    config = dtmarl.scenario("paper-v0")
    decided_every = {name: s.slots_per_decision(config) for name, s in SCHEMES.items()}
    assert decided_every == {
        "proposed": 10,
        "without-incremental": 10,
        "without-twin": 10,
        "single-timescale": 1,
    }
    assert [name for name, s in SCHEMES.items() if s.holds_actions()] == ["without-twin"]
    plans = {name: s.update_plan for name, s in SCHEMES.items()}
    assert plans == {
        "proposed": "incremental",
        "without-incremental": "full",
        "without-twin": "physical-only",
        "single-timescale": "incremental",
    }


@pytest.mark.parametrize(
    ("scheme", "field"),
    [
        ("proposed", "forecast_accuracy"),
        ("without-incremental", "forecast_accuracy"),
        ("without-twin", "frame_accuracy"),
        ("single-timescale", "slot_accuracy"),
    ],
)
def test_each_scheme_retrains_by_its_accuracy(scheme: str, field: str) -> None:
    """Eq (15): c = 1 where the accuracy is at most C̄, for present users."""
    config = dtmarl.scenario("paper-v0")
    env = dtmarl.raw_env(config)
    env.reset(seed=1)
    view = env.twin_view()
    users = view.present_mask.shape[1]
    sure = dict.fromkeys(("forecast_accuracy", "frame_accuracy", "slot_accuracy"), 1.0)
    accuracy = np.linspace(0.80, 0.89, users)[None]
    accuracy[0, 4] = config.learning.accuracy_threshold
    filled = {name: np.full((1, users), value) for name, value in sure.items()}
    decision = SCHEMES[scheme].decide(config, view._replace(**{**filled, field: accuracy}))
    expected = view.present_mask & (accuracy <= 0.85)
    np.testing.assert_array_equal(decision.retrain_mask, expected)
    assert 0 < expected.sum() < users
    none = SCHEMES[scheme].decide(config, view._replace(**filled))
    assert not none.retrain_mask.any()


def test_single_timescale_decides_every_slot() -> None:
    _, slots = played("single-timescale", 30)
    threshold = dtmarl.scenario("paper-v0").learning.accuracy_threshold
    for slot in slots:
        present = slot["outcome"].present_mask
        expected = present & (slot["accuracy"] <= threshold)
        np.testing.assert_array_equal(slot["control"].retrain_mask, expected)
    retrained = [tuple(slot["control"].retrain_mask[0].tolist()) for slot in slots]
    assert len(set(retrained[:10])) > 1  # within a frame


@pytest.mark.parametrize("scheme", ["proposed", "without-incremental", "without-twin"])
def test_frame_schemes_decide_once_a_frame(scheme: str) -> None:
    _, slots = played(scheme, 30)
    for slot in slots:
        first = slots[slot["slot"] // 10 * 10]["control"]
        np.testing.assert_array_equal(slot["control"].association_mask, first.association_mask)
        np.testing.assert_array_equal(slot["control"].retrain_mask, first.retrain_mask)


def test_without_twin_holds_actions_within_a_frame() -> None:
    for scheme, holds in (("without-twin", True), ("proposed", False)):
        _, slots = played(scheme, 30)
        for slot in slots:
            first = slots[slot["slot"] // 10 * 10]
            same = np.allclose(slot["shares"], first["shares"], rtol=1e-9)
            assert same == (holds or slot is first)
        assert not np.allclose(slots[0]["shares"], slots[10]["shares"])


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_only_schemes_with_a_twin_train_on_its_samples(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[float, float, str]] = []
    env = dtmarl.parallel_env("paper-v0", controller=scheme)
    engine = ENGINES[env.unwrapped.config.learning.engine]
    original = engine.update

    def update(self: Any, recall: Any, real: Any, twin: Any, noise: Any, *, mode: str) -> Any:
        given.append((float(real.sum()), float(twin.sum()), mode))
        return original(self, recall, real, twin, noise, mode=mode)

    monkeypatch.setattr(engine, "update", update)
    env.reset(seed=6)
    for _ in range(60):
        env.step({a: np.full(env.action_space(a).shape, 0.5) for a in env.agents})
    assert len(given) == (60 if scheme == "single-timescale" else 6)
    trained = [(real, twin) for real, twin, _ in given if real > 0.0]
    assert trained
    modes = {mode for _, _, mode in given}
    assert modes == {"full" if scheme == "without-incremental" else "incremental"}
    with_twin = scheme in ("proposed", "single-timescale")
    real, twin = (sum(amounts) for amounts in zip(*trained, strict=True))
    # Half of the trained bytes are the twin's; what is uploaded is a noisy count.
    assert (twin == pytest.approx(real, rel=0.2)) if with_twin else twin == 0.0
