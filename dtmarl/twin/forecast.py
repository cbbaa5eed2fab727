"""Accuracy forecast f_c(t | place, model age), learnt from what was measured, eqs (13) and (14)."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import mobility
from dtmarl.types import Twin

AGE_BIN_FRAMES = (1, 2, 4)
"""Model ages, in frames, at which the next bin starts."""

NUM_AGE_BINS = len(AGE_BIN_FRAMES) + 1


def age_bin(model_age_slots: Array, slots_per_frame: int) -> Array:
    """Bin of the model-using time T_n^dur, any shape, integer in [0, A)."""
    xp = namespace(model_age_slots)
    result = xp.zeros_like(model_age_slots)
    for frames in AGE_BIN_FRAMES:
        result = result + xp.astype(
            model_age_slots >= frames * slots_per_frame, model_age_slots.dtype
        )
    return result


def record(config: ScenarioConfig, twin: Twin) -> Twin:
    """Remember the frame accuracies (13) under the believed place and the model's age.

    Args:
        config: the scenario.
        twin: the twin at the end of a frame, its `frame_accuracy` that frame's.
    """
    xp = namespace(twin.frame_accuracy)
    grid = config.learning.cells_per_side
    cell = mobility.cell_index(believed_position_m(config, twin, 0.0), config.mobility, grid)
    row = cell * NUM_AGE_BINS + age_bin(twin.model_age_slots, config.slots_per_frame)
    rows = xp.arange(grid * grid * NUM_AGE_BINS)
    hit = (row[..., None] == rows) & twin.present_mask[..., None]
    count = xp.astype(hit, twin.frame_accuracy.dtype)
    total = xp.sum(count * twin.frame_accuracy[..., None], axis=1)
    shape = twin.history_sum.shape
    return twin._replace(
        history_sum=twin.history_sum + xp.reshape(total, shape),
        history_count=twin.history_count + xp.reshape(xp.sum(count, axis=1), shape),
    )


def frame_accuracy(config: ScenarioConfig, twin: Twin, num_slots: int) -> Array:
    """Predicted mean accuracy C_n over the coming slots, eq (14), [E, N].

    The believed position moves on with the believed velocity; in each slot f_c is the mean of what
    was measured at that place and model age, shrunk towards the user's own latest accuracy, which
    counts as `forecast_prior` measurements.

    Args:
        config: the scenario.
        twin: the twin, at the beginning of the frame.
        num_slots: how many slots the decision will be in force.
    """
    xp = namespace(twin.position_m)
    ahead = xp.arange(num_slots)
    seconds = xp.astype(ahead, twin.position_m.dtype) * config.mobility.slot_spacing_s
    position = believed_position_m(config, twin, seconds[:, None, None, None])
    cell = mobility.cell_index(position, config.mobility, config.learning.cells_per_side)
    age = age_bin(twin.model_age_slots + ahead[:, None, None], config.slots_per_frame)
    environment = xp.arange(cell.shape[1])[None, :, None]
    total = twin.history_sum[environment, cell, age]
    count = twin.history_count[environment, cell, age]
    prior = config.twin.forecast_prior
    return xp.mean((total + prior * twin.frame_accuracy) / (count + prior), axis=0)


def believed_position_m(config: ScenarioConfig, twin: Twin, seconds: float | Array) -> Array:
    """Where the twin expects each user, [..., E, N, 2]: dead reckoning, kept within the area.

    Args:
        config: the area.
        twin: the twin.
        seconds: time since the newest report.
    """
    xp = namespace(twin.position_m)
    position = twin.position_m + twin.velocity_m_per_s * seconds
    width, height = config.mobility.width_m, config.mobility.height_m
    x = xp.minimum(xp.maximum(position[..., 0], 0.0), width)
    y = xp.minimum(xp.maximum(position[..., 1], 0.0), height)
    return xp.stack([x, y], axis=-1)
