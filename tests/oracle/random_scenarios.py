"""Random scenarios, and episodes with random decisions and actions, for the oracle tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dtmarl import FrameDecision, ScenarioConfig, dynamics
from dtmarl.config import (
    ChurnConfig,
    ComputeConfig,
    LearningConfig,
    MobilityConfig,
    OutageConfig,
    RadioConfig,
    TrafficConfig,
    TwinConfig,
)
from dtmarl.physics.channel import CHANNELS
from dtmarl.randomness import EnvironmentStreams
from dtmarl.types import UPDATE_PLANS, Action, SlotOutcome, State

NUM_ENVS = 2


def random_config(seed: int) -> ScenarioConfig:
    """A scenario with every number drawn, extremes more often than not."""
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 7))
    sites = int(rng.integers(1, 5))
    mobility = MobilityConfig(
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
    )
    learning = LearningConfig(
        num_classes=int(rng.integers(2, 11)),
        num_contexts=int(rng.integers(1, 13)),
        cells_per_side=int(rng.integers(1, 6)),
        context_switch_probability=float(rng.choice([0.0, 0.3, 1.0])),
        context_follows_place=bool(rng.random() < 0.6),
        accuracy_threshold=float(rng.uniform(0.6, 0.95)),
        training_fraction=float(rng.uniform(0.0, 1.0)),
        twin_share=float(rng.uniform(0.0, 1.0)),
        pass_work=float(rng.uniform(0.0, 5.0)),
        full_passes=int(rng.integers(1, 12)),
        max_samples=int(rng.choice([20, 5000])),
    )
    twin = TwinConfig(
        sync_period_slots=int(rng.integers(1, 5)),
        sync_delay_slots=int(rng.integers(0, 8)),
        sync_loss=float(rng.choice([0.0, 0.3])),
        position_noise_m=float(rng.choice([0.0, 5.0])),
        gain_noise_db=float(rng.choice([0.0, 2.0])),
        gain_memory=float(rng.choice([0.0, 0.6])),
        velocity_gain=float(rng.choice([0.1, 1.0])),
        # Noise this large reaches the floor under announcements.
        task_noise=float(rng.choice([0.0, 0.1, 1.0])),
        task_loss=float(rng.choice([0.0, 0.3])),
        store_images=float(rng.choice([300.0, 20_000.0])),
        forecast_prior=float(rng.uniform(0.1, 5.0)),
    )
    return ScenarioConfig(
        num_base_stations=sites,
        min_users=int(rng.integers(1, users + 1)),
        max_users=users,
        slots_per_frame=int(rng.integers(1, 6)),
        frames_per_episode=int(rng.integers(5, 9)),
        radio=RadioConfig(
            channel=str(rng.choice(sorted(CHANNELS))),
            carrier_hz=float(rng.uniform(0.5e9, 30e9)),
            bandwidth_hz=float(rng.uniform(1e6, 1e8)),
            transmit_power_dbm=float(rng.uniform(-20, 30)),
            noise_power_dbm=float(rng.uniform(-120, -60)),
            site_height_m=float(rng.uniform(5, 25)),
            user_height_m=float(rng.uniform(1.5, 3.0)),
            shadowing=bool(rng.random() < 0.8),
            fading=bool(rng.random() < 0.8),
            coherence_blocks=int(rng.integers(1, 9)),
        ),
        mobility=mobility,
        compute=ComputeConfig(
            site_flop_per_s=float(rng.uniform(1e9, 1e11)),
            user_flop_per_s=float(rng.uniform(1e8, 1e10)),
            work_flop_per_byte=float(rng.uniform(1.0, 1e5)),
            own_load_max=float(rng.choice([0.0, 0.2, 0.9])),
            own_load_memory=float(rng.choice([0.0, 0.9, 1.0])),
        ),
        traffic=TrafficConfig(
            task_bytes_min=float(rng.uniform(5e5, 5e6)),
            task_bytes_max=float(rng.uniform(5e6, 2e7)),
            result_bytes=float(rng.choice([0.0, 1e4])),
            migration_bytes=float(rng.choice([0.0, 44.7e6])),
            image_bytes=float(rng.choice([15_000.0, 150_528.0])),
        ),
        learning=learning,
        twin=twin,
        churn=ChurnConfig(
            enabled=bool(rng.random() < 0.5),
            initial_fraction=float(rng.uniform(0, 1)),
            mean_stay_frames=float(rng.uniform(1, 5)),
        ),
        outage=OutageConfig(enabled=bool(sites > 1 and rng.random() < 0.6), duration_frames=2),
    )


class RecordingEngine:
    """An engine with a simple update that remembers what it was given."""

    base_recall = (0.8, 0.7)
    given: Any = None

    def initial_recall(self, noise: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-1.5 - noise))

    def update(self, recall: Any, real: Any, twin: Any, noise: Any, *, mode: str = "") -> Any:
        self.given = (real, twin, mode)
        return np.where(
            (real + twin).sum(axis=-1, keepdims=True) > 0.0, recall * 0.9 + 0.05, recall
        )


class Played(NamedTuple):
    """One slot of a played episode."""

    at_decision: State | None  # before the decision, where one was taken at this slot
    before: State
    action: Action
    noise: dict[str, Any]  # of the slot, [E, …]
    outcome: SlotOutcome
    after: State  # before the next frame is entered
    closes_decision: bool
    trained_on: Any  # what the engine was given, where a decision closed
    slots_per_decision: int


def play(config: ScenarioConfig, seed: int, num_frames: int) -> Iterator[Played]:
    """An episode of `NUM_ENVS` environments with random decisions and actions."""
    rng = np.random.default_rng([seed, 7])
    engine = RecordingEngine()
    streams = EnvironmentStreams(config, [NUM_ENVS * seed + e for e in range(NUM_ENVS)])
    noise, frame_noise = streams.draw_reset(), streams.draw_frame()
    state = dynamics.initial_state(config, engine, noise, frame_noise)
    period = int(rng.choice([1, config.slots_per_frame]))
    for slot in range(num_frames * config.slots_per_frame):
        s, at_decision = slot % config.slots_per_frame, None
        assert state.slot == slot
        if slot % period == 0:
            at_decision = state
            state = dynamics.begin_frame(config, state, random_decision(rng, state))
        e, m, n = state.control.association_mask.shape
        action = Action(
            allocation_weight=random_weights(rng, (e, m, n)),
            split_weight=random_weights(rng, (e, n, 1 + m)),
        )
        closes, engine.given = (slot + 1) % period == 0, None
        after, outcome = dynamics.step_slot(
            config, engine, state, action, frame_noise, closes_decision=closes
        )
        slot_noise = {name: block[s] for name, block in frame_noise.items()}
        yield Played(
            at_decision, state, action, slot_noise, outcome, after, closes, engine.given, period
        )
        state = after
        if (slot + 1) % config.slots_per_frame == 0:
            frame_noise = streams.draw_frame()
            state = dynamics.enter_frame(config, state, frame_noise)


def random_decision(rng: np.random.Generator, state: State) -> FrameDecision:
    """Each present user has one or more sites, and is retrained or not."""
    present = state.frame.present_mask
    e, m, n = state.control.association_mask.shape
    association = rng.random((e, m, n)) < rng.choice([0.2, 0.6])
    fallback = rng.integers(0, m, (e, 1, n)) == np.arange(m)[:, None]
    association = np.where(association.any(axis=1, keepdims=True), association, fallback)
    return FrameDecision(
        association_mask=association & present[:, None, :],
        retrain_mask=present & (rng.random((e, n)) < 0.5),
        update_plan=UPDATE_PLANS[int(rng.integers(len(UPDATE_PLANS)))],
    )


def random_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Weights in [0, 1] with many exact zeros and ones, and some rows that are all zero."""
    weights = rng.random(shape)
    weights = np.where(rng.random(shape) < 0.2, 0.0, weights)
    weights = np.where(rng.random(shape) < 0.1, 1.0, weights)
    return weights * (rng.random(shape[:-1]) < 0.9)[..., None]


def of_environment(noise: dict[str, Any], e: int) -> dict[str, Any]:
    """The numbers of one environment as lists."""
    return {name: block[e].tolist() for name, block in noise.items()}
