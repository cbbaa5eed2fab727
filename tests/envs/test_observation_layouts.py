"""Layouts say what is in a vector, and the scenarios' tables say how long it is."""

import math
import re

import numpy as np
import pytest
from playing import equal_weights, play, short

import dtmarl
from dtmarl.scenarios import DESCRIPTIONS

SCENARIOS = pytest.mark.parametrize("scenario", dtmarl.scenarios())
BS_BLOCKS = {
    "free_compute", "num_associated", "slot_in_frame", "slot_in_episode", "associated", "task",
    "rate", "training",
}  # fmt: skip
MU_BLOCKS = {
    "task", "training", "model_age", "slot_accuracy", "frame_accuracy", "report_age",
    "slot_in_frame", "slot_in_episode", "generated_mix", "associated", "rate", "free_compute",
    "num_associated", "demand", "moving",
}  # fmt: skip


def table_rows(scenario):
    pattern = r"\| ``(bs|mu)_0…\w+_(\d+)`` +\| (\d+) float32.*?\| (\d+) weights"
    return {
        kind: (int(last), int(observed), int(weights))
        for kind, last, observed, weights in re.findall(pattern, DESCRIPTIONS[scenario])
    }


@SCENARIOS
def test_the_table_in_the_docstring_tells_the_truth(scenario):
    config, env = dtmarl.scenario(scenario), dtmarl.parallel_env(scenario)
    rows = table_rows(scenario)
    assert set(rows) == {"bs", "mu"}
    for kind, count in (("bs", config.num_base_stations), ("mu", config.max_users)):
        last, observed, weights = rows[kind]
        assert last == count - 1
        assert env.observation_space(f"{kind}_0").shape == (observed,)
        assert env.action_space(f"{kind}_0").shape == (weights,)


def test_sizes_of_the_paper_scenario():
    env = dtmarl.parallel_env("paper-v0")
    assert env.observation_space("bs_0").shape == (44,)
    assert env.observation_space("mu_0").shape == (36,)
    assert env.action_space("bs_0").shape == (10,)
    assert env.action_space("mu_0").shape == (4,)


@SCENARIOS
def test_blocks_fill_a_vector_without_gap_or_overlap(scenario):
    layouts = dtmarl.raw_env(scenario).layouts
    for layout in (layouts.bs, layouts.mu, layouts.state):
        covered = np.zeros(layout.size, dtype=int)
        for block in layout.blocks:
            where = layout.slices[block.name]
            assert where.stop - where.start == block.width
            assert block.low < block.high
            assert block.meaning
            covered[where] += 1
        assert (covered == 1).all()
    assert {block.name for block in layouts.bs.blocks} == BS_BLOCKS
    assert {block.name for block in layouts.mu.blocks} == MU_BLOCKS


def test_blocks_carry_what_their_names_say():
    config = short("paper-v0", frames=3)
    env = dtmarl.parallel_env(config)
    layouts, sites = env.unwrapped.layouts, config.num_base_stations
    for number, slot in enumerate(play(env, seed=5)):
        if not slot.agents:
            break
        state = env.unwrapped.snapshot
        association = state.control.association_mask[0]
        view = env.unwrapped.twin_view()
        see = {
            agent: {
                name: observation[where]
                for name, where in (
                    layouts.bs if agent.startswith("bs_") else layouts.mu
                ).slices.items()
            }
            for agent, observation in slot.observations.items()
        }
        for agent in slot.agents:
            seen = see[agent]
            assert seen["slot_in_frame"] == pytest.approx([number % 4 / 4])
            assert seen["slot_in_episode"] == pytest.approx([number / 12])
        for m in range(sites):
            seen = see[f"bs_{m}"]
            assert seen["associated"].tolist() == association[m].tolist()
            assert seen["num_associated"] == pytest.approx([association[m].sum() / 10])
            free = view.free_flop_per_s[0, m] / config.compute.site_flop_per_s
            assert seen["free_compute"] == pytest.approx([free])
            for name in ("task", "rate", "training"):
                assert not seen[name][~association[m]].any()
            rate = 1e3 * (10.0 ** (5.0 * seen["rate"].astype(float)) - 1.0)
            expected = view.rate_bytes_per_s[0, m] * association[m]
            assert rate == pytest.approx(expected, rel=1e-4)
        for agent in slot.agents[sites:]:
            n, seen = int(agent.removeprefix("mu_")), see[agent]
            assert seen["associated"].tolist() == association[:, n].tolist()
            assert seen["moving"].tolist() == state.control.new_link_mask[0, :, n].tolist()
            assert seen["num_associated"] == pytest.approx(association.sum(axis=1) / 10)
            assert seen["generated_mix"].sum() == pytest.approx(1.0, abs=1e-5)
            # The view is for decisions: between them it keeps the age at the newest one.
            age = view.model_age_slots[0, n] + number % 4
            assert seen["model_age"] == pytest.approx([age / 12])
            assert seen["slot_accuracy"] == pytest.approx([view.slot_accuracy[0, n]])
            assert seen["frame_accuracy"] == pytest.approx([view.frame_accuracy[0, n]])
            age = view.report_age_slots[0, n]
            assert seen["report_age"] == pytest.approx([age / (1 + age)])
            work = 0.75 * state.control.retrain_mask[0, n]
            assert seen["training"] == pytest.approx([work / (1 + work)])
            site = int(association[:, n].argmax())
            assert see[f"bs_{site}"]["task"][n] == seen["task"][0] > 0.0


def test_the_state_vector_covers_present_users_alone():
    env = dtmarl.parallel_env("paper-v0")
    env.reset(seed=1)
    present = env.unwrapped.snapshot.frame.present_mask[0]
    assert not present.all()
    slices = env.unwrapped.layouts.state.slices
    state = env.state()
    assert state.dtype == np.float32
    assert state[slices["present"]].tolist() == present.tolist()
    for name in ("task", "mean_task", "slot_accuracy"):
        assert ((state[slices[name]] > 0.0) == present).all()
    mixes = state[slices["class_mix"]].reshape(-1, 10).sum(axis=1)
    assert mixes == pytest.approx(present.astype(float), abs=1e-5)


def test_observations_come_from_the_twin_and_not_from_the_truth():
    def lossless(**twin):
        return short("paper-v0", twin={"sync_loss": 0.0, "task_loss": 0.0, **twin})

    def first_task(config):
        env = dtmarl.parallel_env(config)
        observations, _ = env.reset(seed=4)
        task = env.unwrapped.snapshot.frame.task_bytes[0, 0, 0] / config.traffic.task_bytes_max
        return float(observations["mu_0"][env.unwrapped.layouts.mu.slices["task"]][0]), task

    seen, true = first_task(lossless(task_noise=0.0))
    assert seen == pytest.approx(true, rel=1e-6)
    seen, true = first_task(lossless(task_noise=0.2))
    assert not math.isclose(seen, true, rel_tol=1e-3)


def test_announced_tasks_differ_from_slot_to_slot():
    env = dtmarl.parallel_env("paper-v0")
    observations, _ = env.reset(seed=1)
    tasks = []
    where = env.unwrapped.layouts.mu.slices["task"]
    for _ in range(20):
        tasks.append(float(observations["mu_0"][where][0]))
        observations, *_ = env.step(equal_weights(env))
    assert len(set(tasks)) >= 15
