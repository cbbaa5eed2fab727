"""Who is there, in which order, with which spaces; rewards, ends, arrivals and departures."""

import numpy as np
import pytest
from gymnasium.spaces import Box
from playing import assert_same, episode, equal_weights, play, short

import dtmarl

SCENARIOS = pytest.mark.parametrize("scenario", dtmarl.scenarios())


def churning(**changes):
    """A lively vehicular network in short episodes."""
    return short("vehicular-v0", frames=6, churn={"mean_stay_frames": 1.5}, **changes)


@SCENARIOS
def test_base_stations_come_first_then_users_by_index(scenario):
    config = dtmarl.scenario(scenario)
    env = dtmarl.parallel_env(scenario)
    assert env.possible_agents == [f"bs_{m}" for m in range(config.num_base_stations)] + [
        f"mu_{n}" for n in range(config.max_users)
    ]
    for slot in play(env, seed=2):
        assert list(slot.agents) == [a for a in env.possible_agents if a in slot.agents]
        returned = list(slot.observations)
        assert returned == [a for a in env.possible_agents if a in returned]


@SCENARIOS
def test_the_number_of_users_is_in_its_range(scenario):
    config = dtmarl.scenario(scenario)
    env = dtmarl.parallel_env(scenario)
    counts = set()
    for seed in range(30):
        env.reset(seed=seed)
        users = [a for a in env.agents if a.startswith("mu_")]
        counts.add(len(users))
        assert config.num_base_stations + len(users) == len(env.agents)
    assert config.min_users <= min(counts) < max(counts) <= config.max_users


def test_every_number_of_users_is_drawn():
    env = dtmarl.raw_env("paper-v0")
    counts = [env.reset(seed=seed) and len(env.agents) - 3 for seed in range(60)]
    assert set(counts) == {5, 6, 7, 8, 9, 10}


@SCENARIOS
def test_spaces_are_flat_boxes_of_weights_and_of_the_layouts(scenario):
    env = dtmarl.parallel_env(scenario)
    config, layouts = env.unwrapped.config, env.unwrapped.layouts
    for agent in env.possible_agents:
        is_site = agent.startswith("bs_")
        observation, action = env.observation_space(agent), env.action_space(agent)
        assert isinstance(observation, Box)
        assert isinstance(action, Box)
        assert observation.dtype == action.dtype == np.float32
        assert observation.shape == ((layouts.bs if is_site else layouts.mu).size,)
        size = config.max_users if is_site else 1 + config.num_base_stations
        assert action.shape == (size,)
        assert (action.low == 0.0).all()
        assert (action.high == 1.0).all()
    assert env.state_space.shape == (layouts.state.size,)


@SCENARIOS
@pytest.mark.parametrize("absent_agents", ["omit", "idle"])
def test_everybody_who_acted_earns_minus_the_system_delay_over_the_reference(
    scenario, absent_agents
):
    env = dtmarl.parallel_env(scenario, absent_agents=absent_agents)
    before = ()
    for slot in play(env, seed=3):
        if slot.rewards:
            delay = slot.outcome["system_delay_s"][0]
            expected = -delay / env.unwrapped.config.reference_delay_s
            assert delay > 0.0
            assert {slot.rewards[agent] for agent in before} == {expected}
            assert all(type(reward) is float for reward in slot.rewards.values())
        before = slot.agents


@SCENARIOS
def test_all_are_truncated_at_the_time_limit_and_nobody_before(scenario):
    env = dtmarl.parallel_env(scenario)
    slots = episode(env, seed=4)
    assert len(slots) == 1 + env.unwrapped.config.slots_per_episode == 101
    for slot in slots[1:-1]:
        assert not any(slot.truncations.values())
        assert slot.agents
    last = slots[-1]
    assert last.agents == ()
    assert set(last.truncations) == set(slots[-2].agents)
    assert all(last.truncations.values())
    assert not any(last.terminations.values())
    assert set(last.observations) == set(last.rewards) == set(last.infos) == set(last.truncations)


def test_users_who_leave_are_terminated_and_their_names_are_not_used_again():
    left, arrived = 0, 0
    for seed in range(6):
        gone: set[str] = set()
        before = None
        for slot in play(dtmarl.parallel_env(churning()), seed):
            now = set(slot.agents)
            assert not gone & now
            if before is not None and slot.agents:
                done = {agent for agent, over in slot.terminations.items() if over}
                assert done == before - now
                assert set(slot.observations) == before | now
                assert all(not slot.observations[agent].any() for agent in done)
                gone |= done
                left += len(done)
                arrived += len(now - before)
            before = now
    assert left >= 5
    assert arrived >= 5


def test_users_come_and_go_at_frame_boundaries_only():
    for slot_number, slot in enumerate(episode(dtmarl.parallel_env(churning()), seed=1)):
        changed = any(slot.terminations.values()) or len(slot.rewards) > len(slot.actions)
        assert not changed or slot_number % 4 == 0


def test_users_who_arrive_have_earned_nothing_and_see_something():
    arrivals = 0
    for seed in range(6):
        before = set()
        for slot in play(dtmarl.parallel_env(churning()), seed):
            for agent in set(slot.agents) - before if slot.rewards else ():
                arrivals += 1
                assert slot.rewards[agent] == 0.0
                assert not slot.terminations[agent]
                assert not slot.truncations[agent]
                assert slot.observations[agent].any()
            before = set(slot.agents)
    assert arrivals >= 5


