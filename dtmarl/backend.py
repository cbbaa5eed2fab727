"""One physics, two backends: functions ask their arrays which library they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a torch tensor; the shape is given in each docstring."""


def namespace(array: Array) -> Any:
    """The array-API namespace of an array; NumPy is one itself, and asking it costs nothing."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    from dtmarl import backend_torch

    return backend_torch


def constant(values: Array, like: Array, dtype: Any = None) -> Array:
    """Numbers as an array of the backend, device and, unless another is given, dtype of `like`."""
    if isinstance(like, np.ndarray):
        return np.asarray(values, dtype=like.dtype if dtype is None else dtype)
    xp = namespace(like)
    return xp.asarray(values, dtype=like.dtype if dtype is None else dtype, device=like.device)


def count_to(size: int, like: Array) -> Array:
    """0, 1, …, size - 1 as int64, on the device of `like`."""
    if isinstance(like, np.ndarray):
        return np.arange(size)
    xp = namespace(like)
    return xp.arange(size, dtype=xp.int64, device=like.device)


def to_numpy(array: Array) -> Array:
    """The array as a NumPy one; the same object where it is one already."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
