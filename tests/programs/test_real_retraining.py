"""The programs around real episodes, on scikit-learn's digits: playing, resuming, comparing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dtmarl

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("sklearn")

import torch

from dtmarl.accuracy.base_network import DIGITS_RECIPE, prepare
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.accuracy.recording import Recorder, Replay, read_episodes

FOLDER = Path(__file__).parents[2] / "eval"
TIMES = ("seconds", "training_seconds", "testing_seconds")


def imported(name):
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def program():
    return imported("real_retraining")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    prepare("digits", folder, replace(DIGITS_RECIPE, epochs=1), report=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def origin(program, base):
    """Short episodes in which everybody is retrained."""
    config = dtmarl.scenario("paper-v0").replace(
        slots_per_frame=4,
        frames_per_episode=2,
        max_users=5,
        learning={"accuracy_threshold": 1.0},  # everybody is due in every frame
        traffic={"task_bytes_min": 2e6, "task_bytes_max": 4e6},
    )
    return program.describe(config, "root-balanced", base, 10, 0)


@pytest.fixture(scope="module")
def runs(program, base, origin):
    """What uninterrupted episodes leave behind."""
    return [program.play(origin, "proposed", seed, base) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def content(origin, runs):
    return {"origin": origin, "machine": "a test", "runs": runs[:1]}


def without_times(runs):
    return [{name: part for name, part in run.items() if name not in TIMES} for run in runs]


def test_episodes_run_with_real_networks(runs):
    for run in runs:
        assert np.shape(run["accuracy"]) == (8, 5)
        assert {update["user"] for update in run["updates"]} == set(range(5))
        assert run["accuracy"][0] != run["accuracy"][-1]
        assert run["training_seconds"] > 0
    assert runs[0]["updates"] != runs[1]["updates"]


DRIVER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import real_retraining
if __name__ == "__main__":
    path = Path(sys.argv[3])
    content = {"origin": json.loads(sys.argv[2]), "machine": "a test", "runs": []}
    if path.exists():
        content = real_retraining.read_episodes(path)
    wanted = [("proposed", seed) for seed in (1, 2, 3)]
    real_retraining.run_missing(content, path, wanted, Path(sys.argv[4]), 1)
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_results(base, origin, runs, tmp_path):
    path, driver = tmp_path / "real.json", tmp_path / "driver.py"
    driver.write_text(DRIVER)
    command = [sys.executable, driver, FOLDER, json.dumps(origin), path, base]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    before = read_episodes(path)["runs"]
    assert 1 <= len(before) < 3
    subprocess.run(command, env=environment, check=True, timeout=120)
    after = read_episodes(path)["runs"]
    assert after[: len(before)] == before  # what was there is not played again
    assert without_times(after) == without_times(json.loads(json.dumps(runs)))


def test_results_are_shown_and_damage_is_named(program, content, tmp_path):
    path = tmp_path / "real.json"
    program.write_results(path, content)
    again = program.read_episodes(path)
    assert again == json.loads(json.dumps(content))
    assert "| proposed | 1 |" in program.to_markdown(again)
    program.draw(again, tmp_path)
    for name in ("2a", "2b"):
        picture = (tmp_path / f"real_retraining_{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match=r"real\.json: expected episodes of real networks"):
        program.read_episodes(path)


def test_results_of_another_origin_are_not_added_to(
    base, content, program, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "real.json"
    program.write_results(path, content)
    arguments = ["real_retraining.py", "--base", str(base), "--out", str(path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert caught.value.code == 2
    assert "real.json: its scenario is not this run's" in capsys.readouterr().err


def test_a_recorded_episode_plays_again_without_networks(content, runs):
    forecast = imported("forecast_calibration")
    config = dtmarl.ScenarioConfig().replace(**content["origin"]["scenario"])
    for run in runs:
        engine = Replay(run["base_recall"], run["updates"])
        frames, accuracy = forecast.play(config, "root-balanced", run["seed"], engine)
        np.testing.assert_allclose(accuracy, run["accuracy"], atol=1e-4)
        assert frames.predicted.shape == (5, 3)
        assert np.array_equal(frames.true, np.mean(accuracy[4:], axis=0))
    engine = Replay(runs[0]["base_recall"], runs[0]["updates"][:-1])
    with pytest.raises(ValueError, match="not the same episode"):
        forecast.play(config, "root-balanced", runs[0]["seed"], engine)


def test_recorder_writes_down_who_was_retrained():
    engine = ProfileEngine.load()
    recorder, other = Recorder(engine), Recorder(engine, 1)
    noise = np.random.default_rng(0).standard_normal((1, 3, 10))
    real, twin = np.zeros((2, 1, 3, 10))
    real[0, 2, 4], twin[0, 2, 5] = 30.0, 12.3
    recall = recorder.initial_recall(noise)
    after = recorder.update(recall, real, twin, noise)
    assert np.array_equal(after, engine.update(recall, real, twin, noise))
    [update] = recorder.updates
    assert (update["user"], update["mode"]) == (2, "incremental")
    assert update["twin"] == twin[0, 2].tolist()
    np.testing.assert_allclose(update["after"], after[0, 2], atol=1e-4)
    assert not np.array_equal(other.update(recall, real, twin, noise), after)


def test_profile_is_compared_user_by_user(content):
    check = imported("validate_profile")
    [run] = content["runs"]
    same = check.compare(run, run, 4)
    assert same["accuracy_error"] == 0.0
    assert same["decision_agreement"] == same["breakout_agreement"] == 1.0
    other = {**run, "accuracy": (np.array(run["accuracy"]) + 0.02).tolist()}
    other["retrain"] = np.array(run["retrain"]).tolist()
    for slot in range(4):
        other["retrain"][slot][0] ^= 1
    moved = check.compare(run, other, 4)
    assert moved["accuracy_error"] == pytest.approx(0.02)
    assert moved["curve_error"] == pytest.approx(0.02)
    assert moved["decision_agreement"] == pytest.approx(0.9)
    result = check.validate(content["origin"], content["runs"], content["runs"])
    figures = result["profile"]["proposed"]
    assert 0.0 < figures["accuracy_error"]["value"] < 0.8
    assert 0.0 < figures["update_recall_error"] < 0.8
    assert figures["decision_agreement"]["value"] == 1.0  # everybody is always due here
    assert "| mean accuracy, profile (or replica) |" in check.to_markdown(result)
    assert result["replica"]["proposed"]["accuracy_error"]["value"] == 0.0


def test_margins_are_those_before_the_decision():
    check = imported("validate_profile")
    real = {
        "present": [[1, 1, 0]] * 4,
        "accuracy": [[0.80, 0.86, 0.85]] * 2 + [[0.5, 0.5, 0.5]] * 2,
        "retrain": [[0, 0, 0]] * 4,
    }
    fast = {**real, "retrain": [[0, 0, 0]] * 2 + [[1, 0, 1]] * 2}
    found = check.margins([(real, fast)], 2, 0.85)
    assert found == pytest.approx({"margin_differing": 0.05, "margin_alike": 0.01})


def test_leads_are_paired_by_seed():
    check = imported("validate_profile")
    mine = {s: {"accuracy_real": 0.8 + s, "accuracy_profile": 0.9 + s} for s in (0, 1, 2)}
    theirs = {s: {"accuracy_real": 0.7 + s, "accuracy_profile": 0.85 + s} for s in (1, 2, 3)}
    found = {name: part["value"] for name, part in check.leads(mine, theirs).items()}
    assert found == pytest.approx({"lead_real": 0.1, "lead_profile": 0.05, "lead_error": -0.05})
    assert check.leads(mine, {}) == {}


def test_forecasts_are_counted_by_hand():
    forecast = imported("forecast_calibration")
    predicted = np.array([[0.9, 0.8, 0.86], [0.8, 0.9, 0.84], [0.9, 0.9, 0.9], [0.7, 0.8, 0.8]])
    frames = forecast.Frames(predicted, np.array([0.8, 0.9, 0.9, 0.8]))
    learnt = dict(zip(forecast.MEASURES, forecast.measures(frames, 0.85)[:, 0], strict=True))
    assert learnt["bias"] == pytest.approx(-0.025)
    assert learnt["mae"] == pytest.approx(0.075)
    assert learnt["rmse"] == pytest.approx(np.sqrt(0.03 / 4))
    assert learnt["missed"] == learnt["false"] == 0.25
    assert not forecast.measures(frames, 0.85)[:, 1].any()
    assert forecast.measures(frames, 0.85)[-2:, 2].tolist() == [0.25, 0.25]


def test_forecast_program_writes_and_shows(tmp_path):
    out = tmp_path / "forecast.json"
    arguments = ["--scenario", "paper-v0", "--seeds", "0:2", "--out", out]
    program = [sys.executable, FOLDER / "forecast_calibration.py"]
    result = subprocess.run(
        [*program, *arguments, "--pictures", tmp_path], capture_output=True, text=True, timeout=120
    )
    assert result.stderr == ""
    assert "| profile, paper-v0, 2 seeds | mixture |" in result.stdout
    bins = json.loads(out.read_text())["cases"]["profile, paper-v0"]["calibration"]["learnt"]
    assert [row[0] for row in bins] == sorted(row[0] for row in bins)
    assert (tmp_path / "real_retraining_forecast.png").read_bytes().startswith(b"\x89PNG")
    shown = subprocess.run([*program, "--show", out], capture_output=True, text=True, timeout=120)
    assert shown.stdout == result.stdout


@pytest.mark.parametrize(
    "name", ["real_retraining", "validate_profile", "forecast_calibration", "update_choices"]
)
def test_damaged_results_end_with_status_2_and_no_traceback(name, tmp_path, capsys, monkeypatch):
    broken = tmp_path / "broken.json"
    broken.write_text('{"runs": [')
    flag = "--real" if name == "validate_profile" else "--show"
    monkeypatch.setattr(sys, "argv", [name, flag, str(broken)])
    with pytest.raises(SystemExit) as caught:
        imported(name).main()
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
