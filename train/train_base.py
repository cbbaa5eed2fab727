"""Train the base classifier: ResNet-18 on 40,000 CIFAR-10 images.

Writes to ``--out``: ``images.npz`` (all images as uint8 arrays, with the fixed split into base,
pool and test), ``base.safetensors`` (weights) and ``base.json`` (recipe, provenance, recall per
class).
``--data`` is a folder with ``train/<class>/*`` and ``test/<class>/*`` images, or the root that
``torchvision.datasets.CIFAR10`` uses. A killed run continues from its last epoch.

    python train/train_base.py --data cifar10 --out runs/base
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from dtmarl.accuracy.classifier import (
    CLASSES,
    build_network,
    confusion_matrix,
    flip_and_crop,
    to_input,
)

SPLIT_SEED = 20241127
POOL_PER_CLASS = 1000


def read_folder(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``root/<class>/*`` as uint8 images [n, 32, 32, 3] and class indices [n]."""
    dataset = torchvision.datasets.ImageFolder(str(root))
    if tuple(dataset.classes) != CLASSES:
        raise ValueError(f"{root}: expected the class folders {CLASSES}, got {dataset.classes}")
    images = np.empty((len(dataset), 32, 32, 3), np.uint8)
    labels = np.empty(len(dataset), np.int64)
    for i, (path, label) in enumerate(dataset.samples):
        try:
            image = np.asarray(dataset.loader(path))
        except OSError as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
        if image.shape != (32, 32, 3):
            raise ValueError(f"{path}: expected a 32x32 RGB image, got shape {image.shape}")
        images[i], labels[i] = image, label
    return images, labels


def read_images(data: Path) -> dict[str, np.ndarray]:
    """Read CIFAR-10 from either layout and split its training half into base and pool."""
    if (data / "train").is_dir() and (data / "test").is_dir():
        halves = {half: read_folder(data / half) for half in ("train", "test")}
    elif (data / "cifar-10-batches-py").is_dir():
        halves = {}
        for half in ("train", "test"):
            dataset = torchvision.datasets.CIFAR10(str(data), train=half == "train")
            halves[half] = (dataset.data, np.asarray(dataset.targets, np.int64))
    else:
        raise FileNotFoundError(
            f"{data}: expected train/ and test/ with a folder per class, or cifar-10-batches-py/"
        )
    images, labels = halves["train"]
    rng = np.random.default_rng(SPLIT_SEED)
    in_pool = np.zeros(len(labels), bool)
    for k in range(len(CLASSES)):
        members = np.flatnonzero(labels == k)
        if len(members) <= POOL_PER_CLASS:
            raise ValueError(
                f"{data}: expected over {POOL_PER_CLASS} training images of {CLASSES[k]}, "
                f"got {len(members)}"
            )
        in_pool[rng.choice(members, POOL_PER_CLASS, replace=False)] = True
    return {
        "base_images": images[~in_pool],
        "base_labels": labels[~in_pool],
        "pool_images": images[in_pool],
        "pool_labels": labels[in_pool],
        "test_images": halves["test"][0],
        "test_labels": halves["test"][1],
    }


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(temporary path)``, then move the result to ``path``."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write(temporary)
    os.replace(temporary, path)


