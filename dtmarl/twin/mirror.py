"""The twin's mirror of the network: registration, reports that age, get lost and arrive late.

What is reported does not depend on any decision, so that, like the world itself, the mirror runs
through a frame in one go; whoever asks about a slot is shown that slot only (`at_slot`).
"""

from __future__ import annotations

from dtmarl.backend import Array, constant, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.randomness import Noise
from dtmarl.types import Mirror, Report, WorldFrame
from dtmarl.units import linear_to_db

_MEAN_TASK_RATE = 0.1  # weight of the newest announcement in the running mean
_UNHEARD_GAIN_DB = -100.0


def initial_mirror(config: ScenarioConfig, nobody: Array) -> Mirror:
    """A mirror that has heard of nobody yet; ranges and capacities are known to the operator.

    Args:
        config: the scenario.
        nobody: [E, N] zeros, which say how many environments, and of which backend.
    """
    xp = namespace(nobody)
    center = constant([config.mobility.width_m / 2.0, config.mobility.height_m / 2.0], nobody)
    no_site = xp.stack([nobody[:, 0]] * config.num_base_stations, axis=1)
    mean_task = (config.traffic.task_bytes_min + config.traffic.task_bytes_max) / 2.0
    return Mirror(
        present_mask=nobody > 0.0,
        position_m=nobody[..., None] + center,
        velocity_m_per_s=xp.stack([nobody, nobody], axis=-1),
        gain_db=no_site[..., None] + nobody[:, None, :] + _UNHEARD_GAIN_DB,
        free_flop_per_s=no_site + config.compute.site_flop_per_s,
        task_bytes=nobody + mean_task,
        mean_task_bytes=nobody + mean_task,
        report_slot=xp.astype(nobody, xp.int64) - 1,
    )


def at_slot(mirror: Mirror, s: int) -> Mirror:
    """The mirror at slot `s` of the frame it has run through."""
    return Mirror(*(path[s] for path in mirror))


def advance_frame(
    config: ScenarioConfig,
    mirror: Mirror,
    in_flight: tuple[Report | None, ...],
    frame: WorldFrame,
    first_slot: int,
    noise: Noise,
) -> tuple[Mirror, tuple[Report | None, ...]]:
    """What the twin hears over a frame.

    Every `sync_period_slots` each user reports its position, and the sites the channel gain they
    measured and the compute they have free; a report arrives `sync_delay_slots` later, or never.
    A user that enters registers at once. A request announces its task size each slot; where that is
    lost, the twin takes the mean so far.

    Args:
        config: fidelity of the twin.
        mirror: at the slot before the frame, [E, …] each.
        in_flight: reports under way.
        frame: the frame that begins.
        first_slot: number of its first slot.
        noise: of the frame, [S, E, …] each.

    Returns:
        The mirror over the frame, [S, E, …] each, and the reports under way at its end.
    """
    xp = namespace(mirror.position_m)
    fidelity = config.twin
    measured_position = frame.position_m + fidelity.position_noise_m * noise["report_position"]
    measured_db = linear_to_db(frame.gain) + fidelity.gain_noise_db * noise["report_gain"]
    # Ones and zeros, as compiled loops are slow at writing masks.
    kept = 1.0 + xp.floor(noise["report_loss"] - fidelity.sync_loss)
    announced = frame.task_bytes * xp.maximum(
        1.0 + fidelity.task_noise * noise["announcement"], 0.1
    )
    # A number just below one may have been rounded to it.
    heard = xp.minimum(1.0 + xp.floor(noise["announcement_loss"] - fidelity.task_loss), 1.0)
    weight = _MEAN_TASK_RATE * xp.where(frame.present_mask, heard, 0.0)

    entering = frame.present_mask & ~mirror.present_mask
    mirror = mirror._replace(present_mask=frame.present_mask)
    mean, means, path = mirror.mean_task_bytes, [], []
    for s in range(config.slots_per_frame):
        slot = first_slot + s
        sent = None
        if slot % fidelity.sync_period_slots == 0:
            sent = Report(
                received_mask=frame.present_mask & (kept[s] > 0.0),
                position_m=measured_position[s],
                gain_db=measured_db[s],
                free_flop_per_s=frame.free_flop_per_s[s],
                sent_slot=slot,
            )
        arrived, *still_in_flight = (*in_flight, sent)
        in_flight = tuple(still_in_flight)
        if arrived is not None:
            mirror = _incorporate(config, mirror, arrived)
        if s == 0:
            mirror = _register(mirror, entering, measured_position[0], measured_db[0], slot)
        path.append(mirror)
        means.append(mean)
        mean = mean + weight[s] * (announced[s] - mean)
    over_frame = Mirror(*(xp.stack(steps, axis=0) for steps in zip(*path, strict=True)))
    mean_before = xp.stack(means, axis=0)
    task = xp.where(weight > 0.0, announced, mean_before)
    mean_after = xp.stack([*means[1:], mean], axis=0)
    return over_frame._replace(task_bytes=task, mean_task_bytes=mean_after), in_flight


def _incorporate(config: ScenarioConfig, mirror: Mirror, report: Report) -> Mirror:
    """Take in a report that has arrived."""
    xp = namespace(mirror.position_m)
    # A report sent before the newest registration describes somebody's earlier life.
    received = report.received_mask & mirror.present_mask & (report.sent_slot > mirror.report_slot)
    elapsed_s = (report.sent_slot - mirror.report_slot) * config.mobility.slot_spacing_s
    step = report.position_m - mirror.position_m
    measured = step / xp.where(received, elapsed_s, 1.0)[..., None]
    # Two noisy positions say little about a speed; many of them do.
    gain = config.twin.velocity_gain
    velocity = mirror.velocity_m_per_s + gain * (measured - mirror.velocity_m_per_s)
    memory = config.twin.gain_memory
    smoothed_db = memory * mirror.gain_db + (1.0 - memory) * report.gain_db
    per_user = received[..., None]
    site_heard = xp.any(report.received_mask, axis=-1)[:, None]
    return mirror._replace(
        position_m=xp.where(per_user, report.position_m, mirror.position_m),
        velocity_m_per_s=xp.where(per_user, velocity, mirror.velocity_m_per_s),
        gain_db=xp.where(received[:, None, :], smoothed_db, mirror.gain_db),
        free_flop_per_s=xp.where(site_heard, report.free_flop_per_s, mirror.free_flop_per_s),
        report_slot=xp.where(received, report.sent_slot, mirror.report_slot),
    )


def _register(
    mirror: Mirror, entering_mask: Array, position_m: Array, gain_db: Array, slot: int
) -> Mirror:
    """Enter users with what they say on entering, as the twin knows nothing older."""
    xp = namespace(mirror.position_m)
    return mirror._replace(
        position_m=xp.where(entering_mask[..., None], position_m, mirror.position_m),
        velocity_m_per_s=xp.where(entering_mask[..., None], 0.0, mirror.velocity_m_per_s),
        gain_db=xp.where(entering_mask[:, None, :], gain_db, mirror.gain_db),
        report_slot=xp.where(entering_mask, slot, mirror.report_slot),
    )
