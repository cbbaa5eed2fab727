"""The profile engine beside the real one: the same seeds, schemes and agents under both.

    python eval/validate_profile.py --real eval/results/real_retraining.json --out FILE.json

Reads episodes that ``eval/real_retraining.py`` played with real networks, plays each of them again
with the profile, and compares accuracy, retrain decisions and break-outs user by user. Also feeds
every real retraining to the profile by itself: the error of one update, without its consequences.
Each comparison is made with the packaged profile, and with its base recall replaced by the one
measured on the real engine's test images, which takes the error of that small sample away.
``--replica`` names real episodes of another ``--training-seed``: how far the real engine agrees
with itself in the same worlds is what a profile can reach.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import dtmarl
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import mean_estimate
from dtmarl.evaluation.traces import trace

RESULTS = Path(__file__).parent / "results" / "profile_validation.json"
FIGURES = {
    "accuracy_error": "mean absolute difference of accuracy, user-slots",
    "curve_error": "the same of the users' mean, slot by slot",
    "decision_agreement": "user-frames with the same retrain decision",
    "chance_agreement": "the same for decisions drawn at random at both engines' rates",
    "breakout_agreement": "user-slots in which both break out, or neither",
    "accuracy_real": "mean accuracy, real engine",
    "accuracy_profile": "mean accuracy, profile (or replica)",
    "breakout_rate_real": "break-out rate, real engine",
    "breakout_rate_profile": "break-out rate, profile (or replica)",
    "retrain_rate_real": "user-slots under retraining, real engine",
    "retrain_rate_profile": "user-slots under retraining, profile (or replica)",
    "update_recall_error": "one update: mean absolute error of recall, by class",
    "update_accuracy_error": "one update: mean absolute error of accuracy on the trained mix",
    "update_accuracy_change": "one update: mean absolute change of that accuracy, for scale",
}
TRACES = ("present", "accuracy", "breakout", "retrain")
Run = dict[str, Any]


def read_runs(path: Path) -> tuple[dict[str, Any], list[Run]]:
    """Origin and episodes of a file that ``eval/real_retraining.py`` wrote.

    Raises:
        ValueError: it is not one, or has no episode.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        origin, runs = content["origin"], content["runs"]
        lengths = {len(run[name]) for run in runs for name in TRACES}
        if len(lengths) != 1:
            raise ValueError(f"expected episodes of one length, got {sorted(lengths)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected results of real_retraining.py: {error!r}") from error
    return origin, runs


def compare(real: Run, fast: Run, slots_per_decision: int) -> dict[str, float]:
    """How two episodes of the same world agree; chance agreement comes from their two rates."""
    present = np.array(real["present"], bool)
    values = [{name: np.array(run[name], float) for name in TRACES} for run in (real, fast)]
    mine, theirs = values
    gap = np.abs(mine["accuracy"] - theirs["accuracy"])[present]
    curves = [(v["accuracy"] * present).sum(1) / present.sum(1) for v in values]
    decided = present[::slots_per_decision]
    retrain = [v["retrain"][::slots_per_decision][decided] for v in values]
    rates = [part.mean() for part in retrain]
    result = {
        "accuracy_error": gap.mean(),
        "curve_error": np.abs(curves[0] - curves[1]).mean(),
        "decision_agreement": (retrain[0] == retrain[1]).mean(),
        "chance_agreement": rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1]),
        "breakout_agreement": (mine["breakout"] == theirs["breakout"])[present].mean(),
    }
    for name, part in (
        ("accuracy", "accuracy"),
        ("breakout_rate", "breakout"),
        ("retrain_rate", "retrain"),
    ):
        result[f"{name}_real"] = mine[part][present].mean()
        result[f"{name}_profile"] = theirs[part][present].mean()
    return {name: float(value) for name, value in result.items()}


