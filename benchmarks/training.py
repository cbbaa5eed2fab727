"""Images per second of the real engine's training, beside bare loops in the same run.

One thread: `retrain`, which shuffles, augments and converts uint8 images, against a bare PyTorch
loop over batches that are ready in memory. All threads, several users due at once: one network a
thread (what the engine does), one after the other on all threads, and all stacked into one with
``torch.vmap``. Ways take turns, so that a slow moment of the machine hits all of them; figures are
medians. With ``--base`` also a 100-slot episode of 8 users, and what of it is not training.

    python benchmarks/training.py [--turns 3] [--threads 2] [--base FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

import dtmarl
from dtmarl.accuracy.base_network import choose_device
from dtmarl.accuracy.classifier import CLASSES, build_network, to_input
from dtmarl.accuracy.resnet18 import ResNet18Engine
from dtmarl.accuracy.training import UpdateRecipe, in_threads, retrain

RECIPE = UpdateRecipe()
BATCHES = 4
"""Batches of one update: a frame's 256 images, about what a user of paper-v0 is retrained on."""


class Case:
    """Random images and networks: what they show does not matter to the speed."""

    def __init__(self, users: int, device: Any) -> None:
        shape = (BATCHES * RECIPE.batch, 32, 32, 3)
        self.device = device
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.randint(0, len(CLASSES), shape[:1])
        self.twin_mask = torch.arange(shape[0]) % 2 == 0
        base = build_network().to(device)
        self.networks = [copy.deepcopy(base) for _ in range(users)]
        self.ready = [
            (to_input(part, device), labels.to(device))
            for part, labels in zip(
                self.images.split(RECIPE.batch), self.labels.split(RECIPE.batch), strict=True
            )
        ]


def bare(case: Case, network: Any) -> None:
    network.eval()
    optimizer = torch.optim.SGD(network.parameters(), lr=RECIPE.learning_rate)
    for images, labels in case.ready:
        with torch.autocast(case.device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def engine_loop(case: Case, network: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    retrain(network, case.images, case.labels, case.twin_mask, generator, RECIPE)


def one_by_one(case: Case) -> None:
    for network in case.networks:
        engine_loop(case, network)


def one_a_thread(case: Case, threads: int) -> None:
    in_threads([partial(engine_loop, case, network) for network in case.networks], threads)


def stacked_player(case: Case) -> Callable[[], None]:
    """Every user's step in one call; weights are rounded to bfloat16 by hand, as autocast does."""
    networks = [copy.deepcopy(network).eval() for network in case.networks]
    skeleton = networks[0]
    stacked, buffers = stack_module_state(networks)
    weights = {name: tensor.detach() for name, tensor in stacked.items()}
    users = len(networks)

    def half(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            name: tensor.bfloat16() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }

    def loss(own: Any, statistics_: Any, images: Any, labels: Any) -> Any:
        logits = functional_call(skeleton, (half(own), half(statistics_)), (images.bfloat16(),))
        return nn.functional.cross_entropy(logits.float(), labels)

    gradients = vmap(grad(loss))

    def play() -> None:
        nonlocal weights
        for images, labels in case.ready:
            step = gradients(
                weights, buffers, torch.stack([images] * users), torch.stack([labels] * users)
            )
            weights = {
                name: tensor - RECIPE.learning_rate * step[name] for name, tensor in weights.items()
            }

    return play


def in_turns(ways: dict[str, tuple[int, Callable[[], None]]], turns: int) -> dict[str, list[float]]:
    """Images per second of each way in each turn; a first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, (images, play) in ways.items():
            started = time.perf_counter()
            play()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                rates[name].append(images / (time.perf_counter() - started))
    return rates


def show(title: str, rates: dict[str, list[float]], reference: str) -> None:
    print(f"{title:<58} {'median':>7} {'min':>7} {'max':>7} {'ratio':>6}")
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[reference], strict=True))
        print(
            f"{name:<58} {statistics.median(values):>7.0f} {min(values):>7.0f} "
            f"{max(values):>7.0f} {ratio:>6.2f}"
        )
    print()


def episode(base: Path, threads: int) -> dict[str, float]:
    """Seconds of a paper-v0 episode with 8 users; training and testing summed over threads."""
    engine = ResNet18Engine.load(base, threads=threads)
    config = dtmarl.scenario("paper-v0").replace(min_users=8, max_users=8)
    env = dtmarl.parallel_env(config, accuracy=engine)
    policy = dtmarl.policies.policy("root-balanced")
    policy.reset(config, 0)
    started = time.perf_counter()
    observations, _ = env.reset(seed=0)
    updating = 0.0
    update = engine.update

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal updating
        begun = time.perf_counter()
        result = update(*args, **kwargs)
        updating += time.perf_counter() - begun
        return result

    engine.update = timed  # type: ignore[method-assign]
    while env.agents:
        observations, *_ = env.step(policy.act(observations))
    seconds = {"episode": time.perf_counter() - started, "updates": updating, **engine.seconds}
    work = seconds["training"] + seconds["testing"]
    training = updating * seconds["training"] / work if work else 0.0
    seconds["share_not_training"] = 1.0 - training / seconds["episode"]
    seconds["share_not_training_nor_testing"] = 1.0 - updating / seconds["episode"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--users", type=int, default=4, help="due at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--base", type=Path, help="base folder: also time an episode")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = choose_device()
    case = Case(options.users, device)
    images = len(case.labels)
    torch.set_num_threads(1)
    single = in_turns(
        {
            "bare PyTorch loop, batches ready in memory": (
                images,
                lambda: bare(case, case.networks[0]),
            ),
            "the engine's loop": (images, lambda: engine_loop(case, case.networks[0])),
        },
        options.turns,
    )
    show("images/s, one thread, one user", single, "bare PyTorch loop, batches ready in memory")
    torch.set_num_threads(options.threads)
    several = in_turns(
        {
            "one a thread (the engine)": (
                options.users * images,
                lambda: one_a_thread(case, options.threads),
            ),
            "one after the other, all threads": (options.users * images, lambda: one_by_one(case)),
            "stacked with vmap, all threads": (options.users * images, stacked_player(case)),
        },
        options.turns,
    )
    title = f"images/s, {options.threads} threads, {options.users} users"
    show(title, several, "one a thread (the engine)")
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device}",
        "torch": torch.__version__,
        "one_thread": single,
        "several_users": several,
    }
    if options.base is not None:
        result["episode"] = episode(options.base, options.threads)
        for name, value in result["episode"].items():
            print(f"paper-v0, 8 users, 100 slots: {name:<32} {value:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
