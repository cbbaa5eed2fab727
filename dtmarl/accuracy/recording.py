"""What an accuracy engine was asked and answered in an episode: written down, read, played again.

Episodes with real networks take minutes. What they leave behind lets the same episode be looked at
again in a second, and the profile be fitted to and compared with updates as they really occur.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtmarl.accuracy import AccuracyEngine
from dtmarl.backend import Array

TRACES = ("present", "accuracy", "breakout", "retrain")
"""What is kept of every slot and user, [T][N]."""


class Recorder:
    """An accuracy engine that writes down what the one inside it was asked and answered.

    Args:
        inner: the engine.
        noise_seed: other seeds give the inner engine other random numbers in the same world.
    """

    def __init__(self, inner: AccuracyEngine, noise_seed: int = 0) -> None:
        self.inner = inner
        self.offset = float(noise_seed)  # other bits are other random numbers
        self.base_recall = inner.base_recall
        self.updates: list[dict[str, Any]] = []

    def initial_recall(self, noise: Array) -> Array:
        """As the inner engine's."""
        return self.inner.initial_recall(noise + self.offset)

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """As the inner engine's; one record for each user that has images."""
        real, twin = real_samples, twin_samples
        after = self.inner.update(recall, real, twin, noise + self.offset, mode=mode)
        for e, n in _trained(real, twin):
            self.updates.append(
                {
                    "user": n,
                    "mode": mode,
                    "before": np.round(recall[e, n], 4).tolist(),
                    "after": np.round(after[e, n], 4).tolist(),
                    "real": np.round(real[e, n], 1).tolist(),
                    "twin": np.round(twin[e, n], 1).tolist(),
                }
            )
        return after


class Replay:
    """An accuracy engine that answers what a `Recorder` wrote down, for the same episode alone.

    Args:
        base_recall: of the recorded engine.
        updates: the recorder's.
    """

    def __init__(self, base_recall: Sequence[float], updates: Sequence[dict[str, Any]]) -> None:
        self.base_recall = tuple(base_recall)
        self._updates = list(updates)
        self._next = 0

    def initial_recall(self, noise: Array) -> Array:
        """The base network's recall for every user."""
        self._next = 0
        return np.zeros_like(noise) + np.array(self.base_recall)

    def update(
        self,
        recall: Array,
        real_samples: Array,
        twin_samples: Array,
        noise: Array,
        *,
        mode: str = "incremental",
    ) -> Array:
        """The recorded recall.

        Raises:
            ValueError: another update was recorded here.
        """
        after = np.array(recall)
        for e, n in _trained(real_samples, twin_samples):
            known = self._updates[self._next] if self._next < len(self._updates) else {}
            if (known.get("user"), known.get("mode")) != (n, mode):
                raise ValueError(
                    f"update {self._next}: user {n} is retrained ({mode}), recorded was "
                    f"{known.get('user')} ({known.get('mode')}): this is not the same episode"
                )
            after[e, n] = known["after"]
            self._next += 1
        return after


def read_episodes(path: Path) -> dict[str, Any]:
    """The content of a file that ``eval/real_retraining.py`` wrote.

    Raises:
        ValueError: it is not one, or is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["origin"]["scenario"], content["origin"]["weights_sha256"]
        for run in content["runs"]:
            run["seed"], run["updates"], run["base_recall"]
            lengths = {len(run[name]) for name in TRACES}
            if len(lengths) != 1:
                raise ValueError(f"its run {run['scheme']!r} is not whole")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected episodes of real networks: {error!r}") from error
    return content


def _trained(real: Array, twin: Array) -> list[tuple[int, int]]:
    """Environment and user of whoever has images, after rounding to whole ones."""
    images = np.asarray(real.sum(axis=-1) + twin.sum(axis=-1))
    return [(int(e), int(n)) for e, n in np.argwhere(np.round(images) > 0)]
