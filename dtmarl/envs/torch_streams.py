"""Streams of numbers as torch tensors, and the devices they can be on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dtmarl.config import ScenarioConfig
from dtmarl.counter_noise import CounterStreams
from dtmarl.randomness import EnvironmentStreams, Noise


class MovedStreams:
    """Numbers drawn by NumPy, one generator per environment, as tensors.

    Args:
        streams: draws them.
        dtype: of the tensors.
        device: of the tensors.
    """

    def __init__(self, streams: EnvironmentStreams, dtype: torch.dtype, device: str) -> None:
        self._streams, self._dtype, self._device = streams, dtype, device
        self.num_envs = streams.num_envs

    def draw_reset(self) -> Noise:
        """The numbers that `dynamics.initial_state` consumes, [E, …] each."""
        return self._moved(self._streams.draw_reset())

    def draw_frame(self) -> Noise:
        """The numbers that one frame consumes, [S, E, …] each."""
        return self._moved(self._streams.draw_frame())

    def _moved(self, noise: Noise) -> Noise:
        return {
            name: torch.from_numpy(block).to(self._device, self._dtype)
            for name, block in noise.items()
        }


def torch_streams(
    config: ScenarioConfig, seeds: Sequence[int | None], noise: str, dtype: str, device: str
) -> CounterStreams | MovedStreams:
    """Streams of numbers as tensors; arguments as of `dtmarl.envs.vector.VectorEnv`."""
    real = {"float32": torch.float32, "float64": torch.float64}[dtype]
    if noise == "counter":
        return CounterStreams(config, seeds, real, device)
    return MovedStreams(EnvironmentStreams(config, seeds), real, device)


def check_device(device: str) -> None:
    """Raise ValueError where torch has no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device: expected one that torch has here, got {device!r}") from error
