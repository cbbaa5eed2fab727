"""Movement: Gauss–Markov stationarity, reflection, cells and sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtmarl.config import MobilityConfig
from dtmarl.physics import mobility

AREA = MobilityConfig()


def test_velocity_is_stationary_around_the_mean_velocity() -> None:
    """Memory a, innovation s·sqrt(1 - a²): mean v·heading, std s·v, correlation a per slot."""
    rng = np.random.default_rng(1)
    shape = (1, 40_000)
    angle = rng.uniform(0.0, 2.0 * np.pi, shape)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    speed = np.full(shape, 15.0)
    config = AREA.replace(width_m=1e9, height_m=1e9)  # no border is ever reached
    position = np.full((*shape, 2), 5e8)
    velocity = speed[..., None] * (heading + 0.3 * rng.standard_normal((*shape, 2)))
    first = velocity - 15.0 * heading
    for slot in range(1, 9):
        position, velocity, heading = mobility.move(
            position, velocity, heading, speed, rng.standard_normal((*shape, 2)), config
        )
        around = velocity - 15.0 * heading
        np.testing.assert_allclose(around.mean(axis=(0, 1)), 0.0, atol=0.1)
        np.testing.assert_allclose(around.std(axis=(0, 1)), 4.5, rtol=0.02)
        expected = 0.85**slot
        measured = np.corrcoef(around.ravel(), first.ravel())[0, 1]
        assert measured == pytest.approx(expected, abs=0.02)


def test_users_stay_uniform_over_the_area() -> None:
    """Reflection has the uniform distribution as its stationary one: nobody sticks to a border."""
    rng = np.random.default_rng(2)
    shape, extent = (1, 20_000), np.array([200.0, 200.0])
    angle = rng.uniform(0.0, 2.0 * np.pi, shape)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    speed = np.full(shape, 15.0)
    position, velocity = rng.random((*shape, 2)) * extent, speed[..., None] * heading
    config = AREA.replace(slot_spacing_s=2.0)
    for _ in range(50):
        position, velocity, heading = mobility.move(
            position, velocity, heading, speed, rng.standard_normal((*shape, 2)), config
        )
    histogram, _ = np.histogram(position[..., 0], bins=10, range=(0.0, 200.0))
    np.testing.assert_allclose(histogram, 2000, atol=250)
    np.testing.assert_allclose((heading**2).sum(axis=-1), 1.0, rtol=1e-12)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    start=st.floats(0.0, 200.0),
    velocity=st.floats(-1e7, 1e7, allow_nan=False),
    noise=st.floats(-8.0, 8.0),
    spacing_s=st.floats(1e-4, 100.0),
)
def test_reflection_stays_inside_for_any_step(
    start: float, velocity: float, noise: float, spacing_s: float
) -> None:
    config = AREA.replace(slot_spacing_s=spacing_s)
    place = np.array([[[start, 200.0 - start]]])
    position, after, heading = mobility.move(
        place,
        np.array([[[velocity, -velocity]]]),
        np.array([[[0.6, -0.8]]]),
        np.array([[500.0]]),
        np.full((1, 1, 2), noise),
        config,
    )
    assert (position >= 0.0).all()
    assert (position <= 200.0).all()
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(np.abs(heading), [[[0.6, 0.8]]])


@pytest.mark.parametrize(
    ("start", "velocity", "end", "sign"),
    [
        (190.0, 20.0, 190.0, -1),  # 10 to the wall, 10 back
        (10.0, -30.0, 20.0, -1),
        (10.0, -230.0, 180.0, 1),  # the wall at 0, then 200: 10 + 200 + 20
        (10.0, 400.0, 10.0, 1),  # once there and back
        (50.0, 150.0, 200.0, 1),  # exactly at the wall
    ],
)
def test_reflection_by_hand(start: float, velocity: float, end: float, sign: int) -> None:
    config = AREA.replace(slot_spacing_s=1.0, velocity_memory=1.0, height_m=1000.0)
    position, after, heading = mobility.move(
        np.array([[[start, 500.0]]]),
        np.array([[[velocity, 1.0]]]),
        np.array([[[1.0, 0.0]]]),
        np.array([[1.5]]),
        np.zeros((1, 1, 2)),
        config,
    )
    np.testing.assert_allclose(position, [[[end, 501.0]]], atol=1e-9)
    np.testing.assert_allclose(after, [[[sign * velocity, 1.0]]])
    np.testing.assert_allclose(heading, [[[sign, 0.0]]])


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
    between = mobility.distance_m(sites[None], sites)[0] + 1e9 * np.eye(num_sites)
    assert between.min() > 0.4 * 200.0 / np.sqrt(num_sites)


def test_distance_by_hand() -> None:
    distance = mobility.distance_m(np.array([[[3.0, 4.0], [6.0, 0.0]]]), np.array([[0.0, 0.0]]))
    np.testing.assert_allclose(distance, [[[5.0, 6.0]]])
