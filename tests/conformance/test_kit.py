"""The conformance kit passes what is correct, and catches each planted fault by the rule for it."""

import copy
import pickle

import broken
import numpy as np
import pytest

from dtmarl.testing import (
    RULES,
    ConformanceError,
    RuleResult,
    Setting,
    check_across_processes,
    check_parallel_env,
    load_factory,
    run_rules,
)

MAX_STEPS = 40

# PettingZoo's own test overlaps with many rules, so a fault may show in it as well.
OVERLAPPING = "pettingzoo_api_test"


def failures(make_env, **arguments):
    results = run_rules(make_env, max_steps=MAX_STEPS, **arguments)
    return {result.rule: str(result.error) for result in results if not result.passed}


@pytest.mark.parametrize("make_env", [broken.Meadow, broken.Workshop])
@pytest.mark.parametrize("seed", [0, 5])
def test_a_correct_environment_keeps_every_rule(make_env, seed):
    check_parallel_env(make_env, seed=seed, max_steps=MAX_STEPS)


def test_every_rule_has_something_to_check_on_the_meadow():
    assert [r.rule for r in run_rules(broken.Meadow) if r.note] == []


def test_every_rule_has_a_planted_fault():
    assert {name for name, _ in broken.FAULTS} == set(RULES)


@pytest.mark.parametrize(("rule", "fault"), broken.FAULTS, ids=lambda x: getattr(x, "__name__", x))
def test_a_fault_is_caught_by_its_rule_and_by_no_other(rule, fault):
    caught = failures(fault)
    if rule != OVERLAPPING:
        caught.pop(OVERLAPPING, None)
    assert set(caught) == {rule}, caught


@pytest.mark.parametrize(("rule", "fault"), broken.FAR_REACHING)
def test_a_far_reaching_fault_is_caught_by_its_rule(rule, fault):
    assert rule in failures(fault)


@pytest.mark.parametrize("name", list(RULES))
def test_a_rule_says_in_one_line_what_it_asks(name):
    assert RULES[name].__name__ == name
    assert RULES[name].__doc__.count("\n") == 0


def test_an_error_names_rule_agent_step_and_both_values():
    with pytest.raises(ConformanceError) as caught:
        check_parallel_env(broken.NanAtEnd, max_steps=MAX_STEPS)
    error = caught.value
    assert (error.rule, error.agent, error.step) == ("observations", "gate_0", 12)
    assert str(error) == (
        "rule 'observations' (agent 'gate_0', step 12): "
        "expected finite values; found element [0] = nan"
    )


@pytest.mark.parametrize(
    ("fault", "agent", "step", "expected", "found"),
    [
        (broken.OutsideAtCorners, "walker_0", 1, "element [3] within [-10.0, 10.0]", "11.0"),
        (broken.ResetWithoutInfo, "walker_2", 0, "infos for exactly", "for ['gate_0', "),
        (broken.IntegerReward, "gate_0", 1, "a finite float as reward", "int "),
        (broken.ConstantElement, "gate_0", None, "of kind 'gate' to change", "[3] = 0.25"),
        (broken.LeftOver, "gate_0", 1, "observations/gate_0 as first recorded, element [0] = ", ""),
        (broken.TakesNan, "walker_3", 4, "wrong actions: NaN in element 0", "none"),
        (broken.Endless, None, MAX_STEPS, "no agents left after at most 40 steps", "['gate_0', "),
    ],
)
def test_an_error_points_at_the_fault(fault, agent, step, expected, found):
    with pytest.raises(ConformanceError) as caught:
        check_parallel_env(fault, max_steps=MAX_STEPS)
    error = caught.value
    assert (error.agent, error.step) == (agent, step)
    assert expected in error.expected
    assert found in error.found


def test_an_environment_that_raises_breaks_the_rule_and_shows_the_exception():
    class Raises(broken.Meadow):
        def reset(self, seed=None, options=None):
            raise KeyError("no such table")

    with pytest.raises(ConformanceError, match="found KeyError: 'no such table'") as caught:
        RULES["step_types"](Setting(Raises))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_survives_pickling():
    error = ConformanceError("ends", expected="an end", found="none", agent=None, step=3)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.step) == (str(error), 3)


