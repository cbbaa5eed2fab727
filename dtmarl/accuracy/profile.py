"""Fast accuracy engine: how recall per class moves, fitted to measured retraining runs.

For a class k with current logit ``l_k = ln(ρ_k / (1 − ρ_k))`` and base logit ``β_k``, an update on
``r_k`` real and ``g_k`` twin-generated images of each class gives

    m_k  = r_k + η g_k                        effective images, n = Σ_k m_k
    o_k  = Σ_j W_kj m_j                       images of k's rivals, the classes it is mistaken for
    κ_k  = 1 − exp(−((m_k + o_k) / n₀)^γ)     how far the update gets
    τ_k  = β_k + a + b ln((m_k + ε n) / (o_k + ε n))              where it goes
    l′_k = l_k + κ_k (τ_k − l_k) + √κ_k σ ζ_k                     luck of the run
    ζ_k  = (z_k − ω Σ_j W_kj z_j) / √(1 + ω² Σ_j W_kj²)           z_k standard normal

So a class gains from its own images and loses to those of its rivals; a class that neither concerns
stays, and one that is lucky is so at its rivals' cost. W, with rows that sum to 1, is how the base
network's errors spread. Every user starts with the base network.

Full retraining forgets the current model: it starts from the base weights (``l_k = β_k``) or from
random ones (``l_k = logit(RECALL_LIMIT)``, nothing recognised), with coefficients of its own.
Without any image nothing moves.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from dtmarl.backend import Array, constant, namespace

FORMAT = 2
RECALL_LIMIT = 1.0 / 600.0
"""Recall is taken to lie this far from 0 and 1 at least: half the measurements' resolution."""
UPDATE_KINDS = ("incremental", "full-base", "full-scratch")
_POSITIVE = ("samples_scale", "samples_exponent", "share_floor")
_NOT_NEGATIVE = ("twin_weight", "luck_std", "rivalry")


@dataclass(frozen=True, kw_only=True)
class UpdateCoefficients:
    """Coefficients of one kind of update, in the order of the module's formulas."""

    twin_weight: float  # η, worth of a twin image in real ones
    samples_scale: float  # n₀, images
    samples_exponent: float  # γ
    shift: float  # a
    share_slope: float  # b
    share_floor: float  # ε
    luck_std: float  # σ, in logit
    rivalry: float  # ω

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{field.name}: expected a number, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{field.name}: expected a finite number, got {value!r}")
            if field.name in _POSITIVE and value <= 0:
                raise ValueError(f"{field.name}: expected a positive number, got {value!r}")
            if field.name in _NOT_NEGATIVE and value < 0:
                raise ValueError(f"{field.name}: expected zero or more, got {value!r}")


def logit(recall: Array) -> Array:
    """Logit of recall, which is kept `RECALL_LIMIT` away from 0 and 1 first; any shape."""
    xp = namespace(recall)
    kept = xp.clip(recall, RECALL_LIMIT, 1.0 - RECALL_LIMIT)
    return xp.log(kept / (1.0 - kept))


def moved_logit(
    start: Array,
    base: Array,
    rivals: Array,
    real_samples: Array,
    twin_samples: Array,
    coefficients: UpdateCoefficients,
) -> tuple[Array, Array]:
    """Expected logit after an update, and how far the update gets, κ: the module's formulas.

    Args:
        start: [..., K] logit that training starts from.
        base: [K] logit β of the base network.
        rivals: [K, K] matrix W: how the errors on a class (row) spread over the others.
        real_samples: [..., K] uploaded images of each class, r.
        twin_samples: [..., K] generated images of each class, g.
        coefficients: of this kind of update.

    Returns:
        ``l + κ (τ − l)`` and κ, both [..., K]; κ is 0 where there is no image.
    """
    xp = namespace(start)
    c = coefficients
    own = real_samples + c.twin_weight * twin_samples
    total = xp.sum(own, axis=-1, keepdims=True)
    opposed = xp.sum(rivals * own[..., None, :], axis=-1)
    reach = 1.0 - xp.exp(-(((own + opposed) / c.samples_scale) ** c.samples_exponent))
    floor = c.share_floor * xp.where(total > 0.0, total, xp.ones_like(total))
    target = base + c.shift + c.share_slope * xp.log((own + floor) / (opposed + floor))
    return start + reach * (target - start), reach


def luck(noise: Array, rivals: Array, rivalry: float) -> Array:
    """Standard normal ζ [..., K] that classes win from their rivals, by the module's formula.

    Args:
        noise: [..., K] standard normal and independent, z.
        rivals: [K, K] matrix W.
        rivalry: ω.
    """
    xp = namespace(noise)
    lost = xp.sum(rivals * noise[..., None, :], axis=-1)
    scale = xp.sqrt(1.0 + rivalry**2 * xp.sum(rivals**2, axis=-1))
    return (noise - rivalry * lost) / scale


