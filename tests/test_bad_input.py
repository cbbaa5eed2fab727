"""Configurations, environments and policies that cannot be made, each with its exact error."""

import dataclasses
import json

import pytest
from playing import refused

import dtmarl
from dtmarl.config import (
    ComputeConfig,
    LearningConfig,
    MobilityConfig,
    RadioConfig,
    ScenarioConfig,
    TrafficConfig,
    TwinConfig,
)
from dtmarl.policies import policy
from dtmarl.policies.fixed import FixedSplit

PAPER = dtmarl.scenario("paper-v0")
NAN, INF = float("nan"), float("inf")


def from_json(**changes):
    return ScenarioConfig.from_json(json.dumps({**json.loads(PAPER.to_json()), **changes}))


CONFIGURATIONS = {
    "a string for a number": (
        lambda: ScenarioConfig(num_base_stations="3"),
        "ScenarioConfig.num_base_stations: expected a number, got '3'",
    ),
    "a bool for a number": (
        lambda: ScenarioConfig(num_base_stations=True),
        "ScenarioConfig.num_base_stations: expected a number, got True",
    ),
    "None for a number": (
        lambda: RadioConfig(bandwidth_hz=None),
        "RadioConfig.bandwidth_hz: expected a number, got None",
    ),
    "a fraction for a count": (
        lambda: ScenarioConfig(max_users=9.5),
        "ScenarioConfig.max_users: expected a whole number, got 9.5",
    ),
    "NaN": (
        lambda: MobilityConfig(width_m=NAN),
        "MobilityConfig.width_m: expected a finite number > 0, got nan",
    ),
    "NaN for a count": (
        lambda: ScenarioConfig(max_users=NAN),
        "ScenarioConfig.max_users: expected a whole number, got nan",
    ),
    "infinity": (
        lambda: ComputeConfig(site_flop_per_s=INF),
        "ComputeConfig.site_flop_per_s: expected a finite number >= 1, got inf",
    ),
    "below the range": (
        lambda: TwinConfig(sync_loss=-0.1),
        "TwinConfig.sync_loss: expected a finite number >= 0 and <= 1, got -0.1",
    ),
    "above the range": (
        lambda: LearningConfig(accuracy_threshold=1.5),
        "LearningConfig.accuracy_threshold: expected a finite number >= 0 and <= 1, got 1.5",
    ),
    "the open end of a range": (
        lambda: TrafficConfig(task_bytes_min=0),
        "TrafficConfig.task_bytes_min: expected a finite number > 0 and <= 1e+15, got 0.0",
    ),
    "no base stations": (
        lambda: ScenarioConfig(num_base_stations=0),
        "ScenarioConfig.num_base_stations: expected a finite number >= 1 and <= 10000, got 0",
    ),
    "a number for a switch": (
        lambda: RadioConfig(fading=1),
        "RadioConfig.fading: expected True or False, got 1",
    ),
    "a number for a name": (
        lambda: ScenarioConfig(name=3),
        "ScenarioConfig.name: expected a non-empty string, got 3",
    ),
    "an empty name": (
        lambda: ScenarioConfig(name=""),
        "ScenarioConfig.name: expected a non-empty string, got ''",
    ),
    "a mapping for a group": (
        lambda: ScenarioConfig(radio={"fading": False}),
        "ScenarioConfig.radio: expected a RadioConfig, got {'fading': False}",
    ),
    "an unknown channel": (
        lambda: PAPER.replace(radio={"channel": "fog"}),
        "RadioConfig.channel: expected one of ['free-space', 'umi-street-canyon'], got 'fog'",
    ),
    "an unknown engine": (
        lambda: PAPER.replace(learning={"engine": "oracle"}),
        "LearningConfig.engine: expected one of [",
    ),
    "more users at least than at most": (
        lambda: PAPER.replace(min_users=11),
        "min_users: expected at most max_users = 10, got 11",
    ),
    "larger tasks at least than at most": (
        lambda: PAPER.replace(traffic={"task_bytes_min": 3e7}),
        "TrafficConfig.task_bytes_min: expected at most task_bytes_max = 2e+07, got 3e+07",
    ),
    "an outage that outlasts the episode": (
        lambda: dtmarl.scenario("outage-v0").replace(outage={"duration_frames": 9}),
        "OutageConfig.duration_frames: expected at most frames_per_episode - 2 = 8",
    ),
    "an outage of the only base station": (
        lambda: dtmarl.scenario("outage-v0").replace(num_base_stations=1),
        "OutageConfig.enabled: expected at least 2 base stations, so that one stays, got 1",
    ),
    "an unknown field in replace": (
        lambda: PAPER.replace(num_cells=3),
        "ScenarioConfig has no field 'num_cells'; it has [",
    ),
    "an unknown field of a group": (
        lambda: PAPER.replace(radio={"wattage": 3}),
        "RadioConfig has no field 'wattage'; it has [",
    ),
    "broken JSON": (
        lambda: ScenarioConfig.from_json(PAPER.to_json()[:-1]),
        "expected a scenario as JSON: ",
    ),
    "a JSON list": (
        lambda: ScenarioConfig.from_json("[1, 2]"),
        "expected a JSON object of scenario fields, got list",
    ),
    "an unknown field in JSON": (
        lambda: from_json(colour="red"),
        "ScenarioConfig has no field 'colour'; it has [",
    ),
    "NaN in JSON": (
        lambda: from_json(reference_delay_s=NAN),
        "ScenarioConfig.reference_delay_s: expected a finite number > 0, got nan",
    ),
    "null for a group in JSON": (
        lambda: from_json(radio=None),
        "ScenarioConfig.radio: expected a RadioConfig, got None",
    ),
}

