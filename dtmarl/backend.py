"""One physics, two backends: functions ask their arrays which library they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any
"""A NumPy array or a torch tensor; the shape is given in each docstring."""


def namespace(array: Array) -> Any:
    """The array-API namespace of an array; NumPy is one itself, and asking it costs nothing."""
    return np if isinstance(array, np.ndarray) else array_namespace(array)
