"""Improving an allocation where users split over several base stations.

With the best split for every allocation, a user's delay is a function of the power it has at each
base station. Power flows to where it is worth most: shares grow and shrink by how their worth
compares with their base station's mean, with steps that get smaller. This leaves the sets of links
that a point came from, and so finds links that are worth a small part of a task. The function has
many local minima: it starts from the given allocation and from some on the way to equal shares, and
once more from the best that these have come to.
"""

from __future__ import annotations

from dtmarl.backend import Array
from dtmarl.optimum.best_split import best_split, offload_delay_s
from dtmarl.optimum.problem import divide, namespace, total
from dtmarl.optimum.stations import Links

POLISH_STEPS = 80
"""Allocations that are tried from each start."""

_TOWARDS_EQUAL = (0.0, 0.25, 0.5, 0.75, 1.0)  # where on the way to equal shares it starts
_OPENED = 0.02  # part of each base station that links without power are given to begin with
_OPENED_LAST = 0.003  # the same for the last start, which is good already


def polished(
    links: Links, power: Array, unaided_s: Array, free_flop_per_s: Array
) -> tuple[Array, Array, Array]:
    """The best allocation found on the way, never a worse one.

    Args:
        links: the users' links.
        power: [E, A, N] allocation to start from, feasible.
        unaided_s: [E, N] delay of users without any usable link.
        free_flop_per_s: [E, M] F.

    Returns:
        Sum of delays [E], split [E, A, N] and power [E, A, N].
    """
    xp = namespace(power)
    served = links.usable_mask & xp.any(power > 0.0, axis=1)[:, None, :]
    equal = xp.where(served, xp.ones_like(power), xp.zeros_like(power))
    equal = _within_capacity(links, equal, free_flop_per_s)
    starts = [(1.0 - t) * power + t * equal for t in _TOWARDS_EQUAL]
    number = len(starts)
    found = _walk(
        Links(*(repeated(values, number) for values in links)),
        xp.reshape(xp.stack(starts, axis=1), (-1, *power.shape[1:])),
        repeated(unaided_s, number),
        repeated(free_flop_per_s, number),
        _OPENED,
    )
    place = xp.argmin(xp.reshape(found[0], (-1, number)), axis=1)
    index = place + number * (xp.cumulative_sum(xp.ones_like(place)) - 1)
    power = xp.take(found[2], index, axis=0)
    return _walk(links, power, unaided_s, free_flop_per_s, _OPENED_LAST)


def _walk(
    links: Links, power: Array, unaided_s: Array, free_flop_per_s: Array, opened_part: float
) -> tuple[Array, Array, Array]:
    """The best allocation met on the way from a start, which is one of them."""
    xp = namespace(power)
    helped = xp.any(links.usable_mask, axis=1)

    def solve(power: Array) -> tuple[Array, Array]:
        split = best_split(links, power)
        delay = xp.where(helped, offload_delay_s(links, split, power), unaided_s)
        return total(delay, -1), split

    best_delay, best = solve(power)
    best_power = power
    # Who keeps everything local has no use for the other links that are opened either.
    served = links.usable_mask & xp.any(best > 0.0, axis=1)[:, None, :]
    opened = xp.where(served, links.spread(free_flop_per_s), 0.0)
    opened = _within_capacity(links, opened, free_flop_per_s)
    power = (1.0 - opened_part) * power + opened_part * opened
    power = _within_capacity(links, power, free_flop_per_s)
    for step in range(POLISH_STEPS):
        delay, split = solve(power)
        better = delay < best_delay
        best_delay = xp.where(better, delay, best_delay)
        best = xp.where(better[:, None, None], split, best)
        best_power = xp.where(better[:, None, None], power, best_power)
        worth = _worth(links, power, split)
        mean = links.spread(divide(links.station_total(worth * power), free_flop_per_s, 0.0))
        change = (divide(worth, mean, 1.0) - 1.0) / (1.0 + step) ** 0.5
        change = xp.minimum(xp.maximum(change, -xp.ones_like(change)), xp.ones_like(change))
        power = _within_capacity(links, power * xp.exp(change), free_flop_per_s)
    return best_delay, best, best_power


