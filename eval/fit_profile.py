"""Fit the accuracy profile to the retraining measurements and say how good it is.

    python eval/fit_profile.py          # reads train/results/, writes dtmarl/accuracy/data/
    python eval/fit_profile.py --check  # changes nothing; fails if the packaged profile is stale

Coefficients are fitted to the measurements that are not held out, by least squares on recall after
an update given the measured recall before. Held-out errors are reported for single updates and for
whole chains predicted from the base network's recall alone.
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
from scipy.optimize import least_squares

from dtmarl.accuracy.profile import FORMAT, UPDATE_KINDS, UpdateCoefficients, logit, moved_logit
from dtmarl.evaluation.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = ROOT / "train" / "results" / "retraining_measurements.json"
PROFILE = ROOT / "dtmarl" / "accuracy" / "data" / "profile.json"
DIGITS = 5

# name: start, least and greatest value; positive ones are searched on a log scale.
SEARCH = {
    "twin_weight": (0.8, 0.05, 5.0),
    "samples_scale": (50.0, 1.0, 1e5),
    "samples_exponent": (0.7, 0.3, 3.0),
    "shift": (-0.1, -3.0, 3.0),
    "share_slope": (1.0, 0.0, 10.0),
    "share_floor": (0.01, 1e-4, 1.0),
}
LOG_SCALE = ("twin_weight", "samples_scale", "samples_exponent", "share_floor")


class Updates(NamedTuple):
    """Measured updates of one kind, one row each."""

    chains: list[str]
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
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: expected retraining measurements, got {error!r}") from error
    return stored


def select(stored: dict[str, Any], kind: str, *, held_out: bool) -> Updates:
    """The measured updates of a kind, held out or not, in the recipe that the profile is for."""
    norm = "batch" if kind == "full-scratch" else "frozen"
    rows = [
        record
        for record in stored["records"]
        if record["mode"] == kind
        and record["batch_norm"] == norm
        and (record["split"] == "held_out") == held_out
    ]
    columns = (
        np.array([record[name] for record in rows], float).reshape(len(rows), -1)
        for name in ("mix", "real", "twin", "before", "after")
    )
    return Updates([record["chain"] for record in rows], *columns)


def rival_matrix(confusion: np.ndarray) -> np.ndarray:
    """How the base network's errors on each class spread over the others, rows summing to 1."""
    errors = confusion * (1.0 - np.eye(len(confusion)))
    return errors / errors.sum(axis=1, keepdims=True)


def recall_of(value: np.ndarray) -> np.ndarray:
    """Recall of a logit."""
    return 1.0 / (1.0 + np.exp(-value))