def test_a_rule_runs_alone():
    assert RULES["spaces"](Setting(broken.LeftOver, max_steps=MAX_STEPS)) is None
    with pytest.raises(ConformanceError):
        RULES["same_seed"](Setting(broken.LeftOver, max_steps=MAX_STEPS))


def test_rules_can_be_chosen_and_left_out():
    chosen = run_rules(broken.LeftOver, rules=["same_seed", "spaces"], skip=["spaces"])
    assert [(result.rule, result.passed) for result in chosen] == [("same_seed", False)]
    check_parallel_env(broken.LeftOver, skip=["same_seed"], max_steps=MAX_STEPS)


def test_a_report_covers_all_rules_in_order_and_reads_as_lines():
    report = run_rules(broken.Workshop)
    assert [result.rule for result in report] == list(RULES)
    lines = {result.rule: str(result) for result in report}
    assert lines["ends"] == "ok   ends"
    assert lines["render"] == "ok   render (nothing to check: render_mode is None)"
    (failed,) = run_rules(broken.ClosesOnce, rules=["close"])
    assert str(failed).startswith("FAIL rule 'close': expected close to do no harm")
    assert isinstance(failed, RuleResult)


def test_constant_elements_can_be_declared_by_argument():
    declared = {"walker": [3], "gate": [3]}
    check_parallel_env(broken.ConstantElement, constant_observations=declared, max_steps=MAX_STEPS)


def test_one_and_the_same_environment_is_copied_and_left_alone():
    env = broken.Meadow()
    env.reset(seed=3)
    before = copy.deepcopy(env.state())
    check_parallel_env(lambda: env, max_steps=MAX_STEPS)
    np.testing.assert_array_equal(env.state(), before)
    assert not env.is_closed
    uncopyable = broken.Unpicklable()
    uncopyable.__dict__["lock"] = (x for x in ())
    with pytest.raises(ValueError, match="a new environment at each call"):
        run_rules(lambda: uncopyable)


@pytest.mark.parametrize(
    ("make_env", "arguments", "message"),
    [
        (broken.Meadow(), {}, "make_env: expected a function .* got Meadow"),
        (dict, {}, "make_env: expected it to return a ParallelEnv, got dict without 'reset'"),
        (broken.Meadow, {"seed": -1}, "seed: expected an integer of at least 0, got -1"),
        (broken.Meadow, {"episodes": 0}, "episodes: expected an integer of at least 1, got 0"),
        (broken.Meadow, {"max_steps": 1.5}, "max_steps: expected an integer .* got 1.5"),
        (broken.Meadow, {"rules": ["spases"]}, "rules: expected names among .* got 'spases'"),
        (broken.Meadow, {"skip": ["spases"]}, "rules: expected names among .* got 'spases'"),
    ],
)
def test_wrong_use_says_what_was_expected(make_env, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_rules(make_env, **arguments)


def test_the_caller_keeps_its_global_random_states():
    before = np.random.get_state()  # noqa: NPY002 the state that is to be kept
    run_rules(broken.Meadow, max_steps=MAX_STEPS)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_the_global_random_state_of_torch_is_watched_and_kept():
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    caught = failures(broken.TouchesGlobalTorch, rules=["global_random_kept"])
    assert "step 1 to leave the global random state of torch alone" in caught["global_random_kept"]
    assert failures(broken.Meadow, rules=["global_random_kept", "global_random_unused"]) == {}
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_agree_on_a_correct_environment():
    check_across_processes("broken:Meadow", seed=3)


@pytest.mark.parametrize(
    ("target", "agent", "step", "expected"),
    [
        ("broken:DependsOnHash", "gate_0", 1, "rewards (digest "),
        ("broken:OrderOfSet", None, 0, "infos of ["),
    ],
)
def test_a_dependence_on_the_hash_seed_is_caught(target, agent, step, expected):
    with pytest.raises(ConformanceError) as caught:
        check_across_processes(target)
    error = caught.value
    assert (error.rule, error.agent, error.step) == ("across_processes", agent, step)
    assert expected in error.expected


@pytest.mark.parametrize(
    "target", ["broken", "broken:", ":Meadow", "broken:Nobody", "no_one:f", "broken:FAULTS"]
)
def test_a_target_that_names_no_function_is_refused(target):
    with pytest.raises(ValueError, match="target: expected"):
        load_factory(target)


def test_a_target_in_a_class_is_found():
    assert load_factory("broken:Meadow.mro")()[0] is broken.Meadow
