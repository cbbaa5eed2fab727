"""The real engine on scikit-learn's digits: training, determinism, and damaged files."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

import dtmarl
from dtmarl.accuracy.base_network import default_folder, load_base, prepare
from dtmarl.accuracy.classifier import build_network
from dtmarl.accuracy.profile import ProfileEngine
from dtmarl.accuracy.resnet18 import ResNet18Engine
from dtmarl.accuracy.training import RECIPES, in_threads

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"test_per_class": 10, "store_initial_per_class": 3}
E, N, K = 1, 3, 10


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base folder made in one go."""
    path = tmp_path_factory.mktemp("base")
    prepare("digits", path, report=lambda line: None)
    return path


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture
def engine(base):
    return ResNet18Engine(base, threads=1, **OPTIONS)


@pytest.fixture(scope="module")
def case():
    """Counts and noise: user 0 trains on class 0, user 1 on nothing, user 2 on all."""
    rng = np.random.default_rng(3)
    real, twin = np.zeros((E, N, K)), np.zeros((E, N, K))
    real[0, 0, 0] = 40.0
    real[0, 1, 2] = twin[0, 1, 3] = 0.2
    real[0, 2], twin[0, 2] = 3.3, 2.4
    return real, twin, rng.standard_normal((2, E, N, K))


def test_a_new_model_is_the_base_network(engine, case):
    recall = engine.initial_recall(case[2][0])
    assert recall.shape == (E, N, K)
    assert recall.dtype == np.float64
    assert (recall == np.array(engine.base_recall)).all()
    assert np.mean(engine.base_recall) > 0.6


def test_untrained_users_keep_their_recall_and_trained_ones_move(engine, case):
    real, twin, noise = case
    before = engine.initial_recall(noise[0])
    after = engine.update(before, real, twin, noise[1])
    assert (after[0, 1] == before[0, 1]).all()
    assert (after[0, 0] != before[0, 0]).any()
    assert ((after >= 0) & (after <= 1)).all()


def test_result_depends_on_a_users_own_noise_and_images_alone(base, engine, case):
    real, twin, noise = case
    after = engine.update(engine.initial_recall(noise[0]), real, twin, noise[1])

    threaded = ResNet18Engine(base, threads=3, **OPTIONS)
    again = threaded.update(threaded.initial_recall(noise[0]), real, twin, noise[1])
    assert (again == after).all()

    alone = ResNet18Engine(base, threads=1, **OPTIONS)
    start = alone.initial_recall(noise[0][:, 2:])
    only = alone.update(start, real[:, 2:], twin[:, 2:], noise[1][:, 2:])
    assert (only[0, 0] == after[0, 2]).all()

    other = ResNet18Engine(base, threads=1, **OPTIONS)
    changed = other.update(other.initial_recall(noise[0]), real, twin, noise[1] + 1.0)
    assert (changed != after).any()


def test_copies_and_pickles_go_on_alike(engine, case):
    real, twin, noise = case
    real, twin = real[:, 2:], twin[:, 2:]
    noise = noise[:, :, 2:]
    recall = engine.update(engine.initial_recall(noise[0]), real, twin, noise[1])
    copies = [copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))]
    expected = engine.update(recall, real, twin, noise[0])
    for one in copies:
        assert (one.update(recall, real, twin, noise[0]) == expected).all()


def test_learning_raises_recall_on_the_trained_class(base, case):
    engine = ResNet18Engine(base, threads=1, test_per_class=40)
    weakest = int(np.argmin(engine.base_recall))
    noise = case[2][:, :, :1]
    real = np.zeros((1, 1, K))
    real[0, 0, weakest] = 120.0
    recall = engine.initial_recall(noise[0])
    after = engine.update(recall, real, 0 * real, noise[1])
    assert after[0, 0, weakest] > recall[0, 0, weakest]
    # One class alone pulls every image towards it: the others cannot gain on the whole.
    others = np.arange(K) != weakest
    assert after[0, 0, others].mean() < recall[0, 0, others].mean()


def test_full_retraining_forgets_what_came_before(base, case):
    real, _, noise = case
    recipes = {**RECIPES, "full": RECIPES["incremental"]}
    real, noise = real[:, :1], noise[:, :, :1]
    none = 0 * real
    fresh = ResNet18Engine(base, threads=1, recipes=recipes, **OPTIONS)
    expected = fresh.update(fresh.initial_recall(noise[0]), real, none, noise[1], mode="full")
    moved = ResNet18Engine(base, threads=1, recipes=recipes, **OPTIONS)
    spread = none + 6.0
    recall = moved.update(moved.initial_recall(noise[0]), spread, none, noise[0])
    assert (moved.update(recall, real, none, noise[1], mode="full") == expected).all()


def test_another_generator_makes_the_twins_images(base, case):
    real, twin, noise = (part[..., 2:, :] for part in case)
    asked = []

    class Grey:
        def generate(self, images, labels, counts, rng):
            asked.append((len(images), labels.tolist(), counts.tolist()))
            classes = np.repeat(np.arange(len(counts)), counts)
            return np.full((len(classes), *images.shape[1:]), 128, np.uint8), classes

    engines = [ResNet18Engine(base, threads=1, generator=g, **OPTIONS) for g in (Grey(), None)]
    after = [e.update(e.initial_recall(noise[0]), real, twin, noise[1]) for e in engines]
    assert (after[0] != after[1]).any()
    [(stored, labels, counts)] = asked
    assert stored == len(labels) == 30 + round(real.sum())  # what it began with, and the upload
    assert sum(counts) == round(twin.sum())


