"""The anchor that sees the truth, and the strongest policy that does not."""

from __future__ import annotations

import numpy as np
import pytest
from playing import PERFECT_TWIN, as_dicts, episode, short

import dtmarl
from dtmarl.evaluation.rollout import begin_episode, rollout
from dtmarl.policies import FixedSplit, is_anchor, policy

EVERY = [(scenario, scheme) for scenario in dtmarl.scenarios() for scheme in dtmarl.SCHEMES]


class Spy(FixedSplit):
    """Keeps what it is shown."""

    uses_truth = False
    seen = None

    def __init__(self):
        super().__init__(offloaded=0.5)

    def watch(self, env):
        self.seen = env


class HonestSpy(Spy):
    uses_truth = True


class Shy(FixedSplit):
    uses_truth = True


def gaps(record):
    return record.system_delay_s / record.slot_bound_s - 1.0


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_the_oracle_plays_the_optimum_of_every_slot(scenario):
    record = rollout("oracle", short(scenario, frames=4), "proposed", 2)
    # What is left is the smallest weight of users that the optimum does not serve.
    assert gaps(record).max() < 1e-3
    assert gaps(record).mean() < 5e-4
    if scenario == "paper-v0":
        assert gaps(record).mean() < 5e-5


@pytest.mark.parametrize("scenario", ["paper-v0", "outage-v0", "vehicular-v0"])
def test_with_a_perfect_twin_the_twin_s_optimum_is_the_optimum(scenario):
    config = short(scenario, frames=4, twin=PERFECT_TWIN)
    assert gaps(rollout("twin-optimum", config, "proposed", 2)).max() < 1e-3
    assert gaps(rollout("root-balanced", config, "proposed", 2)).max() > 1e-3


def test_the_oracle_is_below_everyone_and_the_twin_s_optimum_below_the_rules():
    delays = {
        name: dtmarl.evaluate(name, "paper-v0", seeds=range(3)).mean("system_delay_s")
        for name in ("oracle", "twin-optimum", "root-balanced", "fixed-split")
    }
    assert list(delays.values()) == sorted(delays.values())


@pytest.mark.parametrize("which", ["oracle", "twin-optimum"])
@pytest.mark.parametrize(("scenario", "scheme"), EVERY)
def test_actions_are_valid_in_every_scenario_under_every_scheme(scenario, scheme, which):
    config = short(scenario, frames=3)
    env, acting = dtmarl.parallel_env(config, controller=scheme), policy(which)
    observations = begin_episode(acting, env, 5)
    slots = 0
    while env.agents:
        actions = acting.act({agent: observations[agent] for agent in env.agents})
        assert list(actions) == env.agents
        assert all(env.action_space(agent).contains(actions[agent]) for agent in env.agents)
        observations, *_ = env.step(actions)
        slots += 1
    assert slots == config.slots_per_episode


@pytest.mark.parametrize("which", ["oracle", "twin-optimum"])
def test_idle_agents_do_not_matter(which):
    config = short("vehicular-v0", frames=4)
    delays = []
    for absent in ("omit", "idle"):
        env, acting = dtmarl.parallel_env(config, absent_agents=absent), policy(which)
        observations = begin_episode(acting, env, 5)
        found = []
        while env.agents:
            observations, *_ = env.step(acting.act({a: observations[a] for a in env.agents}))
            found.append(env.unwrapped.outcome.system_delay_s[0])
        delays.append(found)
    assert delays[0] == delays[1]


def test_users_with_several_base_stations_are_split_over_them():
    class Everywhere:
        def slots_per_decision(self, config):
            return config.slots_per_frame

        def holds_actions(self):
            return False

        def decide(self, config, view):
            everywhere = np.ones_like(view.association_mask) & view.present_mask[:, None, :]
            return dtmarl.FrameDecision(
                association_mask=everywhere, retrain_mask=np.zeros_like(view.present_mask)
            )

    config = short("paper-v0", frames=1, max_users=5, min_users=4)
    several = 0
    for which in ("oracle", "twin-optimum"):
        env, acting = dtmarl.parallel_env(config, controller=Everywhere()), policy(which)
        observations = begin_episode(acting, env, 1)
        actions = acting.act(observations)
        several += sum((actions[a][1:] > 0.01).sum() > 1 for a in actions if a.startswith("mu"))
    assert several > 2
    records = {
        name: rollout(name, config, Everywhere(), 1)
        for name in ("oracle", "twin-optimum", "root-balanced")
    }
    assert gaps(records["oracle"]).max() < 2e-2
    delays = [record.system_delay_s.mean() for record in records.values()]
    assert delays == sorted(delays)


