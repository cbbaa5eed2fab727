"""Constraints (6)/(11f), (11d) and (11e) hold exactly, whatever finite weights agents give."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtmarl
from dtmarl import FrameDecision
from dtmarl.physics import compute
from dtmarl.types import Action

SITES, USERS = 3, 10
WEIGHT = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1e-300, 1e-9, 1e-3, 0.1, 1.0 / 3.0, 0.999, 5.0, 1e300, -7.0]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0.0, 1.0),
)
ALLOCATION = st.lists(WEIGHT, min_size=SITES * USERS, max_size=SITES * USERS)
SPLIT = st.lists(WEIGHT, min_size=(1 + SITES) * USERS, max_size=(1 + SITES) * USERS)
LINKS = st.lists(st.booleans(), min_size=SITES * USERS, max_size=SITES * USERS)
few = settings(max_examples=60, derandomize=True, deadline=None)


def env_with_links(links: list[bool], which: str = "paper-v0", seed: int = 3) -> Any:
    """The slot environment with an association that gives each present user a site at least."""
    env = dtmarl.raw_env(which)
    env.reset(seed=seed)
    present = env.twin_view().present_mask
    association = np.array(links).reshape(1, SITES, USERS) & present[:, None, :]
    association[:, 0, :] |= present & ~association.any(axis=1)
    env.begin_frame(FrameDecision(association_mask=association, retrain_mask=present & False))
    return env


def actions_of(env: Any, allocation: list[float], split: list[float]) -> dict[str, Any]:
    rows = [
        *np.array(allocation).reshape(SITES, USERS),
        *np.array(split).reshape(USERS, 1 + SITES),
    ]
    every = dict(zip(env.possible_agents, rows, strict=True))
    return {agent: every[agent] for agent in env.agents}


@few
@given(allocation=ALLOCATION, split=SPLIT, links=LINKS)
def test_a_step_keeps_every_constraint(
    allocation: list[float], split: list[float], links: list[bool]
) -> None:
    env = env_with_links(links)
    before = env.snapshot
    rewards = env.step(actions_of(env, allocation, split))[1]
    outcome = env.outcome
    for value in outcome:
        assert np.isfinite(value).all()
    assert all(np.isfinite(list(rewards.values())))

    # (6), (11f): own load and allocations in floating point, in any order of adding them up.
    free = before.frame.free_flop_per_s[0, 0]
    site_flop_per_s = env.config.compute.site_flop_per_s
    own_load = site_flop_per_s - free
    given_out = outcome.allocation_flop_per_s[0]
    assert (given_out >= 0.0).all()
    for order in (slice(None), slice(None, None, -1)):
        total = own_load.copy()
        for n in range(USERS)[order]:
            total = total + given_out[:, n]
        assert (total <= site_flop_per_s).all()
    assert (own_load + given_out.sum(axis=1) <= site_flop_per_s).all()
    for m in range(SITES):
        assert sum(map(Fraction, given_out[m].tolist())) <= Fraction(float(free[m]))

    # (11e): everything is processed somewhere, nothing where there is no link.
    present, task = before.frame.present_mask[0], before.frame.task_bytes[0, 0]
    local, remote = outcome.local_bytes[0], outcome.offloaded_bytes[0]
    association = before.control.association_mask[0]
    assert (local >= 0.0).all()
    assert (remote >= 0.0).all()
    assert not remote[~outcome.link_mask[0]].any()
    assert not given_out[~outcome.link_mask[0]].any()
    links_up = association & (before.frame.rate_bytes_per_s[0, 0] > 0.0)
    np.testing.assert_array_equal(outcome.link_mask[0], links_up)
    total_bytes = local + remote.sum(axis=0)
    np.testing.assert_allclose(total_bytes[present], task[present], rtol=1e-15)
    assert not total_bytes[~present].any()
    # A served user always gets something, so that no offloaded task waits forever.
    assert (given_out[links_up] > 0.0).all()


@few
@given(allocation=ALLOCATION, split=SPLIT)
def test_pack_clips_weights_to_the_unit_box(allocation: list[float], split: list[float]) -> None:
    env = env_with_links([True] * SITES * USERS)
    packed = env.pack(actions_of(env, allocation, split))
    present = np.array([f"mu_{n}" in env.agents for n in range(USERS)])
    wide = np.clip(np.array(split).reshape(USERS, 1 + SITES), 0.0, 1.0)
    np.testing.assert_array_equal(packed.split_weight[0], wide * present[:, None])
    np.testing.assert_array_equal(
        packed.allocation_weight[0], np.clip(np.array(allocation).reshape(SITES, USERS), 0.0, 1.0)
    )


@pytest.mark.parametrize("weight", [1.0, 1e-3, 1e-12, 1e-29])
def test_only_ratios_of_split_weights_count(weight: float) -> None:
    task, links = np.array([[2e7]]), np.ones((1, 2, 1), dtype=bool)
    for weights, expected in (
        ([weight, 0.0, 0.0], [0.0, 0.0]),
        ([0.0, weight, 0.0], [2e7, 0.0]),
        ([weight, weight, weight], [2e7 / 3.0, 2e7 / 3.0]),
        ([0.0, weight, 3.0 * weight], [5e6, 15e6]),
    ):
        offloaded = compute.offloaded_bytes(task, np.array([[weights]]), links)
        np.testing.assert_allclose(offloaded[0, :, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 5e-324, 1e-300, 1e-40])
def test_split_weights_that_are_next_to_nothing_keep_the_task_local(weight: float) -> None:
    offloaded = compute.offloaded_bytes(
        np.array([[2e7]]), np.full((1, 1, 3), weight), np.ones((1, 2, 1), dtype=bool)
    )
    assert (offloaded >= 0.0).all()
    np.testing.assert_allclose(offloaded, 0.0, atol=1e-2)


@few
@given(weights=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40), free=st.floats(0.0, 1e12))
def test_allocation_of_one_site_is_exact(weights: list[float], free: float) -> None:
    served = np.array([[[w != 0.5 for w in weights]]])
    share = compute.allocation_flop_per_s(np.array([[free]]), np.array([[weights]]), served)[0, 0]
    assert sum(map(Fraction, share.tolist())) <= Fraction(free)
    assert not share[~served[0, 0]].any()
    if served.any():
        assert share.sum() == pytest.approx(free, rel=1e-9)
        raised = np.maximum(weights, compute.SMALLEST_WEIGHT)[served[0, 0]]
        np.testing.assert_allclose(share[served[0, 0]], free * raised / raised.sum(), rtol=1e-9)


def _nobody(association: Any, present: Any) -> None:
    association[..., int(np.flatnonzero(present)[0])] = False


def _absent(association: Any, present: Any) -> None:
    association[0, 0, int(np.flatnonzero(~present)[0])] = True


@pytest.mark.parametrize(("spoil", "rule"), [(_nobody, "11d"), (_absent, "absent")])
def test_begin_frame_holds_11d(spoil: Callable[[Any, Any], None], rule: str) -> None:
    env = dtmarl.raw_env("paper-v0")
    env.reset(seed=1)
    present = env.twin_view().present_mask
    assert not present.all()
    association = np.broadcast_to(present[:, None, :], (1, SITES, USERS)).copy()
    retrain = np.zeros_like(present)
    spoiled = association.copy()
    spoil(spoiled, present[0])
    before = env.snapshot
    with pytest.raises(ValueError, match=rule):
        env.begin_frame(FrameDecision(association_mask=spoiled, retrain_mask=retrain))
    with pytest.raises(ValueError, match="absent"):
        env.begin_frame(FrameDecision(association_mask=association, retrain_mask=~present))
    assert env.snapshot is before
    env.begin_frame(FrameDecision(association_mask=association, retrain_mask=retrain))


def test_nothing_is_offloaded_to_a_site_that_is_down() -> None:
    config = dtmarl.scenario("outage-v0")
    env = dtmarl.raw_env(config)
    env.reset(seed=5)
    down_slots = 0
    while env.agents:
        if env.decision_due:
            present = env.twin_view().present_mask
            everywhere = np.broadcast_to(present[:, None, :], (1, SITES, USERS))
            env.begin_frame(
                FrameDecision(association_mask=everywhere, retrain_mask=~present & False)
            )
        state = env.snapshot
        free = state.frame.free_flop_per_s[state.slot % config.slots_per_frame, 0]
        env.step(actions_of(env, [1.0] * SITES * USERS, [0.0, 1.0, 1.0, 1.0] * USERS))
        down = free == 0.0
        down_slots += int(down.sum())
        assert not env.outcome.offloaded_bytes[0, down].any()
        assert not env.outcome.allocation_flop_per_s[0, down].any()
        assert not env.outcome.link_mask[0, down].any()
    assert down_slots == config.outage.duration_frames * config.slots_per_frame


def test_action_is_two_arrays_of_weights() -> None:
    """The other tests reach the physics through `pack`; this pins what it hands on."""
    env = env_with_links([True] * SITES * USERS)
    packed = env.pack(actions_of(env, [0.5] * SITES * USERS, [0.5] * (1 + SITES) * USERS))
    assert isinstance(packed, Action)
    assert packed.allocation_weight.shape == (1, SITES, USERS)
    assert packed.split_weight.shape == (1, USERS, 1 + SITES)
