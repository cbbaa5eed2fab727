"""Writes the golden trajectories anew: `python tests/golden/make.py [SCENARIO ...]`.

Run it when a change is meant to change results, raise the scenario's version, and look at the
difference before committing it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import dtmarl
from dtmarl.policies import policy

FOLDER = Path(__file__).parent
SEED = 7
DIGITS = 9


def golden_trajectory(scenario: str) -> dict[str, Any]:
    """An episode's figures slot by slot, under the proposed controller and the strongest rule."""
    env = dtmarl.parallel_env(scenario, controller="proposed")
    acting = policy("root-balanced")
    acting.reset(env.unwrapped.config, SEED)
    observations, _ = env.reset(seed=SEED)
    slots = []
    before = env.unwrapped.snapshot.control.association_mask
    while env.agents:
        control = env.unwrapped.snapshot.control.association_mask
        observations, *_ = env.step(acting.act({a: observations[a] for a in env.agents}))
        outcome = env.unwrapped.outcome
        slots.append(
            {
                "system_delay_s": rounded(outcome.system_delay_s[0]),
                "accuracy": rounded(outcome.accuracy[outcome.present_mask].mean()),
                "num_users": int(outcome.present_mask.sum()),
                "num_retrained": int(outcome.retrain_mask.sum()),
                "num_association_changes": int((control != before).sum()),
            }
        )
        before = control
    return {
        "scenario": scenario,
        "config_hash": env.unwrapped.config.hash,
        "seed": SEED,
        "slots": {name: [slot[name] for slot in slots] for name in slots[0]},
    }


def rounded(value: Any) -> float:
    """The value to nine significant digits."""
    return float(f"{value:.{DIGITS}g}")


def path_of(scenario: str) -> Path:
    """Where a scenario's golden trajectory lies."""
    return FOLDER / f"{scenario}.json"


def write(trajectory: dict[str, Any]) -> Path:
    """Store a trajectory, all or nothing, one figure a line."""
    path = path_of(trajectory["scenario"])
    slots = ",\n".join(f'  "{name}": {json.dumps(v)}' for name, v in trajectory["slots"].items())
    head = "".join(
        f' "{name}": {json.dumps(value)},\n'
        for name, value in trajectory.items()
        if name != "slots"
    )
    draft = path.with_suffix(".tmp")
    draft.write_text(f'{{\n{head} "slots": {{\n{slots}\n }}\n}}\n', encoding="utf-8")
    os.replace(draft, path)
    return path


if __name__ == "__main__":
    for name in sys.argv[1:] or dtmarl.scenarios():
        print(write(golden_trajectory(name)))
