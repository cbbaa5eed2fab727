"""Movement: Gauss–Markov stationarity, reflection, cells and sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtmarl import ScenarioConfig, world
from dtmarl.config import MobilityConfig, RadioConfig
from dtmarl.physics import mobility
from dtmarl.randomness import EnvironmentStreams

AREA = MobilityConfig()


EXTENT = np.array([200.0, 200.0])


def test_velocity_is_stationary_around_the_mean_velocity() -> None:
    """Memory a, innovation s·sqrt(1 - a²): mean v·heading, std s·v, correlation a per slot."""
    rng = np.random.default_rng(1)
    shape = (1, 40_000)
    angle = rng.uniform(0.0, 2.0 * np.pi, shape)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    speed = np.full(shape, 15.0)
    start = 15.0 * (heading + 0.3 * rng.standard_normal((*shape, 2)))
    path = mobility.velocity_path(start, heading, speed, rng.standard_normal((8, *shape, 2)), AREA)
    first = start - 15.0 * heading
    for slot, velocity in enumerate(path, start=1):
        around = velocity - 15.0 * heading
        np.testing.assert_allclose(around.mean(axis=(0, 1)), 0.0, atol=0.1)
        np.testing.assert_allclose(around.std(axis=(0, 1)), 4.5, rtol=0.02)
        measured = np.corrcoef(around.ravel(), first.ravel())[0, 1]
        assert measured == pytest.approx(0.85**slot, abs=0.02)


def test_velocity_by_hand() -> None:
    """0.85 · 10 + 15 · (0.15 · 0.6 + 0.3 · sqrt(1 - 0.85²) · 2) = 8.5 + 1.35 + 4.741044."""
    path = mobility.velocity_path(
        np.array([[[10.0, 0.0]]]),
        np.array([[[0.6, 0.8]]]),
        np.array([[15.0]]),
        np.array([[[[2.0, 0.0]]], [[[0.0, 0.0]]]]),
        AREA,
    )
    np.testing.assert_allclose(path[0, 0, 0], [14.591044, 1.8], atol=1e-6)
    np.testing.assert_allclose(path[1, 0, 0], [0.85 * 14.591044 + 1.35, 3.33], atol=1e-6)


def test_users_stay_uniform_over_the_area() -> None:
    """Reflection has the uniform distribution as its stationary one: nobody sticks to a border."""
    config = ScenarioConfig(
        max_users=200, min_users=200, slots_per_frame=10, radio=RadioConfig(coherence_blocks=1)
    ).replace(mobility={"slot_spacing_s": 2.0, "vehicle_fraction": 1.0})
    streams = EnvironmentStreams(config, range(40))
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    at = world.initial_world(config, scene, noise)
    for frame_index in range(3):
        at, frame = world.advance_frame(config, scene, at, frame_index, streams.draw_frame())
    histogram, _ = np.histogram(frame.position_m[-1, ..., 0], bins=10, range=(0.0, 200.0))
    np.testing.assert_allclose(histogram, 800, atol=140)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    x=st.floats(-1e12, 1e12, allow_nan=False),
    y=st.floats(-1e3, 1e3, allow_nan=False),
    width=st.floats(1e-3, 1e6),
)
def test_reflection_stays_inside_for_any_step(x: float, y: float, width: float) -> None:
    extent = np.array([width, 200.0])
    position = mobility.fold(np.array([[[x, y]]]), extent)
    assert (position >= 0.0).all()
    assert (position <= extent).all()


@pytest.mark.parametrize(
    ("unfolded", "place"),
    [
        (210.0, 190.0),  # 10 beyond the wall, 10 back
        (-20.0, 20.0),
        (-220.0, 180.0),  # the wall at 0, then 200
        (410.0, 10.0),  # once there and back
        (200.0, 200.0),
        (0.0, 0.0),
        (-1e-20, 0.0),
        (73.0, 73.0),
    ],
)
def test_reflection_by_hand(unfolded: float, place: float) -> None:
    folded = mobility.fold(np.array([[[unfolded, 50.0]]]), EXTENT)
    np.testing.assert_allclose(folded, [[[place, 50.0]]], atol=1e-9)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(at=st.floats(-1e4, 1e4), step=st.floats(-100.0, 100.0))
def test_reflection_never_makes_a_step_longer(at: float, step: float) -> None:
    before, after = mobility.fold(np.array([[at, 0.0], [at + step, 0.0]]), EXTENT)[:, 0]
    assert abs(after - before) <= abs(step) + 1e-9


@settings(max_examples=100, derandomize=True, deadline=None)
@given(x=st.floats(0.0, 200.0), y=st.floats(0.0, 100.0), side=st.integers(1, 9))
def test_cell_holds_its_position(x: float, y: float, side: int) -> None:
    config = AREA.replace(width_m=200.0, height_m=100.0)
    cell = int(mobility.cell_index(np.array([[x, y]]), config, side)[0])
    row, column = divmod(cell, side)
    assert 0 <= row < side
    for value, index, extent in ((x, column, 200.0), (y, row, 100.0)):
        assert index * extent / side - 1e-9 <= value <= (index + 1) * extent / side + 1e-9


@pytest.mark.parametrize("num_sites", [1, 2, 3, 5, 8, 20])
def test_sites_lie_apart_within_the_area(num_sites: int) -> None:
    sites = mobility.site_positions_m(num_sites, AREA)
    assert sites.shape == (num_sites, 2)
    assert ((sites > 0.0) & (sites < 200.0)).all()
    between = mobility.distance_m(sites[None], sites[None])[0] + 1e9 * np.eye(num_sites)
    assert between.min() > 0.4 * 200.0 / np.sqrt(num_sites)


def test_distance_by_hand() -> None:
    distance = mobility.distance_m(np.array([[[3.0, 4.0], [6.0, 0.0]]]), np.array([[[0.0, 0.0]]]))
    np.testing.assert_allclose(distance, [[[5.0, 6.0]]])