MAKING = {
    "an unknown scenario": (
        lambda: dtmarl.parallel_env("paper-v9"),
        "scenario: expected a ScenarioConfig or one of ['paper-v0', ",
    ),
    "a number for a scenario": (
        lambda: dtmarl.scenario(3),
        "scenario: expected a ScenarioConfig or one of ['paper-v0', ",
    ),
    "an unknown controller": (
        lambda: dtmarl.parallel_env(controller="manual"),
        "controller: expected one of ['planned', 'proposed', 'single-timescale', "
        "'without-incremental', 'without-twin'], got 'manual'",
    ),
    "an object that is no controller": (
        lambda: dtmarl.env(controller=object()),
        "controller: expected a scheme's name or an object with slots_per_decision, "
        "holds_actions and decide, got <object",
    ),
    "an unknown render mode": (
        lambda: dtmarl.parallel_env(render_mode="ansi"),
        "render_mode: expected None or one of ('rgb_array', 'human'), got 'ansi'",
    ),
    "an unknown way with absent agents": (
        lambda: dtmarl.raw_env(absent_agents="hide"),
        "absent_agents: expected one of ('omit', 'idle'), got 'hide'",
    ),
    "decisions that do not divide a frame": (
        lambda: dtmarl.raw_env(slots_per_decision=3),
        "slots_per_decision: expected a divisor of slots_per_frame = 10, got 3",
    ),
    "decisions every zero slots": (
        lambda: dtmarl.raw_env(slots_per_decision=0),
        "slots_per_decision: expected a divisor of slots_per_frame = 10, got 0",
    ),
    "decisions at half slots": (
        lambda: dtmarl.raw_env(slots_per_decision=2.5),
        "slots_per_decision: expected a divisor of slots_per_frame = 10, got 2.5",
    ),
    "a bool for a number of slots": (
        lambda: dtmarl.raw_env(slots_per_decision=True),
        "slots_per_decision: expected a divisor of slots_per_frame = 10, got True",
    ),
    "an unknown solver in a scheme": (
        lambda: dtmarl.Scheme(association="guess"),
        "Scheme.association: expected one of [",
    ),
    "an unknown timescale in a scheme": (
        lambda: dtmarl.Scheme(timescale="day"),
        "Scheme.timescale: expected one of ['frame', 'slot'], got 'day'",
    ),
    "an unknown plan in a scheme": (
        lambda: dtmarl.Scheme(update_plan="none"),
        "Scheme.update_plan: expected one of ['full', 'incremental', 'physical-only'], got 'none'",
    ),
    "an unknown accuracy in a scheme": (
        lambda: dtmarl.Scheme(accuracy="hearsay"),
        "Scheme.accuracy: expected one of ['forecast', 'last-frame', 'last-slot'], got 'hearsay'",
    ),
    "a number in a scheme": (
        lambda: dtmarl.Scheme(allocation=1),
        "Scheme.allocation: expected a non-empty string, got 1",
    ),
    "an unknown policy": (
        lambda: policy("best"),
        "policy: expected one of ['random', ",
    ),
    "a policy in a module that is not there": (
        lambda: policy("no_such_module:Best"),
        "policy: cannot make 'no_such_module:Best': No module named 'no_such_module'",
    ),
    "a policy that is not in its module": (
        lambda: policy("dtmarl.policies.fixed:Best"),
        "policy: cannot make 'dtmarl.policies.fixed:Best': module ",
    ),
    "an object that is no policy": (
        lambda: policy(3),
        "policy: expected an object with reset(scenario, seed) and act(observations), got 3",
    ),
    "a split beyond the task": (
        lambda: FixedSplit(offloaded=1.2),
        "offloaded: expected a number in [0, 1], got 1.2",
    ),
    "a split that is NaN": (
        lambda: FixedSplit(offloaded=NAN),
        "offloaded: expected a number in [0, 1], got nan",
    ),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_configuration_is_refused(case):
    refused(*CONFIGURATIONS[case])


@pytest.mark.parametrize("case", MAKING)
def test_it_cannot_be_made(case):
    refused(*MAKING[case])


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.min_users = 3
