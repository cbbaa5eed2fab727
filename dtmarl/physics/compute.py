"""Computation: splits, shares and delays, eqs (4)–(7), (10), (11)."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.config import ComputeConfig

SMALLEST_WEIGHT = 1e-3
"""A served user's weight is at least this, so that no offloaded task waits forever."""

_NO_WEIGHT = 1e-30  # weights that add up to less count as zero

_SHRINK = 1.0 - 2.0**-40
"""Keeps a rounded sum of shares below one, so that eq (6) holds exactly in floating point."""


def free_flop_per_s(own_load_latent: Array, compute: ComputeConfig) -> Array:
    """Computing power a base station has left, λ_m^BS - λ_m(t) of eq (6), [..., M] in FLOP/s.

    The own load is an AR(1) process around half of `own_load_max` with a quarter of it as its
    standard deviation, kept within 0 and `own_load_max`.

    Args:
        own_load_latent: [..., M] standard normal.
        compute: capacity and largest own load.
    """
    xp = namespace(own_load_latent)
    load = compute.own_load_max * (0.5 + 0.25 * own_load_latent)
    load = xp.minimum(xp.maximum(load, 0.0), compute.own_load_max)
    return compute.site_flop_per_s * (1.0 - load)


def offloaded_bytes(task_bytes: Array, split_weight: Array, link_mask: Array) -> Array:
    """Bytes Q_mn that each user sends to each of its base stations, eq (11e) by construction.

    Args:
        task_bytes: [E, N] Q_n.
        split_weight: [E, N, 1 + M] weights in [0, 1] of local and of each base station; all zero
            keeps the task local.
        link_mask: [E, M, N] links that can be used.

    Returns:
        [E, M, N], zero where there is no link.
    """
    xp = namespace(task_bytes)
    remote = xp.where(link_mask, xp.permute_dims(split_weight[..., 1:], (0, 2, 1)), 0.0)
    total = split_weight[..., 0] + remote.sum(axis=1)
    # A total of zero means no remote weight either: any divisor gives the all-local split.
    per_weight = task_bytes / xp.maximum(total, _NO_WEIGHT)
    return remote * per_weight[:, None, :]


def allocation_flop_per_s(
    free_flop_per_s: Array, allocation_weight: Array, link_mask: Array
) -> Array:
    """Computing power λ_mn for each user, eqs (6) and (11f) by construction.

    Args:
        free_flop_per_s: [E, M] λ_m^BS - λ_m(t).
        allocation_weight: [E, M, N] weights in [0, 1]; raised to `SMALLEST_WEIGHT`.
        link_mask: [E, M, N] links that are served.

    Returns:
        [E, M, N] in FLOP/s; sums over N to at most the free power, zero where there is no link.
    """
    xp = namespace(allocation_weight)
    weight = xp.where(link_mask, xp.maximum(allocation_weight, SMALLEST_WEIGHT), 0.0)
    per_weight = free_flop_per_s * _SHRINK / xp.maximum(weight.sum(axis=-1), SMALLEST_WEIGHT)
    return weight * per_weight[..., None]


def local_delay_s(local_bytes: Array, compute: ComputeConfig) -> Array:
    """Local computation delay L_n^L of eq (4), [E, N] in seconds."""
    return local_bytes * (compute.work_flop_per_byte / compute.user_flop_per_s)


def site_delay_s(
    offloaded_bytes: Array, allocation_flop_per_s: Array, work_flop_per_byte: float
) -> Array:
    """Computation delay at the base stations, L_mn^BS of eq (5), [E, M, N] in seconds.

    Zero where nothing is offloaded.
    """
    xp = namespace(offloaded_bytes)
    # Where nothing is allocated nothing is offloaded either, and any divisor gives zero.
    return offloaded_bytes * work_flop_per_byte / xp.maximum(allocation_flop_per_s, 1e-9)


def retraining_delay_s(site_delay_s: Array, retrain_work: Array) -> Array:
    """Retraining delay L_mn^DT of eq (10) with c of eq (15), [E, M, N] in seconds.

    S_mn is a fixed fraction of Q_mn, so the delay is a multiple of that of eq (5).

    Args:
        site_delay_s: [E, M, N] L_mn^BS.
        retrain_work: [E, N] c_n · w · δ, forward passes of training for each uploaded byte.
    """
    return site_delay_s * retrain_work[:, None, :]
