"""The images of a retraining: what users upload, what the twin stores, and what it generates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dtmarl.backend import Array


class Generator(Protocol):
    """Makes images for the twin out of stored ones; a learned generator fits in here."""

    def generate(
        self, images: Array, labels: Array, counts: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Images [n, H, H, 3] uint8 and their classes [n] int64.

        Args:
            images: [s, H, H, 3] uint8, the store's.
            labels: [s] int64 in [0, K).
            counts: [K] whole numbers, wanted of each class; their sum is n.
            rng: the only randomness to use.
        """


@dataclass(frozen=True)
class Resampling:
    """Draws stored images with replacement; training augments them more than uploaded ones.

    A class that the store lacks cannot be drawn; the others take its share.
    """

    def generate(
        self, images: Array, labels: Array, counts: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """See `Generator.generate`; nothing comes out of an empty store."""
        members = [np.flatnonzero(labels == k) for k in range(len(counts))]
        held = np.array([len(one) > 0 for one in members])
        if not held.any():
            return images[:0], labels[:0]
        wanted = np.where(held, counts, 0)
        weights = wanted if wanted.any() else held
        wanted = wanted + rng.multinomial(counts.sum() - wanted.sum(), weights / weights.sum())
        chosen = np.concatenate(
            [rng.choice(one, n) for one, n in zip(members, wanted, strict=True) if n]
            or [np.empty(0, np.int64)]
        )
        return images[chosen], labels[chosen]


def whole_counts(counts: Array) -> Array:
    """Whole numbers [K] next to ``counts`` [K] whose sum is the rounded sum of these.

    >>> whole_counts(np.array([1.4, 0.4, 0.4, 0.0]))
    array([1, 1, 0, 0])
    """
    down = np.floor(counts)
    missing = int(np.round(counts.sum()) - down.sum())
    order = np.argsort(down - counts, kind="stable")
    down[order[:missing]] += 1.0
    return down.astype(np.int64)


def draw_per_class(members: list[Array], counts: Array, rng: np.random.Generator) -> Array:
    """Indices of images, ``counts`` [K] of each class, without repetition while there are enough.

    Args:
        members: K arrays of indices.
        counts: [K] whole numbers.
        rng: draws.
    """
    return np.concatenate(
        [rng.choice(one, n, replace=n > len(one)) for one, n in zip(members, counts, strict=True)]
    )


def add_to_store(stored: Array, arriving: Array, capacity: int, rng: np.random.Generator) -> Array:
    """Indices in a store after an upload; a full one evicts earlier images at random.

    Args:
        stored: [s] indices.
        arriving: [u] indices; the newest stay where they alone are too many.
        capacity: most images that the store keeps.
        rng: chooses whom to evict.
    """
    arriving = arriving[-capacity:]
    room = capacity - len(arriving)
    if len(stored) > room:
        stored = stored[np.sort(rng.choice(len(stored), room, replace=False))]
    return np.concatenate([stored, arriving])
