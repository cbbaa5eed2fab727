"""The environment's slots as problems: the same physics, and weights that reach the optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playing import PERFECT_TWIN, short
from slot_cases import KINDS, random_problem

import dtmarl
from dtmarl import dynamics
from dtmarl.optimum import slot_optimum
from dtmarl.optimum.slots import (
    action_delay_s,
    any_association,
    believed_problem,
    optimal_weights,
    true_problem,
)
from dtmarl.policies import policy
from dtmarl.types import Action, State

EVERY = [(scenario, scheme) for scenario in dtmarl.scenarios() for scheme in dtmarl.SCHEMES]


def played(
    config: dtmarl.ScenarioConfig, scheme: str = "proposed", which: str = "random", seed: int = 3
) -> tuple[list[State], Action, np.ndarray[Any, Any]]:
    """States, weights and delays of an episode."""
    env, acting = dtmarl.parallel_env(config, controller=scheme), policy(which)
    acting.reset(config, seed)
    observations, _ = env.reset(seed=seed)
    states, actions, delays = [], [], []
    while env.agents:
        states.append(env.unwrapped.snapshot)
        observations, *_ = env.step(acting.act({a: observations[a] for a in env.agents}))
        actions.append(env.unwrapped.action)
        delays.append(env.unwrapped.outcome.system_delay_s[0])
    action = Action(*(np.concatenate(parts) for parts in zip(*actions, strict=True)))
    return states, action, np.array(delays)


@pytest.mark.parametrize(("scenario", "scheme"), EVERY)
def test_a_true_problem_has_the_delays_of_the_environment(scenario: str, scheme: str) -> None:
    config = short(scenario, frames=4)
    states, action, delays = played(config, scheme)
    problem = true_problem(config, states)
    np.testing.assert_allclose(action_delay_s(problem, action), delays, rtol=1e-12)
    assert np.all(slot_optimum(problem).lower_bound_s <= delays * (1.0 + 1e-12))


def test_the_cases_include_moves_outages_retraining_and_absence() -> None:
    found = set()
    for scenario in ("outage-v0", "vehicular-v0"):
        config = short(scenario, frames=4)
        states, _, _ = played(config)
        problem = true_problem(config, states)
        associated = np.concatenate([s.control.association_mask for s in states])
        down = problem.free_flop_per_s == 0.0
        found |= (
            {"moves"} if (problem.overhead_bytes > config.traffic.result_bytes).any() else set()
        )
        found |= {"retraining"} if (problem.retrain_work > 0.0).any() else set()
        found |= {"absence"} if not problem.user_mask.all() else set()
        found |= {"site down"} if (associated & down[:, :, None]).any() else set()
        found |= {"link out"} if (associated & (problem.rate_bytes_per_s == 0.0)).any() else set()
    assert found == {"moves", "retraining", "absence", "site down", "link out"}


@pytest.mark.parametrize("scenario", ["paper-v0", "vehicular-v0", "outage-v0", "stale-twin-v0"])
def test_a_perfect_twin_believes_the_truth(scenario: str) -> None:
    config = short(scenario, frames=4, twin=PERFECT_TWIN)
    states, _, _ = played(config)
    true, believed = true_problem(config, states), believed_problem(config, states)
    for name in true.__dataclass_fields__:
        expected, found = (np.asarray(getattr(p, name), dtype=float) for p in (true, believed))
        if name == "rate_bytes_per_s":  # nothing is known of those who are not there
            expected, found = (true.user_mask[:, None, :] * part for part in (expected, found))
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=name)


def test_what_the_twin_believes_is_its_own() -> None:
    config = short("stale-twin-v0", frames=3)
    states, _, _ = played(config)
    elsewhere = [
        state._replace(
            frame=state.frame._replace(
                rate_bytes_per_s=0.5 * state.frame.rate_bytes_per_s,
                gain=0.5 * state.frame.gain,
                task_bytes=0.5 * state.frame.task_bytes,
                free_flop_per_s=0.5 * state.frame.free_flop_per_s,
            )
        )
        for state in states
    ]
    for name in believed_problem(config, states).__dataclass_fields__:
        before, after = (getattr(believed_problem(config, s), name) for s in (states, elsewhere))
        np.testing.assert_array_equal(before, after)
    for name in ("rate_bytes_per_s", "task_bytes", "free_flop_per_s"):
        true, believed = (
            getattr(make(config, states), name) for make in (true_problem, believed_problem)
        )
        assert np.mean(true != believed) > 0.1
        assert (true != getattr(true_problem(config, elsewhere), name)).any()


def test_believed_delays_are_those_of_a_world_that_is_as_the_twin_believes() -> None:
    config = short("vehicular-v0", frames=4)
    states, action, delays = played(config)
    found = action_delay_s(believed_problem(config, states), action)
    for t, state in enumerate(states):
        problem = believed_problem(config, [state])
        frame, s = state.frame, state.slot % config.slots_per_frame
        path = {
            name: np.repeat(getattr(problem, name)[None], len(frame.task_bytes), axis=0)
            for name in ("rate_bytes_per_s", "task_bytes", "free_flop_per_s")
        }
        heard = state._replace(
            frame=frame._replace(**path),
            control=state.control._replace(link_mask=state.control.association_mask),
        )
        weights = Action(*(part[t : t + 1] for part in action))
        outcome = dynamics.slot_outcome(config, heard, weights, np.zeros((1, config.max_users)))
        assert outcome.system_delay_s[0] == pytest.approx(found[t], rel=1e-12)
        assert s == t % config.slots_per_frame
    assert np.abs(found / delays - 1.0).max() > 0.05


@pytest.mark.parametrize(
    ("kind", "several"), [(kind, False) for kind in KINDS] + [("paper", True), ("few", True)]
)
def test_weights_reach_the_optimum(kind: str, several: bool) -> None:
    problem = random_problem(
        5, num_environments=12, num_stations=3, num_users=7, kind=kind, several=several
    )
    optimum = slot_optimum(problem)
    weights = optimal_weights(problem, optimum)
    for part in weights:
        assert part.dtype == np.float32
        assert part.min() >= 0.0
        assert part.max() <= 1.0
    delay = action_delay_s(problem, Action(*(part.astype(float) for part in weights)))
    # Users that the optimum does not serve get the smallest weight all the same: 0.1 % each.
    loss = (delay - optimum.delay_s) / np.maximum(optimum.delay_s, 1e-9)
    assert loss.max() < 1e-2
    assert np.median(loss) < 3e-3
    if kind == "fast" and not several:  # everybody is served
        assert loss.max() < 1e-6


def test_weights_where_nothing_can_be_offloaded_keep_everything_local() -> None:
    problem = random_problem(0, num_stations=2, num_users=3)
    for name in ("rate_bytes_per_s", "free_flop_per_s"):
        none = {name: np.zeros_like(getattr(problem, name))}
        values = {n: getattr(problem, n) for n in problem.__dataclass_fields__} | none
        if name == "rate_bytes_per_s":
            values["overhead_bytes"] = np.zeros_like(problem.overhead_bytes)
        dead = dtmarl.SlotProblem(**values)
        weights = optimal_weights(dead, slot_optimum(dead))
        assert (weights.split_weight[..., 0] == 1.0).all()
        assert (weights.split_weight[..., 1:] == 0.0).all()


def test_slots_with_nobody_there() -> None:
    config = short("paper-v0")
    states, action, _ = played(config)
    nobody = [
        state._replace(
            frame=state.frame._replace(present_mask=np.zeros_like(state.frame.present_mask))
        )
        for state in states
    ]
    problem = true_problem(config, nobody)
    assert action_delay_s(problem, action).tolist() == [0.0] * len(states)
    assert slot_optimum(problem).delay_s.tolist() == [0.0] * len(states)
    weights = optimal_weights(problem, slot_optimum(problem))
    assert all(np.isfinite(part).all() for part in weights)


def test_any_association_moves_nothing_and_has_every_working_link() -> None:
    config = short("outage-v0", frames=4)
    problem = true_problem(config, played(config)[0])
    free = any_association(config, problem)
    assert (free.association_mask >= problem.association_mask).all()
    assert free.association_mask.sum() > problem.association_mask.sum()
    assert not free.association_mask[problem.rate_bytes_per_s == 0.0].any()
    assert (free.overhead_bytes == config.traffic.result_bytes).all()
    assert (free.overhead_bytes <= problem.overhead_bytes).all()


def test_states_are_needed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        true_problem(short("paper-v0"), [])
