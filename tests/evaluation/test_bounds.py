"""Gaps to certified bounds, and between what the twin expects and what comes."""

import itertools

import numpy as np
import pytest
from playing import PERFECT_TWIN, short

import dtmarl
from dtmarl.evaluation import rollout
from dtmarl.evaluation.bounds import episode_bounds
from dtmarl.optimum import slot_optimum
from dtmarl.optimum.slots import optimal_weights, true_problem

GAPS = ("optimality_gap", "clairvoyant_gap", "twin_gap", "twin_error")


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_no_slot_is_below_its_bounds(scenario, scheme):
    config = short(scenario, frames=4)
    for policy in ("random", "oracle"):
        record = rollout(policy, config, scheme, 6)
        assert (record.slot_bound_s > 0.0).all()
        assert (record.slot_bound_s <= record.system_delay_s * (1.0 + 1e-12)).all()
        assert (record.clairvoyant_bound_s <= record.slot_bound_s * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("policy", ["twin-optimum", "root-balanced"])
def test_no_policy_is_below_the_bounds_of_a_whole_episode(policy):
    record = rollout(policy, "vehicular-v0", "proposed", 1)
    assert (record.slot_bound_s <= record.system_delay_s).all()
    assert (record.clairvoyant_bound_s < record.system_delay_s).all()
    # Associations cost something, but not everything.
    share = record.clairvoyant_bound_s.sum() / record.slot_bound_s.sum()
    assert 0.5 < share < 0.99


def test_no_association_that_is_played_is_below_the_clairvoyant_bound():
    config = short("paper-v0", frames=1, num_base_stations=2, min_users=3, max_users=3)
    sites = [(True, False), (False, True), (True, True)]
    least, bounds = [], []
    for choice in itertools.product(sites, repeat=3):
        env = dtmarl.raw_env(config)
        env.reset(seed=8)
        mask = np.array(choice).T[None]
        env.begin_frame(
            dtmarl.FrameDecision(
                association_mask=mask, retrain_mask=np.array([[True, False, True]])
            )
        )
        states, actions, delays = [], [], []
        while env.agents:
            states.append(env.snapshot)
            problem = true_problem(config, states[-1:])
            weights = optimal_weights(problem, slot_optimum(problem))
            named = zip(env.agents, (*weights[0][0], *weights[1][0]), strict=True)
            env.step(dict(named))
            actions.append(env.action)
            delays.append(env.outcome.system_delay_s[0])
        least.append(delays)
        bounds.append(episode_bounds(config, states, actions).clairvoyant_bound_s)
    assert len(least) == 27
    np.testing.assert_array_equal(bounds, [bounds[0]] * 27)  # whatever the association
    assert (bounds[0] <= np.min(least, axis=0)).all()
    # Nothing is proved by a bound of zero.
    assert (bounds[0] >= 0.97 * np.min(least, axis=0)).all()


def test_gaps_are_ratios_of_sums_over_the_episode():
    config = short("outage-v0", frames=4)
    record = rollout("fixed-split", config, "proposed", 3)
    report = dtmarl.evaluate("fixed-split", config, seeds=[3])
    delay = record.system_delay_s.sum()
    assert report.mean("optimality_gap") == pytest.approx(delay / record.slot_bound_s.sum() - 1)
    assert report.mean("clairvoyant_gap") == pytest.approx(
        delay / record.clairvoyant_bound_s.sum() - 1
    )
    assert report.mean("twin_gap") == pytest.approx(delay / record.expected_delay_s.sum() - 1)
    assert report.mean("slot_bound_s") == pytest.approx(record.slot_bound_s.mean())
    assert report.curves["slot_bound_s"].mean == pytest.approx(tuple(record.slot_bound_s))
    away = np.abs(record.system_delay_s - record.expected_delay_s).sum()
    assert report.mean("twin_error") == pytest.approx(away / record.expected_delay_s.sum())


def test_reports_give_gaps_with_intervals():
    config = short("paper-v0", frames=3)
    report = dtmarl.evaluate("root-balanced", config, seeds=range(5))
    for name in GAPS:
        low, high = report.interval(name)
        assert low <= report.mean(name) <= high
    low, high = report.interval("optimality_gap")
    assert 0.0 < low < high < 1.0
    worse = dtmarl.evaluate("local-only", config, seeds=range(5))
    assert worse.difference(report, "optimality_gap").low > 0.0


@pytest.mark.parametrize("policy", ["root-balanced", "twin-optimum", "random"])
@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_a_perfect_twin_has_no_gap(scheme, policy):
    config = short("vehicular-v0", frames=4, twin=PERFECT_TWIN)
    record = rollout(policy, config, scheme, 2)
    np.testing.assert_allclose(record.expected_delay_s, record.system_delay_s, rtol=1e-9)
    report = dtmarl.evaluate(policy, config, seeds=[2], controller=scheme)
    assert abs(report.mean("twin_gap")) < 1e-9
    assert report.mean("twin_error") < 1e-9


def test_the_gap_to_the_twin_grows_with_its_faults():
    paper = dtmarl.scenario("paper-v0")
    fidelities = (
        paper.replace(twin=PERFECT_TWIN),
        paper.replace(twin={**PERFECT_TWIN, "gain_noise_db": 1.0, "task_noise": 0.05}),
        paper,
        dtmarl.scenario("stale-twin-v0"),
    )
    reports = [dtmarl.evaluate("root-balanced", c, seeds=range(6)) for c in fidelities]
    for better, worse in itertools.pairwise(reports):
        assert worse.difference(better, "twin_error").low > 0.0
    assert reports[3].difference(reports[2], "twin_gap").low > 0.0
    # A policy is led astray by what the twin gets wrong.
    assert reports[3].mean("optimality_gap") > reports[0].mean("optimality_gap")


def test_a_bound_belongs_to_the_decisions_in_force():
    config = short("paper-v0", frames=2)
    states, actions = [], []
    env = dtmarl.parallel_env(config)
    env.reset(seed=1)
    while env.agents:
        states.append(env.unwrapped.snapshot)
        env.step({a: np.ones(env.action_space(a).shape, dtype=np.float32) for a in env.agents})
        actions.append(env.unwrapped.action)
    bounds = episode_bounds(config, states, actions)
    idle = [
        state._replace(
            control=state.control._replace(retrain_work=np.zeros_like(state.control.retrain_work))
        )
        for state in states
    ]
    without = episode_bounds(config, idle, actions)
    retrains = np.array([state.control.retrain_mask.any() for state in states])
    assert retrains.any()
    assert (without.slot_bound_s[retrains] < bounds.slot_bound_s[retrains]).all()
    assert (without.clairvoyant_bound_s[retrains] < bounds.clairvoyant_bound_s[retrains]).all()


def test_held_actions_are_scored_as_they_were_played():
    config = short("paper-v0", frames=2, twin=PERFECT_TWIN)
    env = dtmarl.parallel_env(config, controller="without-twin")
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    given, played = [], []
    while env.agents:
        given.append({a: rng.random(env.action_space(a).shape) for a in env.agents})
        env.step(given[-1])
        played.append(env.unwrapped.action)
    for slot, action in enumerate(played):
        first = given[slot - slot % config.slots_per_frame]
        np.testing.assert_array_equal(action.allocation_weight[0, 0], first["bs_0"])
    assert not np.array_equal(played[0].allocation_weight, played[-1].allocation_weight)
