"""Channel gains that are correlated in space and time, from a model's statistics.

Line of sight: a uniform latent u, redrawn with probability 1 - exp(-Δd / d_c) when the user moves
by Δd, is compared with the line-of-sight probability of the place; the marginal is exact and the
state decorrelates exponentially over d_c. Shadowing: AR(1) in the distance moved (TR 38.901,
7.4.4). Small-scale fading: AR(1) in time with Jakes' autocorrelation J0(2π f_D τ) over
`coherence_blocks` independent blocks of the band, Rician with line of sight, Rayleigh without.
"""

from __future__ import annotations

import math
from math import prod

from scipy.special import j0

from dtmarl.backend import Array, namespace
from dtmarl.config import RadioConfig
from dtmarl.physics.channel import ChannelModel, Pair
from dtmarl.units import db_to_linear

_SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
_LATENTS_AT_ONCE = 2**16


def fading_memory(mean_speed_m_per_s: float, spacing_s: float, carrier_hz: float) -> float:
    """AR(1) coefficient of small-scale fading: Jakes' J0(2π f_D τ) with f_D = speed · f / c."""
    doppler_hz = mean_speed_m_per_s * carrier_hz / _SPEED_OF_LIGHT_M_PER_S
    return float(j0(2.0 * math.pi * doppler_hz * spacing_s))


def line_of_sight_latent(
    initial: Array, moved_m: Array, renewal: Array, fresh: Array, correlation_m: float
) -> Array:
    """The uniform latent behind the line-of-sight state over the slots of a frame.

    Args:
        initial: [E, M, N] latent before the frame.
        moved_m: [S, E, N] distance moved since the slot before.
        renewal: [S, E, M, N] uniform numbers that decide about redrawing.
        fresh: [S, E, M, N] uniform numbers to redraw from.
        correlation_m: decorrelation distance.

    Returns:
        [S, E, M, N] in (0, 1).
    """
    xp = namespace(initial)
    renew_mask = renewal < 1.0 - xp.exp(moved_m[:, :, None, :] * (-1.0 / correlation_m))
    redrawn = xp.where(renew_mask, fresh, -1.0)
    latent, path = initial, []
    for slot in range(moved_m.shape[0]):
        latent = xp.where(redrawn[slot, ...] >= 0.0, redrawn[slot, ...], latent)
        path.append(latent)
    return xp.stack(path, axis=0)


def autoregress(initial: Array, memory: Array, noise: Array) -> Array:
    """A stationary AR(1) process of unit variance over the slots of a frame.

    Args:
        initial: [...] value before the frame.
        memory: [S, ...] or [1, ...] coefficient in [-1, 1] of each slot.
        noise: [S, ...] standard normal.

    Returns:
        [S, ...].
    """
    xp = namespace(initial)
    innovation = xp.sqrt(1.0 - memory * memory) * noise
    constant = memory.shape[0] == 1
    value, path = initial, []
    for slot in range(noise.shape[0]):
        value = memory[0 if constant else slot, ...] * value + innovation[slot, ...]
        path.append(value)
    return xp.stack(path, axis=0)


def by_line_of_sight(line_of_sight: Array, pair: Pair, like: Array) -> Array:
    """The value of a pair that holds for each link, a mask or ones and zeros, in `like`'s dtype."""
    xp = namespace(like)
    with_sight, without = pair
    return without + (with_sight - without) * xp.astype(line_of_sight, like.dtype, copy=False)


def fading_power(latent: Array, rician_k: Array) -> Array:
    """Small-scale power gain of unit mean, averaged over the coherence blocks.

    Args:
        latent: [..., M, N, B, 2] standard normal real and imaginary parts.
        rician_k: [..., M, N] linear Rician factor.

    Returns:
        [..., M, N].
    """
    xp = namespace(latent)
    direct = xp.sqrt(rician_k / (rician_k + 1.0))[..., None]
    scattered = xp.sqrt(0.5 / (rician_k + 1.0))[..., None]
    real = direct + scattered * latent[..., 0]
    imaginary = scattered * latent[..., 1]
    return xp.mean(real * real + imaginary * imaginary, axis=-1)


def fading_path(
    initial: Array, memory: Array, noise: Array, rician_k: Array
) -> tuple[Array, Array]:
    """Small-scale power gain over the slots of a frame, and the latent at its end.

    Args:
        initial: [E, M, N, B, 2] latent before the frame.
        memory: [E, N] AR(1) coefficient.
        noise: [S, E, M, N, B, 2] standard normal.
        rician_k: [S, E, M, N] linear Rician factor.

    Returns:
        [S, E, M, N] and [E, M, N, B, 2].
    """
    xp = namespace(initial)
    # There are many more latents than gains: as many slots at once as a cache holds.
    at_once = max(_LATENTS_AT_ONCE // prod(noise.shape[1:]), 1)
    latent, path = initial, []
    for first in range(0, noise.shape[0], at_once):
        now = slice(first, first + at_once)
        latents = autoregress(latent, memory[None, :, None, :, None, None], noise[now])
        path.append(fading_power(latents, rician_k[now]))
        latent = latents[-1, ...]
    return xp.concat(path, axis=0), latent


def gain(
    model: ChannelModel,
    distance_m: Array,
    line_of_sight_mask: Array,
    shadowing_latent: Array,
    fading: Array,
    radio: RadioConfig,
) -> Array:
    """Linear power gain h of eq (1): path loss, shadowing and small-scale fading.

    Args:
        model: the channel model.
        distance_m: [..., M, N] horizontal distance.
        line_of_sight_mask: [..., M, N].
        shadowing_latent: [..., M, N] standard normal.
        fading: [..., M, N] small-scale power gain, linear.
        radio: carrier, heights, and which effects are on.

    Returns:
        [..., M, N], linear.
    """
    gain_db = -model.path_loss_db(distance_m, line_of_sight_mask, radio)
    if radio.shadowing:
        std_db = by_line_of_sight(line_of_sight_mask, model.shadowing_std_db, gain_db)
        gain_db = gain_db + std_db * shadowing_latent
    linear = db_to_linear(gain_db)
    return linear * fading if radio.fading else linear
