"""The frame layer around the slots: decisions, held actions, outages, and agents in turn."""

import dataclasses

import numpy as np
import pytest
from playing import assert_same, equal_weights, play, short

import dtmarl
from dtmarl.policies import policy


def nearest(view):
    """Every present user at its strongest base station, none retrained."""
    m = view.gain_db.shape[1]
    best = view.gain_db.argmax(axis=1)[:, None, :] == np.arange(m)[:, None]
    return dtmarl.FrameDecision(
        association_mask=best & view.present_mask[:, None, :],
        retrain_mask=np.zeros_like(view.present_mask),
    )


def retraining(view):
    return dataclasses.replace(nearest(view), retrain_mask=view.present_mask)


@dataclasses.dataclass
class Recorder:
    """A controller that keeps what it is shown."""

    views: list = dataclasses.field(default_factory=list)

    def slots_per_decision(self, config):
        return config.slots_per_frame

    def holds_actions(self):
        return False

    def decide(self, config, view):
        self.views.append(view)
        return nearest(view)


@pytest.mark.parametrize("period", [1, 2, 4])
def test_a_decision_is_due_before_slots_0_s_2s_and_so_on(period):
    env = dtmarl.raw_env(short("paper-v0"), slots_per_decision=period)
    env.reset(seed=1)
    for slot in range(8):
        assert env.decision_due == (slot % period == 0)
        if env.decision_due:
            env.begin_frame(nearest(env.twin_view()))
        assert not env.decision_due
        env.step(equal_weights(env))
    assert env.agents == []


def test_begin_frame_returns_observations_under_the_decision():
    env = dtmarl.raw_env(short("paper-v0"))
    before, _ = env.reset(seed=1)
    where = env.layouts.mu.slices["associated"]
    assert not any(before[a][where].any() for a in env.agents[3:])
    after = env.begin_frame(nearest(env.twin_view()))
    assert list(after) == env.agents
    assert all(after[a][where].sum() == 1 for a in env.agents[3:])


def test_the_slot_environment_with_a_caller_equals_the_wrapped_one():
    config, controller = short("vehicular-v0", frames=4), Recorder()
    wrapped, raw = dtmarl.parallel_env(config, controller=controller), dtmarl.raw_env(config)
    seen, _ = wrapped.reset(seed=2)
    raw.reset(seed=2)
    also_seen = raw.begin_frame(nearest(raw.twin_view()))
    while wrapped.agents:
        assert_same([seen], [also_seen])
        actions = equal_weights(wrapped)
        seen, rewards, *_ = wrapped.step(actions)
        also_seen, also_rewards, *_ = raw.step(actions)
        assert rewards == also_rewards
        if raw.agents and raw.decision_due:
            also_seen |= raw.begin_frame(nearest(raw.twin_view()))
    assert not raw.agents
    assert [view.slot for view in controller.views] == [0, 4, 8, 12]


def test_a_decision_may_leave_the_environment_axis_away():
    rewards = []
    for strip in (False, True):
        env = dtmarl.raw_env(short("paper-v0"))
        env.reset(seed=1)
        decision = retraining(env.twin_view())
        if strip:
            decision = dtmarl.FrameDecision(
                association_mask=decision.association_mask[0],
                retrain_mask=decision.retrain_mask[0],
            )
        env.begin_frame(decision)
        rewards.append(env.step(equal_weights(env))[1])
    assert rewards[0] == rewards[1]


def test_looking_changes_nothing():
    config = short("outage-v0")
    quiet, curious = dtmarl.parallel_env(config), dtmarl.parallel_env(config)
    for plain, watched in zip(play(quiet, 3), play(curious, 3), strict=True):
        assert_same([plain], [watched])
        curious.state()
        assert curious.unwrapped.snapshot.slot >= 0
        if curious.agents:
            curious.unwrapped.twin_view()
            curious.unwrapped.pack(equal_weights(curious))


def test_a_retraining_takes_effect_when_the_decision_ends():
    env = dtmarl.raw_env(short("paper-v0"))
    env.reset(seed=1)
    start = env.snapshot.recall.copy()
    env.begin_frame(retraining(env.twin_view()))
    present = env.snapshot.frame.present_mask[0]
    for slot in range(4):
        assert np.array_equal(env.snapshot.recall, start)
        env.step(equal_weights(env))
        assert env.outcome.retrain_mask[0].tolist() == present.tolist()
        assert (env.outcome.retrain_delay_s[0, present] > 0.0).all(), slot
    assert (env.snapshot.recall != start)[0, present].any(axis=-1).all()
    assert np.array_equal(env.snapshot.recall[0, ~present], start[0, ~present])
    assert not env.snapshot.control.retrain_mask.any()


def test_actions_are_held_for_a_frame_without_the_twin():
    config = short("paper-v0", frames=3)
    env = dtmarl.parallel_env(config, controller="without-twin")
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    in_force = {}
    while env.agents:
        slot = env.unwrapped.snapshot.slot
        actions = {a: rng.random(env.action_space(a).shape) for a in env.agents}
        given = {a: w.copy() for a, w in actions.items()}
        if slot % 4 == 0:
            in_force = given
        env.step(actions)
        for w in actions.values():
            w.fill(0.0)  # the caller may use its arrays again
        assert shares(env) == pytest.approx(expected_shares(env, in_force), rel=1e-9)
        if slot % 4:
            assert shares(env) != pytest.approx(expected_shares(env, given), rel=1e-2)


