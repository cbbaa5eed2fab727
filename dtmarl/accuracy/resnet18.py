"""Real accuracy engine: every user has a ResNet-18 that is trained and tested on images.

A retraining draws the uploaded images from a pool that the base network has not seen and the twin's
from the user's store, these uploads included, trains, and measures recall per class on test images.
Two things hold forgetting back: the twin's images replay the store, and steps are small and without
momentum. Batch-norm keeps the base network's statistics, without which a few hundred images teach
nothing. `eval/update_choices.py` measures each choice.

The engine holds the networks, so one engine serves one environment. What it does is a function of
the noise it is given: on CPU each user is trained in one thread, several users at a time, and the
result is the same whatever the number of threads.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from array_api_compat import device as device_of

from dtmarl.accuracy.base_network import BaseNetwork, choose_device, load_base
from dtmarl.accuracy.classifier import CLASSES, build_network, recall_per_class
from dtmarl.accuracy.images import representative_subset
from dtmarl.accuracy.samples import (
    Generator,
    Resampling,
    add_to_store,
    draw_per_class,
    whole_counts,
)
from dtmarl.accuracy.training import RECIPES, UpdateRecipe, in_threads, retrain
from dtmarl.backend import Array, namespace

TEST_SEED = 7
TEST_PER_CLASS = 100
INCREMENTAL_PER_CLASS = 500


@dataclass
class _User:
    """A user's classifier, None while it is the base network, and its store."""

    network: Any
    store: Array  # indices into the pool


class _Retrained(NamedTuple):
    """What came of one user's retraining."""

    recall: tuple[float, ...]
    training_s: float
    testing_s: float


