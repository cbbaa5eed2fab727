"""What a retraining saves, and what a controller that weighs saving and cost makes of it.

    python eval/retraining_value.py                   # measures, writes the JSON, prints Markdown
    python eval/retraining_value.py --show FILE.json  # prints what is there, runs nothing

First, on seeds of their own, users are retrained at random, and the accuracy that each retraining
adds to the next frame (both models on that frame's true class mix) is fitted to what the twin knew:
these are the coefficients in `dtmarl.frame.planned`. Then the threshold rule (15), the same rule
with other thresholds, and `planned` at several prices play the same worlds, all with the exact
association; at a price of 1 the mean constraint alone decides. Break-outs are always counted
against the scenario's C̄.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dtmarl
from dtmarl.cli.arguments import seeds as read_seeds
from dtmarl.evaluation.files import write_atomically
from dtmarl.frame.planned import Planned, saving_features
from dtmarl.physics.learning import update_plan

RESULTS = Path(__file__).parent / "results"
POLICY = "root-balanced"
MARGINS = (-0.03, -0.02, -0.01)
PRICES = (0.003, 0.004, 0.006, 1.0)
METRICS = ("system_delay_s", "accuracy", "breakout_rate", "retrain_rate")
_CHANCES = (0.6, 0.15)  # of a random retraining, forecast at most C̄ or above it


class RandomRetraining:
    """Retrains at random, and keeps what the twin showed."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.views: list[dtmarl.TwinView] = []
        self.retrained: list[np.ndarray] = []
        self.associate = dtmarl.Scheme(association="exact")

    def slots_per_decision(self, config: dtmarl.ScenarioConfig) -> int:
        """S."""
        return config.slots_per_frame

    def holds_actions(self) -> bool:
        """False."""
        return False

    def decide(self, config: dtmarl.ScenarioConfig, view: dtmarl.TwinView) -> dtmarl.FrameDecision:
        """Associate as if the threshold rule decided, retrain at random."""
        below = view.forecast_accuracy <= config.learning.accuracy_threshold
        chance = np.where(below, *_CHANCES)
        retrain = view.present_mask & (self.generator.random(chance.shape) < chance)
        self.views.append(view)
        self.retrained.append(retrain)
        decision = self.associate.decide(config, view)
        return dtmarl.FrameDecision(
            association_mask=decision.association_mask, retrain_mask=retrain
        )


def savings(scenario: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, 3] and measured savings [n] of an episode's retrainings."""
    controller = RandomRetraining(seed)
    env = dtmarl.parallel_env(scenario, controller=controller)
    config = env.unwrapped.config
    policy = dtmarl.POLICIES[POLICY]()
    policy.reset(config, seed)
    observations, _ = env.reset(seed=seed)
    recall, mix = [], []
    while env.agents:
        state = env.unwrapped.snapshot
        if state.slot % config.slots_per_frame == 0:
            recall.append(state.recall[0])
            mix.append(state.frame.class_mix[:, 0].mean(axis=0))
        observations, *_ = env.step(policy.act({a: observations[a] for a in env.agents}))
    plan = update_plan("incremental", config.learning)
    features, saved = [], []
    for f in range(len(recall) - 1):
        some = controller.retrained[f][0] & controller.views[f + 1].present_mask[0]
        features.append(saving_features(config, controller.views[f], plan)[0][some])
        saved.append(((recall[f + 1] - recall[f]) * mix[f + 1]).sum(axis=-1)[some])
    return np.concatenate(features), np.concatenate(saved)


def fit(scenario: str, seeds: list[int]) -> dict[str, Any]:
    """Least squares of the savings on their features, with the errors' spread."""
    parts = [savings(scenario, seed) for seed in seeds]
    features, saved = (np.concatenate(part) for part in zip(*parts, strict=True))
    weights, *_ = np.linalg.lstsq(features, saved, rcond=None)
    expected = features @ weights
    return {
        "seeds": [seeds[0], seeds[-1] + 1],
        "retrainings": int(saved.size),
        "mean_saving": float(saved.mean()),
        "coefficients": [float(w) for w in weights],
        "correlation": float(np.corrcoef(expected, saved)[0, 1]),
        "residual_std": float((saved - expected).std()),
    }


def controllers() -> dict[str, Planned]:
    """The rows, the threshold rule first; a constant saving makes `Planned` a threshold rule."""
    rule = Planned(
        price_per_s=0.0, margin=0.0, saving_offset=1.0, saving_share=0.0, saving_share_per_frame=0.0
    )
    rows = {"threshold C̄ (15)": rule}
    rows |= {f"threshold C̄ − {-m:.2f}": rule.replace(margin=m) for m in MARGINS[::-1]}
    rows |= {f"planned, {p:g} per s": Planned(price_per_s=p) for p in PRICES}
    return rows


def compare(scenario: str, seeds: list[int], workers: int) -> dict[str, Any]:
    """Metrics of each row with intervals, and paired differences to the first row."""
    rows: dict[str, Any] = {}
    first = None
    for label, controller in controllers().items():
        report = dtmarl.evaluate(
            POLICY, scenario, seeds=seeds, controller=controller, workers=workers,
            progress=sys.stderr.isatty(),
        )  # fmt: skip
        first = first or report
        rows[label] = {
            name: {
                "mean": report.mean(name),
                "difference": report.difference(first, name).to_dict(),
            }
            for name in METRICS
        }
    return rows


def markdown(content: dict[str, Any]) -> str:
    """The fit in a sentence and the comparison as a table."""
    found = content["fit"]
    a, b, c = found["coefficients"]
    lines = [
        f"Saving = {a:.4f} + ({b:.4f} + {c:.4f}·age)·(attainable − forecast), fitted to "
        f"{found['retrainings']} retrainings (correlation {found['correlation']:.2f}, residual "
        f"{100 * found['residual_std']:.1f} points; a retraining saves "
        f"{100 * found['mean_saving']:.1f} points on average).",
        "",
        f"{content['scenario']}, {POLICY}, {len(content['seeds'])} seeds, exact association; in "
        "brackets the difference to the first row with its paired 95 % interval:",
        "",
        "| frame layer | delay (s) | accuracy (%) | break-outs (%) | retrained (%) |",
        "|---|---|---|---|---|",
    ]
    for label, row in content["rows"].items():
        cells = []
        for name in METRICS:
            scale = 1.0 if name == "system_delay_s" else 100.0
            mean, change = row[name]["mean"] * scale, row[name]["difference"]
            cell = f"{mean:.2f}"
            if any(change.values()):
                low, high = change["low"] * scale, change["high"] * scale
                cell += f" ({change['value'] * scale:+.2f} [{low:+.2f}, {high:+.2f}])"
            cells.append(cell)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="paper-v0")
    parser.add_argument("--seeds", type=read_seeds, default=list(range(40)))
    parser.add_argument("--fit-seeds", type=read_seeds, default=list(range(10_000, 10_100)))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: eval/results")
    parser.add_argument("--show", type=Path, help="print this file instead of measuring")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(arguments.show.read_text(encoding="utf-8"))))
        return
    content = {
        "scenario": arguments.scenario,
        "seeds": list(arguments.seeds),
        "fit": fit(arguments.scenario, list(arguments.fit_seeds)),
        "rows": compare(arguments.scenario, list(arguments.seeds), arguments.workers),
    }
    path = arguments.out or RESULTS / f"retraining_value_{arguments.scenario}.json"
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(markdown(content))


if __name__ == "__main__":
    main()
