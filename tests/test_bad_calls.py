"""Calls that an episode refuses: the exact error, and no trace of it in what follows."""

import dataclasses

import numpy as np
import pytest
from playing import assert_same, episode, equal_weights, play, refused, short

import dtmarl

NAN, INF = float("nan"), float("inf")
CONFIG = short("vehicular-v0", frames=3)
"""Users come and go, so that an absent user is at hand."""

RESETS = {
    "a negative seed": (
        {"seed": -1},
        "seed: expected None or a non-negative integer, got -1",
    ),
    "a fraction for a seed": (
        {"seed": 1.0},
        "seed: expected None or a non-negative integer, got 1.0",
    ),
    "a string for a seed": (
        {"seed": "1"},
        "seed: expected None or a non-negative integer, got '1'",
    ),
    "a bool for a seed": (
        {"seed": True},
        "seed: expected None or a non-negative integer, got True",
    ),
    "a list for options": (
        {"options": [1]},
        "options: expected None or a mapping, got [1]",
    ),
}


@pytest.mark.parametrize("case", RESETS)
def test_a_reset_is_refused_and_the_episode_goes_on(case):
    arguments, message = RESETS[case]

    def attempt(env):
        refused(lambda: env.reset(**arguments), message)

    follow_with(attempt, dtmarl.parallel_env(CONFIG))


def replaced(agent, value):
    def spoil(env, actions):
        return {**actions, agent: value}

    return spoil


def without(agent):
    return lambda env, actions: {a: w for a, w in actions.items() if a != agent}


def with_an_absent_user(env, actions):
    absent = next(agent for agent in env.possible_agents if agent not in env.agents)
    return {**actions, absent: actions["mu_0"]}


def of_mu(values, dtype=None):
    return replaced("mu_0", np.array(values, dtype=dtype))


WRONG_DTYPE = "actions['mu_0']: expected floats with shape (4,), got "
ACTIONS = {
    "NaN": (of_mu([NAN, 1, 1, 1]), "actions['mu_0']: expected finite weights, got [nan"),
    "infinity": (of_mu([0, INF, 1, 1]), "actions['mu_0']: expected finite weights, got ["),
    "minus infinity at a base station": (
        replaced("bs_1", np.full(13, -INF)),
        "actions['bs_1']: expected finite weights, got [-inf",
    ),
    "too few weights": (of_mu([0.5] * 3), WRONG_DTYPE + "float64 with shape (3,)"),
    "too many weights": (of_mu([0.5] * 5), WRONG_DTYPE + "float64 with shape (5,)"),
    "weights in a row": (of_mu([[0.5] * 4]), WRONG_DTYPE + "float64 with shape (1, 4)"),
    "a single weight": (replaced("mu_0", 0.5), WRONG_DTYPE + "float64 with shape ()"),
    "no action": (replaced("mu_0", None), WRONG_DTYPE + "object with shape ()"),
    "objects": (of_mu([0.5] * 4, object), WRONG_DTYPE + "object with shape (4,)"),
    "strings": (of_mu(["0.5"] * 4), WRONG_DTYPE + "<U3 with shape (4,)"),
    "bools": (of_mu([True] * 4), WRONG_DTYPE + "bool with shape (4,)"),
    "integers": (of_mu([1] * 4), WRONG_DTYPE + "int64 with shape (4,)"),
    "complex numbers": (of_mu([0.5j] * 4), WRONG_DTYPE + "complex128 with shape (4,)"),
    "a missing agent": (
        without("bs_2"),
        "actions: expected one for each of agents; missing ['bs_2'], unknown []",
    ),
    "an unknown agent": (
        replaced("mu_99", np.ones(4)),
        "actions: expected one for each of agents; missing [], unknown ['mu_99']",
    ),
    "an agent that is no string": (
        replaced(3, np.ones(4)),
        "actions: expected one for each of agents; missing [], unknown [3]",
    ),
    "an absent agent": (
        with_an_absent_user,
        "actions: expected one for each of agents; missing [], unknown ['mu_",
    ),
    "no actions": (
        lambda env, actions: {},
        "actions: expected one for each of agents; missing ['bs_0', ",
    ),
    "a list": (
        lambda env, actions: list(actions.values()),
        "actions: expected a mapping by agent, got list",
    ),
    "None": (lambda env, actions: None, "actions: expected a mapping by agent, got NoneType"),
}


