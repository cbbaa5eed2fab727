"""Fit the accuracy profile to the retraining measurements and say how good it is.

    python eval/fit_profile.py          # reads train/results/, writes dtmarl/accuracy/data/
    python eval/fit_profile.py --check  # changes nothing; fails if the packaged profile is stale

Two kinds of measured updates go in: the designed ones of ``train/measure_retraining.py``, and those
that episodes with real networks brought about (``eval/real_retraining.py`` on seeds of its own), as
sizes, mixes and histories occur there. Coefficients are fitted to those that are not held out, by
least squares on recall after an update given the measured recall before; what is compared is the
mean over the run's luck, as that is what an average run shows; how large the luck is comes from one
update that was repeated with other seeds. Held-out errors are reported for
single updates, by source, and for whole chains predicted from the first measured recall alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
from scipy.optimize import brentq, least_squares

from dtmarl.accuracy.profile import (
    FORMAT,
    UPDATE_KINDS,
    UpdateCoefficients,
    logit,
    luck,
    moved_logit,
)
from dtmarl.accuracy.recording import read_episodes
from dtmarl.evaluation.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = ROOT / "train" / "results" / "retraining_measurements.json"
EPISODES = ROOT / "train" / "results" / "episode_updates.json"
HELD_OUT_SEED = 101
"""Episodes of this seed are held out."""
PROFILE = ROOT / "dtmarl" / "accuracy" / "data" / "profile.json"
DIGITS = 5
SOURCES = ("designed", "episodes")

# name: start, least and greatest value; positive ones are searched on a log scale.
SEARCH = {
    "twin_weight": (0.8, 0.05, 5.0),
    "samples_scale": (50.0, 1.0, 1e5),
    "samples_exponent": (0.7, 0.3, 3.0),
    "shift": (-0.1, -3.0, 3.0),
    "share_slope": (1.0, 0.0, 10.0),
    "share_floor": (0.01, 1e-4, 1.0),
}
MOST_RIVALRY = 0.9
MOST_LUCK = 5.0
DRAWS = 20_000
MIX_WEIGHT = 3.0
"""Of the error of accuracy on the trained mix, beside that of one class: about that of all ten."""
LUCK, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
"""Where and with what weight the mean over a standard normal number is taken."""
LOG_SCALE = ("twin_weight", "samples_scale", "samples_exponent", "share_floor")


class Updates(NamedTuple):
    """Measured updates of one kind, one row each."""

    chains: list[str]
    in_episode: np.ndarray  # [n] bool
    base: np.ndarray  # [n, K] logit of the base network's recall on the same test images
    mix: np.ndarray  # [n, K] class mix that images were drawn from
    real: np.ndarray  # [n, K]
    twin: np.ndarray  # [n, K]
    before: np.ndarray  # [n, K] recall
    after: np.ndarray  # [n, K] recall


def read_measurements(path: Path) -> dict[str, Any]:
    """Read the file of ``train/measure_retraining.py``."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stored["records"][0]["after"], stored["provenance"]["base"]["confusion"]
        stored["provenance"]["weights_sha256"], stored["provenance"]["base_recall_subset"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: expected retraining measurements, got {error!r}") from error
    return stored


def designed_rows(stored: dict[str, Any], kind: str, *, held_out: bool) -> list[dict[str, Any]]:
    """The designed updates of a kind, in the recipe that the profile is for."""
    norm = "batch" if kind == "full-scratch" else "frozen"
    # Updates were measured on a part of the test images.
    base = stored["provenance"]["base_recall_subset"]
    return [
        {**record, "in_episode": False, "base": base}
        for record in stored["records"]
        if record["mode"] == kind
        and record["batch_norm"] == norm
        and (record["split"] == "held_out") == held_out
    ]


def repeated_updates(stored: dict[str, Any]) -> np.ndarray:
    """Recall [n, K] after one and the same update in n runs."""
    rows = [record["after"] for record in stored["records"] if record["split"] == "scatter"]
    if len(rows) < 3:
        raise ValueError(f"expected at least 3 repeats of an update, got {len(rows)}")
    return np.array(rows, float)


def episode_rows(stored: dict[str, Any], kind: str, *, held_out: bool) -> list[dict[str, Any]]:
    """The updates of a kind in episodes, user by user."""
    mode = {"incremental": "incremental", "full-base": "full"}.get(kind)
    rows = [
        {
            **update,
            "chain": f"{run['scheme']}-{run['seed']}-{update['user']}",
            "in_episode": True,
            "base": run["base_recall"],
            "mix": np.array(update["real"]) / max(sum(update["real"]), 1e-9),
        }
        for run in stored["runs"]
        if (run["seed"] == HELD_OUT_SEED) == held_out
        for update in run["updates"]
        if update["mode"] == mode
    ]
    return sorted(rows, key=lambda row: str(row["chain"]))


def to_updates(rows: list[dict[str, Any]]) -> Updates:
    """Rows as arrays."""
    columns = {
        name: np.array([row[name] for row in rows], float)
        for name in ("base", "mix", "real", "twin", "before", "after")
    }
    columns["base"] = logit(columns["base"])
    in_episode = np.array([row["in_episode"] for row in rows], bool)
    return Updates([row["chain"] for row in rows], in_episode, **columns)


def rival_matrix(confusion: np.ndarray) -> np.ndarray:
    """How the base network's errors on each class spread over the others, rows summing to 1."""
    errors = confusion * (1.0 - np.eye(len(confusion)))
    return errors / errors.sum(axis=1, keepdims=True)


def recall_of(value: np.ndarray) -> np.ndarray:
    """Recall of a logit."""
    return 1.0 / (1.0 + np.exp(-value))


def predict(
    kind: str, updates: Updates, rivals: np.ndarray, coefficients: UpdateCoefficients
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean recall [n, K] after each update, the middle one, and how far the update gets."""
    if kind == "incremental":
        start = logit(updates.before)
    elif kind == "full-base":
        start = updates.base
    else:
        start = logit(np.zeros_like(updates.before))
    moved, reach = moved_logit(
        start, updates.base, rivals, updates.real, updates.twin, coefficients
    )
    spread = coefficients.luck_std * np.sqrt(reach)
    mean = sum(w * recall_of(moved + spread * z) for z, w in zip(LUCK, WEIGHTS, strict=True))
    return np.asarray(mean / WEIGHTS.sum()), recall_of(moved), reach


def fit(
    kind: str, updates: Updates, rivals: np.ndarray, kept: dict[str, float]
) -> UpdateCoefficients:
    """Least-squares coefficients; those in ``kept`` stay as they are."""
    names = [name for name in SEARCH if name not in kept]

    def scaled(name: str, value: float) -> float:
        return math.log(value) if name in LOG_SCALE else value

    def coefficients(point: np.ndarray) -> UpdateCoefficients:
        values = {
            name: math.exp(value) if name in LOG_SCALE else value
            for name, value in zip(names, point.tolist(), strict=True)
        }
        return UpdateCoefficients(**(values | kept))

    def residuals(point: np.ndarray) -> np.ndarray:
        error = predict(kind, updates, rivals, coefficients(point))[0] - updates.after
        return np.concatenate([error.ravel(), MIX_WEIGHT * (error * updates.mix).sum(axis=1)])

    point, low, high = (
        [scaled(name, SEARCH[name][column]) for name in names] for column in range(3)
    )
    point = least_squares(residuals, point, bounds=(low, high), xtol=1e-10, ftol=1e-10).x
    values = asdict(coefficients(point))
    return UpdateCoefficients(**{name: float(f"{v:.{DIGITS}g}") for name, v in values.items()})


def fit_luck(repeats: np.ndarray, rivals: np.ndarray) -> dict[str, float]:
    """Size σ and rivalry ω of the luck that tells runs apart which are alike but for their seeds.

    σ is such that recall spreads as it did, ω such that accuracy does: what one class wins from
    another leaves accuracy alone.

    Args:
        repeats: [n, K] recall after the same update in n runs, of so many images that κ = 1.
        rivals: [K, K] matrix W.
    """
    middle = logit(repeats.mean(axis=0))
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(rivals)))

    def excess_of_recall(std: float) -> float:
        outcomes = recall_of(middle + std * noise)
        return float(outcomes.var(axis=0).sum() - repeats.var(axis=0, ddof=1).sum())

    std = float(brentq(excess_of_recall, 0.0, MOST_LUCK))

    def excess_of_accuracy(rivalry: float) -> float:
        outcomes = recall_of(middle + std * luck(noise, rivals, rivalry))
        return float(outcomes.mean(axis=1).var() - repeats.mean(axis=1).var(ddof=1))

    if excess_of_accuracy(0.0) <= 0.0:
        rivalry = 0.0
    elif excess_of_accuracy(MOST_RIVALRY) >= 0.0:
        rivalry = MOST_RIVALRY
    else:
        rivalry = float(brentq(excess_of_accuracy, 0.0, MOST_RIVALRY))
    return {"luck_std": std, "rivalry": rivalry}


def mean_errors(updates: Updates, predicted: np.ndarray) -> dict[str, float | int]:
    """Mean absolute errors of recall, of accuracy on the training mix and on the uniform mix."""
    error = predicted - updates.after
    return {
        "updates": len(error),
        "recall_mae": round(float(np.abs(error).mean()), 4),
        "mix_accuracy_mae": round(float(np.abs((error * updates.mix).sum(axis=1)).mean()), 4),
        "uniform_accuracy_mae": round(float(np.abs(error.mean(axis=1)).mean()), 4),
    }


def part_of(updates: Updates, mask: np.ndarray) -> Updates:
    """The updates where ``mask`` is true."""
    chains = [chain for chain, kept in zip(updates.chains, mask, strict=True) if kept]
    return Updates(chains, *(column[mask] for column in updates[1:]))


def roll_out(updates: Updates, rivals: np.ndarray, coefficients: UpdateCoefficients) -> np.ndarray:
    """Predicted recall along each chain, from the first measured recall alone."""
    predicted = np.empty_like(updates.after)
    for i, chain in enumerate(updates.chains):
        new = i == 0 or updates.chains[i - 1] != chain
        before = updates.before[i] if new else predicted[i - 1]
        one = part_of(updates, np.arange(len(updates.chains)) == i)._replace(before=before[None])
        predicted[i] = predict("incremental", one, rivals, coefficients)[0][0]
    return predicted


def held_out_errors(
    kind: str, updates: Updates, rivals: np.ndarray, coefficients: UpdateCoefficients
) -> dict[str, Any]:
    """Errors on held-out updates of one source."""
    predicted = predict(kind, updates, rivals, coefficients)[0]
    errors: dict[str, Any] = {
        "held_out": mean_errors(updates, predicted),
        "held_out_if_unchanged": mean_errors(updates, updates.before),
    }
    if kind == "incremental":
        errors["held_out_chains"] = mean_errors(updates, roll_out(updates, rivals, coefficients))
    return errors


def build_profile(measurements: Path, episodes: Path) -> dict[str, Any]:
    """Fit everything; returns the content of the profile file."""
    stored, played = read_measurements(measurements), read_episodes(episodes)
    report = stored["provenance"]["base"]
    if played["origin"]["weights_sha256"] != stored["provenance"]["weights_sha256"]:
        raise ValueError(f"{episodes}: expected episodes with the base network of {measurements}")
    rivals = np.round(rival_matrix(np.array(report["confusion"], float)), 6)
    luck_of = fit_luck(repeated_updates(stored), rivals)
    coefficients: dict[str, UpdateCoefficients] = {}
    errors: dict[str, Any] = {}
    for kind in UPDATE_KINDS:
        fitted, held_out = (
            to_updates(
                designed_rows(stored, kind, held_out=part)
                + episode_rows(played, kind, held_out=part)
            )
            for part in (False, True)
        )
        if not fitted.chains or not held_out.chains:
            raise ValueError(
                f"expected {kind} updates to fit and held out in {measurements} and {episodes}, "
                f"got {len(fitted.chains)} and {len(held_out.chains)}"
            )
        # Full retraining was measured on real images only, and on many: a twin image keeps its
        # worth, and few images their effect.
        kept = dict(luck_of)
        if coefficients:
            for name in ("twin_weight", "samples_exponent"):
                kept[name] = getattr(coefficients["incremental"], name)
        best = coefficients[kind] = fit(kind, fitted, rivals, kept)
        errors[kind] = {"fit": mean_errors(fitted, predict(kind, fitted, rivals, best)[0])}
        for name, mask in zip(SOURCES, (~held_out.in_episode, held_out.in_episode), strict=True):
            if mask.any():
                part = part_of(held_out, mask)
                errors[kind][name] = held_out_errors(kind, part, rivals, best)
    return {
        "format": FORMAT,
        "classes": report["classes"],
        "base_recall": report["recall"],
        "rivals": rivals.tolist(),
        "coefficients": {kind: asdict(values) for kind, values in coefficients.items()},
        "errors": errors,
        "source": {
            "measurements": measurements.name,
            "measurements_sha256": hashlib.sha256(measurements.read_bytes()).hexdigest(),
            "episodes": episodes.name,
            "episodes_sha256": hashlib.sha256(episodes.read_bytes()).hexdigest(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measurements", type=Path, default=MEASUREMENTS)
    parser.add_argument("--episodes", type=Path, default=EPISODES)
    parser.add_argument("--out", type=Path, default=PROFILE)
    parser.add_argument("--check", action="store_true", help="compare with --out, write nothing")
    args = parser.parse_args(argv)
    try:
        profile = build_profile(args.measurements, args.episodes)
        text = json.dumps(profile, indent=1) + "\n"
        if args.check:
            if not args.out.is_file() or args.out.read_text(encoding="utf-8") != text:
                raise ValueError(f"{args.out}: is not what these measurements give")
        else:
            write_atomically(args.out, text)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for kind, parts in profile["errors"].items():
        print(kind, profile["coefficients"][kind])
        for part, values in parts.items():
            for name, value in values.items() if part in SOURCES else [("", values)]:
                print("   ", part, name, value)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
