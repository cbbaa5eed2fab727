"""The world that no decision influences, a frame at a time: movement, contexts, channels, load.

Because nothing here depends on an action, a whole frame is computed in a few array operations, and
two policies that run with the same seed meet exactly the same world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dtmarl.backend import Array, constant, count_to, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import compute, context, link, mobility
from dtmarl.physics.channel import CHANNELS, process
from dtmarl.randomness import Noise
from dtmarl.types import Scene, World, WorldFrame


def initial_scene(config: ScenarioConfig, noise: Noise) -> Scene:
    """What an episode fixes: sites, contexts, who is a vehicle, who comes and goes, what fails.

    Args:
        config: the scenario.
        noise: from `EnvironmentStreams.draw_reset`.
    """
    xp = namespace(noise["vehicle"])
    like = noise["vehicle"]
    moves = config.mobility
    vehicle_mask = noise["vehicle"] < moves.vehicle_fraction
    speeds = (moves.pedestrian_speed_m_per_s, moves.vehicle_speed_m_per_s)
    memories = [
        process.fading_memory(speed, moves.slot_spacing_s, config.radio.carrier_hz)
        for speed in speeds
    ]
    sites = constant(mobility.site_positions_m(config.num_base_stations, moves), like)
    angle = 2.0 * math.pi * noise["heading"]
    arrival, departure = _presence(config, noise)
    failed_site, failure_frame = _outage(config, noise)
    return Scene(
        # Per environment, so that all operands of a distance have the axis that memory runs along.
        site_position_m=sites + xp.zeros_like(like[:, 0])[:, None, None],
        context_library=constant(context.context_library(config.learning), like),
        vehicle_mask=vehicle_mask,
        mean_speed_m_per_s=_by_vehicle(vehicle_mask, speeds, like),
        heading=xp.stack([xp.cos(angle), xp.sin(angle)], axis=-1),
        fading_memory=_by_vehicle(vehicle_mask, memories, like),
        place_context=_whole_number(noise["place_context"], config.learning.num_contexts),
        arrival_frame=arrival,
        departure_frame=departure,
        failed_site=failed_site,
        failure_frame=failure_frame,
    )


def initial_world(config: ScenarioConfig, scene: Scene, noise: Noise) -> World:
    """Where everything is before the first slot, drawn from the stationary distributions."""
    xp = namespace(noise["position"])
    moves = config.mobility
    extent = constant([moves.width_m, moves.height_m], noise["position"])
    position = noise["position"] * extent
    center = (0.25 + 0.5 * noise["hotspot_center"])[:, None, :] * extent
    near_center = center + moves.hotspot_radius_m * noise["hotspot_offset"]
    in_hotspot = (noise["hotspot"] < moves.hotspot_fraction)[..., None]
    inside = xp.minimum(xp.maximum(near_center, 0.0), extent)
    position = xp.where(in_hotspot, inside, position)
    speed = scene.mean_speed_m_per_s[..., None]
    cell = mobility.cell_index(position, moves, config.learning.cells_per_side)
    return World(
        unfolded_m=position,
        velocity_m_per_s=speed * (scene.heading + moves.speed_spread * noise["velocity"]),
        cell=cell,
        context=xp.take_along_axis(scene.place_context, cell, axis=1),
        line_of_sight_latent=noise["line_of_sight"],
        shadowing_latent=noise["shadowing"],
        fading_latent=noise["fading"],
        own_load_latent=noise["own_load"],
    )


def advance_frame(
    config: ScenarioConfig, scene: Scene, world: World, frame_index: int, noise: Noise
) -> tuple[World, WorldFrame]:
    """Let the world run through one frame.

    Args:
        config: the scenario.
        scene: what the episode fixes.
        world: the world before the frame.
        frame_index: number of the frame, from 0.
        noise: [S, E, …], from `EnvironmentStreams.draw_frame`.

    Returns:
        The world at the frame's last slot, and its path over the frame's slots.
    """
    xp = namespace(world.unfolded_m)
    moves = config.mobility
    velocity = mobility.velocity_path(
        world.velocity_m_per_s, scene.heading, scene.mean_speed_m_per_s, noise["velocity"], moves
    )
    unfolded = mobility.position_path(world.unfolded_m, velocity, moves)
    extent = constant([moves.width_m, moves.height_m], unfolded)
    position = mobility.fold(unfolded, extent)
    cell = mobility.cell_index(position, config.mobility, config.learning.cells_per_side)
    contexts = context.context_path(
        world.context, world.cell, cell, scene.place_context, noise["context_switch"],
        noise["context"], config.learning,
    )  # fmt: skip
    moved_m = moves.slot_spacing_s * xp.sqrt(xp.sum(velocity * velocity, axis=-1))

    model = CHANNELS[config.radio.channel]
    distance = mobility.distance_m(position, scene.site_position_m)
    sight_latent = process.line_of_sight_latent(
        world.line_of_sight_latent,
        moved_m,
        noise["line_of_sight_renewal"],
        noise["line_of_sight"],
        model.line_of_sight_correlation_m,
    )
    # Through a number, one with line of sight: compiled loops are slow at keeping masks.
    in_sight = xp.ceil(model.line_of_sight_probability(distance) - sight_latent)
    sight_mask = in_sight > 0.0
    correlation_m = process.by_line_of_sight(in_sight, model.shadowing_correlation_m, distance)
    shadowing = process.autoregress(
        world.shadowing_latent,
        xp.exp(-moved_m[:, :, None, :] / correlation_m),
        noise["shadowing"],
    )
    fading, fading_latent = process.fading_path(
        world.fading_latent,
        scene.fading_memory,
        noise["fading"],
        process.by_line_of_sight(in_sight, model.rician_k, distance),
    )
    own_load = process.autoregress(
        world.own_load_latent,
        xp.full_like(world.own_load_latent[None, ...], config.compute.own_load_memory),
        noise["own_load"],
    )
    gain = process.gain(model, distance, sight_mask, shadowing, fading, config.radio)
    up_mask = _up_mask(config, scene, frame_index)
    present = (scene.arrival_frame <= frame_index) & (frame_index < scene.departure_frame)
    num_users = xp.astype(present, position.dtype).sum(axis=-1)
    frame = WorldFrame(
        position_m=position,
        cell=cell,
        class_mix=scene.context_library[contexts],
        gain=gain,
        rate_bytes_per_s=link.usable_rate_bytes_per_s(gain, config.radio),
        task_bytes=xp.where(present, context.task_bytes(noise["task"], config.traffic), 0.0),
        free_flop_per_s=xp.where(
            up_mask[None, ...],
            compute.free_flop_per_s(own_load, config.compute),
            0.0,
        ),
        up_mask=up_mask,
        present_mask=present,
        num_users=xp.maximum(num_users, 1.0),
    )
    return (
        World(
            unfolded_m=unfolded[-1, ...],
            velocity_m_per_s=velocity[-1, ...],
            cell=cell[-1, ...],
            context=contexts[-1, ...],
            line_of_sight_latent=sight_latent[-1, ...],
            shadowing_latent=shadowing[-1, ...],
            fading_latent=fading_latent,
            own_load_latent=own_load[-1, ...],
        ),
        frame,
    )


def _up_mask(config: ScenarioConfig, scene: Scene, frame_index: int) -> Array:
    """Base stations that work during a frame, [E, M]."""
    site = count_to(config.num_base_stations, scene.failed_site)
    away = (scene.failure_frame <= frame_index) & (
        frame_index < scene.failure_frame + config.outage.duration_frames
    )
    return ~((site == scene.failed_site[:, None]) & away[:, None])


def _presence(config: ScenarioConfig, noise: Noise) -> tuple[Array, Array]:
    """First frame in which each user is there, and first in which it no longer is, [E, N] each."""
    frames = config.frames_per_episode
    xp = namespace(noise["num_users"])
    user = count_to(config.max_users, noise["num_users"])
    never = frames + 1
    if not config.churn.enabled:
        span = config.max_users - config.min_users + 1
        count = config.min_users + _whole_number(noise["num_users"], span)
        there = user < count[:, None]
        ever = xp.full_like(xp.astype(there, xp.int64), never)
        return xp.where(there, xp.zeros_like(ever), ever), ever
    # A user index is used once an episode: it arrives once and leaves at most once.
    resident = user < config.min_users
    at_start = resident | (noise["initially_there"] < config.churn.initial_fraction)
    later = 1 + _whole_number(noise["arrival"], max(frames - 1, 1))
    arrival = xp.where(at_start, xp.zeros_like(later), later)
    stay = 1 + xp.floor(-(config.churn.mean_stay_frames - 1) * xp.log1p(-noise["stay"]))
    leaving = arrival + xp.astype(stay, xp.int64)
    # Who would leave as the episode ends is there to see its end.
    stays = resident | (leaving >= frames)
    departure = xp.where(stays, xp.full_like(leaving, never), leaving)
    return arrival, departure


def _outage(config: ScenarioConfig, noise: Noise) -> tuple[Array, Array]:
    """Index of the failing base station (-1: none) and the first frame of its outage, [E] each."""
    if not config.outage.enabled:
        none = _whole_number(noise["failed_site"], 1) - 1
        return none, none
    last_start = config.frames_per_episode - config.outage.duration_frames - 1
    site = _whole_number(noise["failed_site"], config.num_base_stations)
    return site, 1 + _whole_number(noise["failure_frame"], last_start)


def _whole_number(uniform: Array, count: int) -> Array:
    """Uniform whole numbers in [0, count) from uniform numbers in [0, 1)."""
    xp = namespace(uniform)
    return xp.astype(xp.minimum(xp.floor(uniform * count), float(count - 1)), xp.int64)


def _by_vehicle(vehicle_mask: Array, pair: Sequence[float], like: Array) -> Array:
    """The first value of a pair for pedestrians, the second for vehicles, dtype of `like`."""
    on_foot, vehicle = (constant(value, like) for value in pair)
    return namespace(like).where(vehicle_mask, vehicle, on_foot)
