"""Measure how the recall per class of the base classifier moves when it is retrained.

A *chain* starts from the base weights and retrains several times in a row, each time on ``n``
images of one class mix; after each step recall per class is measured on a fixed part of the test
images.
Chains come in triplets that share mixes and numbers and differ in origin: real images, twin images
(drawn with replacement from a small store of earlier uploads, augmented), or both. A fifth of the
triplets is held out from fitting. Finished chains are kept: a killed run goes on where it stopped.

    python train/measure_retraining.py --base runs/base --out retraining_measurements.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from dtmarl.accuracy.base_network import choose_device, load_base
from dtmarl.accuracy.classifier import (
    BATCH_NORM_MODES,
    CLASSES,
    build_network,
    recall_per_class,
    train_pass,
)

SIZES = (15, 30, 60, 125, 250, 500, 1000, 2500, 5000)
FULL_SIZES = (250, 500, 1000, 2500, 5000)
ORIGINS = ("real", "twin", "mixed")
STORE_SIZES = (100, 300, 1000)
CHAIN_STEPS = 4
LONG_CHAIN_STEPS = 8
TEST_PER_CLASS = 300
TEST_SEED = 7
RECIPE: dict[str, dict[str, float | int]] = {
    "incremental": {"learning_rate": 0.01, "momentum": 0.0, "batch": 64, "passes": 1},
    "full-base": {"learning_rate": 0.01, "momentum": 0.0, "batch": 64, "passes": 8},
    "full-scratch": {"learning_rate": 0.05, "momentum": 0.9, "batch": 64, "passes": 8},
}


@dataclass(frozen=True)
class Chain:
    """One sequence of updates, identified by a name and drawn from its own seeds."""

    name: str
    split: str  # "fit", "held_out", "scatter" or "trial"
    mode: str  # a key of RECIPE
    origin: str  # one of ORIGINS
    mix_seed: int  # chains of a triplet share it
    seed: int  # sampling, order, augmentation, initial weights
    batch_norm: str


def plan(num_triplets: int, batch_norm: str) -> list[Chain]:
    """List the chains in the order of measurement, so that any prefix is a balanced design."""
    chains = [
        Chain(f"trial-{mode}-{i}", "trial", "incremental", "real", 900 + i, 900 + i, mode)
        for i in range(3)
        for mode in BATCH_NORM_MODES
    ]
    for t in range(num_triplets):
        held_out = t % 5 == 1
        split = "held_out" if held_out else "fit"
        mix_seed = (20_000 if held_out else 10_000) + t
        for i, origin in enumerate(ORIGINS):
            seed = 10 * mix_seed + i
            name = f"incremental-{t:03d}-{origin}"
            chains.append(Chain(name, split, "incremental", origin, mix_seed, seed, batch_norm))
        # Full retraining takes long: at every other triplet, a quarter of them held out.
        full_held_out = t % 8 == 6
        full_split = "held_out" if full_held_out else "fit"
        full_seed = (20_000 if full_held_out else 10_000) + t
        for i, mode in enumerate(("full-base", "full-scratch") if t % 2 == 0 else ()):
            name, seed = f"{mode}-{t:03d}", 10 * full_seed + 5 + i
            # From random weights there are no stored statistics to freeze.
            norm = "batch" if mode == "full-scratch" else batch_norm
            chains.append(Chain(name, full_split, mode, "real", full_seed + 5_000, seed, norm))
        # Models updated on all classes alike: how far apart equally good models are.
        seed = mix_seed + 30_000
        chains.append(
            Chain(f"uniform-{t:03d}", "scatter", "incremental", "real", 0, seed, batch_norm)
        )
    return chains


def draw_mix(rng: np.random.Generator) -> np.ndarray:
    """Draw a class mix: mostly concentrated, sometimes spread, sometimes uniform."""
    num_classes = len(CLASSES)
    kind = rng.choice(3, p=(0.6, 0.25, 0.15))
    if kind == 2:
        return np.full(num_classes, 1 / num_classes)
    return rng.dirichlet(np.full(num_classes, (0.3, 1.0)[kind]))


def chain_steps(chain: Chain) -> list[dict[str, Any]]:
    """Class mixes and numbers of images of a chain's updates, from its ``mix_seed`` alone."""
    num_classes = len(CLASSES)
    uniform = np.full(num_classes, 1 / num_classes)
    if chain.split == "scatter":
        return [{"mix": uniform, "twin_mix": uniform, "n": 1000}]
    rng = np.random.default_rng(chain.mix_seed)
    if chain.mode != "incremental":
        return [{"mix": draw_mix(rng), "twin_mix": uniform, "n": int(rng.choice(FULL_SIZES))}]
    if chain.split == "trial":
        return [{"mix": draw_mix(rng), "twin_mix": uniform, "n": n} for n in (60, 250, 1000)]
    steps, mixes = [], [draw_mix(rng)]
    for _ in range(LONG_CHAIN_STEPS if chain.mix_seed % 4 == 3 else CHAIN_STEPS):
        # A context is kept, returned to, or new; the twin replays it, an older one or all classes.
        mix = mixes[-1] if rng.random() < 0.35 else draw_mix(rng)
        if len(mixes) > 1 and rng.random() < 0.25:
            mix = mixes[0]
        twin_mix = (mix, mixes[-1], uniform)[rng.choice(3)]
        steps.append({"mix": mix, "twin_mix": twin_mix, "n": int(rng.choice(SIZES))})
        mixes.append(mix)
    return steps


