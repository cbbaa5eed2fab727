"""Nothing that decides sees the truth: changing it changes no observation and no decision.

Two environments play the same episode. In one the hidden truth is then replaced wholesale, and all
that agents and the frame layer are shown must stay the same to the last bit. What must show, as a
check on the check, is a change of what the twin has heard or learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dtmarl
from dtmarl import SCHEMES
from dtmarl.policies import policy
from dtmarl.types import Knowledge, Mirror, State

SCENARIOS = ("paper-v0", "vehicular-v0", "outage-v0", "stale-twin-v0")
POLICIES = ("root-balanced", "equal-balanced", "fixed-split", "twin-optimum")


def other(array: Any) -> Any:
    """An array of the same kind with every element different, and positive if it is a number."""
    if array.dtype == bool:
        return ~array
    if array.dtype.kind == "i":
        return array + 1
    return np.abs(array) * 1.7 + 0.3


def every_field(values: Any, *, keep: tuple[str, ...] = ()) -> Any:
    return values._replace(
        **{name: other(getattr(values, name)) for name in values._fields if name not in keep}
    )


def with_other_truth(state: State, s: int) -> State:
    """The same twin and the same decision in force, in an entirely different world.

    Who is there is no secret, as users register when they enter; the sites' places and the library
    of mixes are constants that the network knows.
    """
    twin = state.twin
    elsewhere = np.arange(twin.mirror.present_mask.shape[0]) != s
    heard_then = {}
    for name in set(Mirror._fields) - {"present_mask"}:  # what it will hear, and has heard, is past
        path = getattr(twin.mirror, name)
        chosen = elsewhere.reshape(-1, *[1] * (path.ndim - 1))
        heard_then[name] = np.where(chosen, other(path), path)
    in_flight = tuple(
        report and every_field(report, keep=("sent_slot",)) for report in twin.in_flight
    )
    return state._replace(
        scene=every_field(state.scene, keep=("site_position_m", "context_library")),
        world=every_field(state.world),
        frame=every_field(state.frame, keep=("present_mask",)),
        recall=1.0 - 0.9 * state.recall,
        twin=twin._replace(mirror=twin.mirror._replace(**heard_then), in_flight=in_flight),
        control=state.control._replace(link_mask=~state.control.link_mask),
        records=tuple(every_field(record) for record in state.records),
    )


def shown(env: Any, scheme: str) -> dict[str, Any]:
    """All that is shown at a slot, and what is decided on it."""
    found: dict[str, Any] = {"state": env.state()}
    if env.decision_due:
        view = env.twin_view()
        found |= {f"view {name}": getattr(view, name) for name in view._fields}
        decision = SCHEMES[scheme].decide(env.config, view)
        found["association"] = decision.association_mask
        found["retraining"] = decision.retrain_mask
        found["plan"] = decision.update_plan
        observations = env.begin_frame(decision)
    else:
        # Within a frame an environment has prepared what comes; here it is prepared anew.
        state, period = env.snapshot, env.slots_per_decision
        bs, mu = env.layouts.agents(state, env.layouts.ahead(state, period - state.slot % period))
        rows = dict(zip(env.possible_agents, (*bs[0], *mu[0]), strict=True))
        observations = {agent: rows[agent] for agent in env.agents}
    assert list(observations) == env.agents
    found |= observations
    for name in POLICIES:
        rule = policy(name)
        rule.reset(env.config, 0)
        actions = rule.act(observations)
        found |= {f"{name} {agent}": action for agent, action in actions.items()}
    return found


def difference(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs, in any bit."""
    assert a.keys() == b.keys()
    return [
        name
        for name, value in a.items()
        if np.asarray(value).tobytes() != np.asarray(b[name]).tobytes()
    ]


def pause(
    scenario: str, scheme: str, slots: tuple[int, ...], change: Callable[[State, int], State]
) -> Iterator[tuple[int, list[str]]]:
    """Play two equal environments up to each slot, change one there, and compare what is shown."""
    config = dtmarl.scenario(scenario)
    period = SCHEMES[scheme].slots_per_decision(config)
    for slot in slots:
        pair = []
        for tampered in (False, True):
            env = dtmarl.raw_env(config, slots_per_decision=period)
            rng = np.random.default_rng(5)
            env.reset(seed=4)
            for _ in range(slot):
                if env.decision_due:
                    env.begin_frame(SCHEMES[scheme].decide(config, env.twin_view()))
                env.play({a: rng.random(env.action_space(a).shape) for a in env.agents})
            if tampered:
                env._simulation.state = change(env.snapshot, slot % config.slots_per_frame)  # noqa: SLF001
            pair.append(shown(env, scheme))
        yield slot, difference(*pair)


@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_another_truth_shows_nowhere(scenario: str, scheme: str) -> None:
    for slot, differences in pause(scenario, scheme, (0, 3, 20, 29, 47), with_other_truth):
        assert not differences, f"at slot {slot}"


def test_the_other_truth_is_another_one() -> None:
    env = dtmarl.raw_env("paper-v0")
    env.reset(seed=4)
    truth = env.snapshot
    changed = with_other_truth(truth, 0)
    for group in ("world", "frame"):
        for name in getattr(truth, group)._fields:
            before, after = (
                getattr(getattr(truth, group), name),
                getattr(getattr(changed, group), name),
            )
            assert (name == "present_mask") == np.array_equal(before, after)
    assert not (truth.recall == changed.recall).any()
    np.testing.assert_array_equal(truth.twin.mirror.gain_db[0], changed.twin.mirror.gain_db[0])
    assert not np.array_equal(truth.twin.mirror.gain_db[1], changed.twin.mirror.gain_db[1])


@pytest.mark.parametrize("name", [n for n in Mirror._fields if n != "present_mask"])
def test_what_the_twin_heard_shows(name: str) -> None:
    def change(state: State, s: int) -> State:
        heard = state.twin.mirror
        changed = heard._replace(**{name: other(getattr(heard, name))})
        return state._replace(twin=state.twin._replace(mirror=changed))

    for slot, differences in pause("paper-v0", "proposed", (20,), change):
        assert differences, f"at slot {slot}"


@pytest.mark.parametrize("name", Knowledge._fields)
def test_what_the_twin_learnt_shows(name: str) -> None:
    def change(state: State, s: int) -> State:
        learnt = state.twin.knowledge
        changed = learnt._replace(**{name: other(getattr(learnt, name))})
        return state._replace(twin=state.twin._replace(knowledge=changed))

    for slot, differences in pause("paper-v0", "proposed", (20,), change):
        assert differences, f"at slot {slot}"
