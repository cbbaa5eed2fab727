"""The registered scenarios: one file each, and one line here."""

from __future__ import annotations

from dtmarl.config import ScenarioConfig
from dtmarl.scenarios import hotspot, outage, paper, stale_twin, vehicular

_MODULES = (paper, vehicular, hotspot, outage, stale_twin)

SCENARIOS: dict[str, ScenarioConfig] = {module.CONFIG.id: module.CONFIG for module in _MODULES}
"""Scenario configurations by id."""

DESCRIPTIONS: dict[str, str] = {
    module.CONFIG.id: (module.__doc__ or "").strip() for module in _MODULES
}
"""What each scenario is, for people, by id."""


def scenarios() -> tuple[str, ...]:
    """Ids of the registered scenarios."""
    return tuple(SCENARIOS)


def scenario(which: str | ScenarioConfig) -> ScenarioConfig:
    """The configuration of a scenario id, or the configuration itself.

    Raises:
        ValueError: there is no scenario of this id.
    """
    if isinstance(which, ScenarioConfig):
        return which
    if not isinstance(which, str) or which not in SCENARIOS:
        raise ValueError(
            f"scenario: expected a ScenarioConfig or one of {list(SCENARIOS)}, got {which!r}"
        )
    return SCENARIOS[which]
