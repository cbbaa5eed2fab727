"""The digital twin of one environment in plain Python: its mirror, store, mix and forecast.

It shares no code with dtmarl and reads only numbers from its configuration. Reports travel in a
list with the slot in which they arrive; the forecast's history is a dict by (cell, age bin).
"""

from __future__ import annotations

import math
from typing import Any

MEAN_TASK_RATE = 0.1
SMALLEST_ANNOUNCEMENT = 0.1
AGE_BIN_STARTS_FRAMES = (1, 2, 4)


def initial(config: Any, base_accuracy: float) -> dict[str, Any]:
    """A twin that has heard of nobody; ranges and capacities are known to it."""
    users, sites = range(config.max_users), range(config.num_base_stations)
    traffic, k = config.traffic, config.learning.num_classes
    mean_task = (traffic.task_bytes_min + traffic.task_bytes_max) / 2.0
    return {
        "under_way": [],
        "present_mask": [False for _ in users],
        "position_m": [
            [config.mobility.width_m / 2.0, config.mobility.height_m / 2.0] for _ in users
        ],
        "velocity_m_per_s": [[0.0, 0.0] for _ in users],
        "gain_db": [[-100.0 for _ in users] for _ in sites],
        "free_flop_per_s": [config.compute.site_flop_per_s for _ in sites],
        "task_bytes": [mean_task for _ in users],
        "mean_task_bytes": [mean_task for _ in users],
        "report_slot": [-1 for _ in users],
        "class_counts": [[0.0] * k for _ in users],
        "generated_mix": [[1.0 / k] * k for _ in users],
        "slot_accuracy": [base_accuracy for _ in users],
        "frame_accuracy": [base_accuracy for _ in users],
        "measured": [[] for _ in users],
        "model_age_slots": [0 for _ in users],
        "history": {},
    }


def hear(
    config: Any, twin: dict[str, Any], slot: int, truth: dict[str, Any], noise: dict[str, Any]
) -> None:
    """What arrives at the start of a slot, given what is true in it."""
    fidelity = config.twin
    users, sites = range(config.max_users), range(config.num_base_stations)
    position, gain_db = [], []
    for n in users:
        error = [fidelity.position_noise_m * z for z in noise["report_position"][n]]
        position.append([truth["position_m"][n][i] + error[i] for i in (0, 1)])
    for m in sites:
        error = [fidelity.gain_noise_db * z for z in noise["report_gain"][m]]
        gain_db.append([10.0 * math.log10(truth["gain"][m][n]) + error[n] for n in users])
    if slot % fidelity.sync_period_slots == 0:
        senders = [
            n
            for n in users
            if truth["present_mask"][n] and noise["report_loss"][n] >= fidelity.sync_loss
        ]
        report = (slot, senders, position, gain_db, list(truth["free_flop_per_s"]))
        twin["under_way"].append((slot + fidelity.sync_delay_slots, report))

    # Who enters registers at once; reports that tell nothing newer are of no use then.
    for n in users:
        if truth["present_mask"][n] and not twin["present_mask"][n]:
            twin["position_m"][n] = position[n]
            for m in sites:
                twin["gain_db"][m][n] = gain_db[m][n]
            twin["report_slot"][n] = slot
    twin["present_mask"] = list(truth["present_mask"])

    for arrival, report in twin["under_way"]:
        if arrival == slot:
            take_in(config, twin, report)
    twin["under_way"] = [entry for entry in twin["under_way"] if entry[0] > slot]

    for n in users:
        mean = twin["mean_task_bytes"][n]
        twin["task_bytes"][n] = mean
        if truth["present_mask"][n] and noise["announcement_loss"][n] >= fidelity.task_loss:
            factor = max(
                1.0 + fidelity.task_noise * noise["announcement"][n], SMALLEST_ANNOUNCEMENT
            )
            heard = truth["task_bytes"][n] * factor
            twin["task_bytes"][n] = heard
            twin["mean_task_bytes"][n] = (1.0 - MEAN_TASK_RATE) * mean + MEAN_TASK_RATE * heard


def take_in(config: Any, twin: dict[str, Any], report: Any) -> None:
    """A report arrives; it counts for users that are registered and have sent nothing newer."""
    sent, senders, position, gain_db, free = report
    if senders:
        twin["free_flop_per_s"] = free
    for n in senders:
        since = sent - twin["report_slot"][n]
        if not twin["present_mask"][n] or since <= 0:
            continue
        seconds = since * config.mobility.slot_spacing_s
        gain, old = config.twin.velocity_gain, twin["velocity_m_per_s"][n]
        twin["velocity_m_per_s"][n] = [
            (1.0 - gain) * old[i] + gain * (position[n][i] - twin["position_m"][n][i]) / seconds
            for i in (0, 1)
        ]
        twin["position_m"][n] = position[n]
        keep = config.twin.gain_memory
        for m in range(config.num_base_stations):
            twin["gain_db"][m][n] = keep * twin["gain_db"][m][n] + (1.0 - keep) * gain_db[m][n]
        twin["report_slot"][n] = sent


