"""Random numbers as a function of seed, draw and place, for batches on torch.

A generator with a state would be one call per environment and draw. Here each number is a hash of
its environment's seed, the number of the draw and its place in it: environments do not depend on
their neighbours, a compiled graph makes the numbers where it needs them, and the CPU and a GPU
agree on them. They are not those of `EnvironmentStreams`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import numpy as np
import torch

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.randomness import Layout, Noise, frame_layout, reset_layout

# Multipliers of Chris Wellons' "triple32" search for hashes of 32 bits with little bias, and an odd
# number near 2^32 over the golden ratio, which sets the draws apart; as signed numbers.
_FIRST, _SECOND, _DRAW = 0x21F0AAAD, 0xD35A2D97 - 2**32, 0x9E3779B9 - 2**32

# M. Giles, "Approximating the erfinv function", GPU Computing Gems (2011): single precision.
_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


Keys = tuple[Array, Array]
"""Two words [E] int32 that tell an environment's numbers from those of the others."""


class CounterStreams:
    """One stream of numbers per environment, all on one device.

    Args:
        config: the scenario.
        seeds: one seed per environment; None takes fresh entropy.
        dtype: of the numbers.
        device: of the numbers.
    """

    def __init__(
        self, config: ScenarioConfig, seeds: Sequence[int | None], dtype: Any, device: Any
    ) -> None:
        words = np.stack([np.random.SeedSequence(seed).generate_state(2) for seed in seeds])
        keys = torch.from_numpy(words.astype(np.uint32).view(np.int32)).to(device)
        self._keys = (keys[:, 0].contiguous(), keys[:, 1].contiguous())
        self._draw = torch.zeros((), dtype=torch.int32, device=device)
        self._dtype = dtype
        self._reset_layout = reset_layout(config)
        self._frame_layout = frame_layout(config)

    def draw_reset(self) -> Noise:
        """The numbers that `dynamics.initial_state` consumes, [E, …] each."""
        return self.reset_noise(self.next_source())

    def draw_frame(self) -> Noise:
        """The numbers that one frame consumes, [S, E, …] each."""
        return self.frame_noise(self.next_source())

    def next_source(self) -> Keys:
        """What the next draw is made from."""
        self._draw = self._draw + 1
        return draw_keys(self._keys, self._draw)

    def reset_noise(self, source: Keys) -> Noise:
        """The numbers of a reset from what they are made from; always the same."""
        return draw(self._reset_layout, source, self._dtype)

    def frame_noise(self, source: Keys) -> Noise:
        """The numbers of a frame from what they are made from; always the same."""
        return draw_slots(self._frame_layout, source, self._dtype)


def draw_keys(keys: Keys, number: Array) -> Keys:
    """Keys of one draw, [E] int32 each, from those of the environments and its number."""
    first = hashed(hashed(keys[0] + number * _DRAW) ^ keys[1])
    return first, hashed(first ^ keys[0])


def draw(layouts: tuple[Layout, Layout], keys: Keys, dtype: Any) -> Noise:
    """Named blocks [E, …] of one draw: standard normal those of the first layout, else uniform."""
    noise: Noise = {}
    start = 0
    for layout, convert in zip(layouts, (standard_normal, unit_uniform), strict=True):
        for name, shape in layout.items():
            place = _places(start, shape, keys[0])
            per_environment = [key.reshape(-1, *([1] * len(shape))) for key in keys]
            noise[name] = convert(_bits(place[None, ...], *per_environment), dtype)
            start += prod(shape)
    return noise


def draw_slots(layouts: tuple[Layout, Layout], keys: Keys, dtype: Any) -> Noise:
    """As `draw`, with the slots' axis S of each block before that of the environments."""
    noise: Noise = {}
    start = 0
    for layout, convert in zip(layouts, (standard_normal, unit_uniform), strict=True):
        for name, (num_slots, *shape) in layout.items():
            place = _places(start, (num_slots, 1, *shape), keys[0])
            per_environment = [key.reshape(-1, *([1] * len(shape))) for key in keys]
            noise[name] = convert(_bits(place, *per_environment), dtype)
            start += num_slots * prod(shape)
    return noise


def hashed(word: Array) -> Array:
    """A word of 32 bits for each of another, any shape int32; shifts are made unsigned by masks."""
    word = (word ^ ((word >> 16) & 0xFFFF)) * _FIRST
    word = (word ^ ((word >> 15) & 0x1FFFF)) * _SECOND
    return word ^ ((word >> 15) & 0x1FFFF)


def unit_uniform(bits: Array, dtype: Any) -> Array:
    """Uniform numbers in (0, 1) from random words, any shape, in steps of 2^-23."""
    # With one bit more, the largest number would be rounded to one in single precision.
    return (((bits >> 9) & 0x7FFFFF).to(dtype) + 0.5) * 2.0**-23


def standard_normal(bits: Array, dtype: Any) -> Array:
    """Standard normal numbers from random words, any shape, by the inverse distribution.

    The range is ±5.3, that of the 2^23 numbers which `unit_uniform` gives.
    """
    centred = 2.0 * unit_uniform(bits, dtype) - 1.0
    distance = -torch.log((1.0 - centred) * (1.0 + centred))
    is_central = distance < 5.0
    central = _polynomial(_CENTRE, distance - 2.5)
    tail = _polynomial(_TAIL, torch.sqrt(distance) - 3.0)
    return (sqrt(2.0) * centred) * torch.where(is_central, central, tail)


def _bits(place: Array, first: Array, second: Array) -> Array:
    return hashed(hashed(place + first) ^ second)


def _places(start: int, shape: Sequence[int], like: Array) -> Array:
    size = prod(shape)
    place = torch.arange(start, start + size, dtype=torch.int32, device=like.device)
    return place.reshape(tuple(shape))


def _polynomial(coefficients: Sequence[float], at: Array) -> Array:
    value = torch.full_like(at, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * at + coefficient
    return value
