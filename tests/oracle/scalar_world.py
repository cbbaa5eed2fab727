"""The uncontrolled world of one environment in plain Python, slot by slot.

It shares no code with dtmarl and reads only numbers from its configuration; the channel is written
from 3GPP TR 38.901 (tables 7.4.1-1, 7.4.2-1, 7.5-6 and 7.6.3.1-2) and Friis' formula.
"""

from __future__ import annotations

import math
from typing import Any

GOLDEN_RATIO = 1.618033988749894848


def bessel_j0(x: float) -> float:
    """J0 from its integral, (1/π) ∫ cos(x sin θ) dθ over [0, π]: exact for a periodic integrand."""
    points = 64 + 4 * math.ceil(abs(x))
    return (
        math.fsum(math.cos(x * math.sin(math.pi * (i + 0.5) / points)) for i in range(points))
        / points
    )


class StreetCanyon:
    """UMi street canyon of TR 38.901."""

    sight_correlation_m = 50.0

    @staticmethod
    def sight_probability(flat_m: float) -> float:
        if flat_m <= 18.0:
            return 1.0
        return 18.0 / flat_m + math.exp(-flat_m / 36.0) * (1.0 - 18.0 / flat_m)

    @staticmethod
    def path_loss_db(flat_m: float, sight: bool, radio: Any) -> float:
        flat_m = max(flat_m, 10.0)
        h_bs, h_ut, f_ghz = radio.site_height_m, radio.user_height_m, radio.carrier_hz * 1e-9
        slant = math.hypot(flat_m, h_bs - h_ut)
        breakpoint_m = 4.0 * (h_bs - 1.0) * (h_ut - 1.0) * radio.carrier_hz / 3.0e8
        if flat_m <= breakpoint_m:
            loss = 32.4 + 21.0 * math.log10(slant) + 20.0 * math.log10(f_ghz)
        else:
            loss = 32.4 + 40.0 * math.log10(slant) + 20.0 * math.log10(f_ghz)
            loss -= 9.5 * math.log10(breakpoint_m**2 + (h_bs - h_ut) ** 2)
        if sight:
            return loss
        other = 35.3 * math.log10(slant) + 22.4 + 21.3 * math.log10(f_ghz) - 0.3 * (h_ut - 1.5)
        return max(loss, other)

    @staticmethod
    def shadowing_std_db(sight: bool) -> float:
        return 4.0 if sight else 7.82

    @staticmethod
    def shadowing_correlation_m(sight: bool) -> float:
        return 10.0 if sight else 13.0

    @staticmethod
    def rician_k(sight: bool) -> float:
        return 10.0**0.9 if sight else 0.0


class FreeSpace:
    """Friis' formula; nothing is ever obstructed, the direct path is 20 dB above the rest."""

    sight_correlation_m = 1.0

    @staticmethod
    def sight_probability(flat_m: float) -> float:
        return 1.0

    @staticmethod
    def path_loss_db(flat_m: float, sight: bool, radio: Any) -> float:
        slant = max(math.hypot(flat_m, radio.site_height_m - radio.user_height_m), 1.0)
        return 20.0 * math.log10(4.0 * math.pi * slant * radio.carrier_hz / 299792458.0)

    @staticmethod
    def shadowing_std_db(sight: bool) -> float:
        return 0.0

    @staticmethod
    def shadowing_correlation_m(sight: bool) -> float:
        return 1.0

    @staticmethod
    def rician_k(sight: bool) -> float:
        return 100.0


CHANNELS = {"umi-street-canyon": StreetCanyon, "free-space": FreeSpace}


def pick(uniform: float, count: int) -> int:
    """A whole number in [0, count) from a uniform number in [0, 1)."""
    return min(int(uniform * count), count - 1)


