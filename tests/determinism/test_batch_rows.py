"""A row of a batch is the environment it would be alone, bit for bit, among any neighbours."""

import numpy as np
import pytest
from playing import assert_same, short

import dtmarl
from dtmarl import dynamics
from dtmarl.accuracy import ENGINES
from dtmarl.envs.observation import Observations
from dtmarl.randomness import EnvironmentStreams
from dtmarl.twin import model
from dtmarl.types import Action

SEEDS = (11, 12, 13, 14)


def run_batch(config, scheme, seeds):
    """Plays an episode of a batch; gives every slot's figures as dicts of [E, …] arrays."""
    engine = ENGINES[config.learning.engine].load()
    streams = EnvironmentStreams(config, seeds)
    generators = [np.random.default_rng([seed, 99]) for seed in seeds]
    period = scheme.slots_per_decision(config)
    layouts = Observations(config)
    reset_noise, noise = streams.draw_reset(), streams.draw_frame()
    state = dynamics.initial_state(config, engine, reset_noise, noise)
    slots = []
    while state.slot < config.slots_per_episode:
        if state.slot % period == 0:
            view = model.view(config, state.scene, state.twin, state.control, state.slot, period)
            decision = scheme.decide(config, view)
            state = dynamics.begin_frame(config, state, decision)
            ahead = layouts.ahead(state, period)
        bs, mu = layouts.agents(state, ahead)
        m, n = config.num_base_stations, config.max_users
        weights = np.stack([generator.random(m * n + n * (1 + m)) for generator in generators])
        action = Action(
            allocation_weight=weights[:, : m * n].reshape(-1, m, n),
            split_weight=weights[:, m * n :].reshape(-1, n, 1 + m),
        )
        figures = {
            "bs": bs,
            "mu": mu,
            "global_state": layouts.global_state(state),
            "association": decision.association_mask,
            "retrain": decision.retrain_mask,
            "forecast": view.forecast_accuracy,
        }
        closes = (state.slot + 1) % period == 0
        state, outcome = dynamics.step_slot(
            config, engine, state, action, noise, closes_decision=closes
        )
        if state.slot % config.slots_per_frame == 0:
            noise = streams.draw_frame()
            state = dynamics.enter_frame(config, state, noise)
        slots.append({**figures, **outcome._asdict(), "recall": state.recall})
    return slots


def row(slots, e):
    return [
        {name: np.asarray(values[e : e + 1]) for name, values in slot.items()} for slot in slots
    ]


@pytest.mark.parametrize("scheme", ["proposed", "without-incremental", "single-timescale"])
@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_a_row_of_a_batch_equals_the_environment_alone(scenario, scheme):
    config, chosen = short(scenario, frames=4), dtmarl.SCHEMES[scheme]
    batch = run_batch(config, chosen, SEEDS)
    for e, seed in enumerate(SEEDS):
        assert_same(run_batch(config, chosen, [seed]), row(batch, e))


def test_a_row_of_a_batch_equals_the_environment_alone_for_a_full_episode():
    config, chosen = dtmarl.scenario("paper-v0"), dtmarl.SCHEMES["proposed"]
    batch = run_batch(config, chosen, SEEDS)
    assert len(batch) == 100
    for e, seed in enumerate(SEEDS):
        assert_same(run_batch(config, chosen, [seed]), row(batch, e))


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_neighbours_do_not_matter(scenario):
    config, chosen = short(scenario, frames=4), dtmarl.SCHEMES["proposed"]
    among_some = row(run_batch(config, chosen, (11, 12, 13, 14)), 2)
    among_others = row(run_batch(config, chosen, (50, 51, 52, 13, 53, 54, 55)), 3)
    assert_same(among_some, among_others)


def test_rows_differ_from_each_other():
    batch = run_batch(short("paper-v0"), dtmarl.SCHEMES["proposed"], SEEDS)
    delays = np.stack([slot["system_delay_s"] for slot in batch])
    assert all(len(set(slot)) == len(SEEDS) for slot in delays.tolist())


def test_the_environment_with_dicts_is_a_row_as_well():
    config, scheme = short("outage-v0", frames=4), dtmarl.SCHEMES["proposed"]
    batch = row(run_batch(config, scheme, SEEDS), 1)
    env = dtmarl.parallel_env(config, absent_agents="idle")
    observations, _ = env.reset(seed=SEEDS[1])
    generator = np.random.default_rng([SEEDS[1], 99])
    m, n = config.num_base_stations, config.max_users
    for slot in batch:
        found = np.stack([observations[f"mu_{i}"] for i in range(n)])
        assert_same([slot["mu"][0]], [found])
        weights = generator.random(m * n + n * (1 + m))
        bs, mu = weights[: m * n].reshape(m, n), weights[m * n :].reshape(n, 1 + m)
        actions = {f"bs_{i}": bs[i] for i in range(m)} | {f"mu_{i}": mu[i] for i in range(n)}
        observations, rewards, *_ = env.step(actions)
        expected = -slot["system_delay_s"][0] / config.reference_delay_s
        assert rewards["bs_0"] == expected
