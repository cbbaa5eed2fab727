"""The environment as functions from state to state: reads like the paper, equation by equation.

A frame is `enter_frame` (the world moves on, the twin hears of it), `begin_frame` (the frame
layer's decision comes into force) and S times `step_slot` (the agents' action meets the physics).
All randomness comes in as arrays.
"""

from __future__ import annotations

import numpy as np

from dtmarl import world
from dtmarl.accuracy import AccuracyEngine
from dtmarl.backend import Array, namespace, to_numpy
from dtmarl.config import ScenarioConfig
from dtmarl.physics import compute, learning, link
from dtmarl.randomness import Noise
from dtmarl.twin import generator, mirror, model
from dtmarl.types import (
    Action,
    Control,
    FrameDecision,
    Scene,
    SlotOutcome,
    SlotRecord,
    State,
    Twin,
    Uploads,
)


def initial_state(
    config: ScenarioConfig, engine: AccuracyEngine, noise: Noise, frame_noise: Noise
) -> State:
    """The state at slot 0, before the first frame decision.

    Args:
        config: the scenario.
        engine: gives the users' models.
        noise: from `EnvironmentStreams.draw_reset`.
        frame_noise: of the first frame.
    """
    return first_state(config, engine, world.initial_scene(config, noise), noise, frame_noise)


def first_state(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    scene: Scene,
    noise: Noise,
    frame_noise: Noise,
) -> State:
    """The state at slot 0 in a given scene; arguments as for `initial_state`."""
    recall = engine.initial_recall(noise["recall"])
    xp = namespace(recall)
    no_link = xp.zeros_like(noise["shadowing"], dtype=xp.bool)
    nobody = xp.zeros_like(noise["vehicle"])
    moved, frame = world.advance_frame(
        config, scene, world.initial_world(config, scene, noise), 0, frame_noise
    )
    heard, in_flight = mirror.advance_frame(
        config,
        mirror.initial_mirror(config, nobody),
        (None,) * config.twin.sync_delay_slots,
        frame,
        0,
        frame_noise,
    )
    return State(
        slot=0,
        scene=scene,
        world=moved,
        frame=frame,
        recall=recall,
        twin=Twin(
            mirror=heard,
            in_flight=in_flight,
            knowledge=model.initial_knowledge(config, nobody, float(np.mean(engine.base_recall))),
        ),
        control=Control(
            association_mask=no_link,
            link_mask=no_link,
            new_link_mask=no_link,
            retrain_mask=xp.zeros_like(nobody, dtype=xp.bool),
            retrain_work=nobody,
            update_plan="incremental",
        ),
        records=(),
    )


def begin_frame(config: ScenarioConfig, state: State, decision: FrameDecision) -> State:
    """Bring a frame decision into force.

    A link that a user did not have before has to move its model and twin first; a user that has
    just entered uses the base model, which every base station holds.

    Args:
        config: the scenario.
        state: at the start of a frame.
        decision: association and retraining, checked here.

    Raises:
        ValueError: a shape or dtype is off, a present user has no base station (11d), an absent
            one has any, an absent one is retrained, or the update plan is unknown.
    """
    xp = namespace(state.recall)
    present = state.frame.present_mask
    association, retrain = _checked_decision(config, decision, present)
    before = state.control.association_mask
    had_link = xp.any(before, axis=1)[:, None, :]
    pending = state.control.new_link_mask & association
    plan = learning.update_plan(decision.update_plan, config.learning)
    return state._replace(
        records=(),
        control=Control(
            association_mask=association,
            link_mask=association & state.frame.up_mask[..., None],
            new_link_mask=(association & ~before & had_link) | pending,
            retrain_mask=retrain,
            retrain_work=plan.work * xp.astype(retrain, state.recall.dtype),
            update_plan=decision.update_plan,
        ),
    )


