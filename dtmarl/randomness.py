"""The only place that samples: one generator per environment, drawn a frame at a time.

The numbers an environment sees depend on its own seed alone, never on its batch neighbours, and
`dynamics` is a deterministic function of what is drawn here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Protocol

import numpy as np

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig

Noise = dict[str, Array]
"""Named blocks of standard normal or uniform numbers, [S, E, …] (a frame) or [E, …] (a reset)."""

Layout = dict[str, tuple[int, ...]]


class Streams(Protocol):
    """Where a batch of environments has its numbers from."""

    def draw_reset(self) -> Noise:
        """The numbers that `dynamics.initial_state` consumes, [E, …] each."""

    def draw_frame(self) -> Noise:
        """The numbers that one frame consumes, [S, E, …] each."""


class EnvironmentStreams:
    """One random generator per environment.

    Args:
        seeds: one seed per environment; None takes fresh entropy.
    """

    def __init__(self, config: ScenarioConfig, seeds: Sequence[int | None]) -> None:
        self._generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.num_envs = len(seeds)
        self._reset_layout = reset_layout(config)
        self._frame_layout = frame_layout(config)

    def draw_reset(self) -> Noise:
        """The numbers that `dynamics.initial_state` consumes, [E, …] each."""
        return self._draw(self._reset_layout, self._generators)

    def draw_frame(self) -> Noise:
        """The numbers that one frame consumes, [S, E, …] each."""
        noise = self._draw(self._frame_layout, self._generators)
        return {name: block.swapaxes(0, 1) for name, block in noise.items()}

    @staticmethod
    def _draw(layouts: tuple[Layout, Layout], generators: Iterable[np.random.Generator]) -> Noise:
        generators = list(generators)
        noise: Noise = {}
        normal, uniform = layouts
        for layout, method in ((normal, "standard_normal"), (uniform, "random")):
            # One call per environment and distribution: a call costs more than what it draws.
            block = np.empty((len(generators), sum(prod(shape) for shape in layout.values())))
            for row, generator in zip(block, generators, strict=True):
                getattr(generator, method)(out=row)
            start = 0
            for name, shape in layout.items():
                size = prod(shape)
                noise[name] = block[:, start : start + size].reshape(len(generators), *shape)
                start += size
        return noise


def reset_layout(config: ScenarioConfig) -> tuple[Layout, Layout]:
    """Normal and uniform blocks of a reset, one environment's."""
    m, n, k = config.num_base_stations, config.max_users, config.learning.num_classes
    blocks = config.radio.coherence_blocks
    normal: Layout = {
        "hotspot_offset": (n, 2),
        "velocity": (n, 2),
        "shadowing": (m, n),
        "fading": (m, n, blocks, 2),
        "own_load": (m,),
        "recall": (n, k),
    }
    uniform: Layout = {
        "num_users": (),
        "position": (n, 2),
        "heading": (n,),
        "vehicle": (n,),
        "hotspot": (n,),
        "hotspot_center": (2,),
        "line_of_sight": (m, n),
        "place_context": (config.learning.cells_per_side**2,),
        "initially_there": (n,),
        "arrival": (n,),
        "stay": (n,),
        "failed_site": (),
        "failure_frame": (),
    }
    return normal, uniform


def frame_layout(config: ScenarioConfig) -> tuple[Layout, Layout]:
    """Normal and uniform blocks of a frame, one environment's; S is their first axis."""
    m, n, k = config.num_base_stations, config.max_users, config.learning.num_classes
    blocks, s = config.radio.coherence_blocks, config.slots_per_frame
    normal: Layout = {
        "velocity": (s, n, 2),
        "shadowing": (s, m, n),
        "fading": (s, m, n, blocks, 2),
        "own_load": (s, m),
        "measured_accuracy": (s, n),
        "uploaded_classes": (s, n, k),
        "update": (s, n, k),
        "report_position": (s, n, 2),
        "report_gain": (s, m, n),
        "announcement": (s, n),
    }
    uniform: Layout = {
        "line_of_sight_renewal": (s, m, n),
        "line_of_sight": (s, m, n),
        "context_switch": (s, n),
        "context": (s, n),
        "task": (s, n),
        "report_loss": (s, n),
        "announcement_loss": (s, n),
    }
    return normal, uniform
