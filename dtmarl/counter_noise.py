"""Random numbers as a function of seed, draw and place, for batches on torch.

A generator with a state would be one call per environment and draw. Here each number is a hash of
its environment's seed, the number of the draw and its place in it: environments do not depend on
their neighbours, a compiled graph makes the numbers where it needs them, and the CPU and a GPU
agree on them. They are not those of `EnvironmentStreams`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.randomness import Layout, Noise, frame_layout, reset_layout

# Multipliers of Chris Wellons' "triple32" search for hashes of 32 bits with little bias, and an odd
# number near 2^32 over the golden ratio, which sets the draws apart; as signed numbers.
_FIRST, _SECOND, _DRAW = 0x21F0AAAD, 0xD35A2D97 - 2**32, 0x9E3779B9 - 2**32

# The base-two logarithm of m in [1, 2), in powers of m - 1.5: a fit, right to 1.3e-5.
_LOGARITHM = (
    0.0448727979, -0.0800095751, 0.141423271, -0.319749335, 0.961839645, 0.584950503,
)  # fmt: skip

# The normal quantile of (1 + u) / 2 over u, in powers of 1 + log2(1 - u²) / 11: a fit, right to
# 7e-6 up to u = 1 - 2^-23. One polynomial serves centre and tails.
_QUANTILE = (
    -0.0213255809, -0.0306829856, 0.0352822092, 0.0919822744, 0.0677803888, 0.0218566757,
    -0.038117995, -0.160064779, -0.438790471, -1.94376929, 3.66919147,
)  # fmt: skip

_FRACTION, _ONE, _TWO = 0x7FFFFF, 0x3F800000, 0x40000000
"""Bits of a number in single precision: what follows the point, and those of 1.0 and 2.0."""

_LARGEST = "fading"
"""The block of a frame that `SlotBySlot` is for; it is asked for by slots only."""

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
        self.num_envs = len(seeds)
        self._reset_layout = reset_layout(config)
        self._frame_layout = frame_layout(config)

    def draw_reset(self) -> Noise:
        """The numbers that `dynamics.initial_state` consumes, [E, …] each."""
        return self.reset_noise(self.next_source())

    def draw_frame(self) -> Noise:
        """The numbers that one frame consumes, [S, E, …] each; see `draw_slots`."""
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
    return _draw(layouts, keys, dtype, environment_axis=0)


def draw_slots(layouts: tuple[Layout, Layout], keys: Keys, dtype: Any) -> Noise:
    """As `draw`, with the slots' axis S of each block before that of the environments.

    The largest block comes as `SlotBySlot`.
    """
    return _draw(layouts, keys, dtype, environment_axis=1)


class SlotBySlot:
    """A block [S, E, …] of a frame, of which slots are made where they are asked for.

    Of use where that is once: a compiled graph then makes the numbers within the loop that takes
    them, and never writes them down. For the largest block, that is half of a frame's memory.

    Args:
        start: the first place of the block.
        shape: of the block, without the axis E.
        keys: of the draw.
        dtype: of the numbers.
    """

    def __init__(self, start: int, shape: Sequence[int], keys: Keys, dtype: Any) -> None:
        self._start, self._rest, self._keys, self._dtype = start, tuple(shape[1:]), keys, dtype
        self.shape = (shape[0], keys[0].shape[0], *self._rest)

    def __getitem__(self, slots: int | slice) -> Array:
        """Standard normal numbers of a slot, [E, …], or of some one after the other, [T, E, …]."""
        if not isinstance(slots, slice):
            at = range(self.shape[0])[slots]
            return self[at : at + 1][0]
        first, stop, step = slots.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"slots: expected them one after the other, got {slots}")
        start = self._start + first * prod(self._rest)
        shape = (stop - first, *self._rest)
        return _block(start, shape, self._keys, self._dtype, standard_normal, 1)


def _draw(layouts: tuple[Layout, Layout], keys: Keys, dtype: Any, environment_axis: int) -> Noise:
    noise: Noise = {}
    start = 0
    for layout, convert in zip(layouts, (standard_normal, unit_uniform), strict=True):
        for name, shape in layout.items():
            if environment_axis == 1 and name == _LARGEST:
                noise[name] = SlotBySlot(start, shape, keys, dtype)
            else:
                noise[name] = _block(start, shape, keys, dtype, convert, environment_axis)
            start += prod(shape)
    return noise


def _block(
    start: int,
    shape: Sequence[int],
    keys: Keys,
    dtype: Any,
    convert: Callable[[Array, Any], Array],
    environment_axis: int,
) -> Array:
    # Memory runs along E, in which every place gets as many numbers as there are keys.
    bits = _bits(_places(start, shape, keys[0])[..., None], *keys)
    return convert(bits, dtype).movedim(-1, environment_axis)


def hashed(word: Array) -> Array:
    """A word of 32 bits for each of another, any shape int32; shifts are made unsigned by masks."""
    return _second_half(_first_half(word))


def unit_uniform(bits: Array, dtype: Any) -> Array:
    """Uniform numbers in (0, 1) from random words, any shape, in steps of 2^-23."""
    # With one bit more, the largest number would be rounded to one in single precision.
    return (_number(_high_bits(bits) | _ONE) - (1.0 - 2.0**-24)).to(dtype)


def standard_normal(bits: Array, dtype: Any) -> Array:
    """Standard normal numbers from random words, any shape, by the inverse distribution.

    The range is ±5.3, that of the 2^23 numbers which `unit_uniform` gives.
    """
    centred = (_number(_high_bits(bits) | _TWO) - 3.0) + 2.0**-23
    inside = (1.0 - centred) * (1.0 + centred)
    tail = _logarithm(inside) * (1.0 / 11.0) + 1.0
    return (centred * _polynomial(_QUANTILE, tail)).to(dtype)


def _high_bits(bits: Array) -> Array:
    return (bits >> 9) & _FRACTION


def _number(bits: Array) -> Array:
    """The number in single precision that has these bits."""
    return bits.view(torch.float32)


def _logarithm(value: Array) -> Array:
    """Base-two logarithm of positive numbers in single precision, from their bits."""
    bits = value.view(torch.int32)
    exponent = ((bits >> 23) - 127).to(torch.float32)
    return exponent + _polynomial(_LOGARITHM, _number((bits & _FRACTION) | _ONE) - 1.5)


def _bits(place: Array, first: Array, second: Array) -> Array:
    # The places' hashes are the same for all environments, so that one more is all it takes; the
    # second word comes in half-way, or environments would share their numbers with a shared first.
    return _second_half(_first_half(hashed(place) + first) ^ second)


def _first_half(word: Array) -> Array:
    word = (word ^ ((word >> 16) & 0xFFFF)) * _FIRST
    return word ^ ((word >> 15) & 0x1FFFF)


def _second_half(word: Array) -> Array:
    word = word * _SECOND
    return word ^ ((word >> 15) & 0x1FFFF)


def _places(start: int, shape: Sequence[int], like: Array) -> Array:
    size = prod(shape)
    place = torch.arange(start, start + size, dtype=torch.int32, device=like.device)
    return place.reshape(tuple(shape))


def _polynomial(coefficients: Sequence[float], at: Array) -> Array:
    value = torch.full_like(at, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * at + coefficient
    return value
