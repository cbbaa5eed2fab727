"""A good point and a valid bound where users may split their task over several base stations.

The slot is solved for given sets of links by `dtmarl.optimum.sweep`; which sets to use is the part
that is not convex. Prices of the stations' compute are sought with every user free to choose the
cheapest of all its sets; the sets chosen on the way are solved and the best kept. Then sets of
single users are exchanged as long as that helps, where the bound says that it could, and there the
allocation found is polished without regard to sets (`dtmarl.optimum.polish`). The prices give the
bound, see `dtmarl.optimum.price_bound`.
"""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.best_split import best_split, offload_delay_s
from dtmarl.optimum.market import adjust, open_market
from dtmarl.optimum.polish import polished, repeated
from dtmarl.optimum.price_bound import cheapest_s
from dtmarl.optimum.problem import divide, namespace, put_rows, total
from dtmarl.optimum.stations import SET_LINKS, Links, compact_links, set_masks, whole_sets
from dtmarl.optimum.sweep import (
    Chosen,
    partial_optimum,
    settle,
    start,
    sweep,
    tight_optimum,
)

PRICE_STEPS = 80
"""Iterations in which users are free to choose their links."""

EXCHANGE_ROUNDS = 3
"""Times that one user's set of links may be exchanged."""

_SNAPSHOTS = (49, 59, 69, 79)
_ALTERNATIVES = 2
_SMALL_GAP = 1e-4
_ELEMENTS_AT_ONCE = 2_000_000


class _Point(NamedTuple):
    """A feasible point and the sets and prices it came from."""

    delay_s: Array  # [E] sum over users
    split: Array  # [E, A, N]
    power: Array  # [E, A, N]
    chosen_mask: Array  # [E, A, N]
    price: Array  # [E, M]


