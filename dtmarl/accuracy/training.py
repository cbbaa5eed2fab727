"""How a user's network is retrained: recipes, and the loop that follows one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from dtmarl.accuracy.classifier import train_pass

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class UpdateRecipe:
    """How a network is retrained: plain mini-batch SGD."""

    learning_rate: float = 0.01
    momentum: float = 0.0
    batch: int = 64
    passes: int = 1
    batch_norm: str = "frozen"


RECIPES: Mapping[str, UpdateRecipe] = {
    "incremental": UpdateRecipe(),
    "full": UpdateRecipe(passes=8),
}
"""Recipe of each mode; full retraining starts from the base weights."""


def retrain(
    network: Any, images: Any, labels: Any, twin_mask: Any, generator: Any, recipe: UpdateRecipe
) -> None:
    """Train a network in place as a recipe says; momentum starts at zero.

    Args:
        network: on its device.
        images: [n, H, H, 3] uint8 CPU tensor, n > 0.
        labels: [n] int64 CPU tensor.
        twin_mask: [n] bool, True where the image is generated.
        generator: CPU ``torch.Generator`` for order and augmentation.
        recipe: how.
    """
    optimizer = torch.optim.SGD(
        network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum
    )
    for _ in range(recipe.passes):
        train_pass(
            network,
            optimizer,
            images,
            labels,
            twin_mask,
            generator,
            batch=recipe.batch,
            batch_norm=recipe.batch_norm,
        )


def in_threads(tasks: Sequence[Callable[[], _Result]], threads: int) -> list[_Result]:
    """Results of tasks that run at the same time, each within one thread of its own.

    On a CPU this trains several small networks faster than one after the other on all cores, or
    stacked into one (``benchmarks/training.py``), and the order of sums, so every bit, is the same
    for any number of threads.

    Args:
        tasks: what to run.
        threads: how many at a time.
    """
    if not tasks:
        return []
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            min(threads, len(tasks)), initializer=torch.set_num_threads, initargs=(1,)
        ) as workers:
            return list(workers.map(lambda task: task(), tasks))
    finally:
        torch.set_num_threads(before)
