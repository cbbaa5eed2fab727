"""Retraining as part of the objective: what it costs, what it saves, and a controller that weighs.

The threshold rule (15) looks at accuracy alone. Here a retraining has a cost, the delay that it
adds to the frame's expected slot, and a saving, the accuracy that it adds to the frame after it;
`Planned` retrains where the saving is worth the cost, and as many as it takes for the users' mean
accuracy to be expected at C̄. The rule keeps every user above C̄, as far as forecasts go; `Planned`
keeps their mean there, and lets single users fall below for longer.

What is saved is not known before: the models' recall is hidden, and contexts change. The estimate
is a + (b + c·age)·(attainable - forecast), where *attainable* is the accuracy on the believed class
mix of a model that has just been trained on it, by the measured accuracy profile, and *age* how
many frames the model has been in use: the older it is, the likelier its context has changed, and
the more of the difference a retraining wins back. `eval/retraining_value.py` measures a, b and c.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.backend import Array
from dtmarl.config import ConfigGroup, ScenarioConfig, choice, number
from dtmarl.frame.association import SOLVERS
from dtmarl.frame.association.local_search import local_search
from dtmarl.frame.association.problem import association_problem
from dtmarl.physics import learning
from dtmarl.types import UPDATE_PLANS, FrameDecision, TwinView

MOST_AGE_FRAMES = 3.0
"""Frames from which on a model's age makes no difference."""


def retraining_cost_s(config: ScenarioConfig, view: TwinView, work: float) -> Array:
    """Seconds that a user's retraining adds to the users' delays of the expected slot, [E, N].

    Each user by itself, nobody else retraining, split, allocation and association at their best
    (`local_search`) with and without it. Retraining slows down everybody who shares the compute.

    Args:
        config: the scenario.
        view: the twin's view.
        work: w·δ of the update plan.
    """
    num_envs, num_users = view.present_mask.shape
    rows = num_users + 1  # nobody, then each user
    repeated = TwinView(*(_repeat(part, rows) for part in view))
    alone = np.concatenate([np.zeros((1, num_users)), work * np.eye(num_users)])
    problem = association_problem(config, repeated, np.tile(alone, (num_envs, 1)))
    users = repeated.present_mask.sum(axis=-1)
    delay = (local_search(problem).value_s * users).reshape(num_envs, rows)
    added = np.maximum(delay[:, 1:] - delay[:, :1], 0.0)
    return np.where(view.present_mask, added, 0.0)


def _repeat(part: Array | int, times: int) -> Array | int:
    return part if isinstance(part, int) else np.repeat(part, times, axis=0)


def attainable_accuracy(config: ScenarioConfig, view: TwinView, plan: learning.UpdatePlan) -> Array:
    """Accuracy on the believed class mix of a model just retrained on it, [E, N].

    Args:
        config: the scenario.
        view: the twin's view.
        plan: how models are retrained; all of the coming tasks are taken as uploaded.
    """
    engine = _profile()
    no_noise = np.zeros_like(view.class_mix)
    images = view.mean_task_bytes / config.traffic.image_bytes * view.slots_per_decision
    collected = images[..., None] * view.class_mix
    real, twin_made = learning.capped_samples(
        plan.real_fraction * collected, plan.twin_fraction * collected, config.learning.max_samples
    )
    base = engine.initial_recall(no_noise)
    recall = engine.update(base, real, twin_made, no_noise, mode=plan.mode)
    return learning.expected_accuracy(recall, view.class_mix)


def _first_until(saving: Array, cost_s: Array, candidate_mask: Array, needed: Array) -> Array:
    """The candidates that save most for their cost, until they save what is needed, [E, N].

    Args:
        saving: [E, N], not negative for candidates.
        cost_s: [E, N].
        candidate_mask: [E, N].
        needed: [E, 1] sum over the users.
    """
    ratio = np.where(candidate_mask, saving / np.maximum(cost_s, 1e-9), -1.0)
    order = np.argsort(-ratio, axis=-1, kind="stable")
    saved = np.take_along_axis(np.where(candidate_mask, saving, 0.0), order, axis=-1)
    before = np.cumsum(saved, axis=-1) - saved
    rank = np.argsort(order, axis=-1, kind="stable")
    return np.take_along_axis(before < needed, rank, axis=-1)


