"""Link and computing formulas by hand, own load, tasks, contexts and measured accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dtmarl import ScenarioConfig, world
from dtmarl.config import ComputeConfig, LearningConfig, RadioConfig, TrafficConfig
from dtmarl.physics import compute, context, learning, link
from dtmarl.randomness import EnvironmentStreams


def test_snr_and_rate_by_hand() -> None:
    """-10 dBm = 1e-4 W, -100 dBm = 1e-13 W: a gain of -90 dB gives r = 1, R = B = 2.5 MB/s."""
    gain = np.array([[[1e-9, 3e-9, 1e-19]]])
    np.testing.assert_allclose(link.snr(gain, RadioConfig()), [[[1.0, 3.0, 1e-10]]], rtol=1e-12)
    rate = link.rate_bytes_per_s(gain, RadioConfig())
    # A weak link: log2(1 + r) = r / ln 2, of which 2.5e6 · 1e-10 / 0.6931472 = 3.606738e-4 B/s.
    np.testing.assert_allclose(rate, [[[2.5e6, 5.0e6, 3.606738e-4]]], rtol=1e-6)


def test_a_link_below_the_snr_of_outage_carries_nothing() -> None:
    """-10 dB is r = 0.1: just above it R = 2.5e6 · log2(1.1), just below it nothing."""
    gain = np.array([[[1e-9, 1.0001e-10, 0.9999e-10]]])
    rate = link.usable_rate_bytes_per_s(gain, RadioConfig(outage_snr_db=-10.0))
    np.testing.assert_allclose(rate, [[[2.5e6, 343_794.0, 0.0]]], rtol=2e-4)
    never = link.usable_rate_bytes_per_s(gain, RadioConfig(outage_snr_db=-300.0))
    np.testing.assert_array_equal(never, link.rate_bytes_per_s(gain, RadioConfig()))


def test_transmission_delay_by_hand() -> None:
    """15 MB and 10 kB at 2.5 MB/s take 6.004 s, with the model of 44.7 MB 23.884 s."""
    offloaded = np.array([[[15e6, 15e6, 15e6]]])
    overhead = 1e4 + np.array([[[0.0, 44.7e6, 0.0]]])
    mask = np.array([[[True, True, False]]])
    delay = link.transmission_delay_s(offloaded, overhead, np.full((1, 1, 3), 2.5e6), mask)
    np.testing.assert_allclose(delay, [[[6.004, 23.884, 0.0]]], rtol=1e-12)


def test_computing_delays_by_hand() -> None:
    """24181.55 FLOP/byte (3.64e9 / 150528): 1 MB takes 4.83631 s at home, 1.209078 at 20 GFLOP/s.

    Retraining with w·δ = 0.75 forward passes per byte takes 0.75 times the latter.
    """
    config = ComputeConfig()
    assert config.work_flop_per_byte == pytest.approx(24181.55, rel=1e-7)
    local = compute.local_delay_s(np.array([[1e6]]), config)
    np.testing.assert_allclose(local, [[4.83631]], rtol=1e-6)
    site = compute.site_delay_s(
        np.array([[[1e6, 0.0]]]), np.array([[[20e9, 0.0]]]), config.work_flop_per_byte
    )
    np.testing.assert_allclose(site, [[[1.209078, 0.0]]], rtol=1e-6)
    work = learning.update_plan("incremental", LearningConfig()).work
    assert work == 0.75
    retraining = compute.retraining_delay_s(site, np.array([[work, work]]))
    np.testing.assert_allclose(retraining, [[[0.906808, 0.0]]], rtol=1e-6)


def test_update_plans() -> None:
    config = LearningConfig(training_fraction=0.4, twin_share=0.25, pass_work=3.0, full_passes=8)
    incremental = learning.update_plan("incremental", config)
    assert incremental == (
        "incremental",
        pytest.approx(0.3),
        pytest.approx(0.1),
        pytest.approx(1.2),
    )
    physical = learning.update_plan("physical-only", config)
    assert physical == ("incremental", pytest.approx(0.3), 0.0, pytest.approx(0.9))
    full = learning.update_plan("full", config)
    assert full == ("full", 1.0, 0.0, 24.0)
    with pytest.raises(ValueError, match="incremental"):
        learning.update_plan("sometimes", config)


def test_own_load_lies_within_its_range() -> None:
    config = ComputeConfig()
    latent = np.linspace(-6.0, 6.0, 1201)
    load = 1.0 - compute.free_flop_per_s(latent, config) / config.site_flop_per_s
    assert load.min() >= 0.0
    assert load.max() <= 0.2 + 1e-15
    np.testing.assert_allclose(load[600], 0.1, rtol=1e-12)
    np.testing.assert_allclose(load[700], 0.1 + 0.05, rtol=1e-12)  # one standard deviation
    assert (np.diff(load) >= -1e-16).all()


def test_own_load_in_the_world_is_stationary() -> None:
    config = ScenarioConfig(max_users=1, min_users=1, slots_per_frame=10)
    streams = EnvironmentStreams(config, range(1500))
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    at = world.initial_world(config, scene, noise)
    for frame_index in range(2):
        at, frame = world.advance_frame(config, scene, at, frame_index, streams.draw_frame())
    load = 1.0 - frame.free_flop_per_s / config.compute.site_flop_per_s
    assert ((load >= 0.0) & (load <= 0.2 + 1e-15)).all()
    assert load.mean() == pytest.approx(0.1, abs=0.003)
    # A normal of std 0.05 cut at ±2 standard deviations has std 0.05 · 0.9594 = 0.04797.
    assert load.std() == pytest.approx(0.04797, abs=0.002)
    lag = np.corrcoef(load[9].ravel(), load[7].ravel())[0, 1]
    assert lag == pytest.approx(0.9**2, abs=0.03)


def test_tasks_are_uniform() -> None:
    rng = np.random.default_rng(1)
    traffic = TrafficConfig()
    task = context.task_bytes(rng.random(200_000), traffic)
    assert task.min() >= 10e6
    assert task.max() < 20e6
    histogram, _ = np.histogram(task, bins=10, range=(10e6, 20e6))
    np.testing.assert_allclose(histogram, 20_000, atol=700)
    assert context.task_bytes(np.zeros(1), traffic)[0] == 10e6


def test_library_rows_are_positive_mixes_the_same_everywhere() -> None:
    for config in (LearningConfig(), LearningConfig(num_contexts=40, context_concentration=0.01)):
        library = context.context_library(config)
        assert library.shape == (config.num_contexts, config.num_classes)
        assert (library > 0.0).all()
        np.testing.assert_allclose(library.sum(axis=-1), 1.0, rtol=1e-14)
        np.testing.assert_array_equal(library, context.context_library(config))
    other = context.context_library(LearningConfig(library_seed=1))
    assert not np.array_equal(other, context.context_library(LearningConfig()))
    # The library belongs to the scenario, not to the seed of an environment.
    config = ScenarioConfig()
    scenes = [
        world.initial_scene(config, EnvironmentStreams(config, [seed]).draw_reset())
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(scenes[0].context_library, scenes[1].context_library)


def test_context_of_the_place_and_markov_switch() -> None:
    """Users 2 and 3 enter cell 3 in the first slot, and nobody moves in the second."""
    config = LearningConfig(num_contexts=5, cells_per_side=2, context_switch_probability=0.1)
    at = np.array([[0, 0, 0, 0]])
    old, new = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 3, 3]])
    cells, places = np.stack([new, new]), np.array([[1, 2, 3, 4]])
    switch = np.array([[[0.05, 0.15, 0.05, 0.15]], [[0.5, 0.5, 0.05, 0.1]]])
    choice = np.array([[[0.5, 0.5, 0.5, 0.5]], [[0.9, 0.9, 0.2, 0.9]]])
    path = context.context_path(at, old, cells, places, switch, choice, config)
    np.testing.assert_array_equal(path, [[[2, 0, 4, 4]], [[2, 0, 1, 4]]])
    alone = config.replace(context_follows_place=False)
    path = context.context_path(at, old, cells, places, switch, choice, alone)
    np.testing.assert_array_equal(path, [[[2, 0, 2, 0]], [[2, 0, 1, 0]]])


def test_context_switches_are_as_frequent_and_even_as_configured() -> None:
    rng = np.random.default_rng(2)
    config = LearningConfig(context_switch_probability=0.3, context_follows_place=False)
    shape = (1, 60_000)
    cell = np.zeros(shape, dtype=np.int64)
    after = context.context_path(
        cell - 1, cell, cell[None], np.zeros((1, 16), dtype=np.int64), rng.random((1, *shape)),
        rng.random((1, *shape)), config,
    )  # fmt: skip
    assert (after >= 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(np.bincount(after[after >= 0]), 18_000 / 12, rtol=0.1)


def test_training_samples_are_capped_alike() -> None:
    real, generated = np.array([[[30.0, 10.0]]]), np.array([[[0.0, 60.0]]])
    capped = learning.capped_samples(real, generated, 50)
    np.testing.assert_allclose(capped[0], [[[15.0, 5.0]]])
    np.testing.assert_allclose(capped[1], [[[0.0, 30.0]]])
    untouched = learning.capped_samples(real, generated, 101)
    np.testing.assert_array_equal(untouched[0], real)
    np.testing.assert_array_equal(untouched[1], generated)


def test_measured_accuracy_has_binomial_moments() -> None:
    rng = np.random.default_rng(3)
    expected = np.full((1, 100_000), 0.85)
    measured = learning.measured_accuracy(
        expected, np.full_like(expected, 100.0), rng.standard_normal(expected.shape)
    )
    assert measured.mean() == pytest.approx(0.85, abs=0.001)
    assert measured.std() == pytest.approx(math.sqrt(0.85 * 0.15 / 100), rel=0.02)
    assert measured.max() <= 1.0
    sure = learning.measured_accuracy(np.ones((1, 2)), np.ones((1, 2)), np.array([[5.0, -5.0]]))
    np.testing.assert_array_equal(sure, [[1.0, 1.0]])


def test_a_perfect_model_measures_as_perfect() -> None:
    """A class mix may add up to 1 + 2⁻⁵²; that must not become the root of a negative number."""
    mix = np.random.default_rng(5).dirichlet(np.ones(10), size=(1, 1000))
    accuracy = learning.expected_accuracy(np.ones((1, 1000, 10)), mix)
    measured = learning.measured_accuracy(accuracy, np.full((1, 1000), 100.0), np.ones((1, 1000)))
    np.testing.assert_allclose(measured, 1.0, rtol=1e-6)


def test_uploaded_counts_have_multinomial_moments() -> None:
    rng = np.random.default_rng(4)
    mix = np.broadcast_to(np.array([0.6, 0.3, 0.1]), (1, 50_000, 3))
    counts = learning.uploaded_class_counts(
        np.full((1, 50_000), 80.0), mix, rng.standard_normal(mix.shape)
    )
    np.testing.assert_allclose(counts.mean(axis=(0, 1)), [48.0, 24.0, 8.0], rtol=0.01)
    np.testing.assert_allclose(
        counts.var(axis=(0, 1)), [80 * 0.24, 80 * 0.21, 80 * 0.09], rtol=0.05
    )
    nothing = learning.uploaded_class_counts(
        np.zeros((1, 50_000)), mix, rng.standard_normal(mix.shape)
    )
    assert not nothing.any()
