"""The best split over several base stations when the allocation is given, and its delay."""

from __future__ import annotations

from dtmarl.backend import Array
from dtmarl.optimum.problem import divide, namespace, total
from dtmarl.optimum.stations import Links


def offload_delay_s(links: Links, split: Array, power: Array) -> Array:
    """L_n + L_n^DT of every user, [E, N], as `dtmarl.optimum.system_delay` has it."""
    xp = namespace(split)
    used = split > 0.0
    work = split * links.work_flop[:, None, :]
    compute = xp.where(used, divide(work, power, xp.inf), 0.0)
    arrival = xp.where(used, links.overhead_s + split * links.transfer_s + compute, 0.0)
    local = (1.0 - total(split, 1)) * links.local_s
    finish = xp.maximum(xp.maximum(local, links.floor_s), xp.max(arrival, axis=1))
    retrains = links.retrain_work > 0.0
    return finish + xp.where(retrains, links.retrain_work * xp.max(compute, axis=1), 0.0)


def best_split(links: Links, power: Array) -> Array:
    """Split of least delay for a given allocation, [E, A, N].

    With λ given this is a linear program per user in L_n = T and the largest compute time τ:
    minimise T + κτ with x_m = min((T - a_m)·r_m, τ·l_m), r = λ/(bλ + W), l = λ/W, and local part
    at most T. Its optimum is a corner: where the two limits of some link meet, or T at its floor,
    or nothing offloaded.
    """
    xp = namespace(power)
    local, floor, kappa = links.local_s, links.floor_s, links.retrain_work
    work = links.work_flop[:, None, :]
    used = links.usable_mask & (power > 0.0)
    span = xp.where(used, links.transfer_s * power + work, 1.0)
    reach = xp.where(used, power, 0.0) / span
    speed = xp.where(used, power, 0.0) / work
    meeting = xp.where(used, work + 0.0 * span, 0.0) / span  # τ per T - a where the limits meet

    best, best_finish, best_compute = local, local, xp.zeros_like(local)
    for index in range(power.shape[1]):
        steep = meeting[:, index, :]
        overhead = links.overhead_s[:, index, :]
        # What the links take grows with T, concave and piecewise linear: Newton from below ends.
        finish = floor
        for _ in range(power.shape[1] + 2):
            by_time = (finish[:, None, :] - links.overhead_s) * reach
            by_compute = ((finish - overhead) * steep)[:, None, :] * speed
            timed = by_time <= by_compute
            taken = total(xp.where(timed, by_time, by_compute), 1) + finish / local
            slope = total(xp.where(timed, reach, steep[:, None, :] * speed), 1) + 1.0 / local
            finish = xp.maximum(finish, finish + (1.0 - taken) / slope)
        finish = xp.minimum(finish, local)
        compute = (finish - overhead) * steep
        cost = finish + kappa * compute
        better = used[:, index, :] & (cost < best)
        best = xp.where(better, cost, best)
        best_finish = xp.where(better, finish, best_finish)
        best_compute = xp.where(better, compute, best_compute)

    # At T = floor: the smallest τ for which the links take enough, again from the concave side.
    most = xp.where(used, (floor[:, None, :] - links.overhead_s) * reach, 0.0)
    needed = 1.0 - floor / local
    ratio = xp.where(used, divide(most, speed, 0.0), -1.0)
    compute = xp.zeros_like(local)
    for index in range(power.shape[1]):
        limited = used & (ratio >= ratio[:, index : index + 1, :])
        rest = needed - total(xp.where(limited, 0.0, most), 1)
        solution = divide(rest, total(xp.where(limited, speed, 0.0), 1), 0.0)
        compute = xp.maximum(compute, xp.where(used[:, index, :], solution, 0.0))
    cost = floor + kappa * compute
    better = (total(most, 1) >= needed) & (cost < best)
    best_finish = xp.where(better, floor, best_finish)
    best_compute = xp.where(better, compute, best_compute)

    limit = (best_finish[:, None, :] - links.overhead_s) * reach
    split = xp.minimum(limit, best_compute[:, None, :] * speed)
    split = xp.where(used, xp.maximum(split, xp.zeros_like(split)), 0.0)
    enough = xp.maximum(1.0 - best_finish / local, xp.zeros_like(local))
    scale = divide(enough, total(split, 1), 1.0)
    return split * xp.minimum(scale, xp.ones_like(scale))[:, None, :]
