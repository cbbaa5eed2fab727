"""One slot of one environment in plain Python, written from the paper's equations.

It shares no code with dtmarl and reads only numbers from its configuration. Lists are indexed
[m][n] for links, [n] for users and [n][k] for classes.
"""

from __future__ import annotations

import math
from typing import Any

SMALLEST_ALLOCATION_WEIGHT = 1e-3


def snr(gain: float, radio: Any) -> float:
    """Eq (1): r = ω h / σ², powers given in dBm."""
    transmit_w = 1e-3 * 10.0 ** (radio.transmit_power_dbm / 10.0)
    noise_w = 1e-3 * 10.0 ** (radio.noise_power_dbm / 10.0)
    return transmit_w * gain / noise_w


def in_outage(gain: float, radio: Any) -> bool:
    """A link whose SNR is below the limit carries nothing."""
    return 10.0 * math.log10(snr(gain, radio)) < radio.outage_snr_db


def rate_bytes_per_s(gain: float, radio: Any) -> float:
    """Eq (2) with v = 1: R = B log2(1 + r) in bit/s, here in bytes per second."""
    return radio.bandwidth_hz * math.log1p(snr(gain, radio)) / math.log(2.0) / 8.0


def split(task: float, weights: list[float], link: list[bool]) -> tuple[float, list[float]]:
    """Eq (11e): local bytes and bytes for each base station, in proportion to the weights."""
    usable = [w if up else 0.0 for w, up in zip(weights[1:], link, strict=True)]
    total = weights[0] + math.fsum(usable)
    if total == 0.0:
        return task, [0.0 for _ in usable]
    return task * weights[0] / total, [task * w / total for w in usable]


def allocate(free: float, weights: list[float], served: list[bool]) -> list[float]:
    """Eqs (6), (11f): the free compute in proportion to the served users' weights."""
    raised = [
        max(w, SMALLEST_ALLOCATION_WEIGHT) if s else 0.0
        for w, s in zip(weights, served, strict=True)
    ]
    total = math.fsum(raised)
    return [free * w / total if w > 0.0 else 0.0 for w in raised]


def retrain_work(plan: str, config: Any) -> float:
    """Forward passes of training for each uploaded byte: eq (10) with S = δ Q."""
    learning = config.learning
    if plan == "incremental":
        return learning.pass_work * learning.training_fraction
    if plan == "physical-only":
        return learning.pass_work * learning.training_fraction * (1.0 - learning.twin_share)
    if plan == "full":
        return learning.pass_work * learning.full_passes
    raise AssertionError(plan)


def collected_fractions(plan: str, config: Any) -> tuple[float, float]:
    """Real and generated training images for each uploaded image."""
    learning = config.learning
    delta, share = learning.training_fraction, learning.twin_share
    return {
        "incremental": (delta * (1.0 - share), delta * share),
        "physical-only": (delta * (1.0 - share), 0.0),
        "full": (1.0, 0.0),
    }[plan]


