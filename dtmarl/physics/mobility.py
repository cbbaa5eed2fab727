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
        position_m: [..., E, N, 2] user positions.
        site_position_m: [E, M, 2] site positions.

    Returns:
        [..., E, M, N] in metres.
    """
    xp = namespace(position_m)
    dx = position_m[..., None, :, 0] - site_position_m[:, :, None, 0]
    dy = position_m[..., None, :, 1] - site_position_m[:, :, None, 1]
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


def velocity_path(
    velocity_m_per_s: Array,
    heading: Array,
    mean_speed_m_per_s: Array,
    noise: Array,
    mobility: MobilityConfig,
) -> Array:
    """Gauss–Markov velocities over the slots of a frame, [S, E, N, 2] in m/s.

    The velocity keeps `velocity_memory` of itself and returns to the user's mean velocity, its
    heading times its mean speed, with a stationary spread of `speed_spread` times that speed.

    Args:
        velocity_m_per_s: [E, N, 2] before the frame.
        heading: [E, N, 2] unit vectors.
        mean_speed_m_per_s: [E, N].
        noise: [S, E, N, 2] standard normal.
        mobility: memory and spread.
    """
    xp = namespace(noise)
    memory = mobility.velocity_memory
    spread = mobility.speed_spread * math.sqrt(1.0 - memory * memory)
    drive = mean_speed_m_per_s[..., None] * ((1.0 - memory) * heading + spread * noise)
    velocity, path = velocity_m_per_s, []
    for s in range(noise.shape[0]):
        velocity = memory * velocity + drive[s]
        path.append(velocity)
    return xp.stack(path, axis=0)


def position_path(unfolded_m: Array, velocity_m_per_s: Array, mobility: MobilityConfig) -> Array:
    """Positions in the unfolded plane over the slots of a frame, [S, E, N, 2] in metres.

    Args:
        unfolded_m: [E, N, 2] before the frame.
        velocity_m_per_s: [S, E, N, 2].
        mobility: the time between slots.
    """
    xp = namespace(velocity_m_per_s)
    step = velocity_m_per_s * mobility.slot_spacing_s
    moved, path = step[0], []
    for s in range(step.shape[0]):
        moved = moved + step[s] if s else moved
        path.append(unfolded_m + moved)
    return xp.stack(path, axis=0)


def fold(unfolded_m: Array, extent_m: Array) -> Array:
    """Positions in the area of users that are reflected at its border, [..., 2].

    Reflection is a straight path in the unfolded plane, whose tiles are mirror images of the area:
    exact for any distance in one slot, and velocities need not know of it.

    Args:
        unfolded_m: [..., 2] positions in the plane.
        extent_m: [2] width and height of the area.
    """
    xp = namespace(unfolded_m)
    phase = xp.remainder(unfolded_m, 2.0 * extent_m)
    return xp.minimum(phase, 2.0 * extent_m - phase)