def scene(config: Any, noise: dict[str, Any]) -> dict[str, Any]:
    """What an episode fixes, from the numbers of a reset."""
    moves, sites, users = config.mobility, config.num_base_stations, range(config.max_users)
    vehicle = [noise["vehicle"][n] < moves.vehicle_fraction for n in users]
    speed = [moves.vehicle_speed_m_per_s if v else moves.pedestrian_speed_m_per_s for v in vehicle]
    doppler_hz = [s * config.radio.carrier_hz / 299792458.0 for s in speed]
    never = config.frames_per_episode + 1
    arrival, departure = [], []
    num_users = config.min_users + pick(noise["num_users"], config.max_users - config.min_users + 1)
    for n in users:
        if not config.churn.enabled:
            arrival.append(0 if n < num_users else never)
            departure.append(never)
        elif n < config.min_users:
            arrival.append(0)
            departure.append(never)
        else:
            start = 0
            if noise["initially_there"][n] >= config.churn.initial_fraction:
                start = 1 + pick(noise["arrival"][n], config.frames_per_episode - 1)
            mean_beyond_first = config.churn.mean_stay_frames - 1.0
            stay = 1 + math.floor(mean_beyond_first * -math.log1p(-noise["stay"][n]))
            arrival.append(start)
            departure.append(start + stay)
    failed, failure = -1, -1
    if config.outage.enabled:
        failed = pick(noise["failed_site"], sites)
        # It fails after the first frame and is back for the last one.
        choices = config.frames_per_episode - config.outage.duration_frames - 1
        failure = 1 + pick(noise["failure_frame"], choices)
    return {
        "site": [
            (
                (m + 0.5) / sites * moves.width_m,
                math.fmod((m + 0.5) * GOLDEN_RATIO, 1.0) * moves.height_m,
            )
            for m in range(sites)
        ],
        "speed": speed,
        "heading": [
            (math.cos(2.0 * math.pi * u), math.sin(2.0 * math.pi * u)) for u in noise["heading"]
        ],
        "fading_memory": [bessel_j0(2.0 * math.pi * f * moves.slot_spacing_s) for f in doppler_hz],
        "place_context": [pick(u, config.learning.num_contexts) for u in noise["place_context"]],
        "arrival": arrival,
        "departure": departure,
        "failed": failed,
        "failure": failure,
    }


def cell(config: Any, position: list[float]) -> int:
    """Cell of the place map, row by row from the origin; the far border belongs to the last."""
    side = config.learning.cells_per_side
    column = min(int(position[0] * side / config.mobility.width_m), side - 1)
    row = min(int(position[1] * side / config.mobility.height_m), side - 1)
    return row * side + column


def initial_world(config: Any, fixed: dict[str, Any], noise: dict[str, Any]) -> dict[str, Any]:
    """Where everything is before the first slot."""
    moves = config.mobility
    extent = (moves.width_m, moves.height_m)
    users, position, velocity = range(config.max_users), [], []
    for n in users:
        place = [noise["position"][n][i] * extent[i] for i in (0, 1)]
        if noise["hotspot"][n] < moves.hotspot_fraction:
            for i in (0, 1):
                center = (0.25 + 0.5 * noise["hotspot_center"][i]) * extent[i]
                offset = moves.hotspot_radius_m * noise["hotspot_offset"][n][i]
                place[i] = min(max(center + offset, 0.0), extent[i])
        position.append(place)
        velocity.append(
            [
                fixed["speed"][n]
                * (fixed["heading"][n][i] + moves.speed_spread * noise["velocity"][n][i])
                for i in (0, 1)
            ]
        )
    cells = [cell(config, p) for p in position]
    return {
        "unfolded": position,
        "position": position,
        "velocity": velocity,
        "cell": cells,
        "context": [fixed["place_context"][c] for c in cells],
        "sight": noise["line_of_sight"],
        "shadowing": noise["shadowing"],
        "fading": noise["fading"],
        "own_load": noise["own_load"],
    }


def bounce(place: float, extent: float) -> float:
    """Where a straight path ends that is reflected at 0 and at the extent, as often as it takes."""
    while not 0.0 <= place <= extent:
        place = -place if place < 0.0 else 2.0 * extent - place
    return place


