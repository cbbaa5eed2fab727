"""The mirror: what a perfect twin sees, when reports arrive, and who is registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dtmarl
from dtmarl import ScenarioConfig, world
from dtmarl.config import TwinConfig
from dtmarl.randomness import EnvironmentStreams
from dtmarl.twin import mirror
from dtmarl.types import Mirror, WorldFrame

PERFECT = TwinConfig(
    sync_period_slots=1,
    sync_delay_slots=0,
    sync_loss=0.0,
    position_noise_m=0.0,
    gain_noise_db=0.0,
    gain_memory=0.0,
    velocity_gain=1.0,
    task_noise=0.0,
    task_loss=0.0,
)


def frames(
    config: ScenarioConfig, num_frames: int, seeds: range = range(3)
) -> Iterator[tuple[int, WorldFrame, Mirror]]:
    """Frame by frame: its first slot, what is true, and what the twin hears."""
    streams = EnvironmentStreams(config, seeds)
    noise = streams.draw_reset()
    scene = world.initial_scene(config, noise)
    at = world.initial_world(config, scene, noise)
    heard = mirror.initial_mirror(config, np.zeros((len(seeds), config.max_users)))
    in_flight: Any = (None,) * config.twin.sync_delay_slots
    for index in range(num_frames):
        frame_noise = streams.draw_frame()
        at, frame = world.advance_frame(config, scene, at, index, frame_noise)
        slot = index * config.slots_per_frame
        path, in_flight = mirror.advance_frame(config, heard, in_flight, frame, slot, frame_noise)
        heard = mirror.at_slot(path, -1)
        yield slot, frame, path


@pytest.mark.parametrize("scenario", ["paper-v0", "vehicular-v0", "outage-v0"])
def test_a_perfect_twin_is_the_truth(scenario: str) -> None:
    config = dtmarl.scenario(scenario).replace(twin=PERFECT)
    spacing_s, last, was_here = config.mobility.slot_spacing_s, None, None
    for slot, frame, path in frames(config, config.frames_per_episode):
        here = frame.present_mask
        np.testing.assert_array_equal(
            path.present_mask, np.broadcast_to(here, path.present_mask.shape)
        )
        np.testing.assert_array_equal(path.free_flop_per_s, frame.free_flop_per_s)
        for s in range(config.slots_per_frame):
            at = mirror.at_slot(path, s)
            np.testing.assert_array_equal(at.position_m[here], frame.position_m[s][here])
            np.testing.assert_array_equal(at.task_bytes[here], frame.task_bytes[s][here])
            links = np.broadcast_to(here[:, None, :], at.gain_db.shape)
            np.testing.assert_allclose(
                10.0 ** (at.gain_db[links] / 10.0), frame.gain[s][links], rtol=1e-12
            )
            assert (at.report_slot[here] == slot + s).all()
            stayed = here if was_here is None or s > 0 else here & was_here
            if last is not None:
                moved = (frame.position_m[s] - last)[stayed] / spacing_s
                np.testing.assert_allclose(at.velocity_m_per_s[stayed], moved, atol=1e-9)
            last = frame.position_m[s]
        was_here = here


def test_a_user_that_enters_has_no_velocity_yet() -> None:
    """One position makes no velocity, whatever the delay of reports."""
    for delay in (0, 2):
        config = dtmarl.scenario("vehicular-v0").replace(
            twin=PERFECT.replace(sync_delay_slots=delay)
        )
        before, entered_later = None, 0
        for slot, frame, path in frames(config, config.frames_per_episode):
            entered = frame.present_mask if before is None else frame.present_mask & ~before
            at = mirror.at_slot(path, 0)
            assert not at.velocity_m_per_s[entered].any()
            np.testing.assert_array_equal(at.position_m[entered], frame.position_m[0][entered])
            assert (at.report_slot[entered] == slot).all()
            before = frame.present_mask
            entered_later += int(entered.sum()) if slot else 0
        assert entered_later > 3


@pytest.mark.parametrize(("period", "delay"), [(1, 1), (3, 0), (3, 2), (2, 5), (7, 13)])
def test_a_report_arrives_after_its_delay(period: int, delay: int) -> None:
    """At slot t the twin knows the newest slot that reported and is `delay` slots ago or more."""
    config = dtmarl.scenario("paper-v0").replace(
        twin=PERFECT.replace(sync_period_slots=period, sync_delay_slots=delay)
    )
    truth: list[np.ndarray] = []
    for slot, frame, path in frames(config, 4):
        truth.extend(frame.position_m)
        here = frame.present_mask
        for s in range(config.slots_per_frame):
            sent = max((slot + s - delay) // period * period, 0)  # registered at slot 0
            at = mirror.at_slot(path, s)
            assert (at.report_slot[here] == sent).all()
            np.testing.assert_array_equal(at.position_m[here], truth[sent][here])
            np.testing.assert_array_equal(at.task_bytes[here], frame.task_bytes[s][here])


def test_where_every_report_is_lost_registration_is_all_there_is() -> None:
    config = dtmarl.scenario("paper-v0").replace(twin=PERFECT.replace(sync_loss=1.0))
    first = None
    for _, frame, path in frames(config, 3):
        first = frame.position_m[0] if first is None else first
        here = frame.present_mask
        for s in range(config.slots_per_frame):
            at = mirror.at_slot(path, s)
            np.testing.assert_array_equal(at.position_m[here], first[here])
            assert (at.report_slot[here] == 0).all()
        assert (path.free_flop_per_s == config.compute.site_flop_per_s).all()


def test_reports_are_lost_as_often_as_configured() -> None:
    config = dtmarl.scenario("paper-v0").replace(twin=PERFECT.replace(sync_loss=0.3))
    fresh, total = 0, 0
    for slot, frame, path in frames(config, 10, range(30)):
        here = frame.present_mask
        for s in range(config.slots_per_frame):
            if slot + s > 0:  # everybody registers at slot 0
                fresh += int((path.report_slot[s] == slot + s)[here].sum())
                total += int(here.sum())
    assert fresh / total == pytest.approx(0.7, abs=0.015)


def test_gain_is_smoothed_in_decibels() -> None:
    config = dtmarl.scenario("paper-v0").replace(twin=PERFECT.replace(gain_memory=0.75))
    _, frame, path = next(iter(frames(config, 1)))
    here = np.broadcast_to(frame.present_mask[:, None, :], path.gain_db[0].shape)
    true_db = 10.0 * np.log10(frame.gain)
    np.testing.assert_allclose(path.gain_db[0][here], true_db[0][here], rtol=1e-12)
    expected = 0.75 * (0.75 * true_db[0] + 0.25 * true_db[1]) + 0.25 * true_db[2]
    np.testing.assert_allclose(path.gain_db[2][here], expected[here], rtol=1e-12)


def test_measurement_noise_has_its_standard_deviation() -> None:
    config = dtmarl.scenario("paper-v0").replace(
        twin=PERFECT.replace(position_noise_m=3.0, gain_noise_db=2.0, task_noise=0.1)
    )
    error: dict[str, list[np.ndarray]] = {"position": [], "gain": [], "task": []}
    for _, frame, path in frames(config, 10, range(10)):
        here = np.broadcast_to(frame.present_mask, path.report_slot.shape)
        links = np.broadcast_to(here[:, :, None, :], path.gain_db.shape)
        error["position"].append((path.position_m - frame.position_m)[here].ravel())
        error["gain"].append((path.gain_db - 10.0 * np.log10(frame.gain))[links])
        error["task"].append(path.task_bytes[here] / frame.task_bytes[here] - 1.0)
    for name, std in (("position", 3.0), ("gain", 2.0), ("task", 0.1)):
        values = np.concatenate(error[name])
        assert values.std() == pytest.approx(std, rel=0.03), name
        assert values.mean() == pytest.approx(0.0, abs=0.05 * std), name


def test_a_lost_announcement_leaves_the_mean_so_far() -> None:
    config = dtmarl.scenario("paper-v0").replace(twin=PERFECT.replace(task_loss=1.0))
    for _, _, path in frames(config, 2):
        assert (path.task_bytes == 15e6).all()
        assert (path.mean_task_bytes == 15e6).all()
    heard = config.replace(twin=PERFECT)
    _, frame, path = next(iter(frames(heard, 1)))
    here = frame.present_mask
    mean = np.full(here.shape, 15e6)
    for s in range(config.slots_per_frame):
        mean = 0.9 * mean + 0.1 * frame.task_bytes[s]
        np.testing.assert_allclose(path.mean_task_bytes[s][here], mean[here], rtol=1e-12)