class ResNet18Engine:
    """Accuracy engine that trains.

    What its methods take and promise stands in `dtmarl.accuracy.AccuracyEngine`.

    Args:
        base: base network and images.
        test_per_class: test images of each class that recall is measured on; by default 100, or
            all where the data set has fewer. The base network scores on them as on all.
        store_capacity: images in each user's store.
        store_initial_per_class: images of each class that are in it from the start.
        recipes: by mode, as `dtmarl.accuracy.training.RECIPES`.
        generator: makes the twin's images.
        threads: users trained at a time; by default what torch uses. Ignored on a GPU.

    Raises:
        ValueError: a number is out of range, or the data set has too few images.
    """

    def __init__(
        self,
        base: BaseNetwork,
        *,
        test_per_class: int | None = None,
        store_capacity: int = 1500,
        store_initial_per_class: int = 20,
        recipes: Mapping[str, UpdateRecipe] = RECIPES,
        generator: Generator | None = None,
        threads: int | None = None,
    ) -> None:
        images = base.images
        if test_per_class is None:
            fewest = int(np.bincount(images.test_labels, minlength=len(CLASSES)).min())
            test_per_class = min(TEST_PER_CLASS, fewest)
        for name, value in (
            ("test_per_class", test_per_class),
            ("store_capacity", store_capacity),
            ("threads", 1 if threads is None else threads),
        ):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if set(recipes) != set(RECIPES):
            raise ValueError(f"recipes: expected the modes {set(RECIPES)}, got {set(recipes)}")
        per_class = [np.flatnonzero(images.pool_labels == k) for k in range(len(CLASSES))]
        kept = np.concatenate([members[:INCREMENTAL_PER_CLASS] for members in per_class])
        self._pool_images = images.pool_images[kept]
        self._pool_labels = images.pool_labels[kept]
        self._members = [np.flatnonzero(self._pool_labels == k) for k in range(len(CLASSES))]
        fewest = min(len(members) for members in self._members)
        if not 0 <= store_initial_per_class <= fewest:
            raise ValueError(
                f"store_initial_per_class: expected 0 to {fewest}, got {store_initial_per_class}"
            )
        self._store_capacity = store_capacity
        self._store_initial_per_class = store_initial_per_class
        self._recipes = dict(recipes)
        self._generator = generator or Resampling()
        self._device = choose_device()
        self._threads = threads or torch.get_num_threads()
        self._base = build_network()
        self._base.load_state_dict(base.weights)
        self._base.to(self._device)
        chosen = representative_subset(
            images.test_labels, base.known_mask, test_per_class, TEST_SEED
        )
        self._test = (
            torch.from_numpy(images.test_images[chosen]),
            torch.from_numpy(images.test_labels[chosen]),
        )
        self._base_recall = tuple(
            base.known_mask[chosen].reshape(len(CLASSES), test_per_class).mean(axis=1).tolist()
        )
        self._users: list[list[_User]] = []
        self._recall: Array = None
        self.seconds = {"training": 0.0, "testing": 0.0}
        """Time spent so far, summed over threads."""

    @classmethod
    def load(cls, folder: Path | None = None, **options: Any) -> ResNet18Engine:
        """An engine on a base folder; see `dtmarl.accuracy.base_network.load_base`.

        Args:
            folder: by default the one that ``DTMARL_BASE_NETWORK`` names, else the user cache's.
            **options: of the class.
        """
        return cls(load_base(folder), **options)

    @property
    def base_recall(self) -> tuple[float, ...]:
        """Recall per class of the base network on the engine's test images."""
        return self._base_recall

    def initial_recall(self, noise: Array) -> Array:
        """Give every user the base network; the noise chooses what the stores start with."""
        each = np.full(len(CLASSES), self._store_initial_per_class)
        self._users = [
            [_User(None, draw_per_class(self._members, each, _rng(row))) for row in rows]
            for rows in _numbers(noise)
        ]
        self._recall = np.zeros(noise.shape) + np.array(self._base_recall)
        return _like(self._recall, noise)

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """Retrain, and measure recall; counts are rounded to whole images.

        The noise seeds the choice of images, their order and augmentation. ``"full"`` starts from
        the base network.

        Raises:
            ValueError: ``mode`` is unknown, or ``recall`` is not that of the networks.
            FloatingPointError: training diverges.
        """
        if mode not in self._recipes:
            raise ValueError(f"mode: expected one of {sorted(self._recipes)}, got {mode!r}")
        known = None if self._recall is None else _numbers(_like(self._recall, recall))
        if known is None or not np.array_equal(known, _numbers(recall)):
            raise ValueError(
                "recall: expected what this engine returned last; it serves one environment, "
                "and starts with initial_recall"
            )
        real, twin, bits = (_numbers(part) for part in (real_samples, twin_samples, noise))
        wanted = [
            (e, n)
            for e, n in np.ndindex(real.shape[:2])
            if round(real[e, n].sum()) + round(twin[e, n].sum()) > 0
        ]
        tasks = [
            partial(
                self._retrain,
                self._users[e][n],
                whole_counts(real[e, n]),
                whole_counts(twin[e, n]),
                _rng(bits[e, n]),
                mode,
            )
            for e, n in wanted
        ]
        updated = _numbers(recall).copy()
        for where, result in zip(wanted, self._run(tasks), strict=True):
            if result is not None:
                updated[where] = result.recall
                self.seconds["training"] += result.training_s
                self.seconds["testing"] += result.testing_s
        self._recall = updated
        return _like(updated, recall)

    def _retrain(
        self, user: _User, real: Array, twin: Array, rng: np.random.Generator, mode: str
    ) -> _Retrained | None:
        """Train one user's network and test it; None if there was nothing to train on."""
        recipe = self._recipes[mode]
        uploaded = draw_per_class(self._members, real, rng)
        user.store = add_to_store(user.store, uploaded, self._store_capacity, rng)
        made, made_labels = self._generator.generate(
            self._pool_images[user.store], self._pool_labels[user.store], twin, rng
        )
        images = torch.from_numpy(np.concatenate([self._pool_images[uploaded], made]))
        labels = torch.from_numpy(np.concatenate([self._pool_labels[uploaded], made_labels]))
        if len(labels) == 0:
            return None
        start = self._base if user.network is None or mode == "full" else user.network
        network = copy.deepcopy(start) if start is self._base else start
        shuffling = torch.Generator().manual_seed(int(rng.integers(2**62)))
        started = time.perf_counter()
        retrain(network, images, labels, torch.arange(len(labels)) >= len(uploaded), shuffling,
                recipe)  # fmt: skip
        trained = time.perf_counter()
        user.network = network
        recall = recall_per_class(network, *self._test)
        return _Retrained(recall, trained - started, time.perf_counter() - trained)

    def _run(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        if self._device.type == "cpu":
            return in_threads(tasks, self._threads)
        return [task() for task in tasks]


def _rng(noise: Array) -> np.random.Generator:
    """A generator seeded with the bits of a user's noise [K]."""
    return np.random.default_rng(np.ascontiguousarray(noise).view(np.uint32).tolist())


def _numbers(array: Array) -> Array:
    """A NumPy float64 view or copy of an array of either backend."""
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array, dtype=np.float64)


def _like(values: Array, example: Array) -> Array:
    """NumPy values as an array of the example's backend, dtype and device."""
    xp = namespace(example)
    return xp.asarray(values, dtype=example.dtype, device=device_of(example))
