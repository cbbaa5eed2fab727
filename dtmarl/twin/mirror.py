"""The twin's mirror of the network: registration, reports that age, get lost and arrive late."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.randomness import Noise
from dtmarl.types import Report, Twin, WorldFrame
from dtmarl.units import linear_to_db

_MEAN_TASK_RATE = 0.1  # weight of the newest announcement in the running mean


def synchronise(
    config: ScenarioConfig, twin: Twin, frame: WorldFrame, slot: int, noise: Noise
) -> Twin:
    """What the twin hears at the start of a slot.

    Every `sync_period_slots` each user reports its position, and the sites the channel gain they
    measured and the compute they have free; a report arrives `sync_delay_slots` later, or never.
    A user that enters registers at once. A request announces its task size each slot.

    Args:
        config: fidelity of the twin.
        twin: the twin before the slot.
        frame: the frame that contains the slot.
        slot: number of the slot, from 0.
        noise: numbers of this slot, [E, …] each.
    """
    s = slot % config.slots_per_frame
    fidelity = config.twin
    heard = _measure(config, frame, s, slot, noise)
    registered_mask = frame.present_mask & ~twin.present_mask
    due = slot % fidelity.sync_period_slots == 0
    sent = heard._replace(
        received_mask=frame.present_mask & (noise["report_loss"] >= fidelity.sync_loss) & due,
    )
    in_flight = (*twin.in_flight, sent)
    twin = _incorporate(config, twin._replace(in_flight=in_flight[1:]), in_flight[0])
    twin = _register(twin, heard, registered_mask)
    twin = twin._replace(present_mask=frame.present_mask)
    return _hear_requests(config, twin, frame.task_bytes[s, ...], noise)


def _measure(config: ScenarioConfig, frame: WorldFrame, s: int, slot: int, noise: Noise) -> Report:
    """A report on slot `s` of a frame, with its measurement noise; received by all present."""
    return Report(
        received_mask=frame.present_mask,
        position_m=frame.position_m[s, ...]
        + config.twin.position_noise_m * noise["report_position"],
        gain_db=linear_to_db(frame.gain[s, ...]) + config.twin.gain_noise_db * noise["report_gain"],
        free_flop_per_s=frame.free_flop_per_s[s, ...],
        sent_slot=slot,
    )


def _register(twin: Twin, report: Report, registered_mask: Array) -> Twin:
    """Enter users with what their first report says, as the twin knows nothing older."""
    xp = namespace(twin.position_m)
    links = registered_mask[:, None, :]
    return twin._replace(
        position_m=xp.where(registered_mask[..., None], report.position_m, twin.position_m),
        gain_db=xp.where(links, report.gain_db, twin.gain_db),
        report_slot=xp.where(registered_mask, report.sent_slot, twin.report_slot),
    )


def _hear_requests(config: ScenarioConfig, twin: Twin, task_bytes: Array, noise: Noise) -> Twin:
    """Task sizes Q_n as announced for a slot; the mean so far where the announcement is lost."""
    xp = namespace(task_bytes)
    heard = task_bytes * xp.maximum(1.0 + config.twin.task_noise * noise["announcement"], 0.1)
    received = twin.present_mask & (noise["announcement_loss"] >= config.twin.task_loss)
    mean = twin.mean_task_bytes
    return twin._replace(
        task_bytes=xp.where(received, heard, mean),
        mean_task_bytes=xp.where(received, mean + _MEAN_TASK_RATE * (heard - mean), mean),
    )


def _incorporate(config: ScenarioConfig, twin: Twin, report: Report) -> Twin:
    """Take in a report that has arrived."""
    xp = namespace(twin.position_m)
    # A report sent before the newest registration describes somebody's earlier life.
    received = report.received_mask & twin.present_mask & (report.sent_slot > twin.report_slot)
    elapsed_s = (report.sent_slot - twin.report_slot) * config.mobility.slot_spacing_s
    velocity = (report.position_m - twin.position_m) / xp.where(received, elapsed_s, 1.0)[..., None]
    memory = config.twin.gain_memory
    smoothed_db = memory * twin.gain_db + (1.0 - memory) * report.gain_db
    per_user = received[..., None]
    site_heard = xp.any(report.received_mask, axis=-1)[:, None]
    return twin._replace(
        position_m=xp.where(per_user, report.position_m, twin.position_m),
        velocity_m_per_s=xp.where(per_user, velocity, twin.velocity_m_per_s),
        gain_db=xp.where(received[:, None, :], smoothed_db, twin.gain_db),
        free_flop_per_s=xp.where(site_heard, report.free_flop_per_s, twin.free_flop_per_s),
        report_slot=xp.where(received, report.sent_slot, twin.report_slot),
    )
