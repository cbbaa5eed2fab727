"""The array-API namespace of torch tensors, as far as `torch.compile` can follow it.

`array_api_compat` promotes Python numbers in `maximum` and `minimum` by asking for dtypes, which a
compiled graph cannot hold; here a number is a bound of `clamp`. And what is joined keeps the order
in memory of its parts; see `dtmarl.memory_order`.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.torch
import torch
from array_api_compat.torch import *  # noqa: F403 - this module is that namespace, and a little more

from dtmarl.memory_order import concat, reduced, stack  # noqa: F401

bool = torch.bool


def maximum(first: Any, second: Any) -> Any:
    """The larger of two tensors, or of a tensor and a number."""
    if isinstance(second, torch.Tensor):
        return torch.maximum(first, second)
    return torch.clamp(first, min=second)


def minimum(first: Any, second: Any) -> Any:
    """The smaller of two tensors, or of a tensor and a number."""
    if isinstance(second, torch.Tensor):
        return torch.minimum(first, second)
    return torch.clamp(first, max=second)


def log1p(x: Any) -> Any:
    """log(1 + x) to the last digits of a small x; ten times as fast as torch's, a scalar loop."""
    one_more = 1.0 + x
    return torch.where(one_more == 1.0, x, torch.log(one_more) * (x / (one_more - 1.0)))


def argmin(x: Any, axis: int | None = None) -> Any:
    """Index of the first of the smallest; along an axis many times as fast as torch's `argmin`."""
    return torch.argmin(x) if axis is None else torch.min(x, dim=axis).indices


def isfinite(x: Any) -> Any:
    """Where a number is finite; several times as fast as torch's own."""
    return x - x == 0.0


def sum(x: Any, axis: Any = None, **options: Any) -> Any:
    """Sum of all elements, or along axes; along one it keeps the order in memory of the others."""
    if axis is None or isinstance(axis, tuple):
        return array_api_compat.torch.sum(x, axis=axis, **options)
    return reduced(torch.sum, x, axis, keepdim=options.get("keepdims", False))


def mean(x: Any, axis: Any = None, **options: Any) -> Any:
    """Mean of all elements, or along axes; see `sum`."""
    if axis is None or isinstance(axis, tuple):
        return array_api_compat.torch.mean(x, axis=axis, **options)
    return reduced(torch.mean, x, axis, keepdim=options.get("keepdims", False))
