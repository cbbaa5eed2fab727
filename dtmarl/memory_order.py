"""In which order the axes of tensors lie in memory.

Processors do eight or sixteen neighbouring numbers at once, and the axes of base stations, users
and classes have a handful. So batches on torch have their environments side by side in memory,
whatever the order of the axes says; arithmetic keeps that order, and so does what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from dtmarl.tensor_trees import map_tensors

Tree = TypeVar("Tree")


def stack(arrays: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    """Tensors of one shape, side by side along a new axis, which is outermost in memory."""
    if arrays[0].dtype == torch.bool:  # see `dtmarl.compiling` on masks in memory
        return stack([torch.where(array, 1.0, 0.0) for array in arrays], axis) > 0.5
    order = _memory_order(arrays)
    joined = torch.stack([array.permute(order) for array in arrays])
    at = axis % joined.ndim
    back = [1 + order.index(a) for a in range(joined.ndim - 1)]
    return joined.permute([*back[:at], 0, *back[at:]])


def concat(arrays: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    """Tensors one after the other along an axis."""
    order = _memory_order(arrays)
    along = order.index(axis % len(order))
    # With two axes more: the compiler takes what has four or five for pictures, and may put the
    # second, colours, innermost.
    joined = torch.cat([array.permute(order)[None, None] for array in arrays], dim=2 + along)[0, 0]
    return joined.permute([order.index(a) for a in range(joined.ndim)])


def reduced(
    function: Callable[..., torch.Tensor], array: torch.Tensor, axis: int, **options: Any
) -> torch.Tensor:
    """A reduction along one axis, as `torch.sum`, that leaves the others in their order in memory.

    Torch's own come out row by row.
    """
    order = _memory_order([array])
    axis %= array.ndim
    result = function(array.permute(order), dim=order.index(axis), **options)
    left = order if result.ndim == array.ndim else [a for a in order if a != axis]
    return result.permute([left.index(a) for a in range(array.ndim) if a in left])


def along_environments(tree: Tree, num_envs: int) -> Tree:
    """The same values, in memory that runs along the environments.

    Args:
        tree: of tensors; see `map_tensors`.
        num_envs: E. The first axis of this length is taken to be theirs; were it another, that
            would cost time and change no value.
    """

    def moved(array: torch.Tensor) -> torch.Tensor:
        if num_envs not in array.shape:
            return array
        axis = list(array.shape).index(num_envs)
        return array.movedim(axis, -1).contiguous().movedim(-1, axis)

    result: Tree = map_tensors(moved, tree)
    return result


def _memory_order(arrays: Sequence[torch.Tensor]) -> list[int]:
    """Axes from the outermost in memory to the innermost: those of the array with the longest."""
    order, longest = list(range(arrays[0].ndim)), 0
    for array in arrays:
        if array.ndim and 0 not in array.stride():  # else it is spread, and says nothing
            # An axis of length one may have any stride.
            steps = [
                (size > 1, -step) for size, step in zip(array.shape, array.stride(), strict=True)
            ]
            inwards = sorted(range(array.ndim), key=steps.__getitem__)
            if array.shape[inwards[-1]] > longest:
                order, longest = inwards, array.shape[inwards[-1]]
    return order