def step_slot(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    state: State,
    action: Action,
    frame_noise: Noise,
    *,
    closes_decision: bool,
) -> tuple[State, SlotOutcome]:
    """Let the agents' action meet the physics for one slot.

    Args:
        config: the scenario.
        engine: moves the models' recall when a retraining ends.
        state: at the slot.
        action: weights in [0, 1].
        frame_noise: of the frame that contains the slot.
        closes_decision: whether the frame decision in force ends with this slot.

    Returns:
        The state after the slot (at a frame's end `enter_frame` is next) and the slot's outcome.
    """
    s = state.slot % config.slots_per_frame
    outcome = slot_outcome(config, state, action, frame_noise["measured_accuracy"][s])
    record = SlotRecord(
        uploaded_images=outcome.offloaded_bytes.sum(axis=1) / config.traffic.image_bytes,
        measured_accuracy=outcome.measured_accuracy,
    )
    knowledge, control = state.twin.knowledge, state.control
    newest = namespace(state.recall).where(
        outcome.present_mask, outcome.measured_accuracy, knowledge.slot_accuracy
    )
    state = state._replace(
        slot=state.slot + 1,
        records=(*state.records, record),
        control=control._replace(new_link_mask=control.new_link_mask & ~outcome.link_mask),
        twin=state.twin._replace(knowledge=knowledge._replace(slot_accuracy=newest)),
    )
    if closes_decision:
        state = close_decision(config, engine, state, frame_noise)
    return state, outcome


def enter_frame(config: ScenarioConfig, state: State, frame_noise: Noise) -> State:
    """Let the world run through the frame that begins at the state's slot, and the twin hear of it.

    Args:
        config: the scenario.
        state: at the first slot of a frame.
        frame_noise: of that frame.
    """
    frame_index = state.slot // config.slots_per_frame
    moved, frame = world.advance_frame(config, state.scene, state.world, frame_index, frame_noise)
    heard, in_flight = mirror.advance_frame(
        config,
        mirror.at_slot(state.twin.mirror, -1),
        state.twin.in_flight,
        frame,
        state.slot,
        frame_noise,
    )
    here = frame.present_mask[:, None, :]
    control = state.control
    return state._replace(
        world=moved,
        frame=frame,
        twin=state.twin._replace(mirror=heard, in_flight=in_flight),
        control=control._replace(
            association_mask=control.association_mask & here,
            link_mask=control.link_mask & here,
            new_link_mask=control.new_link_mask & here,
        ),
    )


def slot_outcome(
    config: ScenarioConfig, state: State, action: Action, accuracy_noise: Array
) -> SlotOutcome:
    """Delays and accuracy of a slot, eqs (1)–(7), (10), (11a) and the constraints.

    Args:
        config: the scenario.
        state: at the slot.
        action: weights in [0, 1].
        accuracy_noise: [E, N] standard normal, for the finite sample of images.
    """
    xp = namespace(state.recall)
    s = state.slot % config.slots_per_frame
    frame, control = state.frame, state.control
    present = frame.present_mask
    free, task = frame.free_flop_per_s[s, ...], frame.task_bytes[s, ...]

    rate = frame.rate_bytes_per_s[s, ...]  # (1), (2)
    link_mask = control.link_mask & (rate > 0.0)
    offloaded = compute.offloaded_bytes(task, action.split_weight, link_mask)
    local = xp.maximum(task - offloaded.sum(axis=1), 0.0)  # (11e)
    allocation = compute.allocation_flop_per_s(free, action.allocation_weight, link_mask)  # (6)

    overhead = config.traffic.result_bytes + config.traffic.migration_bytes * xp.astype(
        control.new_link_mask, rate.dtype
    )
    transmission = link.transmission_delay_s(offloaded, overhead, rate, link_mask)  # (3)
    site = compute.site_delay_s(offloaded, allocation, config.compute.work_flop_per_byte)  # (5)
    local_delay = compute.local_delay_s(local, config.compute)  # (4)
    delay = xp.maximum(local_delay, xp.max(transmission + site, axis=1))  # L_n, (7) by user

    retraining = xp.max(compute.retraining_delay_s(site, control.retrain_work), axis=1)  # (10)
    system = (delay + retraining).sum(axis=-1) / frame.num_users  # (11a)

    accuracy = learning.expected_accuracy(state.recall, frame.class_mix[s, ...])
    num_images = task / config.traffic.image_bytes
    return SlotOutcome(
        system_delay_s=system,
        delay_s=delay,
        retrain_delay_s=retraining,
        local_bytes=local,
        offloaded_bytes=offloaded,
        allocation_flop_per_s=allocation,
        rate_bytes_per_s=xp.where(link_mask, rate, 0.0),
        link_mask=link_mask,
        accuracy=accuracy,
        measured_accuracy=learning.measured_accuracy(accuracy, num_images, accuracy_noise),
        breakout_mask=present & (accuracy < config.learning.accuracy_threshold),
        retrain_mask=control.retrain_mask,
        present_mask=present,
    )


