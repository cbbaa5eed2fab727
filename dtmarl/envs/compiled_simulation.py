"""The simulation as compiled graphs: what of it is compiled, and what each graph takes and gives.

A compiled graph is made for what is constant in it. So slots are played as slot 0 of a frame of one
slot, and frames turn with the clock set back: one graph each serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from dtmarl import dynamics, world
from dtmarl.accuracy import AccuracyEngine
from dtmarl.backend import Array, constant
from dtmarl.compiling import compiled_along
from dtmarl.config import ScenarioConfig
from dtmarl.counter_noise import CounterStreams
from dtmarl.envs.observation import Observations
from dtmarl.envs.simulation import Simulation
from dtmarl.envs.torch_streams import MovedStreams
from dtmarl.frame.association.algorithm_1 import at_most_one_move, finish
from dtmarl.frame.association.few_moves import all_ways, num_ways
from dtmarl.frame.association.problem import AssociationProblem
from dtmarl.frame.controller import Controller, Scheme
from dtmarl.memory_order import along_environments
from dtmarl.randomness import Noise, Streams
from dtmarl.twin import model
from dtmarl.types import (
    Action,
    Control,
    FrameDecision,
    Knowledge,
    Mirror,
    Report,
    Scene,
    SlotOutcome,
    SlotRecord,
    State,
    Twin,
    Uploads,
    World,
    WorldFrame,
)

_MOST_WAYS = 1000
"""Ways to move one user that are looked at in every environment, instead of where it takes some."""

Numbers = Callable[[Any], Noise]
"""A frame's numbers from what they are made from."""


class Entered(NamedTuple):
    """What entering a frame changes of a state, and the frame's noise that slots need."""

    world: World
    frame: WorldFrame
    mirror: Mirror
    in_flight: tuple[Report | None, ...]
    association_mask: Array
    link_mask: Array
    new_link_mask: Array
    accuracy_noise: Array


