"""Problem P3 of one slot, eqs (16)-(18), and the delay of any of its feasible points, eq (11a)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import array_api_compat.numpy
import numpy as np
from array_api_compat import array_namespace

from dtmarl.backend import Array

_AXES = {
    "association_mask": "EMN",
    "rate_bytes_per_s": "EMN",
    "task_bytes": "EN",
    "overhead_bytes": "EMN",
    "retrain_work": "EN",
    "free_flop_per_s": "EM",
    "work_flop_per_byte": "EN",
    "local_flop_per_s": "EN",
    "user_mask": "EN",
}
_MASKS = ("association_mask", "user_mask")
_SCALARS_ALLOWED = ("work_flop_per_byte", "local_flop_per_s")


@dataclass(frozen=True, kw_only=True)
class SlotProblem:
    """What is known before a slot's split and allocation are chosen.

    Construction looks at shapes and dtypes only, which costs a few microseconds and never reads
    an array, so that hot loops and traced code may construct at will. `validated` also reads the
    values.

    Attributes:
        association_mask: [E, M, N] v, True where the user is associated with the base station.
        rate_bytes_per_s: [E, M, N] R of eq (2). Nothing can be offloaded over a rate of zero, and
            an overhead over it never arrives: that user's delay is infinite.
        task_bytes: [E, N] Q.
        overhead_bytes: [E, M, N] results and migration, sent over every associated link.
        retrain_work: [E, N] c·w·δ, retraining work per unit of inference work; 0: no retraining.
        free_flop_per_s: [E, M] λ_m^BS - λ_m(t).
        work_flop_per_byte: work of one byte, a number or [E, N].
        local_flop_per_s: a user's own speed, positive, a number or [E, N].
        user_mask: [E, N] users that are present.

    Raises:
        ValueError: if a shape or dtype is wrong.
    """

    association_mask: Array
    rate_bytes_per_s: Array
    task_bytes: Array
    overhead_bytes: Array
    retrain_work: Array
    free_flop_per_s: Array
    work_flop_per_byte: Array | float
    local_flop_per_s: Array | float
    user_mask: Array

    def __post_init__(self) -> None:
        if len(getattr(self.association_mask, "shape", ())) != 3:
            shape = getattr(self.association_mask, "shape", None)
            raise ValueError(f"association_mask: expected an array [E, M, N], got shape {shape}")
        sizes = dict(zip("EMN", self.association_mask.shape, strict=True))
        for name, axes in _AXES.items():
            value = getattr(self, name)
            if name in _SCALARS_ALLOWED and isinstance(value, int | float):
                continue
            expected = tuple(sizes[axis] for axis in axes)
            if tuple(getattr(value, "shape", (None,))) != expected:
                raise ValueError(
                    f"{name}: expected shape {expected} for axes [{', '.join(axes)}], "
                    f"got {tuple(getattr(value, 'shape', ()))}"
                )
            dtype = "bool" if name in _MASKS else "float64"
            if str(value.dtype).rpartition(".")[2] != dtype:
                raise ValueError(f"{name}: expected dtype {dtype}, got {value.dtype}")

    def validated(self) -> SlotProblem:
        """The problem itself, after reading every value.

        Raises:
            ValueError: if a value is negative or not finite, or a local speed is zero.
        """
        xp = namespace(self.association_mask)
        for name in _AXES:
            value = getattr(self, name)
            if name in _MASKS:
                continue
            if isinstance(value, int | float):
                value = xp.asarray(value, dtype=xp.float64)
            positive = name == "local_flop_per_s"
            inside = xp.isfinite(value) & ((value > 0.0) if positive else (value >= 0.0))
            if not bool(xp.all(inside)):
                bad = float(xp.reshape(value, (-1,))[int(xp.argmin(_int(xp, inside)))])
                kind = "positive" if positive else "non-negative"
                raise ValueError(f"{name}: expected finite {kind} values, got {bad}")
        return self


@dataclass(frozen=True)
class SlotOptimum:
    """A certified solution of `SlotProblem`.

    Attributes:
        delay_s: [E] system delay of the point, eq (11a), in seconds.
        lower_bound_s: [E] no feasible point has a smaller one.
        split: [E, M, N] offloaded fraction of each task.
        allocation: [E, M, N] computing power, in FLOP/s.
    """

    delay_s: Array
    lower_bound_s: Array
    split: Array
    allocation: Array


class LinkTerms(NamedTuple):
    """The problem as times and work, with absent users and links taken out."""

    usable_mask: Array  # [E, M, N] links that can carry part of a task
    overhead_s: Array  # [E, M, N] a = o / R; inf where an overhead can never arrive; 0 off links
    transfer_s: Array  # [E, M, N] b = Q / R of a whole task; 1 where not usable
    floor_s: Array  # [E, N] largest overhead time of the user's links: L_n is at least that
    local_s: Array  # [E, N] D, the whole task at the user itself
    work_flop: Array  # [E, N] W, of the whole task


def _int(xp: Any, mask: Array) -> Array:
    return xp.astype(mask, xp.int64)


def namespace(array: Array) -> Any:
    """The complete array-API namespace of an array; for NumPy without the cost of asking."""
    return array_api_compat.numpy if isinstance(array, np.ndarray) else array_namespace(array)


def total(values: Array, axis: int) -> Array:
    """Sum over an axis in index order, so that a row's result does not depend on the batch."""
    xp = namespace(values)
    if values.shape[axis] == 0:
        return xp.sum(values, axis=axis)
    last = xp.cumulative_sum(values, axis=axis)
    index = [slice(None)] * values.ndim
    index[axis] = -1  # type: ignore[call-overload]
    return last[tuple(index)]


