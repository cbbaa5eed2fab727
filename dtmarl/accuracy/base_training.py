"""Training of the base network, which survives a SIGKILL: the last epoch's state is on disk."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dtmarl.accuracy.classifier import build_network, flip_and_crop, to_input
from dtmarl.accuracy.images import ImageSplits

WARMUP = 0.2
"""Part of the steps in which the learning rate rises."""


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the base network is trained: SGD with Nesterov momentum on a one-cycle schedule."""

    epochs: int = 8
    batch: int = 128
    peak_learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0


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


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write(temporary path)``, then move what it wrote to ``path``."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write(temporary)
    os.replace(temporary, path)


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
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=about))


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