class CompiledSimulation(Simulation):
    """A simulation whose slots and frames are compiled graphs; see `Simulation`.

    With counter-based noise a frame's numbers are made within the graphs that consume them.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        engine: AccuracyEngine,
        streams: CounterStreams | MovedStreams,
        slots_per_decision: int,
        layouts: Observations,
    ) -> None:
        self._num_envs = streams.num_envs
        self._seen: tuple[Array, Array] | None
        numbers = _as_it_is if isinstance(streams, MovedStreams) else streams.frame_noise
        compiled = partial(compiled_along, self._num_envs)
        self._start = compiled(partial(_start, config, engine, numbers))
        self._slot = compiled(partial(_slot, config, engine, layouts))
        self._learn = compiled(partial(_learn, config, numbers))
        self._retrain = compiled(partial(_retrain, config, engine, numbers))
        self._enter = compiled(partial(_enter, config, numbers))
        self._look = compiled(partial(_look, layouts))
        self._pose = compiled(partial(_pose, config, slots_per_decision))
        super().__init__(config, engine, streams, slots_per_decision, layouts)

    def reset(self, streams: Streams | None = None) -> None:
        """Start new episodes; see `Simulation.reset`."""
        self._streams = streams or self._streams
        noise = self._streams.draw_reset()
        self._source = self._next_source()
        # A scene has constants that NumPy and SciPy compute, which no graph can hold.
        scene = along_environments(world.initial_scene(self._config, noise), self._num_envs)
        state, self._accuracy_noise = self._start(scene, noise, self._source)
        self.state = state._replace(scene=scene)
        self._clock = torch.arange(self._config.slots_per_episode + 1, device=scene.heading.device)
        self._seen = None
        self._decision_slot = -1

    def decision_of(self, controller: Controller) -> FrameDecision:
        """What a frame controller decides on the twin's view."""
        config = self._config
        size = (config.num_base_stations, config.max_users, 1)
        if (
            type(controller) is not Scheme  # a subclass may decide in its own way
            or controller.association != "algorithm-1"
            or self._period != config.slots_per_frame
            or num_ways(*size) > _MOST_WAYS
        ):
            return super().decision_of(controller)
        state, _ = self._frame_at_zero(self.state)
        ways = tuple(constant(way, state.scene.place_context) for way in all_ways(*size))
        retrain, arrays, site, settled = self._pose(
            controller, state.scene, state.twin._replace(in_flight=()), state.control, ways
        )
        problem = AssociationProblem(*arrays)
        return controller.decision(retrain, finish(problem, site, settled, moves_tried=1))

    def begin_frame(self, decision: FrameDecision) -> None:
        """Bring a frame decision into force; see `Simulation.begin_frame`."""
        super().begin_frame(decision)
        control = along_environments(self.state.control, self._num_envs)
        self.state = self.state._replace(control=control)
        self._seen = None

    def play(self, action: Action) -> SlotOutcome:
        """Play one slot; where a frame ends, the world and the twin enter the next."""
        state = self.state
        s = state.slot % self._config.slots_per_frame
        noise = {"measured_accuracy": self._accuracy_noise[s : s + 1]}
        goes_on = (state.slot + 1) % self._period != 0
        outcome: SlotOutcome
        record, moving, accuracy, outcome, self._seen = self._slot(
            _one_slot(state, s), action, noise, self._to_look_at(state, 1) if goes_on else None
        )
        knowledge = state.twin.knowledge._replace(slot_accuracy=accuracy)
        outcome = outcome._replace(
            retrain_mask=state.control.retrain_mask, present_mask=state.frame.present_mask
        )
        state = state._replace(
            slot=state.slot + 1,
            records=(*state.records, record),
            control=state.control._replace(new_link_mask=moving),
            twin=state.twin._replace(knowledge=knowledge),
        )
        self.state = state if goes_on else self._turned(state)
        return outcome

    def _turned(self, state: State) -> State:
        """The state with its decision closed, and in the next frame where one begins."""
        config, slot = self._config, state.slot
        state, elapsed = self._frame_at_zero(state)
        grounded = state._replace(twin=state.twin._replace(in_flight=()))
        # Two graphs: what the first looks up in tables would keep the second from vector registers.
        knowledge, uploads = self._learn(grounded, self._source)
        twin = grounded.twin._replace(knowledge=knowledge)
        recall, retrain_mask, retrain_work = self._retrain(
            grounded._replace(records=(), twin=twin), uploads, self._source
        )
        state = state._replace(
            recall=recall,
            records=(),
            twin=state.twin._replace(knowledge=knowledge),
            control=state.control._replace(retrain_mask=retrain_mask, retrain_work=retrain_work),
        )
        if slot % config.slots_per_frame:
            return _clock_set_back(state, -elapsed, config)
        # When reports are sent repeats itself after more than a frame.
        repeats = math.lcm(config.slots_per_frame, config.twin.sync_period_slots)
        state = _clock_set_back(state, -(slot % repeats), config)
        self._source = self._next_source()
        entered = self._enter(state, self._source)
        self._accuracy_noise = entered.accuracy_noise
        state = state._replace(
            world=entered.world,
            frame=entered.frame,
            twin=state.twin._replace(mirror=entered.mirror, in_flight=entered.in_flight),
            control=state.control._replace(
                association_mask=entered.association_mask,
                link_mask=entered.link_mask,
                new_link_mask=entered.new_link_mask,
            ),
        )
        return _clock_set_back(state, slot % repeats - slot, config)

    def _frame_at_zero(self, state: State) -> tuple[State, int]:
        """The state with the clock set back to its first frame, and how many slots that is."""
        elapsed = state.slot - state.slot % self._config.slots_per_frame
        return _clock_set_back(state, elapsed, self._config), elapsed

    def observe(self) -> tuple[Array, Array]:
        """What every agent sees, [E, M, bs.size] and [E, N, mu.size] float32."""
        if self._seen is None:
            state = self.state
            self._seen = self._look(
                state.control, state.twin.knowledge, *self._to_look_at(state, 0)
            )
        return self._seen

    def _to_look_at(self, state: State, later: int) -> tuple[Mirror, Array, Array]:
        """What an observation is made of beside control and knowledge, so many slots later."""
        slot = state.slot + later
        elapsed = len(state.records) + later
        s = slot % self._config.slots_per_frame
        heard = Mirror(*(path[s : s + 1] for path in state.twin.mirror))
        return heard, self._clock[slot : slot + 1], self._clock[elapsed : elapsed + 1]

    def _next_source(self) -> Any:
        """What the next frame's noise is made from in a graph, or that noise."""
        if isinstance(self._streams, CounterStreams):
            return self._streams.next_source()
        return self._streams.draw_frame()


def _as_it_is(noise: Noise) -> Noise:
    return noise