def slot(config: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Delays and accuracy of a slot.

    Args:
        config: a scenario.
        given: ``present`` [n], ``task`` [n], ``free`` [m], ``gain``, ``association`` and
            ``new_link`` [m][n], ``retrain`` [n], ``plan``, ``recall`` and ``mix`` [n][k],
            ``allocation_weight`` [m][n], ``split_weight`` [n][1 + m], ``accuracy_noise`` [n].
    """
    num_sites, num_users = len(given["free"]), len(given["task"])
    sites, users = range(num_sites), range(num_users)
    f_per_byte = config.compute.work_flop_per_byte
    work = retrain_work(given["plan"], config)
    link = [
        [
            given["association"][m][n]
            and given["free"][m] > 0.0
            and not in_outage(given["gain"][m][n], config.radio)
            for n in users
        ]
        for m in sites
    ]

    local, offloaded = [0.0] * num_users, [[0.0] * num_users for _ in sites]
    for n in users:
        task = given["task"][n] if given["present"][n] else 0.0
        local[n], parts = split(task, given["split_weight"][n], [link[m][n] for m in sites])
        for m in sites:
            offloaded[m][n] = parts[m]
    allocation = [allocate(given["free"][m], given["allocation_weight"][m], link[m]) for m in sites]
    rate = [
        [rate_bytes_per_s(given["gain"][m][n], config.radio) if link[m][n] else 0.0 for n in users]
        for m in sites
    ]

    delay, retraining, accuracy, measured, breakout = [], [], [], [], []
    for n in users:
        longest = local[n] * f_per_byte / config.compute.user_flop_per_s  # (4)
        longest_retraining = 0.0
        for m in sites:
            if not link[m][n]:
                continue
            extra = config.traffic.result_bytes
            if given["new_link"][m][n]:
                extra += config.traffic.migration_bytes
            transmission = (offloaded[m][n] + extra) / rate[m][n]  # (3)
            computation = 0.0
            if offloaded[m][n] > 0.0:
                computation = offloaded[m][n] * f_per_byte / allocation[m][n]  # (5)
            longest = max(longest, transmission + computation)  # (7)
            if given["retrain"][n]:
                longest_retraining = max(longest_retraining, computation * work)  # (10)
        delay.append(longest)
        retraining.append(longest_retraining)

        expected = math.fsum(
            q * r for q, r in zip(given["mix"][n], given["recall"][n], strict=True)
        )
        images = max(given["task"][n] / config.traffic.image_bytes, 1.0)
        std = math.sqrt(expected * (1.0 - expected) / images)
        accuracy.append(expected)
        measured.append(min(max(expected + std * given["accuracy_noise"][n], 0.0), 1.0))
        breakout.append(given["present"][n] and expected < config.learning.accuracy_threshold)

    count = sum(given["present"])
    total = math.fsum(d + r for d, r in zip(delay, retraining, strict=True))
    return {
        "system_delay_s": total / count if count else 0.0,  # (11a)
        "delay_s": delay,
        "retrain_delay_s": retraining,
        "local_bytes": local,
        "offloaded_bytes": offloaded,
        "allocation_flop_per_s": allocation,
        "rate_bytes_per_s": rate,
        "link_mask": link,
        "accuracy": accuracy,
        "measured_accuracy": measured,
        "breakout_mask": breakout,
        "retrain_mask": list(given["retrain"]),
        "present_mask": list(given["present"]),
    }


def uploaded_counts(
    config: Any, offloaded: list[list[float]], mix: list[list[float]], noise: list[list[float]]
) -> list[list[float]]:
    """Uploaded images of each user by class: mean n·q, variance n·q·(1 - q), not negative."""
    counts = []
    for n, shares in enumerate(mix):
        images = math.fsum(row[n] for row in offloaded) / config.traffic.image_bytes
        counts.append(
            [
                max(images * q + math.sqrt(images * q * (1.0 - q)) * z, 0.0)
                for q, z in zip(shares, noise[n], strict=True)
            ]
        )
    return counts


def collected(
    config: Any,
    given: dict[str, Any],
    offloaded: list[list[float]],
    uploaded: list[list[float]],
    generated_mix: list[list[float]],
) -> tuple[list[list[float]], list[list[float]]]:
    """Real and generated training images that a slot adds, eq (9) by class."""
    real_fraction, twin_fraction = collected_fractions(given["plan"], config)
    real, twin = [], []
    for n, counts in enumerate(uploaded):
        on = 1.0 if given["retrain"][n] else 0.0
        images = math.fsum(row[n] for row in offloaded) / config.traffic.image_bytes
        real.append([on * real_fraction * c for c in counts])
        twin.append([on * twin_fraction * images * p for p in generated_mix[n]])
    return real, twin


def capped(
    config: Any, real: list[list[float]], twin: list[list[float]]
) -> tuple[list[list[float]], list[list[float]]]:
    """What a retraining trains on: at most `max_samples` images of each user, thinned evenly."""
    capped_real, capped_twin = [], []
    for r, t in zip(real, twin, strict=True):
        total = math.fsum(r) + math.fsum(t)
        limit = config.learning.max_samples
        factor = limit / total if total > limit else 1.0
        capped_real.append([factor * x for x in r])
        capped_twin.append([factor * x for x in t])
    return capped_real, capped_twin
