"""The twin as a whole: how it starts, what a slot and a frame teach it, and what it shows."""

from __future__ import annotations

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import link, mobility
from dtmarl.twin import forecast, generator, mirror, store
from dtmarl.types import Control, Knowledge, Mirror, Scene, Twin, TwinView
from dtmarl.units import db_to_linear


def initial_knowledge(config: ScenarioConfig, nobody: Array, base_accuracy: float) -> Knowledge:
    """What the twin knows before anything was uploaded or measured.

    Args:
        config: the scenario.
        nobody: [E, N] zeros, which say how many environments, and of which backend.
        base_accuracy: test accuracy of the base model, the first guess for every user.
    """
    xp = namespace(nobody)
    counts = xp.stack([nobody] * config.learning.num_classes, axis=-1)
    place = xp.stack([nobody[:, 0]] * config.learning.cells_per_side**2, axis=-1)
    history = xp.stack([place] * forecast.NUM_AGE_BINS, axis=-1)
    return Knowledge(
        class_counts=counts,
        generated_mix=store.class_mix(counts),
        slot_accuracy=nobody + base_accuracy,
        frame_accuracy=nobody + base_accuracy,
        model_age_slots=xp.astype(nobody, xp.int64),
        history_sum=history,
        history_count=history,
    )


def learn_frame(
    config: ScenarioConfig,
    scene: Scene,
    heard: Mirror,
    knowledge: Knowledge,
    slot: int,
    measured_accuracy: Array,
    uploaded: Array,
    retrained_mask: Array,
) -> Knowledge:
    """What the network side learns at a frame's end: uploaded images and measured accuracy.

    Args:
        config: the scenario.
        scene: its library is the set 𝒫 of eq (8).
        heard: the mirror at the frame's last slot.
        knowledge: before the frame.
        slot: the frame's last slot.
        measured_accuracy: [T, E, N] of the slots that the decision was in force, for eq (13).
        uploaded: [E, N, K] uploaded images by class.
        retrained_mask: [E, N] users whose new model is in use from now on.
    """
    xp = namespace(uploaded)
    counts = store.add_images(knowledge.class_counts, uploaded, config.twin.store_images)
    mean = xp.mean(measured_accuracy, axis=0)
    knowledge = forecast.record(config, heard, knowledge, slot, mean)
    knowledge = knowledge._replace(
        class_counts=counts,
        generated_mix=generator.generated_mix(store.class_mix(counts), scene.context_library),
        frame_accuracy=xp.where(heard.present_mask, mean, knowledge.frame_accuracy),
    )
    age = knowledge.model_age_slots + measured_accuracy.shape[0]
    # A user that is not there yet will come with a new model.
    fresh_mask = retrained_mask | ~heard.present_mask
    return knowledge._replace(model_age_slots=xp.where(fresh_mask, xp.zeros_like(age), age))


def rate_estimate_bytes_per_s(config: ScenarioConfig, gain_db: Array) -> Array:
    """Rates the twin expects from its smoothed gains, [..., M, N]; 0 where it expects outage."""
    return link.usable_rate_bytes_per_s(db_to_linear(gain_db), config.radio)


def view(
    config: ScenarioConfig,
    scene: Scene,
    twin: Twin,
    control: Control,
    slot: int,
    slots_per_decision: int,
) -> TwinView:
    """What a frame controller is shown before it decides."""
    heard = mirror.at_slot(twin.mirror, slot % config.slots_per_frame)
    knowledge = twin.knowledge
    position = forecast.believed_position_m(config, heard, slot)
    return TwinView(
        slot=slot,
        slots_per_decision=slots_per_decision,
        present_mask=heard.present_mask,
        association_mask=control.association_mask,
        distance_m=mobility.distance_m(position, scene.site_position_m),
        gain_db=heard.gain_db,
        rate_bytes_per_s=rate_estimate_bytes_per_s(config, heard.gain_db),
        free_flop_per_s=heard.free_flop_per_s,
        mean_task_bytes=heard.mean_task_bytes,
        class_mix=store.class_mix(knowledge.class_counts),
        forecast_accuracy=forecast.frame_accuracy(
            config, heard, knowledge, slot, slots_per_decision
        ),
        frame_accuracy=knowledge.frame_accuracy,
        slot_accuracy=knowledge.slot_accuracy,
        model_age_slots=knowledge.model_age_slots,
        report_age_slots=slot - heard.report_slot,
    )
