"""The twin's data store: images that users upload, with a capacity."""

from __future__ import annotations

from dtmarl.backend import Array, namespace


def add_images(class_counts: Array, uploaded: Array, capacity: float) -> Array:
    """Images of each class in each user's store after an upload, [E, N, K].

    A full store makes room by evicting images at random, which thins every class alike.

    Args:
        class_counts: [E, N, K] images in the store.
        uploaded: [E, N, K] images that arrive.
        capacity: images that the store holds for each user.
    """
    xp = namespace(class_counts)
    before, new = class_counts.sum(axis=-1), uploaded.sum(axis=-1)
    kept = xp.minimum(xp.maximum(capacity - new, 0.0) / xp.maximum(before, 1.0), 1.0)
    taken = xp.minimum(capacity / xp.maximum(new, 1.0), 1.0)
    return class_counts * kept[..., None] + uploaded * taken[..., None]


def class_mix(class_counts: Array) -> Array:
    """Estimate of each user's class mix q_n from its store, [E, N, K].

    One image of pseudo-count is spread over the classes, so that no estimate is zero, as eq (8)
    divides by it, and an empty store means the uniform mix.
    """
    num_classes = class_counts.shape[-1]
    total = class_counts.sum(axis=-1) + 1.0
    return (class_counts + 1.0 / num_classes) / total[..., None]
