"""How functions of whole batches are compiled: memory and loops along environments, masks as bytes.

All of it is about what torch's compiler makes of many short axes, and nothing changes a result
beyond rounding.

It orders the loops of a kernel by comparing the strides of its operands axis by axis. Where
operands broadcast, the comparisons contradict one another, and the innermost loop, the one that
vector registers do, may be that over three base stations. Here an axis is as near as the nearest
step that any operand makes along it: environments, which lie side by side in memory
(`dtmarl.memory_order`), are always innermost. And what is computed in between lies row by row until
something decides otherwise, so that half of a graph may be spent on turning arrays round; here it
lies along the environments from the start.

Loops write a mask element by element, which takes as long as thirty additions, but bytes sixteen at
a time. So masks enter and leave graphs as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.compiler.config as compiler_config
from torch._dynamo import lookup_backend
from torch._inductor import config, ir, scheduler

from dtmarl.memory_order import along_environments
from dtmarl.tensor_trees import map_tensors

_NUMBER = count()
_CACHE_TAG = "dtmarl 1"
"""Keeps what is compiled here apart in torch's caches; to be changed with what is replaced."""


def compiled_along(num_envs: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as compiled graphs of its own, for tensors in tuples, named tuples and dicts.

    What is not a tensor is constant in a graph. Torch would look through everything that a graph
    was made for at every call, which takes as long as the graph itself; here one key is made of it.

    Args:
        num_envs: E, along which the memory of all results runs; see `dtmarl.memory_order`.
        function: whose results are no views of its arguments.
    """
    graphs: dict[Any, Callable[..., Any]] = {}

    def run(*arguments: Any) -> Any:
        tensors: list[torch.Tensor] = []
        key = _key(arguments, tensors)
        graph = graphs.get(key)
        if graph is None:
            graph = graphs[key] = _own_graph(num_envs, function, key)
        return map_tensors(_as_mask, graph(*tensors))

    return run


class _Like(NamedTuple):
    """What a graph takes for granted of a tensor."""

    shape: Any
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _key(tree: Any, tensors: list[torch.Tensor]) -> Any:
    """Equal for arguments that one graph serves; their tensors, masks as bytes, go to a list."""
    if isinstance(tree, torch.Tensor):
        tensors.append(tree.view(torch.uint8) if tree.dtype == torch.bool else tree)
        return _Like(tree.shape, tree.stride(), tree.dtype, tree.device)
    if isinstance(tree, tuple):
        return (type(tree), *[_key(part, tensors) for part in tree])
    if isinstance(tree, dict):
        return (dict, *[(name, _key(part, tensors)) for name, part in tree.items()])
    return tree


def _from_tensors(key: Any, place: Iterator[int]) -> Callable[[Sequence[torch.Tensor]], Any]:
    """What makes arguments of this key from their tensors."""
    if isinstance(key, _Like):
        at = next(place)
        return lambda tensors: _bytes_to_mask(tensors[at])
    if isinstance(key, tuple) and key[0] is dict:
        names = [name for name, _ in key[1:]]
        values = [_from_tensors(part, place) for _, part in key[1:]]
        return lambda tensors: {n: v(tensors) for n, v in zip(names, values, strict=True)}
    if isinstance(key, tuple):
        kind, parts = key[0], [_from_tensors(part, place) for part in key[1:]]
        if kind is tuple:
            return lambda tensors: tuple([part(tensors) for part in parts])
        return lambda tensors: kind(*[part(tensors) for part in parts])
    return lambda tensors: key


def _own_graph(num_envs: int, function: Callable[..., Any], key: Any) -> Callable[..., Any]:
    # Torch keeps graphs with a function's code, gives up after a few, and makes sizes variable that
    # it has seen change under one name of code: each graph has a copy of the code and a name.
    arguments = _from_tensors(key, count())

    def of_bytes(*tensors: torch.Tensor) -> Any:
        results = map_tensors(_mask_to_bytes, function(*arguments(tensors)))
        # A view would be made anew around each call.
        return map_tensors(torch.clone, along_environments(results, num_envs))

    name = f"graph_{next(_NUMBER)}"
    code = of_bytes.__code__.replace(co_name=name)
    own = FunctionType(code, of_bytes.__globals__, name, None, of_bytes.__closure__)
    graph: Callable[..., Any] = torch.compile(
        own,
        fullgraph=True,
        backend=partial(_compile_graph, num_envs),
        options={"guard_filter_fn": _none_of_them},
    )
    return graph


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


def _compile_graph(num_envs: int, graph: Any, inputs: Any) -> Callable[..., Any]:
    """A backend for `torch.compile`: torch's own, with memory and loops along the environments.

    And with multiplications and additions in one where the processor has that.
    """
    ours = (
        (scheduler, "pick_loop_order", lambda theirs: nearest_step_first),
        (ir.FlexibleLayout, "__init__", partial(_layout_along, num_envs)),
        (ir.ComputedBuffer, "get_fill_order", partial(_decided_along, num_envs)),
    )
    with (
        _replaced(ours),
        compiler_config.patch(cache_key_tag=_CACHE_TAG),
        config.patch({"cpp.enable_floating_point_contract_flag": "fast"}),
    ):
        result: Callable[..., Any] = lookup_backend("inductor")(graph, inputs)
    return result


def _order_along(num_envs: int, size: Sequence[Any]) -> list[int] | None:
    """Axes of an array from the innermost in memory to the outermost: E, and then as it is."""
    if num_envs not in size:
        return None
    environments = list(size).index(num_envs)
    return [environments, *(axis for axis in reversed(range(len(size))) if axis != environments)]


def _layout_along(num_envs: int, theirs: Callable[..., None]) -> Callable[..., None]:
    """Gives what is computed in between memory along the environments, until something asks more.

    Torch takes it to lie row by row, and then lets it.
    """

    def layout(
        self: Any, device: Any, dtype: Any, size: Any, stride_order: Any = None, **options: Any
    ) -> None:
        stride_order = stride_order or _order_along(num_envs, size)
        theirs(self, device, dtype, size, stride_order, **options)

    return layout


def _decided_along(num_envs: int, theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Lets that be the layout in the end, too: views of it may have been made."""

    def order(self: Any) -> Any:
        return _order_along(num_envs, self.get_size()) or theirs(self)

    return order


@contextmanager
def _replaced(replacements: Sequence[tuple[Any, str, Callable[[Any], Any]]]) -> Iterator[None]:
    """With functions of torch's, by owner and name, replaced by what is made of them.

    There is no official way to say these things. A release that has moved one keeps all its own, as
    they rely on each other.
    """
    if not all(hasattr(owner, name) for owner, name, _ in replacements):
        yield
        return
    theirs = [getattr(owner, name) for owner, name, _ in replacements]
    for (owner, name, by), their in zip(replacements, theirs, strict=True):
        setattr(owner, name, by(their))
    try:
        yield
    finally:
        for (owner, name, _), their in zip(replacements, theirs, strict=True):
            setattr(owner, name, their)


def _mask_to_bytes(array: torch.Tensor) -> torch.Tensor:
    return torch.where(array, 1.0, 0.0).to(torch.uint8) if array.dtype == torch.bool else array


def _bytes_to_mask(array: torch.Tensor) -> torch.Tensor:
    return array.to(torch.int32) != 0 if array.dtype == torch.uint8 else array


def _as_mask(array: torch.Tensor) -> torch.Tensor:
    return array.view(torch.bool) if array.dtype == torch.uint8 else array
