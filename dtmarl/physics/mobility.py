"""Where users are: the area, its sites, its cells, and Gauss–Markov movement."""

from __future__ import annotations

import math

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.config import MobilityConfig

_GOLDEN_RATIO = (1.0 + math.sqrt(5.0)) / 2.0


def site_positions_m(num_base_stations: int, mobility: MobilityConfig) -> Array:
    """Positions of the base stations, [M, 2] in metres: a Fibonacci lattice over the area.

    The lattice spreads any number of sites evenly, so M is one number to change.
    """
    index = np.arange(num_base_stations)
    x = (index + 0.5) / num_base_stations * mobility.width_m
    y = ((index + 0.5) * _GOLDEN_RATIO) % 1.0 * mobility.height_m
    return np.stack([x, y], axis=-1)


def distance_m(position_m: Array, site_position_m: Array) -> Array:
    """Horizontal distance d_mn of every user to every site.

    Args:
        position_m: [..., N, 2] user positions.
        site_position_m: [M, 2] site positions.

    Returns:
        [..., M, N] in metres.
    """
    xp = namespace(position_m)
    dx = position_m[..., None, :, 0] - site_position_m[:, None, 0]
    dy = position_m[..., None, :, 1] - site_position_m[:, None, 1]
    return xp.sqrt(dx * dx + dy * dy)


def cell_index(position_m: Array, mobility: MobilityConfig, cells_per_side: int) -> Array:
    """Cell of the place map that holds a position, [..., N] integer in [0, G)."""
    xp = namespace(position_m)
    column = xp.floor(position_m[..., 0] * (cells_per_side / mobility.width_m))
    row = xp.floor(position_m[..., 1] * (cells_per_side / mobility.height_m))
    last = float(cells_per_side - 1)
    # A position on the far border belongs to the last cell; none lies before the near one.
    index = xp.minimum(row, last) * cells_per_side + xp.minimum(column, last)
    return xp.astype(index, xp.int64)


def move(
    position_m: Array,
    velocity_m_per_s: Array,
    heading: Array,
    mean_speed_m_per_s: Array,
    noise: Array,
    extent_m: Array,
    mobility: MobilityConfig,
) -> tuple[Array, Array, Array]:
    """One Gauss–Markov step, reflected at the border of the area.

    The velocity keeps `velocity_memory` of itself and returns to the user's mean velocity, its
    heading times its mean speed, with a stationary spread of `speed_spread` times that speed.

    Args:
        position_m: [E, N, 2].
        velocity_m_per_s: [E, N, 2].
        heading: [E, N, 2] unit vectors.
        mean_speed_m_per_s: [E, N].
        noise: [E, N, 2] standard normal.
        extent_m: [2] width and height of the area.
        mobility: memory and spread.

    Returns:
        Position, velocity and heading one slot later, [E, N, 2] each.
    """
    xp = namespace(position_m)
    memory = mobility.velocity_memory
    speed = mean_speed_m_per_s[..., None]
    spread = mobility.speed_spread * math.sqrt(1.0 - memory * memory)
    velocity = memory * velocity_m_per_s + speed * ((1.0 - memory) * heading + spread * noise)
    moved = position_m + velocity * mobility.slot_spacing_s
    # Unfolding the area makes reflection exact for any distance travelled in one slot.
    phase = xp.remainder(moved, 2.0 * extent_m)
    reflected = phase > extent_m
    position = xp.where(reflected, 2.0 * extent_m - phase, phase)
    return (
        position,
        xp.where(reflected, -velocity, velocity),
        xp.where(reflected, -heading, heading),
    )