def repeated(values: Array, times: int) -> Array:
    """Every row that many times in a row."""
    xp = namespace(values)
    shape = (values.shape[0], times, *values.shape[1:])
    return xp.reshape(xp.broadcast_to(values[:, None, ...], shape), (shape[0] * times, *shape[2:]))


def _within_capacity(links: Links, power: Array, free_flop_per_s: Array) -> Array:
    """The same proportions with all of the base stations' power, in floating point too."""
    xp = namespace(power)
    slack = 1.0 - 4.0 * (power.shape[-1] + 1) * float(xp.finfo(power.dtype).eps)
    scale = divide(free_flop_per_s * slack, links.station_total(power), 0.0)
    return power * links.spread(scale)


def _worth(links: Links, power: Array, split: Array) -> Array:
    """Delay that a little more power saves with the best split, [E, A, N] in seconds per FLOP/s.

    The best split solves the linear program of `best_split`: x_m is at most (T - a_m)·r_m and τ·l_m
    with r = λ/(bλ + W), l = λ/W. Its optimum lies where both limits of the link that computes
    longest meet; the multipliers ν of Σ x_m >= 1 - T/D and θ of that link's two limits follow from
    1 = ν(1/D + Σ r_timed + θ·r) and κ = ν(Σ l_others + (1 - θ)·l).
    """
    xp = namespace(power)
    work = links.work_flop[:, None, :]
    local = (1.0 - total(split, 1)) * links.local_s
    finish = xp.maximum(local, links.floor_s)
    left = finish[:, None, :] - links.overhead_s
    left = xp.maximum(left, xp.zeros_like(left))
    compute = xp.where(split > 0.0, divide(split * work, power, 0.0), 0.0)
    longest = xp.max(compute, axis=1)[:, None, :]

    span = links.transfer_s * power + work
    usable = links.usable_mask
    reach, speed = xp.where(usable, power, 0.0) / span, xp.where(usable, power, 0.0) / work
    reach_worth, speed_worth = left * work / (span * span), longest / work
    index = xp.cumulative_sum(xp.ones_like(compute), axis=1) - 1.0
    meets = index == xp.astype(xp.argmax(compute, axis=1), index.dtype)[:, None, :]
    timed = left * reach <= longest * speed * (1.0 + 1e-9)

    def of(mask: Array, values: Array) -> Array:
        return total(xp.where(mask, values, 0.0), 1)

    own_reach = of(meets, reach)
    ratio = divide(own_reach, of(meets, speed), 0.0)
    by_time = 1.0 / links.local_s + of(timed & ~meets, reach)
    by_compute = of(~timed & ~meets, speed)
    weight = (1.0 + links.retrain_work * ratio) / (by_time + ratio * by_compute + own_reach)
    # At its floor T gains nothing: what power still saves is retraining.
    at_floor = local <= links.floor_s * (1.0 + 1e-12)
    at_most = divide(links.retrain_work + 0.0 * weight, by_compute + of(meets, speed), 0.0)
    weight = xp.where(at_floor, at_most, weight)
    part = divide(divide(1.0 + 0.0 * weight, weight, 0.0) - by_time, own_reach, 0.0)
    part = xp.where(at_floor, xp.zeros_like(part), part)
    part = xp.minimum(xp.maximum(part, xp.zeros_like(part)), xp.ones_like(part))[:, None, :]
    worth = xp.where(timed, reach_worth, speed_worth)
    worth = xp.where(meets, part * reach_worth + (1.0 - part) * speed_worth, worth)
    served = usable & (longest > 0.0)
    return xp.where(served, weight[:, None, :] * worth, 0.0)
