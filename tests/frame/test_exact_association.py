"""Congestion-aware association: exact against enumeration, certificates, feasibility, batches."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtmarl
from dtmarl.frame.association import SOLVERS, branch, enumeration, exact, local_search
from dtmarl.frame.association.frame_objective import (
    Curves,
    association_delay_s,
    frame_objective,
    gain_of_sets_s,
)
from dtmarl.frame.association.local_search import all_options, improved, rounded
from dtmarl.frame.association.partitions import Base, best_partition
from dtmarl.frame.association.prices import Options, price_bound, worth
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    ExpectedSlot,
    association_problem,
)

EXACT_MODULE = importlib.import_module("dtmarl.frame.association.exact")
CLOSED = 2e-7
SOLVE = {name: SOLVERS[name] for name in ("exact", "local-search")}


def frames(
    seed: int,
    num_envs: int,
    num_sites: int,
    num_users: int,
    *,
    span: float = 100.0,
    dead: float = 0.1,
    zero: float = 0.1,
    absent: float = 0.1,
) -> AssociationProblem:
    """Random frames: some crowded, retraining, absent, dead or out of reach."""
    rng = np.random.default_rng([seed, num_envs, num_sites, num_users])
    shape, users = (num_envs, num_sites, num_users), (num_envs, num_users)
    rate = 1e6 * rng.choice([0.3, 3.0]) * np.exp(rng.uniform(0.0, np.log(span), shape))
    rate = np.where(rng.random(shape) < zero, 0.0, rate)
    free = rng.uniform(30e9, 50e9, shape[:2]) * rng.choice([1.0, 0.2, 0.03])
    return AssociationProblem(
        cost_s=np.ones(shape),
        demand_flop_per_s=np.ones(users),
        capacity_flop_per_s=np.where(rng.random(shape[:2]) < dead, 0.0, free),
        distance_m=rng.uniform(1.0, 200.0, shape),
        gain_db=rng.uniform(-120.0, -60.0, shape),
        present_mask=rng.random(users) >= absent,
        expected_slot=ExpectedSlot(
            rate_bytes_per_s=rate,
            task_bytes=rng.uniform(10e6, 20e6, users),
            # Now and then moving takes longer than computing locally.
            overhead_bytes=1e4 + rng.choice([4.47e6, 4.47e8]) * (rng.random(shape) < 0.3),
            retrain_work=0.75 * (rng.random(users) < rng.choice([0.0, 0.3, 1.0])),
            work_flop_per_byte=24.2e3,
            local_flop_per_s=5e9,
        ),
    )


def changed(problem: AssociationProblem, **changes: Any) -> AssociationProblem:
    fields = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    slot = {k: changes.pop(k) for k in tuple(changes) if k in ExpectedSlot._fields}
    fields["expected_slot"] = problem.expected_slot._replace(**slot)
    return AssociationProblem(**{**fields, **changes})


def row(problem: AssociationProblem, e: int) -> AssociationProblem:
    def one(part: Any) -> Any:
        return part[e : e + 1] if isinstance(part, np.ndarray) else part

    slot = ExpectedSlot(*(one(part) for part in problem.expected_slot))
    fields = {name: one(getattr(problem, name)) for name in problem.__dataclass_fields__}
    return AssociationProblem(**{**fields, "expected_slot": slot})


def check(problem: AssociationProblem, result: AssociationResult) -> None:
    """Feasible by (11d), the bound below the value, the value what the slot optimum gives."""
    association = result.association_mask
    np.testing.assert_array_equal(association.sum(axis=1), problem.present_mask)
    assert (result.bound_s <= result.value_s).all()
    assert np.isfinite(result.bound_s).all()
    optimum = association_delay_s(problem, association)
    assert (optimum <= result.value_s * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("first", range(0, 240, 30))
def test_exact_equals_enumeration(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tables of all sets, by the tree that ends in tables, and by the tree alone."""
    served = 0
    for seed in range(first, first + 30):
        problem = frames(seed, 1, 3, 8 if seed % 10 == 0 else 1 + seed % 7)
        best = enumeration(problem)
        assert best.bound_s[0] == pytest.approx(best.value_s[0], rel=2e-6)
        for most_users, few_users in ((12, 8), (0, 3), (0, 0)):
            monkeypatch.setattr(EXACT_MODULE, "MOST_USERS", most_users)
            monkeypatch.setattr(branch, "_FEW_USERS", few_users)
            result = exact(problem, node_limit=10_000)
            check(problem, result)
            assert result.value_s[0] == pytest.approx(best.value_s[0], rel=CLOSED)
            assert result.bound_s[0] == pytest.approx(best.value_s[0], rel=CLOSED)
            delay = association_delay_s(problem, result.association_mask)
            assert delay[0] == pytest.approx(best.value_s[0], rel=CLOSED)
        served += best.value_s[0] < association_delay_s(problem, problem.gain_db > 0.0)[0]
    assert served >= 20  # in the others all computing stays local


