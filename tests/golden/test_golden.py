"""Every scenario still plays its golden trajectory; `make.py` beside this file renews them."""

import json

import make
import pytest

import dtmarl

ADVICE = "if the change is meant: raise the scenario's version and run tests/golden/make.py"


def stored(scenario):
    path = make.path_of(scenario)
    assert path.exists(), f"no golden trajectory; {ADVICE}"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("scenario", dtmarl.scenarios())
def test_golden_trajectory(scenario):
    expected, found = stored(scenario), make.golden_trajectory(scenario)
    for name in ("scenario", "config_hash", "seed"):
        assert found[name] == expected[name], ADVICE
    assert found["slots"].keys() == expected["slots"].keys()
    for name, values in expected["slots"].items():
        assert found["slots"][name] == pytest.approx(values, rel=1e-7), f"{name}: {ADVICE}"


def test_no_golden_trajectory_is_left_over():
    names = {path.stem for path in make.FOLDER.glob("*.json")}
    assert names == set(dtmarl.scenarios())


def test_golden_trajectories_have_something_to_tell():
    for scenario in dtmarl.scenarios():
        slots = stored(scenario)["slots"]
        assert len(set(slots["system_delay_s"])) == dtmarl.scenario(scenario).slots_per_episode
        assert max(slots["num_retrained"]) > 0
        assert sum(slots["num_association_changes"]) > 0


def test_numbers_are_rounded_to_nine_digits():
    assert make.rounded(123.4567890123) == 123.456789
    assert make.rounded(0.000123456789012) == 0.000123456789