def step(
    config: Any, fixed: dict[str, Any], world: dict[str, Any], frame: int, noise: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One slot: the world after it, and what the slot holds for the network."""
    moves, learning, radio = config.mobility, config.learning, config.radio
    users, sites = range(config.max_users), range(config.num_base_stations)
    extent, memory = (moves.width_m, moves.height_m), moves.velocity_memory
    now: dict[str, Any] = {key: [] for key in world}
    moved = []
    for n in users:
        # Velocity and heading live in the unfolded plane, where a reflected path is straight.
        speed = []
        for i in (0, 1):
            mean = fixed["speed"][n] * fixed["heading"][n][i]
            std = fixed["speed"][n] * moves.speed_spread
            velocity = memory * world["velocity"][n][i] + (1.0 - memory) * mean
            velocity += math.sqrt(1.0 - memory**2) * std * noise["velocity"][n][i]
            speed.append(velocity)
        straight = [world["unfolded"][n][i] + speed[i] * moves.slot_spacing_s for i in (0, 1)]
        place = [bounce(straight[i], extent[i]) for i in (0, 1)]
        now["unfolded"].append(straight)
        now["position"].append(place)
        now["velocity"].append(speed)
        moved.append(math.dist(straight, world["unfolded"][n]))
        now["cell"].append(cell(config, place))
        context = world["context"][n]
        if learning.context_follows_place and now["cell"][n] != world["cell"][n]:
            context = fixed["place_context"][now["cell"][n]]
        elif noise["context_switch"][n] < learning.context_switch_probability:
            context = pick(noise["context"][n], learning.num_contexts)
        now["context"].append(context)

    model, gain = CHANNELS[radio.channel], []
    for m in sites:
        for key in ("sight", "shadowing", "fading"):
            now[key].append([])
        gain.append([])
        for n in users:
            flat = math.dist(now["position"][n], fixed["site"][m])
            latent = world["sight"][m][n]
            renewal = 1.0 - math.exp(-moved[n] / model.sight_correlation_m)
            if noise["line_of_sight_renewal"][m][n] < renewal:
                latent = noise["line_of_sight"][m][n]
            sight = latent < model.sight_probability(flat)
            a = math.exp(-moved[n] / model.shadowing_correlation_m(sight))
            shadowing = a * world["shadowing"][m][n]
            shadowing += math.sqrt(1.0 - a * a) * noise["shadowing"][m][n]
            b = fixed["fading_memory"][n]
            fading = [
                [
                    b * old + math.sqrt(1.0 - b * b) * new
                    for old, new in zip(before, fresh, strict=True)
                ]
                for before, fresh in zip(world["fading"][m][n], noise["fading"][m][n], strict=True)
            ]
            now["sight"][m].append(latent)
            now["shadowing"][m].append(shadowing)
            now["fading"][m].append(fading)

            level_db = -model.path_loss_db(flat, sight, radio)
            if radio.shadowing:
                level_db += model.shadowing_std_db(sight) * shadowing
            power = 1.0
            if radio.fading:
                k = model.rician_k(sight)
                direct = math.sqrt(k / (k + 1.0))
                blocks = [
                    abs(complex(direct, 0.0) + complex(re, im) / math.sqrt(2.0 * (k + 1.0))) ** 2
                    for re, im in fading
                ]
                power = math.fsum(blocks) / len(blocks)
            gain[m].append(10.0 ** (level_db / 10.0) * power)

    free = []
    for m in sites:
        a = config.compute.own_load_memory
        latent = a * world["own_load"][m] + math.sqrt(1.0 - a * a) * noise["own_load"][m]
        now["own_load"].append(latent)
        largest = config.compute.own_load_max
        load = min(max(largest / 2.0 + largest / 4.0 * latent, 0.0), largest)
        away = 0 <= frame - fixed["failure"] < config.outage.duration_frames
        down = config.outage.enabled and m == fixed["failed"] and away
        free.append(0.0 if down else config.compute.site_flop_per_s * (1.0 - load))
    low, high = config.traffic.task_bytes_min, config.traffic.task_bytes_max
    present = [fixed["arrival"][n] <= frame < fixed["departure"][n] for n in users]
    return now, {
        "position_m": now["position"],
        "cell": now["cell"],
        "gain": gain,
        "task_bytes": [low + (high - low) * noise["task"][n] if present[n] else 0.0 for n in users],
        "free_flop_per_s": free,
        "present_mask": present,
    }
