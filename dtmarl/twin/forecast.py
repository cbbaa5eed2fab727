"""Accuracy forecast f_c(t | place, model age), learnt from what was measured, eqs (13) and (14)."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import mobility
from dtmarl.types import Knowledge, Mirror

AGE_BIN_FRAMES = (1, 2, 4)
"""Model ages, in frames, at which the next bin starts."""

NUM_AGE_BINS = len(AGE_BIN_FRAMES) + 1


def age_bin(model_age_slots: Array, slots_per_frame: int) -> Array:
    """Bin of the model-using time T_n^dur, any shape, integer in [0, A)."""
    xp = namespace(model_age_slots)
    result = xp.zeros_like(model_age_slots)
    for frames in AGE_BIN_FRAMES:
        older = model_age_slots >= frames * slots_per_frame
        result = result + xp.astype(older, model_age_slots.dtype)
    return result


def record(config: ScenarioConfig, heard: Mirror, knowledge: Knowledge, slot: int) -> Knowledge:
    """Remember the frame accuracies (13) under the believed place and the model's age.

    Args:
        config: the scenario.
        heard: the mirror at the frame's last slot.
        knowledge: its `frame_accuracy` is that frame's.
        slot: the frame's last slot.
    """
    accuracy = knowledge.frame_accuracy
    xp = namespace(accuracy)
    grid = config.learning.cells_per_side
    position = believed_position_m(config, heard, slot)
    cell = mobility.cell_index(position, config.mobility, grid)
    row = cell * NUM_AGE_BINS + age_bin(knowledge.model_age_slots, config.slots_per_frame)
    rows = xp.arange(grid * grid * NUM_AGE_BINS)
    hit = (row[..., None] == rows) & heard.present_mask[..., None]
    count = xp.astype(hit, accuracy.dtype)
    total = xp.sum(count * accuracy[..., None], axis=1)
    shape = knowledge.history_sum.shape
    return knowledge._replace(
        history_sum=knowledge.history_sum + xp.reshape(total, shape),
        history_count=knowledge.history_count + xp.reshape(xp.sum(count, axis=1), shape),
    )


def frame_accuracy(
    config: ScenarioConfig, heard: Mirror, knowledge: Knowledge, slot: int, num_slots: int
) -> Array:
    """Predicted mean accuracy C_n over the coming slots, eq (14), [E, N].

    The believed position moves on with the believed velocity; in each slot f_c is the mean of what
    was measured at that place and model age, shrunk towards the user's own latest accuracy, which
    counts as `forecast_prior` measurements.

    Args:
        config: the scenario.
        heard: the mirror at the first slot.
        knowledge: before the first slot.
        slot: the first slot.
        num_slots: how many slots the decision will be in force.
    """
    xp = namespace(heard.position_m)
    ahead = xp.arange(num_slots)[:, None, None]
    position = believed_position_m(config, heard, slot + ahead)
    cell = mobility.cell_index(position, config.mobility, config.learning.cells_per_side)
    age = age_bin(knowledge.model_age_slots + ahead, config.slots_per_frame)
    environment = xp.arange(cell.shape[1])[None, :, None]
    total = knowledge.history_sum[environment, cell, age]
    count = knowledge.history_count[environment, cell, age]
    prior = config.twin.forecast_prior
    return xp.mean((total + prior * knowledge.frame_accuracy) / (count + prior), axis=0)


def believed_position_m(config: ScenarioConfig, heard: Mirror, slot: int | Array) -> Array:
    """Where the twin expects each user, [..., E, N, 2]: dead reckoning, kept within the area.

    Args:
        config: the area.
        heard: the mirror.
        slot: slot, or slots [..., E, N], to expect it in.
    """
    xp = namespace(heard.position_m)
    elapsed_s = (slot - heard.report_slot) * config.mobility.slot_spacing_s
    position = heard.position_m + heard.velocity_m_per_s * elapsed_s[..., None]
    width, height = config.mobility.width_m, config.mobility.height_m
    x = xp.minimum(xp.maximum(position[..., 0], 0.0), width)
    y = xp.minimum(xp.maximum(position[..., 1], 0.0), height)
    return xp.stack([x, y], axis=-1)
