"""Branch and bound over users' choices of a base station, for one environment.

A node says which stations each user may still choose, and whether it may go unserved. Its bound is
the Lagrangian one (`prices`), which also rules out choices: those whose worth is so far below the
user's best that the bound would fall to the incumbent's gain. Once few users have a choice left,
all of theirs are looked at together (`partitions`). Nodes with the highest bounds come first, some
dozens at a time.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from dtmarl.backend import Array
from dtmarl.frame.association.frame_objective import Curves, FrameObjective, gain_of_sets_s
from dtmarl.frame.association.local_search import all_options, improved
from dtmarl.frame.association.partitions import Base, best_partition
from dtmarl.frame.association.prices import Options, Priced, price_bound

TOLERANCE = 1e-7
"""Gap that counts as closed, relative to the delay."""

_NODES_AT_ONCE = 32
_FEW_USERS = 8  # whose choices are all looked at
_STEPS = 20
_FIRST_WIDTH = 0.02


class Found(NamedTuple):
    """The best sets found, and what no choice gains more than."""

    served: Array  # [1, N] station that serves each user, M where none does
    bound_s: float
    nodes: int


class _Nodes(NamedTuple):
    allowed_mask: Array  # [R, M, N]
    idle_mask: Array  # [R, N]
    price: Array  # [R, M]
    bound_s: Array  # [R]

    def take(self, rows: Array) -> _Nodes:
        return _Nodes(*(part[rows] for part in self))


class _Seen(NamedTuple):
    """What looking at some nodes has brought."""

    served: Array  # [R, N] the best of the sets met on the way
    gain_s: Array  # [R]
    open_nodes: _Nodes
    worth_s: Array  # [R', M + 1, N] of their choices, the last one: not to be served


def branch_and_bound(
    objective: FrameObjective,
    served: Array,
    root: Priced,
    *,
    node_limit: int,
    time_limit_s: float | None = None,
) -> Found:
    """The best sets of one environment, or the best until a limit is reached.

    Args:
        objective: of one environment, E = 1.
        served: [1, N] sets to start from, in which nobody loses.
        root: the bound without any choice made.
        node_limit: nodes to look at.
        time_limit_s: seconds to take; the result then depends on the machine.
    """
    begin = time.monotonic()
    options = all_options(objective)
    nodes = _Nodes(options.allowed_mask, options.idle_mask, root.price, root.bound_s)
    gain = float(gain_of_sets_s(objective, served)[0])
    local_s = float(objective.local_sum_s[0])
    count, target = 0, gain + TOLERANCE * (local_s - gain)
    while True:
        nodes = nodes.take(np.flatnonzero(nodes.bound_s > target))
        late = time_limit_s is not None and time.monotonic() - begin >= time_limit_s
        if nodes.bound_s.size == 0 or count >= node_limit or late:
            break
        order = np.argsort(-nodes.bound_s, kind="stable")
        number = min(_NODES_AT_ONCE, node_limit - count)
        seen = _look_at(objective, nodes.take(order[:number]), target)
        count += min(number, order.size)
        place = int(seen.gain_s.argmax())
        if seen.gain_s[place] > gain:
            served = improved(objective, seen.served[place : place + 1])
            gain = float(gain_of_sets_s(objective, served)[0])
            target = gain + TOLERANCE * (local_s - gain)
        rest, children = nodes.take(order[number:]), _children(seen.open_nodes, seen.worth_s)
        nodes = _Nodes(*(np.concatenate(pair) for pair in zip(rest, children, strict=True)))
    # Whatever was ruled out gains at most the target, which has only grown.
    bound = max(target, nodes.bound_s.max(initial=-np.inf))
    return Found(served, min(float(bound), float(root.bound_s[0])), count)


def _look_at(objective: FrameObjective, nodes: _Nodes, target: float) -> _Seen:
    """Bounds of some nodes, their choices that are left, and sets met on the way."""
    options = Options(
        objective.curves, objective.free_flop_per_s, nodes.allowed_mask, nodes.idle_mask
    )
    priced = price_bound(options, nodes.price, steps=_STEPS, first_width=_FIRST_WIDTH)
    idle = np.where(nodes.idle_mask, 0.0, -np.inf)[:, None, :]
    worth = np.concatenate([priced.worth_s, idle], axis=1)
    served = worth.argmax(axis=1)
    gain = gain_of_sets_s(objective, served)

    with_choice = (priced.bound_s[:, None] - priced.chosen_s)[:, None, :] + worth
    possible = np.isfinite(worth) & (with_choice > target)
    choices = possible.sum(axis=1)
    bound = np.minimum(nodes.bound_s, priced.bound_s)
    open_mask = (bound > target) & (choices > 0).all(axis=1)
    few_mask = open_mask & ((choices > 1).sum(axis=1) <= _FEW_USERS)
    if few_mask.any():
        served[few_mask], gain[few_mask] = _best_choices(objective, possible[few_mask])
        open_mask &= ~few_mask
    left = _Nodes(possible[:, :-1, :], possible[:, -1, :], priced.price, bound)
    return _Seen(served, gain, left.take(open_mask), np.where(possible, worth, -np.inf)[open_mask])


def _best_choices(objective: FrameObjective, possible: Array) -> tuple[Array, Array]:
    """The best sets within the choices left, [R, N] and [R]; few users have more than one.

    Args:
        objective: of one environment.
        possible: [R, M + 1, N] choices of each user, one at least.
    """
    num_sites = possible.shape[1] - 1
    settled = possible.sum(axis=1) == 1
    fixed = possible[:, :-1, :] & settled[:, None, :]
    alpha, beta, gamma, entry = objective.curves
    base = Base(
        np.where(fixed, alpha, 0.0).sum(axis=-1),
        np.where(fixed, beta, 0.0).sum(axis=-1),
        objective.free_flop_per_s + np.where(fixed, gamma, 0.0).sum(axis=-1),
        np.where(fixed, entry, 0.0).max(axis=-1),
    )
    free = possible[:, :-1, :] & ~settled[:, None, :]
    shape = free.shape
    curves = Curves(
        np.broadcast_to(alpha, shape),
        np.broadcast_to(beta, shape),
        np.broadcast_to(gamma, shape),
        np.where(free, entry, np.inf),
    )
    best = best_partition(curves, base)
    at_fixed = np.where(fixed.any(axis=1), fixed.argmax(axis=1), num_sites)
    return np.where(settled, at_fixed, best.served), best.gain_s


def _children(nodes: _Nodes, worth_s: Array) -> _Nodes:
    """Two for each node: the user closest to a choice takes its best one, or never does."""
    rows = np.arange(worth_s.shape[0])
    best = worth_s.argmax(axis=1)
    ranked = np.sort(worth_s, axis=1)
    lead = ranked[:, -1, :] - ranked[:, -2, :]
    user = lead.argmin(axis=-1)
    choice = best[rows, user]
    possible = np.concatenate([nodes.allowed_mask, nodes.idle_mask[:, None, :]], axis=1)
    taken, never = possible.copy(), possible.copy()
    taken[rows, :, user] = False
    taken[rows, choice, user] = True
    never[rows, choice, user] = False
    both = np.concatenate([taken, never])
    return _Nodes(
        both[:, :-1, :],
        both[:, -1, :],
        np.concatenate([nodes.price, nodes.price]),
        np.concatenate([nodes.bound_s, nodes.bound_s]),
    )