def shares(env):
    """Each served user's part of its base station's allocated compute."""
    allocation = env.unwrapped.outcome.allocation_flop_per_s[0]
    link = env.unwrapped.outcome.link_mask[0]
    total = allocation.sum(axis=1, keepdims=True)
    return (allocation / np.where(total > 0, total, 1.0))[link].tolist()


def expected_shares(env, actions):
    link = env.unwrapped.outcome.link_mask[0]
    weight = np.stack([actions[f"bs_{m}"] for m in range(3)]) * link
    total = weight.sum(axis=1, keepdims=True)
    return (weight / np.where(total > 0, total, 1.0))[link].tolist()


def test_other_schemes_take_new_actions_every_slot():
    env = dtmarl.parallel_env(short("paper-v0"), controller="proposed")
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = {a: rng.random(env.action_space(a).shape) for a in env.agents}
        env.step(actions)
        assert shares(env) == pytest.approx(expected_shares(env, actions), rel=1e-9)


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_schemes_decide_as_often_as_they_say(scheme):
    config = short("paper-v0")
    env = dtmarl.parallel_env(config, controller=scheme)
    period = dtmarl.SCHEMES[scheme].slots_per_decision(config)
    assert env.unwrapped.slots_per_decision == period
    assert period == (1 if scheme == "single-timescale" else 4)
    plan = {"without-incremental": "full", "without-twin": "physical-only"}
    env.reset(seed=0)
    assert env.unwrapped.snapshot.control.update_plan == plan.get(scheme, "incremental")


def test_a_base_station_fails_keeps_tasks_local_and_returns():
    config = dtmarl.scenario("outage-v0")
    env = dtmarl.parallel_env(config)
    found = {"down": 0, "associated": 0}
    for seed in range(3):
        acting = policy("offload-all")
        acting.reset(config, 0)
        observations, _ = env.reset(seed=seed)
        scene = env.unwrapped.snapshot.scene
        site, start = int(scene.failed_site[0]), int(scene.failure_frame[0])
        assert 0 <= site < 3
        assert 1 <= start
        assert start + config.outage.duration_frames <= 9
        while env.agents:
            state = env.unwrapped.snapshot
            frame = state.slot // 10
            away = start <= frame < start + config.outage.duration_frames
            free = state.frame.free_flop_per_s[state.slot % 10, 0]
            task = state.frame.task_bytes[state.slot % 10, 0]
            assert (free == 0.0).tolist() == [away and m == site for m in range(3)]
            observations, *_ = env.step(acting.act({a: observations[a] for a in env.agents}))
            if not away:
                continue
            outcome = env.unwrapped.outcome
            found["down"] += 1
            assert not outcome.link_mask[0, site].any()
            assert not outcome.offloaded_bytes[0, site].any()
            assert not outcome.allocation_flop_per_s[0, site].any()
            at_site = state.control.association_mask[0, site]
            alone = at_site & (state.control.association_mask[0].sum(axis=0) == 1)
            found["associated"] += int(alone.sum())
            assert (outcome.local_bytes[0, alone] == task[alone]).all()
            assert (outcome.retrain_delay_s[0, alone] == 0.0).all()
    assert found["down"] == 3 * 30
    assert found["associated"] > 0


def test_only_the_outage_scenario_has_outages():
    for scenario in dtmarl.scenarios():
        env = dtmarl.raw_env(scenario)
        env.reset(seed=0)
        assert (env.snapshot.scene.failed_site[0] >= 0) == (scenario == "outage-v0")


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_agents_in_turn_play_the_same_episode(scenario):
    config = short(scenario, frames=4)
    parallel, in_turn = dtmarl.parallel_env(config), dtmarl.env(config)
    observations, _ = parallel.reset(seed=6)
    in_turn.reset(seed=6)
    rng = np.random.default_rng(0)
    slots = 0
    terminated = set()
    while parallel.agents:
        acting = list(parallel.agents)
        actions = {a: rng.random(parallel.action_space(a).shape) for a in acting}
        for agent in acting:
            assert in_turn.agent_selection == agent
            assert_same([observations[agent]], [in_turn.observe(agent)])
            in_turn.step(actions[agent])
        observations, rewards, terminations, truncations, infos = parallel.step(actions)
        slots += 1
        for agent in acting:
            assert in_turn.rewards[agent] == rewards[agent]
            assert in_turn.terminations[agent] == terminations[agent]
            assert in_turn.truncations[agent] == truncations[agent]
            assert in_turn.infos[agent] == infos[agent]
        while in_turn.agents and (
            in_turn.terminations[in_turn.agent_selection]
            or in_turn.truncations[in_turn.agent_selection]
        ):
            terminated.add(in_turn.agent_selection)
            in_turn.step(None)
    assert slots == config.slots_per_episode
    assert in_turn.agents == []
    assert len(terminated) >= len(acting)