def test_the_tree_is_needed() -> None:
    """Where links are alike, bounds alone settle nothing."""
    problems = [frames(seed, 1, 3, 18, span=1.2, dead=0.0, zero=0.0) for seed in range(4)]
    assert max(exact(problem).nodes[0] for problem in problems) > 1


def test_branch_and_bound_needs_no_good_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch, "improved", lambda objective, served: served)
    for seed in range(40):
        objective = frame_objective(frames(seed, 1, 3, 9, span=3.0))
        nobody = np.full((1, 9), 3)
        root = price_bound(all_options(objective))
        monkeypatch.setattr(branch, "_FEW_USERS", seed % 9)
        found = branch.branch_and_bound(objective, nobody, root, node_limit=10_000)
        free = objective.free_flop_per_s
        best = best_partition(objective.curves, Base(0.0 * free, 0.0 * free, free, 0.0 * free))
        gain = gain_of_sets_s(objective, found.served)[0]
        slack = CLOSED * objective.local_sum_s[0]
        assert gain == pytest.approx(best.gain_s[0], abs=slack)
        assert best.gain_s[0] - 1e-9 <= found.bound_s <= gain + slack


@pytest.mark.parametrize("name", sorted(SOLVE))
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    num_envs=st.integers(1, 6),
    num_sites=st.integers(1, 4),
    num_users=st.integers(1, 9),
)
def test_environments_are_solved_each_by_itself(
    name: str, seed: int, num_envs: int, num_sites: int, num_users: int
) -> None:
    problem = frames(seed, num_envs, num_sites, num_users)
    result = SOLVE[name](problem)
    check(problem, result)
    for e in range(num_envs):
        alone = SOLVE[name](row(problem, e))
        for field in ("association_mask", "value_s", "bound_s", "nodes"):
            np.testing.assert_array_equal(getattr(result, field)[e : e + 1], getattr(alone, field))


def test_local_search_is_never_better_than_the_bound_of_exact() -> None:
    gaps = []
    for seed in range(20):
        problem = frames(seed, 10, 3, 9)
        best, found = exact(problem), local_search(problem)
        assert (found.value_s >= best.bound_s * (1.0 - 1e-12)).all()
        assert (found.bound_s <= best.value_s * (1.0 + 1e-12)).all()
        gaps.append(found.value_s / best.value_s - 1.0)
    assert 0.0 < np.mean(gaps) < 0.01  # nearly optimal, not a copy of exact


def test_local_search_leaves_no_move_and_no_exchange_that_gains() -> None:
    for seed in range(120):
        objective = frame_objective(frames(seed, 1, 3, 7, dead=0.0, zero=0.0, absent=0.0))
        start = rounded(objective, price_bound(all_options(objective), steps=1 + seed % 5))
        found = improved(objective, start)[0]
        tried = []
        for n in range(7):
            tried += [np.where(np.arange(7) == n, m, found) for m in range(4)]
            for k in range(n):
                exchanged = found.copy()
                exchanged[[n, k]] = found[[k, n]]
                tried.append(exchanged)
        gains = [gain_of_sets_s(objective, sets[None])[0] for sets in tried]
        gain = gain_of_sets_s(objective, found[None])[0]
        assert gain >= gain_of_sets_s(objective, start)[0] >= 0.0
        assert max(gains) <= gain + 1e-8 * objective.local_sum_s[0]


def test_local_search_on_torch_is_that_on_numpy() -> None:
    torch = pytest.importorskip("torch")

    def moved(part: Any) -> Any:
        return torch.from_numpy(part) if isinstance(part, np.ndarray) else part

    problem = frames(3, 40, 3, 8)
    slot = ExpectedSlot(*(moved(part) for part in problem.expected_slot))
    fields = {name: moved(getattr(problem, name)) for name in problem.__dataclass_fields__}
    there = local_search(AssociationProblem(**{**fields, "expected_slot": slot}))
    here = local_search(problem)
    np.testing.assert_array_equal(there.association_mask.numpy(), here.association_mask)
    np.testing.assert_allclose(there.value_s.numpy(), here.value_s, rtol=1e-12)
    np.testing.assert_allclose(there.bound_s.numpy(), here.bound_s, rtol=1e-9)


