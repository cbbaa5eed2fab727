"""What agents see: tables of named blocks, built from the twin alone, scaled to order one.

Each table row is (name, width, low, high, meaning); `Layout.slices` finds a block in a vector, so
that no policy counts elements by hand.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from dtmarl.backend import Array, constant, count_to, namespace
from dtmarl.config import ScenarioConfig
from dtmarl.physics import learning
from dtmarl.twin import forecast, mirror, model, store
from dtmarl.types import UPDATE_PLANS, Control, Knowledge, Mirror, State

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
    """The blocks of one kind of vector, in order.

    Attributes:
        blocks: what they are.
        bounds: lowest and highest value of each element, [size] float32 each.
    """

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks
        low = [np.full(block.width, block.low) for block in blocks]
        high = [np.full(block.width, block.high) for block in blocks]
        self.bounds = (
            np.concatenate(low).astype(np.float32),
            np.concatenate(high).astype(np.float32),
        )

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

    def join(
        self, values: dict[str, Array], shape: tuple[int, ...], factor: Array | None = None
    ) -> Array:
        """The vectors [*shape, size] from their blocks, clipped to the bounds, in float32.

        Args:
            values: the blocks; each broadcasts to [*shape, width].
            shape: of the vectors.
            factor: [*shape, 1] float32 that they are multiplied by; None for none.
        """
        xp = namespace(values[self.blocks[0].name])
        if xp is np:
            joined = np.empty((*shape, self.size), dtype=np.float32)
            for name, where in self.slices.items():
                joined[..., where] = values[name]
            np.maximum(joined, self.bounds[0], out=joined)
            np.minimum(joined, self.bounds[1], out=joined)
            return joined if factor is None else np.multiply(joined, factor, out=joined)
        parts = []  # tensors in a compiled graph cannot be written to piece by piece
        for block in self.blocks:
            part = xp.astype(values[block.name], xp.float32, copy=False)
            part = xp.minimum(xp.maximum(part, block.low), block.high)
            part = part if factor is None else part * factor
            parts.append(xp.broadcast_to(part, (*shape, block.width)))
        return xp.concat(parts, axis=-1)


class Ahead(NamedTuple):
    """The coming T slots' observations, but for the few elements that the agents' actions change.

    Those, the first of each user's, are put in when the slot has come (`Observations.agents`).
    """

    slot: int  # the first of them
    bs: Array  # [T, E, M, bs.size] float32
    mu: Array  # [T, E, N, mu.size] float32
    present: Array  # [T, E, N, 1] float32


class Observations:
    """Observation and state vectors of one scenario.

    Args:
        config: the scenario.
    """

    def __init__(self, config: ScenarioConfig) -> None:
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
            # First what an action can change; the rest is known once a frame has begun.
            Block("slot_accuracy", 1, 0, 1, "accuracy measured in the newest slot"),
            Block("moving", m, 0, 1, "1 where the model still has to move"),
            Block("task", 1, 0, 2, "announced task over the largest"),
            Block("training", 1, 0, 1, "c·w·δ / (1 + c·w·δ)"),
            Block("model_age", 1, 0, 1, "slots since the last retraining, over the episode"),
            Block("frame_accuracy", 1, 0, 1, "mean accuracy of the newest frame, eq (13)"),
            Block("report_age", 1, 0, 1, "slots since the newest report / (1 + the same)"),
            *clock,
            Block("generated_mix", k, 0, 1, "p of eq (8)"),
            Block("associated", m, 0, 1, "v: 1 for each associated base station"),
            Block("rate", m, 0, 2, "log10(1 + rate / 1 kB/s) / 5"),
            Block("free_compute", m, 0, 1, "free computing power over λ^BS"),
            Block("num_associated", m, 0, 1, "users of each base station over N"),
            Block("demand", m, 0, 1, "Σ sqrt(task·(1 + c·w·δ)) of its users, over the largest"),
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
        self._largest_root_demand = float(
            np.sqrt(config.traffic.task_bytes_max * (1.0 + _largest_work(config))) * n
        )

    def ahead(self, state: State, num_slots: int) -> Ahead:
        """The coming slots' observations, as far as no action changes them.

        The mirror and the decision in force are known for the frame, so that one pass over its
        slots replaces one pass per slot.

        Args:
            state: at the first of the slots, which lie in one frame.
            num_slots: how many.
        """
        s = state.slot % self._config.slots_per_frame
        heard = Mirror(*(path[s : s + num_slots] for path in state.twin.mirror))
        count = count_to(num_slots, heard.task_bytes)
        return Ahead(
            state.slot,
            *self.over_slots(
                heard,
                state.control,
                state.twin.knowledge,
                state.slot + count,
                len(state.records) + count,
            ),
        )

    def over_slots(
        self, heard: Mirror, control: Control, knowledge: Knowledge, slots: Array, elapsed: Array
    ) -> tuple[Array, Array, Array]:
        """Observations of T slots of one frame, for what is known and in force now.

        Args:
            heard: the mirror at these slots, [T, E, …] each.
            control: the decision in force.
            knowledge: of the twin.
            slots: [T] their numbers in the episode.
            elapsed: [T] slots that the decision has been in force.

        Returns:
            What every agent sees, [T, E, M, bs.size] and [T, E, N, mu.size] float32, and
            [T, E, N, 1] ones for the users that are there.
        """
        config = self._config
        xp = namespace(heard.task_bytes)
        real = heard.task_bytes.dtype
        linked = xp.astype(control.association_mask, real)
        work = control.retrain_work
        load = work / (1.0 + work)
        task = heard.task_bytes / config.traffic.task_bytes_max
        rate = scaled_rate(model.rate_estimate_bytes_per_s(config, heard.gain_db))
        free = heard.free_flop_per_s / config.compute.site_flop_per_s
        count = linked.sum(axis=-1) / config.max_users
        root = xp.sqrt(heard.task_bytes * (1.0 + work))
        demand = (linked * root[..., None, :]).sum(axis=-1) / self._largest_root_demand
        age = knowledge.model_age_slots + elapsed[:, None, None]
        clock = {
            "slot_in_frame": slots % config.slots_per_frame / config.slots_per_frame,
            "slot_in_episode": slots / config.slots_per_episode,
        }
        t, e, n = task.shape
        by_slot = {name: value[:, None, None, None] for name, value in clock.items()}
        bs = self.bs.join(
            {
                "free_compute": free[..., None],
                "num_associated": count[..., None],
                **by_slot,
                "associated": linked,
                "task": linked * task[..., None, :],
                "rate": linked * rate,
                "training": linked * load[:, None, :],
            },
            (t, e, config.num_base_stations),
        )
        present = xp.astype(heard.present_mask, xp.float32)[..., None]
        report_age = self._report_age(slots[:, None, None], heard.report_slot)
        mu = self.mu.join(
            {
                "slot_accuracy": knowledge.slot_accuracy[..., None],
                "moving": xp.permute_dims(control.new_link_mask, (0, 2, 1)),
                "task": task[..., None],
                "training": load[..., None],
                "model_age": age[..., None] / config.slots_per_episode,
                "frame_accuracy": knowledge.frame_accuracy[..., None],
                "report_age": report_age[..., None],
                **by_slot,
                "generated_mix": knowledge.generated_mix,
                "associated": xp.permute_dims(linked, (0, 2, 1)),
                "rate": xp.permute_dims(rate, (0, 1, 3, 2)),
                "free_compute": free[..., None, :],
                "num_associated": count[:, None, :],
                "demand": demand[..., None, :],
            },
            (t, e, n),
            present,
        )
        return bs, mu, present

    def agents(self, state: State, ahead: Ahead) -> tuple[Array, Array]:
        """What every agent sees: [E, M, bs.size] and [E, N, mu.size], float32.

        Rows of absent users are zero.

        Args:
            state: at one of the slots of `ahead`.
            ahead: from `ahead`, under the decision in force. The first of what is returned is a
                view on it, the other a copy with what the actions have changed.
        """
        at = state.slot - ahead.slot
        xp = namespace(ahead.mu)
        bs, present = ahead.bs[at], ahead.present[at]
        # Not in place: torch counts writes to what the coming slots' observations share.
        mu = xp.asarray(ahead.mu[at], copy=True)
        accuracy, moving = state.twin.knowledge.slot_accuracy, state.control.new_link_mask
        last = moving.shape[1]
        # Both lie within their bounds as they are.
        mu[..., 0] = xp.astype(accuracy, xp.float32) * present[..., 0]
        mu[..., 1 : 1 + last] = xp.astype(xp.permute_dims(moving, (0, 2, 1)), xp.float32) * present
        return bs, mu

    def global_state(self, state: State) -> Array:
        """The twin's whole state for centralised critics, [E, state.size] float32."""
        config, control, knowledge = self._config, state.control, state.twin.knowledge
        heard = mirror.at_slot(state.twin.mirror, state.slot % config.slots_per_frame)
        xp = namespace(heard.task_bytes)
        real = heard.task_bytes.dtype
        e = heard.task_bytes.shape[0]
        present = xp.astype(heard.present_mask, real)
        position = forecast.believed_position_m(config, heard, state.slot)
        extent = constant([config.mobility.width_m, config.mobility.height_m], position)
        speed = max(config.mobility.vehicle_speed_m_per_s, 1.0)
        work = control.retrain_work
        per_user = {
            "position": 2.0 * position / extent - 1.0,
            "velocity": heard.velocity_m_per_s / speed,
            "task": heard.task_bytes / config.traffic.task_bytes_max,
            "mean_task": heard.mean_task_bytes / config.traffic.task_bytes_max,
            "report_age": self._report_age(state.slot, heard.report_slot),
            "model_age": (knowledge.model_age_slots + len(state.records))
            / config.slots_per_episode,
            "slot_accuracy": knowledge.slot_accuracy,
            "frame_accuracy": knowledge.frame_accuracy,
            "class_mix": store.class_mix(knowledge.class_counts),
            "generated_mix": knowledge.generated_mix,
            "training": work / (1.0 + work),
        }
        values = {
            name: xp.reshape(value * (present if value.ndim == 2 else present[..., None]), (e, -1))
            for name, value in per_user.items()
        }
        in_frame = state.slot % config.slots_per_frame / config.slots_per_frame
        clock = xp.zeros_like(heard.task_bytes[:, :1])
        gain = (heard.gain_db + _GAIN_OFFSET_DB) / _GAIN_SCALE_DB * present[:, None, :]
        values |= {
            "slot_in_frame": clock + in_frame,
            "slot_in_episode": clock + state.slot / config.slots_per_episode,
            "present": present,
            "gain": xp.reshape(gain, (e, -1)),
            "free_compute": heard.free_flop_per_s / config.compute.site_flop_per_s,
            "associated": xp.reshape(xp.astype(control.association_mask, real), (e, -1)),
            "moving": xp.reshape(xp.astype(control.new_link_mask, real), (e, -1)),
        }
        return self.state.join(values, (e,))

    @staticmethod
    def _report_age(slot: int | Array, report_slot: Array) -> Array:
        age = slot - report_slot
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
