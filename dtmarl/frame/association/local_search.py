"""Local search over sets of served users, many environments at once.

It starts from what users choose at the best prices (`prices`), then makes the best of all moves of
one user and all exchanges of two, as long as that gains anything; a user may move to, or exchange
with, "not served". The gain of each is a formula (`frame_objective`), so a round looks at all of
them for all environments together. The prices' bound is the certificate.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.frame.association.frame_objective import (
    Curves,
    FrameObjective,
    frame_objective,
    result_of_sets,
    set_value_s,
)
from dtmarl.frame.association.prices import Options, Priced, price_bound
from dtmarl.frame.association.problem import AssociationProblem, AssociationResult
from dtmarl.optimum.problem import namespace, put_rows, total

_LEAST_GAIN = 1e-9  # of a change, relative to the delay of computing locally
_LEAST_ROUNDINGS = 64.0  # the same in units of rounding: in single precision more has to be gained


class _Links(NamedTuple):
    """Gain curves with one more station that stands for "not served": V is zero there."""

    curves: Curves  # [E, M + 1, N]
    free_flop_per_s: Array  # [E, M + 1]

    def take(self, rows: Array) -> _Links:
        xp = namespace(rows)
        curves = Curves(*(xp.take(part, rows, axis=0) for part in self.curves))
        return _Links(curves, xp.take(self.free_flop_per_s, rows, axis=0))


def local_search(problem: AssociationProblem) -> AssociationResult:
    """A good association of every environment, with its bound.

    Certified: the value is that of the association returned, and no association with one base
    station per user is below the bound. Not certified: that it is the best; the gap says how far
    it may be, and is that of the prices, mostly much larger than the distance to the best.

    An environment's result does not depend, in any bit, on the others in the batch.

    Raises:
        ValueError: the problem was made without its `expected_slot`.
    """
    objective = frame_objective(problem)
    priced = price_bound(all_options(objective))
    served = improved(objective, rounded(objective, priced))
    xp = namespace(served)
    nodes = xp.astype(xp.zeros_like(objective.num_users), xp.int64)
    return result_of_sets(objective, served, priced.bound_s, nodes)


def all_options(objective: FrameObjective) -> Options:
    """Every user may choose every link over which it can gain, or none."""
    xp = namespace(objective.free_flop_per_s)
    return Options(
        objective.curves,
        objective.free_flop_per_s,
        allowed_mask=xp.isfinite(objective.curves.entry),
        idle_mask=objective.present_mask | ~objective.present_mask,
    )


def rounded(objective: FrameObjective, priced: Priced) -> Array:
    """What users choose at the prices, less those that would lose: station [E, N], M for none."""
    xp = namespace(priced.price)
    links = _with_idle(objective)
    num_sites = objective.free_flop_per_s.shape[1]
    gains = xp.max(priced.worth_s, axis=1) > 0.0
    served = xp.argmax(priced.worth_s, axis=1)
    served = xp.where(gains, served, xp.full_like(served, num_sites))
    for _ in range(served.shape[1]):
        # Where somebody would lose, the one with the highest threshold of each station leaves.
        member = _members(links, served)
        alpha, beta, gamma, entry = (xp.where(member, part, 0.0) for part in links.curves)
        most = xp.max(entry, axis=-1)
        supply = links.free_flop_per_s + total(gamma, -1)
        loses = set_value_s(total(alpha, -1), total(beta, -1), supply, most) == -xp.inf
        if not bool(xp.any(loses)):
            break
        leaves = xp.any(loses[:, :, None] & member & (entry == most[:, :, None]), axis=1)
        served = xp.where(leaves, xp.full_like(served, num_sites), served)
    return served


def improved(objective: FrameObjective, served: Array) -> Array:
    """The sets after all changes that gain, station [E, N], M for none.

    Args:
        objective: of the frame.
        served: [E, N] to start from; sets in which nobody loses.
    """
    xp = namespace(served)
    rounding = float(xp.finfo(objective.local_sum_s.dtype).eps)
    least = max(_LEAST_GAIN, _LEAST_ROUNDINGS * rounding) * objective.local_sum_s
    links = _with_idle(objective)
    active = least >= 0.0
    while True:
        (rows,) = xp.nonzero(active)
        if rows.shape[0] == 0:
            return served
        before = xp.take(served, rows, axis=0)
        after, gain = _best_change(links.take(rows), before)
        better = gain > xp.take(least, rows, axis=0)
        after = xp.where(better[:, None], after, before)
        served = put_rows(active, after, served)
        active = put_rows(active, better, active)


def _with_idle(objective: FrameObjective) -> _Links:
    xp = namespace(objective.free_flop_per_s)
    free = objective.free_flop_per_s
    none = xp.zeros_like(objective.curves.alpha[:, :1, :])
    curves = Curves(*(xp.concat([part, none], axis=1) for part in objective.curves))
    return _Links(curves, xp.concat([free, xp.ones_like(free[:, :1])], axis=1))


def _members(links: _Links, served: Array) -> Array:
    xp = namespace(served)
    stations = xp.cumulative_sum(xp.ones_like(links.free_flop_per_s[0, :], dtype=xp.int64)) - 1
    return served[:, None, :] == stations[None, :, None]


def _best_change(links: _Links, served: Array) -> tuple[Array, Array]:
    """The sets after the best move or exchange, [E, N], and what it gains, [E]."""
    xp = namespace(served)
    curves = links.curves
    num_envs, num_choices, num_users = curves.alpha.shape
    member = _members(links, served)
    alpha, beta, gamma = (total(xp.where(member, part, 0.0), -1) for part in curves[:3])
    supply = links.free_flop_per_s + gamma
    value = alpha - beta * beta / supply

    # Each user's own station, without the user.
    own_entry = xp.where(member, curves.entry, 0.0)
    largest = xp.max(own_entry, axis=-1)
    first = xp.argmax(own_entry, axis=-1)
    users = xp.cumulative_sum(xp.ones_like(served), axis=1) - 1
    is_first = users[:, None, :] == first[:, :, None]
    second = xp.max(xp.where(is_first, 0.0, own_entry), axis=-1)

    def at_own(per_station: Array) -> Array:
        return xp.take_along_axis(per_station, served, axis=1)

    def own_link(per_link: Array) -> Array:
        return xp.take_along_axis(per_link, served[:, None, :], axis=1)[:, 0, :]

    rest_alpha = at_own(alpha) - own_link(curves.alpha)
    rest_beta = at_own(beta) - own_link(curves.beta)
    rest_supply = at_own(supply) - own_link(curves.gamma)
    rest_entry = xp.where(own_link(is_first), at_own(second), at_own(largest))
    own_value = at_own(value)
    loss = own_value - (rest_alpha - rest_beta * rest_beta / rest_supply)

    moved = set_value_s(
        alpha[:, :, None] + curves.alpha,
        beta[:, :, None] + curves.beta,
        supply[:, :, None] + curves.gamma,
        xp.maximum(largest[:, :, None], curves.entry),
    )
    moved = xp.where(member, -xp.inf, moved - value[:, :, None] - loss[:, None, :])

    # In user n's place comes user k: [E, N, N].
    place = xp.broadcast_to(served[:, :, None], (num_envs, num_users, num_users))

    def with_other(rest: Array, per_link: Array) -> Array:
        return rest[:, :, None] + xp.take_along_axis(per_link, place, axis=1)

    entry = xp.maximum(rest_entry[:, :, None], xp.take_along_axis(curves.entry, place, axis=1))
    replaced = set_value_s(
        with_other(rest_alpha, curves.alpha),
        with_other(rest_beta, curves.beta),
        with_other(rest_supply, curves.gamma),
        entry,
    )
    replaced = replaced - own_value[:, :, None]
    exchanged = replaced + xp.permute_dims(replaced, (0, 2, 1))
    same = served[:, :, None] == served[:, None, :]
    exchanged = xp.where(same, -xp.inf, exchanged)

    changes = xp.concat(
        [
            xp.reshape(moved, (num_envs, num_choices * num_users)),
            xp.reshape(exchanged, (num_envs, num_users * num_users)),
        ],
        axis=1,
    )
    best = xp.argmax(changes, axis=1)
    gain = xp.take_along_axis(changes, best[:, None], axis=1)[:, 0]
    return _changed(served, best, num_choices), gain


def _changed(served: Array, change: Array, num_choices: int) -> Array:
    """The sets after a change by its index: moves by station and user, then exchanges."""
    xp = namespace(served)
    num_users = served.shape[1]
    users = xp.cumulative_sum(xp.ones_like(served), axis=1) - 1
    num_moves = num_choices * num_users
    is_move = (change < num_moves)[:, None]
    mover = users == (change % num_users)[:, None]
    after_move = xp.where(mover, (change // num_users)[:, None], served)
    pair = xp.maximum(change - num_moves, xp.zeros_like(change))
    one, other = (pair // num_users)[:, None], (pair % num_users)[:, None]
    site_of_one, site_of_other = (xp.take_along_axis(served, who, axis=1) for who in (one, other))
    after_exchange = xp.where(
        users == one, site_of_other, xp.where(users == other, site_of_one, served)
    )
    return xp.where(is_move, after_move, after_exchange)
