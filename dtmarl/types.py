"""The data that flows through dtmarl. Every array carries its axes in its comment.

Axes: E environments, M base stations, N users, K image classes, S slots of one frame,
B coherence blocks, G cells of the place map, A age bins. Unprefixed means true; what the twin
believes lives in `Twin` and `TwinView`. All arrays of one instance belong to one backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dtmarl.backend import Array

UPDATE_PLANS = ("incremental", "physical-only", "full")
"""How a retraining is done; see `dtmarl.physics.learning.update_plan`."""


class Scene(NamedTuple):
    """What stays the same for a whole episode."""

    site_position_m: Array  # [E, M, 2]
    context_library: Array  # [C, K] class mix of each context
    vehicle_mask: Array  # [E, N]
    mean_speed_m_per_s: Array  # [E, N]
    heading: Array  # [E, N, 2] unit vector of the mean velocity in the unfolded plane
    fading_memory: Array  # [E, N] AR(1) coefficient from the Doppler shift
    place_context: Array  # [E, G] context that a cell brings
    arrival_frame: Array  # [E, N] first frame in which the user is there
    departure_frame: Array  # [E, N] first frame in which it no longer is
    failed_site: Array  # [E] index of the base station that fails, -1 for none
    failure_frame: Array  # [E] first frame of the outage


class World(NamedTuple):
    """The part of the state that no decision influences, at one slot."""

    unfolded_m: Array  # [E, N, 2] position in the unfolded plane, see `mobility.fold`
    velocity_m_per_s: Array  # [E, N, 2] in the unfolded plane
    cell: Array  # [E, N] index into the place map
    context: Array  # [E, N] index into the context library
    line_of_sight_latent: Array  # [E, M, N] in (0, 1): line of sight where below its probability
    shadowing_latent: Array  # [E, M, N] standard normal
    fading_latent: Array  # [E, M, N, B, 2] standard normal, real and imaginary part
    own_load_latent: Array  # [E, M] standard normal


class WorldFrame(NamedTuple):
    """The uncontrolled world over the S slots of a frame, computed in one go."""

    position_m: Array  # [S, E, N, 2]
    cell: Array  # [S, E, N]
    class_mix: Array  # [S, E, N, K] true class distribution of the images
    gain: Array  # [S, E, M, N] linear power gain h
    rate_bytes_per_s: Array  # [S, E, M, N] R_mn without the indicator v, 0 in outage
    task_bytes: Array  # [S, E, N] Q_n, 0 for absent users
    free_flop_per_s: Array  # [S, E, M] λ_m^BS minus the own load; 0 while a site is down
    up_mask: Array  # [E, M] base stations that work during this frame
    present_mask: Array  # [E, N] users in the network during this frame
    num_users: Array  # [E] how many those are, as a real number, at least 1


class SlotRecord(NamedTuple):
    """What a slot leaves behind for the end of the frame."""

    uploaded_images: Array  # [E, N]
    measured_accuracy: Array  # [E, N]


class Uploads(NamedTuple):
    """What the users have uploaded while a decision was in force."""

    num_images: Array  # [E, N]
    class_counts: Array  # [E, N, K]


class Report(NamedTuple):
    """One synchronisation message per user and site, on its way to the twin."""

    received_mask: Array  # [E, N] False: absent, or the report was lost
    position_m: Array  # [E, N, 2]
    gain_db: Array  # [E, M, N]
    free_flop_per_s: Array  # [E, M]
    sent_slot: int


class Mirror(NamedTuple):
    """What the twin has heard of the network, at one slot."""

    present_mask: Array  # [E, N] users that are registered
    position_m: Array  # [E, N, 2]
    velocity_m_per_s: Array  # [E, N, 2]
    gain_db: Array  # [E, M, N] smoothed
    free_flop_per_s: Array  # [E, M]
    task_bytes: Array  # [E, N] announced for the slot, or the mean where that was lost
    mean_task_bytes: Array  # [E, N]
    report_slot: Array  # [E, N] slot that the newest report describes


class Knowledge(NamedTuple):
    """What the twin has learnt from uploads and measured accuracy; agents' actions shape it."""

    class_counts: Array  # [E, N, K] images in the store
    generated_mix: Array  # [E, N, K] p of eq (8)
    slot_accuracy: Array  # [E, N] measured in the newest slot
    frame_accuracy: Array  # [E, N] mean over the newest complete frame, eq (13)
    model_age_slots: Array  # [E, N] T_n^dur at the start of the frame
    history_sum: Array  # [E, G, A] changes of frame accuracy, by place and model age
    history_count: Array  # [E, G, A]


