"""The registry of rules, and running them on an environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping

from dtmarl.testing import contract, isolation, presence, rejection, repeatability, values
from dtmarl.testing.episode import Env
from dtmarl.testing.outcome import ConformanceError, Rule, RuleResult
from dtmarl.testing.setting import Setting

RULES: dict[str, Rule] = {
    check.__name__: check
    for check in (
        contract.metadata,
        contract.spaces,
        contract.agents,
        contract.reset_result,
        contract.step_result,
        contract.step_types,
        presence.ends,
        presence.step_after_end,
        presence.departures,
        presence.no_return,
        presence.arrivals,
        values.observations,
        values.constant_observations,
        values.state,
        values.render,
        repeatability.same_seed,
        repeatability.different_seeds,
        repeatability.unseeded_reset,
        repeatability.instances,
        repeatability.action_order,
        repeatability.pickling,
        repeatability.deep_copies,
        repeatability.global_random_kept,
        repeatability.global_random_unused,
        isolation.fresh_observations,
        isolation.results_not_kept,
        isolation.actions_not_kept,
        isolation.actions_unaltered,
        rejection.rejects_nan,
        rejection.rejects_wrong_shape,
        rejection.rejects_outside_discrete,
        rejection.rejects_unknown_agent,
        rejection.rejects_absent_agent,
        rejection.rejects_missing_agent,
        rejection.refusals_leave_no_trace,
        contract.close,
        contract.pettingzoo_api_test,
    )
}
"""Every rule by name, in the order in which they run. A rule's docstring says what it asks."""


def check_parallel_env(
    make_env: Callable[[], Env],
    *,
    seed: int = 0,
    episodes: int = 40,
    max_steps: int = 1000,
    constant_observations: Mapping[str, Collection[int]] | None = None,
    rules: Collection[str] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Hold an environment against the rules, and stop at the first that it breaks.

    Args:
        make_env: builds the environment; called many times.
        seed: seeds of episodes and actions count up from here.
        episodes: episodes over which each observation element has to change.
        max_steps: an episode has to end within this many steps.
        constant_observations: kind of agent → indices of elements of its flattened observation
            that may be constant, besides those in `metadata["constant_observations"]`. The kind of
            `mu_3` is `mu`.
        rules: names of the rules to run; all of `RULES` if None.
        skip: names of rules to leave out.

    Raises:
        ConformanceError: a rule is broken; says which, where, what was expected and what came.
        ValueError: an argument is out of range, or no rule has a given name.
    """
    setting = Setting(make_env, seed, episodes, max_steps, constant_observations or {})
    for result in _results(setting, rules, skip):
        if result.error is not None:
            raise result.error


def run_rules(
    make_env: Callable[[], Env],
    seed: int = 0,
    *,
    episodes: int = 40,
    max_steps: int = 1000,
    constant_observations: Mapping[str, Collection[int]] | None = None,
    rules: Collection[str] | None = None,
    skip: Collection[str] = (),
) -> list[RuleResult]:
    """Hold an environment against the rules, and report on each; see `check_parallel_env`.

    Raises:
        ValueError: an argument is out of range, or no rule has a given name.
    """
    setting = Setting(make_env, seed, episodes, max_steps, constant_observations or {})
    return list(_results(setting, rules, skip))


def _results(
    setting: Setting, rules: Collection[str] | None, skip: Collection[str]
) -> Iterator[RuleResult]:
    chosen = list(RULES) if rules is None else list(rules)
    for name in [*chosen, *skip]:
        if name not in RULES:
            raise ValueError(f"rules: expected names among {list(RULES)}, got {name!r}")
    for name in chosen:
        if name not in skip:
            yield _result(name, setting)


def _result(name: str, setting: Setting) -> RuleResult:
    start = time.perf_counter()
    note: str | None = None
    error = None
    try:
        note = RULES[name](setting)
    except ConformanceError as broken:
        error = broken
    return RuleResult(
        rule=name,
        passed=error is None,
        note=note or "",
        error=error,
        duration_s=time.perf_counter() - start,
    )