def update_errors(runs: Sequence[Run], engine: ProfileEngine) -> dict[str, float]:
    """Expected recall after each real retraining by the profile, against what came out."""
    recall_errors, accuracy_errors, changes = [], [], []
    for update in (update for run in runs for update in run["updates"]):
        before, after, real, twin = (
            np.array(update[name], float)[None, None]
            for name in ("before", "after", "real", "twin")
        )
        expected = engine.update(before, real, twin, np.zeros_like(before), mode=update["mode"])
        mix = real / real.sum() if real.sum() > 0 else twin / twin.sum()
        recall_errors.append(np.abs(expected - after).mean())
        accuracy_errors.append(abs((mix * (expected - after)).sum()))
        changes.append(abs((mix * (after - before)).sum()))
    if not changes:
        return {}
    return {
        "update_recall_error": float(np.mean(recall_errors)),
        "update_accuracy_error": float(np.mean(accuracy_errors)),
        "update_accuracy_change": float(np.mean(changes)),
    }


def validate(
    origin: dict[str, Any], runs: Sequence[Run], replicas: Sequence[Run] = ()
) -> dict[str, Any]:
    """By what is compared ("packaged", "rebased", "replica") and scheme: mean and interval."""
    config = ScenarioConfig().replace(**origin["scenario"])
    packaged = ProfileEngine.load()
    result: dict[str, Any] = {}
    by_key = {(run["scheme"], run["seed"]): run for run in replicas}
    for label in ("packaged", "rebased", *(["replica"] if replicas else [])):
        result[label] = {}
        for scheme in dict.fromkeys(run["scheme"] for run in runs):
            chosen = [run for run in runs if run["scheme"] == scheme]
            engine = packaged
            if label == "rebased":
                kept = np.clip(chosen[0]["base_recall"], 1e-3, 1 - 1e-3)
                engine = replace(packaged, base_recall=tuple(kept.tolist()))
            if label == "replica":
                chosen = [run for run in chosen if (scheme, run["seed"]) in by_key]
                others = [by_key[scheme, run["seed"]] for run in chosen]
            else:
                others = [
                    trace(config, origin["policy"], scheme, run["seed"], engine) for run in chosen
                ]
            if not chosen:
                continue
            period = dtmarl.SCHEMES[scheme].slots_per_decision(config)
            compared = [compare(*pair, period) for pair in zip(chosen, others, strict=True)]
            result[label][scheme] = {
                "seeds": [run["seed"] for run in chosen],
                "updates": sum(len(run["updates"]) for run in chosen),
                **{
                    name: mean_estimate([one[name] for one in compared]).to_dict()
                    for name in compared[0]
                },
                **({} if label == "replica" else update_errors(chosen, engine)),
            }
    return result


def to_markdown(result: dict[str, Any]) -> str:
    """One table: figures by row, what is compared by column."""
    columns = [(label, scheme) for label, schemes in result.items() for scheme in schemes]
    lines = ["| | " + " | ".join(f"{scheme}, {label}" for label, scheme in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for name, meaning in FIGURES.items():
        cells = []
        for label, scheme in columns:
            value = result[label][scheme].get(name)
            number = value["value"] if isinstance(value, dict) else value
            cells.append("–" if number is None else f"{number:.3f}")
        lines.append(f"| {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Read, play, compare, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="file of real_retraining.py")
    parser.add_argument("--replica", type=Path, help="the same with another --training-seed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        origin, runs = read_runs(options.real)
        replicas: list[Run] = []
        if options.replica is not None:
            replica_origin, replicas = read_runs(options.replica)
            differing = {k for k in origin if origin[k] != replica_origin.get(k)}
            if differing != {"training_seed"}:
                raise ValueError(
                    f"{options.replica}: expected runs that differ in training_seed alone, "
                    f"they differ in {sorted(differing)}"
                )
        result = validate(origin, runs, replicas)
        content = {"figures": FIGURES, "origin": origin, "profiles": result}
        write_atomically(options.out, json.dumps(content, indent=1) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(result), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
