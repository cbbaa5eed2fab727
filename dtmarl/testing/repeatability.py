"""Rules on randomness: the seed decides everything, and nothing else decides anything."""

from __future__ import annotations

import contextlib
import copy
import itertools
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dtmarl.testing import trees
from dtmarl.testing.episode import Env, Trajectory, follow, play, record, retrace
from dtmarl.testing.outcome import Violation, rule
from dtmarl.testing.setting import Setting


@rule
def same_seed(setting: Setting) -> None:
    """One seed, one episode: in a second instance, after a reset, after part of another episode."""
    with setting.opened() as env:
        follow(env, setting.reference, "in a second instance with the same seed")
        follow(env, setting.reference, "after resetting one instance with the same seed")
        other = setting.record(offset=1)
        half = itertools.islice(
            retrace(env, other, "after an episode with another seed"), 1 + len(other.steps) // 2
        )
        for _ in half:
            pass
        follow(env, setting.reference, "after part of an episode with another seed")


@rule
def different_seeds(setting: Setting) -> None:
    """Different seeds give different episodes."""
    seeds = [setting.seed + i for i in range(3)]
    episodes = []
    for seed in seeds:
        with setting.opened() as env:
            episodes.append(
                record(env, seed, action_seed=setting.seed, max_steps=setting.max_steps)
            )
    for (seed, one), (another, two) in itertools.combinations(zip(seeds, episodes, strict=True), 2):
        if _are_same(one, two):
            raise Violation(
                expected=f"episodes of seeds {seed} and {another} to differ", found="the same"
            )


def _are_same(one: Trajectory, two: Trajectory) -> bool:
    pairs = itertools.zip_longest(one.steps, two.steps)
    return all(
        a is not None and b is not None and trees.difference(a.compared(), b.compared()) is None
        for a, b in pairs
    )


@rule
def unseeded_reset(setting: Setting) -> None:
    """`reset()` after a seeded episode gives a new episode, which that seed still decides."""
    first = setting.reference
    with setting.opened() as env:
        follow(env, first, "in a second instance with the same seed")
        second = record(env, None, action_seed=setting.seed, max_steps=setting.max_steps)
    if _are_same(first, second):
        raise Violation(expected="reset() without a seed to give a new episode", found="the same")
    with setting.opened() as env:
        follow(env, first, "in a third instance with the same seed")
        follow(env, second, "in an unseeded episode after a seeded one, again")


@rule
def instances(setting: Setting) -> None:
    """Two instances stepped in turn give what each gives alone."""
    one, two = setting.reference, setting.record(offset=1)
    with setting.opened() as env, setting.opened() as neighbour:
        what = "with a second instance stepped in turn"
        for _ in itertools.zip_longest(retrace(env, one, what), retrace(neighbour, two, what)):
            pass


@rule
def action_order(setting: Setting) -> None:
    """The order of agents in the dict of actions does not matter."""
    with setting.opened() as env:
        for _ in retrace(
            env,
            setting.reference,
            "with actions in reversed order",
            arrange=lambda actions: dict(reversed(actions.items())),
        ):
            pass


@rule
def pickling(setting: Setting) -> None:
    """A pickled and restored environment goes on as the original does, and so does the original."""
    _require_equal_copies(setting, "pickle", lambda env: pickle.loads(pickle.dumps(env)))


@rule
def deep_copies(setting: Setting) -> None:
    """A deep copy of the environment goes on as the original does, and so does the original."""
    _require_equal_copies(setting, "copy.deepcopy", copy.deepcopy)


def _require_equal_copies(setting: Setting, how: str, duplicate: Callable[[Env], Env]) -> None:
    trajectory = setting.reference
    count = len(trajectory.steps)
    with setting.opened() as env:
        for step in retrace(env, trajectory, f"in the original of a copy made by {how}"):
            if step.index in (0, count // 3, 2 * count // 3):
                try:
                    twin = duplicate(env)
                except Exception as error:
                    raise Violation(
                        step=step.index,
                        expected=f"{how} to copy the environment",
                        found=f"{type(error).__name__}: {error}",
                    ) from error
                what = f"in a copy made by {how} after step {step.index}"
                follow(twin, trajectory, what, start=step.index + 1)


@rule
def global_random_kept(setting: Setting) -> None:
    """The global random states (random, numpy, torch where imported) are left untouched."""
    with _global_random_restored():
        # An earlier instance may have left the very states that this one would set.
        _seed_global_random(987_654_321)
        before = _global_random()
        with setting.opened() as env:
            _require_untouched(before, "making the environment", None)
            seed = setting.seed
            for step, _ in play(env, seed, action_seed=seed, max_steps=setting.max_steps):
                what = f"step {step.index}" if step.index else "reset"
                _require_untouched(before, what, step.index)


@rule
def global_random_unused(setting: Setting) -> None:
    """The global random states decide nothing in an episode."""
    with _global_random_restored():
        _seed_global_random(1)
        trajectory = setting.record()
        _seed_global_random(2)
        with setting.opened() as env:
            follow(env, trajectory, "with the global random states seeded otherwise")


# NPY002 asks for generators instead of numpy's legacy state, but that state is what is watched.
def _global_random() -> dict[str, Any]:
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_initialized():
            states["torch.cuda"] = [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return states


def _require_untouched(before: dict[str, Any], what: str, step: int | None) -> None:
    after = _global_random()
    for name, old in before.items():
        if trees.difference(old, after[name]) is not None:
            raise Violation(
                step=step,
                expected=f"{what} to leave the global random state of {name} alone",
                found="it changed",
            )


def _seed_global_random(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextlib.contextmanager
def _global_random_restored() -> Iterator[None]:
    saved = copy.deepcopy(_global_random())
    try:
        yield
    finally:
        random.setstate(saved["random"])
        np.random.set_state(saved["numpy"])  # noqa: NPY002
        torch = sys.modules.get("torch")
        if torch is not None and "torch" in saved:
            torch.set_rng_state(torch.from_numpy(saved["torch"]))
            if "torch.cuda" in saved:
                torch.cuda.set_rng_state_all([torch.from_numpy(s) for s in saved["torch.cuda"]])