@cache
def _profile() -> ProfileEngine:
    return ProfileEngine.load()


def saving_features(config: ScenarioConfig, view: TwinView, plan: learning.UpdatePlan) -> Array:
    """1, attainable - forecast and age·(attainable - forecast), [E, N, 3]; see the module."""
    missing = attainable_accuracy(config, view, plan) - view.forecast_accuracy
    age = np.minimum(view.model_age_slots / config.slots_per_frame, MOST_AGE_FRAMES)
    return np.stack([np.ones_like(missing), missing, age * missing], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Planned(ConfigGroup):
    """A frame controller that retrains whom it is worth the delay.

    Users whose forecast is at most C̄ plus the margin are candidates. Of these it retrains where
    the expected saving is at least the price times the cost, and beyond them those who save most
    for their cost, until the mean accuracy of the users, with what is saved, is expected to be C̄.
    Then it associates, with these retrainings fixed. With a price of 0 and no margin it is the
    threshold rule (15), as far as savings are expected to be positive.
    """

    name: str = choice("planned", "name of the controller")
    association: str = choice("exact", "association solver")
    update_plan: str = choice("incremental", "how models are retrained")
    price_per_s: float = number(
        0.003, low=0, doc="accuracy of a user and frame that one second in each slot is worth"
    )
    margin: float = number(0.02, low=-1, high=1, doc="how far above C̄ users are candidates still")
    saving_offset: float = number(0.0219, low=-1, high=1, doc="a, in accuracy")
    saving_share: float = number(0.0112, low=-10, high=10, doc="b, of the missing accuracy")
    saving_share_per_frame: float = number(0.2113, low=-10, high=10, doc="c, by frame of model age")

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, value, allowed in (
            ("association", self.association, tuple(SOLVERS)),
            ("update_plan", self.update_plan, UPDATE_PLANS),
        ):
            if value not in allowed:
                raise ValueError(
                    f"Planned.{label}: expected one of {sorted(allowed)}, got {value!r}"
                )

    def slots_per_decision(self, config: ScenarioConfig) -> int:
        """S: it decides once a frame."""
        return config.slots_per_frame

    def holds_actions(self) -> bool:
        """False: agents act every slot."""
        return False

    def expected_saving(self, config: ScenarioConfig, view: TwinView) -> Array:
        """Accuracy that retraining is expected to add to the frame after the coming one, [E, N]."""
        plan = learning.update_plan(self.update_plan, config.learning)
        features = saving_features(config, view, plan)
        weights = (self.saving_offset, self.saving_share, self.saving_share_per_frame)
        return sum(weight * features[..., i] for i, weight in enumerate(weights))

    def decide(self, config: ScenarioConfig, view: TwinView) -> FrameDecision:
        """Retrain whom it is worth the delay, then associate with that fixed."""
        work = learning.update_plan(self.update_plan, config.learning).work
        threshold = config.learning.accuracy_threshold
        candidate = view.present_mask & (view.forecast_accuracy <= threshold + self.margin)
        saving = self.expected_saving(config, view)
        cost = retraining_cost_s(config, view, work)
        forecast = np.where(view.present_mask, view.forecast_accuracy - threshold, 0.0)
        needed = -forecast.sum(axis=-1, keepdims=True)
        candidate &= saving >= 0.0
        worth_it = saving >= self.price_per_s * cost
        retrain = candidate & (worth_it | _first_until(saving, cost, candidate, needed))
        problem = association_problem(config, view, np.where(retrain, work, 0.0))
        result = SOLVERS[self.association](problem)
        return FrameDecision(
            association_mask=result.association_mask,
            retrain_mask=retrain,
            update_plan=self.update_plan,
            association_value_s=result.value_s,
            association_bound_s=result.bound_s,
        )
