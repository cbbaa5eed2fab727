"""What agents see: tables of named blocks, built from the twin alone, scaled to order one.

Each table row is (name, width, low, high, meaning); `Layout.slices` finds a block in a vector, so
that no policy counts elements by hand.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from dtmarl.backend import Array, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import learning
from dtmarl.twin import forecast, model, store
from dtmarl.types import UPDATE_PLANS, State

RATE_UNIT_BYTES_PER_S = 1e3
_RATE_DECADES = 5.0
_GAIN_OFFSET_DB = 100.0
_GAIN_SCALE_DB = 50.0


class Block(NamedTuple):
    """One named stretch of a vector."""

    name: str
    width: int
    low: float
    high: float
    meaning: str


class Layout:
    """The blocks of one kind of vector, in order."""

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each block lies in the vector."""
        ends = np.cumsum([block.width for block in self.blocks])
        return {
            block.name: slice(int(end) - block.width, int(end))
            for block, end in zip(self.blocks, ends, strict=True)
        }

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(block.width for block in self.blocks)

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest value of each element, [size] float32 each."""
        low = [np.full(block.width, block.low) for block in self.blocks]
        high = [np.full(block.width, block.high) for block in self.blocks]
        return np.concatenate(low).astype(np.float32), np.concatenate(high).astype(np.float32)

    def join(self, values: dict[str, Array]) -> Array:
        """The vector [..., size] from its blocks [..., width], clipped to the bounds."""
        parts = [values[block.name] for block in self.blocks]
        xp = namespace(parts[0])
        joined = xp.concat(parts, axis=-1)
        low, high = self.bounds
        return xp.astype(
            xp.minimum(xp.maximum(joined, xp.asarray(low)), xp.asarray(high)), xp.float32
        )


class Observations:
    """Observation and state vectors of one scenario.

    Args:
        config: the scenario.
        slots_per_decision: how long a frame decision is in force.
    """

    def __init__(self, config: ScenarioConfig, slots_per_decision: int) -> None:
        m, n = config.num_base_stations, config.max_users
        k = config.learning.num_classes
        clock = (
            Block("slot_in_frame", 1, 0, 1, "slots since the frame began, over S"),
            Block("slot_in_episode", 1, 0, 1, "slots since the reset, over the episode"),
        )
        self.bs = Layout(
            Block("free_compute", 1, 0, 1, "free computing power over λ^BS"),
            Block("num_associated", 1, 0, 1, "associated users over N"),
            *clock,
            Block("associated", n, 0, 1, "v: 1 for each associated user"),
            Block("task", n, 0, 2, "announced task over the largest, of associated users"),
            Block("rate", n, 0, 2, "log10(1 + rate / 1 kB/s) / 5, of associated users"),
            Block("training", n, 0, 1, "c·w·δ / (1 + c·w·δ), of associated users"),
        )
        self.mu = Layout(
            Block("task", 1, 0, 2, "announced task over the largest"),
            Block("training", 1, 0, 1, "c·w·δ / (1 + c·w·δ)"),
            Block("model_age", 1, 0, 1, "slots since the last retraining, over the episode"),
            Block("slot_accuracy", 1, 0, 1, "accuracy measured in the newest slot"),
            Block("frame_accuracy", 1, 0, 1, "mean accuracy of the newest frame, eq (13)"),
            Block("report_age", 1, 0, 1, "slots since the newest report / (1 + the same)"),
            *clock,
            Block("generated_mix", k, 0, 1, "p of eq (8)"),
            Block("associated", m, 0, 1, "v: 1 for each associated base station"),
            Block("rate", m, 0, 2, "log10(1 + rate / 1 kB/s) / 5"),
            Block("free_compute", m, 0, 1, "free computing power over λ^BS"),
            Block("num_associated", m, 0, 1, "users of each base station over N"),
            Block("demand", m, 0, 1, "Σ sqrt(task·(1 + c·w·δ)) of its users, over the largest"),
            Block("moving", m, 0, 1, "1 where the model still has to move"),
        )
        self.state = Layout(
            *clock,
            Block("present", n, 0, 1, "1 for each user in the network"),
            Block("position", 2 * n, -1, 1, "believed position, ±1 at the area's border"),
            Block("velocity", 2 * n, -4, 4, "believed velocity over the vehicles' mean speed"),
            Block("gain", m * n, -4, 4, "(gain + 100 dB) / 50 dB"),
            Block("free_compute", m, 0, 1, "free computing power over λ^BS"),
            Block("task", n, 0, 2, "announced task over the largest"),
            Block("mean_task", n, 0, 2, "mean announced task over the largest"),
            Block("report_age", n, 0, 1, "slots since the newest report / (1 + the same)"),
            Block("model_age", n, 0, 1, "slots since the last retraining, over the episode"),
            Block("slot_accuracy", n, 0, 1, "accuracy measured in the newest slot"),
            Block("frame_accuracy", n, 0, 1, "mean accuracy of the newest frame, eq (13)"),
            Block("class_mix", n * k, 0, 1, "estimated class mix q"),
            Block("generated_mix", n * k, 0, 1, "p of eq (8)"),
            Block("associated", m * n, 0, 1, "v"),
            Block("moving", m * n, 0, 1, "1 where the model still has to move"),
            Block("training", n, 0, 1, "c·w·δ / (1 + c·w·δ)"),
        )
        self._config = config
        self._slots_per_decision = slots_per_decision
        self._largest_root_demand = float(
            np.sqrt(config.traffic.task_bytes_max * (1.0 + _largest_work(config))) * n
        )

    def agents(self, state: State) -> tuple[Array, Array]:
        """What every agent sees: [E, M, bs.size] and [E, N, mu.size], float32.

        Rows of absent users are zero.
        """
        config, twin, control = self._config, state.twin, state.control
        xp = namespace(twin.task_bytes)
        e, n = twin.task_bytes.shape
        m = config.num_base_stations
        real = twin.task_bytes.dtype
        linked = xp.astype(control.association_mask, real)
        task = twin.task_bytes / config.traffic.task_bytes_max
        work = self._work(state)
        load = work / (1.0 + work)
        rate = scaled_rate(model.rate_estimate_bytes_per_s(config, twin))
        free = twin.free_flop_per_s / config.compute.site_flop_per_s
        count = xp.sum(linked, axis=-1) / n
        root = xp.sqrt(twin.task_bytes * (1.0 + work))
        demand = xp.sum(linked * root[:, None, :], axis=-1) / self._largest_root_demand
        clock = self._clock(state)

        bs = self.bs.join(
            {
                "free_compute": free[..., None],
                "num_associated": count[..., None],
                **{name: xp.full((e, m, 1), value, dtype=real) for name, value in clock.items()},
                "associated": linked,
                "task": linked * task[:, None, :],
                "rate": linked * rate,
                "training": linked * load[:, None, :],
            }
        )

        def to_users(per_site: Array) -> Array:
            return xp.broadcast_to(per_site[:, None, :], (e, n, m))

        mu = self.mu.join(
            {
                "task": task[..., None],
                "training": load[..., None],
                "model_age": self._model_age(state)[..., None],
                "slot_accuracy": twin.slot_accuracy[..., None],
                "frame_accuracy": twin.frame_accuracy[..., None],
                "report_age": self._report_age(state)[..., None],
                **{name: xp.full((e, n, 1), value, dtype=real) for name, value in clock.items()},
                "generated_mix": twin.generated_mix,
                "associated": xp.permute_dims(linked, (0, 2, 1)),
                "rate": xp.permute_dims(rate, (0, 2, 1)),
                "free_compute": to_users(free),
                "num_associated": to_users(count),
                "demand": to_users(demand),
                "moving": xp.permute_dims(xp.astype(control.new_link_mask, real), (0, 2, 1)),
            }
        )
        return bs, mu * xp.astype(twin.present_mask, mu.dtype)[..., None]

    def global_state(self, state: State) -> Array:
        """The twin's whole state for centralised critics, [E, state.size] float32."""
        config, twin, control = self._config, state.twin, state.control
        xp = namespace(twin.task_bytes)
        real = twin.task_bytes.dtype
        e = twin.task_bytes.shape[0]
        present = xp.astype(twin.present_mask, real)
        extent = xp.asarray([config.mobility.width_m, config.mobility.height_m], dtype=real)
        position = forecast.believed_position_m(config, twin, 0.0)
        speed = max(config.mobility.vehicle_speed_m_per_s, 1.0)
        work = self._work(state)
        per_user = {
            "position": 2.0 * position / extent - 1.0,
            "velocity": twin.velocity_m_per_s / speed,
            "task": twin.task_bytes / config.traffic.task_bytes_max,
            "mean_task": twin.mean_task_bytes / config.traffic.task_bytes_max,
            "report_age": self._report_age(state),
            "model_age": self._model_age(state),
            "slot_accuracy": twin.slot_accuracy,
            "frame_accuracy": twin.frame_accuracy,
            "class_mix": store.class_mix(twin.class_counts),
            "generated_mix": twin.generated_mix,
            "training": work / (1.0 + work),
        }
        values = {
            name: xp.reshape(value * (present if value.ndim == 2 else present[..., None]), (e, -1))
            for name, value in per_user.items()
        }
        gain = (twin.gain_db + _GAIN_OFFSET_DB) / _GAIN_SCALE_DB * present[:, None, :]
        values |= {
            **{
                name: xp.full((e, 1), value, dtype=real)
                for name, value in self._clock(state).items()
            },
            "present": present,
            "gain": xp.reshape(gain, (e, -1)),
            "free_compute": twin.free_flop_per_s / config.compute.site_flop_per_s,
            "associated": xp.reshape(xp.astype(control.association_mask, real), (e, -1)),
            "moving": xp.reshape(xp.astype(control.new_link_mask, real), (e, -1)),
        }
        return self.state.join(values)

    def _clock(self, state: State) -> dict[str, float]:
        in_frame = state.slot % self._slots_per_decision
        return {
            "slot_in_frame": in_frame / self._config.slots_per_frame,
            "slot_in_episode": state.slot / self._config.slots_per_episode,
        }

    def _work(self, state: State) -> Array:
        """c·w·δ of every user, [E, N]."""
        xp = namespace(state.twin.task_bytes)
        plan = learning.update_plan(state.control.update_plan, self._config.learning)
        return plan.work * xp.astype(state.control.retrain_mask, state.twin.task_bytes.dtype)

    def _model_age(self, state: State) -> Array:
        return state.twin.model_age_slots / self._config.slots_per_episode

    @staticmethod
    def _report_age(state: State) -> Array:
        age = state.slot - state.twin.report_slot
        return age / (1.0 + age)


def scaled_rate(rate_bytes_per_s: Array) -> Array:
    """A rate as observations carry it, of order one."""
    xp = namespace(rate_bytes_per_s)
    return xp.log10(1.0 + rate_bytes_per_s / RATE_UNIT_BYTES_PER_S) / _RATE_DECADES


def unscaled_rate(scaled: Array) -> Array:
    """The rate in bytes per second behind an observed one."""
    return RATE_UNIT_BYTES_PER_S * (10.0 ** (scaled * _RATE_DECADES) - 1.0)


def _largest_work(config: ScenarioConfig) -> float:
    return max(learning.update_plan(name, config.learning).work for name in UPDATE_PLANS)