@dataclass(frozen=True)
class ProfileEngine:
    """Accuracy engine with measured coefficients; see the module's formulas.

    What its methods take and promise stands in `dtmarl.accuracy.AccuracyEngine`.

    >>> import numpy as np
    >>> engine = ProfileEngine.load()
    >>> none = np.zeros((1, 1, 10))
    >>> recall = engine.initial_recall(none)
    >>> images = none + 250.0 * np.eye(10)[3]  # 250 images of class 3, nothing else
    >>> updated = engine.update(recall, images, none, none)
    >>> bool(updated[0, 0, 3] > recall[0, 0, 3]), bool(updated[0, 0, 8] < recall[0, 0, 8])
    (True, True)
    """

    base_recall: tuple[float, ...]
    rivals: tuple[tuple[float, ...], ...]
    coefficients: dict[str, UpdateCoefficients]
    full_start: str = "base"

    def __post_init__(self) -> None:
        k = len(self.base_recall)
        if k < 2 or not all(0.0 < value < 1.0 for value in self.base_recall):
            raise ValueError(
                f"base_recall: expected at least 2 values in (0, 1), got {self.base_recall}"
            )
        if len(self.rivals) != k or any(
            len(row) != k or min(row) < 0.0 or abs(sum(row) - 1.0) > 1e-3 for row in self.rivals
        ):
            raise ValueError(f"rivals: expected {k} rows of {k} shares that sum to 1")
        if set(self.coefficients) != set(UPDATE_KINDS):
            raise ValueError(
                f"coefficients: expected the kinds {UPDATE_KINDS}, got {tuple(self.coefficients)}"
            )
        if self.full_start not in ("base", "scratch"):
            raise ValueError(f"full_start: expected 'base' or 'scratch', got {self.full_start!r}")

    @classmethod
    def load(cls, path: Path | None = None, *, full_start: str = "base") -> ProfileEngine:
        """Read a profile written by ``eval/fit_profile.py``; by default the packaged one.

        Args:
            path: profile file, or ``None``.
            full_start: weights that full retraining starts from, ``"base"`` or ``"scratch"``.

        Raises:
            ValueError: If the file is missing, or is not a valid profile.
        """
        source = path or resources.files("dtmarl.accuracy") / "data" / "profile.json"
        try:
            stored = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{source}: expected a readable profile, got {error}") from error
        try:
            return cls.from_dict(stored, full_start=full_start)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def from_dict(cls, stored: dict[str, Any], *, full_start: str = "base") -> ProfileEngine:
        """Check the content of a profile file.

        Raises:
            ValueError: If an entry is missing or out of range.
        """
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
            raise ValueError(f"expected a profile of format {FORMAT}, got {found!r}")
        try:
            return cls(
                base_recall=tuple(float(value) for value in stored["base_recall"]),
                rivals=tuple(tuple(float(w) for w in row) for row in stored["rivals"]),
                coefficients={
                    kind: UpdateCoefficients(**values)
                    for kind, values in stored["coefficients"].items()
                },
                full_start=full_start,
            )
        except KeyError as error:
            raise ValueError(f"expected the entry {error}, got {sorted(stored)}") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"an entry has the wrong form: {error}") from error

    def initial_recall(self, noise: Array) -> Array:
        """The base network's recall for every user, [E, N, K]."""
        return constant(self.base_recall, noise) + namespace(noise).zeros_like(noise)

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """Recall after retraining; full retraining starts from `full_start`."""
        xp = namespace(recall)
        base = logit(constant(self.base_recall, recall))
        if mode == "incremental":
            start, kind = logit(recall), "incremental"
        elif mode == "full" and self.full_start == "base":
            start, kind = base + xp.zeros_like(recall), "full-base"
        elif mode == "full":
            start, kind = logit(xp.zeros_like(recall)), "full-scratch"
        else:
            raise ValueError(f"mode: expected 'incremental' or 'full', got {mode!r}")
        c = self.coefficients[kind]
        rivals = constant(self.rivals, recall)
        moved, reach = moved_logit(start, base, rivals, real_samples, twin_samples, c)
        scatter = c.luck_std * xp.sqrt(reach) * luck(noise, rivals, c.rivalry)
        updated = _recall(moved + scatter)
        return xp.where(reach > 0.0, updated, recall)


def _recall(value: Array) -> Array:
    """Recall of a logit, without overflow at either end."""
    xp = namespace(value)
    small = xp.exp(-xp.abs(value))
    return xp.where(value >= 0.0, 1.0 / (1.0 + small), small / (1.0 + small))