def divide(top: Array, bottom: Array, otherwise: float) -> Array:
    """Quotient where the divisor is positive, a constant elsewhere."""
    xp = namespace(top)
    positive = bottom > 0.0
    return xp.where(positive, top / xp.where(positive, bottom, 1.0), otherwise)


def put_rows(row_mask: Array, new: Array, old: Array) -> Array:
    """Rows of `old`, with those of the mask taken from `new`, which has only them, in order."""
    xp = namespace(row_mask)
    place = xp.cumulative_sum(xp.astype(row_mask, xp.int64)) - 1
    spread = xp.take(new, xp.maximum(place, xp.zeros_like(place)), axis=0)
    return xp.where(xp.reshape(row_mask, (-1,) + (1,) * (old.ndim - 1)), spread, old)


def link_terms(problem: SlotProblem) -> LinkTerms:
    """Times and work of a problem; see `LinkTerms`."""
    xp = namespace(problem.task_bytes)
    user = problem.user_mask
    task = xp.where(user, problem.task_bytes, 0.0)
    work = task * problem.work_flop_per_byte
    local = work / problem.local_flop_per_s
    link = problem.association_mask & user[:, None, :]
    rate = problem.rate_bytes_per_s
    up = link & (rate > 0.0)
    never = link & (rate <= 0.0) & (problem.overhead_bytes > 0.0)
    overhead = xp.where(up, problem.overhead_bytes, 0.0) / xp.where(up, rate, 1.0)
    overhead = xp.where(never, xp.inf, overhead)
    floor = xp.max(overhead, axis=1) if overhead.shape[1] else xp.zeros_like(local)
    usable = (
        up
        & (problem.free_flop_per_s[:, :, None] > 0.0)
        # Offloading helps only a user whose links are all through before its own work would be.
        & (floor < local)[:, None, :]
    )
    transfer = xp.where(usable, task[:, None, :], 1.0) / xp.where(usable, rate, 1.0)
    return LinkTerms(usable, overhead, transfer, floor, local, work)


def system_delay(problem: SlotProblem, split: Array, allocation: Array) -> Array:
    """System delay of eq (11a), [E] in seconds, 0 where no user is present.

    A user's delay is the larger of local computation, eq (4), and, over its base stations,
    transmission, eq (3), plus computation, eq (5); to which its largest retraining delay,
    eq (10), is added.

    Args:
        problem: the slot.
        split: [E, M, N] offloaded fractions.
        allocation: [E, M, N] computing power, in FLOP/s.
    """
    xp = namespace(problem.task_bytes)
    user = problem.user_mask
    task = xp.where(user, problem.task_bytes, 0.0)
    work = task * problem.work_flop_per_byte
    link = problem.association_mask & user[:, None, :]
    offloaded = xp.where(link, split * task[:, None, :], 0.0)
    sent = xp.where(link, offloaded + problem.overhead_bytes, 0.0)
    used = offloaded > 0.0

    local_share = 1.0 - total(xp.where(link, split, 0.0), 1)
    local = local_share * work / problem.local_flop_per_s
    rate = xp.where(link, problem.rate_bytes_per_s, 1.0)
    transmission = xp.where(sent > 0.0, divide(sent, rate, xp.inf), 0.0)
    compute = divide(xp.where(used, split, 0.0) * work[:, None, :], allocation, xp.inf)
    compute = xp.where(used, compute, 0.0)
    retraining = problem.retrain_work[:, None, :]
    retraining = retraining * xp.where(retraining > 0.0, compute, 0.0)
    if link.shape[1]:
        local = xp.maximum(local, xp.max(transmission + compute, axis=1))
        local = local + xp.max(retraining, axis=1)
    users = xp.astype(total(_int(xp, user), 1), xp.float64)
    return total(xp.where(user, local, 0.0), 1) / xp.maximum(users, xp.ones_like(users))
