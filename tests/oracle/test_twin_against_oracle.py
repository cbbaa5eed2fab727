"""The twin against the scalar twin, over random episodes: mirror, store, mix, memory, forecast."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scalar_model
import scalar_twin
from random_scenarios import NUM_ENVS, Played, of_environment, play, random_config

from dtmarl import ScenarioConfig
from dtmarl.physics.context import context_library
from dtmarl.twin import forecast, mirror, model

NUM_CASES = 60
NUM_FRAMES = 4
RELATIVE = 1e-9
ABSOLUTE = {"position_m": 1e-9, "velocity_m_per_s": 1e-6, "gain_db": 1e-9, "distance_m": 1e-6}
KNOWLEDGE = (
    "class_counts",
    "generated_mix",
    "slot_accuracy",
    "frame_accuracy",
    "model_age_slots",
)


def close(actual: Any, expected: Any, name: str) -> None:
    np.testing.assert_allclose(
        actual, np.asarray(expected), RELATIVE, ABSOLUTE.get(name, 0.0), err_msg=name
    )


def truth(config: ScenarioConfig, step: Played, e: int) -> dict[str, Any]:
    frame, s = step.before.frame, step.before.slot % config.slots_per_frame
    return {
        "present_mask": frame.present_mask[e].tolist(),
        "position_m": frame.position_m[s, e].tolist(),
        "gain": frame.gain[s, e].tolist(),
        "free_flop_per_s": frame.free_flop_per_s[s, e].tolist(),
        "task_bytes": frame.task_bytes[s, e].tolist(),
    }


def check_heard(config: ScenarioConfig, step: Played, e: int, known: dict[str, Any]) -> None:
    heard = mirror.at_slot(step.before.twin.mirror, step.before.slot % config.slots_per_frame)
    for name in heard._fields:
        close(getattr(heard, name)[e], known[name], name)


def check_view(config: ScenarioConfig, step: Played, e: int, known: dict[str, Any]) -> None:
    """What a frame controller is shown, worked out from what the scalar twin knows."""
    state = step.at_decision
    assert state is not None
    view = model.view(
        config, state.scene, state.twin, state.control, state.slot, step.slots_per_decision
    )
    slot, sites = state.slot, state.scene.site_position_m[e].tolist()
    places = scalar_twin.believed_position(config, known, slot)
    expected = {
        "present_mask": known["present_mask"],
        "association_mask": state.control.association_mask[e],
        "distance_m": [[float(np.hypot(p[0] - s[0], p[1] - s[1])) for p in places] for s in sites],
        "gain_db": known["gain_db"],
        "rate_bytes_per_s": [
            [
                0.0
                if scalar_model.in_outage(10.0 ** (g / 10.0), config.radio)
                else scalar_model.rate_bytes_per_s(10.0 ** (g / 10.0), config.radio)
                for g in row
            ]
            for row in known["gain_db"]
        ],
        "free_flop_per_s": known["free_flop_per_s"],
        "mean_task_bytes": known["mean_task_bytes"],
        "class_mix": scalar_twin.class_mix(known),
        "forecast_accuracy": scalar_twin.forecast(config, known, slot, step.slots_per_decision),
        "frame_accuracy": known["frame_accuracy"],
        "slot_accuracy": known["slot_accuracy"],
        "model_age_slots": known["model_age_slots"],
        "report_age_slots": [slot - sent for sent in known["report_slot"]],
    }
    assert (view.slot, view.slots_per_decision) == (slot, step.slots_per_decision)
    assert {*expected, "slot", "slots_per_decision"} == set(view._fields)
    here = np.asarray(known["present_mask"])
    for name, value in expected.items():
        actual, value = getattr(view, name)[e], np.asarray(value)
        if name == "forecast_accuracy":  # where the twin puts absent users is of no account
            actual, value = actual[here], value[here]
        close(actual, value, name)


def check_learnt(step: Played, e: int, known: dict[str, Any]) -> None:
    knowledge = step.after.twin.knowledge
    for name in KNOWLEDGE:
        close(getattr(knowledge, name)[e], known[name], name)
    total = np.zeros(knowledge.history_sum.shape[1:])
    count = np.zeros(knowledge.history_count.shape[1:])
    for key, values in known["history"].items():
        total[key], count[key] = sum(values), len(values)
    close(knowledge.history_sum[e], total, "history_sum")
    close(knowledge.history_count[e], count, "history_count")


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_twin_over_an_episode(seed: int) -> None:
    config = random_config(seed)
    library = context_library(config.learning).tolist()
    known = [scalar_twin.initial(config, 0.75) for _ in range(NUM_ENVS)]
    assert forecast.AGE_BIN_FRAMES == scalar_twin.AGE_BIN_STARTS_FRAMES
    since: list[list[Any]] = [[] for _ in range(NUM_ENVS)]
    for step in play(config, seed, NUM_FRAMES):
        for e in range(NUM_ENVS):
            noise, slot = of_environment(step.noise, e), step.before.slot
            scalar_twin.hear(config, known[e], slot, truth(config, step, e), noise)
            check_heard(config, step, e, known[e])
            if step.at_decision is not None:
                check_view(config, step, e, known[e])
            mix = step.before.frame.class_mix[slot % config.slots_per_frame, e].tolist()
            offloaded = step.outcome.offloaded_bytes[e].tolist()
            since[e].append(
                scalar_model.uploaded_counts(config, offloaded, mix, noise["uploaded_classes"])
            )
            scalar_twin.measure(config, known[e], step.outcome.measured_accuracy[e].tolist())
            if step.closes_decision:
                scalar_twin.store(config, known[e], library, np.sum(since[e], axis=0).tolist())
                retrained = step.before.control.retrain_mask[e].tolist()
                scalar_twin.close(config, known[e], slot, step.slots_per_decision, retrained)
                since[e].clear()
            check_learnt(step, e, known[e])


def test_the_random_episodes_cover_what_they_should() -> None:
    seen: Counter[str] = Counter()
    for seed in range(NUM_CASES):
        config = random_config(seed)
        known = [scalar_twin.initial(config, 0.75) for _ in range(NUM_ENVS)]
        for step in play(config, seed, NUM_FRAMES):
            for e in range(NUM_ENVS):
                before = list(known[e]["report_slot"]), list(known[e]["present_mask"])
                was, slot = truth(config, step, e), step.before.slot
                scalar_twin.hear(config, known[e], slot, was, of_environment(step.noise, e))
                for n, here in enumerate(was["present_mask"]):
                    entered = here and not before[1][n]
                    heard = known[e]["report_slot"][n] != before[0][n] and not entered
                    seen["entered at the reset"] += entered and slot == 0
                    seen["entered later"] += entered and slot > 0
                    seen["left"] += before[1][n] and not here
                    seen["report at once"] += heard and known[e]["report_slot"][n] == slot
                    seen["report from the frame before"] += (
                        heard
                        and known[e]["report_slot"][n] // config.slots_per_frame
                        < slot // config.slots_per_frame
                    )
                    noise = step.noise["announcement_loss"][e, n]
                    seen["announcement lost"] += here and noise < config.twin.task_loss
                stored = step.after.twin.knowledge.class_counts[e].sum(axis=-1)
                seen["store is full"] += (stored > config.twin.store_images * 0.999).sum()
                seen["remembered"] += step.after.twin.knowledge.history_count[e].any()
    assert len(seen) == 8
    assert min(seen.values()) >= 10, seen