def test_limits_return_the_best_so_far_with_its_gap() -> None:
    problem = frames(5, 1, 4, 24, span=1.05, dead=0.0, zero=0.0, absent=0.0)
    results = [exact(problem, node_limit=limit) for limit in (0, 1, 40, 400)]
    assert [r.nodes[0] for r in results] == [0, 1, 40, 400]
    late = exact(problem, time_limit_s=0.0)
    assert late.nodes[0] == 0
    for result in (*results, late):
        check(problem, result)
        assert result.value_s[0] > result.bound_s[0] * (1.0 + CLOSED)
    values, bounds = ([getattr(r, f)[0] for r in results] for f in ("value_s", "bound_s"))
    assert values == sorted(values, reverse=True)
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]
    assert max(bounds) <= min(values)


@pytest.mark.parametrize("name", ["exact", "local-search", "enumerate"])
def test_nobody_and_nothing_to_gain(name: str) -> None:
    problem = frames(1, 2, 3, 4, dead=0.0, zero=0.0, absent=0.0)
    nobody = SOLVERS[name](changed(problem, present_mask=problem.present_mask & False))
    assert not nobody.association_mask.any()
    np.testing.assert_array_equal(nobody.value_s, 0.0)
    np.testing.assert_array_equal(nobody.bound_s, 0.0)
    slot = problem.expected_slot
    local = (slot.task_bytes * slot.work_flop_per_byte / slot.local_flop_per_s).mean(axis=-1)
    for nothing in (
        {"capacity_flop_per_s": 0.0 * problem.capacity_flop_per_s},
        {"rate_bytes_per_s": 0.0 * slot.rate_bytes_per_s},
    ):
        given_up = changed(problem, **nothing)
        result = SOLVERS[name](given_up)
        check(given_up, result)
        np.testing.assert_allclose(result.value_s, local, rtol=1e-12)
        np.testing.assert_allclose(result.bound_s, local, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(SOLVE))
def test_who_is_not_served_goes_where_it_hears_best(name: str) -> None:
    problem = frames(2, 3, 3, 5, dead=0.0, zero=0.0, absent=0.0)
    rate = problem.expected_slot.rate_bytes_per_s.copy()
    rate[:, :, 2] = 0.0
    free = problem.capacity_flop_per_s.copy()
    loudest = problem.gain_db[:, :, 2].argmax(axis=-1)
    free[0, loudest[0]] = 0.0  # that one is down
    given_up = changed(problem, rate_bytes_per_s=rate, capacity_flop_per_s=free)
    site = SOLVE[name](given_up).association_mask[:, :, 2].argmax(axis=-1)
    np.testing.assert_array_equal(site[1:], loudest[1:])
    alive = np.where(free[0] > 0.0, problem.gain_db[0, :, 2], -np.inf)
    assert site[0] == alive.argmax() != loudest[0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), log_price=st.floats(-6.0, -3.0))
def test_worth_is_the_best_gain_less_the_price_of_compute(seed: int, log_price: float) -> None:
    """Over all λ at which the user does not lose; sampled finely."""
    objective = frame_objective(frames(seed, 1, 2, 4))
    curves, free = objective.curves, objective.free_flop_per_s
    options = all_options(objective)
    price = np.full((1, 2), 10.0**log_price)
    found = worth(options, price)
    gamma = np.maximum(curves.gamma, 1e-30)
    least = np.where(options.allowed_mask, curves.beta**2 / np.maximum(curves.alpha, 1e-30), gamma)
    power = least - gamma + np.geomspace(1.0, 1e15, 20_001)[:, None, None, None]
    gain = curves.alpha - curves.beta**2 / (power + gamma) - price[..., None] ** 2 * power
    gain = gain.max(axis=0)
    link = options.allowed_mask
    np.testing.assert_array_equal(found == -np.inf, ~link)
    np.testing.assert_allclose(found[link], gain[link], rtol=1e-3, atol=1e-3)
    assert (found[link] >= gain[link] - 1e-9).all()
    # A bound at any price, however bad.
    bound = price_bound(options, price, steps=1).bound_s
    nothing = np.zeros_like(free)
    best = best_partition(curves, Base(nothing, nothing, free, nothing))
    assert bound[0] >= best.gain_s[0] - 1e-9
    assert gain_of_sets_s(objective, best.served)[0] == pytest.approx(best.gain_s[0], abs=1e-9)


