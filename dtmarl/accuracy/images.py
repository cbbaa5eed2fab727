"""Images that the real classifiers learn from: reading, splitting and keeping them.

Table I's sizes: of CIFAR-10's 50,000 training images 40,000 train the base network, the rest is
the pool that users' images come from (an engine draws from 5,000 of it), and 10,000 are for tests.
Everything is held in memory as uint8 arrays.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torchvision

from dtmarl.accuracy.classifier import CLASSES
from dtmarl.backend import Array

DIGITS = "digits"
"""Name of scikit-learn's bundled handwritten digits, which need no files."""

SPLIT_SEED = 20241127
CIFAR_POOL_PER_CLASS = 1000
DIGITS_POOL_PER_CLASS = 50
DIGITS_TEST_PER_CLASS = 40
DIGITS_SCALE = 4


@dataclass(frozen=True)
class ImageSplits:
    """Images [n, H, H, 3] uint8 and class indices [n] int64 of the three splits."""

    base_images: Array
    base_labels: Array
    pool_images: Array
    pool_labels: Array
    test_images: Array
    test_labels: Array

    @property
    def sha256(self) -> str:
        """Digest over images and labels, whatever file they came from."""
        digest = hashlib.sha256()
        for name in sorted(field.name for field in fields(self)):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()


def read_images(data: str | Path) -> ImageSplits:
    """Read and split a data set.

    Args:
        data: ``"digits"``; or a folder with ``train/<class>/*`` and ``test/<class>/*`` images of
            CIFAR-10's classes; or the root that ``torchvision.datasets.CIFAR10`` uses.

    Raises:
        FileNotFoundError: the folder has neither layout.
        ValueError: a file is not an image of the expected size, or a class is missing.
    """
    if data == DIGITS:
        return _read_digits()
    root = Path(data)
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, test = (_read_folder(root / half) for half in ("train", "test"))
    elif (root / "cifar-10-batches-py").is_dir():
        train, test = (_read_cifar(root, is_train) for is_train in (True, False))
    else:
        raise FileNotFoundError(
            f"{root}: expected {DIGITS!r}, or a folder with train/ and test/ and in them a folder "
            "per class, or one with cifar-10-batches-py/"
        )
    in_pool = _chosen_per_class(train[1], CIFAR_POOL_PER_CLASS, str(root))
    return ImageSplits(
        train[0][~in_pool], train[1][~in_pool], train[0][in_pool], train[1][in_pool], *test
    )


def load_images(path: Path) -> ImageSplits:
    """The images that `save_images` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is corrupt or truncated.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return ImageSplits(**{field.name: stored[field.name] for field in fields(ImageSplits)})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: corrupt image file ({error}); delete and remake it") from error


def save_images(path: Path, images: ImageSplits) -> None:
    """Write images as an ``.npz`` file."""
    with path.open("wb") as file:
        np.savez(file, **{field.name: getattr(images, field.name) for field in fields(images)})


def representative_subset(labels: Array, known_mask: Array, per_class: int, seed: int) -> Array:
    """Indices [K · per_class] of as many images of each class, as hard to tell as all of them.

    Of each class as large a share is known as among all its images, so that a small sample is not
    easier or harder than the whole by chance.

    Args:
        labels: [n] int64 class of each image.
        known_mask: [n] bool, True where a reference network names the class correctly.
        per_class: images of each class.
        seed: of the choice.

    Raises:
        ValueError: a class has fewer.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for k in range(len(CLASSES)):
        members = np.flatnonzero(labels == k)
        if len(members) < per_class:
            raise ValueError(
                f"expected at least {per_class} images of class {k}, got {len(members)}"
            )
        known = known_mask[members]
        num_known = round(per_class * float(known.mean()))
        for part, count in ((members[known], num_known), (members[~known], per_class - num_known)):
            chosen.append(rng.choice(part, count, replace=False))
    return np.concatenate(chosen)


def _read_digits() -> ImageSplits:
    """The 1,797 digits, 8×8 grey, as 32×32 RGB."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    bundle = load_digits()
    side = np.ones((DIGITS_SCALE, DIGITS_SCALE))
    grey = np.round(np.kron(bundle.images / 16.0, side) * 255.0).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    labels = bundle.target.astype(np.int64)
    in_test = _chosen_per_class(labels, DIGITS_TEST_PER_CLASS, DIGITS)
    test = images[in_test], labels[in_test]
    images, labels = images[~in_test], labels[~in_test]
    in_pool = _chosen_per_class(labels, DIGITS_POOL_PER_CLASS, DIGITS)
    return ImageSplits(images[~in_pool], labels[~in_pool], images[in_pool], labels[in_pool], *test)


def _read_cifar(root: Path, train: bool) -> tuple[Array, Array]:
    try:
        dataset = torchvision.datasets.CIFAR10(str(root), train=train)
    except RuntimeError as error:  # torchvision checks the files' digests
        raise ValueError(f"{root / 'cifar-10-batches-py'}: {error}") from error
    return dataset.data, np.asarray(dataset.targets, np.int64)


def _read_folder(root: Path) -> tuple[Array, Array]:
    dataset = torchvision.datasets.ImageFolder(str(root))
    if tuple(dataset.classes) != CLASSES:
        raise ValueError(f"{root}: expected the class folders {CLASSES}, got {dataset.classes}")
    images = np.empty((len(dataset), 32, 32, 3), np.uint8)
    labels = np.empty(len(dataset), np.int64)
    for i, (path, label) in enumerate(dataset.samples):
        try:
            image = np.asarray(dataset.loader(path))
        except OSError as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
        if image.shape != (32, 32, 3):
            raise ValueError(f"{path}: expected a 32x32 RGB image, got shape {image.shape}")
        images[i], labels[i] = image, label
    return images, labels


def _chosen_per_class(labels: Array, per_class: int, source: str) -> Array:
    """Mask of `per_class` images of each class, always the same for the same labels."""
    rng = np.random.default_rng(SPLIT_SEED)
    mask = np.zeros(len(labels), bool)
    for k in range(len(CLASSES)):
        members = np.flatnonzero(labels == k)
        if len(members) <= per_class:
            raise ValueError(
                f"{source}: expected over {per_class} images of class {k}, got {len(members)}"
            )
        mask[rng.choice(members, per_class, replace=False)] = True
    return mask