def predict(
    kind: str,
    updates: Updates,
    base: np.ndarray,
    rivals: np.ndarray,
    coefficients: UpdateCoefficients,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted recall [n, K] after each update, and how far each update gets [n, K]."""
    if kind == "incremental":
        start = logit(updates.before)
    elif kind == "full-base":
        start = np.broadcast_to(base, updates.before.shape)
    else:
        start = logit(np.zeros_like(updates.before))
    moved, reach = moved_logit(start, base, rivals, updates.real, updates.twin, coefficients)
    return recall_of(moved), reach


def fit(
    kind: str, updates: Updates, base: np.ndarray, rivals: np.ndarray, twin_weight: float | None
) -> UpdateCoefficients:
    """Least-squares coefficients; a given ``twin_weight`` is kept."""
    names = [name for name in SEARCH if name != "twin_weight" or twin_weight is None]

    def scaled(name: str, value: float) -> float:
        return math.log(value) if name in LOG_SCALE else value

    def coefficients(point: np.ndarray) -> UpdateCoefficients:
        values = {} if twin_weight is None else {"twin_weight": twin_weight}
        for name, value in zip(names, point.tolist(), strict=True):
            values[name] = math.exp(value) if name in LOG_SCALE else value
        return UpdateCoefficients(residual_std=0.0, **values)

    def residuals(point: np.ndarray) -> np.ndarray:
        predicted, _ = predict(kind, updates, base, rivals, coefficients(point))
        return (predicted - updates.after).ravel()

    start, low, high = (
        [scaled(name, SEARCH[name][column]) for name in names] for column in range(3)
    )
    found = least_squares(residuals, start, bounds=(low, high), xtol=1e-10, ftol=1e-10)
    best = coefficients(found.x)
    predicted, reach = predict(kind, updates, base, rivals, best)
    # A logit error σ√κ is a recall error ρ(1 − ρ)σ√κ: match the sums of squares.
    sensitivity = predicted * (1.0 - predicted) * np.sqrt(reach)
    std = math.sqrt(((predicted - updates.after) ** 2).sum() / (sensitivity**2).sum())
    values = asdict(best) | {"residual_std": std}
    return UpdateCoefficients(**{name: float(f"{v:.{DIGITS}g}") for name, v in values.items()})


def mean_errors(updates: Updates, predicted: np.ndarray) -> dict[str, float | int]:
    """Mean absolute errors of recall, of accuracy on the training mix and on the uniform mix."""
    error = predicted - updates.after
    return {
        "updates": len(error),
        "recall_mae": round(float(np.abs(error).mean()), 4),
        "mix_accuracy_mae": round(float(np.abs((error * updates.mix).sum(axis=1)).mean()), 4),
        "uniform_accuracy_mae": round(float(np.abs(error.mean(axis=1)).mean()), 4),
    }


def roll_out(
    updates: Updates, base: np.ndarray, rivals: np.ndarray, coefficients: UpdateCoefficients
) -> np.ndarray:
    """Predicted recall along each chain, from the first measured recall alone."""
    predicted = np.empty_like(updates.after)
    for i, chain in enumerate(updates.chains):
        new = i == 0 or updates.chains[i - 1] != chain
        before = updates.before[i] if new else predicted[i - 1]
        one = Updates([chain], *(column[i : i + 1] for column in updates[1:]))
        one = one._replace(before=before[None])
        predicted[i] = predict("incremental", one, base, rivals, coefficients)[0][0]
    return predicted


def initial_scatter(stored: dict[str, Any]) -> float:
    """Spread in logit between models updated on different uniform samples, pooled over classes."""
    rows = [record["after"] for record in stored["records"] if record["split"] == "scatter"]
    if len(rows) < 3:
        raise ValueError(f"expected at least 3 scatter measurements, got {len(rows)}")
    return float(np.sqrt(logit(np.array(rows)).var(axis=0, ddof=1).mean()))


def build_profile(path: Path) -> dict[str, Any]:
    """Fit everything; returns the content of the profile file."""
    stored = read_measurements(path)
    report = stored["provenance"]["base"]
    rivals = np.round(rival_matrix(np.array(report["confusion"], float)), 6)
    # Updates were measured on a part of the test images; logits there are relative to the base's.
    base = logit(np.array(stored["provenance"]["base_recall_subset"]))
    coefficients: dict[str, UpdateCoefficients] = {}
    errors: dict[str, Any] = {}
    for kind in UPDATE_KINDS:
        # Full retraining was measured on real images only; a twin image keeps its worth.
        weight = coefficients["incremental"].twin_weight if coefficients else None
        fitted = select(stored, kind, held_out=False)
        held_out = select(stored, kind, held_out=True)
        if not fitted.chains or not held_out.chains:
            raise ValueError(
                f"{path}: expected {kind} updates to fit and held out, got "
                f"{len(fitted.chains)} and {len(held_out.chains)}"
            )
        best = coefficients[kind] = fit(kind, fitted, base, rivals, weight)
        errors[kind] = {
            "fit": mean_errors(fitted, predict(kind, fitted, base, rivals, best)[0]),
            "held_out": mean_errors(held_out, predict(kind, held_out, base, rivals, best)[0]),
            "held_out_if_unchanged": mean_errors(held_out, held_out.before),
        }
        if kind == "incremental":
            rolled = roll_out(held_out, base, rivals, best)
            errors[kind]["held_out_chains"] = mean_errors(held_out, rolled)
    return {
        "format": FORMAT,
        "classes": report["classes"],
        "base_recall": report["recall"],
        "rivals": rivals.tolist(),
        "initial_std": float(f"{initial_scatter(stored):.{DIGITS}g}"),
        "coefficients": {kind: asdict(values) for kind, values in coefficients.items()},
        "errors": errors,
        "source": {
            "measurements": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "updates": len(stored["records"]),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measurements", type=Path, default=MEASUREMENTS)
    parser.add_argument("--out", type=Path, default=PROFILE)
    parser.add_argument("--check", action="store_true", help="compare with --out, write nothing")
    args = parser.parse_args(argv)
    try:
        profile = build_profile(args.measurements)
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
            print("   ", part, values)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
