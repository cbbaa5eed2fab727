"""A seed decides an episode, bit for bit, whatever else happens in the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from digest import digests
from playing import assert_same, episode, play, replay, short

import dtmarl

EVERY = [(s, c) for s in dtmarl.scenarios() for c in dtmarl.SCHEMES]


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_two_environments_play_the_same_episode(scenario, scheme):
    config = short(scenario)
    first, second = (
        episode(dtmarl.parallel_env(config, controller=scheme), seed=3) for _ in range(2)
    )
    assert len(first) == config.slots_per_episode + 1
    assert_same(first, second)


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_a_full_episode_repeats_after_another_one(scenario):
    env = dtmarl.parallel_env(scenario)
    first = episode(env, seed=3, which_policy="root-balanced")
    other = episode(env, seed=4)
    assert len(other) == len(first) == 101
    assert_same(first, replay(env, first, seed=3))


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_episodes_that_alternate_slot_by_slot_do_not_touch_each_other(scheme):
    scenarios = [(short(scenario), seed) for scenario in dtmarl.scenarios() for seed in (1, 2)]

    def make(config):
        return dtmarl.parallel_env(config, controller=scheme)

    running = [play(make(config), seed) for config, seed in scenarios]
    found = [[] for _ in running]
    for _ in range(max(config.slots_per_episode for config, _ in scenarios) + 1):
        for slots, player in zip(found, running, strict=True):
            slots.extend([slot for slot in [next(player, None)] if slot is not None])
    for (config, seed), slots in zip(scenarios, found, strict=True):
        assert_same(episode(make(config), seed), slots)


def test_other_seeds_give_other_episodes():
    env = dtmarl.parallel_env(short("paper-v0"))
    rewards = {tuple(slot.rewards["bs_0"] for slot in episode(env, s)[1:]) for s in range(5)}
    assert len(rewards) == 5


def test_without_a_seed_the_stream_goes_on():
    config = short("paper-v0")
    envs = [dtmarl.parallel_env(config) for _ in range(2)]
    for env in envs:
        episode(env, seed=6)
    second, also_second = (episode(env) for env in envs)
    assert_same(second, also_second)
    assert second[1].rewards != episode(envs[0], seed=6)[1].rewards


def test_policies_meet_the_same_world():
    config = short("vehicular-v0", frames=4)
    gain, mix = [], []
    for name in ("local-only", "random"):
        env = dtmarl.parallel_env(config)
        for _ in play(env, 5, name):
            gain.append(env.unwrapped.snapshot.frame.gain.copy())
            mix.append(env.unwrapped.snapshot.frame.class_mix.copy())
    half = len(gain) // 2
    assert_same(gain[:half], gain[half:])
    assert_same(mix[:half], mix[half:])


def test_other_processes_with_other_hash_seeds_play_the_same_episodes():
    program = Path(__file__).with_name("digest.py")
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    outputs = [
        subprocess.run(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = "".join(f"{line}\n" for line in digests())
    assert len(here.splitlines()) == len(EVERY)
    assert outputs == [here, here]