@pytest.mark.parametrize("scheme", ["proposed", "without-twin"])
@pytest.mark.parametrize("case", ACTIONS)
def test_an_action_is_refused_and_the_episode_goes_on(case, scheme):
    spoil, message = ACTIONS[case]

    def attempt(env):
        refused(lambda: env.step(spoil(env, equal_weights(env))), message)

    follow_with(attempt, dtmarl.parallel_env(CONFIG, controller=scheme))


@pytest.mark.parametrize("case", ACTIONS)
def test_an_action_is_refused_by_agents_in_the_slot_environment(case):
    spoil, message = ACTIONS[case]
    env = dtmarl.raw_env(CONFIG)
    env.reset(seed=5)
    env.begin_frame(decided(env))
    refused(lambda: env.pack(spoil(env, equal_weights(env))), message)


def follow_with(attempt, env):
    """An episode with an attempt before every slot equals the episode without."""
    expected = episode(env, seed=5)
    found = []
    for slot in play(env, seed=5):
        found.append(slot)
        if slot.agents:
            attempt(env)
    assert_same(expected, found)


def decided(env, **changes):
    """Every present user at every base station, retrained if present; with changes."""
    view = env.twin_view()
    sites = env.config.num_base_stations
    decision = dtmarl.FrameDecision(
        association_mask=np.repeat(view.present_mask[:, None, :], sites, axis=1),
        retrain_mask=view.present_mask.copy(),
    )
    return dataclasses.replace(decision, **changes)


def mask_changed(name, change):
    def spoil(env):
        decision = decided(env)
        mask = getattr(decision, name).copy()
        absent = int(np.flatnonzero(~env.twin_view().present_mask[0])[0])
        return dataclasses.replace(decision, **{name: change(mask, absent)})

    return spoil


def nobody_for_user_0(mask, absent):
    mask[0, :, 0] = False
    return mask


def set_for_the_absent(mask, absent):
    mask[0, ..., absent] = True
    return mask


DECISIONS = {
    "None": (lambda env: None, "decision: expected a FrameDecision, got NoneType"),
    "a dict": (lambda env: {}, "decision: expected a FrameDecision, got dict"),
    "an association of users by sites": (
        mask_changed("association_mask", lambda mask, _: mask.swapaxes(1, 2)),
        "decision.association_mask: expected bool with shape (1, 3, 13), got bool with shape "
        "(1, 13, 3)",
    ),
    "two environments": (
        mask_changed("retrain_mask", lambda mask, _: np.repeat(mask, 2, axis=0)),
        "decision.retrain_mask: expected bool with shape (1, 13), got bool with shape (2, 13)",
    ),
    "an association in numbers": (
        mask_changed("association_mask", lambda mask, _: mask.astype(float)),
        "decision.association_mask: expected bool with shape (1, 3, 13), got float64 with shape "
        "(1, 3, 13)",
    ),
    "integers for retraining": (
        mask_changed("retrain_mask", lambda mask, _: mask.astype(int)),
        "decision.retrain_mask: expected bool with shape (1, 13), got int64 with shape (1, 13)",
    ),
    "a user without base station": (
        mask_changed("association_mask", nobody_for_user_0),
        "decision: every present user needs at least 1 base station (11d); violated at "
        "(environment, user) [(0, 0)]",
    ),
    "an absent user with base stations": (
        mask_changed("association_mask", set_for_the_absent),
        "decision: an absent user cannot be associated; violated at (environment, user) [(0, ",
    ),
    "an absent user that is retrained": (
        mask_changed("retrain_mask", set_for_the_absent),
        "decision: an absent user cannot be retrained; violated at (environment, user) [(0, ",
    ),
    "an unknown update plan": (
        lambda env: decided(env, update_plan="some"),
        "update_plan: expected one of ('incremental', 'physical-only', 'full'), got 'some'",
    ),
}


