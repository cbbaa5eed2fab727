"""The base network: trained once, kept in a folder, checked whenever it is loaded.

A base folder holds ``images.npz`` (the data set, split), ``base.safetensors`` (weights) and
``base.json`` (recipe, origin, recall, and the digests of the other two). `prepare` makes one; a
killed run goes on from its last epoch and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dtmarl.accuracy.classifier import (
    CLASSES,
    build_network,
    confusion_matrix,
    flip_and_crop,
    to_input,
)
from dtmarl.accuracy.images import (
    DIGITS,
    SPLIT_SEED,
    ImageSplits,
    load_images,
    read_images,
    save_images,
)

FOLDER_VARIABLE = "DTMARL_BASE_NETWORK"
"""Environment variable that names the base folder to use."""

WARMUP = 0.2


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the base network is trained: SGD with Nesterov momentum on a one-cycle schedule."""

    epochs: int = 8
    batch: int = 128
    peak_learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0


DIGITS_RECIPE = BaseRecipe(epochs=3, batch=32, peak_learning_rate=0.02)


@dataclass(frozen=True)
class BaseNetwork:
    """What an engine needs: base weights, and the images users draw from and are tested on."""

    weights: dict[str, Any]
    images: ImageSplits
    report: dict[str, Any]


def default_folder() -> Path:
    """The base folder that ``DTMARL_BASE_NETWORK`` names, else one in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dtmarl" / "base-network"


def choose_device() -> Any:
    """CUDA if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(
    data: str | Path,
    folder: Path | None = None,
    recipe: BaseRecipe | None = None,
    *,
    checkpoint_folder: Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the base network on a data set and write a base folder; returns ``base.json``.

    Args:
        data: ``"digits"`` or a folder, as for `dtmarl.accuracy.images.read_images`.
        folder: what to write; by default `default_folder`.
        recipe: by default `BaseRecipe()`, or `DIGITS_RECIPE` for the digits.
        checkpoint_folder: where the last epoch's state is kept, by default `folder`.
        report: told about progress, a line at a time.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: an image, or a file of an earlier run, is damaged or of another recipe.
        FloatingPointError: training diverges.
    """
    folder = folder or default_folder()
    recipe = recipe or (DIGITS_RECIPE if data == DIGITS else BaseRecipe())
    checkpoint_folder = checkpoint_folder or folder
    for needed in (folder, checkpoint_folder):
        needed.mkdir(parents=True, exist_ok=True)
    cached = folder / "images.npz"
    if not cached.exists():
        images = read_images(data)
        _write_atomically(cached, lambda path: save_images(path, images))
    images = load_images(cached)
    network, seconds = train(
        images, recipe, checkpoint_folder / "base-checkpoint.safetensors", choose_device(), report
    )
    confusion = confusion_matrix(
        network, torch.from_numpy(images.test_images), torch.from_numpy(images.test_labels)
    )
    recall = (confusion.diagonal() / confusion.sum(1)).tolist()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    weights_path = folder / "base.safetensors"
    _write_atomically(weights_path, lambda path: save_file(weights, path))
    description = {
        "recall": [round(value, 4) for value in recall],
        "accuracy": round(sum(recall) / len(recall), 4),
        "confusion": confusion.tolist(),
        "classes": list(CLASSES) if data != DIGITS else [str(k) for k in range(len(CLASSES))],
        "recipe": asdict(recipe),
        "training_seconds": round(seconds, 1),
        "weights_sha256": hashlib.sha256(weights_path.read_bytes()).hexdigest(),
        "arrays_sha256": images.sha256,
        "split_seed": SPLIT_SEED,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "device": str(choose_device()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    text = json.dumps(description, indent=1) + "\n"
    _write_atomically(folder / "base.json", lambda path: path.write_text(text))
    return description


def load_base(folder: Path | None = None) -> BaseNetwork:
    """Read a base folder and check it against its digests.

    Args:
        folder: by default `default_folder`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is corrupt, truncated or not the one that was written.
    """
    folder = folder or default_folder()
    for name in ("base.json", "base.safetensors", "images.npz"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: make the base network with train/train_base.py "
                "or dtmarl.accuracy.base_network.prepare('digits'), or name its folder in "
                f"{FOLDER_VARIABLE}"
            )
    described = folder / "base.json"
    try:
        report: dict[str, Any] = json.loads(described.read_text(encoding="utf-8"))
        expected = {name: str(report[name]) for name in ("weights_sha256", "arrays_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{described}: corrupt description ({error!r}); remake it") from error
    weights_path = folder / "base.safetensors"
    _check_digest(
        weights_path,
        hashlib.sha256(weights_path.read_bytes()).hexdigest(),
        expected["weights_sha256"],
    )
    images = load_images(folder / "images.npz")
    _check_digest(folder / "images.npz", images.sha256, expected["arrays_sha256"])
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise ValueError(f"{weights_path}: not a safetensors file ({error})") from error
    # What trained the base network is not needed any more, and is most of the memory.
    empty = images.base_images[:0], images.base_labels[:0]
    images = replace(images, base_images=empty[0], base_labels=empty[1])
    return BaseNetwork(weights, images, report)


def train(
    images: ImageSplits,
    recipe: BaseRecipe,
    checkpoint: Path,
    device: Any,
    report: Callable[[str], None],
) -> tuple[Any, float]:
    """Train on the base split; returns the network and the seconds spent.

    Args:
        images: the data set.
        recipe: how.
        checkpoint: written after each epoch, read if it is there.
        device: where.
        report: told about progress, a line at a time.

    Raises:
        ValueError: the checkpoint is damaged or of another recipe or data set.
        FloatingPointError: training diverges.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = build_network().to(device)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=0.0,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    origin = json.dumps({"recipe": asdict(recipe), "images": images.sha256}, sort_keys=True)
    first_epoch, seconds = _restore(checkpoint, origin, network, optimizer, generator)
    if first_epoch:
        report(f"continuing after epoch {first_epoch}")
    inputs, labels = torch.from_numpy(images.base_images), torch.from_numpy(images.base_labels)
    steps_per_epoch = len(labels) // recipe.batch
    total = steps_per_epoch * recipe.epochs
    for epoch in range(first_epoch, recipe.epochs):
        network.train()
        order = torch.randperm(len(labels), generator=generator)
        started, loss_sum = time.perf_counter(), 0.0
        for i in range(steps_per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate((epoch * steps_per_epoch + i) / total, recipe)
            chosen = order[i * recipe.batch : (i + 1) * recipe.batch]
            batch = to_input(flip_and_crop(inputs[chosen], generator), device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = nn.functional.cross_entropy(network(batch), labels[chosen].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
        if not math.isfinite(loss_sum):
            raise FloatingPointError(f"training diverged in epoch {epoch + 1}: loss {loss_sum}")
        spent = time.perf_counter() - started
        seconds += spent
        _keep(checkpoint, origin, epoch + 1, seconds, network, optimizer, generator)
        report(
            f"epoch {epoch + 1}/{recipe.epochs} loss {loss_sum / steps_per_epoch:.3f} "
            f"{steps_per_epoch * recipe.batch / spent:.0f} images/s "
            f"ETA {spent * (recipe.epochs - epoch - 1):.0f} s"
        )
    return network, seconds


def _learning_rate(progress: float, recipe: BaseRecipe) -> float:
    """One-cycle schedule: linear rise over the first fifth of the steps, cosine fall to zero."""
    peak = recipe.peak_learning_rate
    if progress < WARMUP:
        return peak * (0.05 + 0.95 * progress / WARMUP)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def _keep(
    path: Path,
    origin: str,
    epoch: int,
    seconds: float,
    network: Any,
    optimizer: Any,
    generator: Any,
) -> None:
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimizer.state[parameter]["momentum_buffer"]
        tensors[f"momentum.{name}"] = momentum.contiguous()
    tensors["generator"] = generator.get_state()
    about = {"origin": origin, "epoch": str(epoch), "seconds": str(seconds)}
    _write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=about))


def _restore(
    path: Path, origin: str, network: Any, optimizer: Any, generator: Any
) -> tuple[int, float]:
    """Set everything to the checkpoint's state; returns its epoch and seconds, (0, 0) if none."""
    if not path.exists():
        return 0, 0.0
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            stored_origin, epoch, seconds = (about[k] for k in ("origin", "epoch", "seconds"))
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: corrupt checkpoint ({error!r}); delete it to restart") from error
    if stored_origin != origin:
        raise ValueError(f"{path}: expected a checkpoint of {origin}, got one of {stored_origin}")
    network.load_state_dict({k: tensors[f"network.{k}"] for k in network.state_dict()})
    for name, parameter in network.named_parameters():
        # Laid out as the parameter: sums over another layout may differ in their last bit.
        momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
        optimizer.state[parameter]["momentum_buffer"] = momentum.detach()
    generator.set_state(tensors["generator"])
    return int(epoch), float(seconds)


def _check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path}: corrupt or truncated: expected SHA-256 {expected[:16]}…, got {found[:16]}…"
        )


def _write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write(temporary)
    os.replace(temporary, path)