def test_a_forced_choice_can_cost() -> None:
    """Bounds with some choices taken away, against the best sets without them."""
    for seed in range(30):
        objective = frame_objective(frames(seed, 1, 3, 6))
        rng = np.random.default_rng(seed)
        curves, free = objective.curves, objective.free_flop_per_s
        allowed = np.isfinite(curves.entry) & (rng.random(curves.entry.shape) < 0.6)
        options = Options(curves, free, allowed, np.ones((1, 6), dtype=bool))
        entry = np.where(allowed, curves.entry, np.inf)
        nothing = np.zeros_like(free)
        best = best_partition(
            Curves(curves.alpha, curves.beta, curves.gamma, entry),
            Base(nothing, nothing, free, nothing),
        )
        assert price_bound(options).bound_s[0] >= best.gain_s[0] - 1e-9
        # Users that have to be served where they are served best: the bound stays above.
        must = (best.served < 3) & (rng.random((1, 6)) < 0.5)
        forced = options._replace(idle_mask=~must)
        assert price_bound(forced).bound_s[0] >= best.gain_s[0] - 1e-9


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_schemes_play_with_every_solver(name: str) -> None:
    config = dtmarl.scenario("paper-v0").replace(min_users=4, max_users=5, frames_per_episode=3)
    scheme = dtmarl.Scheme(association=name)
    env = dtmarl.parallel_env(config, controller=scheme)
    env.reset(seed=4)
    while env.agents:
        view = env.unwrapped.twin_view() if env.unwrapped.snapshot.slot % 10 == 0 else None
        if view is not None:
            decision = scheme.decide(config, view)
            assert decision.association_value_s.shape == (1,)
            assert (decision.association_bound_s <= decision.association_value_s).all()
            np.testing.assert_array_equal(decision.association_mask.sum(axis=1), view.present_mask)
        env.step({agent: np.full(env.action_space(agent).shape, 0.5) for agent in env.agents})
    assert env.unwrapped.snapshot.slot == 30


def test_exact_is_what_algorithm_1_would_like_to_be() -> None:
    """On the twin's own terms no solver is better, and under congestion others are worse."""
    env = dtmarl.parallel_env("hotspot-v0")
    env.reset(seed=1)
    view, config = env.unwrapped.twin_view(), env.unwrapped.config
    problem = association_problem(config, view, np.zeros_like(view.mean_task_bytes))
    best = exact(problem)
    for name in ("algorithm-1", "nearest", "strongest", "local-search"):
        delay = association_delay_s(problem, SOLVERS[name](problem).association_mask)
        assert delay[0] >= best.bound_s[0] * (1.0 - 1e-12)
        assert name == "local-search" or delay[0] > best.value_s[0] * 1.01


def test_bad_calls() -> None:
    problem = frames(1, 1, 3, 4)
    fields = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    linear = AssociationProblem(**{**fields, "expected_slot": None})
    for name in ("exact", "local-search", "enumerate"):
        with pytest.raises(ValueError, match="expected one with an expected_slot"):
            SOLVERS[name](linear)
    with pytest.raises(ValueError, match="expected_slot"):
        association_delay_s(linear, problem.gain_db > 0.0)
    with pytest.raises(ValueError, match="node_limit: expected None or a number"):
        exact(problem, node_limit=-1)
    with pytest.raises(ValueError, match="time_limit_s: expected None or a number"):
        exact(problem, time_limit_s=float("nan"))
    crowd = frames(1, 1, 3, 13, dead=0.0, zero=0.0, absent=0.0)
    with pytest.raises(ValueError, match="at most 100000 associations, got 3\\^13 in environment"):
        enumeration(crowd)
    free = np.full((1, 3), 1e15)
    objective = frame_objective(changed(crowd, capacity_flop_per_s=free))
    with pytest.raises(ValueError, match="at most 12 users that gain, got 13"):
        best_partition(objective.curves, Base(0.0 * free, 0.0 * free, free, 0.0 * free))
