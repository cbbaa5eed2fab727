"""Contexts: which class mix a user's camera sees, by place and by chance. Drift comes from here."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.config import LearningConfig, TrafficConfig


def context_library(learning: LearningConfig) -> Array:
    """The finite library of class mixes, [C, K]: Dirichlet draws, the same for every environment.

    It is also the set 𝒫 of mixes that the twin can generate, eq (8).
    """
    generator = np.random.Generator(np.random.PCG64(learning.library_seed))
    concentration = np.full(learning.num_classes, learning.context_concentration)
    library = generator.dirichlet(concentration, size=learning.num_contexts)
    # A floor keeps every mix's logarithm finite, which eq (8) needs.
    library = np.maximum(library, 1e-4)
    return library / library.sum(axis=-1, keepdims=True)


def next_context(
    context: Array,
    old_cell: Array,
    new_cell: Array,
    place_context: Array,
    switch: Array,
    choice: Array,
    learning: LearningConfig,
) -> Array:
    """Context after a slot: the place's on entering a cell, otherwise a Markov switch.

    Args:
        context: [E, N] index into the library.
        old_cell: [E, N] cell before the move.
        new_cell: [E, N] cell after it.
        place_context: [E, G] context of each cell.
        switch: [E, N] uniform.
        choice: [E, N] uniform.
        learning: switching probability and whether contexts follow places.

    Returns:
        [E, N] integer.
    """
    xp = namespace(context)
    jump = xp.astype(xp.floor(choice * learning.num_contexts), context.dtype)
    result = xp.where(switch < learning.context_switch_probability, jump, context)
    if learning.context_follows_place:
        of_place = xp.take_along_axis(place_context, new_cell, axis=1)
        result = xp.where(new_cell != old_cell, of_place, result)
    return result


def task_bytes(uniform: Array, traffic: TrafficConfig) -> Array:
    """Task sizes Q_n ~ U(task_bytes_min, task_bytes_max), any shape, in bytes."""
    return traffic.task_bytes_min + uniform * (traffic.task_bytes_max - traffic.task_bytes_min)
