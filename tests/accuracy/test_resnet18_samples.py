"""Images and samples behind the real engine: data sets, splits, counts, store and generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtmarl.accuracy import images as images_module
from dtmarl.accuracy.classifier import CLASSES
from dtmarl.accuracy.images import load_images, read_images, representative_subset, save_images
from dtmarl.accuracy.samples import Resampling, add_to_store, draw_per_class, whole_counts


@pytest.fixture(scope="module")
def digits():
    return read_images("digits")


@pytest.fixture
def folder(tmp_path):
    """A CIFAR-like folder: three training images and one test image of each class."""
    rng = np.random.default_rng(0)
    for half, number in (("train", 3), ("test", 1)):
        for k, name in enumerate(CLASSES):
            (tmp_path / half / name).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                pixels[0, 0] = (k, i, number)
                Image.fromarray(pixels).save(tmp_path / half / name / f"{i}.png")
    return tmp_path


def test_digits_are_split_into_balanced_disjoint_parts(digits):
    assert len(digits.base_labels) + len(digits.pool_labels) + len(digits.test_labels) == 1797
    assert np.bincount(digits.pool_labels).tolist() == [50] * 10
    assert np.bincount(digits.test_labels).tolist() == [40] * 10
    seen = {image.tobytes() for image in digits.base_images}
    unseen = [image.tobytes() for image in (*digits.pool_images, *digits.test_images)]
    assert sum(image in seen for image in unseen) <= 0.01 * len(unseen)  # a few digits are twins
    assert digits.test_images.dtype == np.uint8
    assert digits.test_images.shape[1:] == (32, 32, 3)
    assert digits.test_images.max() == 255


def test_image_folder_keeps_every_image_with_its_class(folder, monkeypatch):
    monkeypatch.setattr(images_module, "CIFAR_POOL_PER_CLASS", 1)
    splits = read_images(folder)
    assert np.bincount(splits.base_labels).tolist() == [2] * 10
    assert np.bincount(splits.pool_labels).tolist() == [1] * 10
    for part in ("base", "pool", "test"):
        images, labels = (getattr(splits, f"{part}_{what}") for what in ("images", "labels"))
        assert (images[:, 0, 0, 0] == labels).all()
        assert (images[:, 0, 0, 2] == (1 if part == "test" else 3)).all()
    both = [*splits.base_images, *splits.pool_images]
    assert len({image.tobytes() for image in both}) == 30


def test_damaged_image_is_named(folder, monkeypatch):
    monkeypatch.setattr(images_module, "CIFAR_POOL_PER_CLASS", 1)
    damaged = folder / "train" / "cat" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cat.1\.png"):
        read_images(folder)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(damaged)
    with pytest.raises(ValueError, match=r"cat.1\.png.*32x32.*8, 8"):
        read_images(folder)


def test_cifar_root_is_read_through_torchvision(tmp_path, monkeypatch):
    class Stored:
        def __init__(self, root, train):
            assert root == str(tmp_path)
            per_class = 5 if train else 2
            self.targets = np.tile(np.arange(10), per_class).tolist()
            self.data = np.arange(10 * per_class, dtype=np.uint8)[:, None, None, None]
            self.data = self.data + np.zeros((1, 32, 32, 3), np.uint8)

    monkeypatch.setattr(images_module.torchvision.datasets, "CIFAR10", Stored)
    monkeypatch.setattr(images_module, "CIFAR_POOL_PER_CLASS", 1)
    (tmp_path / "cifar-10-batches-py").mkdir()
    splits = read_images(tmp_path)
    assert [len(splits.base_labels), len(splits.pool_labels), len(splits.test_labels)] == [
        40, 10, 20,
    ]  # fmt: skip
    for part in ("base", "pool", "test"):
        images, labels = (getattr(splits, f"{part}_{what}") for what in ("images", "labels"))
        assert (images[:, 0, 0, 0] % 10 == labels).all()


def test_damaged_cifar_files_are_named(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"no batch")
    with pytest.raises(ValueError, match=r"cifar-10-batches-py: "):
        read_images(tmp_path)


def test_missing_data_say_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected 'digits', or a folder with train/"):
        read_images(tmp_path)


def test_image_file_survives_a_round_trip_and_damage_is_named(digits, tmp_path):
    path = tmp_path / "images.npz"
    save_images(path, digits)
    assert load_images(path).sha256 == digits.sha256
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"images\.npz: corrupt"):
        load_images(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"images\.npz: corrupt"):
        load_images(path)


@settings(derandomize=True, max_examples=60)
@given(st.lists(st.floats(0.0, 300.0), min_size=1, max_size=12))
def test_whole_counts_round_each_class_and_keep_the_total(values):
    counts = np.array(values)
    whole = whole_counts(counts)
    assert whole.sum() == np.round(counts.sum())
    assert (np.abs(whole - counts) <= 1.0).all()
    assert (whole >= 0).all()


def test_draw_repeats_only_where_a_class_has_too_few():
    members = [np.arange(5), np.arange(5, 9)]
    drawn = draw_per_class(members, np.array([5, 7]), np.random.default_rng(0))
    assert sorted(drawn[:5]) == [0, 1, 2, 3, 4]
    assert len(drawn) == 12
    assert set(drawn[5:]) <= {5, 6, 7, 8}


def test_store_keeps_the_newest_and_its_capacity():
    rng = np.random.default_rng(0)
    store = add_to_store(np.arange(4), np.arange(10, 13), 10, rng)
    assert store.tolist() == [0, 1, 2, 3, 10, 11, 12]
    store = add_to_store(store, np.arange(20, 26), 10, rng)
    assert len(store) == 10
    assert store[-6:].tolist() == list(range(20, 26))
    assert set(store[:4]) < {0, 1, 2, 3, 10, 11, 12}
    assert add_to_store(store, np.arange(30, 50), 10, rng).tolist() == list(range(40, 50))


def test_store_evicts_every_class_alike():
    labels = np.repeat([0, 1], 3000)
    kept = add_to_store(np.arange(6000), np.arange(3000), 5000, np.random.default_rng(1))[:2000]
    assert abs(labels[kept].mean() - 0.5) < 0.05


def test_resampling_gives_the_wanted_classes_from_stored_images():
    labels = np.array([0, 0, 1, 3])
    stored = np.arange(4, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 2, 2, 3), np.uint8)
    made, classes = Resampling().generate(
        stored, labels, np.array([6, 2, 0, 1]), np.random.default_rng(0)
    )
    assert np.bincount(classes, minlength=4).tolist() == [6, 2, 0, 1]
    assert set(made[classes == 0].ravel()) == {0, 1}
    assert set(made[classes == 1].ravel()) == {2}


def test_resampling_hands_a_missing_class_to_the_others():
    labels = np.array([1, 3])
    stored = np.zeros((2, 2, 2, 3), np.uint8)
    wanted = np.array([8, 3, 0, 1])
    _, classes = Resampling().generate(stored, labels, wanted, np.random.default_rng(0))
    assert len(classes) == 12
    assert set(classes) == {1, 3}
    _, classes = Resampling().generate(
        stored, labels, np.array([8, 0, 0, 0]), np.random.default_rng(0)
    )
    assert set(classes) == {1, 3}
    made, classes = Resampling().generate(stored[:0], labels[:0], wanted, np.random.default_rng(0))
    assert len(made) == len(classes) == 0


def test_representative_subset_is_as_hard_as_the_whole(digits):
    labels = digits.test_labels
    known = np.random.default_rng(0).random(len(labels)) < np.linspace(0.2, 0.9, 10)[labels]
    chosen = representative_subset(labels, known, 10, seed=1)
    assert labels[chosen].tolist() == np.repeat(np.arange(10), 10).tolist()
    assert len(set(chosen)) == 100
    for k in range(10):
        share = known[labels == k].mean()
        assert abs(known[chosen][10 * k : 10 * k + 10].mean() - share) <= 0.05 + 1e-9
    everything = representative_subset(labels, known, 40, seed=1)
    assert sorted(everything) == list(range(len(labels)))
    assert (representative_subset(labels, known, 10, seed=2) != chosen).any()
    with pytest.raises(ValueError, match="at least 41 images of class 0, got 40"):
        representative_subset(labels, known, 41, seed=1)
