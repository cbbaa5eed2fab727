"""Problem P2, eq (12): the linear association problem with λ and Q fixed at their expectations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from dtmarl.backend import Array, count_to, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.types import TwinView
from dtmarl.units import BITS_PER_BYTE

UTILISATION = 0.5
"""Part of the network's free compute that the fixed λ add up to; the rest lets users be placed."""


_NO_RATE = 1e-3  # bytes per second; only keeps a division finite


class ExpectedSlot(NamedTuple):
    """The mean slot of the coming frame as the twin expects it; see `frame_objective`."""

    rate_bytes_per_s: Array  # [E, M, N]
    task_bytes: Array  # [E, N]
    overhead_bytes: Array  # [E, M, N] results, and a slot's part of what a new link moves
    retrain_work: Array  # [E, N] c·w·δ
    work_flop_per_byte: float
    local_flop_per_s: float


@dataclass(frozen=True, slots=True)
class AssociationProblem:
    """What an association solver is given; built from the twin's view alone."""

    cost_s: Array  # [E, M, N] expected delay that user n adds when served by m
    demand_flop_per_s: Array  # [E, N] fixed λ_n
    capacity_flop_per_s: Array  # [E, M]
    distance_m: Array  # [E, M, N]
    gain_db: Array  # [E, M, N]
    present_mask: Array  # [E, N]
    expected_slot: ExpectedSlot | None = None  # for solvers that see congestion


@dataclass(frozen=True, slots=True)
class AssociationResult:
    """An association and how good it provably is."""

    association_mask: Array  # [E, M, N]
    value_s: Array  # [E] objective of P2: mean expected delay of the present users
    bound_s: Array  # [E] no association is better than this; -inf where nothing is proved
    nodes: Array  # [E] branch-and-bound nodes


def association_problem(
    config: ScenarioConfig, view: TwinView, retrain_work: Array
) -> AssociationProblem:
    """P2 from a twin's view.

    Each user's λ is fixed at a share of the network's free compute in proportion to its expected
    work, and its task at the mean; its split then balances local and offloaded time, which gives
    the delay Q·ab/(a + b) for a seconds per offloaded and b per local byte. A new link also moves
    the model and the twin, spread over the slots of the decision.

    Args:
        config: the scenario.
        view: the twin's view.
        retrain_work: [E, N] c_n · w · δ.
    """
    xp = namespace(view.mean_task_bytes)
    task = view.mean_task_bytes
    present = view.present_mask
    # A site that the twin believes down gives its users nothing; it is priced, not forbidden.
    free = xp.maximum(view.free_flop_per_s, 1e-3 * config.compute.site_flop_per_s)
    work = xp.where(present, task * (1.0 + retrain_work), 0.0)
    total_work = xp.maximum(xp.sum(work, axis=-1, keepdims=True), 1.0)
    all_free = xp.sum(view.free_flop_per_s, axis=-1, keepdims=True)
    demand = UTILISATION * all_free * work / total_work

    speed = xp.minimum(xp.maximum(demand[:, None, :], 1.0), free[..., None])
    compute_s = config.compute.work_flop_per_byte * (1.0 + retrain_work[:, None, :]) / speed
    # Where the twin expects outage the task stays local, and moving waits for the weakest link.
    rate = xp.maximum(view.rate_bytes_per_s, _NO_RATE)
    usable = view.rate_bytes_per_s > 0.0
    offload_per_s = xp.where(usable, 1.0 / (1.0 / rate + compute_s), 0.0)
    local_s = config.compute.work_flop_per_byte / config.compute.user_flop_per_s
    delay = task[:, None, :] / (offload_per_s + 1.0 / local_s)

    before = view.association_mask
    is_new = ~before & xp.any(before, axis=1)[:, None, :]
    overhead = (
        config.traffic.result_bytes
        + config.traffic.migration_bytes * xp.astype(is_new, task.dtype) / view.slots_per_decision
    )
    return AssociationProblem(
        cost_s=delay + overhead / xp.where(usable, rate, _weakest_rate(config)),
        demand_flop_per_s=demand,
        capacity_flop_per_s=view.free_flop_per_s,
        distance_m=view.distance_m,
        gain_db=view.gain_db,
        present_mask=present,
        expected_slot=ExpectedSlot(
            rate_bytes_per_s=view.rate_bytes_per_s,
            task_bytes=task,
            overhead_bytes=overhead,
            retrain_work=retrain_work,
            work_flop_per_byte=config.compute.work_flop_per_byte,
            local_flop_per_s=config.compute.user_flop_per_s,
        ),
    )


def _weakest_rate(config: ScenarioConfig) -> float:
    """Rate of a link at the SNR of outage, in bytes per second."""
    snr = 10.0 ** (config.radio.outage_snr_db / 10.0)
    return max(config.radio.bandwidth_hz * math.log2(1.0 + snr) / BITS_PER_BYTE, _NO_RATE)


def single_site_mask(site: Array, present_mask: Array, num_base_stations: int) -> Array:
    """Association with one base station per user, [E, M, N], from its index [E, N]."""
    return (site[:, None, :] == count_to(num_base_stations, site)[:, None]) & present_mask[
        :, None, :
    ]


def mean_cost_s(problem: AssociationProblem, association_mask: Array) -> Array:
    """Objective of P2 without its capacity term, [E] in seconds."""
    xp = namespace(problem.cost_s)
    users = xp.maximum(xp.astype(problem.present_mask, problem.cost_s.dtype).sum(axis=-1), 1.0)
    return xp.sum(xp.where(association_mask, problem.cost_s, 0.0), axis=(1, 2)) / users
