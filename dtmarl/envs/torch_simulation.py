"""The simulation on torch tensors: where its noise comes from, and what of it is compiled."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dtmarl.accuracy import AccuracyEngine
from dtmarl.config import ScenarioConfig
from dtmarl.counter_noise import CounterStreams
from dtmarl.envs.observation import Observations
from dtmarl.envs.simulation import Simulation
from dtmarl.randomness import EnvironmentStreams, Noise, Streams


class _MovedStreams:
    """Numbers drawn by NumPy, one generator per environment, as tensors."""

    def __init__(self, streams: EnvironmentStreams, dtype: torch.dtype, device: str) -> None:
        self._streams, self._dtype, self._device = streams, dtype, device

    def draw_reset(self) -> Noise:
        return self._moved(self._streams.draw_reset())

    def draw_frame(self) -> Noise:
        return self._moved(self._streams.draw_frame())

    def _moved(self, noise: Noise) -> Noise:
        return {
            name: torch.from_numpy(block).to(self._device, self._dtype)
            for name, block in noise.items()
        }


def torch_simulation(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    seeds: Sequence[int | None],
    slots_per_decision: int,
    layouts: Observations,
    *,
    dtype: str,
    device: str,
    noise: str,
    compile: bool,
) -> Simulation:
    """A simulation on torch; the arguments are those of `dtmarl.envs.vector.VectorEnv`."""
    real = {"float32": torch.float32, "float64": torch.float64}[dtype]
    streams: Streams = (
        CounterStreams(config, seeds, real, device)
        if noise == "counter"
        else _MovedStreams(EnvironmentStreams(config, seeds), real, device)
    )
    return Simulation(config, engine, streams, slots_per_decision, layouts)