def test_residents_stay_for_the_whole_episode():
    config = churning()
    for slot in episode(dtmarl.parallel_env(config), seed=1)[:-1]:
        assert {f"mu_{n}" for n in range(config.min_users)} <= set(slot.agents)


@pytest.mark.parametrize("config", [short("paper-v0"), churning()], ids=["paper", "churn"])
def test_absent_users_that_are_kept_in_are_idle(config):
    env = dtmarl.parallel_env(config, absent_agents="idle")
    zero_rows = 0
    for slot in play(env, seed=2):
        if not slot.agents:
            break
        assert list(slot.agents) == env.possible_agents
        here = env.unwrapped.snapshot.frame.present_mask[0]
        for n, present in enumerate(here):
            row = slot.observations[f"mu_{n}"]
            assert row.any() == present
            zero_rows += not present
        assert not any(slot.terminations.values())
    assert zero_rows


@pytest.mark.parametrize("config", [short("paper-v0"), churning()], ids=["paper", "churn"])
def test_keeping_absent_users_in_does_not_change_the_trajectory(config):
    omitting = dtmarl.parallel_env(config)
    keeping = dtmarl.parallel_env(config, absent_agents="idle")
    seen, _ = omitting.reset(seed=9)
    also_seen, _ = keeping.reset(seed=9)
    rng = np.random.default_rng(0)
    slots = 0
    while omitting.agents:
        assert_same([seen[a] for a in omitting.agents], [also_seen[a] for a in omitting.agents])
        assert_same([omitting.state()], [keeping.state()])
        actions = {a: rng.random(keeping.action_space(a).shape) for a in keeping.agents}
        acting = omitting.agents
        seen, reward, *_ = omitting.step({a: actions[a] for a in acting})
        also_seen, also_reward, *_ = keeping.step(actions)
        assert {also_reward[a] for a in acting} == {reward[a] for a in acting}
        slots += 1
    assert not keeping.agents
    assert slots == config.slots_per_episode


def test_actions_of_absent_users_are_ignored():
    config = short("paper-v0")
    rewards = []
    for weight in (0.0, 1.0):
        env = dtmarl.parallel_env(config, absent_agents="idle")
        env.reset(seed=2)
        absent = [n for n, p in enumerate(env.unwrapped.snapshot.frame.present_mask[0]) if not p]
        assert absent
        actions = equal_weights(env)
        for n in absent:
            actions[f"mu_{n}"] = np.full(4, weight, dtype=np.float32)
            for m in range(3):
                actions[f"bs_{m}"][n] = weight
        rewards.append(env.step(actions)[1])
    assert rewards[0] == rewards[1]


def test_weights_outside_the_space_are_clipped():
    config = short("paper-v0")
    results = []
    for scale, shift in ((1.0, 0.0), (40.0, -20.0)):
        env = dtmarl.parallel_env(config)
        env.reset(seed=3)
        rng = np.random.default_rng(1)
        corners = {a: rng.integers(0, 2, env.action_space(a).shape) for a in env.agents}
        results.append(env.step({a: scale * w + shift for a, w in corners.items()})[:2])
    assert_same(*[[result] for result in results])


def test_weights_matter_and_only_their_ratios():
    config = short("paper-v0")
    rewards = []
    for local, remote in ((0.25, 0.5), (0.5, 1.0), (0.5, 0.5)):
        env = dtmarl.parallel_env(config)
        env.reset(seed=3)
        actions = equal_weights(env)
        for agent in env.agents:
            if agent.startswith("mu_"):
                actions[agent] = np.array([local, remote, remote, remote])
        rewards.append(env.step(actions)[1]["bs_0"])
    assert rewards[0] == rewards[1] != rewards[2]


@pytest.mark.parametrize("absent_agents", ["omit", "idle"])
def test_infos_hold_each_users_own_figures_and_the_networks(absent_agents):
    env = dtmarl.parallel_env(short("paper-v0"), absent_agents=absent_agents)
    for slot in play(env, seed=3):
        if not slot.rewards:
            assert slot.infos == {agent: {} for agent in slot.agents}
            continue
        outcome = {name: values[0] for name, values in slot.outcome.items()}
        present = outcome["present_mask"]
        for agent, info in slot.infos.items():
            assert info["system_delay_s"] == outcome["system_delay_s"]
            if agent.startswith("bs_"):
                assert info["accuracy"] == pytest.approx(outcome["accuracy"][present].mean())
                assert info["breakout"] == pytest.approx(outcome["breakout_mask"][present].mean())
                assert len(info) == 3
                continue
            n = int(agent.removeprefix("mu_"))
            delay = outcome["delay_s"][n] + outcome["retrain_delay_s"][n]
            assert info["delay_s"] == delay
            assert info["accuracy"] == outcome["accuracy"][n]
            assert info["breakout"] is bool(outcome["breakout_mask"][n])
            assert len(info) == 4
        users = [slot.infos[f"mu_{n}"]["delay_s"] for n in np.flatnonzero(present)]
        assert np.mean(users) == pytest.approx(outcome["system_delay_s"], rel=1e-12)


def test_everybody_sees_something_at_the_time_limit():
    # Trainers bootstrap from the last observation of a truncated agent.
    for seed in range(12):
        last = episode(dtmarl.parallel_env(churning()), seed)[-1]
        assert [agent for agent, seen in last.observations.items() if not seen.any()] == []
