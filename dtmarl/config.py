"""Scenario configuration: frozen dataclasses, validated when they are made.

Every open reading of the paper is one field here, with its unit in its name. A configuration is a
value: it compares, hashes, survives a JSON round trip and is changed only through `replace`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeVar

_Group = TypeVar("_Group", bound="ConfigGroup")


def number(
    default: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    doc: str,
) -> Any:
    """A numeric field with its closed range [low, high] and, where given, an open lower end."""
    return field(default=default, metadata={"low": low, "high": high, "above": above, "doc": doc})


def choice(default: str, doc: str) -> Any:
    """A field that names something."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True)
class ConfigGroup:
    """Validation, `replace` and dict conversion shared by every group of fields."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            object.__setattr__(self, f.name, _checked(type(self).__name__, f, value))

    def replace(self: _Group, **changes: Any) -> _Group:
        """A copy with some fields changed; a mapping given for a group changes only its keys.

        Raises:
            ValueError: a field does not exist, or a value is not allowed.
        """
        known = {f.name for f in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no field {name!r}; it has {sorted(known)}"
                )
            current = getattr(self, name)
            if isinstance(current, ConfigGroup) and isinstance(value, Mapping):
                changes[name] = current.replace(**value)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain Python values, groups as nested dicts."""
        return dataclasses.asdict(self)


