"""`dynamics.step_slot` against the scalar model, on random scenarios, states and actions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scalar_model

from dtmarl import ScenarioConfig, dynamics
from dtmarl.config import ComputeConfig, LearningConfig, RadioConfig, TrafficConfig
from dtmarl.randomness import EnvironmentStreams, at_slot
from dtmarl.types import UPDATE_PLANS, Action, Control, State

NUM_CASES = 240
RELATIVE = 1e-9


class RecordingEngine:
    """An engine with a simple update that remembers what it was given."""

    base_recall = (0.8,)

    def initial_recall(self, noise: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-1.5 - noise))

    def update(self, recall: Any, real: Any, twin: Any, noise: Any, *, mode: str = "") -> Any:
        self.given = (real, twin, mode)
        return recall * 0.9 + 0.05


def random_config(rng: np.random.Generator) -> ScenarioConfig:
    users = int(rng.integers(1, 8))
    return ScenarioConfig(
        num_base_stations=int(rng.integers(1, 5)),
        min_users=1,
        max_users=users,
        slots_per_frame=int(rng.integers(1, 4)),
        radio=RadioConfig(
            bandwidth_hz=float(rng.uniform(1e6, 1e8)),
            transmit_power_dbm=float(rng.uniform(-20, 30)),
            noise_power_dbm=float(rng.uniform(-120, -60)),
            coherence_blocks=1,
        ),
        compute=ComputeConfig(
            site_flop_per_s=float(rng.uniform(1e9, 1e11)),
            user_flop_per_s=float(rng.uniform(1e8, 1e10)),
            work_flop_per_byte=float(rng.uniform(1.0, 1e5)),
        ),
        traffic=TrafficConfig(
            result_bytes=float(rng.choice([0.0, 1e4])),
            migration_bytes=float(rng.choice([0.0, 44.7e6])),
            image_bytes=float(rng.choice([3072.0, 150528.0])),
        ),
        learning=LearningConfig(
            num_classes=int(rng.integers(2, 11)),
            accuracy_threshold=float(rng.uniform(0.6, 0.95)),
            training_fraction=float(rng.uniform(0.0, 1.0)),
            twin_share=float(rng.uniform(0.0, 1.0)),
            pass_work=float(rng.uniform(0.0, 5.0)),
            full_passes=int(rng.integers(1, 12)),
            max_samples=int(rng.choice([20, 5000])),
        ),
    )


def random_case(seed: int) -> tuple[ScenarioConfig, State, Action, Any, RecordingEngine]:
    """A state in the middle of an episode with everything a slot reads made random."""
    rng = np.random.default_rng(seed)
    config, engine = random_config(rng), RecordingEngine()
    e, m, n = int(rng.integers(1, 4)), config.num_base_stations, config.max_users
    s, k = config.slots_per_frame, config.learning.num_classes
    streams = EnvironmentStreams(config, [seed + i for i in range(e)])
    noise, frame_noise = streams.draw_reset(), streams.draw_frame()
    state = dynamics.initial_state(config, engine, noise, frame_noise)

    present = rng.random((e, n)) < rng.choice([0.0, 0.6, 1.0], p=[0.05, 0.45, 0.5])
    free = rng.uniform(0.5, 1.0, (s, e, m)) * config.compute.site_flop_per_s
    free = np.where(rng.random((s, e, m)) < 0.15, 0.0, free)  # outages
    association = (rng.random((e, m, n)) < 0.6) & present[:, None, :]
    mix = rng.dirichlet(np.ones(k), size=(s, e, n))
    # A model may be so good that a user never breaks out, and so bad that it always does.
    recall = rng.uniform(rng.choice([0.0, 0.8]), 1.0, (e, n, k))
    state = state._replace(
        slot=int(rng.integers(0, 3)) * s + int(rng.integers(0, s)),
        frame=state.frame._replace(
            present_mask=present,
            free_flop_per_s=free,
            gain=10.0 ** rng.uniform(-16, -5, (s, e, m, n)),
            task_bytes=rng.uniform(1e5, 2e7, (s, e, n)),
            class_mix=mix,
        ),
        models=state.models._replace(
            recall=recall,
            real_samples=rng.uniform(0.0, 30.0, (e, n, k)),
            twin_samples=rng.uniform(0.0, 30.0, (e, n, k)),
        ),
        twin=state.twin._replace(
            present_mask=present, generated_mix=rng.dirichlet(np.ones(k), size=(e, n))
        ),
        control=Control(
            association_mask=association,
            new_link_mask=association & (rng.random((e, m, n)) < 0.3),
            retrain_mask=present & (rng.random((e, n)) < 0.5),
            update_plan=UPDATE_PLANS[int(rng.integers(len(UPDATE_PLANS)))],
        ),
    )
    action = Action(
        allocation_weight=random_weights(rng, (e, m, n)),
        split_weight=random_weights(rng, (e, n, 1 + m)),
    )
    return config, state, action, frame_noise, engine


def random_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Weights in [0, 1] with many exact zeros and ones, and some rows that are all zero."""
    weights = rng.random(shape)
    weights = np.where(rng.random(shape) < 0.2, 0.0, weights)
    weights = np.where(rng.random(shape) < 0.1, 1.0, weights)
    return weights * (rng.random(shape[:-1]) < 0.9)[..., None]


