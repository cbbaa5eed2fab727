"""Vector environments that `vector.py` measures beside dtmarl: each plays frames of ten steps."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

Play = Callable[[], int]
"""Plays a frame and returns the agent-steps made."""

FRAME = 10


def vmas_player(num_envs: int) -> Play:
    import vmas

    env = vmas.make_env("simple_spread", num_envs=num_envs, n_agents=3, device="cpu", seed=0)
    env.reset()
    actions = [env.get_random_action(agent) for agent in env.agents]
    played = 0

    def play() -> int:
        nonlocal played
        for _ in range(FRAME):
            env.step(actions)
            played += 1
            if played % 100 == 0:
                env.reset()
        return FRAME * num_envs * len(env.agents)

    return play


def jaxmarl_player(num_envs: int) -> Play:
    # Read at import. XLA ignores OMP_NUM_THREADS; the flag helps where a run cannot be pinned.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax
    import jaxmarl

    env = jaxmarl.make("MPE_simple_spread_v3")
    keys = jax.random.split(jax.random.key(0), (3, num_envs))
    _, state = jax.vmap(env.reset)(keys[0])
    sample = {agent: jax.vmap(env.action_space(agent).sample) for agent in env.agents}
    actions = {agent: sample[agent](keys[1]) for agent in env.agents}

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        keys, state = carry
        keys, now = jax.vmap(jax.random.split, out_axes=1)(keys)
        # `step` resets what has ended.
        observations, state, rewards, dones, _ = jax.vmap(env.step)(now, state, actions)
        # Returned for every step: XLA would not compute what nobody reads.
        return (keys, state), (observations, rewards, dones)

    frame = jax.jit(lambda carry: jax.lax.scan(step, carry, length=FRAME))
    carry = (keys[2], state)

    def play() -> int:
        nonlocal carry
        carry, _ = jax.block_until_ready(frame(carry))
        return FRAME * num_envs * env.num_agents

    return play


def installed_peers() -> dict[str, Callable[[int], Play]]:
    """The peers by name, less those that are not installed."""
    peers = {"VMAS": vmas_player, "JaxMARL": jaxmarl_player}
    for name in [name for name in peers if importlib.util.find_spec(name.lower()) is None]:
        print(f"{name} is not installed and left out")
        del peers[name]
    return peers
