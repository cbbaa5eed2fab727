"""Contexts: which class mix a user's camera sees, by place and by chance. Drift comes from here."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array, count_to, namespace
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


def context_path(
    context: Array,
    old_cell: Array,
    cell: Array,
    place_context: Array,
    switch: Array,
    choice: Array,
    learning: LearningConfig,
) -> Array:
    """Contexts over the slots of a frame: the place's on entering a cell, else a Markov switch.

    Args:
        context: [E, N] index into the library before the frame.
        old_cell: [E, N] cell before the frame.
        cell: [S, E, N] cell in each slot.
        place_context: [E, G] context of each cell.
        switch: [S, E, N] uniform.
        choice: [S, E, N] uniform.
        learning: switching probability and whether contexts follow places.

    Returns:
        [S, E, N] integer.
    """
    xp = namespace(context)
    changes = switch < learning.context_switch_probability
    last = float(learning.num_contexts - 1)  # a number just below one may round up
    drawn = xp.minimum(xp.floor(choice * learning.num_contexts), last)
    next_context = xp.astype(drawn, context.dtype)
    if learning.context_follows_place:
        entered = cell != xp.concat([old_cell[None, ...], cell[:-1]], axis=0)
        environment = count_to(cell.shape[1], cell)[None, :, None]
        next_context = xp.where(entered, place_context[environment, cell], next_context)
        changes = changes | entered
    # One array that says whether there is a new context and which: a mask less to keep.
    next_context = xp.where(changes, next_context, -1)
    path = []
    for s in range(cell.shape[0]):
        context = xp.where(next_context[s] >= 0, next_context[s], context)
        path.append(context)
    return xp.stack(path, axis=0)


def task_bytes(uniform: Array, traffic: TrafficConfig) -> Array:
    """Task sizes Q_n ~ U(task_bytes_min, task_bytes_max), any shape, in bytes."""
    return traffic.task_bytes_min + uniform * (traffic.task_bytes_max - traffic.task_bytes_min)
