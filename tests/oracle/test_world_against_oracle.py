"""`dtmarl.world` against the scalar world, on random scenarios and the same noise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scalar_world

from dtmarl import ScenarioConfig, world
from dtmarl.config import (
    ChurnConfig,
    ComputeConfig,
    LearningConfig,
    MobilityConfig,
    OutageConfig,
    RadioConfig,
    TrafficConfig,
)
from dtmarl.physics.channel import CHANNELS
from dtmarl.physics.context import context_library
from dtmarl.randomness import EnvironmentStreams, at_slot

NUM_CASES = 60
NUM_ENVS = 2
RELATIVE = 1e-9


def random_config(seed: int) -> ScenarioConfig:
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 7))
    sites = int(rng.integers(1, 5))
    frames = int(rng.integers(5, 9))
    return ScenarioConfig(
        num_base_stations=sites,
        min_users=int(rng.integers(1, users + 1)),
        max_users=users,
        slots_per_frame=int(rng.integers(1, 6)),
        frames_per_episode=frames,
        radio=RadioConfig(
            channel=str(rng.choice(sorted(scalar_world.CHANNELS), p=[0.25, 0.75])),
            carrier_hz=float(rng.uniform(0.5e9, 30e9)),
            site_height_m=float(rng.uniform(5, 25)),
            user_height_m=float(rng.uniform(1.5, 3.0)),
            shadowing=bool(rng.random() < 0.8),
            fading=bool(rng.random() < 0.8),
            coherence_blocks=int(rng.integers(1, 9)),
        ),
        mobility=MobilityConfig(
            width_m=float(rng.uniform(30, 500)),
            height_m=float(rng.uniform(30, 500)),
            # Sometimes a slot takes a user across the area more than once.
            slot_spacing_s=float(rng.choice([0.005, 0.1, 1.0, 20.0])),
            vehicle_fraction=float(rng.uniform(0, 1)),
            pedestrian_speed_m_per_s=float(rng.choice([0.0, 1.5])),
            vehicle_speed_m_per_s=float(rng.uniform(1, 40)),
            velocity_memory=float(rng.choice([0.0, 0.85, 1.0])),
            speed_spread=float(rng.uniform(0, 1)),
            hotspot_fraction=float(rng.choice([0.0, 0.6])),
            hotspot_radius_m=float(rng.uniform(5, 100)),
        ),
        compute=ComputeConfig(
            own_load_max=float(rng.choice([0.0, 0.2, 0.9])),
            own_load_memory=float(rng.choice([0.0, 0.9, 1.0])),
        ),
        traffic=TrafficConfig(task_bytes_min=float(rng.uniform(1e5, 2e6)), task_bytes_max=5e6),
        learning=LearningConfig(
            num_contexts=int(rng.integers(1, 13)),
            cells_per_side=int(rng.integers(1, 6)),
            context_switch_probability=float(rng.choice([0.0, 0.3, 1.0])),
            context_follows_place=bool(rng.random() < 0.6),
        ),
        churn=ChurnConfig(
            enabled=bool(rng.random() < 0.5),
            initial_fraction=float(rng.uniform(0, 1)),
            mean_stay_frames=float(rng.uniform(1, 5)),
        ),
        outage=OutageConfig(enabled=bool(sites > 1 and rng.random() < 0.5), duration_frames=2),
    )


def of_environment(noise: dict[str, Any], e: int) -> dict[str, Any]:
    return {name: block[e].tolist() for name, block in noise.items()}


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
        close(scene.site_position_m, fixed[e]["site"], 1e-9, "site")
        close(scene.mean_speed_m_per_s[e], fixed[e]["speed"], 0.0, "speed")
        # Jakes' argument reaches thousands of radians; its own rounding is the limit.
        close(scene.fading_memory[e], fixed[e]["fading_memory"], 1e-10, "fading memory")
        # From here on the oracle shares the rounding of J0, which AR(1) noise would magnify.
        fixed[e]["fading_memory"] = scene.fading_memory[e].tolist()
    for frame_index in range(config.frames_per_episode):
        frame_noise = streams.draw_frame()
        at, frame = world.advance_frame(config, scene, at, frame_index, frame_noise)
        for s in range(config.slots_per_frame):
            slot_noise = at_slot(frame_noise, s)
            for e in range(NUM_ENVS):
                known[e], slot = scalar_world.step(
                    config, fixed[e], known[e], frame_index, of_environment(slot_noise, e)
                )
                close(frame.position_m[s, e], slot["position_m"], 1e-8, "position")
                np.testing.assert_array_equal(frame.cell[s, e], slot["cell"])
                np.testing.assert_array_equal(frame.class_mix[s, e], library[known[e]["context"]])
                close(frame.gain[s, e], slot["gain"], 0.0, "gain")
                close(frame.task_bytes[s, e], slot["task_bytes"], 0.0, "task")
                close(frame.free_flop_per_s[s, e], slot["free_flop_per_s"], 0.0, "free")
                np.testing.assert_array_equal(frame.present_mask[e], slot["present_mask"])
        for e in range(NUM_ENVS):
            for name, expected in (
                ("position_m", "position"),
                ("velocity_m_per_s", "velocity"),
                ("heading", "heading"),
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
                slot_noise = of_environment(at_slot(frame_noise, s), 0)
                known, slot = scalar_world.step(config, fixed, known, frame_index, slot_noise)
                seen["other heading"] += known["heading"] != before["heading"]
                seen["other cell"] += known["cell"] != before["cell"]
                seen["other context"] += known["context"] != before["context"]
                seen["site that is down"] += 0.0 in slot["free_flop_per_s"]
    assert set(scalar_world.CHANNELS) == set(CHANNELS), "a channel has no scalar model yet"
    assert len(seen) == 9
    assert min(seen.values()) >= 5, seen
