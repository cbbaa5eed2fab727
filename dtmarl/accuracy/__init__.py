"""Accuracy engines: what retraining does to a model's recall, behind one protocol."""

from __future__ import annotations

from typing import Protocol

from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.backend import Array


class AccuracyEngine(Protocol):
    """Gives new models their recall and moves it when they are retrained.

    Arrays are of either backend and come back as they went in; arguments are left alone.
    """

    @property
    def base_recall(self) -> tuple[float, ...]:
        """Recall per class of the base network, K numbers in (0, 1)."""

    def initial_recall(self, noise: Array) -> Array:
        """Recall of newly deployed models, [E, N, K] in [0, 1].

        Args:
            noise: [E, N, K] standard normal; all the randomness there is.
        """

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """Recall ρ′ after retraining, [E, N, K] in [0, 1].

        Args:
            recall: [E, N, K] recall ρ per class before; what the engine returned last.
            real_samples: [E, N, K] uploaded images of each class.
            twin_samples: [E, N, K] images of each class that the twin generates.
            noise: [E, N, K] standard normal; all the randomness there is.
            mode: ``"incremental"``, one pass from the user's present model, or ``"full"``,
                several passes that forget it.

        Returns:
            Bit for bit ``recall`` for users without any image.

        Raises:
            ValueError: ``mode`` is neither of the two.
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
