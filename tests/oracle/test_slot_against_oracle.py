"""`dynamics.begin_frame` and `step_slot` against the scalar model, over random episodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scalar_model
from random_scenarios import NUM_ENVS, Played, play, random_config

from dtmarl import ScenarioConfig
from dtmarl.types import UPDATE_PLANS

NUM_CASES = 60
NUM_FRAMES = 4
RELATIVE = 1e-9


def new_links(step: Played, e: int) -> list[list[bool]]:
    """Links that still have to move model and twin: users that had a site, and not this one."""
    assert step.at_decision is not None
    before = step.at_decision.control
    now = step.before.control.association_mask[e].tolist()
    had, pending = before.association_mask[e].tolist(), before.new_link_mask[e].tolist()
    somewhere = [any(row[n] for row in had) for n in range(len(now[0]))]
    return [
        [
            now[m][n] and (pending[m][n] or (somewhere[n] and not had[m][n]))
            for n in range(len(now[0]))
        ]
        for m in range(len(now))
    ]


def given_to_oracle(config: ScenarioConfig, step: Played, e: int) -> dict[str, Any]:
    state, s = step.before, step.before.slot % config.slots_per_frame
    frame, control = state.frame, state.control
    return {
        "present": frame.present_mask[e].tolist(),
        "task": frame.task_bytes[s, e].tolist(),
        "free": frame.free_flop_per_s[s, e].tolist(),
        "gain": frame.gain[s, e].tolist(),
        "mix": frame.class_mix[s, e].tolist(),
        "association": control.association_mask[e].tolist(),
        "new_link": control.new_link_mask[e].tolist(),
        "retrain": control.retrain_mask[e].tolist(),
        "plan": control.update_plan,
        "recall": state.recall[e].tolist(),
        "allocation_weight": step.action.allocation_weight[e].tolist(),
        "split_weight": step.action.split_weight[e].tolist(),
        "accuracy_noise": step.noise["measured_accuracy"][e].tolist(),
    }


Samples = tuple[Any, Any]


def uploads(config: ScenarioConfig, step: Played, e: int) -> Samples:
    """What a slot uploads: bytes by link, and images by class."""
    given = given_to_oracle(config, step, e)
    offloaded = step.outcome.offloaded_bytes[e].tolist()
    noise = step.noise["uploaded_classes"][e].tolist()
    return offloaded, scalar_model.uploaded_counts(config, offloaded, given["mix"], noise)


def check_slot(config: ScenarioConfig, step: Played, e: int) -> None:
    given = given_to_oracle(config, step, e)
    if step.at_decision is not None:
        assert given["new_link"] == new_links(step, e)
    expected = scalar_model.slot(config, given)
    assert set(expected) == set(step.outcome._fields)
    present = np.asarray(given["present"])
    for name, value in expected.items():
        actual, value = getattr(step.outcome, name)[e], np.asarray(value)
        assert actual.dtype in (np.float64, np.bool_), name
        if name in ("accuracy", "measured_accuracy"):  # nothing is measured of absent users
            actual, value = actual[present], value[present]
        # Of a task that is offloaded whole, rounding of the task is left at most.
        absolute = 1e-7 if name == "local_bytes" else 0.0
        if name in ("delay_s", "system_delay_s"):
            absolute = 1e-7 * config.compute.work_flop_per_byte / config.compute.user_flop_per_s
        np.testing.assert_allclose(actual, value, RELATIVE, absolute, err_msg=name)

    # A used link has moved its model; one to a site that is down still has to.
    still_new = np.asarray(given["new_link"]) & ~np.asarray(expected["link_mask"])
    np.testing.assert_array_equal(step.after.control.new_link_mask[e], still_new)


def check_training(config: ScenarioConfig, step: Played, e: int, since: list[Samples]) -> None:
    """The engine is given the uploads since the decision, and generated images of the mix (8)."""
    given = given_to_oracle(config, step, e)
    mix = step.after.twin.knowledge.generated_mix[e].tolist()  # of the store with these uploads
    parts = [scalar_model.collected(config, given, *uploaded, mix) for uploaded in since]
    real, twin = (np.sum(kind, axis=0).tolist() for kind in zip(*parts, strict=True))
    trained_real, trained_twin, mode = step.trained_on
    assert mode == ("full" if given["plan"] == "full" else "incremental")
    real, twin = scalar_model.capped(config, real, twin)
    np.testing.assert_allclose(trained_real[e], real, RELATIVE)
    np.testing.assert_allclose(trained_twin[e], twin, RELATIVE)


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_slots_of_an_episode(seed: int) -> None:
    config = random_config(seed)
    since: list[list[Samples]] = [[] for _ in range(NUM_ENVS)]
    for step in play(config, seed, NUM_FRAMES):
        recall, control = step.before.recall, step.before.control
        for e in range(NUM_ENVS):
            check_slot(config, step, e)
            since[e].append(uploads(config, step, e))
            if step.closes_decision:
                check_training(config, step, e, since[e])
                since[e].clear()
        assert step.after.slot == step.before.slot + 1
        if step.closes_decision:
            trained = sum(step.trained_on[:2]).sum(axis=-1) > 0.0
            assert not (trained & ~control.retrain_mask).any()
            recall = np.where(trained[..., None], recall * 0.9 + 0.05, recall)
            assert not step.after.control.retrain_mask.any()
        else:
            np.testing.assert_array_equal(step.after.control.retrain_mask, control.retrain_mask)
        np.testing.assert_array_equal(step.after.recall, recall)


def test_the_random_episodes_cover_what_they_should() -> None:
    seen: Counter[str] = Counter()
    for seed in range(NUM_CASES):
        config = random_config(seed)
        for step in play(config, seed, NUM_FRAMES):
            for e in range(NUM_ENVS):
                out, control = step.outcome, step.before.control
                present, links = out.present_mask[e], out.link_mask[e]
                offloads = (out.offloaded_bytes[e] > 0).any(axis=0)
                weightless = step.action.split_weight[e].sum(axis=-1) == 0
                seen["slots"] += 1
                seen["several sites for a user"] += ((links.sum(axis=0) > 1) & offloads).sum()
                seen["associated site down"] += (control.association_mask[e] & ~links).sum()
                seen["absent user"] += (~present).sum()
                seen["all local by zero weights"] += (present & weightless).sum()
                seen["migration"] += (links & control.new_link_mask[e]).sum()
                seen["pending migration"] += (~links & control.new_link_mask[e]).sum()
                seen[f"retraining {control.update_plan}"] += (out.retrain_delay_s[e] > 0).sum()
                seen["breakout"] += out.breakout_mask[e].sum()
                seen["no breakout"] += (present & ~out.breakout_mask[e]).sum()
                if step.closes_decision and config.learning.max_samples == 20:
                    total = (step.trained_on[0][e] + step.trained_on[1][e]).sum(axis=-1)
                    seen["samples capped"] += (total > 19.99).sum()
    assert len(seen) == 10 + len(UPDATE_PLANS)
    assert seen["slots"] >= 200
    assert min(seen.values()) >= 10, seen
