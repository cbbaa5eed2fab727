"""Baseline policies: one file each, and one line here.

A policy decides from observations. One that declares `uses_truth` is shown the environment as well:
it is an anchor to measure others by, and reports, tables and figures mark it as such.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.policies.balanced import EqualShareBalanced, RootShareBalanced
from dtmarl.policies.fixed import FixedSplit
from dtmarl.policies.optimal import Oracle, TwinOptimum
from dtmarl.policies.random import RandomWeights

if TYPE_CHECKING:
    from dtmarl.envs.slot import SlotEnv


@runtime_checkable
class Policy(Protocol):
    """What `dtmarl.evaluate` runs; an `act_batch` for many environments may stand beside `act`."""

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Prepare for an episode of a scenario."""

    def act(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """One action for each agent that has an observation."""


class Anchor(Policy, Protocol):
    """A policy that acts on the true state, which `uses_truth` has to say.

    Evaluations call `watch` between `reset` and the first `act` of each episode.
    """

    uses_truth: bool

    def watch(self, env: SlotEnv) -> None:
        """Look at this environment's true state, `SlotEnv.snapshot`, from now on."""


def is_anchor(policy: Policy) -> TypeGuard[Anchor]:
    """Whether a policy declares that it acts on the true state, `uses_truth = True`.

    Raises:
        ValueError: it does, but has no method `watch`.
    """
    if getattr(policy, "uses_truth", False) is not True:
        return False
    if not callable(getattr(policy, "watch", None)):
        raise ValueError(f"policy: expected a method watch(env) beside uses_truth, got {policy!r}")
    return True


POLICIES: dict[str, Callable[[], Policy]] = {
    "random": RandomWeights,
    "local-only": lambda: FixedSplit(offloaded=0.0),
    "offload-all": lambda: FixedSplit(offloaded=1.0),
    "fixed-split": lambda: FixedSplit(offloaded=0.8),
    "equal-balanced": EqualShareBalanced,
    "root-balanced": RootShareBalanced,
    "twin-optimum": TwinOptimum,
    "oracle": Oracle,
}
"""Baseline policies by name; `oracle` is an anchor, as it acts on the truth."""


def policy(which: str | Policy) -> Policy:
    """A policy from a registered name, from ``package.module:Class``, or the policy itself.

    Raises:
        ValueError: nothing of this name can be found, or what was found is not a policy.
    """
    found: Any = which
    if isinstance(which, str):
        if which in POLICIES:
            return POLICIES[which]()
        module_name, separator, attribute = which.partition(":")
        if not separator:
            raise ValueError(
                f"policy: expected one of {list(POLICIES)} or 'package.module:Class', got {which!r}"
            )
        try:
            found = getattr(importlib.import_module(module_name), attribute)()
        except (ImportError, AttributeError, TypeError) as error:
            raise ValueError(f"policy: cannot make {which!r}: {error}") from error
    if not isinstance(found, Policy) or isinstance(found, type):
        raise ValueError(
            f"policy: expected an object with reset(scenario, seed) and act(observations), "
            f"got {found!r}"
        )
    return found