class Twin(NamedTuple):
    """The digital twin: what the network side knows and believes. Never a view on the truth."""

    mirror: Mirror  # arrays [S, E, …]: over the slots of the frame; agents see that of their slot
    in_flight: tuple[Report | None, ...]  # reports under way at the frame's end, one a slot
    knowledge: Knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameDecision:
    """What the frame layer decides; single environments may leave the axis E away.

    Attributes:
        association_mask: [E, M, N] bool, v of eq (11c); every present user has 1 to M sites.
        retrain_mask: [E, N] bool, c of eq (11b).
        update_plan: how retraining is done, one of `UPDATE_PLANS`.
        association_value_s: [E] expected delay that the solver gives the association, or None.
        association_bound_s: [E] no association is better than this, or None.

    An absent user has neither a base station nor a retraining.
    """

    association_mask: Array
    retrain_mask: Array
    update_plan: str = "incremental"
    association_value_s: Array | None = None
    association_bound_s: Array | None = None


class Control(NamedTuple):
    """The decision in force, and what it has brought about so far."""

    association_mask: Array  # [E, M, N] v
    link_mask: Array  # [E, M, N] associated, and the base station works
    new_link_mask: Array  # [E, M, N] links that still have to move model and twin
    retrain_mask: Array  # [E, N] c
    retrain_work: Array  # [E, N] c·w·δ of eq (10)
    update_plan: str


class State(NamedTuple):
    """Everything an environment is, between two slots."""

    slot: int
    scene: Scene
    world: World  # at the end of `frame`
    frame: WorldFrame  # the frame that contains `slot`
    recall: Array  # [E, N, K] of each user's classifier
    twin: Twin
    control: Control
    records: tuple[SlotRecord, ...]  # of the slots since the decision came into force


class Action(NamedTuple):
    """Weights in [0, 1] as the agents give them; only their ratios matter."""

    allocation_weight: Array  # [E, M, N] of each base station over the users
    split_weight: Array  # [E, N, 1 + M] of each user over itself and the base stations


class SlotOutcome(NamedTuple):
    """What happened in one slot."""

    system_delay_s: Array  # [E] eq (11a)
    delay_s: Array  # [E, N] L_n
    retrain_delay_s: Array  # [E, N] c_n · max_m L_mn^DT
    local_bytes: Array  # [E, N] Q_n^L
    offloaded_bytes: Array  # [E, M, N] Q_mn
    allocation_flop_per_s: Array  # [E, M, N] λ_mn
    rate_bytes_per_s: Array  # [E, M, N] R_mn, 0 where not associated
    link_mask: Array  # [E, M, N] associated, the site up and the link not in outage
    accuracy: Array  # [E, N] expected accuracy of the slot
    measured_accuracy: Array  # [E, N] on the finite number of images in the slot
    breakout_mask: Array  # [E, N] accuracy constraint violated
    retrain_mask: Array  # [E, N]
    present_mask: Array  # [E, N]


class TwinView(NamedTuple):
    """What a frame controller is shown: the twin's estimates and the network's known constants."""

    slot: int
    slots_per_decision: int
    present_mask: Array  # [E, N]
    association_mask: Array  # [E, M, N] of the frame that ends
    distance_m: Array  # [E, M, N] from the believed position to each site
    gain_db: Array  # [E, M, N]
    rate_bytes_per_s: Array  # [E, M, N] expected over the frame
    free_flop_per_s: Array  # [E, M]
    mean_task_bytes: Array  # [E, N]
    class_mix: Array  # [E, N, K] believed class distribution
    forecast_accuracy: Array  # [E, N] eq (14), for the coming frame
    frame_accuracy: Array  # [E, N] eq (13), of the frame that ends
    slot_accuracy: Array  # [E, N] of the newest slot
    model_age_slots: Array  # [E, N]
    report_age_slots: Array  # [E, N]