def test_torch_arrays_give_the_same_numbers(base, case):
    real, twin, noise = (part[..., 2:, :] for part in case)
    plain = ResNet18Engine(base, threads=1, **OPTIONS)
    expected = plain.update(plain.initial_recall(noise[0]), real, twin, noise[1])
    engine = ResNet18Engine(base, threads=1, **OPTIONS)
    real, twin, noise = (torch.from_numpy(part) for part in (real, twin, noise))
    after = engine.update(engine.initial_recall(noise[0]), real, twin, noise[1])
    assert isinstance(after, torch.Tensor)
    assert (after.numpy() == expected).all()


def test_wrong_use_is_refused(base, engine, case):
    real, twin, noise = case
    with pytest.raises(ValueError, match="starts with initial_recall"):
        engine.update(noise[0], real, twin, noise[1])
    recall = engine.initial_recall(noise[0])
    with pytest.raises(ValueError, match="recall: expected what this engine returned last"):
        engine.update(recall + 0.01, real, twin, noise[1])
    with pytest.raises(ValueError, match=r"mode: expected one of .*'full'.*got 'partial'"):
        engine.update(recall, real, twin, noise[1], mode="partial")
    with pytest.raises(ValueError, match="at least 41 images"):
        ResNet18Engine(base, test_per_class=41)
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        ResNet18Engine(base, threads=0)
    with pytest.raises(ValueError, match="store_initial_per_class: expected 0 to 50, got 51"):
        ResNet18Engine(base, test_per_class=10, store_initial_per_class=51)


def test_threads_report_in_order_and_leave_torch_as_it_was():
    seen = in_threads([lambda i=i: (i, torch.get_num_threads()) for i in range(5)], 2)
    assert seen == [(i, 1) for i in range(5)]
    assert torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError):
        in_threads([lambda: 1 / 0], 2)


def damaged(folder, tmp_path, name, change):
    copied = tmp_path / "base"
    shutil.copytree(folder, copied)
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(change(content))
    return copied


@pytest.mark.parametrize("name", ["base.safetensors", "images.npz", "base.json"])
@pytest.mark.parametrize("how", ["truncated", "one bit", "missing"])
def test_damaged_base_files_are_named(folder, tmp_path, name, how):
    def change(content):
        if how == "truncated":
            return content[: len(content) // 2]
        middle = content.index(b"weights_sha256") if name == "base.json" else len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]

    copied = damaged(folder, tmp_path, name, change)
    if how == "missing":
        (copied / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing.*DTMARL_BASE_NETWORK"):
            load_base(copied)
    else:
        with pytest.raises(ValueError, match=f"{name}: corrupt"):
            load_base(copied)


def test_weights_of_another_network_are_refused(folder, tmp_path):
    copied = damaged(folder, tmp_path, "base.json", lambda text: text)
    report = json.loads((copied / "base.json").read_text())
    report["weights_sha256"] = "0" * 64
    (copied / "base.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"base\.safetensors: corrupt.*expected SHA-256 0000"):
        load_base(copied)


def test_base_folder_comes_from_the_environment(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("DTMARL_BASE_NETWORK", str(folder))
    assert default_folder() == folder
    monkeypatch.delenv("DTMARL_BASE_NETWORK")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "dtmarl" / "base-network"


def test_killed_training_ends_with_the_same_weights(folder, tmp_path):
    code = "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
    code += "from dtmarl.accuracy.base_network import prepare\n"
    code += "prepare('digits', Path(sys.argv[1]), report=lambda line: print(line, flush=True))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("base-checkpoint*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "base.json").exists()

    lines: list[str] = []
    report = prepare("digits", tmp_path, report=lines.append)
    assert lines[0].startswith("continuing after epoch ")
    expected = json.loads((folder / "base.json").read_text())
    for entry in ("weights_sha256", "arrays_sha256", "recall", "confusion"):
        assert report[entry] == expected[entry]

    checkpoint = tmp_path / "base-checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"base-checkpoint\.safetensors: corrupt checkpoint"):
        prepare("digits", tmp_path, report=lines.append)


def forward_flop(network, size):
    images = torch.zeros(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        out = network(images)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    assert out.shape == (1, network.fc.out_features)
    return forward, counter.get_total_flops()


def test_delay_is_charged_the_work_that_training_takes():
    config = dtmarl.scenario("paper-v0")
    with torch.device("meta"):
        large, small = resnet18(), build_network()
    forward, _ = forward_flop(large, 224)
    charged = config.compute.work_flop_per_byte * 224 * 224 * 3
    assert charged == pytest.approx(forward, rel=0.01)
    forward, training = forward_flop(small, 32)
    assert training / forward == pytest.approx(config.learning.pass_work, rel=0.02)
    assert RECIPES["incremental"].passes == 1
    assert RECIPES["full"].passes == config.learning.full_passes


def test_engine_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.setenv("DTMARL_BASE_NETWORK", str(folder))
    env = dtmarl.parallel_env("paper-v0", accuracy="resnet18")
    env.reset(seed=0)
    measured = env.unwrapped.snapshot.recall * 40  # the digits have 40 test images of each class
    np.testing.assert_allclose(measured, np.round(measured), atol=1e-4)
    config = dtmarl.scenario("paper-v0").replace(learning={"engine": "resnet18"})
    other = dtmarl.parallel_env(config)
    other.reset(seed=0)
    assert (other.unwrapped.snapshot.recall == env.unwrapped.snapshot.recall).all()


def test_core_package_imports_without_torch():
    code = "import sys, dtmarl; dtmarl.parallel_env('paper-v0'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_profile_engine_answers_the_same_calls(case):
    """Both engines stand behind one protocol: what one accepts, the other does."""
    real, twin, noise = case
    engine = ProfileEngine.load()
    after = engine.update(engine.initial_recall(noise[0]), real, twin, noise[1], mode="full")
    assert after.shape == (E, N, K)
