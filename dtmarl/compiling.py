"""How functions of whole batches are compiled: loops along the environments, masks as bytes.

Both are about what torch's compiler makes of many short axes, and neither changes a result.

It orders the loops of a kernel by comparing the strides of its operands axis by axis. Where
operands broadcast, the comparisons contradict one another, and the innermost loop, the one that
vector registers do, may be that over three base stations. Here an axis is as near as the nearest
step that any operand makes along it: environments, which lie side by side in memory
(`dtmarl.memory_order`), are always innermost.

And its loops write a mask element by element, which takes as long as thirty additions, but bytes
sixteen at a time. So masks enter and leave graphs as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch._dynamo import lookup_backend
from torch._inductor import scheduler

from dtmarl.tensor_trees import map_tensors

_NUMBER = count()


def compiled(function: Any) -> Callable[..., Any]:
    """The function as compiled graphs of its own, for tensors in tuples, named tuples and dicts.

    What is not a tensor is constant in a graph. Torch would look through everything that a graph
    was made for at every call, which takes as long as the graph itself; here one key is made of it.
    """
    graphs: dict[Any, Callable[..., Any]] = {}

    def run(*arguments: Any) -> Any:
        key = _key(arguments)
        graph = graphs.get(key)
        if graph is None:
            graph = graphs[key] = _own_graph(function)
        return map_tensors(_as_mask, graph(*map_tensors(_as_bytes, arguments)))

    return run


def _key(tree: Any) -> Hashable:
    """Equal for arguments that one graph serves."""
    if isinstance(tree, torch.Tensor):
        return (tree.shape, tree.stride(), tree.dtype, tree.device)
    if isinstance(tree, tuple):
        return (type(tree), *map(_key, tree))
    if isinstance(tree, dict):
        return tuple((name, _key(part)) for name, part in tree.items())
    result: Hashable = tree
    return result


def _own_graph(function: Any) -> Callable[..., Any]:
    # Torch keeps graphs with a function's code, gives up after a few, and makes sizes variable that
    # it has seen change under one name of code: each graph has a copy of the code and a name.
    def of_bytes(*arguments: Any) -> Any:
        return map_tensors(_mask_to_bytes, function(*map_tensors(_bytes_to_mask, arguments)))

    name = f"graph_{next(_NUMBER)}"
    code = of_bytes.__code__.replace(co_name=name)
    own = FunctionType(code, of_bytes.__globals__, name, None, of_bytes.__closure__)
    return torch.compile(
        own, fullgraph=True, backend=_compile_graph, options={"guard_filter_fn": _none_of_them}
    )


def _none_of_them(guards: Sequence[Any]) -> list[bool]:
    return [False] * len(guards)


def nearest_step_first(
    strides: Sequence[Sequence[int]], sizes: Sequence[Any], priority: Sequence[int] = ()
) -> list[int]:
    """Axes of a kernel from the innermost to the outermost.

    Args:
        strides: of each operand, by axis; 0 where it does not change along it.
        sizes: of the axes.
        priority: operands that alone count, where there are any.
    """
    operands = [strides[i] for i in priority] or strides

    def distance(axis: int) -> tuple[int, ...]:
        steps = [abs(operand[axis]) for operand in operands if operand[axis] != 0]
        if sizes[axis] == 1:
            return (2,)
        if not steps:
            return (1, -axis)
        return (0, min(steps), -int(sizes[axis]), -axis)

    return sorted(range(len(sizes)), key=distance)


def _compile_graph(graph: Any, inputs: Any) -> Callable[..., Any]:
    """A backend for `torch.compile`: torch's own, with this order of the loops."""
    with _order_of_loops(nearest_step_first):
        result: Callable[..., Any] = lookup_backend("inductor")(graph, inputs)
    return result


@contextmanager
def _order_of_loops(order: Callable[..., list[int]]) -> Iterator[None]:
    # Torch has no official way to say this; a release that has moved the function keeps its own.
    theirs = getattr(scheduler, "pick_loop_order", None)
    if theirs is None:
        yield
        return
    scheduler.pick_loop_order = order
    try:
        yield
    finally:
        scheduler.pick_loop_order = theirs


def _mask_to_bytes(array: torch.Tensor) -> torch.Tensor:
    return torch.where(array, 1.0, 0.0).to(torch.uint8) if array.dtype == torch.bool else array


def _bytes_to_mask(array: torch.Tensor) -> torch.Tensor:
    return array.to(torch.int32) != 0 if array.dtype == torch.uint8 else array


def _as_bytes(array: torch.Tensor) -> torch.Tensor:
    return array.view(torch.uint8) if array.dtype == torch.bool else array


def _as_mask(array: torch.Tensor) -> torch.Tensor:
    return array.view(torch.bool) if array.dtype == torch.uint8 else array
