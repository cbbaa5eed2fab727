"""Frame controllers: the paper's four schemes are four settings of one controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dtmarl.backend import Array, namespace
from dtmarl.config import ConfigGroup, ScenarioConfig, choice
from dtmarl.frame.association import SOLVERS
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    association_problem,
)
from dtmarl.frame.planned import Planned
from dtmarl.physics import learning
from dtmarl.types import UPDATE_PLANS, FrameDecision, TwinView


class Controller(Protocol):
    """Anything that decides for a frame; `FrameEnv` asks it, showing the twin's view alone.

    Its arrays are NumPy's, also where the environments run on torch, unless the controller has an
    attribute `takes_tensors` that is true.
    """

    def slots_per_decision(self, config: ScenarioConfig) -> int:
        """How many slots a decision is in force; divides the slots of a frame."""

    def holds_actions(self) -> bool:
        """Whether the agents' first action of a decision stays in force until the next."""

    def decide(self, config: ScenarioConfig, view: TwinView) -> FrameDecision:
        """Association and retraining for the coming slots."""


ACCURACY_SOURCES = ("forecast", "last-frame", "last-slot")
"""Where a scheme takes accuracy from: eq (14), eq (13), or the newest slot's measurement."""


_SOLVERS_OF_ANY_BACKEND = ("algorithm-1", "local-search", "nearest", "strongest")


@dataclass(frozen=True, kw_only=True)
class Scheme(ConfigGroup):
    """A controller by its choices; section IV's schemes are in `SCHEMES`."""

    name: str = choice("custom", "name of the scheme")
    timescale: str = choice("frame", "how often it decides: frame or slot")
    association: str = choice("algorithm-1", "association solver")
    accuracy: str = choice("forecast", "accuracy that eq (15) compares with C̄")
    update_plan: str = choice("incremental", "how models are retrained")
    allocation: str = choice("slot", "how often agents act: slot or frame")

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, value, allowed in (
            ("timescale", self.timescale, ("frame", "slot")),
            ("association", self.association, tuple(SOLVERS)),
            ("accuracy", self.accuracy, ACCURACY_SOURCES),
            ("update_plan", self.update_plan, UPDATE_PLANS),
            ("allocation", self.allocation, ("slot", "frame")),
        ):
            if value not in allowed:
                raise ValueError(
                    f"Scheme.{label}: expected one of {sorted(allowed)}, got {value!r}"
                )

    def slots_per_decision(self, config: ScenarioConfig) -> int:
        """S, or 1 for a scheme that decides every slot."""
        return config.slots_per_frame if self.timescale == "frame" else 1

    def holds_actions(self) -> bool:
        """True where allocation is designed once per decision."""
        return self.allocation == "frame"

    @property
    def takes_tensors(self) -> bool:
        """Whether it decides on torch's arrays too, instead of on copies for NumPy."""
        return self.association in _SOLVERS_OF_ANY_BACKEND

    def decide(self, config: ScenarioConfig, view: TwinView) -> FrameDecision:
        """Retrain by eq (15), then associate by P2 with those indicators fixed."""
        retrain, problem = self.problem(config, view)
        return self.decision(retrain, SOLVERS[self.association](problem))

    def problem(self, config: ScenarioConfig, view: TwinView) -> tuple[Array, AssociationProblem]:
        """Retraining by eq (15), [E, N] bool, and P2 with those indicators fixed."""
        accuracy = {
            "forecast": view.forecast_accuracy,
            "last-frame": view.frame_accuracy,
            "last-slot": view.slot_accuracy,
        }[self.accuracy]
        retrain = view.present_mask & (accuracy <= config.learning.accuracy_threshold)
        work = learning.update_plan(self.update_plan, config.learning).work
        retrain_work = work * namespace(accuracy).astype(retrain, accuracy.dtype)
        return retrain, association_problem(config, view, retrain_work)

    def decision(self, retrain_mask: Array, result: AssociationResult) -> FrameDecision:
        """The frame decision of both."""
        return FrameDecision(
            association_mask=result.association_mask,
            retrain_mask=retrain_mask,
            update_plan=self.update_plan,
            association_value_s=result.value_s,
            association_bound_s=result.bound_s,
        )


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="proposed"),
        Scheme(name="without-incremental", update_plan="full"),
        Scheme(
            name="without-twin",
            accuracy="last-frame",
            update_plan="physical-only",
            allocation="frame",
        ),
        Scheme(name="single-timescale", timescale="slot", accuracy="last-slot"),
    )
}
"""The schemes of section IV by name."""

CONTROLLERS: dict[str, Controller] = {**SCHEMES, "planned": Planned()}
"""Everything that can be chosen by name: the schemes, and what goes beyond the paper."""


def controller(which: str | Controller) -> Controller:
    """A controller from a scheme's name, or the controller itself.

    Raises:
        ValueError: there is no scheme of this name, or the object is not a controller.
    """
    if isinstance(which, str):
        if which not in CONTROLLERS:
            raise ValueError(f"controller: expected one of {sorted(CONTROLLERS)}, got {which!r}")
        return CONTROLLERS[which]
    missing = [
        name
        for name in ("slots_per_decision", "holds_actions", "decide")
        if not callable(getattr(which, name, None))
    ]
    if missing or isinstance(which, type):
        raise ValueError(
            "controller: expected a scheme's name or an object with slots_per_decision, "
            f"holds_actions and decide, got {which!r}"
        )
    return which
