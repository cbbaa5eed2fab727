"""What holds forgetting back, and what the twin's data add: one choice changed at a time.

    python eval/update_choices.py --base runs/base [--users 6] [--steps 3] [--out FILE.json]
    python eval/update_choices.py --show FILE.json    # runs nothing

Several users go through several contexts. At each one a user is retrained on uploaded images of
the context's mix and on as many of the mix that the twin chooses by eq (8) from the uploads
before. After each retraining: accuracy on that context (learning), on the next one before
anything of it was seen, and on all classes alike (keeping). Every variant sees the same contexts,
images of the same classes and random numbers, so that differences are paired by user; intervals
are over users. Finished variants are kept: a killed run goes on.
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
from dtmarl.evaluation.statistics import mean_estimate
from dtmarl.evaluation.table import per_cent
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
    """Accuracies of each user before any update and after each, [users][steps]."""
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
    alike = np.full(num_classes, 1.0 / num_classes)
    rows: dict[str, list[Any]] = {name: [] for name in FIGURES}
    started = time.perf_counter()
    for step in range(steps):
        now, coming = mixes[None, :, step], mixes[None, :, step + 1]
        twin_mix = generator.generated_mix(store.class_mix(counts), library)
        if changes.get("uniform"):
            twin_mix = np.zeros_like(twin_mix) + alike
        real = changes.get("real", 1.0) * uploads * now
        recall = engine.update(
            recall, real, changes.get("twin", 1.0) * uploads * twin_mix, noise[step + 1]
        )
        counts = store.add_images(counts, real, config.twin.store_images)
        for name, mix in (("context", now), ("next_context", coming), ("all_classes", alike)):
            rows[name].append((recall * mix).sum(-1)[0])
    base_recall = np.array(engine.base_recall)
    untrained = {
        "context": (base_recall * mixes[:, :steps]).sum(-1),
        "next_context": (base_recall * mixes[:, 1:]).sum(-1),
        "all_classes": np.full((users, steps), base_recall.mean()),
    }
    seconds = round(time.perf_counter() - started, 1)
    return {
        "after": {
            name: np.stack(values, axis=1).round(4).tolist() for name, values in rows.items()
        },
        "untrained": {name: values.round(4).tolist() for name, values in untrained.items()},
        "seconds": seconds,
    }


def to_markdown(results: dict[str, Any]) -> str:
    """Means over steps and users, and differences from the default paired by user, in per cent."""
    lines = [
        "| images | variant | its context (%) | the next context (%) | all classes (%) |",
        "|---|---|---|---|---|",
    ]
    for size, variants in results["uploads"].items():
        if not variants:
            continue
        default = variants["default"]

        def by_user(values: Any) -> np.ndarray:
            return np.array(values).mean(axis=1)

        shown = {"never retrained": default["untrained"]}
        shown |= {name: result["after"] for name, result in variants.items()}
        for name, figures in shown.items():
            cells = []
            for figure in FIGURES:
                mine = by_user(figures[figure])
                cell = f"{100 * mine.mean():.1f}"
                if name != "default":
                    gap = mean_estimate(mine - by_user(default["after"][figure]))
                    cell += f" ({per_cent(gap)})"
                cells.append(cell)
            lines.append(f"| {size} ({UPLOADS[size]}) | {name} | {' | '.join(cells)} |")
    origin = results["origin"]
    lines += ["", f"{origin['users']} users, {origin['steps']} contexts each; in brackets the "]
    lines[-1] += "difference from the default in points, paired by user, with its 95 % interval."
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is missing, write after each variant, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, help="base folder; needed to run")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--show", type=Path, metavar="FILE", help="show it, run nothing")
    options = parser.parse_args()
    if options.show is None and options.base is None:
        parser.error("expected --base FOLDER, as train/train_base.py writes it, or --show FILE")
    try:
        if options.show is not None:
            print(to_markdown(json.loads(options.show.read_text())), end="")
            return 0
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
    except (KeyError, TypeError) as error:
        parser.error(f"{options.show or options.out}: expected results of this program: {error!r}")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(to_markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
