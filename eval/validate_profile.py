"""The profile engine beside the real one: the same seeds, schemes and agents under both.

    python eval/validate_profile.py [--real FILE.json] [--replica FILE.json] [--pictures docs]
    python eval/validate_profile.py --show FILE.json    # plays nothing

Reads episodes that ``eval/real_retraining.py`` played with real networks, none of which the profile
was fitted to, plays each of them again with the profile, and compares accuracy, retrain decisions
and break-outs user by user. Also feeds every real retraining to the profile by itself: the error of
one update, without its consequences. ``--replica`` names real episodes of another
``--training-seed``: how far the real engine agrees with itself in the same worlds is what a profile
can reach.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dtmarl
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.accuracy.recording import TRACES, read_episodes
from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.statistics import mean_estimate, mean_interval
from dtmarl.evaluation.traces import trace

REAL = Path(__file__).parent / "results" / "real_retraining.json"
RESULTS = REAL.with_name("profile_validation.json")
FIGURES = {
    "accuracy_error": "mean absolute difference of accuracy, user-slots",
    "curve_error": "the same of the users' mean, slot by slot",
    "decision_agreement": "user-frames with the same retrain decision",
    "chance_agreement": "the same for decisions drawn at random at both engines' rates",
    "margin_differing": "distance of the accuracy before from C̄, median, decisions that differ",
    "margin_alike": "the same, decisions alike",
    "breakout_agreement": "user-slots in which both break out, or neither",
    "accuracy_real": "mean accuracy, real engine",
    "accuracy_profile": "mean accuracy, profile (or replica)",
    "breakout_rate_real": "break-out rate, real engine",
    "breakout_rate_profile": "break-out rate, profile (or replica)",
    "retrain_rate_real": "user-slots under retraining, real engine",
    "retrain_rate_profile": "user-slots under retraining, profile (or replica)",
    "lead_real": "accuracy, proposed minus this scheme, same seeds, real engine",
    "lead_profile": "the same, profile (or replica)",
    "lead_error": "the second minus the first",
    "update_recall_error": "one update: mean absolute error of recall, by class",
    "update_accuracy_error": "one update: mean absolute error of accuracy on the trained mix",
    "update_accuracy_change": "one update: mean absolute change of that accuracy, for scale",
}
Run = dict[str, Any]


def curve(run: Run) -> np.ndarray:
    """Mean accuracy of the users of each slot, [T]."""
    present = np.array(run["present"], float)
    return np.asarray((np.array(run["accuracy"]) * present).sum(1) / present.sum(1))


def compare(real: Run, fast: Run, slots_per_decision: int) -> dict[str, float]:
    """How two episodes of the same world agree; chance agreement comes from their two rates."""
    present = np.array(real["present"], bool)
    values = [{name: np.array(run[name], float) for name in TRACES} for run in (real, fast)]
    mine, theirs = values
    gap = np.abs(mine["accuracy"] - theirs["accuracy"])[present]
    curves = [curve(run) for run in (real, fast)]
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


def margins(pairs: Sequence[tuple[Run, Run]], period: int, threshold: float) -> dict[str, float]:
    """How close to C̄ a user's real accuracy was before decisions that differ, and that do not."""
    distances: dict[bool, list[float]] = {True: [], False: []}
    for real, fast in pairs:
        present, accuracy = np.array(real["present"], bool), np.array(real["accuracy"], float)
        differs = np.array(real["retrain"]) != np.array(fast["retrain"])
        for slot in range(period, len(accuracy), period):
            before = np.abs(accuracy[slot - period : slot].mean(axis=0) - threshold)
            for user in np.flatnonzero(present[slot] & present[slot - period]):
                distances[bool(differs[slot, user])].append(before[user])
    named = {"margin_differing": distances[True], "margin_alike": distances[False]}
    return {name: float(np.median(values)) for name, values in named.items() if values}


def leads(mine: dict[int, Any], theirs: dict[int, Any]) -> dict[str, Any]:
    """How far one scheme's accuracy is above another's under both engines, paired by seed."""
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return {}
    real, fast = (
        np.array([mine[seed][name] - theirs[seed][name] for seed in seeds])
        for name in ("accuracy_real", "accuracy_profile")
    )
    named = {"lead_real": real, "lead_profile": fast, "lead_error": fast - real}
    return {name: mean_estimate(values).to_dict() for name, values in named.items()}