def load_arrays(data: Path, out: Path) -> dict[str, np.ndarray]:
    """Read the arrays from ``out/images.npz``, made from ``data`` on the first call."""
    cache = out / "images.npz"
    if not cache.exists():
        arrays = read_images(data)

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, **arrays)

        write_atomically(cache, write)
    try:
        with np.load(cache, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{cache}: corrupt image cache ({error}); delete it to rebuild") from error


def hash_arrays(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the images and labels in a fixed order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def learning_rate(step: int, total: int, peak: float, warmup: float = 0.2) -> float:
    """One-cycle schedule: linear rise over ``warmup`` of the steps, cosine fall to zero."""
    if step < warmup * total:
        return peak * (0.05 + 0.95 * step / (warmup * total))
    return peak * 0.5 * (1 + math.cos(math.pi * (step / total - warmup) / (1 - warmup)))


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Read the last epoch's state, or ``None`` if there is none."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        stored = state["recipe"]
    except Exception as error:  # torch raises many types for a damaged file
        raise ValueError(f"{path}: corrupt checkpoint ({error}); delete it to restart") from error
    if stored != recipe:
        raise ValueError(f"{path}: made with recipe {stored}, asked for {recipe}")
    return state


def train(
    arrays: dict[str, np.ndarray], recipe: dict[str, Any], checkpoint: Path, device: torch.device
) -> tuple[nn.Module, float]:
    """Train for ``recipe["epochs"]`` epochs; returns the network and the seconds spent."""
    torch.manual_seed(recipe["seed"])
    generator = torch.Generator().manual_seed(recipe["seed"])
    network = build_network().to(device)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=0.0,
        momentum=recipe["momentum"],
        weight_decay=recipe["weight_decay"],
        nesterov=True,
    )
    state = load_checkpoint(checkpoint, recipe)
    first_epoch, seconds = 0, 0.0
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        first_epoch, seconds = state["epoch"], state["seconds"]
        print(f"continuing after epoch {first_epoch}", flush=True)
    images = torch.from_numpy(arrays["base_images"])
    labels = torch.from_numpy(arrays["base_labels"])
    steps_per_epoch = len(labels) // recipe["batch"]
    total = steps_per_epoch * recipe["epochs"]
    loss_function = nn.CrossEntropyLoss()
    for epoch in range(first_epoch, recipe["epochs"]):
        network.train()
        order = torch.randperm(len(labels), generator=generator)
        started, loss_sum = time.perf_counter(), 0.0
        for i in range(steps_per_epoch):
            step = epoch * steps_per_epoch + i
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total, recipe["peak_learning_rate"])
            chosen = order[i * recipe["batch"] : (i + 1) * recipe["batch"]]
            batch = to_input(flip_and_crop(images[chosen], generator), device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_function(network(batch), labels[chosen].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            if (i + 1) % 40 == 0:
                elapsed = time.perf_counter() - started
                rate = (i + 1) * recipe["batch"] / elapsed
                remaining = (total - step - 1) * recipe["batch"] / rate
                print(
                    f"epoch {epoch + 1}/{recipe['epochs']} step {i + 1}/{steps_per_epoch} "
                    f"loss {loss_sum / (i + 1):.3f} {rate:.0f} images/s ETA {remaining:.0f} s",
                    flush=True,
                )
        if not math.isfinite(loss_sum):
            raise FloatingPointError(f"training diverged in epoch {epoch + 1}: loss {loss_sum}")
        seconds += time.perf_counter() - started
        state = {
            "recipe": recipe,
            "epoch": epoch + 1,
            "seconds": seconds,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
        }
        write_atomically(checkpoint, lambda path, state=state: torch.save(state, path))
    return network, seconds


def main(argv: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 in either layout")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--checkpoint-dir", type=Path, help="where to keep the last epoch's state")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint_dir = args.checkpoint_dir or args.out
    for folder in (args.out, checkpoint_dir):
        folder.mkdir(parents=True, exist_ok=True)
    recipe = {
        "epochs": args.epochs,
        "batch": 128,
        "peak_learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "seed": args.seed,
    }
    try:
        arrays = load_arrays(args.data, args.out)
        network, seconds = train(arrays, recipe, checkpoint_dir / "base-checkpoint.pt", device)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    confusion = confusion_matrix(
        network,
        torch.from_numpy(arrays["test_images"]),
        torch.from_numpy(arrays["test_labels"]),
    )
    recall = (confusion.diagonal() / confusion.sum(1)).tolist()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(args.out / "base.safetensors", lambda path: save_file(weights, path))
    report = {
        "recall": [round(value, 4) for value in recall],
        "accuracy": round(sum(recall) / len(recall), 4),
        "confusion": confusion.tolist(),
        "classes": CLASSES,
        "recipe": recipe,
        "training_seconds": round(seconds, 1),
        "arrays_sha256": hash_arrays(arrays),
        "split_seed": SPLIT_SEED,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "device": str(device),
        "machine": f"{platform.machine()}, {args.threads} threads",
    }
    text = json.dumps(report, indent=1) + "\n"
    write_atomically(args.out / "base.json", lambda path: path.write_text(text))
    print(f"accuracy {report['accuracy']:.4f}, recall {report['recall']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
