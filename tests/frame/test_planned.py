"""Retraining as part of the objective: cost, saving, and the controller that weighs them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import dtmarl
from dtmarl.frame.association import exact
from dtmarl.frame.association.problem import association_problem
from dtmarl.frame.controller import CONTROLLERS
from dtmarl.frame.planned import (
    Planned,
    attainable_accuracy,
    retraining_cost_s,
    saving_features,
)
from dtmarl.physics.learning import update_plan

CONFIG = dtmarl.scenario("paper-v0")
WORK = update_plan("incremental", CONFIG.learning).work
ALWAYS = {"saving_offset": 1.0, "saving_share": 0.0, "saving_share_per_frame": 0.0}


def view_at(seed: int, frame: int = 0) -> dtmarl.TwinView:
    """What the twin shows at a frame of an episode under equal weights."""
    env = dtmarl.parallel_env(CONFIG)
    env.reset(seed=seed)
    for _ in range(frame * CONFIG.slots_per_frame):
        env.step({agent: np.full(env.action_space(agent).shape, 0.5) for agent in env.agents})
    return env.unwrapped.twin_view()


def stacked(*views: dtmarl.TwinView) -> dtmarl.TwinView:
    parts = zip(*views, strict=True)
    return dtmarl.TwinView(*(p[0] if isinstance(p[0], int) else np.concatenate(p) for p in parts))


def test_a_retraining_costs_what_it_adds_to_the_best_delay() -> None:
    for seed in range(6):
        view = view_at(seed)
        users = np.flatnonzero(view.present_mask[0])
        cost = retraining_cost_s(CONFIG, view, WORK)[0]
        assert (cost[users] > 0.0).any()
        np.testing.assert_array_equal(cost[~view.present_mask[0]], 0.0)
        for n in users[:3]:
            alone = WORK * (np.arange(cost.size) == n)[None]
            delay = [
                exact(association_problem(CONFIG, view, work)).value_s[0] * users.size
                for work in (0.0 * alone, alone)
            ]
            # Local search is within a fraction of a per cent of the optimum.
            assert cost[n] == pytest.approx(delay[1] - delay[0], abs=0.005 * delay[0])


def test_costs_of_several_environments_are_those_of_each() -> None:
    views = [view_at(seed) for seed in (1, 2)]
    both = retraining_cost_s(CONFIG, stacked(*views), WORK)
    for e, view in enumerate(views):
        np.testing.assert_array_equal(both[e : e + 1], retraining_cost_s(CONFIG, view, WORK))


def test_attainable_accuracy_follows_the_mix_and_the_images() -> None:
    view = view_at(1, 1)
    plan = update_plan("incremental", CONFIG.learning)
    one_class = np.broadcast_to(np.eye(10)[3], view.class_mix.shape)
    uniform = np.full(view.class_mix.shape, 0.1)
    accuracy = [
        attainable_accuracy(CONFIG, view._replace(class_mix=mix), plan)
        for mix in (one_class, uniform)
    ]
    assert ((accuracy[1] > 0.5) & (accuracy[0] > accuracy[1]) & (accuracy[0] <= 1.0)).all()
    few = view._replace(class_mix=one_class, mean_task_bytes=0.01 * view.mean_task_bytes)
    assert (attainable_accuracy(CONFIG, few, plan) < accuracy[0]).all()


def test_saving_grows_with_what_is_missing_and_with_age() -> None:
    view = view_at(1, 1)
    planned = Planned(saving_offset=0.01, saving_share=0.1, saving_share_per_frame=0.2)
    plan = update_plan("incremental", CONFIG.learning)
    missing = attainable_accuracy(CONFIG, view, plan) - 0.8
    view = view._replace(forecast_accuracy=np.full(missing.shape, 0.8))
    for slots, frames in ((0, 0.0), (15, 1.5), (30, 3.0), (80, 3.0)):
        aged = view._replace(model_age_slots=np.full(missing.shape, slots))
        expected = 0.01 + (0.1 + 0.2 * frames) * missing
        np.testing.assert_allclose(planned.expected_saving(CONFIG, aged), expected, rtol=1e-12)
    assert saving_features(CONFIG, view, plan).shape == (*missing.shape, 3)


@pytest.mark.parametrize("seed", range(4))
def test_without_a_price_it_is_the_threshold_rule(seed: int) -> None:
    view = stacked(view_at(seed, 1), view_at(seed + 10, 2))
    rule = dtmarl.Scheme(association="exact").decide(CONFIG, view)
    planned = Planned(price_per_s=0.0, margin=0.0, **ALWAYS).decide(CONFIG, view)
    assert rule.retrain_mask.any()
    for name in ("association_mask", "retrain_mask", "association_value_s", "association_bound_s"):
        np.testing.assert_array_equal(getattr(planned, name), getattr(rule, name))


def test_a_higher_price_retrains_fewer_and_delays_less() -> None:
    # A threshold that the mean holds anyway, and a margin that makes everybody a candidate.
    config = CONFIG.replace(learning={"accuracy_threshold": 0.6})
    view = stacked(*(view_at(seed, 1) for seed in range(5)))
    decisions = [
        Planned(price_per_s=price, margin=0.4).decide(config, view)
        for price in (0.0, 0.0025, 0.004, 1e3)
    ]
    for low, high in itertools.pairwise(decisions):
        assert (high.retrain_mask <= low.retrain_mask).all()
        assert high.retrain_mask.sum() < low.retrain_mask.sum()
        assert (high.association_value_s <= low.association_value_s * (1.0 + 1e-12)).all()
    assert not (decisions[0].retrain_mask & ~view.present_mask).any()
    # Who costs nothing, because nothing is offloaded, may be retrained at any price.
    cost = retraining_cost_s(config, view, WORK)
    assert (cost[decisions[-1].retrain_mask] == 0.0).all()


def test_at_any_price_the_mean_is_expected_to_hold() -> None:
    """By those who save most for their cost, and no more of them than it takes."""
    threshold = CONFIG.learning.accuracy_threshold
    planned = Planned(price_per_s=1e3, margin=0.05)
    reached = 0
    for seed in range(12):
        view = view_at(seed, 1)
        here = view.present_mask[0]
        saving = planned.expected_saving(CONFIG, view)[0]
        cost = retraining_cost_s(CONFIG, view, WORK)[0]
        candidate = here & (view.forecast_accuracy[0] <= threshold + 0.05) & (saving >= 0.0)
        chosen = planned.decide(CONFIG, view).retrain_mask[0]
        assert (chosen <= candidate).all()
        expected = view.forecast_accuracy[0][here].sum() + saving[chosen].sum()
        if expected < threshold * here.sum():
            np.testing.assert_array_equal(chosen, candidate)
            continue
        if chosen.any():
            reached += 1
            ratio = saving / np.maximum(cost, 1e-9)
            left = candidate & ~chosen
            assert ratio[chosen].min() >= ratio[left].max(initial=-np.inf)
            last = np.flatnonzero(chosen)[ratio[chosen].argmin()]
            assert expected - saving[last] < threshold * here.sum()
    assert reached >= 3


def test_it_is_chosen_by_name_and_plays() -> None:
    assert {*dtmarl.SCHEMES, "planned"} == set(CONTROLLERS)
    env = dtmarl.parallel_env(CONFIG.replace(frames_per_episode=3), controller="planned")
    assert isinstance(env.controller, Planned)
    assert not env.controller.holds_actions()
    env.reset(seed=3)
    retrained: list[Any] = []
    while env.agents:
        retrained.append(env.unwrapped.snapshot.control.retrain_mask.sum())
        env.step({agent: np.full(env.action_space(agent).shape, 0.5) for agent in env.agents})
    assert len(retrained) == 30
    assert max(retrained) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"association": "best"}, "Planned.association: expected one of"),
        ({"update_plan": "none"}, "Planned.update_plan: expected one of"),
        ({"price_per_s": -1.0}, "Planned.price_per_s: expected a finite number"),
        ({"prize": 1.0}, "Planned has no field 'prize'"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Planned().replace(**change)