def close_decision(
    config: ScenarioConfig, engine: AccuracyEngine, state: State, frame_noise: Noise
) -> State:
    """End of a decision: store what was uploaded, let the twin learn, train who is due."""
    state, uploads = learn(config, state, frame_noise)
    return retrain(config, engine, state, uploads, frame_noise)


def learn(config: ScenarioConfig, state: State, frame_noise: Noise) -> tuple[State, Uploads]:
    """What the twin learns as a decision ends, and what was uploaded while it was in force.

    Args:
        config: the scenario.
        state: after the decision's last slot, with the records of its slots.
        frame_noise: of the frame that contains these slots.
    """
    last_slot = state.slot - 1
    s = last_slot % config.slots_per_frame
    xp = namespace(state.recall)
    images = xp.stack([record.uploaded_images for record in state.records], axis=0)
    measured = xp.stack([record.measured_accuracy for record in state.records], axis=0)
    slots = slice(s + 1 - len(state.records), s + 1)
    uploaded = learning.uploaded_class_counts(
        images, state.frame.class_mix[slots], frame_noise["uploaded_classes"][slots]
    ).sum(axis=0)
    knowledge = model.learn_frame(
        config, state.scene, mirror.at_slot(state.twin.mirror, s), state.twin.knowledge,
        last_slot, measured, uploaded, state.control.retrain_mask,
    )  # fmt: skip
    state = state._replace(records=(), twin=state.twin._replace(knowledge=knowledge))
    return state, Uploads(num_images=images.sum(axis=0), class_counts=uploaded)


def retrain(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    state: State,
    uploads: Uploads,
    frame_noise: Noise,
) -> State:
    """Train the models of the users that are due; the new ones are in use from now on.

    They are trained on what their user uploaded since the decision, and on what the twin generates
    of the mix (8) nearest to its store, these uploads included.

    Args:
        config: the scenario.
        engine: moves the models' recall.
        state: from `learn`.
        uploads: from `learn`.
        frame_noise: as for `learn`.
    """
    control, uploaded = state.control, uploads.class_counts
    xp = namespace(state.recall)
    plan = learning.update_plan(control.update_plan, config.learning)
    due = xp.astype(control.retrain_mask, uploaded.dtype)[..., None]
    generated = generator.generated_samples(
        state.twin.knowledge.generated_mix, uploads.num_images, plan.twin_fraction
    )
    real, twin_made = learning.capped_samples(
        due * plan.real_fraction * uploaded, due * generated, config.learning.max_samples
    )
    noise = frame_noise["update"][(state.slot - 1) % config.slots_per_frame]
    return state._replace(
        recall=engine.update(state.recall, real, twin_made, noise, mode=plan.mode),
        control=control._replace(
            retrain_mask=xp.zeros_like(control.retrain_mask),
            retrain_work=xp.zeros_like(control.retrain_work),
        ),
    )


def _checked_decision(
    config: ScenarioConfig, decision: FrameDecision, present: Array
) -> tuple[Array, Array]:
    """Association and retraining masks of a decision, with the axis E, or a ValueError."""
    if not isinstance(decision, FrameDecision):
        raise ValueError(f"decision: expected a FrameDecision, got {type(decision).__name__}")
    learning.update_plan(decision.update_plan, config.learning)
    xp = namespace(present)
    e, n = present.shape
    shapes = {
        "association_mask": (e, config.num_base_stations, n),
        "retrain_mask": (e, n),
    }
    masks = {}
    for name, shape in shapes.items():
        # A controller may decide on NumPy for environments on another device.
        mask = xp.asarray(getattr(decision, name), device=present.device)
        if e == 1 and mask.shape == shape[1:]:
            mask = mask[None, ...]
        if mask.shape != shape or mask.dtype != xp.bool:
            raise ValueError(
                f"decision.{name}: expected bool with shape {shape}, got {mask.dtype} with shape "
                f"{tuple(mask.shape)}"
            )
        masks[name] = mask
    association, retrain = masks["association_mask"], masks["retrain_mask"]
    has_site = xp.any(association, axis=1)
    faults = (
        (present & ~has_site, "every present user needs at least 1 base station (11d)"),
        (~present & has_site, "an absent user cannot be associated"),
        (~present & retrain, "an absent user cannot be retrained"),
    )
    for fault, rule in faults:
        if xp.any(fault):
            where = [tuple(int(i) for i in pair) for pair in np.argwhere(to_numpy(fault))]
            raise ValueError(f"decision: {rule}; violated at (environment, user) {where[:10]}")
    return association, retrain
