"""Data generation: which class mix the twin generates, and how much of it, eqs (8) and (9)."""

from __future__ import annotations

from dtmarl.backend import Array, namespace


def generated_mix(class_mix: Array, library: Array) -> Array:
    """The mix p of eq (8): the member of the library 𝒫 nearest to the real mix in KL(p ‖ q).

    Args:
        class_mix: [E, N, K] estimate of the real mix q, positive.
        library: [L, K] the mixes that can be generated, positive.

    Returns:
        [E, N, K].
    """
    xp = namespace(class_mix)
    log_ratio = xp.log(library) - xp.log(class_mix)[..., None, :]
    divergence = (library * log_ratio).sum(axis=-1)
    return library[xp.argmin(divergence, axis=-1)]


def generated_samples(mix: Array, uploaded_images: Array, twin_fraction: float) -> Array:
    """Images that the twin generates, S of eq (9) by class, [E, N, K].

    Args:
        mix: [E, N, K] p of eq (8).
        uploaded_images: [E, N] images uploaded in the slot.
        twin_fraction: generated images for each uploaded one.
    """
    return (twin_fraction * uploaded_images)[..., None] * mix