def measure(config: Any, twin: dict[str, Any], measured: list[float]) -> None:
    """What a slot teaches at once: the accuracy measured of the users that are there."""
    for n in range(config.max_users):
        if twin["present_mask"][n]:
            twin["slot_accuracy"][n] = measured[n]
            twin["measured"][n].append(measured[n])


def store(
    config: Any, twin: dict[str, Any], library: list[list[float]], uploaded: list[list[float]]
) -> None:
    """At a decision's end: uploaded images by class go to the store, and (8) picks a mix."""
    for n in range(config.max_users):
        old, new = twin["class_counts"][n], uploaded[n]
        room = max(config.twin.store_images - math.fsum(new), 0.0)
        kept = min(room / max(math.fsum(old), 1.0), 1.0)
        taken = min(config.twin.store_images / math.fsum(new), 1.0) if any(new) else 1.0
        twin["class_counts"][n] = [kept * o + taken * u for o, u in zip(old, new, strict=True)]
    twin["generated_mix"] = [nearest_mix(q, library) for q in class_mix(twin)]


def class_mix(twin: dict[str, Any]) -> list[list[float]]:
    """Estimated mix q: one image more than the store holds, spread over the classes."""
    mixes = []
    for counts in twin["class_counts"]:
        total = math.fsum(counts) + 1.0
        mixes.append([(c + 1.0 / len(counts)) / total for c in counts])
    return mixes


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p ‖ q)."""
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def nearest_mix(q: list[float], library: list[list[float]]) -> list[float]:
    """Eq (8)."""
    return min(library, key=lambda p: divergence(p, q))


def cell(config: Any, position: list[float]) -> int:
    """Cell of the place map; outside the area, the nearest one."""
    side = config.learning.cells_per_side
    extent = (config.mobility.width_m, config.mobility.height_m)
    column, row = (
        min(max(math.floor(x * side / length), 0), side - 1)
        for x, length in zip(position, extent, strict=True)
    )
    return row * side + column


def age_bin(config: Any, age_slots: int) -> int:
    """How many of the bin starts a model's age has reached."""
    return sum(age_slots >= f * config.slots_per_frame for f in AGE_BIN_STARTS_FRAMES)


def believed_position(config: Any, twin: dict[str, Any], slot: int) -> list[list[float]]:
    """Dead reckoning from the newest report, kept within the area."""
    places = []
    extent = (config.mobility.width_m, config.mobility.height_m)
    for n, reported in enumerate(twin["position_m"]):
        seconds = (slot - twin["report_slot"][n]) * config.mobility.slot_spacing_s
        velocity = twin["velocity_m_per_s"][n]
        places.append(
            [min(max(reported[i] + velocity[i] * seconds, 0.0), extent[i]) for i in (0, 1)]
        )
    return places


def close(
    config: Any, twin: dict[str, Any], slot: int, num_slots: int, retrained: list[bool]
) -> None:
    """After a decision's last slot: eq (13), and its memory by place and model age."""
    places = believed_position(config, twin, slot)
    for n in range(config.max_users):
        values, before = twin["measured"][n], twin["frame_accuracy"][n]
        if values:
            twin["frame_accuracy"][n] = math.fsum(values) / len(values)
        twin["measured"][n] = []
        if twin["present_mask"][n]:
            # The age that the model had in these slots, as the forecast will ask for it.
            key = (cell(config, places[n]), age_bin(config, twin["model_age_slots"][n]))
            change = twin["frame_accuracy"][n] - before
            twin["history"].setdefault(key, []).append(change)
        fresh = retrained[n] or not twin["present_mask"][n]
        twin["model_age_slots"][n] = 0 if fresh else twin["model_age_slots"][n] + num_slots


def forecast(config: Any, twin: dict[str, Any], slot: int, num_slots: int) -> list[float]:
    """Eq (14): the user's own accuracy, and the mean over the coming slots of the known change."""
    prior, result = config.twin.forecast_prior, []
    for n in range(config.max_users):
        own, expected = twin["frame_accuracy"][n], []
        for ahead in range(num_slots):
            place = believed_position(config, twin, slot + ahead)[n]
            age = age_bin(config, twin["model_age_slots"][n] + ahead)
            anywhere = [x for (_, a), xs in twin["history"].items() if a == age for x in xs]
            at_this_age = math.fsum(anywhere) / (len(anywhere) + prior)
            known = twin["history"].get((cell(config, place), age), [])
            expected.append((math.fsum(known) + prior * at_this_age) / (len(known) + prior))
        result.append(min(max(own + math.fsum(expected) / num_slots, 0.0), 1.0))
    return result
