"""`dtmarl.world` against the scalar world, on random scenarios and the same noise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scalar_world
from random_scenarios import NUM_ENVS, of_environment, random_config

from dtmarl import world
from dtmarl.physics.channel import CHANNELS
from dtmarl.physics.context import context_library
from dtmarl.randomness import EnvironmentStreams

NUM_CASES = 60
RELATIVE = 1e-9


def close(actual: Any, expected: Any, absolute: float, name: str) -> None:
    np.testing.assert_allclose(actual, np.asarray(expected), RELATIVE, absolute, err_msg=name)


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_world(seed: int) -> None:
    config = random_config(seed)
    library = context_library(config.learning)
    streams = EnvironmentStreams(config, [10 * seed, 10 * seed + 1])
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    at = world.initial_world(config, scene, noise)
    fixed = [scalar_world.scene(config, of_environment(noise, e)) for e in range(NUM_ENVS)]
    known = [
        scalar_world.initial_world(config, fixed[e], of_environment(noise, e))
        for e in range(NUM_ENVS)
    ]
    for e in range(NUM_ENVS):
        close(scene.site_position_m[e], fixed[e]["site"], 1e-9, "site")
        close(scene.mean_speed_m_per_s[e], fixed[e]["speed"], 0.0, "speed")
        close(scene.heading[e], fixed[e]["heading"], 1e-15, "heading")
        # Jakes' argument reaches thousands of radians; its own rounding is the limit.
        close(scene.fading_memory[e], fixed[e]["fading_memory"], 1e-10, "fading memory")
        # From here on the oracle shares the rounding of J0, which AR(1) noise would magnify.
        fixed[e]["fading_memory"] = scene.fading_memory[e].tolist()
    for frame_index in range(config.frames_per_episode):
        frame_noise = streams.draw_frame()
        at, frame = world.advance_frame(config, scene, at, frame_index, frame_noise)
        for s in range(config.slots_per_frame):
            slot_noise = {name: block[s] for name, block in frame_noise.items()}
            for e in range(NUM_ENVS):
                known[e], slot = scalar_world.step(
                    config, fixed[e], known[e], frame_index, of_environment(slot_noise, e)
                )
                close(frame.position_m[s, e], slot["position_m"], 1e-7, "position")
                np.testing.assert_array_equal(frame.cell[s, e], slot["cell"])
                np.testing.assert_array_equal(frame.class_mix[s, e], library[known[e]["context"]])
                close(frame.gain[s, e], slot["gain"], 0.0, "gain")
                close(frame.task_bytes[s, e], slot["task_bytes"], 0.0, "task")
                close(frame.free_flop_per_s[s, e], slot["free_flop_per_s"], 0.0, "free")
                np.testing.assert_array_equal(frame.present_mask[e], slot["present_mask"])
        for e in range(NUM_ENVS):
            for name, expected in (
                ("unfolded_m", "unfolded"),
                ("velocity_m_per_s", "velocity"),
                ("cell", "cell"),
                ("context", "context"),
                ("line_of_sight_latent", "sight"),
                ("shadowing_latent", "shadowing"),
                ("fading_latent", "fading"),
                ("own_load_latent", "own_load"),
            ):
                close(getattr(at, name)[e], known[e][expected], 1e-8, name)


def test_the_random_scenarios_cover_what_they_should() -> None:
    seen: Counter[str] = Counter()
    for seed in range(NUM_CASES):
        config = random_config(seed)
        streams = EnvironmentStreams(config, [10 * seed])
        noise = of_environment(streams.draw_reset(), 0)
        fixed = scalar_world.scene(config, noise)
        known = scalar_world.initial_world(config, fixed, noise)
        seen["absent user"] += max(fixed["arrival"]) > 0
        seen["user that leaves"] += min(fixed["departure"]) < config.frames_per_episode
        seen["outage"] += fixed["failed"] >= 0
        seen[config.radio.channel] += 1
        for frame_index in range(config.frames_per_episode):
            frame_noise = streams.draw_frame()
            for s in range(config.slots_per_frame):
                before = known
                slot_noise = of_environment(
                    {name: block[s] for name, block in frame_noise.items()}, 0
                )
                known, slot = scalar_world.step(config, fixed, known, frame_index, slot_noise)
                seen["reflected"] += known["position"] != known["unfolded"]
                seen["other cell"] += known["cell"] != before["cell"]
                seen["other context"] += known["context"] != before["context"]
                seen["site that is down"] += 0.0 in slot["free_flop_per_s"]
    assert set(scalar_world.CHANNELS) == set(CHANNELS), "a channel has no scalar model yet"
    assert len(seen) == 7 + len(CHANNELS)
    assert min(seen.values()) >= 5, seen
