"""Statistics of the channel process: what is drawn has the distributions its docstrings name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dtmarl import ScenarioConfig, world
from dtmarl.config import MobilityConfig, RadioConfig
from dtmarl.physics.channel import CHANNELS, process
from dtmarl.physics.channel.umi_street_canyon import UmiStreetCanyon
from dtmarl.randomness import EnvironmentStreams


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("memory", [0.0, 0.9, -0.4])
def test_autoregress_is_stationary_with_its_memory_at_lag_one(memory: float) -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((12, 20_000))
    path = process.autoregress(rng.standard_normal(20_000), np.full((1, 20_000), memory), noise)
    np.testing.assert_allclose(path.mean(axis=1), 0.0, atol=0.04)
    np.testing.assert_allclose(path.std(axis=1), 1.0, atol=0.03)
    for lag in (1, 2, 3):
        assert correlation(path[8], path[8 - lag]) == pytest.approx(memory**lag, abs=0.03)


def test_shadowing_std_and_autocorrelation_over_distance() -> None:
    """Through `world`: a straight drive of 4 m per slot, shadowing in dB left after path loss."""
    config = ScenarioConfig(
        max_users=50,
        min_users=50,
        slots_per_frame=10,
        radio=RadioConfig(fading=False),
        mobility=MobilityConfig(
            width_m=4000.0,
            height_m=4000.0,
            vehicle_fraction=1.0,
            vehicle_speed_m_per_s=40.0,
            velocity_memory=1.0,
            speed_spread=0.0,
            slot_spacing_s=0.1,
        ),
    )
    streams = EnvironmentStreams(config, list(range(40)))
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    start = world.initial_world(config, scene, noise)
    _, frame = world.advance_frame(config, scene, start, 0, streams.draw_frame())
    # Links this far away never have line of sight, so that one standard deviation holds.
    offset = frame.position_m[:, :, None, :, :] - scene.site_position_m[:, :, None, :]
    distance = np.sqrt((offset**2).sum(axis=-1))
    obstructed = np.zeros(distance.shape, dtype=bool)
    median = UmiStreetCanyon().path_loss_db(distance, obstructed, config.radio)
    far = (distance > 1500.0).all(axis=0)
    shadowing_db = (10.0 * np.log10(frame.gain) + median)[:, far]
    assert far.sum() > 2000
    # Line of sight has a probability of at most 18/1500 there: trim what it leaves.
    shadowing_db = shadowing_db[:, np.abs(shadowing_db).max(axis=0) < 5 * 7.82]
    assert shadowing_db.mean() == pytest.approx(0.0, abs=0.6)
    assert shadowing_db.std() == pytest.approx(7.82, rel=0.06)
    for lag in (1, 2, 4):
        expected = math.exp(-4.0 * lag / 13.0)
        assert correlation(shadowing_db[9], shadowing_db[9 - lag]) == pytest.approx(
            expected, abs=0.05
        )


@pytest.mark.parametrize("blocks", [1, 2, 8])
@pytest.mark.parametrize("k", [0.0, 1.0, 10.0**0.9])
def test_fading_power_has_unit_mean_and_the_variance_of_its_law(blocks: int, k: float) -> None:
    """One block: Rayleigh power is exponential (variance 1), Rician has (1 + 2K)/(1 + K)²."""
    rng = np.random.default_rng(2)
    power = process.fading_power(
        rng.standard_normal((200, 1000, blocks, 2)), np.full((200, 1000), k)
    )
    variance = (1.0 + 2.0 * k) / (1.0 + k) ** 2 / blocks
    assert power.mean() == pytest.approx(1.0, abs=5.0 * math.sqrt(variance / power.size))
    assert power.var() == pytest.approx(variance, rel=0.05)
    assert power.min() > 0.0


def test_rayleigh_power_is_exponential() -> None:
    rng = np.random.default_rng(3)
    power = process.fading_power(rng.standard_normal((500, 400, 1, 2)), np.zeros((500, 400)))
    for level in (0.1, 0.5, 1.0, 3.0):
        assert (power < level).mean() == pytest.approx(1.0 - math.exp(-level), abs=0.005)


def test_fading_memory_is_the_bessel_function_of_the_doppler_phase() -> None:
    # f_D = 15 · 3.5e9 / 299792458 = 175.1212 Hz; 2π f_D · 1 ms = 1.100319; J0 by its series:
    # 1 - x²/4 + x⁴/64 - x⁶/2304 + x⁸/147456 = 1 - 0.302675 + 0.022903 - 0.000770 + 0.000015
    assert process.fading_memory(15.0, 1e-3, 3.5e9) == pytest.approx(0.719472, abs=2e-6)
    assert process.fading_memory(0.0, 1.0, 3.5e9) == 1.0
    # The first zero of J0 is at 2.404826.
    zero_s = 2.404825557695773 / (2.0 * math.pi * 15.0 * 3.5e9 / 299792458.0)
    assert process.fading_memory(15.0, zero_s, 3.5e9) == pytest.approx(0.0, abs=1e-12)
    assert process.fading_memory(15.0, 1.3 * zero_s, 3.5e9) < -0.2


def test_gain_over_time_follows_jakes() -> None:
    """The scattered amplitude in `world` has lag-one correlation J0(2π f_D τ)."""
    config = ScenarioConfig(
        max_users=20,
        min_users=20,
        slots_per_frame=5,
        mobility=MobilityConfig(slot_spacing_s=1e-3, vehicle_fraction=1.0),
    )
    streams = EnvironmentStreams(config, range(30))
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    start = world.initial_world(config, scene, noise)
    frame_noise = streams.draw_frame()
    one_slot = config.replace(slots_per_frame=1)
    first = {name: block[:1] for name, block in frame_noise.items()}
    after, _ = world.advance_frame(one_slot, scene, start, 0, first)
    assert correlation(after.fading_latent, start.fading_latent) == pytest.approx(
        0.719472, abs=0.02
    )


def test_line_of_sight_latent_keeps_its_marginal_and_decorrelates() -> None:
    rng = np.random.default_rng(4)
    shape = (8, 200, 5, 40)
    path = process.line_of_sight_latent(
        rng.random(shape[1:]),
        np.full((8, 200, 40), 20.0),
        rng.random(shape),
        rng.random(shape),
        50.0,
    )
    for probability in (0.1, 0.5195854, 0.9):
        sight = path < probability
        np.testing.assert_allclose(sight.mean(axis=(1, 2, 3)), probability, atol=0.01)
        for lag in (1, 3, 7):
            expected = math.exp(-20.0 * lag / 50.0)
            assert correlation(sight[7], sight[7 - lag]) == pytest.approx(expected, abs=0.03)


def test_who_stands_still_keeps_line_of_sight_and_shadowing() -> None:
    rng = np.random.default_rng(5)
    initial = rng.random((1, 3, 4))
    draws = rng.random((6, 1, 3, 4))
    path = process.line_of_sight_latent(initial, np.zeros((6, 1, 4)), draws, draws, 50.0)
    np.testing.assert_array_equal(path, np.broadcast_to(initial, path.shape))
    kept = process.autoregress(initial, np.ones((6, 1, 3, 4)), draws)
    np.testing.assert_array_equal(kept, np.broadcast_to(initial, kept.shape))


def test_line_of_sight_in_the_world_is_as_frequent_as_the_standard_says() -> None:
    """The state is seen through shadowing that is off: gain is one of two known path losses."""
    config = ScenarioConfig(
        max_users=30, min_users=30, radio=RadioConfig(fading=False, shadowing=False)
    )
    streams = EnvironmentStreams(config, range(60))
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    start = world.initial_world(config, scene, noise)
    _, frame = world.advance_frame(config, scene, start, 0, streams.draw_frame())
    model = UmiStreetCanyon()
    offset = frame.position_m[:, :, None, :, :] - scene.site_position_m[:, :, None, :]
    distance = np.sqrt((offset**2).sum(axis=-1))
    clear = -model.path_loss_db(distance, np.ones(distance.shape, dtype=bool), config.radio)
    sight = np.abs(10.0 * np.log10(frame.gain) - clear) < 1e-6
    for low, high in ((0, 18), (30, 50), (80, 120)):
        ring = (distance >= low) & (distance < high)
        expected = model.line_of_sight_probability(distance)[ring].mean()
        assert sight[ring].mean() == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_registered_channel_is_finite_and_loses_more_with_distance(name: str) -> None:
    model, radio = CHANNELS[name], RadioConfig()
    distance = np.linspace(0.0, 1500.0, 301)[None, None, :]
    probability = model.line_of_sight_probability(distance)
    assert probability.shape == distance.shape
    assert ((probability >= 0.0) & (probability <= 1.0)).all()
    assert (np.diff(probability) <= 1e-15).all()
    for sight in (True, False):
        loss = model.path_loss_db(distance, np.full(distance.shape, sight), radio)
        assert loss.shape == distance.shape
        assert np.isfinite(loss).all()
        assert (loss > 0.0).all()
        assert (np.diff(loss) >= -1e-12).all()
        assert loss[..., -1] > loss[..., 20] > loss[..., 4]
    for pair in (model.shadowing_std_db, model.rician_k):
        assert min(pair) >= 0.0
    assert min(*model.shadowing_correlation_m, model.line_of_sight_correlation_m) > 0.0


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_registered_channel_gain_falls_with_distance_on_average(name: str) -> None:
    rng = np.random.default_rng(6)
    model = CHANNELS[name]
    mean_db = []
    for distance_m in (20.0, 60.0, 180.0, 540.0):
        distance = np.full((1, 1, 20_000), distance_m)
        sight = rng.random(distance.shape) < model.line_of_sight_probability(distance)
        shadowing, latent = (
            rng.standard_normal((*distance.shape, *blocks)) for blocks in ((), (4, 2))
        )
        rician_k = process.by_line_of_sight(sight, model.rician_k, distance)
        gain = process.gain(
            model,
            distance,
            sight,
            shadowing,
            process.fading_power(latent, rician_k),
            RadioConfig(coherence_blocks=4),
        )
        assert np.isfinite(gain).all()
        assert (gain > 0.0).all()
        mean_db.append(10.0 * np.log10(gain).mean())
    assert (np.diff(mean_db) < -5.0).all(), mean_db


@pytest.mark.parametrize("at_once", [1, 400, 10**6])
def test_fading_does_not_depend_on_how_many_slots_are_done_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    initial, noise = rng.standard_normal((2, 3, 5, 4, 2)), rng.standard_normal((7, 2, 3, 5, 4, 2))
    memory, rician_k = rng.uniform(-1.0, 1.0, (2, 5)), rng.uniform(0.0, 9.0, (7, 2, 3, 5))
    monkeypatch.setattr(process, "_LATENTS_AT_ONCE", at_once)
    power, last = process.fading_path(initial, memory, noise, rician_k)
    latents = process.autoregress(initial, memory[None, :, None, :, None, None], noise)
    assert np.array_equal(power, process.fading_power(latents, rician_k))
    assert np.array_equal(last, latents[-1])