class Pool:
    """The 10,000 training images that the base network has not seen."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels)
        self.members = [np.flatnonzero(labels == k) for k in range(len(CLASSES))]

    def draw_real(self, mix: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ``n`` images of a mix, without repetition while a class has enough of them."""
        counts = rng.multinomial(n, mix)
        return np.concatenate(
            [
                rng.choice(members, count, replace=count > len(members))
                for members, count in zip(self.members, counts, strict=True)
            ]
        )

    def draw_twin(
        self, store: np.ndarray, mix: np.ndarray, n: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw ``n`` images of a mix with replacement from the stored ones.

        A class that the store lacks cannot be generated; the others take its share.
        """
        labels = self.labels.numpy()[store]
        held = np.bincount(labels, minlength=len(CLASSES)) > 0
        weights = np.where(held, mix + 1e-9, 0)
        counts = rng.multinomial(n, weights / weights.sum())
        chosen = [rng.choice(store[labels == k], count) for k, count in enumerate(counts) if count]
        return np.concatenate(chosen)


def sample_images(
    pool: Pool, chain: Chain, step: dict[str, Any], store: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into the pool of one update's real and twin images."""
    none = np.empty(0, np.int64)
    if chain.origin == "real":
        return pool.draw_real(step["mix"], step["n"], rng), none
    if chain.origin == "twin":
        return none, pool.draw_twin(store, step["mix"], step["n"], rng)
    half = step["n"] // 2
    real = pool.draw_real(step["mix"], half, rng)
    return real, pool.draw_twin(store, step["twin_mix"], step["n"] - half, rng)


def write_results(path: Path, provenance: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Write provenance and one record per line, atomically."""
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    head = json.dumps(provenance, indent=1)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    temporary.write_text(f'{{"provenance": {head},\n"records": [\n{lines}\n]}}\n')
    os.replace(temporary, path)


def read_results(path: Path, provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the records of an earlier run with the same base network and recipe."""
    if not path.exists():
        return []
    try:
        stored = json.loads(path.read_text())
        records: list[dict[str, Any]] = stored["records"]
        earlier = stored["provenance"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: corrupt results ({error!r}); move it away to restart") from error
    for key in ("weights_sha256", "recipe", "test_sha256"):
        if earlier.get(key) != provenance[key]:
            raise ValueError(f"{path}: {key} is {earlier.get(key)}, this run has {provenance[key]}")
    return records


@dataclass(frozen=True)
class Bench:
    """What every measurement needs: base weights, unseen images, test images."""

    weights: dict[str, torch.Tensor]
    pool: Pool
    test: tuple[torch.Tensor, torch.Tensor]
    base_recall: tuple[float, ...]
    provenance: dict[str, Any]


def open_bench(base: Path, device: torch.device) -> Bench:
    """Set up from the files of ``train_base.py``; the test images are a fixed, balanced part."""
    loaded = load_base(base)
    labels = loaded.images.test_labels
    rng = np.random.default_rng(TEST_SEED)
    chosen = np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == k), TEST_PER_CLASS, replace=False)
            for k in range(len(CLASSES))
        ]
    )
    test_images = loaded.images.test_images[chosen]
    test = (torch.from_numpy(test_images), torch.from_numpy(labels[chosen]))
    network = build_network()
    network.load_state_dict(loaded.weights)
    base_recall = recall_per_class(network.to(device), *test)
    provenance = {
        "base": loaded.report,
        "base_recall_subset": [round(value, 4) for value in base_recall],
        "test_per_class": TEST_PER_CLASS,
        "test_sha256": hashlib.sha256(test_images.tobytes()).hexdigest(),
        "weights_sha256": loaded.report["weights_sha256"],
        "recipe": RECIPE,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "device": str(device),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    pool = Pool(loaded.images.pool_images, loaded.images.pool_labels)
    return Bench(loaded.weights, pool, test, base_recall, provenance)


def run_chain(chain: Chain, bench: Bench, device: torch.device) -> list[dict[str, Any]]:
    """Retrain and measure along one chain; returns one record per update."""
    pool = bench.pool
    recipe = RECIPE[chain.mode]
    rng = np.random.default_rng((chain.seed, 1))
    torch.manual_seed(chain.seed)
    generator = torch.Generator().manual_seed(chain.seed)
    network = build_network()
    if chain.mode != "full-scratch":
        network.load_state_dict(bench.weights)
    network = network.to(device)
    steps = chain_steps(chain)
    store_size = int(rng.choice(STORE_SIZES))
    store_mix = 0.5 * steps[0]["mix"] + 0.5 / len(CLASSES)
    store = pool.draw_real(store_mix, store_size, rng)
    records, before = [], bench.base_recall
    for number, step in enumerate(steps):
        real, twin = sample_images(pool, chain, step, store, rng)
        chosen = torch.from_numpy(np.concatenate([real, twin]))
        twin_mask = torch.arange(len(chosen)) >= len(real)
        # Momentum starts at zero in each update: only weights are kept between updates.
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=float(recipe["learning_rate"]),
            momentum=float(recipe["momentum"]),
        )
        started = time.perf_counter()
        for _ in range(int(recipe["passes"])):
            train_pass(
                network,
                optimizer,
                pool.images[chosen],
                pool.labels[chosen],
                twin_mask,
                generator,
                batch=int(recipe["batch"]),
                batch_norm=chain.batch_norm,
            )
        seconds = time.perf_counter() - started
        after = recall_per_class(network, *bench.test)
        labels = pool.labels.numpy()
        records.append(
            {
                "chain": chain.name,
                "step": number,
                "split": chain.split,
                "mode": chain.mode,
                "origin": chain.origin,
                "batch_norm": chain.batch_norm,
                "seed": chain.seed,
                "store": store_size if len(twin) else 0,
                "mix": [round(float(share), 4) for share in step["mix"]],
                "real": np.bincount(labels[real], minlength=len(CLASSES)).tolist(),
                "twin": np.bincount(labels[twin], minlength=len(CLASSES)).tolist(),
                "before": [round(value, 4) for value in before],
                "after": [round(value, 4) for value in after],
                "seconds": round(seconds, 2),
            }
        )
        before = after
    return records