def validate(
    origin: dict[str, Any], runs: Sequence[Run], replicas: Sequence[Run] = ()
) -> dict[str, Any]:
    """By what is compared ("profile", "replica") and scheme: means and intervals, and curves."""
    config = ScenarioConfig().replace(**origin["scenario"])
    engine = ProfileEngine.load()
    again = {(run["scheme"], run["seed"]): run for run in replicas}
    result: dict[str, Any] = {}
    for label in ("profile", *(["replica"] if replicas else [])):
        result[label] = {}
        by_seed: dict[str, dict[int, Any]] = {}
        for scheme in dict.fromkeys(run["scheme"] for run in runs):
            chosen = [run for run in runs if run["scheme"] == scheme]
            if label == "replica":
                chosen = [run for run in chosen if (scheme, run["seed"]) in again]
                others = [again[scheme, run["seed"]] for run in chosen]
            else:
                others = [
                    trace(config, origin["policy"], scheme, run["seed"], engine) for run in chosen
                ]
            if not chosen:
                continue
            period = dtmarl.SCHEMES[scheme].slots_per_decision(config)
            pairs = list(zip(chosen, others, strict=True))
            compared = [compare(*pair, period) for pair in pairs]
            by_seed[scheme] = {run["seed"]: one for run, one in zip(chosen, compared, strict=True)}
            lead = (
                {} if scheme == "proposed" else leads(by_seed.get("proposed", {}), by_seed[scheme])
            )
            result[label][scheme] = {
                "seeds": [run["seed"] for run in chosen],
                "updates": sum(len(run["updates"]) for run in chosen),
                **{
                    name: mean_estimate([one[name] for one in compared]).to_dict()
                    for name in compared[0]
                },
                **margins(pairs, period, config.learning.accuracy_threshold),
                **lead,
                **({} if label == "replica" else update_errors(chosen, engine)),
                "curves": {
                    "real": np.round([curve(run) for run in chosen], 4).tolist(),
                    label: np.round([curve(run) for run in others], 4).tolist(),
                },
            }
    return result


def to_markdown(result: dict[str, Any]) -> str:
    """One table: figures by row, what is compared by column."""
    columns = [(label, scheme) for label, schemes in result.items() for scheme in schemes]
    heads = [f"{s}, {label}, {len(result[label][s]['seeds'])} seeds" for label, s in columns]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
    for name, meaning in FIGURES.items():
        cells = []
        for label, scheme in columns:
            value = result[label][scheme].get(name)
            if isinstance(value, dict):
                bounds = [value["low"], value["high"]]
                shown = "" if None in bounds else " [{:.3f}, {:.3f}]".format(*bounds)
                cells.append(f"{value['value']:.3f}{shown}")
            else:
                cells.append("–" if value is None else f"{value:.3f}")
        lines.append(f"| {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], path: Path) -> None:
    """Accuracy over slots under both engines, a panel for each scheme, with 95 % bands."""
    from matplotlib.figure import Figure

    schemes = result["profile"]
    rows = -(-len(schemes) // 2)
    figure = Figure(figsize=(9.0, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, min(2, len(schemes)), sharey=True, sharex=True, squeeze=False)
    for axes, (scheme, compared) in zip(panels.flat, schemes.items(), strict=False):
        for name, colour, line in (("real", "#0072B2", "-"), ("profile", "#D55E00", "--")):
            values = np.array(compared["curves"][name])
            axes.plot(values.mean(0), line, color=colour, label=name)
            low, high = mean_interval(values, num_resamples=1999)
            if np.isfinite(low).all():
                axes.fill_between(
                    np.arange(len(low)), low, high, color=colour, alpha=0.14, linewidth=0
                )
        axes.set_title(f"{scheme}, {len(compared['seeds'])} seeds", fontsize=9, loc="left")
    for axes in panels.flat[len(schemes) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("slot")
    for row in panels:
        row[0].set_ylabel("accuracy")
    panels[0, 0].legend(frameon=False, fontsize=9, ncols=2, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the episodes and compare."""
    real = read_episodes(options.real)
    replicas: list[Run] = []
    if options.replica is not None:
        other = read_episodes(options.replica)
        keys = real["origin"].keys() | other["origin"].keys()
        differing = {k for k in keys if real["origin"].get(k) != other["origin"].get(k)}
        if differing != {"training_seed"}:
            raise ValueError(
                f"{options.replica}: expected runs that differ in training_seed alone, they "
                f"differ in {sorted(differing)}"
            )
        replicas = other["runs"]
    return {
        "figures": FIGURES,
        "origin": real["origin"],
        "engines": validate(real["origin"], real["runs"], replicas),
    }


def main() -> int:
    """Read, play, compare, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, default=REAL, help="file of real_retraining.py")
    parser.add_argument("--replica", type=Path, help="the same with another --training-seed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to draw")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show it, play nothing")
    options = parser.parse_args()
    try:
        if options.show is not None:
            content = json.loads(options.show.read_text(encoding="utf-8"))
        else:
            content = run(options)
            write_atomically(options.out, json.dumps(content) + "\n")
        print(to_markdown(content["engines"]), end="")
        if options.pictures is not None:
            draw(content["engines"], options.pictures / "real_retraining_profile.png")
    except (KeyError, TypeError) as error:
        parser.error(f"{options.show}: expected results of this program: {error!r}")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
