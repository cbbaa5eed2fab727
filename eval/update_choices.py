"""What holds forgetting back, and what the twin's data add: one choice changed at a time.

    python eval/update_choices.py --base runs/base [--users 3] [--steps 5] [--out FILE.json]

Several users go through several contexts. At each one a user is retrained on uploaded images of
the context's mix and on as many of the mix that the twin chooses by eq (8) from the uploads
before. After each retraining: accuracy on that context (learning), on the next one before
anything of it was seen, and on all classes alike (keeping). Every variant sees the same contexts,
images of the same classes and random numbers. Finished variants are kept: a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dtmarl
from dtmarl.accuracy.base_network import BaseNetwork, load_base
from dtmarl.accuracy.resnet18 import ResNet18Engine
from dtmarl.accuracy.training import RECIPES
from dtmarl.evaluation.files import write_atomically
from dtmarl.physics.context import context_library
from dtmarl.twin import generator, store

RESULTS = Path(__file__).parent / "results" / "update_choices.json"
UPLOADS = {"scarce": 60, "plentiful": 300}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no twin images": {"twin": 0.0},
    "uploaded images in their place": {"twin": 0.0, "real": 2.0},
    "twin images of all classes alike": {"uniform": True},
    "learning rate 0.003": {"learning_rate": 0.003},
    "learning rate 0.03": {"learning_rate": 0.03},
    "batch-norm tuned": {"batch_norm": "batch"},
    "momentum 0.9": {"momentum": 0.9},
}
FIGURES = ("context", "next_context", "all_classes")
SEED = 20


def run_variant(
    base: BaseNetwork, uploads: int, changes: dict[str, Any], users: int, steps: int, threads: int
) -> dict[str, Any]:
    """Accuracies before any update and after each, averaged over users, [steps] each."""
    config = dtmarl.scenario("paper-v0")
    library = context_library(config.learning)
    recipe = {k: v for k, v in changes.items() if k in asdict(RECIPES["incremental"])}
    recipes = {**RECIPES, "incremental": replace(RECIPES["incremental"], **recipe)}
    engine = ResNet18Engine(base, recipes=recipes, threads=threads)
    rng = np.random.default_rng(SEED)
    num_classes = library.shape[1]
    mixes = library[[rng.permutation(len(library))[: steps + 1] for _ in range(users)]]
    noise = rng.standard_normal((steps + 1, 1, users, num_classes))
    recall = engine.initial_recall(noise[0])
    counts = np.zeros((1, users, num_classes))
    rows: dict[str, list[float]] = {name: [] for name in FIGURES}
    started = time.perf_counter()
    for step in range(steps):
        now, coming = mixes[None, :, step], mixes[None, :, step + 1]
        twin_mix = generator.generated_mix(store.class_mix(counts), library)
        if changes.get("uniform"):
            twin_mix = np.full_like(twin_mix, 1.0 / num_classes)
        real = changes.get("real", 1.0) * uploads * now
        recall = engine.update(
            recall, real, changes.get("twin", 1.0) * uploads * twin_mix, noise[step + 1]
        )
        counts = store.add_images(counts, real, config.twin.store_images)
        rows["context"].append(float((recall * now).sum(-1).mean()))
        rows["next_context"].append(float((recall * coming).sum(-1).mean()))
        rows["all_classes"].append(float(recall.mean()))
    untrained = {
        "context": float((np.array(engine.base_recall) * mixes[:, :steps]).sum(-1).mean()),
        "next_context": float((np.array(engine.base_recall) * mixes[:, 1:]).sum(-1).mean()),
        "all_classes": float(np.mean(engine.base_recall)),
    }
    seconds = round(time.perf_counter() - started, 1)
    return {"after": rows, "untrained": untrained, "seconds": seconds}


def to_markdown(results: dict[str, Any]) -> str:
    """Means over the steps, in per cent."""
    lines = [
        "| uploads | variant | its context (%) | the next context (%) | all classes (%) |",
        "|---|---|---|---|---|",
    ]
    for size, variants in results["uploads"].items():
        for number, (name, result) in enumerate(variants.items()):
            if number == 0:
                cells = " | ".join(f"{100 * result['untrained'][f]:.1f}" for f in FIGURES)
                lines.append(f"| {size} | never retrained | {cells} |")
            cells = " | ".join(f"{100 * np.mean(result['after'][f]):.1f}" for f in FIGURES)
            lines.append(f"| {size} ({UPLOADS[size]}) | {name} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is missing, write after each variant, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--users", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        base = load_base(options.base)
        origin = {
            "weights_sha256": base.report["weights_sha256"],
            "users": options.users,
            "steps": options.steps,
            "seed": SEED,
        }
        results: dict[str, Any] = {"origin": origin, "uploads": {size: {} for size in UPLOADS}}
        if options.out.exists():
            results = json.loads(options.out.read_text())
            if results.get("origin") != origin:
                raise ValueError(f"{options.out}: made with {results.get('origin')}, not {origin}")
        for size, uploads in UPLOADS.items():
            for name, changes in VARIANTS.items():
                if name in results["uploads"][size]:
                    continue
                result = run_variant(
                    base, uploads, changes, options.users, options.steps, options.threads
                )
                results["uploads"][size][name] = result
                write_atomically(options.out, json.dumps(results, indent=1) + "\n")
                print(f"{size}, {name}: {result['seconds']:.0f} s", file=sys.stderr, flush=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