_bench: Bench  # of a worker process, set once by open_worker


def open_worker(base: Path, threads: int) -> None:
    """Set up a worker process."""
    global _bench
    torch.set_num_threads(threads)
    _bench = open_bench(base, choose_device())


def measure(chain: Chain) -> list[dict[str, Any]]:
    """Run one chain in a worker process."""
    return run_chain(chain, _bench, choose_device())


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="output folder of train_base.py")
    parser.add_argument("--out", type=Path, required=True, help="results file (JSON)")
    parser.add_argument("--triplets", type=int, default=40)
    parser.add_argument("--batch-norm", choices=BATCH_NORM_MODES, default="frozen")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--workers", type=int, default=2, help="processes, one chain each")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    args = parser.parse_args(argv)
    try:
        bench = open_bench(args.base, choose_device())
        records = read_results(args.out, bench.provenance)
        chains = plan(args.triplets, args.batch_norm)
        rank = {chain.name: i for i, chain in enumerate(chains)}
        done = {record["chain"] for record in records}
        waiting = [chain for chain in chains if chain.name not in done]
        started, elapsed, finished = time.perf_counter(), 0.0, 0
        # Several processes of one thread share busy cores better than one of several threads.
        with ProcessPoolExecutor(
            args.workers, get_context("spawn"), open_worker, (args.base, args.threads)
        ) as workers:
            queue = iter(waiting)
            running = {workers.submit(measure, chain) for chain in islice(queue, args.workers)}
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    records += future.result()
                records.sort(key=lambda record: rank.get(record["chain"], len(rank)))
                write_results(args.out, bench.provenance, records)
                finished += len(ended)
                elapsed = time.perf_counter() - started
                eta = elapsed / finished * (len(waiting) - finished)
                print(
                    f"{finished}/{len(waiting)} chains, {len(records)} updates, "
                    f"{finished / elapsed * 60:.1f} chains/min, ETA {eta:.0f} s",
                    flush=True,
                )
                if elapsed < args.seconds:
                    running |= {workers.submit(measure, c) for c in islice(queue, len(ended))}
        if finished < len(waiting):
            print(f"time is up with {len(waiting) - finished} chains left")
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
