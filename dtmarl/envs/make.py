"""How environments are made: parallel, AEC, slot level alone, vectors, PettingZoo's registry."""

from __future__ import annotations

from functools import partial
from typing import Any

from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv
from pettingzoo.utils import parallel_to_aec

from dtmarl.accuracy import AccuracyEngine
from dtmarl.config import ScenarioConfig
from dtmarl.envs.frame import FrameEnv
from dtmarl.envs.gymnasium_vector import GymnasiumVectorEnv, RowRule
from dtmarl.envs.slot import SlotEnv
from dtmarl.envs.vector import VectorEnv
from dtmarl.frame.controller import Controller
from dtmarl.frame.controller import controller as find_controller
from dtmarl.policies.rule import Rule
from dtmarl.scenarios import SCENARIOS, scenario


def parallel_env(
    which: str | ScenarioConfig = "paper-v0",
    *,
    controller: str | Controller = "proposed",
    accuracy: str | AccuracyEngine | None = None,
    absent_agents: str = "omit",
    render_mode: str | None = None,
) -> FrameEnv:
    """A PettingZoo ParallelEnv: the slot environment inside the frame layer.

    Args:
        which: a scenario's id or configuration.
        controller: the frame layer: a scheme's name, a `Scheme`, or any `Controller`.
        accuracy: an accuracy engine or its name; None takes the scenario's.
        absent_agents: ``"omit"`` or ``"idle"``; see `dtmarl.envs.slot.SlotEnv`.
        render_mode: None, ``"rgb_array"`` or ``"human"``.

    Raises:
        ValueError: an argument is not one of these.
    """
    config = scenario(which)
    frame_layer = find_controller(controller)
    slot_env = SlotEnv(
        config,
        slots_per_decision=frame_layer.slots_per_decision(config),
        accuracy=accuracy,
        absent_agents=absent_agents,
        render_mode=render_mode,
    )
    return FrameEnv(slot_env, frame_layer)


def env(
    which: str | ScenarioConfig = "paper-v0",
    *,
    controller: str | Controller = "proposed",
    accuracy: str | AccuracyEngine | None = None,
    absent_agents: str = "omit",
    render_mode: str | None = None,
) -> AECEnv:
    """The same as `parallel_env` with agents that act one after another (AEC)."""
    return parallel_to_aec(
        parallel_env(
            which,
            controller=controller,
            accuracy=accuracy,
            absent_agents=absent_agents,
            render_mode=render_mode,
        )
    )


def raw_env(
    which: str | ScenarioConfig = "paper-v0",
    *,
    slots_per_decision: int | None = None,
    accuracy: str | AccuracyEngine | None = None,
    absent_agents: str = "omit",
    render_mode: str | None = None,
) -> SlotEnv:
    """The slot environment alone; the caller plays the frame layer.

    Raises:
        ValueError: an argument is not one of `SlotEnv`'s.
    """
    return SlotEnv(
        scenario(which),
        slots_per_decision=slots_per_decision,
        accuracy=accuracy,
        absent_agents=absent_agents,
        render_mode=render_mode,
    )


def vector_env(
    which: str | ScenarioConfig = "paper-v0",
    *,
    num_envs: int,
    controller: str | Controller = "proposed",
    accuracy: str | AccuracyEngine | None = None,
    backend: str = "numpy",
    device: str = "cpu",
    dtype: str | None = None,
    noise: str | None = None,
    compile: bool = False,
) -> VectorEnv:
    """Many environments at once, of one physics with `parallel_env`.

    Args:
        which: a scenario's id or configuration.
        num_envs: E, how many.
        controller: as for `parallel_env`; it is asked for all environments at once.
        accuracy: as for `parallel_env`.
        backend: ``"numpy"``, in which environment i is bit for bit a `parallel_env` with the same
            seed, or ``"torch"``.
        device: of the torch backend, such as ``"cuda"``.
        dtype: of the physics: None, ``"float32"`` or ``"float64"``.
        noise: None, ``"pcg64"`` or ``"counter"``; see `dtmarl.envs.vector.VectorEnv`.
        compile: compile the torch backend, which takes a minute or so.

    Raises:
        ValueError: an argument is not one of these.
    """
    return VectorEnv(
        scenario(which),
        num_envs,
        find_controller(controller),
        accuracy=accuracy,
        backend=backend,
        device=device,
        dtype=dtype,
        noise=noise,
        compile=compile,
    )


def gymnasium_vector_env(
    which: str | ScenarioConfig = "paper-v0",
    *,
    agents: str,
    num_envs: int,
    others: str | Rule | RowRule = "root-balanced",
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    **options: Any,
) -> GymnasiumVectorEnv:
    """A `gymnasium.vector.VectorEnv` for trainers of one agent, which all agents of a type share.

    Its rows are all agents of that type in all environments, in NumPy arrays whatever the backend;
    `num_envs` of what is returned counts rows, E·N or E·M. ``infos["mask"]`` tells which rows are
    of users that are there.

    Args:
        which: a scenario's id or configuration.
        agents: who is trained: ``"mu"``, users, or ``"bs"``, base stations.
        num_envs: E, how many environments.
        others: how the agents of the other type act, row by row: a rule's name, a `Rule`, which
            `reset` prepares, or any callable from float32 observations [rows, size] to weights
            [rows, …], both NumPy; rows of absent users are zero. So two types can be trained in
            turn.
        autoreset_mode: Gymnasium's ``"SameStep"``, which leaves the last observations in
            ``infos["final_obs"]``, or ``"NextStep"``, which wrappers of observations and
            `RecordEpisodeStatistics` need.
        **options: others of `vector_env`: controller, accuracy, backend and so on.

    Raises:
        ValueError: an argument is not one of these.
    """
    environments = vector_env(which, num_envs=num_envs, **options)
    return GymnasiumVectorEnv(environments, agents, others, autoreset_mode)


def register_with_pettingzoo() -> None:
    """Make ``pettingzoo.make("parallel", "dtmarl/paper-v0")`` work where PettingZoo can."""
    try:
        from pettingzoo import register
    except ImportError:  # releases before 1.27 have no registry
        return
    for name in SCENARIOS:
        register("parallel", f"dtmarl/{name}", partial(parallel_env, name))
        register("aec", f"dtmarl/{name}", partial(env, name))