def _checked(owner: str, f: dataclasses.Field[Any], value: Any) -> Any:
    """The value of one field, normalised to its type, or a ValueError that says what is allowed."""
    default = f.default if f.default is not dataclasses.MISSING else None
    label = f"{owner}.{f.name}"
    group: Any = f.default_factory
    if group is not dataclasses.MISSING:
        if not isinstance(value, group):
            raise ValueError(f"{label}: expected a {group.__name__}, got {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{label}: expected True or False, got {value!r}")
        return value
    if isinstance(default, str) or default is None:
        if not isinstance(value, str) or not value:
            raise ValueError(f"{label}: expected a non-empty string, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{label}: expected a number, got {value!r}")
    if isinstance(default, int):
        if not math.isfinite(value) or float(value) != int(float(value)):
            raise ValueError(f"{label}: expected a whole number, got {value!r}")
        value = int(float(value))
    else:
        value = float(value)
    low, high, above = f.metadata["low"], f.metadata["high"], f.metadata["above"]
    if not (math.isfinite(value) and low <= value <= high and value > above):
        lower = f"> {above:g}" if above > -math.inf else f">= {low:g}"
        upper = f" and <= {high:g}" if high < math.inf else ""
        raise ValueError(f"{label}: expected a finite number {lower}{upper}, got {value!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class RadioConfig(ConfigGroup):
    """Radio link, eqs (1)–(3)."""

    channel: str = choice("umi-street-canyon", "name of the channel model")
    carrier_hz: float = number(3.5e9, low=0.5e9, high=100e9, doc="carrier frequency")
    bandwidth_hz: float = number(20e6, above=0, doc="B of eq (2), for each link")
    transmit_power_dbm: float = number(-10.0, low=-100, high=100, doc="ω of eq (1)")
    noise_power_dbm: float = number(-100.0, low=-300, high=100, doc="σ² of eq (1)")
    outage_snr_db: float = number(
        -15.0, low=-300, high=100, doc="SNR below which a link carries nothing; -300 never happens"
    )
    site_height_m: float = number(10.0, above=1.0, doc="antenna height of a base station")
    user_height_m: float = number(1.5, above=1.0, high=22.5, doc="antenna height of a user")
    shadowing: bool = field(default=True, metadata={"doc": "log-normal shadowing on or off"})
    fading: bool = field(default=True, metadata={"doc": "small-scale fading on or off"})
    coherence_blocks: int = number(
        4, low=1, high=64, doc="independent OFDM blocks a link averages over; 1 is flat fading"
    )


@dataclass(frozen=True, kw_only=True)
class MobilityConfig(ConfigGroup):
    """The area and how users move in it (Gauss–Markov)."""

    width_m: float = number(200.0, above=0, doc="extent of the area along x")
    height_m: float = number(200.0, above=0, doc="extent of the area along y")
    slot_spacing_s: float = number(0.1, above=0, doc="time that passes between two slots")
    vehicle_fraction: float = number(0.3, low=0, high=1, doc="chance that a user is a vehicle")
    pedestrian_speed_m_per_s: float = number(1.5, low=0, high=500, doc="mean speed on foot")
    vehicle_speed_m_per_s: float = number(15.0, low=0, high=500, doc="mean speed of a vehicle")
    velocity_memory: float = number(0.85, low=0, high=1, doc="Gauss–Markov memory per slot")
    speed_spread: float = number(0.3, low=0, high=2, doc="velocity std over mean speed")
    hotspot_fraction: float = number(0.0, low=0, high=1, doc="chance to start in the hotspot")
    hotspot_radius_m: float = number(25.0, above=0, doc="std of the hotspot's starting points")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig(ConfigGroup):
    """Computation, eqs (4)–(6)."""

    site_flop_per_s: float = number(50e9, low=1.0, doc="λ^BS of one base station")
    user_flop_per_s: float = number(5e9, low=1.0, doc="local speed of one user")
    work_flop_per_byte: float = number(
        3.64e9 / (224 * 224 * 3), above=0, doc="ResNet-18 forward pass over the bytes of one image"
    )
    own_load_max: float = number(0.2, low=0, high=0.95, doc="largest share a BS uses for itself")
    own_load_memory: float = number(0.9, low=0, high=1, doc="AR(1) memory of the own load")


@dataclass(frozen=True, kw_only=True)
class TrafficConfig(ConfigGroup):
    """Task sizes and the bytes that travel with them."""

    task_bytes_min: float = number(10e6, above=0, high=1e15, doc="lower end of Q_n")
    task_bytes_max: float = number(20e6, above=0, high=1e15, doc="upper end of Q_n")
    result_bytes: float = number(1e4, low=0, doc="Q^D of eq (3)")
    migration_bytes: float = number(44.7e6, low=0, doc="model and twin moved at a new association")
    image_bytes: float = number(float(224 * 224 * 3), above=0, doc="size of one image")


@dataclass(frozen=True, kw_only=True)
class LearningConfig(ConfigGroup):
    """Contexts, drift and retraining, eqs (8)–(10) and (15)."""

    engine: str = choice("profile", "accuracy engine")
    accuracy_threshold: float = number(0.85, low=0, high=1, doc="C̄")
    num_classes: int = number(10, low=2, high=1000, doc="K")
    num_contexts: int = number(12, low=1, high=1000, doc="size of the finite library of mixes")
    context_concentration: float = number(0.3, above=0, doc="Dirichlet parameter of the library")
    library_seed: int = number(2411, low=0, high=2**32 - 1, doc="seed of the library")
    cells_per_side: int = number(4, low=1, high=100, doc="the place map is this many cells square")
    context_switch_probability: float = number(
        0.005, low=0, high=1, doc="chance per slot of a jump to another context"
    )
    context_follows_place: bool = field(
        default=True, metadata={"doc": "entering a cell brings that cell's context"}
    )
    training_fraction: float = number(0.25, low=0, high=1, doc="δ: trained bytes over uploaded")
    twin_share: float = number(0.5, low=0, high=1, doc="part of the trained bytes the twin makes")
    pass_work: float = number(
        3.0, low=0, high=1e6, doc="w: a training pass in forward-pass equivalents"
    )
    full_passes: int = number(8, low=1, high=1000, doc="passes of a full retraining")
    max_samples: int = number(5000, low=1, doc="incremental samples at most")


@dataclass(frozen=True, kw_only=True)
class TwinConfig(ConfigGroup):
    """Fidelity of the digital twin."""

    sync_period_slots: int = number(2, low=1, high=10_000, doc="slots between two reports")
    sync_delay_slots: int = number(1, low=0, high=100, doc="slots a report takes to arrive")
    sync_loss: float = number(0.05, low=0, high=1, doc="chance that a report is lost")
    position_noise_m: float = number(2.0, low=0, high=1e6, doc="std of a reported position")
    velocity_gain: float = number(
        0.1, low=0, high=1, doc="weight of the newest displacement in the believed velocity"
    )
    gain_noise_db: float = number(1.0, low=0, high=100, doc="std of a reported channel gain")
    gain_memory: float = number(0.5, low=0, high=0.999, doc="smoothing of reported gains")
    task_noise: float = number(0.05, low=0, high=1, doc="relative std of an announced task size")
    task_loss: float = number(0.05, low=0, high=1, doc="chance that an announcement is lost")
    store_images: float = number(1500.0, above=0, doc="images that the store keeps for each user")
    forecast_prior: float = number(
        30.0, above=0, doc="frames that the mean of all places counts for"
    )


@dataclass(frozen=True, kw_only=True)
class ChurnConfig(ConfigGroup):
    """Users beyond `min_users` that come and go at frame boundaries."""

    enabled: bool = field(default=False, metadata={"doc": "users arrive and leave"})
    initial_fraction: float = number(0.5, low=0, high=1, doc="chance to be there from the start")
    mean_stay_frames: float = number(4.0, low=1, doc="mean number of frames a user stays")


@dataclass(frozen=True, kw_only=True)
class OutageConfig(ConfigGroup):
    """One base station that fails at a frame boundary and returns at a later one."""

    enabled: bool = field(default=False, metadata={"doc": "a base station fails once an episode"})
    duration_frames: int = number(3, low=1, high=1_000_000, doc="frames that it stays away")


@dataclass(frozen=True, kw_only=True)
class ScenarioConfig(ConfigGroup):
    """Everything that defines an environment; see `dtmarl.scenario`."""

    name: str = choice("custom", "id of the scenario, without its version")
    version: int = number(0, low=0, high=10_000, doc="raised by any change of behaviour")
    num_base_stations: int = number(3, low=1, high=10_000, doc="M")
    min_users: int = number(5, low=1, high=100_000, doc="least number of users")
    max_users: int = number(10, low=1, high=100_000, doc="N, the largest number of users")
    slots_per_frame: int = number(10, low=1, high=10_000, doc="S")
    frames_per_episode: int = number(10, low=1, high=1_000_000, doc="frames of an episode")
    reference_delay_s: float = number(33.0, above=0, doc="delay that a reward of −1 stands for")
    radio: RadioConfig = field(default_factory=RadioConfig)
    mobility: MobilityConfig = field(default_factory=MobilityConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    twin: TwinConfig = field(default_factory=TwinConfig)
    churn: ChurnConfig = field(default_factory=ChurnConfig)
    outage: OutageConfig = field(default_factory=OutageConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Imported here: both registries hold code that reads a configuration.
        from dtmarl.accuracy import ENGINES
        from dtmarl.physics.channel import CHANNELS

        for label, value, registry in (
            ("RadioConfig.channel", self.radio.channel, CHANNELS),
            ("LearningConfig.engine", self.learning.engine, ENGINES),
        ):
            if value not in registry:
                raise ValueError(f"{label}: expected one of {sorted(registry)}, got {value!r}")
        if self.min_users > self.max_users:
            raise ValueError(
                f"min_users: expected at most max_users = {self.max_users}, got {self.min_users}"
            )
        if self.traffic.task_bytes_min > self.traffic.task_bytes_max:
            raise ValueError(
                "TrafficConfig.task_bytes_min: expected at most task_bytes_max = "
                f"{self.traffic.task_bytes_max:g}, got {self.traffic.task_bytes_min:g}"
            )
        if self.outage.enabled and self.outage.duration_frames > self.frames_per_episode - 2:
            raise ValueError(
                "OutageConfig.duration_frames: expected at most frames_per_episode - 2 = "
                f"{self.frames_per_episode - 2}, so that the station fails and returns within "
                f"the episode, got {self.outage.duration_frames}"
            )
        if self.outage.enabled and self.num_base_stations < 2:
            raise ValueError(
                "OutageConfig.enabled: expected at least 2 base stations, so that one stays, "
                f"got {self.num_base_stations}"
            )

    @property
    def id(self) -> str:
        """The registered id, such as ``paper-v0``."""
        return f"{self.name}-v{self.version}"

    @property
    def slots_per_episode(self) -> int:
        """Number of slots in an episode."""
        return self.slots_per_frame * self.frames_per_episode

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON: equal content, equal hash."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no insignificant whitespace."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ScenarioConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: not JSON, not an object, an unknown field or a value that is not allowed.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"expected a scenario as JSON: {error}") from error
        if not isinstance(data, dict):
            raise ValueError(
                f"expected a JSON object of scenario fields, got {type(data).__name__}"
            )
        return cls().replace(**data)