def several_stations(
    usable_mask: Array,
    overhead_s: Array,
    transfer_s: Array,
    floor_s: Array,
    local_s: Array,
    work_flop: Array,
    *,
    retrain_work: Array,
    free_flop_per_s: Array,
) -> tuple[Array, Array, Array]:
    """Split and allocation, and a lower bound on the sum of the users' delays.

    Args:
        usable_mask: [E, M, N] links that can carry part of a task.
        overhead_s: [E, M, N] a.
        transfer_s: [E, M, N] b.
        floor_s: [E, N] no delay is below it; below `local_s` where a link is usable.
        local_s: [E, N] D.
        work_flop: [E, N] W.
        retrain_work: [E, N] κ.
        free_flop_per_s: [E, M] F.

    Returns:
        split [E, M, N], allocation [E, M, N] in FLOP/s, bound [E] in seconds.
    """
    xp = namespace(local_s)
    arrays = (
        usable_mask,
        overhead_s,
        transfer_s,
        floor_s,
        local_s,
        work_flop,
        retrain_work,
        free_flop_per_s,
    )
    num_rows, num_stations, num_users = usable_mask.shape
    # The bound looks at about 50 cells for each link; memory is the limit, not speed.
    step = max(1, _ELEMENTS_AT_ONCE // (50 * num_stations * num_users))
    parts = [
        _solve(*(values[begin : begin + step] for values in arrays))
        for begin in range(0, num_rows, step)
    ]
    split, allocation, bound = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
    return split, allocation, bound


def _solve(
    usable_mask: Array,
    overhead_s: Array,
    transfer_s: Array,
    floor_s: Array,
    local_s: Array,
    work_flop: Array,
    retrain_work: Array,
    free_flop_per_s: Array,
) -> tuple[Array, Array, Array]:
    xp = namespace(local_s)
    rest = (overhead_s, transfer_s, floor_s, local_s, work_flop, retrain_work)
    links = compact_links(usable_mask, *rest)
    # Users that would gain nothing with whole stations to themselves stay out.
    alone = total(best_split(links, links.spread(free_flop_per_s)), 1)
    links = compact_links(usable_mask & (alone > 0.0)[:, None, :], *rest)
    few = links.first(SET_LINKS)
    unaided = xp.maximum(local_s, floor_s)
    helped = xp.any(few.usable_mask, axis=1)

    price, snapshots = _seek_price(few, _first_price(few, free_flop_per_s), free_flop_per_s)
    none = few.usable_mask & ~few.usable_mask
    best = _Point(total(unaided, -1), few.zeros(), few.zeros(), none, price)
    best = _better(best, _best_of(few, snapshots, unaided, free_flop_per_s))

    bound = xp.zeros_like(best.delay_s)
    for candidate in (price, best.price):
        cheapest = cheapest_s(links, links.of_station(candidate), centres_s(few, candidate))
        value = total(xp.where(helped, cheapest, unaided), -1)
        bound = xp.maximum(bound, value - total(candidate * free_flop_per_s, -1))

    finite = best.delay_s < xp.inf
    delay = xp.where(finite, best.delay_s, 0.0)
    wide = delay - xp.where(finite, bound, 0.0) > _SMALL_GAP * delay
    (rows,) = xp.nonzero(wide)
    if rows.shape[0]:
        some = Links(*(xp.take(values, rows, axis=0) for values in few))
        point = _Point(*(xp.take(values, rows, axis=0) for values in best))
        unaided, free = (xp.take(values, rows, axis=0) for values in (unaided, free_flop_per_s))
        for _ in range(EXCHANGE_ROUNDS):
            other = _best_exchange(some, point, unaided, free)
            if not bool(xp.any(other.delay_s < point.delay_s)):
                break
            point = _better(point, other)
        delay, split, power = polished(some, point.power, unaided, free)
        point = _better(point, point._replace(delay_s=delay, split=split, power=power))
        best = _Point(*(put_rows(wide, new, old) for new, old in zip(point, best, strict=True)))
    return few.to_stations(best.split), few.to_stations(best.power), bound


def _first_price(links: Links, free_flop_per_s: Array) -> Array:
    """Prices if each link were its user's only one, its work shared among the user's links."""
    xp = namespace(free_flop_per_s)
    span = links.local_s[:, None, :] + links.transfer_s
    area = (links.local_s[:, None, :] - links.overhead_s) * links.work_flop[:, None, :]
    beta = xp.sqrt(area * (links.local_s[:, None, :] + links.retrain_work[:, None, :] * span))
    number = xp.sum(xp.astype(links.usable_mask, xp.float64), axis=1)[:, None, :]
    share = xp.where(links.usable_mask, 1.0, 0.0) / xp.maximum(number, xp.ones_like(number)) / span
    demand = links.station_total(beta * share)
    supply = free_flop_per_s + links.station_total(links.work_flop[:, None, :] * share)
    return divide(demand, supply, 0.0) ** 2


def _seek_price(links: Links, price: Array, free_flop_per_s: Array) -> tuple[Array, Chosen]:
    """Prices at which the cheapest sets of links about meet the capacities, and some such sets.

    The sets have an axis for candidates, [E, C, ...].
    """
    xp = namespace(price)
    sets = links.with_sets()
    chosen = set_masks(links.usable_mask)
    whole = whole_sets(links.usable_mask)
    finish, weight = start(sets, chosen, links.of_station(price)[:, None, ...])
    snapshots = []
    mean = xp.zeros_like(price)
    market = open_market(price)
    for step in range(PRICE_STEPS):
        per_link = links.of_station(market.price)[:, None, ...]
        plan = sweep(sets, chosen, per_link, finish, weight)
        finish, weight = plan.finish_s, plan.weight_s
        value = xp.where(whole, plan.value_s, xp.inf)
        place = xp.argmin(value, axis=1)
        pays = _pick(value, place) < links.local_s
        now = _pick(chosen, place) & pays[:, None, :]
        power = xp.where(now, _pick(plan.share, place), 0.0) * links.work_flop[:, None, :]
        if step in _SNAPSHOTS:
            snapshots.append(Chosen(now, _pick(finish, place), _pick(weight, place), market.price))
        if step >= PRICE_STEPS // 2:
            mean = mean + market.price / (PRICE_STEPS - PRICE_STEPS // 2)
        market = adjust(market, links, now, power, free_flop_per_s)
    parts = zip(*snapshots, strict=True)
    return mean, Chosen(*(xp.stack(list(part), axis=1) for part in parts))


def centres_s(links: Links, price: Array) -> Array:
    """T about which each set of links is cheapest, [E, S, N]."""
    xp = namespace(price)
    plan = settle(links, price)
    value = xp.where(whole_sets(links.usable_mask), plan.value_s, xp.inf)
    # A set that would use some link backwards is cheapest where that link is hardly used.
    best = _pick(plan.finish_s, xp.argmin(value, axis=1))[:, None, :]
    return xp.where(value < xp.inf, plan.finish_s, best)


def _pick(values: Array, place: Array) -> Array:
    """Entries of the sets at `place` [E, N] from values [E, S, ..., N]."""
    xp = namespace(place)
    where = place[:, None, :] if values.ndim == 3 else place[:, None, None, :]
    shape = (values.shape[0], 1, *values.shape[2:])
    return xp.take_along_axis(values, xp.broadcast_to(where, shape), axis=1)[:, 0, ...]


def _solve_sets(links: Links, chosen: Chosen, unaided_s: Array, free_flop_per_s: Array) -> _Point:
    """The best point with given sets of links, or with further links used in part."""
    solved, plan, power = tight_optimum(links, chosen, free_flop_per_s)
    tight = _point(links, solved, power, unaided_s, free_flop_per_s)
    solved, power = partial_optimum(links, solved, plan, free_flop_per_s)
    # The prices of the tight point: the bound's sets are whole ones, too.
    partial = _point(links, solved, power, unaided_s, free_flop_per_s)
    return _better(tight, partial._replace(chosen_mask=tight.chosen_mask, price=tight.price))


def _point(
    links: Links, chosen: Chosen, power: Array, unaided_s: Array, free_flop_per_s: Array
) -> _Point:
    """The feasible point with these proportions of power, and the best split for them."""
    xp = namespace(power)
    slack = 1.0 - 4.0 * (power.shape[-1] + 1) * float(xp.finfo(power.dtype).eps)
    scale = divide(free_flop_per_s * slack, links.station_total(power), 0.0)
    power = power * links.spread(scale)
    split = best_split(links, power)
    helped = xp.any(links.usable_mask, axis=1)
    delay = xp.where(helped, offload_delay_s(links, split, power), unaided_s)
    return _Point(total(delay, -1), split, power, chosen.mask, chosen.price)


def _better(first: _Point, second: _Point) -> _Point:
    xp = namespace(first.delay_s)
    wins = second.delay_s < first.delay_s
    return _Point(
        *(
            xp.where(xp.reshape(wins, (-1,) + (1,) * (old.ndim - 1)), new, old)
            for new, old in zip(second, first, strict=True)
        )
    )


def _best_exchange(links: Links, point: _Point, unaided_s: Array, free_flop_per_s: Array) -> _Point:
    """The best point in which one user has one of its cheapest other sets of links."""
    xp = namespace(unaided_s)
    plan = settle(links, point.price)
    masks = set_masks(links.usable_mask)
    none = masks[:, :1, ...] & ~masks[:, :1, ...]
    masks = xp.concat([none, masks], axis=1)
    value = xp.where(whole_sets(links.usable_mask), plan.value_s, xp.inf)
    value = xp.concat([links.local_s[:, None, :], value], axis=1)
    now = ~xp.any(masks ^ point.chosen_mask[:, None, ...], axis=2)
    order = xp.argsort(xp.where(now, xp.inf, value), axis=1)

    # Where the iteration starts: each user at its present set, or at the other one.
    here = xp.argmax(xp.astype(now, xp.int64), axis=1)
    finish = xp.concat([links.local_s[:, None, :], plan.finish_s], axis=1)
    weight = xp.concat([links.local_s[:, None, :], plan.weight_s], axis=1)
    user = xp.cumulative_sum(xp.ones_like(here), axis=1) - 1
    itself = user[:, :, None] == user[:, None, :]  # [E, candidate, N]

    here_mask = _pick(masks, here)[:, None, ...]
    here_finish, here_weight = _pick(finish, here)[:, None, :], _pick(weight, here)[:, None, :]
    parts = []
    for rank in range(min(_ALTERNATIVES, value.shape[1] - 1)):
        there = order[:, rank, :]
        parts.append(
            Chosen(
                xp.where(itself[:, :, None, :], _pick(masks, there)[:, None, ...], here_mask),
                xp.where(itself, _pick(finish, there)[:, None, :], here_finish),
                xp.where(itself, _pick(weight, there)[:, None, :], here_weight),
                xp.broadcast_to(point.price[:, None, :], (*here.shape, point.price.shape[1])),
            )
        )
    candidates = Chosen(*(xp.concat(part, axis=1) for part in zip(*parts, strict=True)))
    return _best_of(links, candidates, unaided_s, free_flop_per_s)


def _best_of(links: Links, candidates: Chosen, unaided_s: Array, free_flop_per_s: Array) -> _Point:
    """The best of several choices of sets, which have an axis for candidates, [E, C, ...]."""
    xp = namespace(unaided_s)
    num_rows, number = candidates.mask.shape[:2]
    chosen = Chosen(
        *(xp.reshape(values, (num_rows * number, *values.shape[2:])) for values in candidates)
    )
    many = Links(*(repeated(values, number) for values in links))
    rest = (repeated(unaided_s, number), repeated(free_flop_per_s, number))
    points = _solve_sets(many, chosen, *rest)
    place = xp.argmin(xp.reshape(points.delay_s, (num_rows, number)), axis=1)
    index = place + number * (xp.cumulative_sum(xp.ones_like(place)) - 1)
    return _Point(*(xp.take(values, index, axis=0) for values in points))
