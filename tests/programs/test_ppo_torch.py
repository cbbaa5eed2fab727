"""The PPO program: it runs, learns, stops and continues, and refuses what makes no sense."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dtmarl

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

PROGRAM = Path(__file__).parents[2] / "train" / "ppo_torch.py"
TINY = ("--num-envs=4", "--episodes=2", "--eval-every=1", "--seeds=0:2", "--threads=1")


def command(*arguments):
    return [sys.executable, str(PROGRAM), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ppo")
    finished = run(*TINY, "--out", folder)
    assert finished.returncode == 0, finished.stderr
    return folder, finished.stdout


@pytest.fixture(scope="module")
def program():
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        import ppo_torch
    finally:
        sys.path.remove(str(PROGRAM.parent))
    return ppo_torch


def curve(folder):
    return [delay for _, delay in json.loads((folder / "result.json").read_text())["curve"]]


def test_it_learns_and_writes_its_results(whole):
    folder, printed = whole
    result = json.loads((folder / "result.json").read_text())
    assert "ppo" in printed
    assert result["episodes"] == 2
    delays = curve(folder)
    assert len(delays) == 3  # before each episode, and at the end
    assert delays[-1] < delays[0]
    assert result["delay_s"]["ppo"]["value"] == delays[-1]
    assert result["ppo_over"]["local-only"]["high"] < 1.0
    assert (folder / "curve.png").stat().st_size > 0
    assert set(json.loads((folder / "policy.json").read_text())["features"]) == {"bs", "mu"}


def test_what_it_wrote_plays_elsewhere_as_it_was_measured(whole, program):
    folder, _ = whole
    learned = program.Learned(program.load(folder, "paper-v0"))
    played = dtmarl.evaluate(learned, "paper-v0", seeds=range(2)).mean("system_delay_s")
    # Many rows at once and one by one go through matrix products of different sizes.
    assert played == pytest.approx(curve(folder)[-1], rel=1e-4)
    hotspot = program.load(folder, "hotspot-v0")  # other numbers of stations and users
    env = dtmarl.vector_env("hotspot-v0", num_envs=2)
    observations, _ = env.reset(seed=0)
    weights = program.Learned(hotspot).act_batch(observations)
    assert {kind: w.shape for kind, w in weights.items()} == env.action_shapes
    assert all(np.isfinite(w).all() and w.max() == 1.0 for w in weights.values())


def test_a_killed_run_continues_to_the_same_policy(whole, program, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint.safetensors"
    process = subprocess.Popen(
        command(*TINY, "--out", tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60.0
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert checkpoint.exists()
    capsys.readouterr()
    assert program.main([*TINY, "--seed=1", "--out", str(tmp_path), "--resume"]) == 1
    assert "--resume: expected" in capsys.readouterr().err
    assert program.main([*TINY, "--out", str(tmp_path), "--resume"]) == 0
    name = "policy.safetensors"
    assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()
    assert curve(tmp_path) == curve(whole[0])


@pytest.mark.parametrize(
    "wrong",
    [
        "--num-envs=0",
        "--episodes=0",
        "--seed=-1",
        "--gamma=1",
        "--seeds=5:5",
        "--minutes=x",
    ],
)
def test_wrong_arguments_are_refused(wrong, program, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        program.main([wrong, "--out", str(tmp_path / "none")])
    assert refused.value.code == 2
    assert "error" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_nothing_to_resume_is_said(program, tmp_path, capsys):
    assert program.main([*TINY, "--out", str(tmp_path), "--resume"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
