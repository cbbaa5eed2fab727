"""One type of agents as a Gymnasium vector environment; the agents of the other follow a rule."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium.vector
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from dtmarl.backend import Array, namespace, to_numpy
from dtmarl.envs.vector import VectorEnv
from dtmarl.policies import policy
from dtmarl.policies.rule import Rule

OTHERS = {"bs": "mu", "mu": "bs"}
AUTORESET_MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
USER_FIGURES = ("delay_s", "accuracy", "breakout")

Infos = dict[str, Any]
RowRule = Callable[[Array], Array]


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """Every agent of one type in E environments is a row; see `dtmarl.gymnasium_vector_env`.

    Row e·A + a is agent a of environment e, A = M for base stations and N for users. All arrays
    are NumPy, whatever the backend.

    A user who is absent has a row all the same: its observation is zero, its action is ignored and
    its reward is 0, so that a user's return counts the slots in which it is there. Nobody
    terminates; the time limit truncates all rows in the same step.

    Infos come with Gymnasium's masks, ``_name`` beside ``name``:

    - ``mask`` [rows], agents that the observations are of, also of `reset`;
    - ``acted`` [rows], agents that the slot was of: whose action and reward mean something;
    - ``system_delay_s`` [rows] of the slot, and for users ``delay_s``, ``accuracy`` and
      ``breakout`` [rows], which those have that acted;
    - at the time limit, if the same step resets, ``final_obs`` [rows], an array of objects with
      the old episodes' last observations, and ``final_info`` with all of the above for these.

    If the next step resets, it plays nothing: nobody acts in it, and all rewards are 0.

    Args:
        environments: the vector environment, which then belongs to this one.
        agents: ``"bs"`` or ``"mu"``, the rows.
        others: how the agents of the other type act; see `dtmarl.gymnasium_vector_env`.
        autoreset_mode: Gymnasium's ``"SameStep"`` or ``"NextStep"``.

    Raises:
        ValueError: an argument is not one of these.
    """

    def __init__(
        self,
        environments: VectorEnv,
        agents: str,
        others: str | Rule | RowRule,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        if not isinstance(agents, str) or agents not in OTHERS:
            raise ValueError(f"agents: expected 'bs' or 'mu', got {agents!r}")
        mode = next((m for m in AUTORESET_MODES if autoreset_mode in (m, m.value)), None)
        if mode is None:
            raise ValueError(
                f"autoreset_mode: expected 'SameStep' or 'NextStep', got {autoreset_mode!r}"
            )
        self.environments, self.agents = environments, agents
        self.metadata = {"autoreset_mode": mode, "render_modes": []}
        self._same_step = mode is AutoresetMode.SAME_STEP
        shapes = environments.action_shapes
        self._agents_each = shapes[agents][1]
        self.num_envs = environments.num_envs * self._agents_each
        self.single_observation_space = environments.single_observation_space[agents]
        self.single_action_space = environments.single_action_space[agents]
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._other = OTHERS[agents]
        self._rule, self._decide = _found(others, self._other)
        self._observations: dict[str, Array] | None = None
        self._held: tuple[Array, Infos] | None = None  # of a reset that the next step shows

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, Infos]:
        """Start new episodes in every environment.

        Args:
            seed: environment e gets seed + e, or the e-th of E, and the rule of the others the
                first of these; None continues the present streams of numbers.
            options: none are defined; others than ``reset_mask`` are ignored.

        Returns:
            Observations [rows, size] float32, and infos.

        Raises:
            ValueError: the seed is not one of these, or options is not a mapping or asks to reset
                some rows only: environments run in lockstep.
        """
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"options: expected None or a mapping, got {options!r}")
        if options and "reset_mask" in options:
            raise ValueError(
                "options: expected no 'reset_mask', as all environments are reset together, got "
                f"{options!r}"
            )
        observations, infos = self.environments.reset(seed)
        if seed is not None or self._observations is None:
            first = secrets.randbits(64) if seed is None else int(np.ravel(seed)[0])
            super().reset(seed=first)
            if self._rule is not None:
                self._rule.reset(self.environments.config, first)
        self._observations, self._held = observations, None
        return self._own(observations), self._told({"mask": self._there(infos["mu_mask"])})

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, Infos]:
        """Play one slot everywhere; episodes that end are reset in this step or the next.

        Args:
            actions: weights [rows, …] as in `action_space`; those outside [0, 1] are clipped.

        Returns:
            Observations [rows, size] float32; rewards [rows] float64; terminations [rows], always
            False; truncations [rows], True at the time limit; infos.

        Raises:
            RuntimeError: before `reset`.
            ValueError: the actions, or the weights of the others, are no NumPy floats of their
                shape, or not finite. The environments are as before and can go on.
        """
        if self._observations is None:
            raise RuntimeError("the environments have no episode yet: expected reset() first")
        own = self._weights("actions", self.agents, actions)
        nobody = np.zeros(self.num_envs, dtype=np.bool_)
        if self._held is not None:
            (seen, told), self._held = self._held, None
            told |= self._told({"acted": nobody})
            return seen, np.zeros(self.num_envs), nobody.copy(), nobody.copy(), told
        rows = _flat(self._observations[self._other])
        theirs = self._weights("others", self._other, self._decide(rows))
        played = {self.agents: own, self._other: theirs}
        observations, rewards, _, truncated, infos = self.environments.step(played)
        self._observations, seen = observations, self._own(observations)

        acted, figures = self._figures(infos)
        told = self._told({"mask": self._there(infos["mu_mask"])})
        if "final_obs" not in infos:
            told |= figures
        else:
            last_seen = self._own(infos["final_obs"])
            # Gymnasium puts what the slot gave into `final_info`; it stays outside as well, where
            # it is in every other step.
            last = figures | self._told({"mask": self._there(infos["final_mu_mask"])})
            if self._same_step:
                final_obs = _objects(last_seen)
                told |= figures | self._told({"final_obs": final_obs, "final_info": last})
            else:
                self._held = seen, told
                seen, told = last_seen, last
        return (
            seen,
            np.where(acted, self._repeated(rewards), 0.0).astype(np.float64),
            nobody,
            self._repeated(truncated),
            told,
        )

    def _figures(self, infos: Infos) -> tuple[Array, Infos]:
        """Who acted in a slot [rows], and the infos of the slot."""
        acted = self._there(infos["mu_acted"])
        shared = self._repeated(infos["system_delay_s"])
        figures = self._told({"acted": acted, "system_delay_s": shared})
        if self.agents == "mu":
            own = {name: _flat(infos[name]) for name in USER_FIGURES}
            figures |= self._told(own, of=acted)
        return acted, figures

    def _own(self, observations: dict[str, Array]) -> Array:
        return _flat(observations[self.agents])

    def _repeated(self, by_environment: Array) -> Array:
        """What agents of an environment share, [E], for each row."""
        return np.repeat(to_numpy(by_environment), self._agents_each)

    def _there(self, mu_mask: Array) -> Array:
        """Which rows are of agents that are there; base stations always are."""
        if self.agents == "bs":
            return np.ones(self.num_envs, dtype=np.bool_)
        return _flat(mu_mask)

    def _told(self, infos: Infos, of: Array = True) -> Infos:
        """The infos with Gymnasium's masks beside them: the rows that they are of."""
        return infos | {f"_{name}": np.full(self.num_envs, of) for name in infos}

    def _weights(self, name: str, kind: str, weights: Array) -> Array:
        """Checked weights of all agents of a kind, [E, A, …] of the backend."""
        shape = self.environments.action_shapes[kind]
        rows = (shape[0] * shape[1], shape[2])
        if not isinstance(weights, np.ndarray):
            raise ValueError(f"{name}: expected a NumPy array, got {type(weights).__name__}")
        if weights.shape != rows or not np.issubdtype(weights.dtype, np.floating):
            raise ValueError(
                f"{name}: expected floats with shape {rows}, got {weights.dtype} with shape "
                f"{weights.shape}"
            )
        wrong = np.argwhere(~np.isfinite(weights))
        if len(wrong):
            where = tuple(int(i) for i in wrong[0])
            raise ValueError(f"{name}: expected finite weights, got {weights[where]} at {where}")
        assert self._observations is not None
        like = self._observations[kind]
        weights = weights.reshape(shape)
        if isinstance(like, np.ndarray):
            return weights
        return namespace(like).asarray(weights, device=like.device)


def _flat(array: Array) -> Array:
    """[E, A, …] of any backend as rows [E·A, …] of NumPy."""
    array = to_numpy(array)
    return array.reshape(-1, *array.shape[2:])


def _objects(rows: Array) -> Array:
    """An array of rows, as Gymnasium has it; wrappers put rows of another shape there."""
    objects = np.empty(len(rows), dtype=object)
    for i, row in enumerate(rows):
        objects[i] = row
    return objects


def _found(others: Any, kind: str) -> tuple[Rule | None, RowRule]:
    """The rule, if it is one that has to be reset, and what it does with rows of a kind."""
    found = others
    if isinstance(others, str):
        try:
            found = policy(others)
        except ValueError as error:
            raise ValueError(f"others: {error}") from error
    if isinstance(found, Rule):
        return found, found.allocate if kind == "bs" else found.split
    if isinstance(others, str) or isinstance(found, type) or not callable(found):
        raise ValueError(
            "others: expected the name of a rule that decides row by row, such a Rule, or a "
            f"callable from rows to weights, got {others!r}"
        )
    return None, found
