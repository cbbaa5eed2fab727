import dataclasses

import numpy as np
import pytest

import dtmarl
from dtmarl.evaluation import METRICS, rollout
from dtmarl.policies import FixedSplit

SMALL = dtmarl.scenario("paper-v0").replace(frames_per_episode=3, slots_per_frame=4)


@pytest.fixture(scope="module")
def report():
    return dtmarl.evaluate("root-balanced", SMALL, seeds=range(5))


def test_metrics_follow_from_the_infos_of_the_same_episode():
    env = dtmarl.parallel_env(SMALL)
    policy = FixedSplit(offloaded=0.5)
    policy.reset(SMALL, 3)
    observations, _ = env.reset(seed=3)
    delays, accuracy, breakouts = [], [], []
    while env.agents:
        observations, _, _, _, infos = env.step(policy.act(observations))
        users = [info for agent, info in infos.items() if agent.startswith("mu_")]
        delays.append(infos["bs_0"]["system_delay_s"])
        accuracy += [info["accuracy"] for info in users]
        breakouts += [info["breakout"] for info in users]
    report = dtmarl.evaluate(FixedSplit(offloaded=0.5), SMALL, seeds=[3])
    assert report.mean("system_delay_s") == pytest.approx(np.mean(delays))
    assert report.mean("median_delay_s") == pytest.approx(np.median(delays))
    assert report.mean("accuracy") == pytest.approx(np.mean(accuracy))
    assert report.mean("breakout_rate") == pytest.approx(np.mean(breakouts))


def test_rates_weigh_every_user_slot_the_same_when_users_come_and_go():
    config = dtmarl.scenario("vehicular-v0").replace(frames_per_episode=4)
    record = rollout("local-only", config, "proposed", 1)
    assert len(set(record.num_users.tolist())) > 1
    report = dtmarl.evaluate("local-only", config, seeds=[1])
    for name in ("accuracy", "breakout_rate", "retrain_rate"):
        weighted = np.average(getattr(record, name), weights=record.num_users)
        assert report.mean(name) == pytest.approx(weighted)
    assert report.mean("peak_breakout_rate") == record.breakout_rate.max()
    assert report.mean("breakout_jump") == np.diff(record.breakout_rate).max()


@pytest.mark.parametrize("controller", sorted(dtmarl.SCHEMES))
def test_a_seed_is_the_same_world_for_every_policy_and_controller(controller):
    here, there = (
        rollout(policy, SMALL, which, 11)
        for policy, which in (("local-only", controller), ("offload-all", "proposed"))
    )
    assert here.num_users.tolist() == there.num_users.tolist()
    # Before anything is retrained accuracy is the world's alone.
    assert here.accuracy[0] == there.accuracy[0]
    other = rollout("local-only", SMALL, controller, 12)
    assert here.accuracy[0] != other.accuracy[0]


@pytest.mark.parametrize("policy", ["random", "root-balanced"])
def test_workers_do_not_change_results(policy):
    serial, parallel = (
        dtmarl.evaluate(policy, SMALL, seeds=[4, 0, 7], workers=workers) for workers in (1, 2)
    )
    assert serial.to_json() == parallel.to_json()


def test_results_depend_on_seeds_not_on_their_order():
    one, two = (dtmarl.evaluate("random", SMALL, seeds=seeds) for seeds in ([2, 5], [5, 2]))
    assert one.values("system_delay_s") == two.values("system_delay_s")[::-1]
    assert one.difference(two, "system_delay_s") == (0.0, 0.0, 0.0)
    assert one.values("system_delay_s")[0] != one.values("system_delay_s")[1]


def test_report_has_curves_of_every_slot_within_their_bands(report):
    for curve in report.curves.values():
        mean, low, high = (np.asarray(part) for part in curve)
        assert mean.shape == low.shape == high.shape == (12,)
        assert (low <= mean + 1e-12).all()
        assert (mean <= high + 1e-12).all()
    assert np.mean(report.curves["system_delay_s"].mean) == pytest.approx(
        report.mean("system_delay_s")
    )


def test_interval_of_the_report_is_around_its_mean(report):
    for name in METRICS:
        low, high = report.interval(name)
        assert low <= report.mean(name) <= high


def test_difference_is_paired(report):
    other = dtmarl.evaluate("local-only", SMALL, seeds=range(5))
    name = "system_delay_s"
    value, low, high = report.difference(other, name)
    pairs = np.subtract(report.values(name), other.values(name))
    assert value == pytest.approx(pairs.mean())
    assert pairs.min() <= low <= value <= high <= pairs.max()
    assert report.ratio(other, name).value == pytest.approx(report.mean(name) / other.mean(name))


def test_difference_needs_the_same_seeds(report):
    with pytest.raises(ValueError, match="seeds"):
        report.difference(dtmarl.evaluate("local-only", SMALL, seeds=range(4)), "accuracy")


def test_provenance_says_what_was_run(report):
    origin = report.provenance
    assert (origin.policy, origin.controller) == ("root-balanced", "proposed")
    assert (origin.scenario, origin.scenario_hash) == (SMALL.id, SMALL.hash)
    assert origin.seeds == (0, 1, 2, 3, 4)
    assert origin.dtmarl_version == dtmarl.__version__
    assert origin.numpy_version == np.__version__
    assert origin.controller_settings["timescale"] == "frame"


def test_a_scheme_of_ones_own_is_told_apart_from_the_registered_one():
    own = dataclasses.replace(dtmarl.SCHEMES["proposed"], accuracy="last-frame")
    one, two = (
        dtmarl.evaluate("local-only", SMALL, seeds=[0], controller=which).provenance
        for which in ("proposed", own)
    )
    assert one != two


def test_policy_objects_are_named_by_their_class():
    origin = dtmarl.evaluate(FixedSplit(offloaded=0.3), SMALL, seeds=[0]).provenance
    assert origin.policy == "dtmarl.policies.fixed:FixedSplit"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 2, 1]}, r"\[1\] more than once"),
        ({"seeds": [-1]}, "non-negative"),
        ({"seeds": [0.5]}, "non-negative integers"),
        ({"seeds": [True]}, "non-negative integers"),
        ({"seeds": "0:20"}, "several"),
        ({"seeds": 5}, "several"),
        ({"policy": "no-such-policy"}, "policy"),
        ({"scenario": "no-such-scenario"}, "scenario"),
        ({"controller": "no-such-controller"}, "controller"),
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
    ],
)
def test_wrong_arguments_are_refused_with_what_was_expected(arguments, expected):
    given = {"policy": "local-only", "scenario": SMALL, "seeds": [0], **arguments}
    policy, scenario = given.pop("policy"), given.pop("scenario")
    with pytest.raises(ValueError, match=expected):
        dtmarl.evaluate(policy, scenario, **given)


@pytest.mark.parametrize("method", ["mean", "interval", "values", "estimate"])
def test_unknown_metrics_are_refused(report, method):
    with pytest.raises(ValueError, match=r"expected one of \['system_delay_s'"):
        getattr(report, method)("delay")


def test_a_policy_that_gives_impossible_actions_is_refused():
    class Silent(FixedSplit):
        def act(self, observations):
            return {}

    with pytest.raises(ValueError, match="missing"):
        dtmarl.evaluate(Silent(offloaded=0.5), SMALL, seeds=[0])
