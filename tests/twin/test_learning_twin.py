"""The store, the generated mix of eq (8), and the forecast of eqs (13) and (14)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtmarl
from dtmarl import world
from dtmarl.physics.context import context_library
from dtmarl.randomness import EnvironmentStreams
from dtmarl.twin import forecast, generator, mirror, model, store
from dtmarl.types import Knowledge, Mirror

CONFIG = dtmarl.scenario("paper-v0")
S, N = CONFIG.slots_per_frame, CONFIG.max_users
SCENE = world.initial_scene(CONFIG, EnvironmentStreams(CONFIG, [0]).draw_reset())
COUNTS = st.lists(st.floats(0.0, 5000.0), min_size=4, max_size=4)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(uploads=st.lists(COUNTS, min_size=1, max_size=6), capacity=st.floats(0.5, 3000.0))
def test_the_store_never_holds_more_than_its_capacity(
    uploads: list[list[float]], capacity: float
) -> None:
    held = np.zeros((1, 1, 4))
    for upload in uploads:
        held = store.add_images(held, np.array([[upload]]), capacity)
        assert (held >= 0.0).all()
        assert held.sum() <= capacity * (1.0 + 1e-12)


def test_a_full_store_thins_every_class_alike() -> None:
    held = np.array([[[60.0, 30.0, 10.0]]])
    arriving = np.array([[[0.0, 0.0, 25.0]]])
    np.testing.assert_allclose(store.add_images(held, arriving, 200.0), [[[60.0, 30.0, 35.0]]])
    np.testing.assert_allclose(store.add_images(held, arriving, 100.0), [[[45.0, 22.5, 32.5]]])


def test_the_estimated_mix_by_hand() -> None:
    mix = store.class_mix(np.array([[[3.0, 0.0], [0.0, 0.0]]]))
    np.testing.assert_allclose(mix, [[[3.5 / 4.0, 0.5 / 4.0], [0.5, 0.5]]])


def test_the_generated_mix_is_the_argmin_of_kl() -> None:
    library = context_library(CONFIG.learning)
    rng = np.random.default_rng(1)
    mixes = rng.dirichlet(np.full(10, 0.3), size=(40, 10)) * 0.99 + 0.001
    chosen = generator.generated_mix(mixes, library)
    taken = set()
    for e in range(40):
        for n in range(10):
            divergences = [
                math.fsum(p * math.log(p / q) for p, q in zip(row, mixes[e, n], strict=True))
                for row in library.tolist()
            ]
            best = int(np.argmin(divergences))
            taken.add(best)
            np.testing.assert_array_equal(chosen[e, n], library[best])
    assert len(taken) == len(library)
    np.testing.assert_array_equal(generator.generated_mix(library[None], library)[0], library)


def heard_at(position_m: tuple[float, float], slot: int) -> Mirror:
    """Everybody is at one place, stands still, and has just reported."""
    heard = mirror.initial_mirror(CONFIG, np.zeros((1, CONFIG.max_users)))
    return heard._replace(
        present_mask=np.ones((1, N), dtype=bool),
        position_m=np.zeros((1, N, 2)) + np.array(position_m),
        report_slot=np.full((1, N), slot),
    )


def learn(
    knowledge: Knowledge, heard: Mirror, slot: int, accuracy: float, *, retrained: bool = False
) -> Knowledge:
    """A frame in which everybody measured the same accuracy and uploaded nothing."""
    return model.learn_frame(
        CONFIG, SCENE, heard, knowledge, slot, np.full((S, 1, N), accuracy),
        np.zeros((1, N, 10)), np.full((1, N), retrained),
    )  # fmt: skip


def test_frame_accuracy_is_the_mean_over_the_frame() -> None:
    knowledge = model.initial_knowledge(CONFIG, np.zeros((1, CONFIG.max_users)), 0.8)
    measured = np.random.default_rng(1).uniform(0.5, 1.0, (S, 1, N))
    heard = heard_at((50.0, 50.0), 0)
    absent = np.arange(N) == 3
    heard = heard._replace(present_mask=heard.present_mask & ~absent)
    knowledge = model.learn_frame(
        CONFIG, SCENE, heard, knowledge, S - 1, measured, np.zeros((1, N, 10)),
        np.zeros((1, N), dtype=bool),
    )  # fmt: skip
    expected = np.where(absent, 0.8, measured.mean(axis=0))
    np.testing.assert_allclose(knowledge.frame_accuracy, expected, rtol=1e-12)
    assert knowledge.history_count.sum() == N - 1
    changes = (measured.mean(axis=0) - 0.8)[:, ~absent]
    assert knowledge.history_sum.sum() == pytest.approx(changes.sum())
    # Who is not there will come with a new model.
    assert (knowledge.model_age_slots == np.where(absent, 0, S)).all()


def test_without_history_the_forecast_is_the_users_own_accuracy() -> None:
    knowledge = model.initial_knowledge(CONFIG, np.zeros((1, CONFIG.max_users)), 0.8)
    predicted = forecast.frame_accuracy(CONFIG, heard_at((50.0, 50.0), 0), knowledge, 0, S)
    np.testing.assert_allclose(predicted, 0.8, rtol=1e-12)


def test_forecast_shrinks_changes_to_those_at_the_age_and_these_to_none() -> None:
    """Σ = -1.8 over 9 frames in cell 5 for new models, prior 2.

    At the age: -1.8 / 11 = -0.163636; in the cell: (-1.8 - 2 · 0.163636) / 11 = -0.193388.
    """
    config = CONFIG.replace(twin={"forecast_prior": 2.0})
    knowledge = model.initial_knowledge(config, np.zeros((1, config.max_users)), 0.9)
    total, count = np.zeros_like(knowledge.history_sum), np.zeros_like(knowledge.history_sum)
    total[0, 5, 0], count[0, 5, 0] = -1.8, 9.0  # 4 × 4 cells of 50 m: (75, 75) is in cell 5
    knowledge = knowledge._replace(history_sum=total, history_count=count)
    for place, expected in (((75.0, 75.0), 0.9 - 0.193388), ((25.0, 75.0), 0.9 - 0.163636)):
        predicted = forecast.frame_accuracy(config, heard_at(place, 0), knowledge, 0, S)
        np.testing.assert_allclose(predicted, expected, rtol=1e-5)
    older = knowledge._replace(model_age_slots=np.full((1, N), S))
    predicted = forecast.frame_accuracy(config, heard_at((75.0, 75.0), 0), older, 0, S)
    np.testing.assert_allclose(predicted, 0.9, rtol=1e-12)


def test_forecast_follows_the_user_into_the_next_cell() -> None:
    """From x = 97.5 at 10 m/s, slots of 0.1 s: 3 slots in the cell up to 100 m, 7 beyond.

    A user whose report is 2 slots old has gone 2 m already: 1 slot, then 9.
    """
    knowledge = model.initial_knowledge(CONFIG, np.zeros((1, CONFIG.max_users)), 0.9)
    count = np.zeros_like(knowledge.history_sum)
    count[0, 5:7, 0] = 1e12  # weighs so much that the prior does not count
    total = np.zeros_like(count)
    total[0, 5, 0] = -0.4e12  # 0.4 less in the first cell, nothing in the next
    knowledge = knowledge._replace(history_sum=total, history_count=count)
    for age_slots, slots_in_cell in ((0, 3), (2, 1), (3, 0)):
        heard = heard_at((97.5, 75.0), 20 - age_slots)
        heard = heard._replace(velocity_m_per_s=np.zeros((1, N, 2)) + np.array([10.0, 0.0]))
        predicted = forecast.frame_accuracy(CONFIG, heard, knowledge, 20, S)
        np.testing.assert_allclose(predicted, 0.9 - 0.4 * slots_in_cell / S, rtol=1e-9)


def test_forecasts_stay_within_zero_and_one() -> None:
    knowledge = model.initial_knowledge(CONFIG, np.zeros((1, CONFIG.max_users)), 0.9)
    count = np.full_like(knowledge.history_sum, 1e12)
    for change, expected in ((0.5, 1.0), (-2.0, 0.0)):
        known = knowledge._replace(history_sum=change * count, history_count=count)
        predicted = forecast.frame_accuracy(CONFIG, heard_at((75.0, 75.0), 0), known, 0, S)
        np.testing.assert_array_equal(predicted, expected)


def test_age_bins() -> None:
    ages = np.array([0, S - 1, S, 2 * S - 1, 2 * S, 4 * S - 1, 4 * S, 100 * S])
    np.testing.assert_array_equal(forecast.age_bin(ages, S), [0, 0, 1, 1, 2, 2, 3, 3])
    assert forecast.NUM_AGE_BINS == 4


def test_what_was_measured_of_new_models_is_forecast_for_new_models() -> None:
    """A frame is remembered under the age that its models had, and asked for under the same."""
    heard = heard_at((75.0, 75.0), 0)
    knowledge = model.initial_knowledge(CONFIG, np.zeros((1, CONFIG.max_users)), 0.9)
    for frame in range(50):  # every frame starts with new models, and they measure 0.6
        knowledge = knowledge._replace(frame_accuracy=np.full((1, N), 0.9))
        knowledge = learn(knowledge, heard, frame * S + S - 1, 0.6, retrained=True)
    assert not knowledge.model_age_slots.any()
    knowledge = knowledge._replace(frame_accuracy=np.full((1, N), 0.9))
    predicted = forecast.frame_accuracy(CONFIG, heard, knowledge, 0, S)
    np.testing.assert_allclose(predicted, 0.6, atol=0.01)


def test_environments_have_memories_of_their_own() -> None:
    knowledge = model.initial_knowledge(CONFIG, np.zeros((2, CONFIG.max_users)), 0.9)
    heard = mirror.initial_mirror(CONFIG, np.zeros((2, CONFIG.max_users)))._replace(
        present_mask=np.array([[True] * N, [False] * N]), report_slot=np.zeros((2, N), dtype=int)
    )
    scene = world.initial_scene(CONFIG, EnvironmentStreams(CONFIG, [0, 1]).draw_reset())
    knowledge = model.learn_frame(
        CONFIG, scene, heard, knowledge, S - 1, np.full((S, 2, N), 0.5),
        np.zeros((2, N, 10)), np.zeros((2, N), dtype=bool),
    )  # fmt: skip
    assert knowledge.history_count[0].sum() == N
    assert not knowledge.history_count[1].any()
