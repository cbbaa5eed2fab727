"""Accuracy forecast f_c(t | place, model age), learnt from what was measured, eqs (13) and (14).

What is learnt is how accuracy changes from one frame to the next at a place and model age, pooled
over users: a user's own accuracy says how well its model does, the history what a new model, an old
one or another place adds to that.
"""

from __future__ import annotations

from dtmarl.backend import Array, count_to, namespace
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


def record(
    config: ScenarioConfig, heard: Mirror, knowledge: Knowledge, slot: int, accuracy: Array
) -> Knowledge:
    """Remember by how much the frame accuracies (13) changed, under believed place and model age.

    Args:
        config: the scenario.
        heard: the mirror at the frame's last slot.
        knowledge: its `frame_accuracy` is the frame's before, its model ages this frame's.
        slot: the frame's last slot.
        accuracy: [E, N] frame accuracy of this frame.
    """
    xp = namespace(accuracy)
    change = accuracy - knowledge.frame_accuracy
    grid = config.learning.cells_per_side
    position = believed_position_m(config, heard, slot)
    cell = mobility.cell_index(position, config.mobility, grid)
    row = cell * NUM_AGE_BINS + age_bin(knowledge.model_age_slots, config.slots_per_frame)
    rows = count_to(grid * grid * NUM_AGE_BINS, cell)
    hit = (row[..., None] == rows) & heard.present_mask[..., None]
    count = xp.astype(hit, accuracy.dtype)
    total = xp.sum(count * change[..., None], axis=1)
    shape = knowledge.history_sum.shape
    return knowledge._replace(
        history_sum=knowledge.history_sum + xp.reshape(total, shape),
        history_count=knowledge.history_count + xp.reshape(xp.sum(count, axis=1), shape),
    )


def frame_accuracy(
    config: ScenarioConfig, heard: Mirror, knowledge: Knowledge, slot: int, num_slots: int
) -> Array:
    """Predicted mean accuracy C_n over the coming slots, eq (14), [E, N].

    The believed position moves on with the believed velocity. In each slot f_c is the user's newest
    frame accuracy plus the mean change at that place and model age, shrunk towards the mean at that
    age over all places, and that towards none; each prior counts as `forecast_prior` measurements.

    Args:
        config: the scenario.
        heard: the mirror at the first slot.
        knowledge: before the first slot.
        slot: the first slot.
        num_slots: how many slots the decision will be in force.
    """
    xp = namespace(heard.position_m)
    ahead = count_to(num_slots, heard.position_m)[:, None, None]
    position = believed_position_m(config, heard, slot + ahead)
    cell = mobility.cell_index(position, config.mobility, config.learning.cells_per_side)
    age = age_bin(knowledge.model_age_slots + ahead, config.slots_per_frame)
    environment = count_to(cell.shape[1], cell)[None, :, None]
    total = knowledge.history_sum[environment, cell, age]
    count = knowledge.history_count[environment, cell, age]
    prior = config.twin.forecast_prior
    by_age = knowledge.history_sum.sum(axis=1) / (knowledge.history_count.sum(axis=1) + prior)
    change = (total + prior * by_age[environment, age]) / (count + prior)
    predicted = knowledge.frame_accuracy + xp.mean(change, axis=0)
    return xp.minimum(xp.maximum(predicted, 0.0), 1.0)


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
