"""The base network: trained once, kept in a folder, checked whenever it is loaded.

A base folder holds ``images.npz`` (the data set, split), ``base.safetensors`` (weights) and
``base.json`` (recipe, origin, recall, and the digests of the other two). `prepare` makes one; a
killed run goes on from its last epoch and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dtmarl.accuracy.base_training import BaseRecipe, train, write_whole
from dtmarl.accuracy.classifier import (
    CLASSES,
    build_network,
    confusion_matrix,
    predicted_classes,
)
from dtmarl.accuracy.images import (
    DIGITS,
    SPLIT_SEED,
    ImageSplits,
    load_images,
    read_images,
    save_images,
)
from dtmarl.accuracy.training import in_threads
from dtmarl.backend import Array

FOLDER_VARIABLE = "DTMARL_BASE_NETWORK"
"""Environment variable that names the base folder to use."""

TEST_PART = 1000
"""Images that a thread takes at a time where the base network is tested on all of them."""

DIGITS_RECIPE = BaseRecipe(epochs=3, batch=32, peak_learning_rate=0.02)


@dataclass(frozen=True)
class BaseNetwork:
    """What an engine needs: base weights, and the images users draw from and are tested on."""

    weights: dict[str, Any]
    images: ImageSplits
    report: dict[str, Any]

    @cached_property
    def known_mask(self) -> Array:
        """Test images [n] whose class the base network names correctly, bool."""
        network = build_network()
        network.load_state_dict(self.weights)
        network.to(choose_device())
        parts = torch.from_numpy(self.images.test_images).split(TEST_PART)
        tasks = [partial(predicted_classes, network, part) for part in parts]
        predicted = in_threads(tasks, 1 if torch.cuda.is_available() else torch.get_num_threads())
        return np.asarray(torch.cat(predicted).numpy() == self.images.test_labels)


def default_folder() -> Path:
    """The base folder that ``DTMARL_BASE_NETWORK`` names, else one in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dtmarl" / "base-network"


def choose_device() -> Any:
    """CUDA if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(
    data: str | Path,
    folder: Path | None = None,
    recipe: BaseRecipe | None = None,
    *,
    checkpoint_folder: Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the base network on a data set and write a base folder; returns ``base.json``.

    Args:
        data: ``"digits"`` or a folder, as for `dtmarl.accuracy.images.read_images`.
        folder: what to write; by default `default_folder`.
        recipe: by default `BaseRecipe()`, or `DIGITS_RECIPE` for the digits.
        checkpoint_folder: where the last epoch's state is kept, by default `folder`.
        report: told about progress, a line at a time.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: an image, or a file of an earlier run, is damaged or of another recipe.
        FloatingPointError: training diverges.
    """
    folder = folder or default_folder()
    recipe = recipe or (DIGITS_RECIPE if data == DIGITS else BaseRecipe())
    checkpoint_folder = checkpoint_folder or folder
    for needed in (folder, checkpoint_folder):
        needed.mkdir(parents=True, exist_ok=True)
    images = read_images(data)
    write_whole(folder / "images.npz", lambda path: save_images(path, images))
    network, seconds = train(
        images, recipe, checkpoint_folder / "base-checkpoint.safetensors", choose_device(), report
    )
    confusion = confusion_matrix(
        network, torch.from_numpy(images.test_images), torch.from_numpy(images.test_labels)
    )
    recall = (confusion.diagonal() / confusion.sum(1)).tolist()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    weights_path = folder / "base.safetensors"
    write_whole(weights_path, lambda path: save_file(weights, path))
    description = {
        "recall": [round(value, 4) for value in recall],
        "accuracy": round(sum(recall) / len(recall), 4),
        "confusion": confusion.tolist(),
        "classes": list(CLASSES) if data != DIGITS else [str(k) for k in range(len(CLASSES))],
        "recipe": asdict(recipe),
        "training_seconds": round(seconds, 1),
        "weights_sha256": hashlib.sha256(weights_path.read_bytes()).hexdigest(),
        "arrays_sha256": images.sha256,
        "split_seed": SPLIT_SEED,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "device": str(choose_device()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    text = json.dumps(description, indent=1) + "\n"
    write_whole(folder / "base.json", lambda path: path.write_text(text))
    return description


def load_base(folder: Path | None = None) -> BaseNetwork:
    """Read a base folder and check it against its digests.

    Args:
        folder: by default `default_folder`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is corrupt, truncated or not the one that was written.
    """
    folder = folder or default_folder()
    for name in ("base.json", "base.safetensors", "images.npz"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: make the base network with train/train_base.py "
                "or dtmarl.accuracy.base_network.prepare('digits'), or name its folder in "
                f"{FOLDER_VARIABLE}"
            )
    described = folder / "base.json"
    try:
        report: dict[str, Any] = json.loads(described.read_text(encoding="utf-8"))
        expected = {name: str(report[name]) for name in ("weights_sha256", "arrays_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{described}: corrupt description ({error!r}); remake it") from error
    weights_path = folder / "base.safetensors"
    _check_digest(
        weights_path,
        hashlib.sha256(weights_path.read_bytes()).hexdigest(),
        expected["weights_sha256"],
    )
    images = load_images(folder / "images.npz")
    _check_digest(folder / "images.npz", images.sha256, expected["arrays_sha256"])
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise ValueError(f"{weights_path}: not a safetensors file ({error})") from error
    # What trained the base network is not needed any more, and is most of the memory.
    empty = images.base_images[:0], images.base_labels[:0]
    images = replace(images, base_images=empty[0], base_labels=empty[1])
    return BaseNetwork(weights, images, report)


def _check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path}: corrupt or truncated: expected SHA-256 {expected[:16]}…, got {found[:16]}…"
        )
