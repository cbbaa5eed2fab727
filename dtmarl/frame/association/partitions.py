"""The best disjoint sets of users, one for each base station, by looking at all of them.

With few users the value of every set at every station is tabulated, and stations are joined one
by one: the best that the first m of them gain from serving exactly the users S is the largest, over
all T ⊆ S, of what the first m - 1 gain from T plus V_m(S without T). All pairs T ⊆ S are seen, 3^N
of them, as a table with an axis of length three for each user: served by the first m - 1, by m, or
by none of them. Tables have the rows [R], environments or nodes of a tree, as their last axis.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.frame.association.frame_objective import Curves, set_value_s
from dtmarl.optimum.problem import namespace

MOST_USERS = 12
"""More users make tables too large."""

_ELEMENTS_AT_ONCE = 400_000


class Partition(NamedTuple):
    """The best disjoint sets."""

    served: Array  # [R, N] station that serves each user, M where none does
    gain_s: Array  # [R] -inf where the users of the base lose already


class Base(NamedTuple):
    """Sums over users that a station serves whatever else is chosen, [R, M] each."""

    alpha: Array
    beta: Array
    supply: Array  # F and Σγ
    entry: Array  # largest β/α


def best_partition(curves: Curves, base: Base) -> Partition:
    """The disjoint sets of greatest gain, on top of those of the base.

    Args:
        curves: [R, M, N], with infinite β/α where a user cannot be served by a station; at most
            `MOST_USERS` users of a row can be served at all.
        base: sums that every set starts from.

    Raises:
        ValueError: there are more users.
    """
    xp = namespace(curves.alpha)
    gains = xp.any(xp.isfinite(curves.entry), axis=1)
    most = int(xp.max(xp.sum(xp.astype(gains, xp.int64), axis=-1)))
    if most > MOST_USERS:
        raise ValueError(f"curves: expected at most {MOST_USERS} users that gain, got {most}")
    num_rows, num_sites, _ = curves.alpha.shape
    most = max(most, 1)
    # Users that can gain come first, in their order.
    order = xp.argsort(xp.astype(~gains, xp.int64), axis=-1, stable=True)
    back = xp.argsort(order, axis=-1, stable=True)
    where = xp.broadcast_to(order[:, None, :most], (num_rows, num_sites, most))
    last_axis = [
        xp.permute_dims(xp.take_along_axis(part, where, axis=2), (1, 2, 0)) for part in curves
    ]
    base = Base(*(xp.permute_dims(part, (1, 0)) for part in base))
    step = max(1, _ELEMENTS_AT_ONCE // 3**most)
    parts = [
        _best_of_some(
            Curves(*(part[..., i : i + step] for part in last_axis)),
            Base(*(part[:, i : i + step] for part in base)),
        )
        for i in range(0, num_rows, step)
    ]
    served = xp.concat([part.served for part in parts], axis=0)
    rest = xp.full_like(order[:, most:], num_sites)
    served = xp.take_along_axis(xp.concat([served, rest], axis=1), back, axis=1)
    return Partition(served, xp.concat([part.gain_s for part in parts], axis=0))


def _best_of_some(curves: Curves, base: Base) -> Partition:
    """The best sets from curves [M, N, R] and sums [M, R]."""
    num_sites, num_users, _ = curves.alpha.shape
    values = [
        set_values(Curves(*(c[m, ...] for c in curves)), Base(*(b[m, :] for b in base)))
        for m in range(num_sites)
    ]
    return best_disjoint(values, num_users)


def best_disjoint(values: list[Array], num_users: int) -> Partition:
    """The disjoint sets of greatest value.

    Args:
        values: of every set at each station, [2^N, R]; user n is in the sets with bit n.
        num_users: N.
    """
    xp = namespace(values[0])
    joined = values[:1]
    for value in values[1:-1]:
        joined.append(_join(joined[-1], value, num_users))
    sets = xp.cumulative_sum(xp.ones_like(values[0][:, 0], dtype=xp.int64)) - 1
    if len(values) == 1:
        chosen = xp.argmax(values[0], axis=0)
        return Partition(_members([chosen], num_users), xp.max(values[0], axis=0))

    # The last station takes its best set among the users that the others leave.
    left_over = sets.shape[0] - 1 - sets
    totals = joined[-1] + xp.take(best_within(values[-1], num_users), left_over, axis=0)
    gain = xp.max(totals, axis=0)
    taken = xp.argmax(totals, axis=0)
    # Back through the stations: which subset of what is taken, or left, was each one's?
    inside = (sets[:, None] & taken[None, :]) == 0
    chosen = [xp.argmax(xp.where(inside, values[-1], -xp.inf), axis=0)]
    for m in range(len(values) - 2, 0, -1):
        inside = (sets[:, None] & ~taken[None, :]) == 0
        others = xp.take_along_axis(values[m], taken[None, :] ^ sets[:, None], axis=0)
        before = xp.argmax(xp.where(inside, joined[m - 1] + others, -xp.inf), axis=0)
        chosen.append(taken ^ before)
        taken = before
    chosen.append(taken)
    return Partition(_members(chosen[::-1], num_users), gain)


def best_within(values: Array, num_users: int) -> Array:
    """The largest value of a set's subsets, for every set, [2^N, R]."""
    xp = namespace(values)
    for n in range(num_users):
        low, high = _halves(values, n)
        values = _whole(low, xp.maximum(low, high))
    return values