def raw_episode(before_decision=None, before_slot=None):
    """An episode of the slot environment; the hooks try what they should not."""
    env = dtmarl.raw_env(CONFIG)
    env.reset(seed=5)
    found = []
    while env.agents:
        if env.decision_due:
            if before_decision:
                before_decision(env)
            found.append(env.begin_frame(decided(env)))
        if before_slot:
            before_slot(env)
        found.append(list(env.step(equal_weights(env))))
    return found


@pytest.mark.parametrize("case", DECISIONS)
def test_a_decision_is_refused_and_the_episode_goes_on(case):
    spoil, message = DECISIONS[case]

    def attempt(env):
        refused(lambda: env.begin_frame(spoil(env)), message)

    assert_same(raw_episode(), raw_episode(before_decision=attempt))


def test_a_second_decision_in_a_frame_is_refused():
    def attempt(env):
        refused(
            lambda: env.begin_frame(decided(env)),
            "begin_frame: expected at slots that are multiples of 4, once each; "
            f"this is slot {env.snapshot.slot}",
            RuntimeError,
        )

    assert_same(raw_episode(), raw_episode(before_slot=attempt))


def test_a_slot_without_its_decision_is_refused():
    def attempt(env):
        refused(
            lambda: env.step(equal_weights(env)),
            f"step: slot {env.snapshot.slot} starts a frame; expected begin_frame(decision) first",
            RuntimeError,
        )

    assert_same(raw_episode(), raw_episode(before_decision=attempt))


BEFORE_RESET = {
    "step": lambda env: env.step({}),
    "step with actions": lambda env: env.step({"bs_0": np.ones(13)}),
    "twin_view": lambda env: env.twin_view(),
    "begin_frame": lambda env: env.begin_frame(None),
    "state": lambda env: env.state(),
    "snapshot": lambda env: env.snapshot,
    "decision_due": lambda env: env.decision_due,
}


@pytest.mark.parametrize("call", BEFORE_RESET)
def test_before_the_first_reset_there_is_nothing(call):
    env = dtmarl.raw_env(CONFIG)
    message = "the environment has no episode yet: expected reset() first"
    refused(lambda: BEFORE_RESET[call](env), message, RuntimeError)
    assert episode(dtmarl.parallel_env(CONFIG), seed=5)


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_a_step_before_the_first_reset_is_refused_under_every_scheme(scheme):
    env = dtmarl.parallel_env(CONFIG, controller=scheme)
    message = "the environment has no episode yet: expected reset() first"
    for actions in ({}, {"bs_0": np.ones(13)}):
        refused(lambda actions=actions: env.step(actions), message, RuntimeError)


@pytest.mark.parametrize("scheme", dtmarl.SCHEMES)
def test_a_step_after_the_end_is_refused_and_a_reset_goes_on(scheme):
    env, other = (dtmarl.parallel_env(CONFIG, controller=scheme) for _ in range(2))
    last = episode(env, seed=5)[-1]
    episode(other, seed=5)
    message = "the episode is over: expected reset() first"
    for actions in ({}, last.actions):
        refused(lambda actions=actions: env.step(actions), message, RuntimeError)
    refused(env.unwrapped.twin_view, message, RuntimeError)
    refused(lambda: env.unwrapped.begin_frame(None), message, RuntimeError)
    assert env.state().shape == env.state_space.shape
    assert_same(episode(other), episode(env))
