"""What the twin believes is worth having: no worse than not having learnt or reckoned at all."""

import numpy as np

import dtmarl
from dtmarl.policies import policy


def test_forecasts_and_positions_are_no_worse_than_the_newest_ones() -> None:
    config = dtmarl.scenario("paper-v0")
    env = dtmarl.parallel_env(config)
    rule = policy("root-balanced")
    forecast_error, naive_error, reckoned_m, held_m = [], [], [], []
    for seed in range(6):
        observations, _ = env.reset(seed=seed)
        rule.reset(config, seed)
        accuracy: list[np.ndarray] = []
        while env.agents:
            state, view = env.unwrapped.snapshot, env.unwrapped.twin_view()
            s = state.slot % config.slots_per_frame
            here = state.frame.present_mask[0]
            truth = state.frame.position_m[s, 0][here]
            heard = state.twin.mirror
            elapsed = (state.slot - heard.report_slot[s, 0]) * config.mobility.slot_spacing_s
            reckoned = heard.position_m[s, 0] + heard.velocity_m_per_s[s, 0] * elapsed[:, None]
            reckoned_m += np.linalg.norm(reckoned[here] - truth, axis=-1).tolist()
            held_m += np.linalg.norm(heard.position_m[s, 0][here] - truth, axis=-1).tolist()
            if s == 0:
                accuracy = []
                # The decision in force was taken on this very view, but for the retrain flags.
                forecast, newest = view.forecast_accuracy[0], view.frame_accuracy[0]
            actions = rule.act({agent: observations[agent] for agent in env.agents})
            observations, *_ = env.step(actions)
            accuracy.append(env.unwrapped.outcome.accuracy[0])
            if s == config.slots_per_frame - 1 and state.slot > config.slots_per_frame:
                mean = np.mean(accuracy, axis=0)
                forecast_error += np.abs(forecast - mean)[here].tolist()
                naive_error += np.abs(newest - mean)[here].tolist()
    assert np.mean(forecast_error) < 1.03 * np.mean(naive_error)
    assert np.mean(reckoned_m) < 1.03 * np.mean(held_m)