def test_a_held_action_of_the_oracle_is_no_optimum():
    config = short("paper-v0", frames=4)
    assert gaps(rollout("oracle", config, "without-twin", 2)).max() > 1e-2


def test_the_twin_s_optimum_sees_observations_alone():
    config = short("paper-v0", frames=3)
    one, two = policy("twin-optimum"), policy("twin-optimum")
    env = dtmarl.parallel_env(config)
    one.reset(config, 0)
    two.reset(config, 1)
    observations, _ = env.reset(seed=3)
    first = one.act(observations)
    for _ in range(5):
        env.step(first)
    second = two.act(observations)
    assert all(first[agent].tobytes() == second[agent].tobytes() for agent in first)
    other = {agent: row.copy() for agent, row in observations.items()}
    other["mu_0"][one.mu_layout.slices["task"]] *= 0.5
    assert any((first[a] != b).any() for a, b in two.act(other).items())


def test_a_batch_of_the_twin_s_optimum_has_the_actions_of_its_rows():
    config = short("vehicular-v0", frames=3)
    rows, expected = [], []
    for seed in (1, 2, 3):
        env = dtmarl.parallel_env(config, absent_agents="idle")
        acting = policy("twin-optimum")
        observations = begin_episode(acting, env, seed)
        rows.append(observations)
        expected.append(acting.act(observations))
    stacked = {
        kind: np.stack([[row[a] for a in row if a.startswith(kind)] for row in rows])
        for kind in ("bs", "mu")
    }
    found = acting.act_batch(stacked)
    for e, actions in enumerate(expected):
        for kind in ("bs", "mu"):
            alone = np.stack([actions[a] for a in actions if a.startswith(kind)])
            assert found[kind][e].tobytes() == alone.tobytes()


def test_only_a_policy_that_declares_it_is_shown_the_truth():
    config = short("paper-v0")
    for kind, shown in ((Spy, False), (HonestSpy, True)):
        spy = kind()
        report = dtmarl.evaluate(spy, config, seeds=[0])
        assert (spy.seen is not None) == shown
        assert report.provenance.uses_truth == is_anchor(spy) == shown
    assert [name for name in dtmarl.POLICIES if is_anchor(policy(name))] == ["oracle"]


def test_an_anchor_has_to_be_able_to_watch():
    with pytest.raises(ValueError, match="watch"):
        dtmarl.evaluate(Shy(offloaded=0.5), short("paper-v0"), seeds=[0])


def test_an_oracle_without_an_environment_says_so():
    env, acting = dtmarl.parallel_env("paper-v0"), policy("oracle")
    observations, _ = env.reset(seed=0)
    acting.reset(dtmarl.scenario("paper-v0"), 0)
    with pytest.raises(RuntimeError, match="watch"):
        acting.act(observations)
    acting.watch(env.unwrapped)
    acting.act(observations)
    acting.reset(dtmarl.scenario("paper-v0"), 0)
    with pytest.raises(RuntimeError, match="watch"):
        acting.act(observations)


def test_an_episode_of_the_twin_s_optimum_repeats():
    config = short("stale-twin-v0", frames=3)
    one, two = (episode(dtmarl.parallel_env(config), 4, "twin-optimum") for _ in range(2))
    for a, b in zip(as_dicts(one), as_dicts(two), strict=True):
        assert a["rewards"] == b["rewards"]


def test_a_batch_may_be_of_torch_tensors():
    torch = pytest.importorskip("torch")
    env, acting = dtmarl.parallel_env("paper-v0", absent_agents="idle"), policy("twin-optimum")
    observations = begin_episode(acting, env, 1)
    rows = {
        kind: np.stack([observations[a] for a in observations if a.startswith(kind)])[None]
        for kind in ("bs", "mu")
    }
    expected = acting.act_batch(rows)
    found = acting.act_batch({kind: torch.from_numpy(row) for kind, row in rows.items()})
    for kind, weights in expected.items():
        assert found[kind].dtype == torch.float32
        np.testing.assert_allclose(found[kind].numpy(), weights, rtol=1e-5, atol=1e-7)