def set_values(curves: Curves, base: Base) -> Array:
    """V of every set of users at one station, [2^N, R]; -inf where a user of it would lose.

    Args:
        curves: [N, R].
        base: [R].
    """
    xp = namespace(base.alpha)
    alpha, beta, supply, entry = (part[None, :] for part in base)
    for n in range(curves.alpha.shape[0]):
        alpha = xp.concat([alpha, alpha + curves.alpha[n : n + 1, :]], axis=0)
        beta = xp.concat([beta, beta + curves.beta[n : n + 1, :]], axis=0)
        supply = xp.concat([supply, supply + curves.gamma[n : n + 1, :]], axis=0)
        entry = xp.concat([entry, xp.maximum(entry, curves.entry[n : n + 1, :])], axis=0)
    return set_value_s(alpha, beta, supply, entry)


def _halves(table: Array, user: int) -> tuple[Array, Array]:
    """The sets without and with a user, [above, below, R] each, from [2^N, R]."""
    xp = namespace(table)
    shaped = xp.reshape(table, (-1, 2, 2**user, table.shape[-1]))
    return shaped[:, 0, ...], shaped[:, 1, ...]


def _whole(low: Array, high: Array) -> Array:
    xp = namespace(low)
    return xp.reshape(xp.stack([low, high], axis=1), (-1, low.shape[-1]))


def _join(first: Array, second: Array, num_users: int) -> Array:
    """Largest first(T) + second(S without T) over T ⊆ S, for every set S, [2^N, R]."""
    xp = namespace(first)
    num_rows = first.shape[-1]
    for n in range(num_users):
        # Users below n have an axis of length three already.
        shape = (2 ** (num_users - 1 - n), 2, 3**n, num_rows)
        a, b = xp.reshape(first, shape), xp.reshape(second, shape)
        first = xp.stack([a[:, 0, ...], a[:, 1, ...], a[:, 0, ...]], axis=1)
        second = xp.stack([b[:, 0, ...], b[:, 0, ...], b[:, 1, ...]], axis=1)
    both = xp.reshape(first + second, (-1, num_rows))
    for n in range(num_users - 1, -1, -1):
        # Users above n are back to an axis of length two.
        table = xp.reshape(both, (2 ** (num_users - 1 - n), 3, 3**n, num_rows))
        served = xp.maximum(table[:, 1, ...], table[:, 2, ...])
        both = xp.stack([table[:, 0, ...], served], axis=1)
    return xp.reshape(both, (-1, num_rows))


def _members(chosen: list[Array], num_users: int) -> Array:
    """Station of each user, [E, N], from the set [R] of each station."""
    xp = namespace(chosen[0])
    columns = []
    for n in range(num_users):
        site = xp.full_like(chosen[0], len(chosen))
        for m, sets in enumerate(chosen):
            site = xp.where((sets >> n) % 2 == 1, xp.full_like(site, m), site)
        columns.append(site)
    return xp.stack(columns, axis=1)
