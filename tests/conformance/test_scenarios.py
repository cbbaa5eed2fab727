"""Every registered scenario, with absent users left out and kept in, passes everybody's checks."""

import functools
import warnings

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)
from playing import assert_same, episode, short

import dtmarl
from dtmarl.testing import check_across_processes, check_parallel_env

MODES = ("omit", "idle")
EVERY = pytest.mark.parametrize(
    ("scenario", "mode"), [(s, m) for s in dtmarl.scenarios() for m in MODES]
)

# PettingZoo's suites warn of what they find unusual. A warning is an error here, but for these.
TOLERATED = {
    # Base stations and users are different kinds of agents with different observations.
    "Observations are different shapes": MODES,
    "Agents have different observation space sizes": MODES,
    # The number of users is drawn at the reset, so some possible agents never exist in an episode.
    "No agents present but not all possible_agents are terminated or truncated": ("omit",),
    # Agents that arrive in a step, or leave, are not those of the step before.
    "Agent was given .* but was dead last turn": ("omit",),
    # An absent user that is kept in sees zeros, and so does one that has just left.
    "Observation numpy array is all zeros.": MODES,
}


@pytest.fixture
def strict(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message, modes in TOLERATED.items():
            if mode in modes:
                warnings.filterwarnings("ignore", message)
        yield


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_conformance_kit(scenario):
    check_parallel_env(
        functools.partial(dtmarl.parallel_env, scenario), skip=["constant_observations"]
    )


@EVERY
def test_conformance_kit_on_short_episodes(scenario, mode):
    make_env = functools.partial(dtmarl.parallel_env, short(scenario, frames=4), absent_agents=mode)
    check_parallel_env(make_env, seed=20, skip=["constant_observations"])


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_no_element_of_an_observation_is_constant(scenario):
    # Everybody is there, as an element about a user that never comes is constant indeed.
    config = dtmarl.scenario(scenario)
    make_env = functools.partial(
        dtmarl.parallel_env, config.replace(min_users=config.max_users), absent_agents="idle"
    )
    check_parallel_env(make_env, episodes=12, rules=["constant_observations"])


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_conformance_kit_under_every_scheme(scheme):
    make_env = functools.partial(
        dtmarl.parallel_env, short("vehicular-v0", frames=4), controller=scheme
    )
    check_parallel_env(make_env, skip=["constant_observations"])


def test_conformance_kit_on_images():
    pytest.importorskip("matplotlib")
    config = short("paper-v0", frames=1)
    make_env = functools.partial(dtmarl.parallel_env, config, render_mode="rgb_array")
    check_parallel_env(make_env, rules=["metadata", "render", "same_seed", "pickling", "close"])


def test_conformance_kit_across_processes():
    check_across_processes("dtmarl:parallel_env", max_steps=30)


@EVERY
@pytest.mark.usefixtures("strict")
def test_pettingzoo_parallel_api(scenario, mode):
    parallel_api_test(dtmarl.parallel_env(scenario, absent_agents=mode), num_cycles=110)


@EVERY
@pytest.mark.usefixtures("strict")
def test_pettingzoo_parallel_seed(scenario, mode):
    make_env = functools.partial(dtmarl.parallel_env, short(scenario), absent_agents=mode)
    parallel_seed_test(make_env)


@EVERY
@pytest.mark.usefixtures("strict")
def test_pettingzoo_aec_api(scenario, mode):
    env = dtmarl.env(short(scenario, frames=4), absent_agents=mode)
    api_test(env, num_cycles=40)


@EVERY
@pytest.mark.usefixtures("strict")
def test_pettingzoo_aec_seed(scenario, mode):
    # One frame, as the suite seeds the action spaces of those alone who are there from the start.
    make_env = functools.partial(dtmarl.env, scenario, absent_agents=mode)
    seed_test(make_env, num_cycles=10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("strict")
def test_pettingzoo_render(mode):
    pytest.importorskip("matplotlib").use("Agg")
    make_env = functools.partial(dtmarl.env, short("paper-v0"), absent_agents=mode)
    render_test(make_env)


@EVERY
@pytest.mark.usefixtures("strict")
def test_pettingzoo_state(scenario, mode):
    config = short(scenario)
    aec = dtmarl.env(config, absent_agents=mode)
    state_test(aec, dtmarl.parallel_env(config, absent_agents=mode), num_cycles=8)


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="PettingZoo has no registry")
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_pettingzoo_registry(scenario):
    found = pettingzoo.make("parallel", f"dtmarl/{scenario}")
    assert found.unwrapped.config == dtmarl.scenario(scenario)
    aec = pettingzoo.make("aec", f"dtmarl/{scenario}", absent_agents="idle")
    aec.reset(seed=0)
    assert aec.agents == found.possible_agents


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="PettingZoo has no registry")
def test_pettingzoo_registry_makes_the_same_environment():
    found = pettingzoo.make("parallel", "dtmarl/outage-v0")
    assert_same(episode(dtmarl.parallel_env("outage-v0"), 1), episode(found, 1))


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_rllib_environment_check(scenario):
    pytest.importorskip("ray.rllib")
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    env = ParallelPettingZooEnv(dtmarl.parallel_env(scenario, absent_agents="idle"))
    check_multiagent_environments(env)


def test_rllib_samples_whole_episodes():
    pytest.importorskip("ray.rllib")
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
    from ray.tune import register_env

    config = short("paper-v0")
    register_env(
        "dtmarl-short",
        lambda _: ParallelPettingZooEnv(dtmarl.parallel_env(config, absent_agents="idle")),
    )
    runner = MultiAgentEnvRunner(
        config=PPOConfig()
        .environment("dtmarl-short")
        .multi_agent(
            policies=["bs", "mu"],
            policy_mapping_fn=lambda agent, *_, **__: agent.split("_")[0],
        )
        .debugging(seed=0)
    )
    try:
        (sampled,) = runner.sample(num_episodes=1, random_actions=True)
    finally:
        runner.stop()
    assert len(sampled) == config.slots_per_episode
    assert np.isfinite(sampled.get_return())
