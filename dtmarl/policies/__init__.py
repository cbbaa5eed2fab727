"""Baseline policies: one file each, and one line here. Each agent decides from its observation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from dtmarl.backend import Array
from dtmarl.config import ScenarioConfig
from dtmarl.policies.balanced import EqualShareBalanced, RootShareBalanced
from dtmarl.policies.fixed import FixedSplit
from dtmarl.policies.random import RandomWeights


@runtime_checkable
class Policy(Protocol):
    """What `dtmarl.evaluate` runs; an `act_batch` for many environments may stand beside `act`."""

    def reset(self, scenario: ScenarioConfig, seed: int) -> None:
        """Prepare for an episode of a scenario."""

    def act(self, observations: Mapping[str, Array]) -> dict[str, Array]:
        """One action for each agent that has an observation."""


POLICIES: dict[str, Callable[[], Policy]] = {
    "random": RandomWeights,
    "local-only": lambda: FixedSplit(offloaded=0.0),
    "offload-all": lambda: FixedSplit(offloaded=1.0),
    "fixed-split": lambda: FixedSplit(offloaded=0.8),
    "equal-balanced": EqualShareBalanced,
    "root-balanced": RootShareBalanced,
}
"""Baseline policies by name."""


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
