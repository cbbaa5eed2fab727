"""The physics gives the same numbers on torch as on NumPy, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dtmarl import units
from dtmarl.config import ComputeConfig, LearningConfig, MobilityConfig, RadioConfig, TrafficConfig
from dtmarl.physics import compute, context, learning, link, mobility
from dtmarl.physics.channel import CHANNELS, process
from dtmarl.twin import generator, store

torch = pytest.importorskip("torch")

E, M, N, K, S, B = 3, 4, 5, 6, 7, 2
COMPUTE, RADIO, AREA = ComputeConfig(), RadioConfig(), MobilityConfig()
LEARNING = LearningConfig(num_classes=K, context_switch_probability=0.5)

Case = tuple[Callable[..., Any], tuple[Any, ...]]


def cases() -> dict[str, Case]:
    rng = np.random.default_rng(11)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Any:
        return rng.uniform(low, high, shape)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape)

    mask = rng.random((E, M, N)) < 0.6
    cell = rng.integers(0, 16, (S, E, N))
    mix = rng.dirichlet(np.ones(K), size=(E, N))
    library = rng.dirichlet(np.ones(K), size=9)
    task = uniform(E, N, low=1e7, high=2e7)
    position = uniform(S, E, N, 2, high=200.0)
    distance = uniform(S, E, M, N, high=400.0)
    sight = rng.random((S, E, M, N)) < 0.5
    found: dict[str, Case] = {
        "db_to_linear": (units.db_to_linear, (uniform(E, low=-120, high=20),)),
        "linear_to_db": (units.linear_to_db, (uniform(E, low=1e-12, high=1),)),
        "free_flop_per_s": (lambda x: compute.free_flop_per_s(x, COMPUTE), (normal(E, M),)),
        "offloaded_bytes": (compute.offloaded_bytes, (task, uniform(E, N, 1 + M), mask)),
        "allocation_flop_per_s": (
            compute.allocation_flop_per_s,
            (uniform(E, M, high=5e10), uniform(E, M, N), mask),
        ),
        "local_delay_s": (lambda q: compute.local_delay_s(q, COMPUTE), (task,)),
        "site_delay_s": (
            lambda q, a: compute.site_delay_s(q, a, 24e3),
            (uniform(E, M, N, high=2e7) * mask, uniform(E, M, N, low=1e8, high=5e10) * mask),
        ),
        "retraining_delay_s": (compute.retraining_delay_s, (uniform(E, M, N), uniform(E, N))),
        "context_path": (
            lambda *a: context.context_path(*a, LEARNING),
            (
                rng.integers(0, 12, (E, N)),
                cell[0],
                cell,
                rng.integers(0, 12, (E, 16)),
                uniform(S, E, N),
                uniform(S, E, N),
            ),
        ),
        "task_bytes": (lambda u: context.task_bytes(u, TrafficConfig()), (uniform(E, N),)),
        "expected_accuracy": (learning.expected_accuracy, (uniform(E, N, K), mix)),
        "measured_accuracy": (
            learning.measured_accuracy,
            (uniform(E, N), uniform(E, N, high=200.0), normal(E, N)),
        ),
        "uploaded_class_counts": (
            learning.uploaded_class_counts,
            (uniform(E, N, high=200.0), mix, normal(E, N, K)),
        ),
        "capped_samples": (
            lambda a, b: learning.capped_samples(a, b, 50),
            (uniform(E, N, K, high=30), uniform(E, N, K, high=30)),
        ),
        "snr": (lambda g: link.snr(g, RADIO), (uniform(E, M, N, high=1e-8),)),
        "rate_bytes_per_s": (
            lambda g: link.rate_bytes_per_s(g, RADIO),
            (10.0 ** uniform(E, M, N, low=-16, high=-5),),
        ),
        "usable_rate_bytes_per_s": (
            lambda g: link.usable_rate_bytes_per_s(g, RADIO),
            (10.0 ** uniform(E, M, N, low=-16, high=-5),),
        ),
        "transmission_delay_s": (
            link.transmission_delay_s,
            (uniform(E, M, N, high=2e7), uniform(E, M, N), uniform(E, M, N, low=1, high=1e7), mask),
        ),
        "distance_m": (mobility.distance_m, (position, uniform(E, M, 2, high=200.0))),
        "cell_index": (lambda p: mobility.cell_index(p, AREA, 4), (position,)),
        "velocity_path": (
            lambda *a: mobility.velocity_path(*a, AREA),
            (normal(E, N, 2), normal(E, N, 2), uniform(E, N, high=15), normal(S, E, N, 2)),
        ),
        "position_path": (
            lambda *a: mobility.position_path(*a, AREA),
            (uniform(E, N, 2, high=200.0), normal(S, E, N, 2)),
        ),
        "fold": (mobility.fold, (uniform(E, N, 2, low=-900, high=900), np.array([200.0, 300.0]))),
        "line_of_sight_latent": (
            lambda *a: process.line_of_sight_latent(*a, 50.0),
            (uniform(E, M, N), uniform(S, E, N, high=90), uniform(S, E, M, N), uniform(S, E, M, N)),
        ),
        "autoregress": (
            process.autoregress,
            (normal(E, M, N), uniform(S, E, M, N, low=-1), normal(S, E, M, N)),
        ),
        "fading_power": (
            process.fading_power,
            (normal(E, M, N, B, 2), uniform(E, M, N, high=10)),
        ),
        "fading_path": (
            lambda *a: process.fading_path(*a)[0],
            (
                normal(E, M, N, B, 2),
                uniform(E, N, low=-1),
                normal(S, E, M, N, B, 2),
                uniform(S, E, M, N, high=10),
            ),
        ),
        "add_images": (
            lambda c, u: store.add_images(c, u, 100.0),
            (uniform(E, N, K, high=30), uniform(E, N, K, high=10)),
        ),
        "class_mix": (store.class_mix, (uniform(E, N, K, high=30),)),
        "generated_mix": (generator.generated_mix, (mix, library)),
        "generated_samples": (
            lambda p, u: generator.generated_samples(p, u, 0.3),
            (mix, uniform(E, N, high=99)),
        ),
    }
    for name, model in CHANNELS.items():
        found[f"{name} probability"] = (model.line_of_sight_probability, (distance,))
        found[f"{name} path loss"] = (
            lambda d, s, model=model: model.path_loss_db(d, s, RADIO),
            (distance, sight),
        )
        found[f"{name} gain"] = (
            lambda *a, model=model: process.gain(model, *a, RADIO),
            (distance, sight, normal(S, E, M, N), uniform(S, E, M, N, high=3)),
        )
    return found


CASES = cases()


@pytest.mark.parametrize("name", list(CASES))
def test_torch_agrees_with_numpy(name: str) -> None:
    function, arguments = CASES[name]
    tensors = tuple(torch.from_numpy(np.asarray(a)) for a in arguments)
    copies = tuple(a.copy() for a in arguments)
    expected, actual = function(*arguments), function(*tensors)
    if not isinstance(expected, tuple):
        expected, actual = (expected,), (actual,)
    for want, got in zip(expected, actual, strict=True):
        assert isinstance(want, np.ndarray)
        assert isinstance(got, torch.Tensor)
        assert got.numpy().dtype == want.dtype
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    for before, after in zip(copies, arguments, strict=True):
        np.testing.assert_array_equal(after, before)  # pure: nothing was written


def test_every_array_function_of_the_physics_has_a_case() -> None:
    """A new physics function has to be tried on torch as well."""
    on_numbers_or_once = {"site_positions_m", "context_library", "fading_memory", "update_plan"}
    selections = {"by_line_of_sight", "gain"}  # tried within each channel
    public = {
        name
        for module in (compute, context, learning, link, mobility, process, store, generator)
        for name, member in vars(module).items()
        if callable(member)
        and getattr(member, "__module__", "") == module.__name__
        and not isinstance(member, type)
        and not name.startswith("_")
    }
    assert public - on_numbers_or_once - selections <= set(CASES)