def given_to_oracle(
    config: ScenarioConfig, state: State, action: Action, frame_noise: Any, e: int
) -> dict[str, Any]:
    s, control = state.slot % config.slots_per_frame, state.control
    frame = state.frame
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
        "recall": state.models.recall[e].tolist(),
        "allocation_weight": action.allocation_weight[e].tolist(),
        "split_weight": action.split_weight[e].tolist(),
        "accuracy_noise": at_slot(frame_noise, s)["measured_accuracy"][e].tolist(),
    }


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_slot_outcome_and_collected_data(seed: int) -> None:
    config, state, action, frame_noise, engine = random_case(seed)
    s = state.slot % config.slots_per_frame
    after, outcome = dynamics.step_slot(
        config, engine, state, action, frame_noise, closes_decision=False
    )
    assert after.slot == state.slot + 1
    for e in range(state.frame.present_mask.shape[0]):
        given = given_to_oracle(config, state, action, frame_noise, e)
        expected = scalar_model.slot(config, given)
        assert set(expected) == set(outcome._fields)
        for name, value in expected.items():
            actual = getattr(outcome, name)[e]
            assert actual.dtype in (np.float64, np.bool_), name
            # Of a task that is offloaded whole, rounding of the task is left at most.
            absolute = 1e-7 if name == "local_bytes" else 0.0
            if name in ("delay_s", "system_delay_s"):
                absolute = 1e-7 * config.compute.work_flop_per_byte / config.compute.user_flop_per_s
            np.testing.assert_allclose(actual, value, RELATIVE, absolute, err_msg=name)

        offloaded = expected["offloaded_bytes"]
        uploaded = scalar_model.uploaded_counts(
            config, offloaded, given["mix"], at_slot(frame_noise, s)["uploaded_classes"][e].tolist()
        )
        real, twin = scalar_model.collected(
            config, given, offloaded, uploaded, state.twin.generated_mix[e].tolist()
        )
        for name, added in (("real_samples", real), ("twin_samples", twin)):
            total = getattr(state.models, name)[e] + np.asarray(added)
            np.testing.assert_allclose(getattr(after.models, name)[e], total, RELATIVE)
        # A used link has moved its model; one to a site that is down still has to.
        still_new = np.asarray(given["new_link"]) & ~np.asarray(expected["link_mask"])
        np.testing.assert_array_equal(after.control.new_link_mask[e], still_new)
    np.testing.assert_array_equal(after.models.recall, state.models.recall)
    np.testing.assert_array_equal(after.control.retrain_mask, state.control.retrain_mask)


@pytest.mark.parametrize("seed", range(60))
def test_retraining_takes_effect_when_the_decision_closes(seed: int) -> None:
    config, state, action, frame_noise, engine = random_case(seed)
    kept_open, _ = dynamics.step_slot(
        config, engine, state, action, frame_noise, closes_decision=False
    )
    after, _ = dynamics.step_slot(config, engine, state, action, frame_noise, closes_decision=True)
    real, twin, mode = engine.given
    assert mode == ("full" if state.control.update_plan == "full" else "incremental")
    for e in range(real.shape[0]):
        expected = scalar_model.capped(
            config,
            kept_open.models.real_samples[e].tolist(),
            kept_open.models.twin_samples[e].tolist(),
        )
        np.testing.assert_allclose(real[e], expected[0], RELATIVE)
        np.testing.assert_allclose(twin[e], expected[1], RELATIVE)
    np.testing.assert_array_equal(after.models.recall, state.models.recall * 0.9 + 0.05)
    assert not after.models.real_samples.any()
    assert not after.models.twin_samples.any()
    assert not after.control.retrain_mask.any()


def test_the_random_cases_cover_what_they_should() -> None:
    seen: Counter[str] = Counter()
    for seed in range(NUM_CASES):
        config, state, action, frame_noise, _ = random_case(seed)
        for e in range(state.frame.present_mask.shape[0]):
            given = given_to_oracle(config, state, action, frame_noise, e)
            found = scalar_model.slot(config, given)
            links = np.asarray(found["link_mask"])
            offloads = np.asarray(found["offloaded_bytes"]).sum(axis=0) > 0
            present = np.asarray(given["present"])
            retrained = np.asarray(found["retrain_delay_s"]) > 0
            seen["environment beyond the first"] += e > 0
            seen["several sites for a user"] += int(((links.sum(axis=0) > 1) & offloads).sum())
            seen["outage of an associated site"] += int(
                (np.asarray(given["association"]) & ~links).sum()
            )
            seen["absent user"] += int((~present).sum())
            seen["nobody"] += not present.any()
            seen["all local by zero weights"] += int(
                (present & (action.split_weight[e].sum(axis=-1) == 0)).sum()
            )
            seen["migration"] += int((links & np.asarray(given["new_link"])).sum())
            seen[f"retraining {given['plan']}"] += int(retrained.sum())
            seen["breakout"] += int(np.sum(found["breakout_mask"]))
            seen["no breakout"] += int((present & ~np.asarray(found["breakout_mask"])).sum())
    assert len(seen) == 9 + len(UPDATE_PLANS)
    assert min(seen.values()) >= 5, seen
