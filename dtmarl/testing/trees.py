"""Nested dicts, lists and tuples of arrays and numbers: walk, copy, compare, overwrite, hash."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

Path = tuple[Any, ...]


class Hasher(Protocol):
    """The part of a `hashlib` object that is needed here."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, in the tree's own order."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for position, value in enumerate(tree):
            yield from leaves(value, (*path, position))
    else:
        yield path, tree


def numeric_leaves(tree: Any) -> dict[Path, Any]:
    """The leaves that are numbers, truth values or numeric arrays, by path."""
    return {path: leaf for path, leaf in leaves(tree) if _is_numeric(leaf)}


def _is_numeric(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind in "biufc"
    return isinstance(leaf, numbers.Number)


def copied(tree: Any) -> Any:
    """A copy that shares no memory with the tree."""
    kind = type(tree)
    if kind is dict:
        return {key: copied(value) for key, value in tree.items()}
    if kind is list:
        return [copied(value) for value in tree]
    if kind is tuple:
        return tuple(copied(value) for value in tree)
    if kind is np.ndarray and tree.dtype.kind != "O":
        return tree.copy()
    if kind in (float, int, bool, str) or isinstance(tree, np.generic):
        return tree
    return copy.deepcopy(tree)


def arrays(tree: Any) -> list[tuple[Path, np.ndarray[Any, Any]]]:
    """The leaves that are arrays with at least one element."""
    return [(path, x) for path, x in leaves(tree) if isinstance(x, np.ndarray) and x.size]


def overwrite(tree: Any) -> None:
    """Fill every writeable array with values nobody meant, then empty the containers."""
    if isinstance(tree, dict):
        for value in tree.values():
            overwrite(value)
        tree.clear()
    elif isinstance(tree, list | tuple):
        for value in tree:
            overwrite(value)
        if isinstance(tree, list):
            tree.clear()
    elif isinstance(tree, np.ndarray) and tree.flags.writeable:
        if tree.dtype.kind == "b":
            np.logical_not(tree, out=tree)
        elif tree.dtype.kind in "fc":
            tree.fill(np.nan)
        elif tree.dtype.kind in "iu":
            tree.fill(99)


def difference(expected: Any, found: Any, path: Path = ()) -> tuple[Path, str, str] | None:
    """The first place where two trees differ: path, what was expected, what was found.

    Values must be equal exactly (NaN equals NaN), arrays in shape and dtype as well. The order of
    keys does not matter. Leaves of an unknown type are compared by type only.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if expected.keys() != found.keys():
            return path, f"keys {list(expected)}", f"keys {list(found)}"
        pairs = [(key, expected[key], found[key]) for key in expected]
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            return path, f"{len(expected)} items", f"{len(found)} items"
        pairs = [(i, *both) for i, both in enumerate(zip(expected, found, strict=True))]
    else:
        text = _leaf_difference(expected, found)
        return None if text is None else (path, *text)
    for key, a, b in pairs:
        deeper = difference(a, b, (*path, key))
        if deeper is not None:
            return deeper
    return None


def _leaf_difference(a: Any, b: Any) -> tuple[str, str] | None:
    if hasattr(a, "__array__") and hasattr(b, "__array__"):
        return _array_difference(np.asarray(a), np.asarray(b))
    plain = (numbers.Number, str, bytes, type(None))
    if isinstance(a, plain) and isinstance(b, plain):
        # A value that differs from itself is a NaN.
        return None if a == b or (a != a and b != b) else (repr(a), repr(b))
    return None if type(a) is type(b) else (f"a {type(a).__name__}", f"a {type(b).__name__}")


def _array_difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[str, str] | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} of shape {a.shape}", f"{b.dtype} of shape {b.shape}"
    if a.dtype.kind != "O" and a.tobytes() == b.tobytes():
        return None
    unequal = np.asarray(a != b)
    if a.dtype.kind in "fc":
        unequal &= ~(np.isnan(a) & np.isnan(b))
    if not unequal.any():
        return None
    if a.ndim == 0:
        return repr(a[()]), repr(b[()])
    index = tuple(int(i) for i in np.argwhere(unequal)[0])
    place = f"[{', '.join(map(str, index))}]"
    return f"element {place} = {a[index]!r}", f"element {place} = {b[index]!r}"


def written(path: Path) -> str:
    """A path as text."""
    return "/".join(map(str, path))


def digest_into(hasher: Hasher, tree: Any) -> None:
    """Feed a tree's numeric leaves and their paths, in the tree's own order, to a hasher."""
    for path, leaf in numeric_leaves(tree).items():
        hasher.update(repr(path).encode())
        if isinstance(leaf, np.ndarray | np.generic):
            hasher.update(f"{leaf.dtype.str}{leaf.shape}".encode())
            hasher.update(np.ascontiguousarray(leaf).tobytes())
        else:
            hasher.update(repr(leaf).encode())
