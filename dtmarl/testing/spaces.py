"""Values and spaces: exact membership, corners, and actions that are wrong in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces

AnySpace: TypeAlias = "spaces.Space[Any]"
Spoil: TypeAlias = Callable[[AnySpace, Any], Iterator[tuple[str, Any]]]

UNBOUNDED_CORNER = 1e6
"""Stands in for a bound that is infinite."""


def mismatch(space: AnySpace, value: Any) -> tuple[str, str] | None:
    """What a space asks for and what the value is instead, or None if it belongs to the space.

    Unlike `space.contains`, nothing is cast: dtype and shape are exact, and values are finite.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            keys = list(value) if isinstance(value, dict) else type(value).__name__
            return f"a dict with keys {list(space.spaces)}", str(keys)
        return _first((key, mismatch(space.spaces[key], value[key])) for key in value)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space.spaces):
            return f"a tuple of {len(space.spaces)}", f"{value!r:.200}"
        return _first((i, mismatch(part, value[i])) for i, part in enumerate(space.spaces))
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return _array_mismatch(space, value)
    if space.contains(value):
        return None
    return f"a member of {space}", f"{value!r:.200}"


def _first(
    found: Iterator[tuple[Any, tuple[str, str] | None]],
) -> tuple[str, str] | None:
    for key, text in found:
        if text is not None:
            return f"at {key!r}, {text[0]}", text[1]
    return None


def _array_mismatch(
    space: spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary, value: Any
) -> tuple[str, str] | None:
    if not isinstance(value, np.ndarray):
        return "a numpy array", f"a {type(value).__name__}: {value!r:.200}"
    if value.dtype != space.dtype or value.shape != space.shape:
        return (
            f"{space.dtype} of shape {space.shape}",
            f"{value.dtype} of shape {value.shape}",
        )
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        return "finite values", f"element {list(index)} = {value[index]}"
    if space.contains(value):
        return None
    if isinstance(space, spaces.Box):
        outside = (value < space.low) | (value > space.high)
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        bounds = f"[{space.low[index]}, {space.high[index]}]"
        return f"element {list(index)} within {bounds}", f"{value[index]}"
    return f"a member of {space}", f"{value!r:.200}"


def corner(space: AnySpace, choose_high: Callable[[tuple[int, ...]], Any]) -> Any:
    """The corner of a space where `choose_high`, given a shape, says which elements are high."""
    if isinstance(space, spaces.Dict):
        return {key: corner(part, choose_high) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(corner(part, choose_high) for part in space.spaces)
    if isinstance(space, spaces.Box):
        low = np.where(np.isfinite(space.low), space.low, -UNBOUNDED_CORNER)
        high = np.where(np.isfinite(space.high), space.high, UNBOUNDED_CORNER)
        return np.where(choose_high(space.shape), high, low).astype(space.dtype)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        start, top = _ends(space)
        return np.where(choose_high(start.shape), top, start).astype(space.dtype)[()]
    if isinstance(space, spaces.MultiBinary):
        return np.asarray(choose_high(space.shape)).astype(space.dtype)
    return space.sample()


def _ends(space: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return np.asarray(space.start), np.asarray(space.start + count - 1)


def spoiled(space: AnySpace, action: Any, spoil: Spoil) -> Iterator[tuple[str, Any]]:
    """The action with one part made wrong, in each way that `spoil` knows, with a description."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            for text, value in spoiled(part, action[key], spoil):
                yield f"{text} at {key!r}", {**action, key: value}
    elif isinstance(space, spaces.Tuple):
        for i, part in enumerate(space.spaces):
            for text, value in spoiled(part, action[i], spoil):
                yield f"{text} at {i}", (*action[:i], value, *action[i + 1 :])
    else:
        yield from spoil(space, action)


def with_nan(space: AnySpace, action: Any) -> Iterator[tuple[str, Any]]:
    """NaN in the first element, then in the last."""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and action.size:
        for position in sorted({0, action.size - 1}):
            wrong = np.array(action)
            wrong.flat[position] = np.nan
            yield f"NaN in element {position}", wrong


def with_wrong_shape(space: AnySpace, action: Any) -> Iterator[tuple[str, Any]]:
    """One row more, one axis more, and a single row that would broadcast."""
    if not isinstance(
        space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Discrete
    ):
        return
    right = np.asarray(action)
    wrong = [np.stack([right, right])]
    if right.ndim:
        wrong += [np.concatenate([right, right[-1:]]), right[None]]
        if len(right) > 1:
            wrong.append(right[:1])
    for value in wrong:
        yield f"shape {value.shape} instead of {right.shape}", value


def outside_discrete(space: AnySpace, action: Any) -> Iterator[tuple[str, Any]]:
    """A choice one beyond, and one before, the choices of a discrete space."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        start, top = _ends(space)
        for beyond in (top + 1, start - 1):
            wrong = np.array(action)
            wrong.flat[0] = beyond.flat[0]
            yield f"{wrong.flat[0]}, outside {space}", wrong[()]
