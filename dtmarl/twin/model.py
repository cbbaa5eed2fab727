"""The twin as a whole: how it starts, what a slot and a frame teach it, and what it shows."""

from __future__ import annotations

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import link, mobility
from dtmarl.twin import forecast, generator, store
from dtmarl.types import Control, Report, Scene, SlotOutcome, Twin, TwinView
from dtmarl.units import db_to_linear


def initial_twin(config: ScenarioConfig, num_envs: int, base_accuracy: float) -> Twin:
    """A twin that has heard of nobody yet.

    Args:
        config: the scenario; its ranges and capacities are known to the operator.
        num_envs: E.
        base_accuracy: test accuracy of the base model, the first guess for every user.
    """
    e, m, n = num_envs, config.num_base_stations, config.max_users
    k = config.learning.num_classes
    users = np.zeros((e, n))
    nobody = np.zeros((e, n), dtype=bool)
    center = np.asarray([config.mobility.width_m, config.mobility.height_m]) / 2.0
    history = np.zeros((e, config.learning.cells_per_side**2, forecast.NUM_AGE_BINS))
    mean_task = (config.traffic.task_bytes_min + config.traffic.task_bytes_max) / 2.0
    free = np.full((e, m), config.compute.site_flop_per_s)
    nothing = Report(
        received_mask=nobody,
        position_m=np.zeros((e, n, 2)),
        gain_db=np.zeros((e, m, n)),
        free_flop_per_s=free,
        sent_slot=-1,
    )
    counts = np.zeros((e, n, k))
    return Twin(
        in_flight=(nothing,) * config.twin.sync_delay_slots,
        present_mask=nobody,
        position_m=np.broadcast_to(center, (e, n, 2)).copy(),
        velocity_m_per_s=np.zeros((e, n, 2)),
        gain_db=np.full((e, m, n), -100.0),
        free_flop_per_s=free,
        task_bytes=users + mean_task,
        mean_task_bytes=users + mean_task,
        report_slot=np.zeros((e, n), dtype=np.int64) - 1,
        class_counts=counts,
        generated_mix=store.class_mix(counts),
        slot_accuracy=users + base_accuracy,
        frame_accuracy=users + base_accuracy,
        accuracy_sum=users,
        accuracy_slots=users,
        model_age_slots=np.zeros((e, n), dtype=np.int64),
        history_sum=history,
        history_count=history,
    )


def observe_slot(
    config: ScenarioConfig, scene: Scene, twin: Twin, outcome: SlotOutcome, uploaded: Array
) -> Twin:
    """What the network side learns from a slot: uploaded images and measured accuracy.

    Args:
        config: the scenario.
        scene: its library is the set 𝒫 of eq (8).
        twin: the twin during the slot.
        outcome: of the slot; only what is measured is read.
        uploaded: [E, N, K] uploaded images by class.
    """
    xp = namespace(uploaded)
    counts = store.add_images(twin.class_counts, uploaded, config.twin.store_images)
    present = xp.astype(twin.present_mask, uploaded.dtype)
    measured = xp.where(twin.present_mask, outcome.measured_accuracy, twin.slot_accuracy)
    return twin._replace(
        class_counts=counts,
        generated_mix=generator.generated_mix(store.class_mix(counts), scene.context_library),
        slot_accuracy=measured,
        accuracy_sum=twin.accuracy_sum + present * measured,
        accuracy_slots=twin.accuracy_slots + present,
        model_age_slots=twin.model_age_slots + 1,
    )


def close_frame(config: ScenarioConfig, twin: Twin, retrained_mask: Array) -> Twin:
    """Turn the running sums into the frame's accuracy, eq (13), and note who has a new model."""
    xp = namespace(twin.accuracy_sum)
    mean = twin.accuracy_sum / xp.maximum(twin.accuracy_slots, 1.0)
    zero = xp.zeros_like(mean)
    twin = twin._replace(
        frame_accuracy=xp.where(twin.accuracy_slots > 0.0, mean, twin.frame_accuracy),
        accuracy_sum=zero,
        accuracy_slots=zero,
    )
    twin = forecast.record(config, twin)
    return twin._replace(
        model_age_slots=xp.where(
            retrained_mask, xp.zeros_like(twin.model_age_slots), twin.model_age_slots
        )
    )


def rate_estimate_bytes_per_s(config: ScenarioConfig, twin: Twin) -> Array:
    """Rates the twin expects from its smoothed gains, eqs (1) and (2), [E, M, N]."""
    return link.rate_bytes_per_s(db_to_linear(twin.gain_db), config.radio)


def view(
    config: ScenarioConfig,
    scene: Scene,
    twin: Twin,
    control: Control,
    slot: int,
    slots_per_decision: int,
) -> TwinView:
    """What a frame controller is shown before it decides."""
    position = forecast.believed_position_m(config, twin, 0.0)
    return TwinView(
        slot=slot,
        slots_per_decision=slots_per_decision,
        present_mask=twin.present_mask,
        association_mask=control.association_mask,
        distance_m=mobility.distance_m(position, scene.site_position_m),
        gain_db=twin.gain_db,
        rate_bytes_per_s=rate_estimate_bytes_per_s(config, twin),
        free_flop_per_s=twin.free_flop_per_s,
        mean_task_bytes=twin.mean_task_bytes,
        class_mix=store.class_mix(twin.class_counts),
        forecast_accuracy=forecast.frame_accuracy(config, twin, slots_per_decision),
        frame_accuracy=twin.frame_accuracy,
        slot_accuracy=twin.slot_accuracy,
        model_age_slots=twin.model_age_slots,
        report_age_slots=slot - twin.report_slot,
    )