def _one_slot(state: State, s: int) -> State:
    """What playing slot `s` of the frame takes of a state, as slot 0 of a frame of one slot."""
    frame = state.frame
    unused: Any = None
    cut = {
        name: getattr(frame, name)[s : s + 1]
        for name in ("class_mix", "rate_bytes_per_s", "task_bytes", "free_flop_per_s")
    }
    return State(
        slot=0,
        scene=unused,
        world=unused,
        frame=frame._replace(position_m=None, cell=None, gain=None, **cut),
        recall=state.recall,
        twin=Twin(unused, (), state.twin.knowledge),
        control=state.control,
        records=(),
    )


def _clock_set_back(state: State, slots: int, config: ScenarioConfig) -> State:
    """The state as if so many slots, whole frames, had not passed: all that counts is the same.

    A graph that knows its slot as a number serves every frame when it is always the same number.
    """
    if slots == 0:
        return state
    scene, twin, frames = state.scene, state.twin, slots // config.slots_per_frame
    return state._replace(
        slot=state.slot - slots,
        scene=scene._replace(
            arrival_frame=scene.arrival_frame - frames,
            departure_frame=scene.departure_frame - frames,
            failure_frame=scene.failure_frame - frames,
        ),
        twin=twin._replace(
            mirror=twin.mirror._replace(report_slot=twin.mirror.report_slot - slots),
            in_flight=tuple(
                report and report._replace(sent_slot=report.sent_slot - slots)
                for report in twin.in_flight
            ),
        ),
    )


def _start(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    numbers: Numbers,
    scene: Scene,
    noise: Noise,
    source: Any,
) -> tuple[State, Array]:
    frame_noise = numbers(source)
    state = dynamics.first_state(config, engine, scene, noise, frame_noise)
    unused: Any = None
    return state._replace(scene=unused), frame_noise["measured_accuracy"]


def _slot(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    layouts: Observations,
    state: State,
    action: Action,
    noise: Noise,
    next_slot: tuple[Mirror, Array, Array] | None,
) -> tuple[SlotRecord, Array, Array, SlotOutcome, tuple[Array, Array] | None]:
    state, outcome = dynamics.step_slot(config, engine, state, action, noise, closes_decision=False)
    control, knowledge = state.control, state.twin.knowledge
    seen = None if next_slot is None else _look(layouts, control, knowledge, *next_slot)
    unused: Any = None
    outcome = outcome._replace(retrain_mask=unused, present_mask=unused)
    return state.records[0], control.new_link_mask, knowledge.slot_accuracy, outcome, seen


def _look(
    layouts: Observations,
    control: Control,
    knowledge: Knowledge,
    heard: Mirror,
    slot: Array,
    elapsed: Array,
) -> tuple[Array, Array]:
    bs, mu, _ = layouts.over_slots(heard, control, knowledge, slot, elapsed)
    return bs[0], mu[0]


def _learn(
    config: ScenarioConfig, numbers: Numbers, state: State, source: Any
) -> tuple[Knowledge, Uploads]:
    state, uploads = dynamics.learn(config, state, numbers(source))
    return state.twin.knowledge, uploads


def _retrain(
    config: ScenarioConfig,
    engine: AccuracyEngine,
    numbers: Numbers,
    state: State,
    uploads: Uploads,
    source: Any,
) -> tuple[Array, Array, Array]:
    state = dynamics.retrain(config, engine, state, uploads, numbers(source))
    return state.recall, state.control.retrain_mask, state.control.retrain_work


def _enter(config: ScenarioConfig, numbers: Numbers, state: State, source: Any) -> Entered:
    noise = numbers(source)
    state = dynamics.enter_frame(config, state, noise)
    twin, control = state.twin, state.control
    return Entered(
        state.world, state.frame, twin.mirror, twin.in_flight, control.association_mask,
        control.link_mask, control.new_link_mask, noise["measured_accuracy"],
    )  # fmt: skip


def _pose(
    config: ScenarioConfig,
    period: int,
    scheme: Scheme,
    scene: Scene,
    twin: Twin,
    control: Control,
    ways: tuple[Array, ...],
) -> tuple[Array, tuple[Array | None, ...], Array, Array]:
    view = model.view(config, scene, twin, control, 0, period)
    retrain, problem = scheme.problem(config, view)
    posed = (
        problem.cost_s, problem.demand_flop_per_s, problem.capacity_flop_per_s, None, None,
        problem.present_mask,
    )  # fmt: skip
    return retrain, posed, *at_most_one_move(problem, ways)
