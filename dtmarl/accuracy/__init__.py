"""Accuracy engines: what retraining does to a model's recall, behind one protocol."""

from __future__ import annotations

from typing import Protocol

from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.backend import Array


class AccuracyEngine(Protocol):
    """Gives new models their recall and moves it when they are retrained."""

    @property
    def base_recall(self) -> tuple[float, ...]:
        """Recall per class of the base network, K numbers in (0, 1)."""

    def initial_recall(self, noise: Array) -> Array:
        """Recall [E, N, K] of newly deployed models; ``noise`` [E, N, K] is standard normal."""

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """Recall [E, N, K] after retraining on the given images of each class.

        Args:
            recall: [E, N, K] before.
            real_samples: [E, N, K] uploaded images.
            twin_samples: [E, N, K] generated images.
            noise: [E, N, K] standard normal.
            mode: ``"incremental"`` or ``"full"``.
        """


class _RealNetworks:
    """Stands for the engine that needs torch, which is imported only when it is asked for."""

    @classmethod
    def load(cls) -> AccuracyEngine:
        """See `dtmarl.accuracy.resnet18.ResNet18Engine.load`."""
        try:
            from dtmarl.accuracy.resnet18 import ResNet18Engine
        except ImportError as error:
            raise ImportError(
                f"accuracy engine 'resnet18': {error}; pip install 'dtmarl[learn]'"
            ) from error
        return ResNet18Engine.load()


ENGINES: dict[str, type[ProfileEngine] | type[_RealNetworks]] = {
    "profile": ProfileEngine,
    "resnet18": _RealNetworks,
}
"""Engines by the name that a configuration gives; each has a ``load`` class method."""
